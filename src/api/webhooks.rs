//! `/v1/apps/{app}/webhooks`: endpoints that are told of events. A shared secret is shown once, when it is made.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use url::Url;

use super::auth::Caller;
use super::extract::{Body, Names, Query};
use super::fields::{Fields, Mistakes, Text};
use super::problem::{Answer, Problem};
use crate::app::Gateway;
use crate::clock::rfc3339;
use crate::events::EventKind;
use crate::ids::Kind;
use crate::store::{Signature, WebhookAttempt, WebhookRecord};
use crate::webhooks::sign::Secrets;

/// Most endpoints of an app.
const MOST: usize = 20;
/// Longest address of an endpoint.
const URL_BYTES: usize = 2048;

fn signature_name(signature: Signature) -> &'static str {
    match signature {
        Signature::Hmac => "hmac",
        Signature::Ed25519 => "ed25519",
    }
}

/// An endpoint without its secret.
fn view(gateway: &Gateway, webhook: &WebhookRecord) -> Value {
    let now = gateway.clock.now_ms();
    let secrets = Secrets::open(&gateway.vault, webhook);
    let kinds = EventKind::ALL.into_iter().filter(|kind| webhook.kinds & kind.bit() != 0);
    json!({
        "id": webhook.public_id,
        "url": webhook.url,
        "description": webhook.description,
        "events": kinds.map(EventKind::as_str).collect::<Vec<_>>(),
        "signature": signature_name(webhook.signature),
        "public_keys": secrets.as_ref().map(|secrets| secrets.public_keys(now)).unwrap_or_default(),
        "previous_secret_until": secrets.and_then(|secrets| secrets.previous_until(now)).map(rfc3339),
        "state": if webhook.disabled.is_some() { "disabled" } else { "enabled" },
        "disabled_reason": webhook.disabled,
        "disabled_at": webhook.disabled_at.map(rfc3339),
        "failing_since": webhook.failing_since.map(rfc3339),
        "created_at": rfc3339(webhook.created_at),
        "updated_at": rfc3339(webhook.updated_at),
    })
}

/// The same with the secret that was just made.
fn view_new(gateway: &Gateway, webhook: &WebhookRecord, secrets: &Secrets) -> Value {
    let mut shown = view(gateway, webhook);
    shown["secret"] = secrets.shown().into();
    shown
}

/// The endpoint that the path names, if it is this app's.
async fn find(gateway: &Gateway, caller: &Caller, names: &Names) -> Answer<WebhookRecord> {
    let id = names.get("id");
    let absent = || Problem::not_found("webhook");
    gateway.codec.decode(Kind::Webhook, id).ok_or_else(absent)?;
    let all = gateway.store.webhooks(Some(caller.app_seq()?)).await?;
    all.into_iter().find(|webhook| webhook.public_id == id).ok_or_else(absent)
}

/// `GET /v1/apps/{app}/webhooks`
pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    query: Query,
) -> Answer<Json<Value>> {
    let app = caller.app_seq()?;
    let page = query.page(&gateway, format!("webhooks {app}"))?;
    let after = page.number().unwrap_or(0) as i64;
    let mut found = gateway.store.webhooks(Some(app)).await?;
    found.retain(|webhook| webhook.seq > after);
    let next = page.cut(&mut found, |webhook| webhook.seq.to_string());
    let shown: Vec<_> = found.iter().map(|webhook| view(&gateway, webhook)).collect();
    Ok(page.answer(&gateway, &shown, next))
}

/// `GET /v1/apps/{app}/webhooks/{id}`
pub(super) async fn get(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
) -> Answer<Json<Value>> {
    let webhook = find(&gateway, &caller, &names).await?;
    Ok(Json(view(&gateway, &webhook)))
}

/// What a call says of an endpoint.
struct Given {
    url: Option<Url>,
    kinds: Option<u32>,
    description: Option<String>,
    signature: Signature,
    enabled: Option<bool>,
}

fn read(body: Value, new: bool) -> Answer<Given> {
    let wrong = Mistakes::default();
    let mut fields = Fields::of(body, "", &wrong);
    for name in ["url", "events"] {
        if new && !fields.has(name) {
            fields.refuse(name, "is required");
        }
    }
    let (url, kinds) = (url(&mut fields), events(&mut fields, &wrong));
    let description = fields.text("description", Text::prose(256));
    let (mut signature, mut enabled) = (None, None);
    if new {
        signature = fields.choice("signature", &[("hmac", Signature::Hmac), ("ed25519", Signature::Ed25519)]);
    } else {
        enabled = fields.choice("state", &[("enabled", true), ("disabled", false)]);
    }
    fields.finish();
    wrong.finish()?;
    Ok(Given { url, kinds, description, signature: signature.unwrap_or(Signature::Hmac), enabled })
}

