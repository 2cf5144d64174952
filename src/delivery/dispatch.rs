//! One page on its way: targets and addresses to a batch, the batch to the provider, outcomes to the recorder.
//!
//! A target belongs to exactly one work item until it ends: those that are tried again or go to the next channel move
//! into new items in the transaction that ends this one. So a page that is resumed after an unclean end sends exactly
//! what is not recorded, and a crash neither loses nor doubles a retry.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use anypush_providers::contract::Reason;
use futures_util::FutureExt as _;

use crate::delivery::ahead::Ahead;
use crate::delivery::collapse::Claim;
use crate::delivery::desk::{Handed, Place};
use crate::delivery::job::Job;
use crate::delivery::page::{Decided, Entry, Page};
use crate::delivery::pipeline::Inner;
use crate::delivery::record::Recorder;
use crate::delivery::standing::{self, Standing};
use crate::delivery::state::{Delivery, Event, State};
use crate::delivery::trail::TrailEntry;
use crate::delivery::{aside, cancel, direct_page, left, onward, record, sending};
use crate::routing::ChannelState;
use crate::store::{Changes, StoreError, WorkItem, WorkUpdate};

/// How long a page waits after the gateway itself failed at it.
const STUMBLED_MS: u64 = 1000;
/// How often a page looks whether its paused channel goes on.
const HELD_MS: u64 = 5000;
/// Audiences up to this size have somebody who watches.
const WATCHED: u64 = 100;

/// The right to be the next that hands its inbox entries to the recorder; the next in line waits for its drop.
pub(super) type Turn = tokio::sync::OwnedMutexGuard<()>;

/// A page in hand.
pub(super) struct InHand<'a> {
    pub(super) inner: &'a Arc<Inner>,
    pub(super) item: &'a WorkItem,
    /// What is known of its targets' addresses.
    pub(super) ahead: Option<&'a Ahead>,
    pub(super) job: Arc<Job>,
    pub(super) page: Page,
    /// The page's decisions as trails tell them.
    pub(super) decisions: Vec<Arc<[u8]>>,
    /// Targets that the channel has accepted and whose step waits for more.
    pub(super) armed: Vec<Entry>,
    /// Targets that the channel has accepted and whose vendor can be asked what became of them.
    pub(super) to_ask: Vec<Entry>,
    /// When what stays in the page is due again, in Unix milliseconds; 0 = at once.
    pub(super) rest_until: u64,
    /// Its place at the desk, which it may leave before it ends.
    pub(super) place: &'a Place,
    /// Held by pages of the own connection until the recorder has them.
    pub(super) turn: Option<Turn>,
    /// Where the message has a collapse key: dropped when the outcomes are on disk.
    pub(super) claim: Option<Claim>,
    /// The page is shorter than what is stored of it.
    pub(super) shorter: bool,
}

/// Sends a page. Whatever happens, its work item ends, moves or is free again afterwards.
pub(super) async fn page(inner: &Arc<Inner>, handed: Handed, place: &Place, turn: Option<Turn>) {
    let item = &handed.item;
    // A panic here is a bug of ours; it must cost this page a second, not its targets their message.
    match AssertUnwindSafe(begin(inner, &handed, place, turn)).catch_unwind().await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => tracing::warn!(work.id = item.id.0, "a page waits, the store failed: {error}"),
        Err(_) => tracing::error!(work.id = item.id.0, "a page stumbled and is tried again"),
    }
    put_back(inner, place, item, None, STUMBLED_MS).await;
}

