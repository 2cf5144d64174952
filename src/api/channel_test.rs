//! `POST /v1/apps/{app}/channels/{name}/test`: one message through one channel to one target, and what came of it.
//!
//! It is a message like others, so what it costs and what the vendor reports later is in the books; but it is tried once,
//! and what has not begun when the answer goes out never will.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::auth::Caller;
use super::extract::{Body, Names};
use super::problem::{Answer, Problem};
use super::{deliveries, messages};
use crate::app::Gateway;
use crate::delivery::state::{Delivery, State as Stage};
use crate::ids::{Id, Kind};
use crate::routing::ChannelState;
use crate::store::DeliveryFilter;

/// How long the caller waits for the vendor: below the request's own deadline.
const TIME: Duration = Duration::from_secs(20);
/// How long what could not begin in that time may live.
const TTL_SECONDS: u64 = 60;
/// What such messages are called in reports.
const LABEL: &str = "channel-test";
/// What a test may say; all else follows from its being one.
const MEMBERS: [&str; 5] = ["to", "notification", "data", "category", "overrides"];

/// `POST /v1/apps/{app}/channels/{name}/test`
pub(super) async fn send(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
    body: Body,
) -> Answer<Json<Value>> {
    let app = caller.app_seq()?;
    let channel = gateway.channels.by_name(app, names.get("name"));
    let channel = channel.ok_or_else(|| Problem::not_found("channel"))?;
    if matches!(channel.route.state, ChannelState::Paused | ChannelState::AuthFailed) {
        let why = "it is paused or its credentials are refused, so a message would wait; resume it, or mend it and check it";
        return Err(Problem::new(StatusCode::CONFLICT, "channel_unusable", why));
    }
    let accepted = messages::accept_test(&gateway, app, message(&channel.record.name, body.value)?).await?;
    let found = outcome(&gateway, accepted.id).await?;
    // Where the vendor has not been asked yet, it is not asked any more.
    if found.as_ref().is_none_or(|row| row.state == Stage::Pending) {
        gateway.pipeline.cancel(accepted.id).await?;
    }
    let target = gateway.store.deliveries(accepted.id, &DeliveryFilter::default(), None, 1).await?;
    let Some(row) = target.into_iter().next() else {
        // A vendor that is down: nothing is recorded of it, and the message is cancelled.
        let why = "nothing was sent: the channel did not get to it within 20 seconds; its state may say why";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "timed_out", why).retry_after(30));
    };
    let delivery = deliveries::told(&gateway, &row).await?;
    let last = delivery["trail"].as_array().and_then(|trail| trail.last()).map(|entry| entry["text"].clone());
    Ok(Json(json!({
        "message_id": gateway.codec.encode(Kind::Message, accepted.id),
        "ok": !matches!(row.state, Stage::Pending) && row.state.rank() != Stage::Failed.rank(),
        "detail": last,
        "delivery": delivery,
    })))
}

/// The message that a test is.
fn message(channel: &str, body: Value) -> Answer<Value> {
    let Value::Object(mut members) = body else {
        return Err(
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_field", "must be an object").at("")
        );
    };
    if let Some(odd) = members.keys().find(|name| !MEMBERS.contains(&name.as_str())) {
        let at = format!("/{}", super::fields::escape(odd));
        let why =
            "there is no such field here; a test has `to`, `notification`, `data`, `category`, `overrides`";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown_field", why).at(at));
    }
    let lists = ["device_ids", "tokens", "phones"].map(|name| members.get("to").map(|to| &to[name]));
    let targets: usize = lists.iter().flatten().map(|list| list.as_array().map_or(0, Vec::len)).sum();
    if targets != 1 {
        let why = "must name exactly one target, in `device_ids`, `tokens` or `phones`";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_field", why).at("/to"));
    }
    if !members.contains_key("notification") && !members.contains_key("data") {
        let text = format!("A test of the channel {channel}.");
        members.insert("notification".into(), json!({"title": "Test", "body": text}));
    }
    members.insert("class".into(), "transactional".into());
    members.insert("label".into(), LABEL.into());
    members.insert("ttl_seconds".into(), TTL_SECONDS.into());
    members.insert("delivery".into(), "at_most_once".into());
    members.insert("route".into(), json!({"steps": [{"use": channel}]}));
    Ok(Value::Object(members))
}

/// Waits until something has become of the one delivery; what, if anything.
async fn outcome(gateway: &Gateway, message: Id) -> Answer<Option<Delivery>> {
    let until = tokio::time::Instant::now() + TIME;
    loop {
        let filter = DeliveryFilter::default();
        let row = gateway.store.deliveries(message, &filter, None, 1).await?.into_iter().next();
        if row.as_ref().is_some_and(|row| row.state != Stage::Pending) || tokio::time::Instant::now() >= until
        {
            return Ok(row);
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}
