//! Failures that come after a channel had accepted: back on the route, or the end.
//!
//! What comes in: failing receipts whose deliveries are known. What goes out: changes that put those deliveries back to
//! pending, with the work that decides again ([`crate::delivery::escalate`]), to be committed as one; what the vendor
//! let go because it is not wanted any more (a newer message, its time) ends instead. It never writes
//! itself: receipts must end in the same transaction.
//!
//! Nothing here is certain until the commit: [`crate::delivery::state::reenter`] looks once more at the row, and the
//! work that was written looks at it before it sends anything. So a receipt that comes twice, or after the delivery
//! has moved on, makes a work item that finds nothing to do.

use std::collections::BTreeMap;

use anypush_providers::contract::{DeliveryMode, Reason, ReceiptEvent, Then};

use crate::channels::Channel;
use crate::delivery::job::Job;
use crate::delivery::page::{Entry, Page};
use crate::delivery::pipeline::{Inner, Pipeline};
use crate::delivery::state::{Delivery, Event, LateFailure, State};
use crate::delivery::trail::{self, TrailEntry};
use crate::ids::Id;
use crate::store::{Changes, NewWork, StoreError, VendorReceipt, WorkKind};

impl Pipeline {
    /// What follows from failures that come after a channel had accepted: inside the TTL those deliveries go back
    /// on their routes, without the channels that were tried; else they end failed. To be committed by the caller
    /// with whatever brought them; then [`Self::announce`] starts what is in `work`.
    ///
    /// A delivery that has moved on meanwhile, or is another channel's, is left alone.
    pub async fn failed_late(&self, receipts: Vec<VendorReceipt>) -> Result<Changes, StoreError> {
        let inner = &self.inner;
        let mut by_message: BTreeMap<Id, Vec<VendorReceipt>> = BTreeMap::new();
        for receipt in receipts {
            by_message.entry(receipt.message).or_default().push(receipt);
        }
        let mut changes = Changes::default();
        for (message, receipts) in by_message {
            let job = inner.job(message).await?;
            let targets: Vec<_> = receipts.iter().map(|receipt| receipt.target).collect();
            let rows = inner.parts.store.deliveries_of(message, &targets).await?;
            let mut entries = BTreeMap::new();
            for receipt in receipts {
                let row = rows.iter().find(|row| row.target == receipt.target);
                let Some(row) = row.filter(|row| has_it(row, receipt.channel)) else { continue };
                let ReceiptEvent::Failed { reason, then } = receipt.event else { continue };
                let failure = failure(receipt, reason, job.as_deref());
                let goes_on = |job: &Job| {
                    !job.is_over(inner.now_ms()) && !inner.is_stopped(job) && may_go_on(inner, job, &failure)
                };
                if then == Then::End {
                    changes.events.push(let_go(failure));
                    continue;
                }
                if !job.as_deref().is_some_and(goes_on) {
                    changes.events.push(ended(failure, State::Failed));
                    continue;
                }
                let entry = entries.entry(failure.target).or_insert_with(|| Entry {
                    target: failure.target,
                    tried: tried(row),
                    ..Entry::default()
                });
                entry.tried.push(failure.channel);
                changes.late.push(failure);
            }
            let entries: Vec<_> = entries.into_values().collect();
            for (chunk, job) in entries.chunks(Page::MAX).zip(job.iter().cycle()) {
                let page = Page { entries: chunk.to_vec(), ..Page::default() };
                let work = inner.page_work(job, 0, &page, inner.now_ms(), 0);
                changes.work.push(NewWork { kind: WorkKind::Escalate, ..work });
            }
        }
        Ok(changes)
    }

    /// Whether what a receipt says about an address counts: dead ones are counted with those of outcomes, and too many
    /// of them retire none.
    pub async fn may_judge(&self, channel: &Channel, reason: Reason) -> bool {
        if reason != Reason::InvalidToken || self.inner.brake(channel, 1, 1).await {
            return true;
        }
        self.inner.parts.metrics.removals_held.inc();
        false
    }

    /// Starts work that was committed.
    pub fn announce(&self, work: &[NewWork]) {
        self.inner.announce(work);
    }
}

/// Whether a delivery stands at accepted, and this channel is the one that has it.
fn has_it(row: &Delivery, channel: i64) -> bool {
    row.state == State::Accepted && row.channel == channel
}

/// A failing receipt as what happened to its delivery.
fn failure(receipt: VendorReceipt, reason: Reason, job: Option<&Job>) -> LateFailure {
    let VendorReceipt { message, target, channel, received_at, vendor, .. } = receipt;
    let at_ms =
        job.map_or_else(|| received_at.saturating_sub(message.unix_ms()), |job| job.at_ms(received_at));
    let entry = TrailEntry::FailedLater { at_ms, channel, reason, code: vendor.code, words: vendor.words };
    LateFailure { message, target, channel, reason, at_ms, trail: vec![entry] }
}

/// Where an outcome that was never learned must not be repeated, only a failure that is certain goes on: a vendor that
/// lost track of a text message may have delivered it.
fn may_go_on(inner: &Inner, job: &Job, failure: &LateFailure) -> bool {
    let default =
        inner.parts.channels.by_seq(failure.channel).map(|c| c.descriptor.capabilities.default_delivery);
    let mode = job.spec.delivery.or(default).unwrap_or(DeliveryMode::AtMostOnce);
    let doubtful =
        matches!(failure.reason, Reason::VendorUnavailable | Reason::ProtocolError | Reason::Unclassified);
    mode == DeliveryMode::AtLeastOnce || !doubtful
}

/// The channels that a delivery has been tried through.
fn tried(row: &Delivery) -> Vec<i64> {
    let channel = |entry| match entry {
        TrailEntry::Attempted { channel, .. } => Some(channel),
        _ => None,
    };
    let mut tried: Vec<_> = trail::decode(&row.trail).into_iter().filter_map(channel).collect();
    tried.dedup();
    tried
}

/// The end of a delivery that its vendor let go: in the state in which the gateway itself ends for this reason.
fn let_go(mut failure: LateFailure) -> Event {
    let state = match failure.reason {
        Reason::Expired => State::Expired,
        Reason::Superseded => State::Suppressed,
        Reason::Cancelled => State::Cancelled,
        _ => State::Failed,
    };
    failure.trail.push(TrailEntry::Ended { at_ms: failure.at_ms, reason: failure.reason });
    ended(failure, state)
}

/// The end of a delivery that no further step can take.
fn ended(failure: LateFailure, state: State) -> Event {
    let LateFailure { message, target, channel, reason, at_ms, trail } = failure;
    Event { reason: Some(reason), trail, ..Event::new((message, target), state, channel, at_ms) }
}