async fn begin(
    inner: &Arc<Inner>,
    handed: &Handed,
    place: &Place,
    turn: Option<Turn>,
) -> Result<(), StoreError> {
    let Handed { item, ahead } = handed;
    let (Some(job), Some(page)) = (inner.job(item.message).await?, Page::decode(&item.payload)) else {
        return aside::unreadable(inner, item).await;
    };
    if inner.is_stopped(&job) {
        return cancel::end_cancelled(inner, &job, item, &page).await;
    }
    let mut hand = InHand {
        inner,
        item,
        ahead: ahead.as_deref(),
        job,
        decisions: page.decisions.iter().map(Decided::told).collect(),
        page,
        armed: Vec::new(),
        to_ask: Vec::new(),
        rest_until: 0,
        place,
        turn,
        claim: None,
        shorter: item.resumed,
    };
    // A retry too: the phone may have told meanwhile that it has what the vendor's lost answer was about.
    if item.resumed || item.attempt > 0 || hand.page.held.is_some() {
        hand.leave_out_recorded().await?;
    }
    if hand.job.is_over(inner.now_ms()) {
        hand.end_all(State::Expired, Reason::Expired).await;
        return Ok(());
    }
    left::leave_out(&mut hand).await?;
    let channel = inner.parts.channels.by_seq(item.channel).filter(|c| c.record.deleted_at.is_none());
    match channel {
        Some(channel) if channel.route.state == ChannelState::Paused => hand.hold().await,
        Some(channel) if channel.is_direct() => direct_page::send(hand).await?,
        Some(channel) => match channel.provider.clone() {
            Some(provider) => sending::send(hand, &channel, provider).await?,
            // Its configuration cannot be used: ops were told at start.
            None => onward::give_up(hand, Reason::AuthFailed).await?,
        },
        None => onward::give_up(hand, Reason::NoRoute).await?,
    }
    Ok(())
}

/// Frees a work item, so that it comes again after this time.
pub(super) async fn put_back(
    inner: &Arc<Inner>,
    place: &Place,
    item: &WorkItem,
    payload: Option<Vec<u8>>,
    after_ms: u64,
) {
    let due_at = inner.now_ms() + after_ms;
    let update =
        WorkUpdate { id: item.id, epoch: item.epoch, due_at, attempt: item.attempt, payload, lease_until: 0 };
    let changes = Changes { work_updates: vec![update], ..Changes::default() };
    if place.recorder(inner).push_and_wait(changes, true).await {
        inner.desk(item.channel).nudge(due_at);
    }
}