/// `POST /v1/apps/{app}/webhooks`
pub(super) async fn create(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    body: Body,
) -> Answer<(StatusCode, Json<Value>)> {
    let app = caller.app_seq()?;
    let Given { url, kinds, description, signature, .. } = read(body.value, true)?;
    let url = may_be_called(&gateway, url.ok_or_else(Problem::internal)?).await?;
    if gateway.store.webhooks(Some(app)).await?.len() >= MOST {
        let why = format!("an app may have {MOST} webhooks; delete one that is not needed");
        return Err(Problem::new(StatusCode::CONFLICT, "too_many_webhooks", why));
    }
    let now = gateway.clock.now_ms();
    let public_id = gateway.codec.encode(Kind::Webhook, gateway.ids.next(now));
    let secrets = Secrets::make(signature);
    let webhook = WebhookRecord {
        seq: 0,
        app,
        url,
        description: description.unwrap_or_default(),
        kinds: kinds.unwrap_or_default(),
        signature,
        secrets: secrets.seal(&gateway.vault, app, &public_id),
        public_id,
        disabled: None,
        disabled_at: None,
        failing_since: None,
        created_at: now,
        updated_at: now,
    };
    let webhook = put(&gateway, webhook, true).await?;
    Ok((StatusCode::CREATED, Json(view_new(&gateway, &webhook, &secrets))))
}

/// Stores an endpoint; one that begins is told of what happens from now on.
async fn put(gateway: &Gateway, webhook: WebhookRecord, begins: bool) -> Answer<WebhookRecord> {
    let work = if begins {
        let after = gateway.store.event_bounds().await?.last;
        Some(gateway.webhooks.beginning(webhook.app, after))
    } else {
        None
    };
    let stored = gateway.store.put_webhook(webhook, work).await?;
    let stored = stored.ok_or_else(|| Problem::not_found("webhook"))?;
    gateway.webhooks.wake(&stored);
    Ok(stored)
}

/// `PATCH /v1/apps/{app}/webhooks/{id}`
pub(super) async fn patch(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
    body: Body,
) -> Answer<Json<Value>> {
    let mut webhook = find(&gateway, &caller, &names).await?;
    let Given { url, kinds, description, enabled, .. } = read(body.value, false)?;
    if let Some(url) = url {
        webhook.url = may_be_called(&gateway, url).await?;
    }
    webhook.kinds = kinds.unwrap_or(webhook.kinds);
    webhook.description = description.unwrap_or(webhook.description);
    webhook.updated_at = gateway.clock.now_ms();
    let begins = enabled == Some(true) && webhook.disabled.is_some();
    if begins {
        (webhook.disabled, webhook.disabled_at, webhook.failing_since) = (None, None, None);
    }
    if enabled == Some(false) && webhook.disabled.is_none() {
        webhook.disabled = Some("by_request".into());
        webhook.disabled_at = Some(webhook.updated_at);
    }
    let webhook = put(&gateway, webhook, begins).await?;
    Ok(Json(view(&gateway, &webhook)))
}

/// `DELETE /v1/apps/{app}/webhooks/{id}`
pub(super) async fn delete(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
) -> Answer<StatusCode> {
    let webhook = find(&gateway, &caller, &names).await?;
    let found = gateway.store.delete_webhook(webhook.app, webhook.seq).await?;
    gateway.webhooks.wake(&webhook);
    if found { Ok(StatusCode::NO_CONTENT) } else { Err(Problem::not_found("webhook")) }
}

/// `POST /v1/apps/{app}/webhooks/{id}/rotate_secret`
pub(super) async fn rotate(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
) -> Answer<Json<Value>> {
    let mut webhook = find(&gateway, &caller, &names).await?;
    let now = gateway.clock.now_ms();
    // What cannot be opened any more is replaced without an overlap.
    let secrets = match Secrets::open(&gateway.vault, &webhook) {
        Some(secrets) => secrets.rotated(now),
        None => Secrets::make(webhook.signature),
    };
    webhook.secrets = secrets.seal(&gateway.vault, webhook.app, &webhook.public_id);
    webhook.updated_at = now;
    let webhook = put(&gateway, webhook, false).await?;
    Ok(Json(view_new(&gateway, &webhook, &secrets)))
}

fn attempt_view(gateway: &Gateway, attempt: &WebhookAttempt) -> Value {
    let kind = EventKind::ALL.get(usize::from(attempt.kind)).map(|kind| kind.as_str());
    json!({
        "event_id": gateway.teller.id(attempt.event),
        "event_type": kind,
        "attempt": attempt.attempt,
        "at": rfc3339(attempt.at),
        "latency_ms": attempt.latency_ms,
        // The class alone: what an internal host answers is nobody's business.
        "status_class": attempt.status.map(|status| format!("{}xx", status / 100)),
        "error": attempt.error,
        "next_attempt_at": attempt.next_at.map(rfc3339),
    })
}

