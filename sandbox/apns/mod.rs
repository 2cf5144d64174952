//! Apple Push Notification service, HTTP/2 provider API: one token a request.
//!
//! Contract: Apple's "Sending notification requests to APNs" and what clients send on the wire. A request passes, in this
//! order: outage, sender, headers and payload, token, topic, quota, the token's rule. Played are neither broadcasts
//! nor channel management.

mod auth;
mod control;
mod reasons;
mod request;
mod sample;
mod teams;

use std::sync::{Arc, Mutex, PoisonError, Weak};

use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::{any, get, post};
use axum::{Extension, Router};
use http::{HeaderMap, Method, Version};
use serde_json::Value;

use crate::connection::Connection;
use crate::ledger::{ACCEPTED, Call, SEND};
use crate::minutes::Minutes;
use crate::phones;
use crate::rules::{Behaviour, Decision};
use crate::state::{Sandbox, abort, hex, now_ms, random_bytes};
use crate::switches::{Credentials, Switch};
use crate::twin::{Fate, Place, Registration, Twin, fate, interrupt, without_answer};
use auth::{Limits, Sender};
use control::Settings;
use reasons::{Reason, reason};
use teams::Teams;

/// This provider's id.
const APNS: &str = "apns";

/// The twin's entry.
pub(crate) const TWIN: Registration = Registration {
    id: APNS,
    patterns: reasons::PATTERNS,
    codes: reasons::CODES,
    help: control::HELP,
    headers: &["apns-*"],
    // A provider token is good for an hour, which is the default.
    switch: Switch::default,
    open: |sandbox, dir| {
        sandbox.first_streams.set(Settings::default().first_streams);
        Ok(Arc::new(Apns {
            sandbox,
            teams: Teams::open(dir)?,
            minutes: Minutes::default(),
            settings: Mutex::default(),
            connections: Mutex::default(),
        }))
    },
    raises_streams: true,
};

/// The twin's own state.
struct Apns {
    sandbox: Arc<Sandbox>,
    teams: Teams,
    minutes: Minutes,
    settings: Mutex<Settings>,
    /// Every connection that asked for something.
    connections: Mutex<Vec<Weak<Connection>>>,
}

impl Twin for Apns {
    fn vendor_routes(self: Arc<Self>) -> Router {
        Router::new()
            .route("/3/device/{token}", any(send))
            .route("/3/device/", any(no_token))
            .route("/3/{*path}", any(no_path))
            .with_state(self)
    }

    fn control_routes(self: Arc<Self>) -> Router {
        Router::new()
            .route("/_sandbox/apns/{team}/key", get(control::key))
            .route("/_sandbox/apns/{team}/certificate", get(control::certificate))
            .route("/_sandbox/apns/{team}/revoke", post(control::revoke))
            .route("/_sandbox/apns/settings", get(control::settings).put(control::put_settings))
            .route("/_sandbox/apns/goaway", post(control::goaway))
            .with_state(self)
    }

    fn sample(&self, place: &Place) -> anyhow::Result<Value> {
        sample::sample(self, &place.base_url)
    }

    fn token(&self, number: usize) -> String {
        format!("ab{number:062x}")
    }

    fn switched(&self) {
        self.minutes.begin_anew();
    }
}

impl Apns {
    fn settings(&self) -> Settings {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes a connection, so that it can be told to go.
    fn note(&self, connection: &Arc<Connection>) {
        #[derive(Clone)]
        struct Noted;
        if connection.notes().insert(Noted).is_some() {
            return;
        }
        let mut all = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|known| known.strong_count() > 0);
        all.push(Arc::downgrade(connection));
    }
}

async fn no_token() -> Response {
    reason::MissingDeviceToken.answer(&new_id(), None)
}

async fn no_path() -> Response {
    reason::BadPath.answer(&new_id(), None)
}

