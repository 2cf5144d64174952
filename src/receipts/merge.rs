//! From the journal to the deliveries.
//!
//! One worker reads the journal in order, as much as waits: alone a callback is merged at once, under load hundreds
//! share a transaction. A row is deleted in the transaction that merges it. A row of which a receipt came before its
//! outcome was recorded stays, and is read again a little later, whole: what it has told already changes nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anypush_providers::contract::{Receipt, ReceiptEvent};
use tokio::time::Instant;

use super::resolve::{self, Found, Item, Resolved};
use super::{Inner, Parts, intake};
use crate::channels::Channel;
use crate::delivery::judge_address;
use crate::delivery::state::{Delivery, State};
use crate::delivery::trail;
use crate::failpoint::failpoint;
use crate::ids::{GIVEN_TARGETS, Id};
use crate::store::{AddressVerdict, Changes, RawReceipt, StoreError};

/// Callbacks of one transaction.
const ROWS: usize = 512;
/// How long a receipt waits for its delivery to be recorded.
const PARKED_MS: u64 = 10 * 60 * 1000;
/// How often the journal is looked at without a bell: a caller that hung up while its callback was written rings none.
const LOOK: Duration = Duration::from_secs(5);
/// How soon what waits is looked at again, at first and at the latest.
const SWEEPS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// Merges until the process is to stop. What is in the journal then is merged by the next life.
pub(super) async fn run(inner: Arc<Inner>) {
    let mut worker = Worker::new(Arc::clone(&inner));
    let mut trouble = SWEEPS.0;
    loop {
        let wait = match worker.drain().await {
            Ok(()) => {
                trouble = SWEEPS.0;
                worker.sweep_at.unwrap_or_else(|| Instant::now() + LOOK)
            }
            Err(error @ StoreError::Broken(_)) => {
                tracing::error!("receipts are merged no more until a new start: {error}");
                return;
            }
            Err(error) => {
                tracing::warn!("receipts wait to be merged: {error}");
                trouble = (trouble * 2).min(SWEEPS.1);
                Instant::now() + trouble
            }
        };
        tokio::select! {
            () = inner.parts.tasks.stopped() => return,
            () = inner.bell.notified() => {}
            () = tokio::time::sleep_until(wait) => {}
        }
    }
}

/// The one that merges.
pub(super) struct Worker {
    inner: Arc<Inner>,
    /// Everything up to here was read.
    after: i64,
    /// Rows that wait, and how many of their receipts do.
    waiting: HashMap<i64, usize>,
    /// When those are read again.
    sweep_at: Option<Instant>,
    pause: Duration,
}

