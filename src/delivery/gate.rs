//! Holds vendor requests to what their credential bears: two channels with one credential share its gate.
//!
//! A request waits here as a [`Waiter`] in the gate's [`Turnstile`]: the adapter's future holds the receiving end of a
//! oneshot, the turnstile the sending end. What is sent is a [`Held`], which gives its place back when it is dropped,
//! be it by the adapter after the answer, or with the receiving end of somebody who went away. A sending end that is
//! dropped unused means that the breaker opened. Whoever changes something (arrives, gives back, brings an answer)
//! turns the turnstile; only where nothing but time must pass, a task does. Nobody waits here but requests of pages in
//! flight, so the line is bounded by these.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anypush_providers::contract::{
    Certainty, Class, Failure, Gate, Hint, Outcome, Pass, Reason, Scope, Verdict,
};
use async_trait::async_trait;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::channels::Channel;
use crate::pacing::{
    Bounds, Circuit, Lane, Micros, RetryBudget, SECOND, Seen, Sign, Ticket, Turn, Turnstile, Waiting,
};
use crate::tasks::Tasks;

/// A gate that nobody used for so long, and that has nothing to remember, is forgotten.
const IDLE: Micros = 600 * SECOND;
/// A vendor that takes so long and then does not answer is silent; sooner, something broke.
const SILENCE: Duration = Duration::from_secs(5);
/// How long nobody must have waited at a breaker that may probe, until its channels are offered again.
const UNASKED: Micros = SECOND;

/// All gates, by credential.
pub(super) struct Gates {
    by_credential: Mutex<HashMap<String, Arc<CredentialGate>>>,
    /// Rung when a breaker opens or closes.
    pub(super) bell: Arc<Notify>,
}

/// The gate of one credential.
pub(super) struct CredentialGate {
    born: Instant,
    tasks: Tasks,
    bell: Arc<Notify>,
    core: Mutex<Core>,
}

struct Core {
    turnstile: Turnstile<Waiter>,
    budget: RetryBudget,
    /// The channels with this credential, by number.
    members: HashMap<i64, Member>,
    /// When a task turns the turnstile.
    timer: Option<Micros>,
    used_at: Micros,
}

/// A channel of a credential.
struct Member {
    app: i64,
    bounds: Bounds,
}

/// A request that waits.
struct Waiter {
    targets: u32,
    is_first: bool,
    way: oneshot::Sender<Held>,
}

/// A place, until it is dropped.
struct Held {
    gate: Arc<CredentialGate>,
    ticket: Ticket,
}

/// A page's view of its credential's gate: which lane and flow its requests wait in, and until when.
pub(super) struct PageGate {
    gate: Arc<CredentialGate>,
    lane: Lane,
    flow: u64,
    is_first: bool,
    over_at: Instant,
    /// Requests that passed and whose answer was not counted yet: a batch has many outcomes and is one request.
    unanswered: AtomicU64,
    /// Requests that wait here for their turn.
    waiting: AtomicUsize,
    refused: AtomicBool,
    /// What the vendor goes on not to process counts as a failure.
    impatient: AtomicBool,
}

/// What a gate must know of a page.
pub(super) struct PageFacts {
    pub(super) class: Class,
    pub(super) message: u64,
    /// It is no retry.
    pub(super) is_first: bool,
    /// Until when its requests may wait.
    pub(super) left: Duration,
}

impl Default for Gates {
    fn default() -> Self {
        Self { by_credential: Mutex::default(), bell: Arc::new(Notify::new()) }
    }
}

impl Gates {
    /// A page's view of the gate of its channel.
    pub(super) fn view(&self, channel: &Channel, page: &PageFacts, tasks: &Tasks) -> Arc<PageGate> {
        let gate = self.of(channel, tasks);
        let shared = gate.join(channel);
        Arc::new(PageGate {
            lane: match page.class {
                Class::Transactional => Lane::Transactional,
                Class::Marketing => Lane::Marketing,
            },
            // Apps that share a credential take turns; where there is one, its messages do.
            flow: if shared { channel.record.app as u64 } else { page.message },
            is_first: page.is_first,
            over_at: Instant::now() + page.left,
            unanswered: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            refused: AtomicBool::new(false),
            impatient: AtomicBool::new(false),
            gate,
        })
    }

    /// Whether a channel's vendor is known to be down. A breaker that may let a probe through and at which nobody
    /// waits is not: routes would go around the channel, and nobody would ever try.
    pub(super) fn is_down(&self, channel: &Channel) -> bool {
        let gates = self.gates();
        let Some(gate) = gates.get(&key(channel)) else { return false };
        let (now, core) = (gate.now(), gate.core());
        let seen = core.turnstile.seen(now);
        match seen.circuit {
            Circuit::Closed => false,
            Circuit::Open(_) | Circuit::ProbeOut(_) => true,
            Circuit::ProbeDue => seen.waiting > 0 || now.saturating_sub(core.used_at) < UNASKED,
        }
    }

