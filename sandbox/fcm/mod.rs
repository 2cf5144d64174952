//! Firebase Cloud Messaging, HTTP v1: the send call and the token endpoint.
//!
//! Contract: FCM v1 discovery rev 20261023, firebase-admin-python 7.7.0 and google-auth 2.62.2 on the wire. A request
//! passes, in this order: outage, access token, project, quota, reading, target, validation, the token's rule. Played
//! are neither topic subscriptions nor the dead endpoints (`/batch`, `/fcm/send`).

mod account;
mod condition;
mod errors;
mod oauth;
mod quota;
mod sample;
mod schema;
mod validate;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::FormRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Map, Value, json};

use crate::ledger::{ACCEPTED, Call, SEND};
use crate::phones::Push;
use crate::rules::{Behaviour, Decision};
use crate::state::{Interruption, Sandbox, abort, hex, now_ms, random_bytes};
use crate::switches::Credentials;
use account::{Bearer, Projects};
use errors::Answer;
pub(crate) use sample::sample;
use validate::Target;

/// This provider's id.
const FCM: &str = "fcm";
/// FCM keeps a push four weeks when its sender names no time.
const DEFAULT_TTL_MS: u64 = 2_419_200_000;

/// The twin's own state: projects and their minutes.
pub struct Fcm {
    projects: Projects,
    minutes: quota::Minutes,
}

impl Fcm {
    pub(crate) fn open(dir: Option<PathBuf>) -> anyhow::Result<Self> {
        Ok(Self { projects: Projects::open(dir)?, minutes: quota::Minutes::default() })
    }

    /// A switch was set: what was sent before it does not count against a new quota.
    pub(crate) fn switched(&self) {
        self.minutes.begin_anew();
    }
}

/// The vendor's own paths.
pub(crate) fn vendor_router() -> Router<Arc<Sandbox>> {
    Router::new().route("/token", post(token)).route("/v1/projects/{project}/messages:send", post(send))
}

/// The control API's paths for this vendor.
pub(crate) fn control_router() -> Router<Arc<Sandbox>> {
    Router::new()
        .route("/_sandbox/fcm/{project}/service_account", get(service_account))
        .route("/_sandbox/fcm/{project}/withdraw_tokens", post(withdraw_tokens))
}

async fn service_account(
    State(sandbox): State<Arc<Sandbox>>,
    Path(project): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    if !account::is_project_id(&project) {
        let text = "a project id has 1 to 63 lower-case letters, digits and hyphens";
        return (StatusCode::BAD_REQUEST, Json(json!({"error": text}))).into_response();
    }
    let base_url = format!("http://{}", authority(&headers, &uri));
    // Making a key takes a tenth of a second: not on a thread that serves others.
    let made = tokio::task::spawn_blocking(move || sandbox.fcm.projects.get_or_make(&project)).await;
    match made.map_err(anyhow::Error::from).and_then(|made| made) {
        Ok(project) => Json(project.service_account(&base_url)).into_response(),
        Err(error) => crate::control::failed(&error),
    }
}

async fn withdraw_tokens(State(sandbox): State<Arc<Sandbox>>, Path(project): Path<String>) -> Response {
    let Some(project) = sandbox.fcm.projects.get(&project) else {
        return (StatusCode::NOT_FOUND, Json(json!({"error": "no such project"}))).into_response();
    };
    match sandbox.fcm.projects.withdraw_tokens(&project) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => crate::control::failed(&error),
    }
}

/// Host and port that the client meant.
pub(crate) fn authority(headers: &HeaderMap, uri: &Uri) -> String {
    let host = headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
    uri.authority().map(http::uri::Authority::as_str).or(host).unwrap_or("localhost").to_owned()
}

async fn token(
    State(sandbox): State<Arc<Sandbox>>,
    headers: HeaderMap,
    uri: Uri,
    form: Result<Form<oauth::Form>, FormRejection>,
) -> Response {
    if let Some(interruption) = sandbox.before(FCM).await {
        return interrupt(interruption, sandbox.ledger.call(FCM, "token", "")).await;
    }
    let form = form.map(|Form(form)| form).unwrap_or_default();
    let switch = sandbox.switches.of(FCM);
    let own = authority(&headers, &uri);
    let (answer, project) = oauth::answer(&sandbox.fcm.projects, &form, &own, &switch, now_ms());
    let account = project.as_ref().map_or("", |project| project.id.as_str());
    sandbox.ledger.call(FCM, "token", account).finish(answer.verdict, answer.status);
    answer.into_response()
}

async fn interrupt(interruption: Interruption, call: Call) -> Response {
    match interruption {
        Interruption::Unavailable => {
            call.finish("outage", 503);
            errors::unavailable().into_response()
        }
        Interruption::Refuse => {
            call.finish("outage", 0);
            abort()
        }
        Interruption::Hang => {
            call.finish("outage", 0);
            std::future::pending().await
        }
    }
}