fn new_id() -> String {
    let mut bytes = random_bytes::<16>();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = hex(&bytes);
    [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
}

async fn send(
    State(apns): State<Arc<Apns>>,
    Path(token): Path<String>,
    Extension(connection): Extension<Arc<Connection>>,
    request: Request,
) -> Response {
    let sandbox = &apns.sandbox;
    let mut call = sandbox.ledger.call(APNS, SEND, "");
    call.target(&token, "");
    let (parts, body) = request.into_parts();
    if parts.version != Version::HTTP_2 {
        call.finish("not_http2", 0);
        return abort();
    }
    apns.note(&connection);
    let given = request::message_id(&parts.headers);
    let apns_id = given.ok().flatten().map_or_else(new_id, str::to_owned);
    if let Some(interruption) = sandbox.before(APNS).await {
        return interrupt(interruption, call, || reason::ServiceUnavailable.answer(&apns_id, None)).await;
    }
    // What is far too long is refused all the same, and read no further.
    let body = axum::body::to_bytes(body, 64 * 1024).await.map_err(|_| reason::PayloadTooLarge);
    let admitted = match (&parts.method, given) {
        (&Method::POST, Ok(_)) => {
            body.and_then(|body| admit(&apns, &connection, &parts.headers, &token, &body))
        }
        (&Method::POST, Err(why)) => Err(why),
        _ => Err(reason::MethodNotAllowed),
    };
    let (sender, push) = match admitted {
        Ok(admitted) => admitted,
        Err(why) => return refuse(why, &apns_id, call),
    };
    let message = push.payload.get("anypush_id").and_then(Value::as_str).unwrap_or_default().to_owned();
    call.account(&sender.team);
    call.target(&token, &message);
    match fate(sandbox, APNS, &token, &message).await {
        Fate::Answer(decision) => answer(sandbox, &decision, &token, &apns_id, call),
        fate @ (Fate::Abort | Fate::Hang) => without_answer(fate, call).await,
        Fate::AcceptSilently(_) => {
            call.finish(ACCEPTED, 0);
            hand_over(sandbox, &token, push, message);
            abort()
        }
        Fate::Accept(_) => {
            call.finish(ACCEPTED, 200);
            hand_over(sandbox, &token, push, message);
            connection.frames.raise();
            reasons::respond(200, &apns_id, Body::empty())
        }
    }
}

fn refuse(why: Reason, apns_id: &str, call: Call) -> Response {
    call.finish(why.name, why.status);
    why.answer(apns_id, None)
}

/// Sender, headers and payload, token, topic, quota.
fn admit(
    apns: &Apns,
    connection: &Connection,
    headers: &HeaderMap,
    token: &str,
    body: &Bytes,
) -> Result<(Sender, request::Push), Reason> {
    let switch = apns.sandbox.switches.of(APNS);
    let limits = Limits {
        token_seconds: switch.access_token_seconds,
        update_seconds: apns.settings().token_update_seconds,
    };
    let sender = auth::sender(&apns.teams, connection, headers, limits, now_ms())?;
    if switch.credentials == Credentials::Refused {
        let by_certificate = sender.bundle.is_some();
        return Err(if by_certificate { reason::BadCertificate } else { reason::InvalidProviderToken });
    }
    if sender.bundle.is_some() {
        // The first stream is for the first token; a certificate was checked before any stream.
        connection.frames.raise();
    }
    let push = request::read(headers, body, sender.bundle.as_deref(), now_ms())?;
    if token.is_empty()
        || !token.bytes().all(|digit| digit.is_ascii_hexdigit())
        || !token.len().is_multiple_of(2)
    {
        return Err(reason::BadDeviceToken);
    }
    let is_allowed = match &sender.bundle {
        Some(bundle) => *bundle == push.bundle,
        None => apns.teams.allows(&sender.team, &push.bundle),
    };
    if !is_allowed {
        return Err(reason::TopicDisallowed);
    }
    if sender.bundle.is_some() && push.kind == Some("location") {
        return Err(reason::Forbidden);
    }
    if let Some(limit) = switch.quota.target_per_minute {
        apns.minutes.take(token, limit, now_ms()).map_err(|_| reason::TooManyRequests)?;
    }
    Ok((sender, push))
}

/// APNs' words for what a rule decided.
fn answer(sandbox: &Sandbox, decision: &Decision, token: &str, apns_id: &str, call: Call) -> Response {
    let reason = match decision.behaviour {
        Behaviour::Garbage => {
            let (status, response) = reasons::garbage(sandbox.rules.earlier_tries(APNS, token, ""), apns_id);
            call.finish("garbage", status);
            return response;
        }
        Behaviour::Dead => reason::Unregistered,
        Behaviour::Malformed => reason::BadDeviceToken,
        Behaviour::WrongApp => reason::DeviceTokenNotForTopic,
        Behaviour::Flaky | Behaviour::Unavailable => reason::ServiceUnavailable,
        Behaviour::Limited | Behaviour::Quota | Behaviour::DeviceQuota => reason::TooManyRequests,
        Behaviour::Unauthenticated => reason::InvalidProviderToken,
        Behaviour::Forbidden => reason::Forbidden,
        Behaviour::TooBig => reason::PayloadTooLarge,
        Behaviour::Internal => reason::InternalServerError,
        _ => Reason::of(decision.code.as_deref()),
    };
    call.finish(reason.name, reason.status);
    let mut response = reason.answer(apns_id, Some(reasons::dead_since_ms(token)));
    // APNs documents none: only where a rule asks for one.
    if let Some(seconds) = decision.retry_after_seconds {
        response.headers_mut().insert(http::header::RETRY_AFTER, seconds.into());
    }
    response
}

/// Gives an accepted push to the handset that has its token, if one is played.
fn hand_over(sandbox: &Sandbox, token: &str, push: request::Push, message: String) {
    sandbox.phones.push(APNS, token, || {
        let mut data = push.payload;
        let aps = data.remove("aps").unwrap_or_default();
        let alert = &aps["alert"];
        let of = |name: &str| alert[name].as_str().map(str::to_owned);
        phones::Push {
            message_id: message,
            title: of("title"),
            body: of("body").or_else(|| alert.as_str().map(str::to_owned)),
            data,
            // One push waits for each app, whatever its collapse id (Apple: "only one notification per bundle id").
            collapse_key: Some(push.bundle),
            replaces: push.collapse_id,
            expires_at_ms: push.expires_at_ms,
            ..phones::Push::default()
        }
    });
}
