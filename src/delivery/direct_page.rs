//! A page through the gateway's own connections: accepted means stored in the inbox.

use anypush_providers::contract::Reason;

use crate::delivery::collapse;
use crate::delivery::dispatch::InHand;
use crate::delivery::onward::{self, Leaver};
use crate::delivery::page::{Entry, Page};
use crate::delivery::record;
use crate::delivery::state::State;
use crate::delivery::trail::{Next, TrailEntry};
use crate::direct;
use crate::store::{Changes, NewInbox, NewWork, Refusable, StoreError, WorkKind, WorkUpdate};

/// Puts a page into inboxes, in one transaction with its records, and wakes the phones that are connected.
pub(super) async fn send(mut hand: InHand<'_>) -> Result<(), StoreError> {
    collapse::take_turn(&mut hand, true).await?;
    if direct::is_too_large(hand.job.size) {
        leave_all(hand, Reason::PayloadTooLarge).await;
        return Ok(());
    }
    let now_only = hand.job.spec.ttl_seconds == 0;
    let (stay, leave): (Vec<_>, Vec<_>) = hand
        .page
        .entries
        .iter()
        .cloned()
        .partition(|entry| !now_only || hand.inner.parts.hub.is_connected(entry.target));
    let mut changes = Changes::default();
    for entry in &stay {
        let mut event = hand.event(entry, State::Accepted, None);
        event.trail.push(attempted(&hand, None));
        changes.events.push(event);
        changes.inbox.push(inbox(&hand, entry));
    }
    if !stay.is_empty() {
        changes.work.push(expiry(&hand, &stay));
        changes.work.extend(onward::armed(&hand, &stay));
        changes.refusable.push(refusable(&hand, &stay));
    }
    let devices: Vec<_> = stay.iter().map(|entry| entry.target).collect();
    if leave.is_empty() {
        changes.append(record::done(hand.item.id));
    } else if !stay.is_empty() {
        changes.work_updates.push(shorter(&hand, &leave));
    }
    let recorded = hand.recorder().push_in_turn(changes, hand.urgent()).await;
    hand.turn = None;
    if recorded.await.is_ok() {
        hand.inner.parts.hub.wake(devices);
        hand.inner.expire_bell.notify_one();
        hand.inner.escalate_bell.notify_one();
    }
    if !leave.is_empty() {
        leave_these(hand, leave, Reason::DeviceUnavailable).await;
    }
    Ok(())
}

fn inbox(hand: &InHand<'_>, entry: &Entry) -> NewInbox {
    let record = &hand.job.record;
    NewInbox {
        device: entry.target,
        message: hand.job.id,
        class: record.class,
        size: hand.job.size,
        expires_at: hand.job.ends_at(),
        variables: entry.variables.as_ref().and_then(|values| serde_json::to_string(values).ok()),
    }
}

/// What ends the deliveries that no phone has taken by the deadline.
fn expiry(hand: &InHand<'_>, stay: &[Entry]) -> NewWork {
    let bare = |entry: &Entry| Entry { target: entry.target, ..Entry::default() };
    let page = Page { entries: stay.iter().map(bare).collect(), ..Page::default() };
    let work = hand.inner.page_work(&hand.job, 0, &page, hand.job.ends_at(), 0);
    NewWork { kind: WorkKind::Expire, ..work }
}

/// Those whose inbox is full are decided about again, at once and without this channel; whether there is anybody the
/// store finds out in the same transaction.
fn refusable(hand: &InHand<'_>, stay: &[Entry]) -> Refusable {
    let page = Page { wait: None, ..hand.page.with(stay.iter().map(|entry| hand.left(entry)).collect()) };
    let bare = Page::default();
    let work = hand.inner.page_work(&hand.job, 0, &bare, hand.inner.now_ms(), 0);
    Refusable { work: NewWork { kind: WorkKind::Escalate, ..work }, page }
}

/// The page without those that the transaction settles: after a crash it must not speak for them once more.
fn shorter(hand: &InHand<'_>, leave: &[Entry]) -> WorkUpdate {
    let page = Page { entries: leave.to_vec(), ..hand.page.clone() };
    WorkUpdate {
        id: hand.item.id,
        epoch: hand.item.epoch,
        due_at: hand.item.due_at,
        attempt: hand.item.attempt,
        payload: Some(page.encode()),
        lease_until: i64::MAX as u64,
    }
}

fn attempted(hand: &InHand<'_>, reason: Option<Reason>) -> TrailEntry {
    TrailEntry::Attempted {
        at_ms: hand.at_ms(),
        channel: hand.item.channel,
        attempt: hand.item.attempt + 1,
        reason,
        latency_ms: 0,
        status: None,
        code: None,
        words: None,
        next: Next::Nothing,
    }
}

async fn leave_all(hand: InHand<'_>, reason: Reason) {
    let entries = hand.page.entries.clone();
    leave_these(hand, entries, reason).await;
}

async fn leave_these(hand: InHand<'_>, entries: Vec<Entry>, reason: Reason) {
    let leavers = entries.into_iter().map(|entry| {
        let mut event = hand.event(&entry, State::Pending, Some(reason));
        event.trail.push(attempted(&hand, Some(reason)));
        Leaver { entry, event, reason, else_retry: None }
    });
    let leavers = leavers.collect();
    onward::finish_or_put_back(hand, leavers).await;
}
