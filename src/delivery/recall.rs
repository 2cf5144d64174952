//! Recalling: cancelled, taken out of inboxes, and connected phones told to take it off their screen.
//!
//! A cancel leaves alone what a phone was given. A recall goes on where it ends: all deliveries are walked, a page in a
//! transaction, with the place in the work item; so it survives a crash and costs no memory. What a vendor has stays
//! with the vendor: no vendor that is built documents how to take a message back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anypush_providers::contract::Reason;

use crate::delivery::aside;
use crate::delivery::pipeline::{Inner, LEASE_MS, Pipeline};
use crate::delivery::record;
use crate::delivery::state::{Delivery, Event, State};
use crate::delivery::trail::TrailEntry;
use crate::ids::{GIVEN_TARGETS, Id};
use crate::store::{Changes, DeliveryFilter, NewWork, StoreError, WorkItem, WorkKind, WorkLane, WorkUpdate};

/// Deliveries that one transaction covers.
const STRIDE: usize = 1000;
/// How long the caller waits for it.
const PROMPT: Duration = Duration::from_secs(2);
/// How often what an earlier life left is looked for.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How far a recall is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recalled {
    /// Phones that were told so far.
    pub told: u64,
    /// Whether all deliveries were walked.
    pub complete: bool,
}

impl Pipeline {
    /// Cancels a message and takes it back from phones, as far as these are the gateway's own. When this returns,
    /// it is stopped; what takes longer than two seconds goes on in the background.
    pub async fn recall(&self, app: i64, message: Id) -> Result<Recalled, StoreError> {
        self.cancel(message).await?;
        let inner = &self.inner;
        let now = inner.now_ms();
        let work = NewWork {
            id: inner.next_id(),
            kind: WorkKind::Recall,
            channel: 0,
            lane: WorkLane::Transactional,
            app,
            message,
            due_at: now,
            attempt: 0,
            leased: Some((inner.parts.node, inner.epoch, now + LEASE_MS)),
            payload: 0u64.to_be_bytes().to_vec(),
        };
        let item = work.as_item(inner.epoch);
        inner.parts.store.commit(Changes { work: vec![work], ..Changes::default() }).await?;
        let told = Arc::new(AtomicU64::new(0));
        let (later, counted) = (Arc::clone(inner), Arc::clone(&told));
        let (done, finished) = tokio::sync::oneshot::channel();
        inner.parts.tasks.spawn("recall", async move {
            walk_or_free(&later, &item, &counted).await;
            let _ = done.send(());
        });
        let complete = matches!(tokio::time::timeout(PROMPT, finished).await, Ok(Ok(())));
        Ok(Recalled { told: told.load(Ordering::Relaxed), complete })
    }
}

/// Runs until the process stops: goes on with what an earlier life, or a store that was busy, left.
pub(super) async fn run(inner: Arc<Inner>) {
    while !inner.parts.tasks.is_stopping() {
        match inner.lease(WorkKind::Recall, 0, None, 1).await {
            Ok(items) if items.is_empty() => {}
            Ok(items) => {
                for item in items {
                    walk_or_free(&inner, &item, &AtomicU64::new(0)).await;
                }
                continue;
            }
            Err(error) => tracing::warn!("recalls wait, the store failed: {error}"),
        }
        tokio::select! {
            () = inner.parts.tasks.stopped() => return,
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}

async fn walk_or_free(inner: &Arc<Inner>, item: &WorkItem, told: &AtomicU64) {
    if let Err(error) = walk(inner, item, told).await {
        tracing::warn!(work.id = item.id.0, "a recall goes on later: {error}");
        let update = WorkUpdate {
            id: item.id,
            epoch: item.epoch,
            due_at: inner.now_ms() + 1000,
            attempt: item.attempt + 1,
            payload: None,
            lease_until: 0,
        };
        inner.recorders.rest.push(Changes { work_updates: vec![update], ..Changes::default() }, false).await;
    }
}

/// Walks the deliveries of a message from the item's place on.
async fn walk(inner: &Arc<Inner>, item: &WorkItem, told: &AtomicU64) -> Result<(), StoreError> {
    let store = &inner.parts.store;
    let Ok(place) = item.payload.as_slice().try_into() else { return aside::unreadable(inner, item).await };
    // The place is one behind the last delivery; 0: at the beginning.
    let mut place = u64::from_be_bytes(place);
    let Some(created_at) = store.message(item.message).await?.map(|message| message.created_at) else {
        inner.recorders.rest.push_and_wait(record::done(item.id), false).await;
        return Ok(());
    };
    while !inner.parts.tasks.is_stopping() {
        let after = place.checked_sub(1);
        let rows = store.deliveries(item.message, &DeliveryFilter::default(), after, STRIDE).await?;
        let at_ms = inner.now_ms().saturating_sub(created_at);
        let devices = rows.iter().filter(|row| row.target < GIVEN_TARGETS && is_with_a_phone(row));
        // Before it is written down: a phone may hear it twice, and never not at all.
        let heard = inner.parts.hub.recall(devices.map(|row| row.target), item.message);
        told.fetch_add(heard.len() as u64, Ordering::Relaxed);
        let mut changes = Changes::default();
        for row in &rows {
            changes.events.extend(event(inner, row, heard.contains(&row.target), at_ms));
            if row.target < GIVEN_TARGETS {
                changes.inbox_done.push((row.target, item.message));
            }
        }
        if rows.len() < STRIDE {
            changes.append(record::done(item.id));
        } else {
            place = rows.last().map_or(place, |row| row.target + 1);
            changes.work_updates.push(WorkUpdate {
                id: item.id,
                epoch: item.epoch,
                due_at: item.due_at,
                attempt: item.attempt,
                payload: Some(place.to_be_bytes().to_vec()),
                lease_until: i64::MAX as u64,
            });
        }
        if !inner.recorders.rest.push_and_wait(changes, true).await || rows.len() < STRIDE {
            return Ok(());
        }
    }
    Ok(())
}

/// Whether a phone may have it, by whatever channel.
fn is_with_a_phone(row: &Delivery) -> bool {
    matches!(
        row.state,
        State::Accepted | State::Delivered | State::Displayed | State::Clicked | State::Unknown
    )
}

/// What a recall does to a delivery; nothing where a vendor has it and no phone could be told.
fn event(inner: &Inner, row: &Delivery, told: bool, at_ms: u64) -> Option<Event> {
    let own = inner.parts.channels.by_seq(row.channel).is_some_and(|channel| channel.is_direct());
    let withdrawn = own && row.state == State::Accepted;
    (withdrawn || told).then(|| Event {
        reason: if withdrawn { Some(Reason::Cancelled) } else { row.reason },
        trail: vec![TrailEntry::Recalled { at_ms, told }],
        ..Event::new(
            (row.message, row.target),
            if withdrawn { State::Cancelled } else { row.state },
            row.channel,
            at_ms,
        )
    })
}
