//! Asking vendors what became of what they accepted: the work for it, when it is due, and what holds it back.
//!
//! What comes in: the page of a vendor that can be asked, at its end. What goes out: one work item for those whom the
//! vendor has accepted, due at growing intervals. [`crate::receipts`] does the asking and merges the answers; here is
//! nothing that waits for a vendor.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anypush_providers::contract::{Class, Gate, Pass, Reason, Receipts, SendContext};
use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::channels::Channel;
use crate::clock::DAY_MS;
use crate::delivery::dispatch::InHand;
use crate::delivery::gate::{PageFacts, PageGate};
use crate::delivery::job;
use crate::delivery::page::Page;
use crate::delivery::pipeline::{Inner, Pipeline};
use crate::delivery::request;
use crate::pacing::Rate;
use crate::store::{Changes, MessageRecord, NewWork, StoreError, WorkItem, WorkKind, WorkUpdate};

/// Items that are leased at once.
const AT_ONCE: usize = 16;
/// Requests a second with which one channel's vendor is asked: sends come first.
const A_SECOND: u32 = 20;
/// How long a request may wait at the credential's gate.
const AT_THE_GATE: Duration = Duration::from_secs(30);
/// Who calls back is asked about what is late only: so many times the first wait.
const LATE: u64 = 10;
/// The longest wait between two times.
const LONGEST_MS: u64 = 6 * 3600 * 1000;
/// How long a vendor is asked at the most; and, where the time to live is shorter, how long after its end.
const DAYS_MS: u64 = 3 * DAY_MS;
const AFTERWARDS_MS: u64 = 3600 * 1000;
/// How soon a channel is looked at again that cannot be asked now.
const LATER_MS: u64 = 60_000;

/// When which channel's vendor is to be asked: a hint; the store knows.
#[derive(Debug, Default)]
pub(super) struct Asks {
    plan: Mutex<Timetable>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct Timetable {
    /// By channel, in Unix milliseconds.
    due: HashMap<i64, u64>,
    /// Channels that are being asked.
    busy: HashSet<i64>,
}

impl Asks {
    fn plan(&self) -> MutexGuard<'_, Timetable> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, channel: i64, due_at: u64) {
        let mut plan = self.plan();
        let due = plan.due.entry(channel).or_insert(due_at);
        *due = due_at.min(*due);
    }
}

impl Inner {
    /// How long after acceptance a channel's vendor is asked for the first time.
    pub(super) fn first_ask_ms(&self, channel: &Channel) -> u64 {
        let calls_back = channel.descriptor.capabilities.receipts == Receipts::Callback
            && self.parts.callback_urls.of(channel).is_some();
        let first = u64::from(self.parts.ask_after_seconds) * 1000;
        if calls_back { first * LATE } else { first }
    }
}

/// When a vendor is asked again after so many times; `None`: no more.
fn next_ask(first_ms: u64, times: u32, message: &MessageRecord, now_ms: u64) -> Option<u64> {
    let due_at = now_ms + first_ms.saturating_mul(1 << times.min(20)).min(LONGEST_MS.max(first_ms));
    let last =
        (job::ends_at(message) + AFTERWARDS_MS).min(message.send_at.unwrap_or(message.created_at) + DAYS_MS);
    (due_at <= last).then_some(due_at)
}

/// The one work item that asks about all of a page whom its vendor has accepted.
pub(super) fn work(hand: &InHand<'_>, channel: &Channel) -> Option<NewWork> {
    if hand.to_ask.is_empty() || !channel.descriptor.capabilities.polls_receipts {
        return None;
    }
    let inner = hand.inner;
    let due_at = next_ask(inner.first_ask_ms(channel), 0, &hand.job.record, inner.now_ms())?;
    let page = hand.page.with(hand.to_ask.clone());
    let seq = channel.record.seq;
    let work = NewWork { kind: WorkKind::Ask, ..inner.page_work(&hand.job, seq, &page, due_at, 0) };
    inner.asks.note(seq, due_at);
    Some(work)
}

/// Waits its turn twice: for the channel's own rate of questions, then at the gate of its credential.
struct Gently {
    born: Instant,
    rate: Mutex<Rate>,
    gate: Arc<PageGate>,
}

impl Gently {
    fn wait(&self) -> Option<Instant> {
        let now = self.born.elapsed().as_micros() as u64;
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        rate.take(now, 1).err().map(|at| self.born + Duration::from_micros(at))
    }
}

#[async_trait]
impl Gate for Gently {
    async fn pass(&self, targets: usize) -> Result<Pass, Reason> {
        while let Some(at) = self.wait() {
            tokio::time::sleep_until(at).await;
        }
        self.gate.pass(targets).await
    }
}

impl Pipeline {
    /// Finds out which vendors an earlier life was to ask.
    pub(crate) async fn find_asks(&self) -> Result<(), StoreError> {
        let inner = &self.inner;
        for (kind, channel, _) in inner.parts.store.backlog().await? {
            if kind == WorkKind::Ask {
                inner.asks.note(channel, 0);
            }
        }
        Ok(())
    }