impl Worker {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, after: 0, waiting: HashMap::new(), sweep_at: None, pause: SWEEPS.0 }
    }

    /// What waits is due.
    #[cfg(test)]
    pub(super) fn sweep_now(&mut self) {
        self.sweep_at = self.sweep_at.map(|_| Instant::now());
    }

    /// Merges all that is there.
    pub(super) async fn drain(&mut self) -> Result<(), StoreError> {
        if self.sweep_at.is_some_and(|at| at <= Instant::now()) {
            self.after = 0;
        }
        while !self.inner.parts.tasks.is_stopping() {
            let rows = self.inner.parts.store.journal_after(self.after, ROWS).await?;
            let unread = rows.iter().find(|row| !self.waiting.contains_key(&row.seq));
            self.inner.behind_since.store(unread.map_or(0, |row| row.received_at), Ordering::Relaxed);
            let Some(last) = rows.last().map(|row| row.seq) else {
                // What is left are those that wait: counting here keeps a miscount from staying.
                self.inner.rows.store(self.waiting.len() as u64, Ordering::Relaxed);
                break;
            };
            self.merge(rows).await?;
            self.after = last;
        }
        let now = Instant::now();
        if self.waiting.is_empty() {
            (self.sweep_at, self.pause) = (None, SWEEPS.0);
        } else if let Some(at) = self.sweep_at.filter(|at| *at > now) {
            self.sweep_at = Some(at.min(now + self.pause));
        } else {
            self.sweep_at = Some(now + self.pause);
            self.pause = (self.pause * 2).min(SWEEPS.1);
        }
        Ok(())
    }

    /// Merges these rows, in one transaction.
    async fn merge(&mut self, rows: Vec<RawReceipt>) -> Result<(), StoreError> {
        let now = self.inner.parts.clock.now_ms();
        let mut plans: BTreeMap<i64, Plan> = BTreeMap::new();
        let mut by_channel: BTreeMap<i64, (Arc<Channel>, Vec<Item>)> = BTreeMap::new();
        for raw in rows {
            let late = now.saturating_sub(raw.received_at) >= PARKED_MS;
            let plan = plans.entry(raw.seq).or_insert(Plan { late, ..Plan::default() });
            let Some(channel) = self.inner.parts.channels.by_seq(raw.channel) else {
                plan.early = 1;
                continue;
            };
            let Some(receipts) = self.read(&channel, &raw) else {
                // The vendor was told that we have it: the channel may yet be mended.
                plan.early = 1;
                self.inner.count(&channel, "unreadable", usize::from(late));
                continue;
            };
            let items = &mut by_channel.entry(raw.channel).or_insert_with(|| (channel, Vec::new())).1;
            let item = |receipt| Item { row: raw.seq, received_at: raw.received_at, receipt };
            items.extend(receipts.into_iter().map(item));
        }
        let mut ready: Vec<Ready> = Vec::new();
        let mut counts = Vec::new();
        for (channel, items) in by_channel.into_values() {
            let resolved = resolve::resolve(&self.inner.parts, &channel, items).await?;
            let mut count = Count::of(&resolved, |row| !self.waiting.contains_key(&row));
            let standing = self.standing(&resolved.found).await?;
            for found in resolved.found {
                let Some(plan) = plans.get_mut(&found.row) else { continue };
                if standing.is_early(&found) {
                    plan.early += 1;
                    count.early += usize::from(!self.waiting.contains_key(&found.row));
                    count.orphans += usize::from(plan.late);
                } else {
                    let known = standing.knows_failure(&found);
                    ready.push(Ready { channel: Arc::clone(&channel), found, known });
                }
            }
            counts.push((channel, count));
        }
        let merged = self.commit(plans, ready).await?;
        for (channel, count) in counts {
            let merged = merged.get(&channel.record.seq).copied().unwrap_or_default();
            for (result, by) in [
                ("merged", merged),
                ("forged", count.forged),
                ("unresolved", count.unresolved),
                ("early", count.early),
                ("orphan", count.orphans),
            ] {
                self.inner.count(&channel, result, by);
            }
            if count.forged > 0 {
                tracing::warn!(channel.name = %channel.record.name, count.forged, "receipts whose parameter was not made for this channel");
            }
        }
        Ok(())
    }

    /// Writes what is ready, ends the rows of which nothing waits, and remembers the others. Answers how many
    /// receipts were merged, by channel.
    async fn commit(
        &mut self,
        plans: BTreeMap<i64, Plan>,
        mut ready: Vec<Ready>,
    ) -> Result<HashMap<i64, usize>, StoreError> {
        // A row that was read before and of which no more is ready now has nothing to tell.
        let news = |row: i64| plans.get(&row).is_some_and(|p| self.waiting.get(&row) != Some(&p.early));
        ready.retain(|ready| news(ready.found.row));
        ready.sort_by_key(|ready| (ready.found.receipt.message, ready.found.receipt.target));
        let done = |plan: &Plan| plan.early == 0 || plan.late;
        let mut changes = Changes {
            journal_done: plans.iter().filter(|(_, plan)| done(plan)).map(|(row, _)| *row).collect(),
            ..Changes::default()
        };
        let pipeline = &self.inner.parts.pipeline;
        let (of_receipts, merged) = changes_of(&self.inner.parts, ready).await?;
        changes.append(of_receipts);
        let ended = changes.journal_done.len() as u64;
        if ended > 0 || !changes.receipts.is_empty() || !changes.late.is_empty() || !changes.events.is_empty()
        {
            let work = changes.work.clone();
            #[cfg(debug_assertions)]
            let late = !changes.late.is_empty();
            failpoint!("receipts.before_merge");
            failpoint!("receipts.before_late_failure", late);
            self.inner.parts.store.commit(changes).await?;
            failpoint!("receipts.after_late_failure", late);
            failpoint!("receipts.after_merge");
            pipeline.announce(&work);
            let left = self.inner.rows.load(Ordering::Relaxed).saturating_sub(ended);
            self.inner.rows.store(left, Ordering::Relaxed);
        }
        for (row, plan) in plans {
            if done(&plan) {
                self.waiting.remove(&row);
            } else if self.waiting.insert(row, plan.early) != Some(plan.early) {
                self.pause = SWEEPS.0;
            }
        }
        Ok(merged)
    }

    /// What is recorded of what these receipts are about: the rows of those that report a failure; of all others, which
    /// are nearly all, only whether there is one.
    async fn standing(&self, found: &[Found]) -> Result<Standing, StoreError> {
        let (failures, others): (Vec<&Found>, Vec<&Found>) =
            found.iter().partition(|found| found.is_failure());
        let pairs = |found: Vec<&Found>| found.into_iter().map(Found::pair).collect::<Vec<_>>();
        let mut standing = Standing::default();
        if !others.is_empty() {
            standing.missing.extend(self.inner.parts.store.unrecorded(&pairs(others)).await?);
        }
        if !failures.is_empty() {
            let rows = self.inner.parts.store.recorded(&pairs(failures)).await?;
            standing.failing.extend(rows.into_iter().map(|row| ((row.message, row.target), row)));
        }
        Ok(standing)
    }

    /// What a callback reports, read once more. `None`: it cannot be read now.
    fn read(&self, channel: &Channel, raw: &RawReceipt) -> Option<Vec<Receipt>> {
        let provider = channel.provider.as_ref()?;
        let request = intake::open(&self.inner.parts.vault, raw)?;
        let read = std::panic::catch_unwind(AssertUnwindSafe(|| provider.parse_callback(&request)));
        // That it stands in the journal says that it was authentic. An adapter that refuses it now has got other
        // credentials meanwhile.
        read.ok().flatten().filter(|reply| reply.authenticated).map(|reply| reply.receipts)
    }
}

