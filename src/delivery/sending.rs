//! A page through a vendor: a batch to the provider, outcomes to the recorder.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anypush_providers::contract::{
    Address, Certainty, DeliveryMode, Failure, Hint, Outcome, Provider, Reason, VendorEcho, Verdict,
};
use rand::RngExt as _;

use crate::channels::Channel;
use crate::clock::unix_ms;
use crate::delivery::dispatch::InHand;
use crate::delivery::flight::{Flight, Heard};
use crate::delivery::gate::PageGate;
use crate::delivery::judge::{self, Judgement, Step};
use crate::delivery::page::{Entry, Page};
use crate::delivery::state::{Event, State};
use crate::delivery::targets::Targets;
use crate::delivery::trail::{Next, TrailEntry};
use crate::delivery::{cancel, collapse, onward, pace, quota, request};
use crate::failpoint::failpoint;
use crate::ids::GIVEN_TARGETS;
use crate::routing::ChannelState;
use crate::store::{AddressVerdict, Changes, StoreError, WorkUpdate};
use crate::telemetry::VendorCode;

/// Targets whose requests may be under way at once where none may be repeated: what a crash can leave unknown of a
/// page. Small against every vendor's window.
const SLICE: usize = 64;
/// How long a page hears nothing until it waits for its silent targets alone. Longer than healthy answers are apart.
const QUIET: Duration = Duration::from_millis(250);
/// How often a request that the vendor never processed is repeated at once; then it counts as a try.
const AT_ONCE_AGAIN: u32 = 3;

/// Sends a page through a vendor.
pub(super) async fn send(
    mut hand: InHand<'_>,
    channel: &Arc<Channel>,
    provider: Arc<dyn Provider>,
) -> Result<(), StoreError> {
    failpoint!("page.before_send");
    let gate = pace::gate(&hand, channel);
    let Some(mut kept) = pace::keep_back(&mut hand, &gate).await? else { return Ok(()) };
    kept.extend(collapse::take_turn(&mut hand, false).await?);
    let mut targets = Targets::find(&hand, channel).await?;
    let class = quota::class(&hand, channel, &provider);
    let mut leavers = quota::ask(&mut hand, channel, class, &mut targets, &kept).await?;
    for entry in std::mem::take(&mut targets.without_address) {
        let event = hand.event(&entry, State::Pending, Some(Reason::InvalidToken));
        leavers.push(onward::Leaver { entry, event, reason: Reason::InvalidToken, else_retry: None });
    }
    let once = mode(&hand, channel) == DeliveryMode::AtMostOnce;
    let mut page = Sending {
        hand: &mut hand,
        channel,
        provider,
        gate: Arc::clone(&gate),
        class,
        cut: Cut::of(channel, once),
        once,
        leavers,
        retries: BTreeMap::new(),
        unsent: kept,
        accepted: 0,
    };
    page.run(Flight::new(targets.into_found())).await;
    let Sending { leavers, retries, unsent, .. } = page;
    pace::rest(&mut hand, &gate);
    onward::finish(hand, leavers, retries, unsent).await
}

/// What happens when an answer is lost: the message's word, else the provider's.
fn mode(hand: &InHand<'_>, channel: &Channel) -> DeliveryMode {
    hand.job.spec.delivery.unwrap_or(channel.descriptor.capabilities.default_delivery)
}

/// How a page is cut into batches.
#[derive(Debug, Clone, Copy)]
struct Cut {
    /// Targets of a batch.
    size: usize,
    /// Targets that may be under way.
    most: usize,
    /// A batch is a request: a repeat after a crash must have the same one again.
    whole: bool,
}

impl Cut {
    /// A one-token vendor gets the whole page: its adapter streams it, and outcomes come one by one. Under at most once
    /// it gets slices, because what is under way is what may end unknown when the process dies.
    fn of(channel: &Channel, once: bool) -> Self {
        match channel.descriptor.capabilities.max_targets as usize {
            0 | 1 if once => Self { size: SLICE, most: SLICE, whole: false },
            0 | 1 => Self { size: Page::MAX, most: Page::MAX, whole: false },
            size if once => Self { size, most: size, whole: true },
            size => Self { size, most: Page::MAX.max(size), whole: true },
        }
    }