    /// What can be seen of a channel's gate; `None` where nothing was sent yet.
    pub(super) fn seen(&self, channel: &Channel) -> Option<Seen> {
        let gates = self.gates();
        let gate = gates.get(&key(channel))?;
        Some(gate.core().turnstile.seen(gate.now()))
    }

    /// Lets gates go of channels that were deleted or got another credential.
    pub(super) fn keep_only(&self, channels: &[Arc<Channel>]) {
        let keys: HashMap<i64, String> = channels.iter().map(|c| (c.record.seq, key(c))).collect();
        self.gates().retain(|credential, gate| {
            let mut core = gate.core();
            core.members.retain(|seq, _| keys.get(seq) == Some(credential));
            core.set_bounds();
            let seen = core.turnstile.seen(gate.now());
            let is_busy = seen.in_flight > 0 || seen.waiting > 0 || seen.circuit != Circuit::Closed;
            is_busy || !core.members.is_empty() || gate.now().saturating_sub(core.used_at) < IDLE
        });
    }

    fn of(&self, channel: &Channel, tasks: &Tasks) -> Arc<CredentialGate> {
        let mut gates = self.gates();
        let gate = gates.entry(key(channel)).or_insert_with(|| {
            Arc::new(CredentialGate {
                born: Instant::now(),
                tasks: tasks.clone(),
                bell: Arc::clone(&self.bell),
                core: Mutex::new(Core {
                    turnstile: Turnstile::new(bounds(channel)),
                    budget: RetryBudget::default(),
                    members: HashMap::new(),
                    timer: None,
                    used_at: 0,
                }),
            })
        });
        Arc::clone(gate)
    }

    fn gates(&self) -> MutexGuard<'_, HashMap<String, Arc<CredentialGate>>> {
        self.by_credential.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(channel: &Channel) -> String {
    let credential = channel.provider.as_ref().map_or_else(String::new, |provider| provider.credential());
    format!("{}/{credential}", channel.record.provider)
}

fn bounds(channel: &Channel) -> Bounds {
    let most = channel.descriptor.capabilities.max_in_flight.max(1);
    Bounds {
        most: channel.limits.max_in_flight.unwrap_or(most).clamp(1, most),
        per_second: channel.limits.per_second,
    }
}

impl Core {
    /// The strictest of what ops allow the channels of this credential.
    fn set_bounds(&mut self) {
        let all = || self.members.values().map(|member| member.bounds);
        if let Some(most) = all().map(|bounds| bounds.most).min() {
            let per_second = all().filter_map(|bounds| bounds.per_second).min();
            self.turnstile.set_bounds(Bounds { most, per_second });
        }
    }
}

impl CredentialGate {
    fn now(&self) -> Micros {
        self.born.elapsed().as_micros() as Micros
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A channel sends through this gate. `true`: several apps do.
    fn join(&self, channel: &Channel) -> bool {
        let (app, bounds) = (channel.record.app, bounds(channel));
        let mut core = self.core();
        let old = core.members.insert(channel.record.seq, Member { app, bounds });
        if old.is_none_or(|old| old.bounds != bounds) {
            core.set_bounds();
        }
        core.members.values().any(|member| member.app != app)
    }

    /// Lets go whoever may.
    fn turn(self: &Arc<Self>) {
        let (mut going, mut refused) = (Vec::new(), Vec::new());
        let again = {
            let now = self.now();
            let mut core = self.core();
            let again = loop {
                match core.turnstile.next(now) {
                    Turn::Go(waiter, ticket) => {
                        if waiter.is_first {
                            core.budget.first(now, waiter.targets);
                        }
                        core.used_at = now;
                        going.push((waiter.way, Held { gate: Arc::clone(self), ticket }));
                    }
                    Turn::Refused(all) => refused.extend(all),
                    Turn::Wait(again) => break again,
                }
            };
            again.filter(|again| {
                let is_sooner = core.timer.is_none_or(|timer| *again < timer);
                if is_sooner {
                    core.timer = Some(*again);
                }
                is_sooner
            })
        };
        // Outside of the lock: a place that nobody takes any more comes back through here.
        for (way, held) in going {
            let _ = way.send(held);
        }
        drop(refused);
        if let Some(again) = again {
            let gate = Arc::clone(self);
            self.tasks.spawn("gate", async move {
                let at = gate.born + Duration::from_micros(again);
                tokio::select! {
                    () = gate.tasks.stopped() => return,
                    () = tokio::time::sleep_until(at) => {}
                }
                {
                    let mut core = gate.core();
                    if core.timer == Some(again) {
                        core.timer = None;
                    }
                }
                gate.turn();
            });
        }
    }

    fn answered(self: &Arc<Self>, latency: Duration, sign: Sign) {
        let (now, latency) = (self.now(), latency.as_micros() as Micros);
        if self.core().turnstile.answered(now, latency, sign) {
            self.bell.notify_one();
        }
        self.turn();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let now = self.gate.now();
        self.gate.core().turnstile.give_back(now, self.ticket);
        self.gate.turn();
    }
}

impl Waiting for Waiter {
    fn targets(&self) -> u32 {
        self.targets
    }