/// A receipt that can be merged.
pub(super) struct Ready {
    pub(super) channel: Arc<Channel>,
    pub(super) found: Found,
    /// A failure that the delivery's trail tells already.
    pub(super) known: bool,
}

/// What receipts change, to be committed as one; and how many there were, by channel.
pub(super) async fn changes_of(
    parts: &Parts,
    ready: Vec<Ready>,
) -> Result<(Changes, HashMap<i64, usize>), StoreError> {
    let mut changes = Changes::default();
    let (mut merged, mut failures) = (HashMap::new(), Vec::new());
    for Ready { channel, found, known } in ready {
        *merged.entry(channel.record.seq).or_default() += 1;
        if !found.is_failure() {
            changes.receipts.push(found.receipt);
        } else if !known {
            if let Some(verdict) = verdict(&channel, &found)
                && parts.pipeline.may_judge(&channel, verdict.reason).await
            {
                changes.addresses.push(verdict);
            }
            failures.push(found.receipt);
        }
    }
    if !failures.is_empty() {
        changes.append(parts.pipeline.failed_late(failures).await?);
    }
    Ok((changes, merged))
}

/// What is to be done with a row of the journal.
#[derive(Debug, Clone, Copy, Default)]
struct Plan {
    /// It has waited long enough.
    late: bool,
    /// How many of its receipts wait for their delivery.
    early: usize,
}

/// What is counted of a channel's receipts; each row once, however often it is read.
struct Count {
    forged: usize,
    unresolved: usize,
    early: usize,
    orphans: usize,
}

impl Count {
    fn of(resolved: &Resolved, is_first: impl Fn(i64) -> bool) -> Self {
        let first = |rows: &[i64]| rows.iter().filter(|row| is_first(**row)).count();
        Self {
            forged: first(&resolved.forged),
            unresolved: first(&resolved.unresolved),
            early: 0,
            orphans: 0,
        }
    }
}

/// What is recorded of what receipts are about.
#[derive(Default)]
struct Standing {
    /// Of those that report a failure.
    failing: HashMap<(Id, u64), Delivery>,
    /// Of the others: what has no row.
    missing: HashSet<(Id, u64)>,
}

impl Standing {
    /// Whether a receipt came before what it is about was recorded. A failure between two tries is about one that is not
    /// recorded yet, or is settled by the next: it must not end a delivery that is still on its way.
    fn is_early(&self, found: &Found) -> bool {
        if !found.is_failure() {
            return self.missing.contains(&found.pair());
        }
        let row = self.failing.get(&found.pair());
        row.is_none_or(|row| row.state == State::Pending && !self.knows_failure(found))
    }

    /// Whether a receipt is a failure that was merged before: the delivery may be on its way through another channel
    /// since.
    fn knows_failure(&self, found: &Found) -> bool {
        let row = self.failing.get(&found.pair()).filter(|_| found.is_failure());
        row.is_some_and(|row| trail::is_failed_later(&row.trail, found.receipt.channel))
    }
}

/// What a failure says about the address, where the receipt names the token of the delivery's own.
fn verdict(channel: &Channel, found: &Found) -> Option<AddressVerdict> {
    let (ReceiptEvent::Failed { reason, .. }, Some(version)) = (found.receipt.event, found.version) else {
        return None;
    };
    (found.receipt.target < GIVEN_TARGETS).then_some(AddressVerdict {
        app: channel.record.app,
        provider: channel.descriptor.address.provider.to_owned(),
        device: found.receipt.target,
        version,
        reason,
        retire: judge_address(reason)?,
        since: None,
    })
}