    /// How many targets the next batch may have beside those that are under way. `quiet`: no answer came for a while,
    /// so the others go on without them.
    fn next(self, under_way: usize, quiet: bool) -> usize {
        let room = self.most.saturating_sub(under_way).min(self.size);
        let least = match (under_way, self.whole, quiet) {
            (0, ..) => 0,
            (_, true, false) => return 0,
            (_, true, true) => self.size,
            // A slice is a commit: not for a few.
            (_, false, false) => self.size - self.size / 4,
            (_, false, true) => self.size / 4,
        };
        if room < least { 0 } else { room }
    }
}

/// A page while its outcomes come in.
struct Sending<'a, 'b> {
    hand: &'a mut InHand<'b>,
    channel: &'a Arc<Channel>,
    provider: Arc<dyn Provider>,
    gate: Arc<PageGate>,
    /// What it is in the vendor's quotas.
    class: &'static str,
    cut: Cut,
    /// At most once.
    once: bool,
    /// Targets that leave this channel.
    leavers: Vec<onward::Leaver>,
    /// Targets that are tried again, by (attempt, wait in whole seconds).
    retries: BTreeMap<(u32, u64), Vec<Entry>>,
    /// Targets that were not sent, because the process stops or the gate let nothing through: they stay in this page.
    unsent: Vec<Entry>,
    /// How many were accepted and are not counted yet.
    accepted: u64,
}

/// What is done with a target that has an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is settled, or goes on elsewhere.
    Gone,
    /// The vendor never processed its request, which is made again at once.
    Again,
}

impl Sending<'_, '_> {
    /// Sends everything and hears of everything. Where nothing is heard for a while, nobody waits for the silent.
    async fn run(&mut self, mut flight: Flight) {
        loop {
            self.begin(&mut flight, false).await;
            if flight.is_over() {
                return;
            }
            match tokio::time::timeout(QUIET, flight.hear()).await {
                Ok(heard) => self.heard(heard, &mut flight).await,
                // Requests that wait for their turn are not silent.
                Err(_) if self.gate.is_waited_at() => {}
                Err(_) => self.quiet(&mut flight).await,
            }
        }
    }

    /// Nothing was heard for a while: who has left the page goes on, and the page makes way for the next.
    async fn quiet(&mut self, flight: &mut Flight) {
        self.again(flight);
        self.begin(flight, true).await;
        self.part(flight).await;
        if flight.is_all_begun() && self.hand.place.leave(flight.under_way()) {
            // What is settled need not be remembered.
            self.hand.page.entries = flight.left().cloned().collect();
        }
    }

    /// Takes those who have left the page out of it, where there are any.
    async fn part(&mut self, flight: &Flight) {
        let is_claimed = self.hand.claim.as_ref().is_some_and(|claim| claim.len() > flight.left().count());
        let none = self.leavers.is_empty() && self.retries.is_empty() && self.unsent.is_empty();
        if none && self.hand.armed.is_empty() && self.hand.to_ask.is_empty() && !is_claimed {
            return;
        }
        pace::rest(self.hand, &self.gate);
        let left: Vec<Entry> = flight.left().cloned().collect();
        let intent = flight.waiting().filter(|_| self.once).map(|entry| entry.target).collect();
        let gone =
            onward::Gone { leavers: &mut self.leavers, retries: &mut self.retries, unsent: &mut self.unsent };
        onward::part(self.hand, gone, left, intent).await;
        failpoint!("page.parted");
    }

