//! What the pace of its credential means for a page, and what users see of it.
//!
//! While a vendor is down its pages wait in the store and burn no tries: each comes back when the breaker may let a
//! probe through, or at its deadline, to end there. Retries beyond the budget stay in their page for a while.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anypush_providers::contract::Reason;
use rand::RngExt as _;

use crate::channels::Channel;
use crate::clock::rfc3339;
use crate::delivery::dispatch::{InHand, put_back};
use crate::delivery::gate::{PageFacts, PageGate};
use crate::delivery::onward;
use crate::delivery::page::Entry;
use crate::delivery::pipeline::Inner;
use crate::delivery::state::State;
use crate::routing::ChannelState;
use crate::store::StoreError;

/// How long a vendor is down until its pages look for another channel: about what the first tries of one delivery take.
const PATIENCE: Duration = Duration::from_secs(15);
/// After which time a target that found none looks again, in seconds.
const LOOK_AGAIN: u64 = 60;
/// Longest wait for the retry budget, so that pages of one outage do not all come back in the same second.
const SPREAD_MS: u64 = 10_000;
/// How often the states of channels are compared with their breakers while one is not closed.
const WATCH: Duration = Duration::from_secs(2);

/// The page's view of its credential's gate.
pub(super) fn gate(hand: &InHand<'_>, channel: &Channel) -> Arc<PageGate> {
    let inner = hand.inner;
    let facts = PageFacts {
        class: hand.job.record.class,
        message: hand.job.id.0 as u64,
        is_first: hand.item.attempt == 0,
        left: Duration::from_millis(hand.job.ends_at().saturating_sub(inner.now_ms())),
    };
    inner.gates.view(channel, &facts, &inner.parts.tasks)
}

/// Keeps back what may not be sent now: all of it while the breaker is open (`None`: the page went away), retries
/// beyond the budget otherwise.
pub(super) async fn keep_back(
    hand: &mut InHand<'_>,
    gate: &PageGate,
) -> Result<Option<Vec<Entry>>, StoreError> {
    if let Some(wait) = gate.closed_for() {
        stand_aside(hand, wait, gate.down_for()).await?;
        return Ok(None);
    }
    let all = hand.page.entries.len();
    if hand.item.attempt == 0 || all == 0 {
        return Ok(Some(Vec::new()));
    }
    let granted = gate.retry(all);
    let wait = rand::rng().random_range(1000..=SPREAD_MS);
    if granted == 0 {
        put_back(hand.inner, hand.place, hand.item, hand.left_out(), in_time(hand, wait)).await;
        return Ok(None);
    }
    let kept = hand.page.entries.split_off(granted);
    if !kept.is_empty() {
        hand.rest_until = hand.inner.now_ms() + in_time(hand, 1000);
    }
    Ok(Some(kept))
}

/// Says when what the gate refused comes back.
pub(super) fn rest(hand: &mut InHand<'_>, gate: &PageGate) {
    if let Some(wait) = gate.closed_for() {
        let until = hand.inner.now_ms() + in_time(hand, wait.as_millis() as u64);
        hand.rest_until = hand.rest_until.max(until);
    }
}

/// The vendor is down: the page waits, or its targets go on to another channel once the outage lasts.
async fn stand_aside(hand: &mut InHand<'_>, wait: Duration, down_for: Duration) -> Result<(), StoreError> {
    let of_app = hand.inner.parts.channels.of_app(hand.job.record.app);
    let is_other = |c: &Arc<Channel>| c.record.seq != hand.item.channel && c.route.state == ChannelState::Ok;
    // A step whose own time is over makes way at once.
    if (down_for < PATIENCE && !hand.is_step_over(wait)) || !of_app.iter().any(is_other) {
        // Behind the probe's turn, so that the page that brings the probe is not overtaken by a thousand.
        let wait = wait.as_millis() as u64 + rand::rng().random_range(0..100);
        put_back(hand.inner, hand.place, hand.item, hand.left_out(), in_time(hand, wait)).await;
        return Ok(());
    }
    let leaver = |entry: &Entry| {
        let event = hand.event(entry, State::Pending, Some(Reason::VendorUnavailable));
        let else_retry = Some((hand.item.attempt, LOOK_AGAIN));
        onward::Leaver { entry: entry.clone(), event, reason: Reason::VendorUnavailable, else_retry }
    };
    let leavers = hand.page.entries.iter().map(leaver).collect();
    let whole = InHand {
        inner: hand.inner,
        item: hand.item,
        ahead: hand.ahead,
        job: Arc::clone(&hand.job),
        page: std::mem::take(&mut hand.page),
        decisions: std::mem::take(&mut hand.decisions),
        armed: std::mem::take(&mut hand.armed),
        to_ask: std::mem::take(&mut hand.to_ask),
        rest_until: 0,
        place: hand.place,
        turn: None,
        claim: hand.claim.take(),
        shorter: hand.shorter,
    };
    onward::finish(whole, leavers, BTreeMap::new(), Vec::new()).await
}

/// A wait in milliseconds, but not beyond the message's time.
fn in_time(hand: &InHand<'_>, wait_ms: u64) -> u64 {
    wait_ms.min(hand.job.ends_at().saturating_sub(hand.inner.now_ms()))
}

/// Shows breakers as states of their channels until the process stops: `down` while one is open. It looks when a
/// breaker's bell rings, and from time to time, because an open breaker becomes one that may probe without a sound.
pub(super) async fn watch(inner: Arc<Inner>) {
    loop {
        let channels = inner.parts.channels.all();
        inner.gates.keep_only(&channels);
        for channel in channels.iter().filter(|channel| !channel.is_direct()) {
            show(&inner, channel).await;
        }
        tokio::select! {
            () = inner.parts.tasks.stopped() => return,
            () = inner.gates.bell.notified() => {}
            () = tokio::time::sleep(WATCH) => {}
        }
    }
}

async fn show(inner: &Inner, channel: &Channel) {
    let used_up = inner.quota_closed(channel, "");
    let (state, info) = match (channel.route.state, used_up, inner.gates.is_down(channel)) {
        (ChannelState::Ok | ChannelState::Down, Some(until), _) => {
            let info = format!("the vendor calls the quota used up until {}", rfc3339(until));
            (ChannelState::QuotaExhausted, Some(info))
        }
        // An earlier life may have left `down` behind: where no gate says so, it is not.
        (ChannelState::Ok, None, true) => {
            (ChannelState::Down, Some("the vendor does not answer or fails".into()))
        }
        (ChannelState::QuotaExhausted, None, _) | (ChannelState::Down, None, false) => {
            (ChannelState::Ok, None)
        }
        _ => return,
    };
    match inner.parts.channels.found(channel, state, info).await {
        Ok(true) if state == ChannelState::Down => {
            tracing::warn!(channel.name = %channel.record.name, "the channel's vendor is down");
        }
        Ok(true) => tracing::info!(channel.name = %channel.record.name, "the channel is tried again"),
        Ok(false) => {}
        Err(error) => tracing::warn!("a channel's state could not be kept: {error}"),
    }
}
