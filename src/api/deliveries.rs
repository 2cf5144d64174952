//! `/v1/messages/{id}/deliveries`: one message on its way to each target.
//!
//! Recorded deliveries come first, by target. Targets that nobody has tried yet stand only in the pages of waiting
//! work; they follow, as `pending`, read from at most [`PAGES`] pages: a list that changes under the reader is
//! complete only when the message is done.

use std::collections::HashMap;
use std::sync::Arc;

use anypush_providers::contract::Reason;
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::auth::Caller;
use super::extract::{Names, Query};
use super::problem::{Answer, Problem};
use super::{address, messages, story};
use crate::app::Gateway;
use crate::clock::rfc3339;
use crate::delivery::state::{Delivery, State as Stage};
use crate::ids::{GIVEN_TARGETS, Id, Kind};
use crate::store::{DeliveryFilter, NewTarget, Store, StoreError};

/// Pages of waiting work that a list looks into.
const PAGES: usize = 200;

/// A delivery without its trail. `target` says whom it is for.
pub(super) fn view(gateway: &Gateway, delivery: &Delivery, target: Value) -> Value {
    let created = delivery.message.unix_ms();
    let at = |ms: Option<u64>| ms.map(|ms| rfc3339(created + ms));
    let channel = gateway.channels.by_seq(delivery.channel).map(|c| c.record.name.clone());
    let mut shown = json!({
        "id": gateway.codec.encode_delivery(delivery.message, delivery.target),
        "message_id": gateway.codec.encode(Kind::Message, delivery.message),
        "state": delivery.state.as_str(),
        "reason": delivery.reason.map(Reason::as_str),
        "channel": channel,
        "vendor_id": delivery.vendor_id,
        "updated_at": rfc3339(created + delivery.updated_ms),
        "accepted_at": at(delivery.reached_ms[0]),
        "delivered_at": at(delivery.reached_ms[1]),
        "displayed_at": at(delivery.reached_ms[2]),
        "clicked_at": at(delivery.reached_ms[3]),
    });
    if let (Value::Object(shown), Value::Object(target)) = (&mut shown, target) {
        shown.extend(target);
    }
    shown
}

/// A target that waits: nothing is recorded of it yet.
fn waiting(message: Id, target: u64) -> Delivery {
    Delivery {
        message,
        target,
        state: Stage::Pending,
        reason: None,
        channel: 0,
        vendor_id: None,
        updated_ms: 0,
        reached_ms: [None; 4],
        trail: Vec::new(),
    }
}

/// Whom targets are, as the API names them: a device's id, or a given address with a shortened token.
pub(crate) async fn name_targets(
    store: &dyn Store,
    message: Id,
    targets: &[u64],
) -> Result<HashMap<u64, Value>, StoreError> {
    let (given, devices): (Vec<u64>, Vec<u64>) = targets.iter().partition(|t| **t >= GIVEN_TARGETS);
    let mut names = HashMap::new();
    for (seq, id) in store.device_ids(&devices).await? {
        names.insert(seq, json!({"device_id": id}));
    }
    if !given.is_empty() {
        let indexes: Vec<u64> = given.iter().map(|target| target - GIVEN_TARGETS).collect();
        for (index, target) in store.given_targets(message, &indexes).await? {
            names.insert(GIVEN_TARGETS + index % GIVEN_TARGETS, given_view(target));
        }
    }
    Ok(names)
}

fn given_view(target: NewTarget) -> Value {
    match (target.provider, target.token, target.given) {
        (Some(provider), Some(token), _) => json!({"address": address::shown(&provider, &token)}),
        // An id that names nothing: what the call said.
        (_, _, Some(given)) => json!({"given": given}),
        _ => json!({}),
    }
}