    /// Writes down whose requests may be under way. Everything recorded of others is on disk with it. `false`: the
    /// process is ending, and nothing may be sent.
    async fn declare(&self, flight: &Flight) -> bool {
        let item = self.hand.item;
        let intent = flight.waiting().map(|entry| entry.target).collect();
        let page = Page { intent, ..self.hand.whole(&self.unsent) };
        let update = WorkUpdate {
            id: item.id,
            epoch: item.epoch,
            due_at: item.due_at,
            attempt: item.attempt,
            payload: Some(page.encode()),
            lease_until: i64::MAX as u64,
        };
        let changes = Changes { work_updates: vec![update], ..Changes::default() };
        self.hand.recorder().push_and_wait(changes, true).await
    }

    /// Hands over what may be under way beside what is.
    async fn begin(&mut self, flight: &mut Flight, quiet: bool) {
        loop {
            let count = self.cut.next(flight.under_way(), quiet);
            let places = flight.next(count);
            if places.is_empty() {
                return;
            }
            if self.once && !self.declare(flight).await {
                self.unsent.extend(places.into_iter().filter_map(|place| flight.take_out(place)));
            } else {
                self.gate.be_impatient(false);
                self.batch(flight, places);
            }
        }
    }

    /// Hands over once more what the vendor provably never processed.
    fn again(&mut self, flight: &mut Flight) {
        let places = flight.refused();
        if !places.is_empty() {
            let is_last =
                |place: &usize| flight.waiting_at(*place).is_some_and(|(_, again)| again >= AT_ONCE_AGAIN);
            self.gate.be_impatient(places.iter().any(is_last));
            self.batch(flight, places);
        }
    }

    fn batch(&self, flight: &mut Flight, places: Vec<usize>) {
        let gate = Arc::clone(&self.gate);
        let gate = Arc::new(cancel::Watched::new(gate, self.hand.inner, &self.hand.job));
        let (inner, item) = (self.hand.inner, self.hand.item);
        let context = request::context(inner, self.channel, gate);
        let page = (item.id.0 as u64, item.attempt + 1);
        let batch = request::batch(inner, &self.hand.job, self.channel, page, &flight.at(&places));
        let (seer, provider) = (Arc::clone(&self.gate), Arc::clone(&self.provider));
        flight.begin(
            &inner.parts.bulk,
            places,
            move |outcome| seer.saw(outcome),
            |outcomes| async move { provider.send(batch, context, outcomes).await },
        );
    }

    async fn heard(&mut self, heard: Heard, flight: &mut Flight) {
        let mut changes = Changes::default();
        match heard {
            Heard::Outcomes(outcomes) => {
                for (place, outcome) in outcomes {
                    if flight.waiting_at(place).is_some() {
                        self.outcome(flight, place, outcome, &mut changes).await;
                    } else {
                        tracing::error!(channel.name = %self.channel.record.name, "an outcome too many");
                    }
                }
                self.flush(&mut changes).await;
                failpoint!("page.half_answered", !flight.is_over() && flight.left().next().is_some());
            }
            Heard::Ended { forgotten, panicked } => {
                failpoint!("page.answered");
                if panicked {
                    let name = &self.channel.record.name;
                    tracing::error!(channel.name = %name, "the adapter panicked; its batch is tried again");
                }
                for place in forgotten {
                    let verdict = Verdict::Failed(Failure::channel(Reason::ProtocolError).doubtful());
                    let words = Some("the adapter gave no outcome".to_owned());
                    let vendor = VendorEcho { words, ..VendorEcho::default() };
                    let outcome = Outcome { target: 0, verdict, vendor, latency: Duration::ZERO };
                    self.outcome(flight, place, outcome, &mut changes).await;
                }
                self.flush(&mut changes).await;
                self.again(flight);
            }
        }
    }

    /// Takes in what is known of a target.
    async fn outcome(&mut self, flight: &mut Flight, place: usize, outcome: Outcome, changes: &mut Changes) {
        let Some((target, again)) = flight.waiting_at(place) else { return };
        match self.take_in(target, again < AT_ONCE_AGAIN, outcome, changes).await {
            Fate::Again => flight.refuse(place),
            Fate::Gone => {
                flight.take_out(place);
            }
        }
    }