/// `POST /v1/apps/{app}/webhooks/{id}/test`
pub(super) async fn test(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
) -> Answer<Json<Value>> {
    let webhook = find(&gateway, &caller, &names).await?;
    let attempt = gateway.webhooks.test(&webhook).await?;
    Ok(Json(attempt_view(&gateway, &attempt)))
}

/// `GET /v1/apps/{app}/webhooks/{id}/attempts`
pub(super) async fn attempts(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
    query: Query,
) -> Answer<Json<Value>> {
    let webhook = find(&gateway, &caller, &names).await?;
    let page = query.page(&gateway, format!("attempts {}", webhook.public_id))?;
    let before = page.number().unwrap_or(u64::MAX);
    let mut found = gateway.store.webhook_attempts(webhook.seq, before, page.limit + 1).await?;
    let next = page.cut(&mut found, |attempt| attempt.seq.to_string());
    let shown: Vec<_> = found.iter().map(|attempt| attempt_view(&gateway, attempt)).collect();
    Ok(page.answer(&gateway, &shown, next))
}

/// `POST /v1/apps/{app}/webhooks/{id}/replay`
pub(super) async fn replay(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
    body: Body,
) -> Answer<(StatusCode, Json<Value>)> {
    let webhook = find(&gateway, &caller, &names).await?;
    let (since, event) = read_replay(&gateway, body.value)?;
    if webhook.disabled.is_some() {
        let why = "the webhook is disabled; enable it first with PATCH and {\"state\": \"enabled\"}";
        return Err(Problem::new(StatusCode::CONFLICT, "webhook_disabled", why));
    }
    if let Some((number, id)) = event {
        let found = gateway.store.events_numbered(webhook.app, &[number]).await?;
        if found.is_empty() {
            return Err(Problem::not_found("event, or not any more,"));
        }
        gateway.webhooks.repeat(&webhook, number).await?;
        return Ok((StatusCode::ACCEPTED, Json(json!({"event_id": id}))));
    }
    let bounds = gateway.store.event_bounds().await?;
    let after = gateway.store.events_before(webhook.app, since.unwrap_or_default()).await?;
    let after = after.max(bounds.purged_to);
    gateway.webhooks.replay(&webhook, after, bounds.last).await?;
    let from = since.map(rfc3339);
    Ok((StatusCode::ACCEPTED, Json(json!({"since": from}))))
}

/// Which event is told once more: its number and id.
type Named = (u64, String);

/// Since when, or which event.
fn read_replay(gateway: &Gateway, body: Value) -> Answer<(Option<u64>, Option<Named>)> {
    let wrong = Mistakes::default();
    let mut fields = Fields::of(body, "", &wrong);
    let since = fields.time("since");
    let mut event = None;
    if let Some(id) = fields.text("event_id", Text::line(64)) {
        match gateway.teller.number(&id) {
            Some(number) => event = Some((number, id)),
            None => fields.refuse("event_id", "names no event"),
        }
    }
    if since.is_some() == event.is_some() && wrong.is_empty() {
        fields.refuse_all("must have either `since` or `event_id`");
    }
    fields.finish();
    wrong.finish().map(|()| (since, event))
}

fn url(fields: &mut Fields<'_>) -> Option<Url> {
    let text = fields.text("url", Text::line(URL_BYTES))?;
    // As it is kept and shown, a slash may be longer.
    let found = Url::parse(&text).ok().filter(|url| url.host().is_some() && url.as_str().len() <= URL_BYTES);
    if found.is_none() {
        fields.refuse(
            "url",
            "must be an address such as https://backend.example/anypush, of at most 2048 characters",
        );
    }
    found
}

/// Refuses where the guard would not let the gateway call; its own words say why.
async fn may_be_called(gateway: &Gateway, url: Url) -> Answer<String> {
    match gateway.egress.permits_now(&url).await {
        Ok(()) => Ok(url.into()),
        Err(why) => {
            let wrong = Mistakes::default();
            wrong.add("/url", why.to_string());
            wrong.finish().map(|()| String::new())
        }
    }
}

fn events(fields: &mut Fields<'_>, wrong: &Mistakes) -> Option<u32> {
    let names = fields.list("events", EventKind::ALL.len())?;
    if names.is_empty() {
        fields.refuse("events", "names nothing; list what is to be told");
    }
    let mut kinds = 0;
    for (at, name) in names {
        match name.as_str().and_then(EventKind::named).filter(|kind| *kind != EventKind::WebhookTest) {
            Some(kind) => kinds |= kind.bit(),
            None => wrong.add(at, "there is no such event; openapi.yaml lists them as `EventType`"),
        }
    }
    Some(kinds)
}
