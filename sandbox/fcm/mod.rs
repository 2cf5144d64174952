//! Firebase Cloud Messaging, HTTP v1: the send call and the token endpoint.
//!
//! Contract: FCM v1 discovery rev 20261023, firebase-admin-python 7.7.0 and google-auth 2.62.2 on the wire. A request
//! passes, in this order: outage, access token, project, quota, reading, target, validation, the token's rule. Played
//! are neither topic subscriptions nor the dead endpoints (`/batch`, `/fcm/send`).

mod account;
mod condition;
mod errors;
mod oauth;
mod patterns;
mod sample;
mod schema;
mod validate;

use std::sync::Arc;

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
use crate::minutes::Minutes;
use crate::phones::Push;
use crate::rules::{Behaviour, Decision};
use crate::state::{Sandbox, abort, hex, now_ms, random_bytes};
use crate::switches::{Credentials, Quota, Switch};
use crate::twin::{Fate, Place, Registration, Twin, authority, fate, interrupt, without_answer};
use account::{Bearer, Projects};
use errors::Answer;
use validate::Target;

/// This provider's id.
const FCM: &str = "fcm";
/// FCM keeps a push four weeks when its sender names no time.
const DEFAULT_TTL_MS: u64 = 2_419_200_000;

/// The twin's entry.
pub(crate) const TWIN: Registration = Registration {
    id: FCM,
    patterns: patterns::PATTERNS,
    codes: &[],
    help: &[
        ("GET", "/_sandbox/fcm/{project}/service_account", "a service account that works here"),
        ("POST", "/_sandbox/fcm/{project}/withdraw_tokens", "every access token is bad from now on"),
    ],
    headers: &["access_token_auth", "x-goog-*", "x-firebase-*"],
    switch: || Switch {
        // What Google's token endpoint says for its hour.
        access_token_seconds: 3599,
        // 600,000 messages a minute and project by default (firebase.google.com "throttling-and-quotas").
        // Its limit per device is known from third parties only, so it is off unless asked for.
        quota: Quota { account_per_minute: Some(600_000), target_per_minute: None },
        ..Switch::default()
    },
    open: |sandbox, dir| {
        Ok(Arc::new(Fcm { sandbox, projects: Projects::open(dir)?, minutes: Minutes::default() }))
    },
    raises_streams: false,
};

/// The twin's own state: projects and their minutes.
struct Fcm {
    sandbox: Arc<Sandbox>,
    projects: Projects,
    minutes: Minutes,
}

impl Twin for Fcm {
    fn vendor_routes(self: Arc<Self>) -> Router {
        Router::new()
            .route("/token", post(token))
            .route("/v1/projects/{project}/messages:send", post(send))
            .with_state(self)
    }

    fn control_routes(self: Arc<Self>) -> Router {
        Router::new()
            .route("/_sandbox/fcm/{project}/service_account", get(service_account))
            .route("/_sandbox/fcm/{project}/withdraw_tokens", post(withdraw_tokens))
            .with_state(self)
    }

    fn sample(&self, place: &Place) -> anyhow::Result<Value> {
        sample::sample(self, &place.base_url)
    }

    /// What was sent before a switch does not count against a new quota.
    fn switched(&self) {
        self.minutes.begin_anew();
    }
}

async fn service_account(
    State(fcm): State<Arc<Fcm>>,
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
    let made = tokio::task::spawn_blocking(move || fcm.projects.get_or_make(&project)).await;
    match made.map_err(anyhow::Error::from).and_then(|made| made) {
        Ok(project) => Json(project.service_account(&base_url)).into_response(),
        Err(error) => crate::control::failed(&error),
    }
}

async fn withdraw_tokens(State(fcm): State<Arc<Fcm>>, Path(project): Path<String>) -> Response {
    let Some(project) = fcm.projects.get(&project) else {
        return (StatusCode::NOT_FOUND, Json(json!({"error": "no such project"}))).into_response();
    };
    match fcm.projects.withdraw_tokens(&project) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => crate::control::failed(&error),
    }
}

