//! One page on its way: targets and addresses to a batch, the batch to the provider, outcomes to the recorder.
//!
//! A target belongs to exactly one work item until it ends: those that are tried again or go to the next channel move
//! into new items in the transaction that ends this one. So a page that is resumed after an unclean end sends exactly
//! what is not recorded, and a crash neither loses nor doubles a retry.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use anypush_providers::contract::{
    Address, Batch, Certainty, Failure, Gate, MessageRef, Outcome, Outcomes, Provider, Reason, SendContext,
    Target, Token, VendorEcho, Verdict,
};
use futures_util::FutureExt as _;
use rand::RngExt as _;

use crate::channels::Channel;
use crate::delivery::gate::PageGate;
use crate::delivery::job::Job;
use crate::delivery::judge::{self, Judgement, Step};
use crate::delivery::page::{Entry, Page};
use crate::delivery::pipeline::Inner;
use crate::delivery::state::{Event, State};
use crate::delivery::trail::{Next, TrailEntry};
use crate::delivery::{direct_page, onward, pace, record};
use crate::failpoint::failpoint;
use crate::ids::GIVEN_TARGETS;
use crate::routing::ChannelState;
use crate::store::{AddressVerdict, Changes, NewTarget, StoreError, WorkItem, WorkUpdate};
use crate::telemetry::{OutcomeLabels, VendorCode};

/// How long a page waits after the gateway itself failed at it.
const STUMBLED_MS: u64 = 1000;
/// How often a page looks whether its paused channel goes on.
const HELD_MS: u64 = 5000;
/// Audiences up to this size have somebody who watches.
const WATCHED: u64 = 100;

/// A page in hand.
pub(super) struct InHand<'a> {
    pub(super) inner: &'a Arc<Inner>,
    pub(super) item: &'a WorkItem,
    pub(super) job: Arc<Job>,
    pub(super) page: Page,
    /// When what stays in the page is due again, in Unix milliseconds; 0 = at once.
    pub(super) rest_until: u64,
}

/// Sends a page. Whatever happens, its work item ends, moves or is free again afterwards.
pub(super) async fn page(inner: &Arc<Inner>, item: WorkItem) {
    // A panic here is a bug of ours; it must cost this page a second, not its targets their message.
    match AssertUnwindSafe(begin(inner, &item)).catch_unwind().await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => tracing::warn!(work.id = item.id.0, "a page waits, the store failed: {error}"),
        Err(_) => tracing::error!(work.id = item.id.0, "a page stumbled and is tried again"),
    }
    put_back(inner, &item, None, STUMBLED_MS).await;
}

async fn begin(inner: &Arc<Inner>, item: &WorkItem) -> Result<(), StoreError> {
    let (Some(job), Some(page)) = (inner.job(item.message).await?, Page::decode(&item.payload)) else {
        tracing::error!(work.id = item.id.0, "a page cannot be read and is put aside for an hour");
        put_back(inner, item, None, 3_600_000).await;
        return Ok(());
    };
    let mut hand = InHand { inner, item, job, page, rest_until: 0 };
    // A retry too: the phone may have told meanwhile that it has what the vendor's lost answer was about.
    if item.resumed || item.attempt > 0 {
        hand.leave_out_recorded().await?;
    }
    if hand.job.is_over(inner.now_ms()) {
        hand.end_all(State::Expired, Reason::Expired).await;
        return Ok(());
    }
    let channel = inner.parts.channels.by_seq(item.channel).filter(|c| c.record.deleted_at.is_none());
    match channel {
        Some(channel) if channel.route.state == ChannelState::Paused => hand.hold().await,
        Some(channel) if channel.is_direct() => direct_page::send(hand).await,
        Some(channel) => match channel.provider.clone() {
            Some(provider) => send(hand, &channel, provider).await?,
            // Its configuration cannot be used: ops were told at start.
            None => onward::give_up(hand, Reason::AuthFailed).await?,
        },
        None => onward::give_up(hand, Reason::NoRoute).await?,
    }
    Ok(())
}

/// Frees a work item, so that it comes again after this time.
pub(super) async fn put_back(inner: &Arc<Inner>, item: &WorkItem, payload: Option<Vec<u8>>, after_ms: u64) {
    let due_at = inner.now_ms() + after_ms;
    let update =
        WorkUpdate { id: item.id, epoch: item.epoch, due_at, attempt: item.attempt, payload, lease_until: 0 };
    let changes = Changes { work_updates: vec![update], ..Changes::default() };
    if inner.recorder.push_and_wait(changes, true).await {
        inner.desk(item.channel).nudge(due_at);
    }
}

