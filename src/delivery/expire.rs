//! Ends what phones have not taken from their inbox by the deadline.

use std::sync::Arc;
use std::time::Duration;

use anypush_providers::contract::Reason;

use crate::delivery::aside;
use crate::delivery::page::Page;
use crate::delivery::pipeline::Inner;
use crate::delivery::record;
use crate::delivery::state::{Event, State};
use crate::delivery::trail::TrailEntry;
use crate::store::{Changes, StoreError, WorkItem, WorkKind, WorkUpdate};

/// Items that are leased at once.
const AT_ONCE: usize = 8;
/// Longest sleep: new items are due at their message's deadline, and this one looks in between.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Runs until the process stops.
pub(super) async fn run(inner: Arc<Inner>) {
    while !inner.parts.tasks.is_stopping() {
        for channel in inner.aside.over(inner.now_ms()) {
            inner.desk(channel).nudge(0);
        }
        let wait = match round(&inner).await {
            Ok(true) => continue,
            Ok(false) => LOOK_AGAIN,
            Err(error) => {
                tracing::warn!("deliveries cannot be ended at their deadline yet: {error}");
                Duration::from_secs(1)
            }
        };
        tokio::select! {
            () = inner.parts.tasks.stopped() => return,
            () = soon(&inner) => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Resolves shortly after there is something new, or at its time where that is earlier.
async fn soon(inner: &Inner) {
    inner.expire_bell.notified().await;
    let due = inner.parts.store.next_due(WorkKind::Expire, 0).await.ok().flatten();
    let left = due.map_or(LOOK_AGAIN, |due| Duration::from_millis(due.saturating_sub(inner.now_ms())));
    tokio::time::sleep(left.min(Duration::from_secs(1))).await;
}

/// One round; `true` where more may be due.
async fn round(inner: &Arc<Inner>) -> Result<bool, StoreError> {
    let items = inner.lease(WorkKind::Expire, 0, None, AT_ONCE).await?;
    let more = items.len() == AT_ONCE;
    let mut failed = Ok(more);
    for item in items {
        let changes = match expire(inner, &item).await {
            Ok(Some(changes)) => changes,
            Ok(None) => continue,
            Err(error) => {
                failed = Err(error);
                later(inner, &item)
            }
        };
        inner.recorders.rest.push_and_wait(changes, false).await;
    }
    failed
}

/// Frees an item: a lease does not end by itself before the next start.
fn later(inner: &Inner, item: &WorkItem) -> Changes {
    let update = WorkUpdate {
        id: item.id,
        epoch: item.epoch,
        due_at: inner.now_ms() + 1000,
        attempt: item.attempt,
        payload: None,
        lease_until: 0,
    };
    Changes { work_updates: vec![update], ..Changes::default() }
}

/// What ends with an item; `None` where it cannot be read.
async fn expire(inner: &Arc<Inner>, item: &WorkItem) -> Result<Option<Changes>, StoreError> {
    let mut changes = record::done(item.id);
    let created_at = match inner.job(item.message).await? {
        Some(job) => Some(job.record.created_at),
        // What a newer version wants with the message does not matter here.
        None => inner.parts.store.message(item.message).await?.map(|message| message.created_at),
    };
    let (Some(created_at), Some(page)) = (created_at, Page::decode(&item.payload)) else {
        aside::unreadable(inner, item).await?;
        return Ok(None);
    };
    let targets: Vec<_> = page.entries.iter().map(|entry| entry.target).collect();
    let at_ms = inner.now_ms().saturating_sub(created_at);
    for delivery in inner.parts.store.deliveries_of(item.message, &targets).await? {
        // Also where a further step has it by now: this message is over.
        changes.inbox_done.push((delivery.target, item.message));
        let direct = inner.parts.channels.by_seq(delivery.channel).is_some_and(|channel| channel.is_direct());
        if delivery.state != State::Accepted || !direct {
            continue;
        }
        changes.events.push(Event {
            reason: Some(Reason::Expired),
            trail: vec![TrailEntry::Ended { at_ms, reason: Reason::Expired }],
            ..Event::new((item.message, delivery.target), State::Expired, delivery.channel, at_ms)
        });
    }
    Ok(Some(changes))
}
