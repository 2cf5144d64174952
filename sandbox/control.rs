//! The control API under `/_sandbox`: rules, switches, ledger, recording, phones, help.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, AUTHORIZATION,
    ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ledger::Filter;
use crate::phones::{PhoneChange, PhoneError};
use crate::rules::{BEHAVIOURS, Rule};
use crate::state::Sandbox;
use crate::switches::Switch;

/// Requests that a recording keeps; the oldest go first.
const MAX_RECORDED: usize = 1000;
/// A body that is recorded has at most so many bytes.
const MAX_RECORDED_BYTES: usize = 1 << 20;

/// All paths: vendors and control.
pub(crate) fn router(sandbox: Arc<Sandbox>) -> Router {
    let control = Router::new()
        .route("/_sandbox", get(help))
        .route("/_sandbox/rules", get(rules).put(put_rules))
        .route("/_sandbox/providers", get(providers))
        .route("/_sandbox/providers/{provider}", get(provider).put(put_provider))
        .route("/_sandbox/requests", get(requests).delete(clear_requests))
        .route("/_sandbox/summary", get(summary))
        .route("/_sandbox/samples", get(crate::samples::samples))
        .route("/_sandbox/recording", get(recording).put(put_recording))
        .route("/_sandbox/phones", get(phones))
        .route("/_sandbox/phones/{id}", get(phone).put(put_phone).delete(delete_phone))
        .route("/_sandbox/phones/{id}/tap", post(tap))
        .merge(crate::fcm::control_router())
        .layer(from_fn(cors));
    let vendors = crate::fcm::vendor_router().layer(from_fn_with_state(sandbox.clone(), record));
    control.merge(vendors).with_state(sandbox)
}

/// The answer to a request that the sandbox itself could not carry out.
pub(crate) fn failed(error: &anyhow::Error) -> Response {
    tracing::error!(%error, "the sandbox could not carry out a control request");
    problem(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error:#}"))
}

fn problem(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({"error": text}))).into_response()
}

fn done(result: anyhow::Result<()>) -> Response {
    match result {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => failed(&error),
    }
}

/// Lets pages of this machine call the control API, and refuses pages of any other origin.
async fn cors(request: Request, next: Next) -> Response {
    let Some(origin) = request.headers().get(ORIGIN).cloned() else { return next.run(request).await };
    if !origin.to_str().is_ok_and(is_loopback_origin) {
        return problem(StatusCode::FORBIDDEN, "only pages of this machine may use the control API");
    }
    let mut response = if request.method() == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(VARY, HeaderValue::from_static("Origin"));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, PUT, POST, DELETE"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Content-Type"));
    response
}

fn is_loopback_origin(origin: &str) -> bool {
    ["http://127.0.0.1", "http://localhost"].iter().any(|host| {
        origin.strip_prefix(host).is_some_and(|rest| {
            let port = rest.strip_prefix(':');
            rest.is_empty() || port.is_some_and(|port| port.parse::<u16>().is_ok())
        })
    })
}

#[derive(Deserialize)]
struct HelpQuery {
    format: Option<String>,
}

async fn help(Query(query): Query<HelpQuery>, headers: HeaderMap) -> Response {
    let wants_json = headers
        .get(http::header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("application/json"));
    if wants_json || query.format.as_deref() == Some("json") {
        let behaviours: Vec<_> = BEHAVIOURS
            .iter()
            .map(|(behaviour, prefix, help)| json!({"behaviour": behaviour, "prefix": prefix, "help": help}))
            .collect();
        return Json(json!({"providers": ["fcm"], "behaviours": behaviours})).into_response();
    }
    let mut text = String::from(HELP);
    for (_, prefix, help) in BEHAVIOURS {
        let _ = writeln!(text, "  {prefix:<18}{help}");
    }
    text.into_response()
}