impl InHand<'_> {
    /// Milliseconds since the message's creation.
    pub(super) fn at_ms(&self) -> u64 {
        self.job.at_ms(self.inner.now_ms())
    }

    /// Whether a person is likely to watch.
    pub(super) fn urgent(&self) -> bool {
        self.page.entries.len() as u64 <= WATCHED
    }

    /// The decision that the trail does not tell yet.
    pub(super) fn story(&self, entry: &Entry) -> Vec<TrailEntry> {
        let decided = entry.decision.and_then(|index| self.page.decisions.get(usize::from(index)));
        decided.cloned().into_iter().map(TrailEntry::from).collect()
    }

    /// An event through this page's channel, without its trail.
    pub(super) fn event(&self, target: u64, state: State, reason: Option<Reason>) -> Event {
        Event {
            message: self.job.id,
            target,
            state,
            reason,
            channel: self.item.channel,
            vendor_id: None,
            at_ms: self.at_ms(),
            trail: Vec::new(),
        }
    }

    /// What was recorded as ended or handed over is not sent again.
    async fn leave_out_recorded(&mut self) -> Result<(), StoreError> {
        let targets: Vec<_> = self.page.entries.iter().map(|entry| entry.target).collect();
        let recorded = self.inner.parts.store.deliveries_of(self.job.id, &targets).await?;
        let over: HashSet<_> =
            recorded.iter().filter(|d| d.state != State::Pending).map(|d| d.target).collect();
        let told: HashSet<_> = recorded.iter().map(|d| d.target).collect();
        self.page.entries.retain(|entry| !over.contains(&entry.target));
        for entry in self.page.entries.iter_mut().filter(|entry| told.contains(&entry.target)) {
            entry.decision = None;
        }
        Ok(())
    }

    /// Ends all targets of the page by the gateway's own doing.
    pub(super) async fn end_all(&self, state: State, reason: Reason) {
        let at_ms = self.at_ms();
        let events = self.page.entries.iter().map(|entry| {
            let mut event = self.event(entry.target, state, Some(reason));
            event.trail = self.story(entry);
            event.trail.push(TrailEntry::Ended { at_ms, reason });
            event
        });
        let changes = Changes { events: events.collect(), ..record::done(self.item.id) };
        self.inner.recorder.push(changes, self.urgent()).await;
    }

    /// The channel is paused: the page waits, but not beyond its time.
    async fn hold(&self) {
        let left = self.job.ends_at().saturating_sub(self.inner.now_ms());
        put_back(self.inner, self.item, self.left_out(), left.clamp(1000, HELD_MS)).await;
    }

    /// What is to be stored of a page that goes back untouched: after an unclean end it is shorter than it was.
    pub(super) fn left_out(&self) -> Option<Vec<u8>> {
        self.item.resumed.then(|| self.page.encode())
    }
}

/// Sends a page through a vendor.
async fn send(
    mut hand: InHand<'_>,
    channel: &Arc<Channel>,
    provider: Arc<dyn Provider>,
) -> Result<(), StoreError> {
    failpoint!("page.before_send");
    let gate = pace::gate(&hand, channel);
    let Some(kept) = pace::keep_back(&mut hand, &gate).await? else { return Ok(()) };
    let mut targets = Targets::find(&hand, channel).await?;
    let mut leavers = Vec::new();
    for entry in std::mem::take(&mut targets.without_address) {
        let mut event = hand.event(entry.target, State::Pending, Some(Reason::InvalidToken));
        event.trail = hand.story(&entry);
        leavers.push(onward::Leaver { entry, event, reason: Reason::InvalidToken, else_retry: None });
    }
    let mut page = Sending {
        hand: &mut hand,
        channel,
        gate: Arc::clone(&gate),
        leavers,
        retries: BTreeMap::new(),
        unsent: kept,
    };
    for chunk in targets.chunks(channel.descriptor.capabilities.max_targets) {
        page.batch(&provider, chunk).await;
    }
    let Sending { leavers, retries, unsent, .. } = page;
    pace::rest(&mut hand, &gate);
    onward::finish(hand, leavers, retries, unsent).await
}

/// The targets of a page with their addresses as they are now.
struct Targets {
    found: Vec<(Entry, Address)>,
    /// Their address is gone since the route was decided.
    without_address: Vec<Entry>,
}

