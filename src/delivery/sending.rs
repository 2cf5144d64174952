//! A page through a vendor: a batch to the provider, outcomes to the recorder.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use anypush_providers::contract::{
    Address, Certainty, DeliveryMode, Failure, Hint, Outcome, Outcomes, Provider, Reason, VendorEcho, Verdict,
};
use rand::RngExt as _;

use crate::channels::Channel;
use crate::clock::unix_ms;
use crate::delivery::dispatch::InHand;
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
use crate::telemetry::{OutcomeLabels, VendorCode};

/// Targets whose requests may be under way at once where none may be repeated: what a crash can leave unknown of a
/// page. Small against every vendor's window.
const SLICE: usize = 64;
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
        let mut event = hand.event(entry.target, State::Pending, Some(Reason::InvalidToken));
        event.trail = hand.story(&entry);
        leavers.push(onward::Leaver { entry, event, reason: Reason::InvalidToken, else_retry: None });
    }
    let mut page = Sending {
        hand: &mut hand,
        channel,
        gate: Arc::clone(&gate),
        class,
        leavers,
        retries: BTreeMap::new(),
        unprocessed: HashSet::new(),
        again_left: 0,
        unsent: kept,
    };
    let once = page.mode() == DeliveryMode::AtMostOnce;
    // A one-token vendor gets the whole page: its adapter streams it, and outcomes come one by one. Under at most once
    // it gets slices, because a slice is what may end unknown when the process dies.
    let one_by_one = if once { SLICE } else { Page::MAX };
    for chunk in targets.chunks(channel.descriptor.capabilities.max_targets, one_by_one) {
        if once && !page.declare(chunk).await {
            page.unsent.extend(chunk.iter().map(|(entry, _)| entry.clone()));
        } else {
            page.batches(&provider, chunk).await;
        }
    }
    let Sending { leavers, retries, unsent, .. } = page;
    pace::rest(&mut hand, &gate);
    onward::finish(hand, leavers, retries, unsent).await
}

/// A page while its outcomes come in.
struct Sending<'a, 'b> {
    hand: &'a mut InHand<'b>,
    channel: &'a Arc<Channel>,
    gate: Arc<PageGate>,
    /// What it is in the vendor's quotas.
    class: &'static str,
    /// Targets that leave this channel.
    leavers: Vec<onward::Leaver>,
    /// Targets that are tried again, by (attempt, wait in whole seconds).
    retries: BTreeMap<(u32, u64), Vec<Entry>>,
    /// Targets of the chunk that the vendor never processed and that are sent again at once; how often that may be yet.
    unprocessed: HashSet<u64>,
    again_left: u32,
    /// Targets that were not sent, because the process stops or the gate let nothing through: they stay in this page.
    unsent: Vec<Entry>,
}

impl Sending<'_, '_> {
    /// What happens when an answer is lost: the message's word, else the provider's.
    fn mode(&self) -> DeliveryMode {
        self.hand.job.spec.delivery.unwrap_or(self.channel.descriptor.capabilities.default_delivery)
    }

    /// Writes down that requests for these targets may be under way. Everything recorded of the slice before is on
    /// disk with it. `false`: the process is ending, and nothing may be sent.
    async fn declare(&self, chunk: &[(Entry, Address)]) -> bool {
        let item = self.hand.item;
        let intent = chunk.iter().map(|(entry, _)| entry.target).collect();
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
        self.hand.inner.recorder.push_and_wait(changes, true).await
    }

    /// Sends a chunk, and at once again what the vendor provably never processed, a few times.
    async fn batches(&mut self, provider: &Arc<dyn Provider>, chunk: &[(Entry, Address)]) {
        self.again_left = AT_ONCE_AGAIN;
        self.gate.be_impatient(false);
        self.batch(provider, chunk).await;
        while !self.unprocessed.is_empty() {
            self.again_left -= 1;
            self.gate.be_impatient(self.again_left == 0);
            let again = std::mem::take(&mut self.unprocessed);
            let again: Vec<_> =
                chunk.iter().filter(|(entry, _)| again.contains(&entry.target)).cloned().collect();
            self.batch(provider, &again).await;
        }
    }

