//! Cancelling: what has not been handed over ends `cancelled`, what waits in an inbox is withdrawn.
//!
//! The message's generation is raised first. Whoever is about to send compares it: a desk for each page, a gate for
//! each vendor request. So nothing is handed over under an old generation, and nobody has to be waited for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anypush_providers::contract::{Gate, Pass, Reason};
use async_trait::async_trait;

use crate::delivery::aside;
use crate::delivery::job::Job;
use crate::delivery::page::{Decided, Page};
use crate::delivery::pipeline::{Inner, Pipeline};
use crate::delivery::record;
use crate::delivery::state::{Delivery, Event, State, View};
use crate::delivery::trail::TrailEntry;
use crate::ids::{Id, Kind};
use crate::store::{Lease, StoreError, WorkItem, WorkKind};

/// Pages that are ended in one transaction.
const AT_ONCE: usize = 8;
/// How long the caller waits for requests that are under way.
const PROMPT: Duration = Duration::from_secs(1);
/// How long what is under way may take to come back to be ended.
const LINGER: Duration = Duration::from_mins(2);

impl Pipeline {
    /// Cancels a message. When this returns, nothing more is handed over; requests that were under way for longer
    /// than a second are still pending and are settled in the background.
    pub async fn cancel(&self, message: Id) -> Result<(), StoreError> {
        let inner = &self.inner;
        let public_id = inner.parts.codec.encode(Kind::Message, message);
        let Some(generation) = inner.parts.store.cancel(message, &public_id, inner.now_ms()).await? else {
            return Ok(());
        };
        inner.generations.insert(message, generation);
        inner.forget(message);
        inner.cancels.send_modify(|n| *n += 1);
        if settle(inner, message, PROMPT).await? {
            return Ok(());
        }
        let later = Arc::clone(inner);
        inner.parts.tasks.spawn("cancel", async move {
            tokio::select! {
                () = later.parts.tasks.stopped() => {}
                settled = settle(&later, message, LINGER) => if let Err(error) = settled {
                    tracing::warn!(message.id = message.0, "a cancelled message is settled by its channels: {error}");
                },
            }
        });
        Ok(())
    }
}

impl Inner {
    /// Whether a message was cancelled since its job was read, or before.
    pub(super) fn is_stopped(&self, job: &Job) -> bool {
        job.record.state >= 2
            || self.generations.get(&job.id).is_some_and(|generation| generation > job.record.generation)
    }
}

/// Ends what is free until nothing is pending; `false` where something still was at the end of the time.
async fn settle(inner: &Arc<Inner>, message: Id, most: Duration) -> Result<bool, StoreError> {
    let until = tokio::time::Instant::now() + most;
    loop {
        sweep(inner, message).await?;
        let store = &inner.parts.store;
        let ended: u64 =
            store.counters(message).await?.iter().filter(|c| c.view == View::Now).map(|c| c.n).sum();
        let record = store.message(message).await?;
        if record.is_none_or(|record| record.expanded_at.is_some() && ended >= record.targeted) {
            return Ok(true);
        }
        if tokio::time::Instant::now() >= until {
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Finishes the cancels that an earlier life began: pages end at their desks, what waits in inboxes ends here.
pub(super) async fn finish(inner: Arc<Inner>) {
    let store = &inner.parts.store;
    let finished = async {
        for message in store.half_cancelled().await? {
            while !inner.parts.tasks.is_stopping() && store.withdraw(message, inner.now_ms()).await? > 0 {}
        }
        Ok::<_, StoreError>(())
    };
    if let Err(error) = finished.await {
        tracing::warn!("a cancel that was interrupted is finished by the next start or call: {error}");
    }
}

/// Ends the pages that nobody holds, and takes back what no phone was given.
async fn sweep(inner: &Arc<Inner>, message: Id) -> Result<(), StoreError> {
    let store = &inner.parts.store;
    loop {
        let lease = Lease {
            kind: WorkKind::Page,
            channel: 0,
            lane: None,
            node: inner.parts.node,
            epoch: inner.epoch,
            now_ms: inner.now_ms(),
            until_ms: i64::MAX as u64,
            limit: AT_ONCE,
        };
        let items = store.lease_of(message, lease).await?;
        if items.is_empty() {
            break;
        }
        for item in items {
            if let (Some(job), Some(page)) = (inner.job(message).await?, Page::decode(&item.payload)) {
                end_cancelled(inner, &job, &item, &page).await?;
            } else {
                aside::unreadable(inner, &item).await?;
            }
        }
    }
    while store.withdraw(message, inner.now_ms()).await? > 0 {}
    Ok(())
}

/// Ends a page of a cancelled message.
pub(super) async fn end_cancelled(
    inner: &Arc<Inner>,
    job: &Job,
    item: &WorkItem,
    page: &Page,
) -> Result<(), StoreError> {
    let at_ms = job.at_ms(inner.now_ms());
    end_open(inner, (job.id, at_ms), item, page, (State::Cancelled, Reason::Cancelled)).await
}

/// Ends a page of a message, at milliseconds since its creation: targets that nobody has end so, those whose request may
/// be under way unknown, all others stay as they are.
pub(super) async fn end_open(
    inner: &Arc<Inner>,
    (message, at_ms): (Id, u64),
    item: &WorkItem,
    page: &Page,
    end: (State, Reason),
) -> Result<(), StoreError> {
    let targets: Vec<_> = page.entries.iter().map(|entry| entry.target).collect();
    let rows = inner.parts.store.deliveries_of(message, &targets).await?;
    let rows: HashMap<u64, &Delivery> = rows.iter().map(|row| (row.target, row)).collect();
    let mut changes = record::done(item.id);
    for entry in &page.entries {
        let row = rows.get(&entry.target).copied();
        if row.is_some_and(|row| row.state != State::Pending) {
            continue;
        }
        let (state, reason) = if page.intent.contains(&entry.target) {
            (State::Unknown, Reason::VendorUnavailable)
        } else {
            end
        };
        changes.events.push(Event {
            reason: Some(reason),
            platform: entry.platform,
            decided: page.untold(entry, row).map(Decided::told),
            trail: vec![TrailEntry::Ended { at_ms, reason }],
            ..Event::new((message, entry.target), state, 0, at_ms)
        });
    }
    inner.recorders.rest.push_and_wait(changes, true).await;
    Ok(())
}

/// A gate that closes when its message is cancelled, also for those who already wait at it.
pub(super) struct Watched<G> {
    gate: Arc<G>,
    inner: Arc<Inner>,
    job: Arc<Job>,
}

impl<G> Watched<G> {
    pub(super) fn new(gate: Arc<G>, inner: &Arc<Inner>, job: &Arc<Job>) -> Self {
        Self { gate, inner: Arc::clone(inner), job: Arc::clone(job) }
    }
}

#[async_trait]
impl<G: Gate> Gate for Watched<G> {
    async fn pass(&self, targets: usize) -> Result<Pass, Reason> {
        let mut cancels = self.inner.cancels.subscribe();
        let pass = self.gate.pass(targets);
        tokio::pin!(pass);
        loop {
            if self.inner.is_stopped(&self.job) {
                return Err(Reason::Cancelled);
            }
            tokio::select! {
                biased;
                changed = cancels.changed() => if changed.is_err() { return Err(Reason::Cancelled) },
                pass = &mut pass => return pass,
            }
        }
    }
}