    async fn flush(&mut self, changes: &mut Changes) {
        self.count_accepted().await;
        if !changes.events.is_empty() || !changes.addresses.is_empty() || !changes.quota_back.is_empty() {
            self.hand.recorder().push(std::mem::take(changes), self.hand.urgent()).await;
        }
    }

    async fn take_in(
        &mut self,
        target: &(Entry, Address),
        may_again: bool,
        outcome: Outcome,
        changes: &mut Changes,
    ) -> Fate {
        let (entry, _) = target;
        if self.gate.is_refusal(&outcome) {
            self.unsent.push(entry.clone());
            return Fate::Gone;
        }
        match &outcome.verdict {
            Verdict::Accepted => {
                self.accepted += 1;
                let event = self.hand.event(entry, State::Accepted, None);
                changes.events.push(self.tell(event, &outcome, Next::Nothing));
                if self.hand.page.wait.is_some() {
                    self.hand.armed.push(entry.clone());
                }
                if self.channel.descriptor.capabilities.polls_receipts {
                    self.hand.to_ask.push(entry.clone());
                }
                if self.channel.route.state == ChannelState::AuthFailed {
                    self.channel_state(ChannelState::Ok, None).await;
                }
                Fate::Gone
            }
            Verdict::Failed(failure) => {
                // The brake asks for shares: it must know of those before.
                self.count_accepted().await;
                let metrics = &self.hand.inner.parts.metrics;
                metrics.outcome(&self.channel.record.provider, failure.reason.as_str(), 1);
                let dead = failure.reason == Reason::InvalidToken;
                let retire = self.hand.inner.brake(self.channel, 1, u64::from(dead)).await;
                if failure.reason == Reason::Unclassified {
                    let provider = self.channel.record.provider.clone();
                    let code: String = outcome.vendor.code.iter().flat_map(|c| c.chars()).take(64).collect();
                    metrics.unclassified.get_or_create(&VendorCode { provider, code }).inc();
                }
                let failure = failure.clone();
                let fate = self.failed(target, may_again, (&outcome, &failure), changes).await;
                if dead && !retire {
                    // Neither retired nor struck.
                    changes
                        .addresses
                        .retain(|v| v.reason != Reason::InvalidToken || v.device != entry.target);
                    metrics.removals_held.inc();
                }
                fate
            }
        }
    }

    /// Counts those who were accepted, together: what is done for each of a thousand is to be little.
    async fn count_accepted(&mut self) {
        let n = std::mem::take(&mut self.accepted);
        if n > 0 {
            self.hand.inner.parts.metrics.outcome(&self.channel.record.provider, "accepted", n);
            self.hand.inner.brake(self.channel, n, 0).await;
        }
    }