    async fn batch(&mut self, provider: &Arc<dyn Provider>, chunk: &[(Entry, Address)]) {
        let gate = Arc::clone(&self.gate);
        let gate = Arc::new(cancel::Watched::new(gate, self.hand.inner, &self.hand.job));
        let (inner, item) = (self.hand.inner, self.hand.item);
        let context = request::context(inner, self.channel, gate);
        let page = (item.id.0 as u64, item.attempt + 1);
        let batch = request::batch(inner, &self.hand.job, self.channel, page, chunk);
        let (outcomes, mut receiver) = Outcomes::channel();
        let seer = Arc::clone(&self.gate);
        let outcomes = outcomes.watched(move |outcome| seer.saw(outcome));
        let provider = Arc::clone(provider);
        // On its own task, so that a panic in an adapter ends this batch and nothing else.
        #[expect(clippy::disallowed_methods, reason = "awaited below")]
        let sending = tokio::spawn(async move { provider.send(batch, context, outcomes).await });
        let mut open: Vec<Option<&(Entry, Address)>> = chunk.iter().map(Some).collect();
        let mut changes = Changes::default();
        let mut batched = Vec::new();
        while receiver.recv_many(&mut batched, 256).await > 0 {
            for outcome in batched.drain(..) {
                if let Some(target) = open.get_mut(outcome.target).and_then(Option::take) {
                    self.outcome(target, outcome, &mut changes).await;
                } else {
                    tracing::error!(channel.name = %self.channel.record.name, "an outcome too many");
                }
            }
            self.flush(&mut changes).await;
            failpoint!("page.half_answered", open.iter().any(Option::is_some));
        }
        failpoint!("page.answered");
        if sending.await.is_err() {
            tracing::error!(channel.name = %self.channel.record.name, "the adapter panicked; its batch is tried again");
        }
        for target in open.into_iter().flatten() {
            let verdict = Verdict::Failed(Failure::channel(Reason::ProtocolError).doubtful());
            let words = Some("the adapter gave no outcome".to_owned());
            let vendor = VendorEcho { words, ..VendorEcho::default() };
            let outcome = Outcome { target: 0, verdict, vendor, latency: Duration::ZERO };
            self.outcome(target, outcome, &mut changes).await;
        }
        self.flush(&mut changes).await;
    }

    async fn flush(&self, changes: &mut Changes) {
        if !changes.events.is_empty() || !changes.addresses.is_empty() || !changes.quota_back.is_empty() {
            self.hand.inner.recorder.push(std::mem::take(changes), self.hand.urgent()).await;
        }
    }

    async fn outcome(&mut self, target: &(Entry, Address), outcome: Outcome, changes: &mut Changes) {
        let (entry, _) = target;
        if self.gate.is_refusal(&outcome) {
            self.unsent.push(entry.clone());
            return;
        }
        let metrics = &self.hand.inner.parts.metrics;
        let provider = self.channel.record.provider.clone();
        let name = match &outcome.verdict {
            Verdict::Accepted => "accepted",
            Verdict::Failed(failure) => failure.reason.as_str(),
        };
        metrics.outcomes.get_or_create(&OutcomeLabels { provider: provider.clone(), outcome: name }).inc();
        let dead =
            matches!(&outcome.verdict, Verdict::Failed(failure) if failure.reason == Reason::InvalidToken);
        let retire = self.hand.inner.brake(self.channel, dead).await;
        match &outcome.verdict {
            Verdict::Accepted => {
                let event = self.hand.event(entry.target, State::Accepted, None);
                changes.events.push(self.tell(entry, event, &outcome, Next::Nothing));
                if self.hand.page.wait.is_some() {
                    self.hand.armed.push(entry.clone());
                }
                if self.channel.descriptor.capabilities.polls_receipts {
                    self.hand.to_ask.push(entry.clone());
                }
                if self.channel.route.state == ChannelState::AuthFailed {
                    self.channel_state(ChannelState::Ok, None).await;
                }
            }
            Verdict::Failed(failure) => {
                if failure.reason == Reason::Unclassified {
                    let code: String = outcome.vendor.code.iter().flat_map(|c| c.chars()).take(64).collect();
                    metrics.unclassified.get_or_create(&VendorCode { provider, code }).inc();
                }
                let failure = failure.clone();
                self.failed(target, &outcome, &failure, changes).await;
                if dead && !retire {
                    // Neither retired nor struck.
                    changes
                        .addresses
                        .retain(|v| v.reason != Reason::InvalidToken || v.device != entry.target);
                    metrics.removals_held.inc();
                }
            }
        }
    }

