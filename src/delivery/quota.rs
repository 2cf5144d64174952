//! Asks vendors' quotas before a page is sent, and remembers what vendors say of them.
//!
//! Counting is durable and comes before sending: one transaction for a page counts its targets and marks them in it, so
//! that a crash neither forgets a use nor counts a target twice. What then provably did not go out is given back in
//! the transaction that records it. A use whose answer was lost stays counted.
//!
//! Pages of channels and classes without a counted quota pay nothing for any of this.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anypush_providers::contract::{
    Address, Certainty, Failure, Hint, Provider, QuotaPeriod, QuotaScope, Reason, Scope,
};

use crate::channels::Channel;
use crate::clock::{DAY_MS, rfc3339};
use crate::delivery::dispatch::InHand;
use crate::delivery::onward::Leaver;
use crate::delivery::page::Entry;
use crate::delivery::pipeline::{Inner, Pipeline};
use crate::delivery::state::State;
use crate::delivery::targets::Targets;
use crate::delivery::trail::{Next, TrailEntry};
use crate::quotas::{self, Counted, Period};
use crate::store::{QuotaAnswer, QuotaAsk, QuotaBack, QuotaLimit, StoreError};

/// How long a quota counts as used up where neither the vendor nor its sheet says when it begins anew: an account that
/// has run out of money is asked again after this time.
const UNKNOWN_RESET: Duration = Duration::from_mins(10);
/// Longest word of a vendor that is believed.
const LONGEST: Duration = Duration::from_hours(31 * 24);
/// Periods older than this are forgotten.
const KEPT_MS: u64 = 3 * DAY_MS;
/// Rows that one transaction forgets.
const PURGED: usize = 10_000;

/// Until when vendors call their quotas used up, by number.
#[derive(Debug, Default)]
pub(super) struct Closed(Mutex<HashMap<i64, u64>>);

impl Closed {
    /// What an earlier life was told.
    pub(super) fn new(known: Vec<(i64, u64)>) -> Self {
        Self(Mutex::new(known.into_iter().collect()))
    }

    fn until(&self, number: i64, now_ms: u64) -> Option<u64> {
        self.marks().get(&number).copied().filter(|until| *until > now_ms)
    }

    /// `true`: it is news.
    fn set(&self, number: i64, until: u64) -> bool {
        self.marks().insert(number, until) != Some(until)
    }

    fn marks(&self) -> MutexGuard<'_, HashMap<i64, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Until when a vendor calls the quota of this class used up, or that of everything.
    pub(super) fn quota_closed(&self, channel: &Channel, class: &str) -> Option<u64> {
        let numbers = [quotas::closed_number(channel, ""), quotas::closed_number(channel, class)];
        numbers.into_iter().filter_map(|number| self.closed.until(number, self.now_ms())).max()
    }

    fn counted(&self, channel: &Channel, class: &str) -> Vec<(Counted, Period)> {
        let now = self.now_ms();
        let concerns = |counted: &Counted| counted.quota.class.is_empty() || counted.quota.class == class;
        let with_period =
            |counted: Counted| (counted, quotas::period(counted.quota.period, counted.quota.time_zone, now));
        quotas::counted(channel).into_iter().filter(concerns).map(with_period).collect()
    }
}

