//! Whole requests and answers, kept while it is on: fixtures are made of them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::control::problem;
use crate::state::Sandbox;
use crate::twin::Registration;

/// Requests that a recording keeps; the oldest go first.
const MAX_RECORDED: usize = 1000;
/// A body that is recorded has at most so many bytes.
const MAX_RECORDED_BYTES: usize = 1 << 20;

/// Whole requests and answers, kept while it is on.
#[derive(Default)]
pub(crate) struct Recording {
    on: AtomicBool,
    kept: Mutex<VecDeque<Value>>,
}

impl Recording {
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    pub(crate) fn keep(&self, what: Value) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(what);
        if kept.len() > MAX_RECORDED {
            kept.pop_front();
        }
    }
}

/// `GET /_sandbox/recording`
pub(crate) async fn recording(State(sandbox): State<Arc<Sandbox>>) -> Json<Value> {
    let kept = sandbox.recording.kept.lock().unwrap_or_else(PoisonError::into_inner);
    Json(json!({"on": sandbox.recording.is_on(), "requests": &*kept}))
}

#[derive(Deserialize)]
struct RecordingChange {
    on: bool,
}

/// Turning it on, or on again, begins an empty recording.
pub(crate) async fn put_recording(State(sandbox): State<Arc<Sandbox>>, body: Bytes) -> Response {
    let change: RecordingChange = match serde_json::from_slice(&body) {
        Ok(change) => change,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("reading the switch: {error}")),
    };
    sandbox.recording.on.store(change.on, Ordering::Relaxed);
    if change.on {
        sandbox.recording.kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
    StatusCode::NO_CONTENT.into_response()
}

/// Keeps a vendor's requests with their answers while the recording is on.
pub(crate) async fn record(
    State((sandbox, twin)): State<(Arc<Sandbox>, &'static Registration)>,
    request: Request,
    next: Next,
) -> Response {
    if !sandbox.recording.is_on() {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, MAX_RECORDED_BYTES).await else {
        return problem(StatusCode::PAYLOAD_TOO_LARGE, "too big to be recorded");
    };
    let mut kept = json!({
        "provider": twin.id,
        "method": parts.method.as_str(),
        "path": parts.uri.path(),
        "headers": recorded_headers(&parts.headers, twin.headers),
        "body": String::from_utf8_lossy(&body),
    });
    if let Some(query) = parts.uri.query() {
        kept["query"] = query.into();
    }
    if let Some(jwt) = jwt(&parts.headers) {
        kept["jwt"] = jwt;
    }
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, MAX_RECORDED_BYTES).await.unwrap_or_default();
    kept["status"] = parts.status.as_u16().into();
    kept["answer_headers"] = recorded_headers(&parts.headers, twin.headers);
    kept["answer"] = String::from_utf8_lossy(&body).into();
    sandbox.recording.keep(kept);
    Response::from_parts(parts, Body::from(body))
}

/// The headers that are part of a contract, with credentials left out.
fn recorded_headers(headers: &HeaderMap, contract: &[&str]) -> Value {
    let is_kept = |name: &str| {
        matches!(name, "content-type" | "user-agent" | "accept" | "retry-after")
            || contract
                .iter()
                .any(|known| known.strip_suffix('*').map_or(*known == name, |p| name.starts_with(p)))
    };
    let mut kept = Map::new();
    for (name, value) in headers {
        if *name == AUTHORIZATION {
            let value = value.to_str().unwrap_or_default();
            // `Bearer …`, `key=…`; without either all of it is secret.
            let scheme = &value[..value.find([' ', '=']).map_or(0, |at| at + 1)];
            kept.insert(name.to_string(), format!("{scheme}<access token>").into());
        } else if is_kept(name.as_str()) {
            kept.insert(name.to_string(), value.to_str().unwrap_or_default().into());
        }
    }
    Value::Object(kept)
}

/// Header and claims of a JWT that a request bears, without the signature that makes it one.
fn jwt(headers: &HeaderMap) -> Option<Value> {
    let (_, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let mut parts = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let mut part = || serde_json::from_slice::<Value>(&parts.next()??).ok();
    Some(json!({"header": part()?, "claims": part()?}))
}