    async fn failed(
        &mut self,
        (entry, address): &(Entry, Address),
        outcome: &Outcome,
        failure: &Failure,
        changes: &mut Changes,
    ) {
        quota::told(self.hand.inner, self.channel, self.class, failure).await;
        let counted = (entry, address);
        if failure.reason == Reason::Cancelled {
            changes.quota_back.extend(quota::back(self.hand, self.channel, self.class, counted, failure));
            changes.events.push(self.hand.ended(entry, State::Cancelled, Reason::Cancelled));
            return;
        }
        let attempt = self.hand.item.attempt + 1;
        let mut judgement = judge::judge(failure, attempt, self.mode(), rand::rng().random());
        if self.hand.inner.parts.tasks.is_stopping() && judgement.step != Step::Unknown && not_sent(failure) {
            self.unsent.push(entry.clone());
            return;
        }
        if judgement.step == Step::Again {
            if self.again_left > 0 {
                self.unprocessed.insert(entry.target);
                return;
            }
            // It goes on refusing: as one that is down.
            let failure = Failure { hint: Hint::None, ..failure.clone() };
            judgement = judge::judge(&failure, attempt, self.mode(), rand::rng().random());
        }
        changes.addresses.extend(self.verdict(entry, failure, &judgement));
        if judgement.channel_refused {
            let words =
                outcome.vendor.words.clone().unwrap_or_else(|| "the vendor refuses the credentials".into());
            self.channel_state(ChannelState::AuthFailed, Some(words)).await;
        }
        let retry = |wait: Duration| (attempt, wait.as_millis().div_ceil(1000) as u64);
        let pending = self.hand.event(entry.target, State::Pending, Some(failure.reason));
        match judgement.step {
            Step::Retry(wait) if !self.hand.is_step_over(wait) => {
                let next = Next::Retry(retry(wait).1 * 1000);
                changes.events.push(self.tell(entry, pending, outcome, next));
                let told = Entry { decision: None, ..entry.clone() };
                self.retries.entry(retry(wait)).or_default().push(told);
            }
            Step::Unknown => {
                let event = self.hand.event(entry.target, State::Unknown, Some(failure.reason));
                changes.events.push(self.tell(entry, event, outcome, Next::Nothing));
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
                let event = self.tell(entry, pending, outcome, Next::Nothing);
                let leaver = onward::Leaver { entry: left, event, reason: failure.reason, else_retry };
                self.leavers.push(leaver);
            }
        }
    }

    /// Adds what the trail says of an attempt.
    fn tell(&self, entry: &Entry, mut event: Event, outcome: &Outcome, next: Next) -> Event {
        let reason = match &outcome.verdict {
            Verdict::Accepted => None,
            Verdict::Failed(failure) => Some(failure.reason),
        };
        event.vendor_id.clone_from(&outcome.vendor.id);
        event.trail = self.hand.story(entry);
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