    /// The channels whose vendors are to be asked now; each is the caller's until [`Self::asked`].
    pub(crate) fn asks(&self) -> Vec<i64> {
        let now = self.inner.now_ms();
        let plan = &mut *self.inner.asks.plan();
        let due: Vec<i64> = plan
            .due
            .iter()
            .filter(|(c, at)| **at <= now && !plan.busy.contains(c))
            .map(|(c, _)| *c)
            .collect();
        for channel in &due {
            plan.due.remove(channel);
            plan.busy.insert(*channel);
        }
        due
    }

    /// Resolves when another channel may be due: at its time, or when one was asked.
    pub(crate) async fn next_ask(&self) {
        let now = self.inner.now_ms();
        let next = {
            let plan = self.inner.asks.plan();
            plan.due.iter().filter(|(c, _)| !plan.busy.contains(c)).map(|(_, at)| *at).min()
        };
        let wait = next.map_or(5000, |at| at.saturating_sub(now)).clamp(20, 5000);
        tokio::select! {
            () = self.inner.asks.bell.notified() => {}
            () = tokio::time::sleep(Duration::from_millis(wait)) => {}
        }
    }

    /// A channel was asked, or cannot be now: it comes again with its next item.
    pub(crate) async fn asked(&self, channel: i64, again: bool) {
        let inner = &self.inner;
        let now = inner.now_ms();
        let due = if again {
            Ok(Some(now + LATER_MS))
        } else {
            inner.parts.store.next_due(WorkKind::Ask, channel).await
        };
        if let Some(due_at) = due.unwrap_or(Some(now + LATER_MS)) {
            inner.asks.note(channel, due_at);
        }
        inner.asks.plan().busy.remove(&channel);
        inner.asks.bell.notify_one();
    }

    /// What is to be asked of a channel's vendor now.
    pub(crate) async fn lease_asks(&self, channel: i64) -> Result<Vec<WorkItem>, StoreError> {
        self.inner.lease(WorkKind::Ask, channel, None, AT_ONCE).await
    }

    /// What stands beside a question to a channel's vendor; `None`: it is down.
    pub(crate) fn asking(&self, channel: &Channel) -> Option<SendContext> {
        let inner = &self.inner;
        let facts = PageFacts {
            class: Class::Marketing,
            message: channel.record.seq as u64,
            is_first: false,
            left: AT_THE_GATE,
        };
        let gate = inner.gates.view(channel, &facts, &inner.parts.tasks);
        if gate.closed_for().is_some() {
            return None;
        }
        let gate = Gently { born: Instant::now(), rate: Mutex::new(Rate::new(A_SECOND)), gate };
        Some(request::context(inner, channel, Arc::new(gate)))
    }

    /// How an item goes on of which these targets still lack a final word: it is asked again later, or ends.
    /// `not_before`: the vendor named a time to wait.
    pub(crate) async fn ask_again(
        &self,
        channel: &Channel,
        item: &WorkItem,
        left: Option<Page>,
        not_before: Duration,
    ) -> Result<Changes, StoreError> {
        let inner = &self.inner;
        let ended = Changes { work_done: vec![item.id], ..Changes::default() };
        let Some(page) = left else { return Ok(ended) };
        let Some(message) = inner.parts.store.message(item.message).await? else { return Ok(ended) };
        let (now, times) = (inner.now_ms(), item.attempt + 1);
        let Some(due_at) = next_ask(inner.first_ask_ms(channel), times, &message, now) else {
            return Ok(ended);
        };
        let update = WorkUpdate {
            id: item.id,
            epoch: item.epoch,
            due_at: due_at.max(now + not_before.as_millis() as u64),
            attempt: times,
            payload: Some(page.encode()),
            lease_until: 0,
        };
        Ok(Changes { work_updates: vec![update], ..Changes::default() })
    }

    /// Gives items back that were not asked about.
    pub(crate) async fn put_asks_back(&self, items: &[WorkItem]) {
        let due_at = self.inner.now_ms() + LATER_MS;
        let back = |item: &WorkItem| WorkUpdate {
            id: item.id,
            epoch: item.epoch,
            due_at,
            attempt: item.attempt,
            payload: None,
            lease_until: 0,
        };
        let work_updates = items.iter().map(back).collect();
        self.inner.recorders.rest.push(Changes { work_updates, ..Changes::default() }, false).await;
    }
}

#[cfg(test)]
mod tests {
    use anypush_providers::contract::Class;
    use proptest::prelude::*;

    use super::*;
    use crate::ids::Id;

    proptest! {
        #[test]
        fn a_vendor_is_asked_ever_more_rarely_and_not_for_ever(
            first in 1000u64..86_400_000, ttl in 0u64..(28 * 86_400_000), created in 1u64..1 << 40,
        ) {
            let message = MessageRecord {
                id: Id(1), app: 1, state: 0, class: Class::Marketing, spec: String::new(), label: None,
                created_at: created, deadline_at: created + ttl, send_at: None, expanded_at: None, targeted: 1, generation: 0,
            };
            let (mut now, mut times, mut last) = (created, 0, 0);
            while let Some(due) = next_ask(first, times, &message, now) {
                prop_assert!(due > now && due - now >= last.min(LONGEST_MS));
                prop_assert!(due <= created + DAYS_MS);
                prop_assert!(due <= job::ends_at(&message) + AFTERWARDS_MS);
                (last, now, times) = (due - now, due, times + 1);
            }
            prop_assert!(times < 40, "{times}");
        }
    }
}