async fn token(
    State(fcm): State<Arc<Fcm>>,
    headers: HeaderMap,
    uri: Uri,
    form: Result<Form<oauth::Form>, FormRejection>,
) -> Response {
    let sandbox = &fcm.sandbox;
    if let Some(interruption) = sandbox.before(FCM).await {
        let call = sandbox.ledger.call(FCM, "token", "");
        return interrupt(interruption, call, || errors::unavailable().into_response()).await;
    }
    let form = form.map(|Form(form)| form).unwrap_or_default();
    let switch = sandbox.switches.of(FCM);
    let own = authority(&headers, &uri);
    let (answer, project) = oauth::answer(&fcm.projects, &form, &own, &switch, now_ms());
    let account = project.as_ref().map_or("", |project| project.id.as_str());
    sandbox.ledger.call(FCM, "token", account).finish(answer.verdict, answer.status);
    answer.into_response()
}

async fn send(
    State(fcm): State<Arc<Fcm>>,
    Path(project): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let sandbox = &fcm.sandbox;
    let mut call = sandbox.ledger.call(FCM, SEND, &project);
    if let Some(interruption) = sandbox.before(FCM).await {
        return interrupt(interruption, call, || errors::unavailable().into_response()).await;
    }
    let request = match admit(&fcm, &project, &headers).and_then(|()| read(&body)) {
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
    if let Err(answer) = validated.and_then(|()| device_quota(&fcm, &target)) {
        return refuse(answer, call);
    }
    let only_validate = request.get("validate_only") == Some(&Value::Bool(true));
    let fate = fate(sandbox, FCM, &token, message_id).await;
    if only_validate && matches!(fate, Fate::Accept(_) | Fate::AcceptSilently(_)) {
        call.finish("validated", 200);
        return success(&format!("projects/{project}/messages/fake_message_id")).into_response();
    }
    match fate {
        Fate::Answer(decision) => refuse(answer(sandbox, &decision, &project, &token), call),
        Fate::Abort | Fate::Hang => without_answer(fate, call).await,
        Fate::Accept(_) | Fate::AcceptSilently(_) => {
            let answered = matches!(fate, Fate::Accept(_));
            call.finish(ACCEPTED, if answered { 200 } else { 0 });
            hand_over(sandbox, &target, message, message_id);
            if answered { success(&new_name(&project)).into_response() } else { abort() }
        }
    }
}

fn refuse(answer: Answer, call: Call) -> Response {
    call.finish(answer.verdict, answer.status);
    answer.into_response()
}

/// Access token, project, project quota.
fn admit(fcm: &Fcm, project: &str, headers: &HeaderMap) -> Result<(), Answer> {
    let switch = fcm.sandbox.switches.of(FCM);
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
fn device_quota(fcm: &Fcm, target: &Target) -> Result<(), Answer> {
    let (Some(limit), Target::Device(token)) = (fcm.sandbox.switches.of(FCM).quota.target_per_minute, target)
    else {
        return Ok(());
    };
    let name = format!("device:{token}");
    fcm.minutes.take(&name, limit, now_ms()).map_err(|seconds| device_quota_exceeded(Some(seconds)))
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

/// FCM's words for what a rule decided.
fn answer(sandbox: &Sandbox, decision: &Decision, project: &str, token: &str) -> Answer {
    let quota = |verdict| {
        let text = "Quota exceeded for quota metric 'Messages' and limit 'Messages per minute'.";
        errors::quota_exceeded(verdict, "project", text).retry_after(decision.retry_after_seconds)
    };
    match decision.behaviour {
        Behaviour::Flaky => errors::unavailable().retry_after(decision.retry_after_seconds),
        Behaviour::Limited => quota("limited").retry_after(decision.retry_after_seconds.or(Some(1))),
        Behaviour::Quota => quota("quota_exceeded"),
        Behaviour::Garbage => {
            errors::garbage(sandbox.rules.earlier_tries(FCM, token, ""), &new_name(project))
        }
        _ => constant(decision, project),
    }
}

/// The behaviours that are one answer, each a row of FCM's error table.
fn constant(decision: &Decision, project: &str) -> Answer {
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
            ..Push::default()
        }
    });
}