async fn send(
    State(sandbox): State<Arc<Sandbox>>,
    Path(project): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut call = sandbox.ledger.call(FCM, SEND, &project);
    if let Some(interruption) = sandbox.before(FCM).await {
        return interrupt(interruption, call).await;
    }
    let request = match admit(&sandbox, &project, &headers).and_then(|()| read(&body)) {
        Ok(request) => request,
        Err(answer) => return refuse(answer, call),
    };
    let Some(message) = request.get("message").and_then(Value::as_object) else {
        let answer = errors::invalid("invalid_argument", "message", "The message is not set.");
        return refuse(answer, call);
    };
    let target = match validate::target(message) {
        Ok(target) => target,
        Err(answer) => return refuse(answer, call),
    };
    let (token, message_id) = (target.name(), message_id(message));
    call.target(&token, message_id);
    let validated = validate::check(message, &target);
    if let Err(answer) = validated.and_then(|()| device_quota(&sandbox, &target)) {
        return refuse(answer, call);
    }
    let only_validate = request.get("validate_only") == Some(&Value::Bool(true));
    let verdict = rule(&sandbox, &project, &token, message_id).await;
    if only_validate && matches!(verdict, Verdict::Accept | Verdict::AcceptSilently) {
        call.finish("validated", 200);
        return success(&format!("projects/{project}/messages/fake_message_id")).into_response();
    }
    match verdict {
        Verdict::Answer(answer) => refuse(answer, call),
        Verdict::Abort => {
            call.finish("reset", 0);
            abort()
        }
        Verdict::Hang => {
            call.finish("hang", 0);
            std::future::pending().await
        }
        Verdict::Accept | Verdict::AcceptSilently => {
            let answered = matches!(verdict, Verdict::Accept);
            call.finish(ACCEPTED, if answered { 200 } else { 0 });
            hand_over(&sandbox, &target, message, message_id);
            if answered { success(&new_name(&project)).into_response() } else { abort() }
        }
    }
}

fn refuse(answer: Answer, call: Call) -> Response {
    call.finish(answer.verdict, answer.status);
    answer.into_response()
}

/// Access token, project, project quota.
fn admit(sandbox: &Sandbox, project: &str, headers: &HeaderMap) -> Result<(), Answer> {
    let fcm = &sandbox.fcm;
    let switch = sandbox.switches.of(FCM);
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let bearer = bearer.map_or(Bearer::Bad, |token| fcm.projects.check(token, now_ms()));
    let Bearer::Of(own) = bearer else { return Err(errors::unauthenticated()) };
    if switch.credentials == Credentials::Refused {
        return Err(errors::unauthenticated());
    }
    if fcm.projects.get(project).is_none() {
        return Err(errors::not_found());
    }
    if own != project {
        return Err(errors::forbidden(project));
    }
    let Some(limit) = switch.quota.account_per_minute else { return Ok(()) };
    fcm.minutes.take(project, limit, now_ms()).map_err(|seconds| {
        let text = "Quota exceeded for quota metric 'Messages' and limit 'Messages per minute'.";
        let subject = format!("project:{project}");
        errors::quota_exceeded("project_quota_exceeded", &subject, text).retry_after(Some(seconds))
    })
}

/// One device's quota; off unless switched on.
fn device_quota(sandbox: &Sandbox, target: &Target) -> Result<(), Answer> {
    let (Some(limit), Target::Device(token)) = (sandbox.switches.of(FCM).quota.target_per_minute, target)
    else {
        return Ok(());
    };
    let name = format!("device:{token}");
    sandbox.fcm.minutes.take(&name, limit, now_ms()).map_err(|seconds| device_quota_exceeded(Some(seconds)))
}

fn device_quota_exceeded(retry_after_seconds: Option<u64>) -> Answer {
    errors::quota_exceeded("device_quota_exceeded", "device", "Device message rate exceeded.")
        .retry_after(retry_after_seconds)
}

fn read(body: &[u8]) -> Result<Map<String, Value>, Answer> {
    let value: Value = serde_json::from_slice(body).map_err(|error| errors::not_json(&error.to_string()))?;
    schema::read(value).map_err(|violations| errors::unreadable(&violations))
}

/// The gateway's id of the message: it travels as a data key, wherever the payload has room for data.
fn message_id(message: &Map<String, Value>) -> &str {
    let places = [
        message.get("data"),
        message.get("android").and_then(|android| android.get("data")),
        message.get("apns").and_then(|apns| apns.get("payload")),
        message.get("webpush").and_then(|webpush| webpush.get("data")),
    ];
    places.into_iter().flatten().find_map(|place| place.get("anypush_id")?.as_str()).unwrap_or_default()
}