const HELP: &str = "\
The vendors and the phones, played on this machine. Played now: fcm.

  GET    /_sandbox/fcm/{project}/service_account   a service account that works here
  POST   /_sandbox/fcm/{project}/withdraw_tokens   every access token is bad from now on
  GET    /_sandbox/rules                           PUT a list of {provider, pattern, behaviour, delay_ms?, times?, retry_after_seconds?}
  GET    /_sandbox/providers                       PUT /_sandbox/providers/{provider}
                                                   {latency_ms, outage: none|http_503|refuse|hang, credentials: ok|refused,
                                                    access_token_seconds, quota: {account_per_minute, target_per_minute}}
  GET    /_sandbox/requests?after=&limit=&token=&message=   DELETE forgets all
  GET    /_sandbox/summary?message=
  GET    /_sandbox/samples                         per vendor: a channel's configuration that works here, and phones
  GET    /_sandbox/recording                       PUT {\"on\": true}
  GET    /_sandbox/phones                          GET, PUT, DELETE /_sandbox/phones/{id}
  POST   /_sandbox/phones/{id}/tap                 {\"message_id\": \"...\"}

Tokens that begin so behave so, unless a rule says otherwise:
";

async fn rules(State(sandbox): State<Arc<Sandbox>>) -> Json<Value> {
    let defaults: Vec<_> = BEHAVIOURS
        .iter()
        .map(|(behaviour, prefix, _)| json!({"provider": "*", "pattern": prefix, "behaviour": behaviour}))
        .collect();
    Json(json!({"rules": sandbox.rules.set_rules(), "defaults": defaults}))
}

async fn put_rules(State(sandbox): State<Arc<Sandbox>>, body: Bytes) -> Response {
    let rules: Vec<Rule> = match serde_json::from_slice(&body) {
        Ok(rules) => rules,
        Err(error) => {
            return problem(StatusCode::BAD_REQUEST, &format!("reading the list of rules: {error}"));
        }
    };
    // New rules begin a new run: what was tried under the old ones does not count.
    sandbox.rules.forget_tries();
    done(sandbox.rules.replace(rules))
}

async fn providers(State(sandbox): State<Arc<Sandbox>>) -> Response {
    let mut all = sandbox.switches.all();
    all.entry("fcm".to_owned()).or_default();
    Json(all).into_response()
}

async fn provider(State(sandbox): State<Arc<Sandbox>>, Path(provider): Path<String>) -> Response {
    Json(sandbox.switches.of(&provider)).into_response()
}

async fn put_provider(
    State(sandbox): State<Arc<Sandbox>>,
    Path(provider): Path<String>,
    body: Bytes,
) -> Response {
    match serde_json::from_slice::<Switch>(&body) {
        Ok(switch) => {
            sandbox.fcm.switched();
            done(sandbox.switches.set(&provider, switch))
        }
        Err(error) => problem(StatusCode::BAD_REQUEST, &format!("reading the switches: {error}")),
    }
}

#[derive(Deserialize)]
struct RequestsQuery {
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
    token: Option<String>,
    message: Option<String>,
}

async fn requests(State(sandbox): State<Arc<Sandbox>>, Query(query): Query<RequestsQuery>) -> Json<Value> {
    let RequestsQuery { after, limit, token, message } = query;
    let limit = limit.unwrap_or(100).min(10_000);
    let entries = sandbox.ledger.list(&Filter { after, limit, token, message });
    let next = entries.last().map_or(after, |entry| entry.seq);
    Json(json!({"requests": entries, "next_after": next}))
}

async fn clear_requests(State(sandbox): State<Arc<Sandbox>>) -> Response {
    done(sandbox.ledger.clear())
}

#[derive(Deserialize)]
struct SummaryQuery {
    message: Option<String>,
}

async fn summary(State(sandbox): State<Arc<Sandbox>>, Query(query): Query<SummaryQuery>) -> Response {
    match query.message {
        Some(message) => Json(sandbox.ledger.sums_of(&message)).into_response(),
        None => Json(sandbox.ledger.summary()).into_response(),
    }
}

async fn phones(State(sandbox): State<Arc<Sandbox>>) -> Response {
    Json(json!({"phones": sandbox.phones.list()})).into_response()
}

async fn phone(State(sandbox): State<Arc<Sandbox>>, Path(id): Path<String>) -> Response {
    answer_phone(sandbox.phones.get(&id).ok_or(PhoneError::Unknown))
}

async fn put_phone(State(sandbox): State<Arc<Sandbox>>, Path(id): Path<String>, body: Bytes) -> Response {
    let change: PhoneChange = match serde_json::from_slice(&body) {
        Ok(change) => change,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("reading the phone: {error}")),
    };
    answer_phone(sandbox.phones.put(&id, change))
}

async fn delete_phone(State(sandbox): State<Arc<Sandbox>>, Path(id): Path<String>) -> Response {
    if sandbox.phones.remove(&id) {
        return StatusCode::NO_CONTENT.into_response();
    }
    answer_phone::<()>(Err(PhoneError::Unknown))
}

#[derive(Deserialize)]
struct Tap {
    message_id: String,
}

async fn tap(State(sandbox): State<Arc<Sandbox>>, Path(id): Path<String>, body: Bytes) -> Response {
    let tap: Tap = match serde_json::from_slice(&body) {
        Ok(tap) => tap,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("reading the tap: {error}")),
    };
    answer_phone(sandbox.phones.tap(&id, &tap.message_id).await)
}