    fn is_gone(&self) -> bool {
        self.way.is_closed()
    }
}

impl PageGate {
    /// How long the breaker lets nothing through; `None` where a request may at least wait.
    pub(super) fn closed_for(&self) -> Option<Duration> {
        let now = self.gate.now();
        match self.gate.core().turnstile.seen(now).circuit {
            Circuit::Open(until) => Some(Duration::from_micros(until - now)),
            Circuit::Closed | Circuit::ProbeDue | Circuit::ProbeOut(_) => None,
        }
    }

    /// How long the vendor has been down.
    pub(super) fn down_for(&self) -> Duration {
        let now = self.gate.now();
        Duration::from_micros(self.gate.core().turnstile.down_for(now).unwrap_or_default())
    }

    /// Of so many retries, how many may be made now.
    pub(super) fn retry(&self, count: usize) -> usize {
        let now = self.gate.now();
        self.gate.core().budget.retry(now, count as u32) as usize
    }

    /// Whether an outcome is the gate's own no: nothing was sent, and it is no try.
    pub(super) fn is_refusal(&self, outcome: &Outcome) -> bool {
        self.refused.load(Ordering::Acquire)
            && outcome.latency.is_zero()
            && matches!(&outcome.verdict, Verdict::Failed(failure) if failure.reason == Reason::VendorUnavailable)
    }

    /// Whether requests that are not processed from here on count as failures: a vendor that closes each connection
    /// again and again is down.
    pub(super) fn be_impatient(&self, impatient: bool) {
        self.impatient.store(impatient, Ordering::Release);
    }

    /// Whether requests of this page wait for their turn.
    pub(super) fn is_waited_at(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Learns from an outcome of this page.
    pub(super) fn saw(&self, outcome: &Outcome) {
        let one_less = |count: u64| count.checked_sub(1);
        if outcome.latency.is_zero() {
            return;
        }
        let impatient = self.impatient.load(Ordering::Acquire);
        let Some(sign) = sign(outcome, self.is_first).or(impatient.then_some(Sign::Bad)) else { return };
        if sign == Sign::Good && !self.is_first {
            let now = self.gate.now();
            self.gate.core().budget.bore(now);
        }
        if self.unanswered.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less).is_ok() {
            self.gate.answered(outcome.latency, sign);
        }
    }

    fn refuse(&self) -> Reason {
        self.refused.store(true, Ordering::Release);
        Reason::VendorUnavailable
    }
}

/// What an outcome says of the vendor; `None`: nothing.
fn sign(outcome: &Outcome, first: bool) -> Option<Sign> {
    let is_silent = outcome.vendor.status.is_none() && outcome.latency >= SILENCE;
    match &outcome.verdict {
        // The other end closed a connection in order; the request is repeated elsewhere.
        Verdict::Failed(Failure { hint: Hint::NotProcessed, .. }) => None,
        Verdict::Failed(Failure { reason: Reason::RateLimited, scope: Scope::Channel, .. }) => {
            Some(Sign::SlowDown)
        }
        Verdict::Failed(Failure {
            reason: Reason::VendorUnavailable,
            certainty: Certainty::Doubtful,
            ..
        }) if is_silent => Some(Sign::Silent { first }),
        Verdict::Failed(Failure { reason: Reason::VendorUnavailable | Reason::ProtocolError, .. }) => {
            Some(Sign::Bad)
        }
        Verdict::Accepted | Verdict::Failed(_) => Some(Sign::Good),
    }
}

/// Counts one who waits, until it is dropped.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn at(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[async_trait]
impl Gate for PageGate {
    async fn pass(&self, targets: usize) -> Result<Pass, Reason> {
        let _waits = Waits::at(&self.waiting);
        let (way, mine) = oneshot::channel();
        let waiter = Waiter { targets: targets as u32, is_first: self.is_first, way };
        let now = self.gate.now();
        {
            let mut core = self.gate.core();
            core.used_at = now;
            core.turnstile.arrive(self.lane, self.flow, waiter);
        }
        self.gate.turn();
        tokio::select! {
            biased;
            () = self.gate.tasks.stopped() => Err(self.refuse()),
            held = mine => match held {
                Ok(held) => {
                    self.unanswered.fetch_add(1, Ordering::AcqRel);
                    Ok(Pass::new(held))
                }
                Err(_) => Err(self.refuse()),
            },
            // Its page comes back and ends what is over.
            () = tokio::time::sleep_until(self.over_at) => Err(self.refuse()),
        }
    }
}