/// What a page's class is in the vendor's quotas.
pub(super) fn class(hand: &InHand<'_>, channel: &Channel, provider: &Arc<dyn Provider>) -> &'static str {
    let category = hand.job.category(&channel.record.provider);
    provider.quota_class(&hand.job.spec.content, category.as_deref())
}

/// Takes out of a page the targets for which a quota has no room. `kept` are those of its targets that are kept back.
pub(super) async fn ask(
    hand: &mut InHand<'_>,
    channel: &Channel,
    class: &str,
    targets: &mut Targets,
    kept: &[Entry],
) -> Result<Vec<Leaver>, StoreError> {
    if let Some(until) = hand.inner.quota_closed(channel, class) {
        let words = format!("not sent: the vendor calls its quota used up until {}", rfc3339(until));
        let all = targets.take_out(|_| true);
        return Ok(all.into_iter().map(|entry| leaver(hand, channel, entry, &words)).collect());
    }
    let counted = hand.inner.counted(channel, class);
    if counted.is_empty() {
        return Ok(Vec::new());
    }
    let is_counted = |entry: &Entry| {
        let at = |ms: u64| hand.job.record.created_at + ms;
        entry.counted.is_some_and(|ms| counted.iter().all(|(_, period)| period.began <= at(ms)))
    };
    let whole = hand.whole(kept);
    let places: HashMap<u64, usize> =
        whole.entries.iter().enumerate().map(|(place, entry)| (entry.target, place)).collect();
    let open: Vec<_> = targets
        .iter()
        .filter(|(entry, _)| !is_counted(entry))
        .filter_map(|(entry, address)| Some((*places.get(&entry.target)?, quotas::device_number(address))))
        .collect();
    if open.is_empty() {
        return Ok(Vec::new());
    }
    let limit = |(counted, period): &(Counted, Period)| QuotaLimit {
        quota: counted.number,
        began_at: period.began,
        limit: counted.limit,
        per_device: counted.is_per_device(),
    };
    let ask = QuotaAsk {
        item: hand.item.clone(),
        page: whole,
        at_ms: hand.at_ms(),
        quotas: counted.iter().map(limit).collect(),
        targets: open,
    };
    let QuotaAnswer { page, refused } = hand.inner.parts.store.use_quotas(ask).await?;
    let marks: HashMap<u64, Option<u64>> =
        page.entries.iter().map(|entry| (entry.target, entry.counted)).collect();
    for entry in &mut hand.page.entries {
        entry.counted = marks.get(&entry.target).copied().flatten();
    }
    targets.mark(&marks);
    let refused: HashMap<u64, usize> =
        refused.into_iter().map(|(place, quota)| (page.entries[place].target, quota)).collect();
    let gone = targets.take_out(|entry| refused.contains_key(&entry.target));
    let tell = |entry: Entry| {
        let (Counted { quota, limit, .. }, period) = &counted[refused[&entry.target]];
        let each_one = if quota.scope == QuotaScope::Device { " of this device" } else { "" };
        let each = if quota.period == QuotaPeriod::Day { "a day" } else { "an hour" };
        let (name, ends) = (quota.name, rfc3339(period.ends));
        let words = format!("not sent: the quota {name}{each_one} ({limit} {each}) is used up until {ends}");
        leaver(hand, channel, entry, &words)
    };
    Ok(gone.into_iter().map(tell).collect())
}

fn leaver(hand: &InHand<'_>, channel: &Channel, entry: Entry, words: &str) -> Leaver {
    let reason = Reason::QuotaExceeded;
    hand.inner.parts.metrics.outcome(&channel.record.provider, reason.as_str(), 1);
    let mut event = hand.event(&entry, State::Pending, Some(reason));
    event.trail.push(TrailEntry::Attempted {
        at_ms: event.at_ms,
        channel: hand.item.channel,
        attempt: hand.item.attempt + 1,
        reason: Some(reason),
        latency_ms: 0,
        status: None,
        code: None,
        words: Some(words.to_owned()),
        next: Next::Nothing,
    });
    Leaver { entry, event, reason, else_retry: None }
}

/// What is given back of a target that provably did not go out and is not tried again here.
pub(super) fn back(
    hand: &InHand<'_>,
    channel: &Channel,
    class: &str,
    (entry, address): (&Entry, &Address),
    failure: &Failure,
) -> Vec<QuotaBack> {
    let Some(ms) = entry.counted.filter(|_| failure.certainty == Certainty::Definite) else {
        return Vec::new();
    };
    let at = hand.job.record.created_at + ms;
    let one = |(counted, _): (Counted, Period)| QuotaBack {
        quota: counted.number,
        began_at: quotas::period(counted.quota.period, counted.quota.time_zone, at).began,
        device: if counted.is_per_device() { quotas::device_number(address) } else { 0 },
    };
    hand.inner.counted(channel, class).into_iter().map(one).collect()
}

/// Remembers that a vendor calls a quota used up: of a class, or of everything. What it says of one device concerns
/// that device alone.
pub(super) async fn told(inner: &Inner, channel: &Channel, class: &str, failure: &Failure) {
    let of = match (failure.reason, failure.scope) {
        (Reason::QuotaExceeded, Scope::Class) => class,
        (Reason::QuotaExceeded, Scope::Channel) => "",
        _ => return,
    };
    let now = inner.now_ms();
    let number = quotas::closed_number(channel, of);
    // Most answers of a page say the same: no turn is waited for then.
    if inner.closed.until(number, now).is_some() {
        return;
    }
    let until = match failure.hint {
        Hint::RetryAfter(wait) => now + wait.min(LONGEST).as_millis() as u64,
        Hint::None | Hint::NotProcessed => {
            let fits = |quota: &&anypush_providers::contract::Quota| {
                quota.scope == QuotaScope::Channel && quotas::can_be_counted(quota) && quota.class == of
            };
            let stated = channel.descriptor.quotas.iter().filter(fits);
            let resets = stated.map(|quota| quotas::period(quota.period, quota.time_zone, now).ends);
            resets.max().unwrap_or(now + UNKNOWN_RESET.as_millis() as u64)
        }
    };
    if inner.closed.set(number, until) {
        let what = if of.is_empty() { "everything" } else { of };
        tracing::warn!(
            channel.name = %channel.record.name, quota.class = what, quota.until = %rfc3339(until),
            "the vendor calls a quota used up"
        );
        if let Err(error) = inner.parts.store.close_quota(number, until).await {
            tracing::warn!("a quota that is used up could not be kept: {error}");
        }
        inner.gates.bell.notify_one();
    }
}

/// A quota of a channel, as users see it.
#[derive(Debug, Clone)]
pub struct QuotaSeen {
    /// As the vendor states it.
    pub quota: &'static anypush_providers::contract::Quota,
    /// How many, here.
    pub limit: u64,
    /// What is used of it; `None` where it is not counted, or each device has its own.
    pub used: Option<u64>,
    /// Whether it is asked before anything is sent.
    pub counted: bool,
    /// When it begins anew.
    pub resets_at: u64,
    /// Until when the vendor calls it used up.
    pub closed_until: Option<u64>,
}

impl Pipeline {
    /// The quotas of a channel as they stand.
    pub async fn quotas(&self, channel: &Channel) -> Result<Vec<QuotaSeen>, StoreError> {
        let now = self.inner.now_ms();
        let counted = quotas::counted(channel);
        let keys: Vec<_> = counted
            .iter()
            .filter(|counted| !counted.is_per_device())
            .map(|c| (c.number, quotas::period(c.quota.period, c.quota.time_zone, now).began))
            .collect();
        let used: HashMap<i64, u64> = match keys.as_slice() {
            [] => HashMap::new(),
            keys => self.inner.parts.store.quotas_used(keys).await?.into_iter().collect(),
        };
        let one = |quota: &'static anypush_providers::contract::Quota| {
            let mine = counted.iter().find(|counted| counted.quota.name == quota.name);
            QuotaSeen {
                quota,
                limit: mine.map_or(quota.limit, |mine| mine.limit),
                used: mine
                    .filter(|mine| !mine.is_per_device())
                    .map(|mine| used.get(&mine.number).copied().unwrap_or(0)),
                counted: mine.is_some(),
                resets_at: quotas::period(quota.period, quota.time_zone, now).ends,
                closed_until: self.inner.quota_closed(channel, quota.class),
            }
        };
        Ok(channel.descriptor.quotas.iter().map(one).collect())
    }

    /// An operator says that the account has room again: what the vendor said of it is forgotten.
    pub async fn reopen_quotas(&self, channel: &Channel) -> Result<(), StoreError> {
        let classes = channel.descriptor.quotas.iter().map(|quota| quota.class).chain([""]);
        for number in classes.map(|class| quotas::closed_number(channel, class)) {
            if self.inner.closed.until(number, 0).is_some() {
                self.inner.closed.marks().remove(&number);
                self.inner.parts.store.close_quota(number, 0).await?;
            }
        }
        Ok(())
    }
}

/// Forgets periods that are over, from time to time, until the process stops.
pub(super) async fn purge(inner: Arc<Inner>) {
    loop {
        let before = inner.now_ms().saturating_sub(KEPT_MS);
        let wait = match inner.parts.store.purge_quotas(before, PURGED).await {
            // More of the same; others have their turn in between.
            Ok(gone) if gone as usize == PURGED => Duration::from_millis(200),
            Ok(_) => Duration::from_hours(1),
            Err(error) => {
                tracing::warn!("old quota counts wait to be forgotten: {error}");
                Duration::from_mins(1)
            }
        };
        tokio::select! {
            () = inner.parts.tasks.stopped() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}