fn answer_phone<T: Serialize>(result: Result<T, PhoneError>) -> Response {
    let status = match &result {
        Ok(value) => return Json(value).into_response(),
        Err(PhoneError::Unknown | PhoneError::NotShown) => StatusCode::NOT_FOUND,
        Err(PhoneError::Invalid(_)) => StatusCode::BAD_REQUEST,
        Err(PhoneError::Gateway(_)) => StatusCode::BAD_GATEWAY,
    };
    problem(status, &result.err().map(|error| error.to_string()).unwrap_or_default())
}

/// Whole requests and answers, kept while it is on.
#[derive(Default)]
pub struct Recording {
    on: AtomicBool,
    kept: Mutex<VecDeque<Value>>,
}

async fn recording(State(sandbox): State<Arc<Sandbox>>) -> Json<Value> {
    let kept = sandbox.recording.kept.lock().unwrap_or_else(PoisonError::into_inner);
    Json(json!({"on": sandbox.recording.on.load(Ordering::Relaxed), "requests": &*kept}))
}

#[derive(Deserialize)]
struct RecordingChange {
    on: bool,
}

/// Turning it on, or on again, begins an empty recording.
async fn put_recording(State(sandbox): State<Arc<Sandbox>>, body: Bytes) -> Response {
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

/// Keeps vendor requests with their answers while the recording is on.
async fn record(State(sandbox): State<Arc<Sandbox>>, request: Request, next: Next) -> Response {
    if !sandbox.recording.on.load(Ordering::Relaxed) {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, MAX_RECORDED_BYTES).await else {
        return problem(StatusCode::PAYLOAD_TOO_LARGE, "too big to be recorded");
    };
    let mut kept = json!({
        "method": parts.method.as_str(),
        "path": parts.uri.path(),
        "headers": recorded_headers(&parts.headers),
        "body": String::from_utf8_lossy(&body),
    });
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, MAX_RECORDED_BYTES).await.unwrap_or_default();
    kept["status"] = parts.status.as_u16().into();
    kept["answer"] = String::from_utf8_lossy(&body).into();
    let mut recorded = sandbox.recording.kept.lock().unwrap_or_else(PoisonError::into_inner);
    recorded.push_back(kept);
    if recorded.len() > MAX_RECORDED {
        recorded.pop_front();
    }
    drop(recorded);
    Response::from_parts(parts, Body::from(body))
}

/// The headers that are part of a contract, with the access token left out.
fn recorded_headers(headers: &HeaderMap) -> Value {
    let allowed = |name: &str| {
        matches!(name, "content-type" | "access_token_auth" | "user-agent" | "accept")
            || name.starts_with("x-goog-")
            || name.starts_with("x-firebase-")
    };
    let mut kept = serde_json::Map::new();
    for (name, value) in headers {
        if *name == AUTHORIZATION {
            let scheme = value.to_str().unwrap_or_default().split(' ').next().unwrap_or_default();
            kept.insert(name.to_string(), format!("{scheme} <access token>").into());
        } else if allowed(name.as_str()) {
            kept.insert(name.to_string(), value.to_str().unwrap_or_default().into());
        }
    }
    Value::Object(kept)
}