impl Targets {
    async fn find(hand: &InHand<'_>, channel: &Channel) -> Result<Self, StoreError> {
        let store = &hand.inner.parts.store;
        let (given, devices): (Vec<_>, Vec<_>) =
            hand.page.entries.iter().map(|entry| entry.target).partition(|target| *target >= GIVEN_TARGETS);
        let mut by_device: HashMap<u64, Vec<(u32, Address)>> = HashMap::new();
        if !devices.is_empty() {
            let provider = channel.descriptor.address.provider;
            for found in store.send_addresses(hand.job.record.app, provider, &devices).await? {
                let address =
                    Address { kind: found.kind, token: Token::new(found.token), params: found.params };
                by_device.entry(found.device).or_default().push((found.version, address));
            }
        }
        let mut by_index = HashMap::new();
        if !given.is_empty() {
            let indexes: Vec<_> = given.iter().map(|target| target - GIVEN_TARGETS).collect();
            by_index.extend(store.given_targets(hand.job.id, &indexes).await?);
        }
        let mut targets =
            Self { found: Vec::with_capacity(hand.page.entries.len()), without_address: Vec::new() };
        for entry in &hand.page.entries {
            let address = match entry.target.checked_sub(GIVEN_TARGETS) {
                Some(index) => by_index.remove(&index).and_then(given_address),
                None => by_device.remove(&entry.target).and_then(|found| pick(found, entry, channel)),
            };
            match address {
                Some((version, address)) => {
                    targets.found.push((Entry { address_version: version, ..entry.clone() }, address));
                }
                None => targets.without_address.push(entry.clone()),
            }
        }
        Ok(targets)
    }

    fn chunks(&self, max_targets: u32) -> impl Iterator<Item = &[(Entry, Address)]> {
        // A one-token vendor gets the whole page: its adapter streams it, and outcomes come one by one.
        let size = if max_targets <= 1 { Page::MAX } else { max_targets as usize };
        self.found.chunks(size)
    }
}

/// The address that the route chose; where it is gone, the newest that this channel serves: the token was renewed.
fn pick(mut found: Vec<(u32, Address)>, entry: &Entry, channel: &Channel) -> Option<(u32, Address)> {
    if let Some(at) = found.iter().position(|(version, _)| *version == entry.address_version) {
        return Some(found.swap_remove(at));
    }
    found.retain(|(_, address)| {
        channel.provider.as_ref().is_none_or(|provider| provider.serves(address).is_ok())
    });
    found.into_iter().max_by_key(|(version, _)| *version)
}

fn given_address(given: NewTarget) -> Option<(u32, Address)> {
    let params = given.params.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default();
    Some((0, Address { kind: given.kind?, token: Token::new(given.token?), params }))
}

/// A page while its outcomes come in.
struct Sending<'a, 'b> {
    hand: &'a mut InHand<'b>,
    channel: &'a Arc<Channel>,
    gate: Arc<PageGate>,
    /// Targets that leave this channel.
    leavers: Vec<onward::Leaver>,
    /// Targets that are tried again, by (attempt, wait in whole seconds).
    retries: BTreeMap<(u32, u64), Vec<Entry>>,
    /// Targets that were not sent, because the process stops or the gate let nothing through: they stay in this page.
    unsent: Vec<Entry>,
}