impl InHand<'_> {
    /// Milliseconds since the message's creation.
    pub(super) fn at_ms(&self) -> u64 {
        self.job.at_ms(self.inner.now_ms())
    }

    /// Where everything goes that is to be recorded of it.
    pub(super) fn recorder(&self) -> &Recorder {
        self.place.recorder(self.inner)
    }

    /// Whether a person is likely to watch.
    pub(super) fn urgent(&self) -> bool {
        self.page.entries.len() as u64 <= WATCHED
    }

    /// An event through this page's channel. Its trail tells the decision where it is not told yet, and nothing else.
    pub(super) fn event(&self, entry: &Entry, state: State, reason: Option<Reason>) -> Event {
        let decided = entry.decision.and_then(|index| self.decisions.get(usize::from(index)));
        Event {
            reason,
            platform: entry.platform,
            decided: decided.cloned(),
            ..Event::new((self.job.id, entry.target), state, self.item.channel, self.at_ms())
        }
    }

    /// An entry behind this page's channel.
    pub(super) fn left(&self, entry: &Entry) -> Entry {
        let mut tried = entry.tried.clone();
        tried.push(self.item.channel);
        Entry { decision: None, tried, counted: None, ..entry.clone() }
    }

    /// Ends one target of the page by the gateway's own doing. Where an earlier step of the route still has it, the
    /// store leaves it that ([`crate::delivery::state::apply`]).
    pub(super) fn ended(&self, entry: &Entry, state: State, reason: Reason) -> Event {
        let mut event = self.event(entry, state, Some(reason));
        event.trail.push(TrailEntry::Ended { at_ms: event.at_ms, reason });
        event
    }

    /// Whether this step's time will be over before another try.
    pub(super) fn is_step_over(&self, wait: Duration) -> bool {
        self.page.wait.is_some_and(|step| {
            let over = self.page.began_ms + u64::from(step.seconds) * 1000;
            self.at_ms() + wait.as_millis() as u64 > over
        })
    }

    /// Reads again what is recorded of the page's targets: after an unclean end what was handed over is not sent
    /// again, and a further step of a route leaves out whom the earlier one has reached meanwhile.
    async fn leave_out_recorded(&mut self) -> Result<(), StoreError> {
        let targets: Vec<_> = self.page.entries.iter().map(|entry| entry.target).collect();
        let recorded = self.inner.parts.store.deliveries_of(self.job.id, &targets).await?;
        let recorded: HashMap<u64, &Delivery> = recorded.iter().map(|row| (row.target, row)).collect();
        let intent: HashSet<u64> = std::mem::take(&mut self.page.intent).into_iter().collect();
        let channel = self.inner.parts.channels.by_seq(self.item.channel);
        let polls = channel.is_some_and(|channel| channel.descriptor.capabilities.polls_receipts);
        let mut lost = Vec::new();
        for mut entry in std::mem::take(&mut self.page.entries) {
            let row = recorded.get(&entry.target).copied();
            let begun = intent.contains(&entry.target);
            if polls
                && row.is_some_and(|row| row.state == State::Accepted && row.channel == self.item.channel)
            {
                self.to_ask.push(entry.clone());
            }
            entry.decision = entry.decision.filter(|_| self.page.untold(&entry, row).is_some());
            match standing::of(row, self.item, &self.page, begun) {
                Standing::Over => {}
                Standing::Accepted => self.armed.push(entry),
                Standing::Lost => lost.push(entry),
                Standing::Open => self.page.entries.push(entry),
            }
        }
        if !lost.is_empty() {
            // A request may have gone out whose answer nobody can learn any more.
            let end = |entry| self.ended(entry, State::Unknown, Reason::VendorUnavailable);
            let changes = Changes { events: lost.iter().map(end).collect(), ..Changes::default() };
            self.recorder().push(changes, self.urgent()).await;
        }
        Ok(())
    }

    /// Ends all targets of the page by the gateway's own doing.
    pub(super) async fn end_all(&self, state: State, reason: Reason) {
        let events = self.page.entries.iter().map(|entry| self.ended(entry, state, reason)).collect();
        let changes = Changes { events, ..record::done(self.item.id) };
        self.recorder().push(changes, self.urgent()).await;
    }

    /// The channel is paused: the page waits, but not beyond its time.
    async fn hold(&self) {
        let left = self.job.ends_at().saturating_sub(self.inner.now_ms());
        put_back(self.inner, self.place, self.item, self.left_out(), left.clamp(1000, HELD_MS)).await;
    }

    /// The page as it must be stored while it is in hand: with those whose step waits for more or whose vendor is to be
    /// asked, and those (`also`) that are kept back for later.
    pub(super) fn whole(&self, also: &[Entry]) -> Page {
        let mut entries = self.page.entries.clone();
        let known: HashSet<u64> = entries.iter().map(|entry| entry.target).collect();
        let mut more: Vec<_> = self
            .armed
            .iter()
            .chain(&self.to_ask)
            .chain(also)
            .filter(|entry| !known.contains(&entry.target))
            .cloned()
            .collect();
        more.sort_by_key(|entry| entry.target);
        more.dedup_by_key(|entry| entry.target);
        entries.extend(more);
        Page { entries, ..self.page.clone() }
    }

    /// What is to be stored of a page that goes back untouched: after an unclean end, or where users have left, it is shorter
    /// than it was. Those whose step waits for more, or whose vendor is to be asked, stay in it until the page's end.
    pub(super) fn left_out(&self) -> Option<Vec<u8>> {
        let stays = self.shorter || !self.armed.is_empty() || !self.to_ask.is_empty();
        stays.then(|| self.whole(&[]).encode())
    }
}
