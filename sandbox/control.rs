//! The control API under `/_sandbox`: rules, switches, ledger, phones. Help, samples and recording stand beside it.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRef, Path, Query, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_TYPE,
    ORIGIN, VARY,
};
use http::{HeaderValue, Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::connection::Connection;
use crate::ledger::Filter;
use crate::phones::{PhoneChange, PhoneError};
use crate::recording::{put_recording, record, recording};
use crate::rules::Rule;
use crate::state::Sandbox;
use crate::switches::Switch;
use crate::twin::{Registration, Twin};

/// A twin that runs, with its entry in the list.
pub(crate) type Played = (&'static Registration, Arc<dyn Twin>);

/// What the control API works on.
#[derive(Clone)]
pub(crate) struct Control {
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) twins: Arc<[Played]>,
}

impl FromRef<Control> for Arc<Sandbox> {
    fn from_ref(control: &Control) -> Self {
        control.sandbox.clone()
    }
}

/// All paths: vendors and control.
pub(crate) fn router(control: &Control) -> Router {
    let mut own = Router::new()
        .route("/_sandbox", get(crate::help::help))
        .route("/_sandbox/rules", get(rules).put(put_rules))
        .route("/_sandbox/providers", get(providers))
        .route("/_sandbox/providers/{provider}", get(provider).put(put_provider))
        .route("/_sandbox/providers/{provider}/callback", put(put_callback))
        .route("/_sandbox/requests", get(requests).delete(clear_requests))
        .route("/_sandbox/summary", get(summary))
        .route("/_sandbox/samples", get(crate::samples::samples))
        .route("/_sandbox/tokens/{provider}", get(crate::samples::tokens))
        .route("/_sandbox/ca.pem", get(ca_pem))
        .route("/_sandbox/recording", get(recording).put(put_recording))
        .route("/_sandbox/phones", get(phones))
        .route("/_sandbox/phones/{id}", get(phone).put(put_phone).delete(delete_phone))
        .route("/_sandbox/phones/{id}/tap", post(tap))
        .with_state(control.clone());
    let mut vendors = Router::new();
    for (registration, twin) in control.twins.iter() {
        own = own.merge(twin.clone().control_routes());
        let recorded = from_fn_with_state((control.sandbox.clone(), *registration), record);
        let mut routes = twin.clone().vendor_routes().layer(recorded);
        if !registration.raises_streams {
            routes = routes.layer(from_fn(raise_streams));
        }
        vendors = vendors.merge(routes);
    }
    own.layer(from_fn(cors)).layer(from_fn(raise_streams)).merge(vendors)
}

/// Gives a connection the full limit of streams.
async fn raise_streams(request: Request, next: Next) -> Response {
    if let Some(connection) = request.extensions().get::<Arc<Connection>>() {
        connection.frames.raise();
    }
    next.run(request).await
}

/// The answer to a request that the sandbox itself could not carry out.
pub(crate) fn failed(error: &anyhow::Error) -> Response {
    tracing::error!(%error, "the sandbox could not carry out a control request");
    problem(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error:#}"))
}

/// A refusal by the control API.
pub(crate) fn problem(status: StatusCode, text: &str) -> Response {
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

async fn rules(State(sandbox): State<Arc<Sandbox>>) -> Json<Value> {
    let of = |twin: &'static Registration| {
        twin.patterns.iter().map(|row| {
            let mut rule = json!({"provider": twin.id, "pattern": row.tokens, "behaviour": row.behaviour});
            if let Some(code) = row.code {
                rule["code"] = code.into();
            }
            rule
        })
    };
    let defaults: Vec<_> = crate::registrations().iter().copied().flat_map(of).collect();
    Json(json!({"rules": sandbox.rules.set_rules(), "defaults": defaults}))
}

async fn put_rules(State(sandbox): State<Arc<Sandbox>>, body: Bytes) -> Response {
    let rules: Vec<Rule> = match serde_json::from_slice(&body) {
        Ok(rules) => rules,
        Err(error) => {
            return problem(StatusCode::BAD_REQUEST, &format!("reading the list of rules: {error}"));
        }
    };
    if let Some(why) = rules.iter().find_map(unknown_code) {
        return problem(StatusCode::BAD_REQUEST, &why);
    }
    // New rules begin a new run: what was tried under the old ones does not count.
    sandbox.rules.forget_tries();
    done(sandbox.rules.replace(rules))
}

/// A code that the rule's vendor does not have; a twin without a list of codes takes any.
fn unknown_code(rule: &Rule) -> Option<String> {
    let code = rule.code.as_deref()?;
    let codes = crate::find(&rule.provider)?.codes;
    let known = codes.is_empty() || codes.iter().any(|(known, _)| *known == code);
    (!known).then(|| format!("{} has no code {code}; GET /_sandbox lists them", rule.provider))
}

async fn ca_pem(State(sandbox): State<Arc<Sandbox>>) -> Response {
    match &sandbox.ca_pem {
        Some(pem) => ([(CONTENT_TYPE, "application/x-pem-file")], pem.clone()).into_response(),
        None => problem(StatusCode::NOT_FOUND, "the certificate was given from outside"),
    }
}

async fn providers(State(sandbox): State<Arc<Sandbox>>) -> Response {
    let mut all = sandbox.switches.all();
    for twin in crate::registrations() {
        all.entry(twin.id.to_owned()).or_insert_with(twin.switch);
    }
    Json(all).into_response()
}

async fn provider(State(sandbox): State<Arc<Sandbox>>, Path(provider): Path<String>) -> Response {
    Json(sandbox.switches.of(&provider)).into_response()
}

async fn put_provider(State(control): State<Control>, Path(provider): Path<String>, body: Bytes) -> Response {
    match Switch::read(&provider, &body) {
        Ok(switch) => {
            for (_, twin) in control.twins.iter().filter(|(registration, _)| registration.id == provider) {
                twin.switched();
            }
            done(control.sandbox.switches.set(&provider, switch))
        }
        Err(error) => problem(StatusCode::BAD_REQUEST, &format!("reading the switches: {error}")),
    }
}

#[derive(Deserialize)]
struct Callback {
    url: String,
}

async fn put_callback(State(control): State<Control>, Path(provider): Path<String>, body: Bytes) -> Response {
    let callback: Callback = match serde_json::from_slice(&body) {
        Ok(callback) => callback,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("reading the callback: {error}")),
    };
    match control.twins.iter().find(|(registration, _)| registration.id == provider) {
        Some((_, twin)) => done(twin.enter_callback(&callback.url)),
        None => problem(StatusCode::NOT_FOUND, &format!("{provider} is not played here")),
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