/// `GET /v1/messages/{id}/deliveries`
pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
    mut query: Query,
) -> Answer<Json<Value>> {
    let app = caller.app_seq()?;
    let message = messages::find(&gateway, app, &names).await?.id;
    let state = query.choice("state", |t| Stage::ALL.into_iter().find(|s| s.as_str() == t))?;
    let reason = query.choice("reason", |t| Reason::ALL.into_iter().find(|r| r.as_str() == t))?;
    let channel = query.text("channel");
    let page =
        query.page(&gateway, format!("deliveries {app} {message:?} {state:?} {reason:?} {channel:?}"))?;
    let channel = match channel.map(|name| gateway.channels.by_name(app, &name)) {
        None => None,
        Some(Some(found)) => Some(found.record.seq),
        // No such channel: nothing went through it.
        Some(None) => return Ok(page.answer(&gateway, &[], None)),
    };
    let filter = DeliveryFilter { state, channel, reason };
    let place = page
        .place
        .as_deref()
        .and_then(|p| p.split_once(' '))
        .and_then(|(kind, after)| Some((kind == "waiting", after.parse::<u64>().ok()?)));
    let mut found = Vec::new();
    if place.is_none_or(|(waiting, _)| !waiting) {
        let after = place.map(|(_, after)| after);
        found = gateway.store.deliveries(message, &filter, after, page.limit + 1).await?;
    }
    let mut next = None;
    if found.len() > page.limit {
        found.truncate(page.limit);
        next = found.last().map(|delivery| format!("recorded {}", delivery.target));
    } else if matches!(state, None | Some(Stage::Pending)) && channel.is_none() && reason.is_none() {
        let after = place.filter(|(waiting, _)| *waiting).map(|(_, after)| after);
        let room = page.limit - found.len();
        let mut targets = waiting_targets(&gateway, message, after, room + 1).await?;
        if targets.len() > room {
            targets.truncate(room);
            // With no room at all the waiting ones begin on the next page, at their first.
            next = Some(targets.last().map_or_else(|| "waiting".into(), |t| format!("waiting {t}")));
            if room == 0 {
                next = found.last().map(|delivery| format!("recorded {}", delivery.target));
            }
        }
        found.extend(targets.into_iter().map(|target| waiting(message, target)));
    }
    let targets: Vec<u64> = found.iter().map(|delivery| delivery.target).collect();
    let mut names = name_targets(&*gateway.store, message, &targets).await?;
    let shown = found.iter().map(|d| view(&gateway, d, names.remove(&d.target).unwrap_or_default()));
    Ok(page.answer(&gateway, &shown.collect::<Vec<_>>(), next))
}

/// Targets that stand only in pages of waiting work, in order.
async fn waiting_targets(
    gateway: &Gateway,
    message: Id,
    after: Option<u64>,
    limit: usize,
) -> Answer<Vec<u64>> {
    let pages = gateway.store.pending_pages(message, PAGES).await?;
    let mut targets: Vec<u64> =
        pages.iter().flat_map(|page| &page.entries).map(|entry| entry.target).collect();
    targets.retain(|target| after.is_none_or(|after| *target > after));
    targets.sort_unstable();
    targets.dedup();
    let mut found = Vec::new();
    for some in targets.chunks(1000) {
        let recorded = gateway.store.deliveries_of(message, some).await?;
        found.extend(some.iter().filter(|target| !recorded.iter().any(|d| d.target == **target)));
        if found.len() >= limit {
            found.truncate(limit);
            break;
        }
    }
    Ok(found)
}

/// `GET /v1/messages/{id}/deliveries/{delivery_id}`
pub(super) async fn get(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
) -> Answer<Json<Value>> {
    let message = messages::find(&gateway, caller.app_seq()?, &names).await?.id;
    let absent = || Problem::not_found("delivery");
    let (of, target) = gateway.codec.decode_delivery(names.get("delivery_id")).ok_or_else(absent)?;
    if of != message {
        return Err(absent());
    }
    let mut found = gateway.store.deliveries_of(message, &[target]).await?;
    let delivery = found.pop().unwrap_or_else(|| waiting(message, target));
    Ok(Json(told(&gateway, &delivery).await?))
}

/// A delivery with its trail.
pub(super) async fn told(gateway: &Gateway, delivery: &Delivery) -> Answer<Value> {
    let Delivery { message, target, .. } = *delivery;
    let name = name_targets(&*gateway.store, message, &[target]).await?.remove(&target).unwrap_or_default();
    let mut shown = view(gateway, delivery, name);
    shown["trail"] = story::tell(delivery, |seq| {
        gateway.channels.by_seq(seq).map_or_else(|| format!("channel {seq}"), |c| c.record.name.clone())
    });
    Ok(shown)
}
