//! Decides again about targets whose step has had its time, whose delay is over, or whose channel failed them late.
//!
//! What comes in: work items that are due, one for a page. Rows are read first: whoever has reached what the step
//! waited for is left alone. The others get their next step from the same pure function that gave the first, without
//! the channels that were tried.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anypush_providers::contract::Reason;

use crate::delivery::job::Job;
use crate::delivery::page::{Entry, Page};
use crate::delivery::pipeline::{Inner, Pipeline};
use crate::delivery::plan::{Aim, Plan, Planner};
use crate::delivery::state::{Delivery, Event, LateFailure, State};
use crate::delivery::trail::TrailEntry;
use crate::delivery::{cancel, onward, record, standing};
use crate::ids::Id;
use crate::routing::{Route, RouteChannel, RouteDevice};
use crate::store::{Changes, NewWork, StoreError, WorkItem, WorkKind, WorkUpdate};

/// Items that are leased at once.
const AT_ONCE: usize = 16;
/// Longest sleep without looking at what is due.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How long an item waits after the store failed it.
const STUMBLED_MS: u64 = 1000;

/// Runs until the process stops.
pub(super) async fn run(inner: Arc<Inner>) {
    while !inner.parts.tasks.is_stopping() {
        let wait = match round(&inner).await {
            Ok(true) => continue,
            Ok(false) => {
                let due = inner.parts.store.next_due(WorkKind::Escalate, 0).await.ok().flatten();
                let left = due.map(|due| Duration::from_millis(due.saturating_sub(inner.now_ms())));
                left.unwrap_or(LOOK_AGAIN).clamp(Duration::from_millis(10), LOOK_AGAIN)
            }
            Err(error) => {
                tracing::warn!("further steps wait, the store failed: {error}");
                Duration::from_secs(1)
            }
        };
        tokio::select! {
            () = inner.parts.tasks.stopped() => return,
            () = inner.escalate_bell.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// One round; `true` where more may be due.
async fn round(inner: &Arc<Inner>) -> Result<bool, StoreError> {
    let items = inner.lease(WorkKind::Escalate, 0, None, AT_ONCE).await?;
    let more = items.len() == AT_ONCE;
    for item in items {
        if let Err(error) = again(inner, &item).await {
            tracing::warn!(work.id = item.id.0, "a further step waits, the store failed: {error}");
            let update = WorkUpdate {
                id: item.id,
                epoch: item.epoch,
                due_at: inner.now_ms() + STUMBLED_MS,
                attempt: item.attempt,
                payload: None,
                lease_until: 0,
            };
            inner.recorder.push(Changes { work_updates: vec![update], ..Changes::default() }, false).await;
        }
    }
    Ok(more)
}

async fn again(inner: &Arc<Inner>, item: &WorkItem) -> Result<(), StoreError> {
    let (Some(job), Some(page)) = (inner.job(item.message).await?, Page::decode(&item.payload)) else {
        tracing::error!(
            work.id = item.id.0,
            "a further step cannot be read and is dropped: its message is gone"
        );
        inner.recorder.push(record::done(item.id), false).await;
        return Ok(());
    };
    if inner.is_stopped(&job) {
        return cancel::end_open(inner, &job, item, &page).await;
    }
    let until = page.wait.map(|wait| wait.until);
    let targets: Vec<_> = page.entries.iter().map(|entry| entry.target).collect();
    let rows = inner.parts.store.deliveries_of(job.id, &targets).await?;
    let rows: HashMap<u64, Delivery> = rows.into_iter().map(|row| (row.target, row)).collect();
    let open = |entry: &&Entry| rows.get(&entry.target).is_none_or(|row| !standing::is_settled(row, until));
    let open: Vec<&Entry> = page.entries.iter().filter(open).collect();
    let mut round = Round { job: &job, until, plan: Plan::default(), events: Vec::new() };
    if !open.is_empty() {
        let channels = inner.parts.channels.of_app(job.record.app);
        let routes: Vec<RouteChannel> = channels.iter().map(|channel| channel.route.clone()).collect();
        let planner = inner.planner(&job, &routes);
        let targets: Vec<_> = open.iter().map(|entry| entry.target).collect();
        let devices = onward::route_devices(inner, &planner, &targets).await?;
        for entry in open {
            round.decide(&planner, entry, rows.get(&entry.target), devices.get(&entry.target));
        }
    }
    let work = round.plan.work(inner, &job);
    let changes = Changes { events: round.events, work: work.clone(), ..record::done(item.id) };
    if inner.recorder.push_and_wait(changes, targets.len() <= 100).await {
        inner.announce(&work);
    }
    Ok(())
}

/// The targets of one item while they are decided about.
struct Round<'a> {
    job: &'a Job,
    until: Option<State>,
    plan: Plan,
    events: Vec<Event>,
}

impl Round<'_> {
    fn decide(
        &mut self,
        planner: &Planner<'_>,
        entry: &Entry,
        row: Option<&Delivery>,
        device: Option<&RouteDevice>,
    ) {
        // Where a channel has accepted it, its state stands whatever comes of the next step.
        let held = row.filter(|row| row.state != State::Pending).and(self.until);
        let at_ms = self.job.at_ms(planner.now_ms);
        let mut event = Event {
            message: self.job.id,
            target: entry.target,
            state: State::Pending,
            reason: row.and_then(|row| row.reason),
            channel: row.map_or(0, |row| row.channel),
            vendor_id: None,
            at_ms,
            trail: Vec::new(),
        };
        if let (Some(until), Some(channel)) = (held, entry.tried.last()) {
            event.trail.push(TrailEntry::Waited { at_ms, channel: *channel, until });
        }
        let decision = device.map(|device| planner.again(device, &entry.tried));
        let over = self.job.is_over(planner.now_ms);
        let ends = |event: &mut Event, state, reason| {
            if held.is_none() {
                event.trail.push(TrailEntry::Ended { at_ms, reason });
                (event.state, event.reason) = (state, Some(reason));
            }
        };
        match decision.as_ref().map(|decision| &decision.route) {
            _ if over => ends(&mut event, State::Expired, Reason::Expired),
            Some(Route::Send(steps)) => {
                let decided = decision.as_ref().map(|decision| planner.decided(decision)).unwrap_or_default();
                event.trail.push(decided.clone().into());
                let step = &steps[0];
                let version = step.address_version;
                let entry = Entry {
                    address_version: version,
                    step: entry.step.saturating_add(1),
                    decision: None,
                    ..entry.clone()
                };
                self.plan.tell(Aim::at(step, held), entry);
            }
            Some(Route::Defer { until_ms }) => self.plan.defer(*until_ms, entry.clone()),
            // A late failure is why it ends, and where there was none, routing says why.
            Some(Route::Suppress(reason)) => {
                let late = row.and_then(|row| row.reason);
                let state = if row.is_some() { State::Failed } else { State::Suppressed };
                ends(&mut event, state, late.unwrap_or(*reason));
            }
            // The device is gone.
            None => ends(&mut event, State::Failed, Reason::NoRoute),
        }
        self.events.push(event);
    }
}

impl Pipeline {
    /// What follows from failures that come after a channel had accepted: inside the TTL those deliveries go back
    /// on their routes, without the channels that were tried; else they end failed. To be committed by the caller
    /// with whatever brought them; then [`Self::announce`] starts what is in `work`.
    ///
    /// A delivery that has moved on meanwhile, or is another channel's, is left alone.
    pub async fn failed_late(&self, failures: Vec<LateFailure>) -> Result<Changes, StoreError> {
        let inner = &self.inner;
        let mut by_message: BTreeMap<Id, Vec<LateFailure>> = BTreeMap::new();
        for failure in failures {
            by_message.entry(failure.message).or_default().push(failure);
        }
        let mut changes = Changes::default();
        for (message, failures) in by_message {
            let Some(job) = inner.job(message).await? else { continue };
            let targets: Vec<_> = failures.iter().map(|failure| failure.target).collect();
            let rows = inner.parts.store.deliveries_of(message, &targets).await?;
            let mut entries = BTreeMap::new();
            for failure in failures {
                let row = rows.iter().find(|row| row.target == failure.target);
                if row.is_none_or(|row| row.state != State::Accepted || row.channel != failure.channel) {
                    continue;
                }
                if job.is_over(inner.now_ms()) || inner.is_stopped(&job) {
                    changes.events.push(failed(failure));
                    continue;
                }
                let entry = entries.entry(failure.target).or_insert_with(|| Entry {
                    target: failure.target,
                    tried: row.map(tried).unwrap_or_default(),
                    ..Entry::default()
                });
                entry.tried.push(failure.channel);
                changes.late.push(failure);
            }
            let entries: Vec<_> = entries.into_values().collect();
            for chunk in entries.chunks(Page::MAX) {
                let page = Page { entries: chunk.to_vec(), ..Page::default() };
                let work = inner.page_work(&job, 0, &page, inner.now_ms(), 0);
                changes.work.push(NewWork { kind: WorkKind::Escalate, ..work });
            }
        }
        Ok(changes)
    }

    /// Starts work that was committed.
    pub fn announce(&self, work: &[NewWork]) {
        self.inner.announce(work);
    }
}

/// The channels that a delivery has been tried through.
fn tried(row: &Delivery) -> Vec<i64> {
    let channel = |entry| match entry {
        TrailEntry::Attempted { channel, .. } => Some(channel),
        _ => None,
    };
    let mut tried: Vec<_> =
        crate::delivery::trail::decode(&row.trail).into_iter().filter_map(channel).collect();
    tried.dedup();
    tried
}

/// The end of a delivery that no further step can take.
fn failed(failure: LateFailure) -> Event {
    let LateFailure { message, target, channel, reason, at_ms, trail } = failure;
    Event {
        message,
        target,
        state: State::Failed,
        reason: Some(reason),
        channel,
        vendor_id: None,
        at_ms,
        trail,
    }
}
