//! `/v1/messages`: sends, and what became of them.

mod audience;
mod batch;
pub(crate) mod counts;
mod dry_run;
mod expression;
mod lines;
mod read;

pub(super) use batch::send as send_batch;

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::digest;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::auth::{self, Caller};
use super::extract::{Body, Names, Query};
use super::limits;
use super::problem::{Answer, Problem};
use crate::app::Gateway;
use crate::clock::{DAY_MS, rfc3339};
use crate::delivery::spec::Spec;
use crate::delivery::state::{State as Stage, View};
use crate::delivery::{AcceptError, Accepted, SendRequest};
use crate::ids::{Id, Kind};
use crate::store::{AcceptAnswer, MessageFilter, MessageRecord};

/// States of messages. They follow from counters, so a list of one state looks at each message, and at so many at the most.
const STATES: [&str; 5] = ["scheduled", "sending", "done", "cancelling", "cancelled"];
const LOOKED_AT: usize = 500;
/// Longest Idempotency-Key.
const KEY_BYTES: usize = 255;
static REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// `POST /v1/messages`
pub(super) async fn send(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    headers: HeaderMap,
    mut query: Query,
    body: Body,
) -> Answer<Response> {
    let is_dry = query.flag("dry_run")?;
    query.finish()?;
    let app = caller.app_seq()?;
    let key = idempotency_key(&headers)?;
    if is_dry {
        let read::Message { spec, audience, label } = read::message(&gateway, app, body.value).await?;
        let request = SendRequest { app, spec, audience, label, idempotency: None };
        let run = gateway.pipeline.dry_run(request).await.map_err(refused)?;
        return Ok(Json(dry_run::view(&gateway, &run)).into_response());
    }
    let hashes = key.map(|key| hashes(key, &body.raw));
    let accepted = accept(&gateway, &caller, body.value, hashes).await?;
    let mut response = (StatusCode::ACCEPTED, Json(told(&gateway, &accepted))).into_response();
    if accepted.replayed {
        response.headers_mut().insert(REPLAYED.clone(), HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// The answer to a call that cannot be taken now: that of an earlier one with the same key and body, else why not.
async fn earlier(
    gateway: &Gateway,
    app: i64,
    hashes: ([u8; 32], [u8; 32]),
    problem: Problem,
) -> Answer<Accepted> {
    match gateway.store.used_key(app, hashes, gateway.clock.now_ms()).await? {
        Some(AcceptAnswer::Replayed { id, created_at }) => {
            let message = gateway.store.message(id).await?;
            let scheduled = message.is_some_and(|message| message.send_at.is_some());
            Ok(Accepted { id, created_at, scheduled, replayed: true })
        }
        _ => Err(problem),
    }
}

/// Takes a message; when this returns, it is on disk.
async fn accept(
    gateway: &Gateway,
    caller: &Caller,
    body: Value,
    idempotency: Option<([u8; 32], [u8; 32])>,
) -> Answer<Accepted> {
    let app = caller.app_seq()?;
    caller.take(&gateway.limits, limits::Kind::Sends, limits::cost(&body))?;
    let read::Message { spec, audience, label } = match read::message(gateway, app, body).await {
        Ok(message) => message,
        // What it names may have been deleted since it was taken: a repeat hears what the first call heard.
        Err(problem) => match idempotency {
            Some(hashes) => return earlier(gateway, app, hashes, problem).await,
            None => return Err(problem),
        },
    };
    let request = SendRequest { app, spec, audience, label, idempotency };
    gateway.pipeline.accept(request).await.map_err(refused)
}

/// Takes a message that tests a channel: it is tried once.
pub(super) async fn accept_test(gateway: &Gateway, app: i64, body: Value) -> Answer<Accepted> {
    let read::Message { mut spec, audience, label } = read::message(gateway, app, body).await?;
    spec.test = true;
    let request = SendRequest { app, spec, audience, label, idempotency: None };
    gateway.pipeline.accept(request).await.map_err(refused)
}

/// What the caller of an accepted message is told.
fn told(gateway: &Gateway, accepted: &Accepted) -> Value {
    json!({
        "id": gateway.codec.encode(Kind::Message, accepted.id),
        "state": if accepted.scheduled { "scheduled" } else { "sending" },
        "created_at": rfc3339(accepted.created_at),
    })
}

/// Hashes of an Idempotency-Key and of the body that it came with.
fn hashes(key: &str, body: &[u8]) -> ([u8; 32], [u8; 32]) {
    let sha256 = |bytes: &[u8]| -> [u8; 32] {
        digest::digest(&digest::SHA256, bytes).as_ref().try_into().unwrap_or_default()
    };
    (sha256(key.as_bytes()), sha256(body))
}

/// Whether this may be an Idempotency-Key.
fn is_key(key: &str) -> bool {
    (1..=KEY_BYTES).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
}

fn idempotency_key(headers: &HeaderMap) -> Answer<Option<&str>> {
    let key = auth::single(headers, "idempotency-key")?;
    if key.is_some_and(|key| !is_key(key)) {
        let why = "the header `Idempotency-Key` must be 1 to 255 visible ASCII characters without spaces";
        return Err(Problem::bad_request("invalid_idempotency_key", why));
    }
    Ok(key)
}

fn refused(error: AcceptError) -> Problem {
    match error {
        AcceptError::KeyReused => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency_key_reused",
            "this Idempotency-Key was used with another body; use a new key for a new message",
        ),
        AcceptError::Store(error) => error.into(),
        AcceptError::Unwritable(cause) => {
            tracing::error!("a message could not be written down: {cause}");
            Problem::internal()
        }
    }
}

/// The message that the path names, if it is this app's.
pub(super) async fn find(gateway: &Gateway, app: i64, names: &Names) -> Answer<MessageRecord> {
    let absent = || Problem::not_found("message");
    let id = gateway.codec.decode(Kind::Message, names.get("id")).ok_or_else(absent)?;
    let found = gateway.store.message(id).await?.filter(|message| message.app == app);
    found.ok_or_else(|| {
        // By the id alone: what another app has looks as if it were not there.
        let days = gateway.settings.retention.messages_days;
        if gateway.clock.now_ms().saturating_sub(id.unix_ms()) <= days * DAY_MS {
            return absent();
        }
        let why = format!(
            "there is no such message in this app, or not any more: messages are kept for {days} days after their time to \
             live is over. Reports still count them"
        );
        Problem::new(StatusCode::NOT_FOUND, "not_found", why)
    })
}

async fn view(gateway: &Gateway, message: &MessageRecord) -> Answer<Value> {
    let counters = gateway.store.counters(message.id).await?;
    // An audience that still grew when it was read may have more targets by now, and these are counted already.
    let again = match message.expanded_at {
        None => gateway.store.message(message.id).await?,
        Some(_) => None,
    };
    let message = again.as_ref().unwrap_or(message);
    let counts = counts::Counts::new(message.targeted, &counters, |seq| {
        gateway.channels.by_seq(seq).map(|channel| channel.record.name.clone())
    });
    let spec: Spec = serde_json::from_str(&message.spec).unwrap_or_default();
    Ok(json!({
        "id": gateway.codec.encode(Kind::Message, message.id),
        "state": state(message, counts.pending),
        "class": message.class,
        "category": spec.category.map(|category| category.name),
        "label": message.label,
        "metadata": spec.metadata,
        "created_at": rfc3339(message.created_at),
        "send_at": message.send_at.map(rfc3339),
        "expires_at": rfc3339(message.deadline_at),
        "counts": counts.total,
        "by_channel": counts.by_channel,
        "reasons": counts.reasons,
    }))
}

/// The message's state; `pending`: how many of its deliveries are.
pub(crate) fn state(message: &MessageRecord, pending: u64) -> &'static str {
    match message.state {
        1 => "scheduled",
        2 | 3 if message.expanded_at.is_some() && pending == 0 => "cancelled",
        2 | 3 => "cancelling",
        _ if message.expanded_at.is_some() && pending == 0 => "done",
        _ => "sending",
    }
}

/// `GET /v1/messages/{id}`
pub(super) async fn get(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
) -> Answer<Json<Value>> {
    let message = find(&gateway, caller.app_seq()?, &names).await?;
    Ok(Json(view(&gateway, &message).await?))
}

/// `POST /v1/messages/{id}/cancel`
pub(super) async fn cancel(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
) -> Answer<Json<Value>> {
    let app = caller.app_seq()?;
    let id = find(&gateway, app, &names).await?.id;
    gateway.pipeline.cancel(id).await?;
    let message = find(&gateway, app, &names).await?;
    Ok(Json(stopped(&gateway, &message).await?.0))
}

/// `POST /v1/messages/{id}/recall`
pub(super) async fn recall(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
) -> Answer<Json<Value>> {
    let app = caller.app_seq()?;
    let id = find(&gateway, app, &names).await?.id;
    let recalled = gateway.pipeline.recall(app, id).await?;
    let message = find(&gateway, app, &names).await?;
    let (mut told, sent) = stopped(&gateway, &message).await?;
    let channel = |(seq, n): (i64, u64)| {
        let channel = gateway.channels.by_seq(seq)?;
        Some(json!({"channel": channel.record.name, "already_sent": n, "recalls": channel.is_direct()}))
    };
    told["told"] = recalled.told.into();
    told["complete"] = recalled.complete.into();
    told["channels"] = sent.into_iter().filter_map(channel).collect();
    Ok(Json(told))
}

/// The numbers of a message that was stopped, and how many each channel has.
async fn stopped(gateway: &Gateway, message: &MessageRecord) -> Answer<(Value, BTreeMap<i64, u64>)> {
    let counters = gateway.store.counters(message.id).await?;
    let now = |states: &[Stage]| -> u64 {
        counters.iter().filter(|c| c.view == View::Now && states.contains(&c.state)).map(|c| c.n).sum()
    };
    let sent = [Stage::Accepted, Stage::Delivered, Stage::Displayed, Stage::Clicked, Stage::Unknown];
    let mut channels = BTreeMap::new();
    for counter in
        counters.iter().filter(|c| c.view == View::Now && c.channel != 0 && sent.contains(&c.state))
    {
        *channels.entry(counter.channel).or_default() += counter.n;
    }
    let told = json!({
        "cancelled": now(&[Stage::Cancelled]),
        "already_sent": now(&sent),
        "in_flight": message.targeted.saturating_sub(now(&Stage::ALL)),
    });
    Ok((told, channels))
}

/// `GET /v1/messages`: newest first.
pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    mut query: Query,
) -> Answer<Json<Value>> {
    let app = caller.app_seq()?;
    let label = query.text("label");
    // An id begins with its time: a time is a bound on ids.
    let bound = |ms: u64| Id::floor_at(ms.min(1 << 42));
    let from = query.time("from")?.map_or(Id(0), bound);
    let to = query.time("to")?.map_or(Id(i64::MAX), bound);
    let state = query.choice("state", |word| STATES.into_iter().find(|known| *known == word))?;
    let page = query.page(&gateway, format!("messages {app} {label:?} {from:?} {to:?} {state:?}"))?;
    // The only state that is looked for in an index; the others are read off the counters.
    let filter = MessageFilter { label, scheduled: state == Some("scheduled") };
    let mut place = page.number().map_or(to, |n| Id(n as i64));
    let (mut data, mut looked_at) = (Vec::new(), 0);
    let next = loop {
        let mut found = gateway.store.messages(app, &filter, place, page.limit + 1).await?;
        found.retain(|message| message.id >= from);
        let is_last = found.len() <= page.limit;
        found.truncate(page.limit);
        let end = found.last().map(|message| message.id);
        for message in &found {
            let shown = view(&gateway, message).await?;
            (place, looked_at) = (message.id, looked_at + 1);
            if state.is_none_or(|state| shown["state"] == state) {
                data.push(shown);
            }
            if data.len() == page.limit {
                break;
            }
        }
        let is_over = is_last && end.is_none_or(|end| end == place);
        if is_over || data.len() == page.limit || looked_at >= LOOKED_AT {
            break (!is_over).then(|| place.0.to_string());
        }
    };
    Ok(page.answer(&gateway, &data, next))
}