    async fn failed(
        &mut self,
        (entry, address): &(Entry, Address),
        may_again: bool,
        (outcome, failure): (&Outcome, &Failure),
        changes: &mut Changes,
    ) -> Fate {
        quota::told(self.hand.inner, self.channel, self.class, failure).await;
        let counted = (entry, address);
        if failure.reason == Reason::Cancelled {
            changes.quota_back.extend(quota::back(self.hand, self.channel, self.class, counted, failure));
            changes.events.push(self.hand.ended(entry, State::Cancelled, Reason::Cancelled));
            return Fate::Gone;
        }
        let attempt = self.hand.item.attempt + 1;
        let mode = mode(self.hand, self.channel);
        let mut judgement = judge::judge(failure, attempt, mode, rand::rng().random());
        if self.hand.inner.parts.tasks.is_stopping() && judgement.step != Step::Unknown && not_sent(failure) {
            self.unsent.push(entry.clone());
            return Fate::Gone;
        }
        if judgement.step == Step::Again {
            if may_again {
                return Fate::Again;
            }
            // It goes on refusing: as one that is down.
            let failure = Failure { hint: Hint::None, ..failure.clone() };
            judgement = judge::judge(&failure, attempt, mode, rand::rng().random());
        }
        if self.hand.job.spec.test && matches!(judgement.step, Step::Retry(_) | Step::NextOrRetry(_)) {
            judgement.step = Step::Next;
        }
        changes.addresses.extend(self.verdict(entry, failure, &judgement));
        if judgement.channel_refused {
            let words =
                outcome.vendor.words.clone().unwrap_or_else(|| "the vendor refuses the credentials".into());
            self.channel_state(ChannelState::AuthFailed, Some(words)).await;
        }
        let retry = |wait: Duration| (attempt, wait.as_millis().div_ceil(1000) as u64);
        let pending = self.hand.event(entry, State::Pending, Some(failure.reason));
        match judgement.step {
            Step::Retry(wait) if !self.hand.is_step_over(wait) => {
                let next = Next::Retry(retry(wait).1 * 1000);
                changes.events.push(self.tell(pending, outcome, next));
                let told = Entry { decision: None, ..entry.clone() };
                self.retries.entry(retry(wait)).or_default().push(told);
            }
            Step::Unknown => {
                let event = self.hand.event(entry, State::Unknown, Some(failure.reason));
                changes.events.push(self.tell(event, outcome, Next::Nothing));
            }
            // A try that would come after the step's own time makes way too.
            Step::Again | Step::Next | Step::NextOrRetry(_) | Step::Retry(_) => {
                let else_retry = match judgement.step {
                    Step::NextOrRetry(wait) | Step::Retry(wait) => Some(retry(wait)),
                    _ => None,
                };
                let back = quota::back(self.hand, self.channel, self.class, counted, failure);
                // What was given back is counted anew where this channel is tried again.
                let left = Entry { counted: entry.counted.filter(|_| back.is_empty()), ..entry.clone() };
                changes.quota_back.extend(back);
                let event = self.tell(pending, outcome, Next::Nothing);
                let leaver = onward::Leaver { entry: left, event, reason: failure.reason, else_retry };
                self.leavers.push(leaver);
            }
        }
        Fate::Gone
    }

    /// Adds what the trail says of an attempt.
    fn tell(&self, mut event: Event, outcome: &Outcome, next: Next) -> Event {
        let reason = match &outcome.verdict {
            Verdict::Accepted => None,
            Verdict::Failed(failure) => Some(failure.reason),
        };
        event.vendor_id.clone_from(&outcome.vendor.id);
        event.trail.push(TrailEntry::Attempted {
            at_ms: event.at_ms,
            channel: self.hand.item.channel,
            attempt: self.hand.item.attempt + 1,
            reason,
            latency_ms: outcome.latency.as_millis() as u32,
            status: outcome.vendor.status,
            code: outcome.vendor.code.clone(),
            words: outcome.vendor.words.clone(),
            next,
        });
        event
    }

    fn verdict(&self, entry: &Entry, failure: &Failure, judgement: &Judgement) -> Option<AddressVerdict> {
        if judgement.address == judge::Address::Keep || entry.target >= GIVEN_TARGETS {
            return None;
        }
        Some(AddressVerdict {
            app: self.hand.job.record.app,
            provider: self.channel.descriptor.address.provider.to_owned(),
            device: entry.target,
            version: entry.address_version,
            reason: failure.reason,
            retire: judgement.address == judge::Address::Retire,
            since: failure.since.map(unix_ms),
        })
    }

    async fn channel_state(&self, state: ChannelState, info: Option<String>) {
        let channels = &self.hand.inner.parts.channels;
        // Most pages find what is known already: no turn is waited for then.
        if channels.by_seq(self.channel.record.seq).is_none_or(|now| now.route.state == state) {
            return;
        }
        match channels.found(self.channel, state, info).await {
            Ok(true) if state != ChannelState::Ok => {
                tracing::error!(channel.name = %self.channel.record.name, "the channel's credentials are refused");
            }
            Ok(true) => self.hand.inner.reopen(self.channel.record.seq).await,
            Ok(false) => {}
            Err(error) => tracing::warn!("a channel's state could not be kept: {error}"),
        }
    }
}

/// Whether the request provably never reached the vendor.
fn not_sent(failure: &Failure) -> bool {
    failure.reason == Reason::VendorUnavailable && failure.certainty == Certainty::Definite
}
