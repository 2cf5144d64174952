//! Huawei Push Kit for Android and HarmonyOS up to 4: the token endpoint, the send call in two versions, receipts.
//!
//! Contract: HMSCore "https-send-api", "receipts", "token-flow-control" and the vendor's demos on the wire. A request
//! passes, in this order: outage, bearer, app, flow control, fields, rules of its targets. `code` is a string, and counts
//! at every HTTP status. Not played: topics' subscriptions, limits of a device, and v3 (HarmonyOS 5).

mod account;
mod codes;
mod jwt;
mod oauth;
mod patterns;
mod receipts;
mod sample;
mod schema;
mod send;
mod tell;
mod validate;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::rejection::FormRejection;
use axum::extract::{DefaultBodyLimit, Form, Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};

use crate::minutes::Minutes;
use crate::state::{Sandbox, now_ms};
use crate::switches::{Quota, Switch};
use crate::twin::{Place, Registration, Twin, interrupt};
use account::Apps;

/// This provider's id.
const HUAWEI: &str = "huawei";
/// A thousand tokens and four kilobytes, with room for what is too much.
const MAX_BODY: usize = 4 << 20;

/// This twin's entry in the list.
pub(crate) const TWIN: Registration = Registration {
    id: HUAWEI,
    patterns: patterns::PATTERNS,
    codes: codes::ALL,
    help: &[
        ("GET", "/_sandbox/huawei/{app}/app", "an app that works here, with its service account; makes it"),
        (
            "PUT",
            "/_sandbox/huawei/{app}/app",
            "{app_secret, package, high_priority, receipts: [{receipt_id, url, version: v1|v2, user_name, secret, key_mode: base64|plain}]}",
        ),
        ("POST", "/_sandbox/huawei/{app}/withdraw_tokens", "every access token is bad from now on"),
        (
            "POST",
            "/_sandbox/huawei/{app}/probe",
            "the console's test of a receipt address, unsigned: {receipt_id}",
        ),
    ],
    headers: &["content-type", "user-agent", "accept"],
    raises_streams: false,
    switch: || Switch {
        // 6000 tokens a second is the floor (third party); here requests are counted.
        quota: Quota { account_per_minute: Some(360_000), target_per_minute: None },
        ..Switch::default()
    },
    open: |sandbox, dir| {
        Ok(Arc::new(Huawei {
            apps: Apps::open(dir)?,
            sandbox,
            mint: oauth::Mint::default(),
            minutes: Minutes::default(),
            pending: Mutex::default(),
        }))
    },
};

/// The twin.
pub(crate) struct Huawei {
    sandbox: Arc<Sandbox>,
    apps: Apps,
    mint: oauth::Mint,
    minutes: Minutes,
    /// News that go out with the next batch.
    pending: Mutex<Vec<tell::News>>,
}

impl Twin for Huawei {
    fn vendor_routes(self: Arc<Self>) -> Router {
        Router::new()
            .route("/oauth2/v3/token", post(token))
            .route("/v1/{app}/messages:send", post(send::v1))
            .route("/v2/{project}/messages:send", post(send::v2))
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(self)
    }

    fn control_routes(self: Arc<Self>) -> Router {
        Router::new()
            .route("/_sandbox/huawei/{app}/app", get(get_app).put(put_app))
            .route("/_sandbox/huawei/{app}/withdraw_tokens", post(withdraw_tokens))
            .route("/_sandbox/huawei/{app}/probe", post(probe))
            .with_state(self)
    }

    fn sample(&self, place: &Place) -> anyhow::Result<Value> {
        sample::sample(&self.apps, place)
    }

    /// In AppGallery Connect: the sample's default receipt configuration.
    fn enter_callback(&self, url: &str) -> anyhow::Result<()> {
        sample::enter_callback(&self.apps, url)
    }

    fn switched(&self) {
        self.minutes.begin_anew();
    }
}

/// Huawei's content type for JSON answers.
const JSON: &str = "application/json;charset=UTF-8";

fn raw(status: u16, content_type: &'static str, body: impl Into<Body>) -> Response {
    let response = Response::builder().status(status).header(CONTENT_TYPE, content_type);
    response.body(body.into()).expect("status and header are this module's constants")
}

/// Flow control and outage look the same: 503, and no word of when to come again.
fn unavailable() -> Response {
    raw(503, JSON, "")
}

/// `POST /oauth2/v3/token`
async fn token(
    State(twin): State<Arc<Huawei>>,
    form: Result<Form<HashMap<String, String>>, FormRejection>,
) -> Response {
    let call = |account: &str| twin.sandbox.ledger.call(HUAWEI, "token", account);
    if let Some(interruption) = twin.sandbox.before(HUAWEI).await {
        return interrupt(interruption, call(""), unavailable).await;
    }
    let form = form.map(|Form(form)| form).unwrap_or_default();
    let switch = twin.sandbox.switches.of(HUAWEI);
    let (answer, app) = oauth::answer(&twin.apps, &twin.mint, &form, &switch, now_ms());
    call(&app).finish(answer.verdict, answer.status);
    raw(answer.status, JSON, answer.body)
}

fn refused(text: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({"error": text}))).into_response()
}

async fn get_app(state: State<Arc<Huawei>>, path: Path<String>, headers: HeaderMap, uri: Uri) -> Response {
    put_app(state, path, headers, uri, Bytes::from_static(b"{}")).await
}

async fn put_app(
    State(twin): State<Arc<Huawei>>,
    Path(app): Path<String>,
    headers: HeaderMap,
    uri: Uri,
    body: Bytes,
) -> Response {
    if !account::is_app_id(&app) {
        return refused("an app id has 1 to 20 digits");
    }
    let change: account::Change = match serde_json::from_slice(&body) {
        Ok(change) => change,
        Err(error) => return refused(&format!("reading the app: {error}")),
    };
    if let Some(problem) = change.problem() {
        return refused(&problem);
    }
    let base_url = Place::of(&headers, &uri).base_url;
    // Making a key takes a tenth of a second: not on a thread that serves others.
    let made = tokio::task::spawn_blocking(move || twin.apps.change(&app, change)).await;
    match made.map_err(anyhow::Error::from).and_then(|made| made) {
        Ok(app) => Json(app.view(&base_url)).into_response(),
        Err(error) => crate::control::failed(&error),
    }
}

async fn withdraw_tokens(State(twin): State<Arc<Huawei>>, Path(app): Path<String>) -> Response {
    let Some(app) = twin.apps.get(&app) else {
        return (StatusCode::NOT_FOUND, Json(json!({"error": "no such app"}))).into_response();
    };
    let done = tokio::task::spawn_blocking(move || twin.apps.withdraw_tokens(&app)).await;
    match done.map_err(anyhow::Error::from).and_then(|done| done) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => crate::control::failed(&error),
    }
}

async fn probe(State(twin): State<Arc<Huawei>>, Path(app): Path<String>, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let receipt_id = body["receipt_id"].as_str().unwrap_or_default();
    match twin.apps.get(&app).and_then(|app| app.configuration(receipt_id).cloned()) {
        Some(configuration) => {
            twin.probe(&configuration).await;
            StatusCode::NO_CONTENT.into_response()
        }
        None => {
            (StatusCode::NOT_FOUND, Json(json!({"error": "no such receipt configuration"}))).into_response()
        }
    }
}
