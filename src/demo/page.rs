//! `/demo`: one static page on the public API, and the few calls that move the played world.
//!
//! Served in demo mode on a loopback address only, to requests that name a loopback host: the page is handed a key,
//! and a name of somebody else's that resolves to this machine must not read it.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::world::{Change, Mode, World};

/// No inline script, no other origin, no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Name, media type, content.
const FILES: [(&str, &str, &str); 9] = [
    ("", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("demo.css", "text/css; charset=utf-8", include_str!("page/demo.css")),
    ("icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ("demo.js", SCRIPT, include_str!("page/demo.js")),
    ("api.js", SCRIPT, include_str!("page/api.js")),
    ("handset.js", SCRIPT, include_str!("page/handset.js")),
    ("counts.js", SCRIPT, include_str!("page/counts.js")),
    ("story.js", SCRIPT, include_str!("page/story.js")),
    ("vendors.js", SCRIPT, include_str!("page/vendors.js")),
];
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The page and its levers.
pub(super) fn router(world: Arc<World>) -> Router {
    Router::new()
        .route("/demo", get(|| async { file("") }))
        .route("/demo/{file}", get(|Path(name): Path<String>| async move { file(&name) }))
        .route("/demo/config.json", get(config))
        .route("/demo/world.json", get(view))
        .route("/demo/vendors/{provider}", put(vendor))
        .route("/demo/phones/{id}", put(phone))
        .route("/demo/phones/{id}/tap", post(tap))
        .with_state(world)
        .layer(from_fn(guard))
}

/// Only for this machine's own names, and with the policy on every answer.
async fn guard(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or(request.uri().authority().map(axum::http::uri::Authority::as_str)).unwrap_or_default();
    if !is_loopback(host) {
        return refuse(StatusCode::FORBIDDEN, "open the page by 127.0.0.1 or localhost");
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    matches!(name.map_or(host, |(name, _)| name), "localhost" | "127.0.0.1" | "[::1]")
}

fn file(name: &str) -> Response {
    match FILES.iter().find(|(known, ..)| *known == name) {
        Some((_, kind, content)) => ([(header::CONTENT_TYPE, *kind)], *content).into_response(),
        None => refuse(StatusCode::NOT_FOUND, "the demo page has no such file"),
    }
}

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({"title": "the demo could not do it", "detail": why}))).into_response()
}

fn answer(done: anyhow::Result<Value>) -> Response {
    match done {
        Ok(value) => Json(value).into_response(),
        Err(error) => refuse(StatusCode::SERVICE_UNAVAILABLE, &format!("{error:#}")),
    }
}

async fn config(State(world): State<Arc<World>>) -> Response {
    answer(world.config())
}

async fn view(State(world): State<Arc<World>>) -> Response {
    answer(world.view().await)
}

#[derive(Deserialize)]
struct VendorLever {
    mode: Mode,
}

async fn vendor(
    State(world): State<Arc<World>>,
    Path(provider): Path<String>,
    Json(lever): Json<VendorLever>,
) -> Response {
    answer(world.set_vendor(&provider, lever.mode).await.map(|()| Value::Null))
}

async fn phone(
    State(world): State<Arc<World>>,
    Path(id): Path<String>,
    Json(change): Json<Change>,
) -> Response {
    answer(world.set_phone(&id, change).await.map(|()| Value::Null))
}

#[derive(Deserialize)]
struct Tap {
    message_id: String,
}

async fn tap(State(world): State<Arc<World>>, Path(id): Path<String>, Json(tap): Json<Tap>) -> Response {
    answer(world.tap(&id, &tap.message_id).await.map(|()| Value::Null))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_let_in() {
        for host in ["localhost", "localhost:8420", "127.0.0.1:1", "[::1]:80", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["", "rebound.example:8420", "127.0.0.1.example", "localhost.example:80"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn the_page_needs_nothing_that_its_policy_refuses() {
        let html = FILES[0].2;
        for refused in ["<style", "style=", "onclick=", "javascript:", "http://", "https://"] {
            assert!(!html.contains(refused), "{refused}");
        }
        assert_eq!(html.matches("<script").count(), html.matches("<script type=\"module\" src=").count());
    }

    #[test]
    fn every_file_that_the_page_names_is_served() {
        for (name, _, content) in FILES {
            for part in content.split('"').filter(|part| part.starts_with("./") || part.starts_with("/demo/"))
            {
                let wanted = part.trim_start_matches("./").trim_start_matches("/demo/");
                let served = FILES.iter().any(|(file, ..)| *file == wanted)
                    || ["config.json", "world.json"].contains(&wanted);
                assert!(served, "{name} names {part}");
            }
        }
    }
}