impl Sending<'_, '_> {
    async fn batch(&mut self, provider: &Arc<dyn Provider>, chunk: &[(Entry, Address)]) {
        let gate: Arc<dyn Gate> = Arc::clone(&self.gate) as _;
        #[expect(clippy::disallowed_methods, reason = "adapters sign with the wall clock")]
        let context = SendContext { gate, now: std::time::SystemTime::now };
        let batch = self.request(chunk);
        let (outcomes, mut receiver) = Outcomes::channel();
        let seer = Arc::clone(&self.gate);
        let outcomes = outcomes.watched(move |outcome| seer.saw(outcome));
        let provider = Arc::clone(provider);
        // On its own task, so that a panic in an adapter ends this batch and nothing else.
        #[expect(clippy::disallowed_methods, reason = "awaited below")]
        let sending = tokio::spawn(async move { provider.send(batch, context, outcomes).await });
        let mut open: Vec<Option<&Entry>> = chunk.iter().map(|(entry, _)| Some(entry)).collect();
        let mut changes = Changes::default();
        let mut batched = Vec::new();
        while receiver.recv_many(&mut batched, 256).await > 0 {
            for outcome in batched.drain(..) {
                if let Some(entry) = open.get_mut(outcome.target).and_then(Option::take) {
                    self.outcome(entry, outcome, &mut changes).await;
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
        for entry in open.into_iter().flatten() {
            let verdict = Verdict::Failed(Failure::channel(Reason::ProtocolError).doubtful());
            let words = Some("the adapter gave no outcome".to_owned());
            let vendor = VendorEcho { words, ..VendorEcho::default() };
            let outcome = Outcome { target: 0, verdict, vendor, latency: Duration::ZERO };
            self.outcome(entry, outcome, &mut changes).await;
        }
        self.flush(&mut changes).await;
    }

    async fn flush(&self, changes: &mut Changes) {
        if !changes.events.is_empty() || !changes.addresses.is_empty() {
            self.hand.inner.recorder.push(std::mem::take(changes), self.hand.urgent()).await;
        }
    }

    fn request(&self, chunk: &[(Entry, Address)]) -> Batch {
        let (inner, job, item) = (self.hand.inner, &self.hand.job, self.hand.item);
        let codec = &inner.parts.codec;
        let capabilities = &self.channel.descriptor.capabilities;
        let left = Duration::from_millis(job.record.deadline_at.saturating_sub(inner.now_ms()));
        let unit = capabilities.ttl_unit.as_millis().max(1) as u64;
        let ttl = Duration::from_millis(left.min(capabilities.max_ttl).as_millis() as u64 / unit * unit);
        let target = |(entry, address): &(Entry, Address)| Target {
            address: address.clone(),
            key: codec.delivery_key(job.id, entry.target),
            receipt_param: Some(codec.receipt_param(item.channel, job.id, entry.target)),
            variables: entry.variables.clone().map(Arc::new),
        };
        Batch {
            message: MessageRef {
                id: job.public_id.clone(),
                page_key: codec.delivery_key(job.id, item.id.0 as u64),
                label: job.record.label.clone(),
            },
            content: Arc::clone(&job.content),
            ttl,
            targets: chunk.iter().map(target).collect(),
            attempt: item.attempt + 1,
        }
    }

    async fn outcome(&mut self, entry: &Entry, outcome: Outcome, changes: &mut Changes) {
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
        match &outcome.verdict {
            Verdict::Accepted => {
                let event = self.hand.event(entry.target, State::Accepted, None);
                changes.events.push(self.tell(entry, event, &outcome, Next::Nothing));
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
                self.failed(entry, &outcome, &failure, changes).await;
            }
        }
    }

    async fn failed(&mut self, entry: &Entry, outcome: &Outcome, failure: &Failure, changes: &mut Changes) {
        let attempt = self.hand.item.attempt + 1;
        let mode = self.channel.descriptor.capabilities.default_delivery;
        let judgement = judge::judge(failure, attempt, mode, rand::rng().random());
        if self.hand.inner.parts.tasks.is_stopping() && judgement.step != Step::Unknown && not_sent(failure) {
            self.unsent.push(entry.clone());
            return;
        }
        changes.addresses.extend(self.verdict(entry, failure.reason, &judgement));
        if judgement.channel_refused {
            let words =
                outcome.vendor.words.clone().unwrap_or_else(|| "the vendor refuses the credentials".into());
            self.channel_state(ChannelState::AuthFailed, Some(words)).await;
        }
        let retry = |wait: Duration| {
            let attempt = if judgement.counts { attempt } else { attempt - 1 };
            (attempt, wait.as_millis().div_ceil(1000) as u64)
        };
        let pending = self.hand.event(entry.target, State::Pending, Some(failure.reason));
        match judgement.step {
            Step::Retry(wait) => {
                let next = Next::Retry(retry(wait).1 * 1000);
                changes.events.push(self.tell(entry, pending, outcome, next));
                let told = Entry { decision: None, ..entry.clone() };
                self.retries.entry(retry(wait)).or_default().push(told);
            }
            Step::Unknown => {
                let event = self.hand.event(entry.target, State::Unknown, Some(failure.reason));
                changes.events.push(self.tell(entry, event, outcome, Next::Nothing));
            }
            Step::Next | Step::NextOrRetry(_) => {
                let else_retry = match judgement.step {
                    Step::NextOrRetry(wait) => Some(retry(wait)),
                    _ => None,
                };
                let event = self.tell(entry, pending, outcome, Next::Nothing);
                let leaver =
                    onward::Leaver { entry: entry.clone(), event, reason: failure.reason, else_retry };
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

    fn verdict(&self, entry: &Entry, reason: Reason, judgement: &Judgement) -> Option<AddressVerdict> {
        if judgement.address == judge::Address::Keep || entry.target >= GIVEN_TARGETS {
            return None;
        }
        Some(AddressVerdict {
            app: self.hand.job.record.app,
            provider: self.channel.descriptor.address.provider.to_owned(),
            device: entry.target,
            version: entry.address_version,
            reason,
            retire: judgement.address == judge::Address::Retire,
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
            Ok(_) => {}
            Err(error) => tracing::warn!("a channel's state could not be kept: {error}"),
        }
    }
}

/// Whether the request provably never reached the vendor.
fn not_sent(failure: &Failure) -> bool {
    failure.reason == Reason::VendorUnavailable && failure.certainty == Certainty::Definite
}