/// What the rule table makes of a push that is valid.
enum Verdict {
    Answer(Answer),
    Accept,
    /// Accepted, and the sender never learns it.
    AcceptSilently,
    Abort,
    Hang,
}

async fn rule(sandbox: &Sandbox, project: &str, token: &str, message_id: &str) -> Verdict {
    let decision = sandbox.rules.decide(FCM, token);
    let first_tries = || sandbox.rules.earlier_tries(FCM, token, message_id) < decision.times;
    let quota = |verdict| {
        let text = "Quota exceeded for quota metric 'Messages' and limit 'Messages per minute'.";
        errors::quota_exceeded(verdict, "project", text).retry_after(decision.retry_after_seconds)
    };
    match decision.behaviour {
        Behaviour::Slow => {
            tokio::time::sleep(Duration::from_millis(decision.delay_ms)).await;
            Verdict::Accept
        }
        Behaviour::Flaky if first_tries() => {
            Verdict::Answer(errors::unavailable().retry_after(decision.retry_after_seconds))
        }
        Behaviour::Limited if first_tries() => Verdict::Answer(quota("limited")),
        Behaviour::Lost if first_tries() => Verdict::AcceptSilently,
        Behaviour::Ok | Behaviour::Flaky | Behaviour::Limited | Behaviour::Lost => Verdict::Accept,
        Behaviour::Quota => Verdict::Answer(quota("quota_exceeded")),
        Behaviour::Reset => Verdict::Abort,
        Behaviour::Hang => Verdict::Hang,
        Behaviour::Garbage => {
            let turn = sandbox.rules.earlier_tries(FCM, token, "");
            Verdict::Answer(errors::garbage(turn, &new_name(project)))
        }
        _ => Verdict::Answer(constant(decision, project)),
    }
}

/// The behaviours that are one answer, each a row of FCM's error table.
fn constant(decision: Decision, project: &str) -> Answer {
    match decision.behaviour {
        Behaviour::Dead => errors::unregistered(),
        Behaviour::Malformed => errors::malformed_token(),
        Behaviour::WrongApp => errors::sender_id_mismatch(),
        Behaviour::DeviceQuota => device_quota_exceeded(decision.retry_after_seconds),
        Behaviour::ThirdParty => errors::third_party_auth("THIRD_PARTY_AUTH_ERROR"),
        Behaviour::ApnsAuth => errors::third_party_auth("APNS_AUTH_ERROR"),
        Behaviour::Unauthenticated => errors::unauthenticated(),
        Behaviour::Forbidden => errors::forbidden(project),
        Behaviour::NotFound => errors::not_found(),
        Behaviour::Payload => {
            errors::invalid("payload_invalid", "message.notification.image", "Invalid image URL.")
        }
        Behaviour::TooBig => errors::too_big(),
        Behaviour::Unavailable => errors::unavailable().retry_after(decision.retry_after_seconds),
        Behaviour::BadGateway => errors::bad_gateway(),
        Behaviour::GatewayTimeout => errors::gateway_timeout(),
        Behaviour::Deadline => errors::deadline(),
        Behaviour::Cancelled => errors::cancelled(),
        Behaviour::Unspecified => errors::unspecified(),
        Behaviour::Unheard => errors::unheard(),
        _ => errors::internal(),
    }
}

fn success(name: &str) -> Answer {
    Answer::json(ACCEPTED, 200, &json!({"name": name}))
}

/// A message name as Google makes them: `projects/p/messages/0:<microseconds>%<16 hex digits>`.
fn new_name(project: &str) -> String {
    format!("projects/{project}/messages/0:{}%{}", now_ms() * 1000, hex(&random_bytes::<8>()))
}

/// Gives an accepted push to the handset that has its token, if one is played.
fn hand_over(sandbox: &Sandbox, target: &Target, message: &Map<String, Value>, message_id: &str) {
    let Target::Device(token) = target else { return };
    sandbox.phones.push(FCM, token, || {
        let android = message.get("android");
        let of = |name: &str| {
            let own = android.and_then(|android| android.get("notification")?.get(name));
            let text = own.or_else(|| message.get("notification")?.get(name));
            text.and_then(Value::as_str).map(str::to_owned)
        };
        let android_text = |name: &str| android.and_then(|android| android.get(name)?.as_str());
        let ttl_ms = android_text("ttl").and_then(schema::duration_ms);
        // `android.data` replaces `data` as a whole.
        let data = android.and_then(|android| android.get("data")).or_else(|| message.get("data"));
        Push {
            message_id: message_id.to_owned(),
            title: of("title"),
            body: of("body"),
            image: of("image"),
            data: data.and_then(Value::as_object).cloned().unwrap_or_default(),
            collapse_key: android_text("collapse_key").map(str::to_owned),
            expires_at_ms: now_ms() + ttl_ms.map_or(DEFAULT_TTL_MS, |ttl| ttl.max(0) as u64),
        }
    });
}
