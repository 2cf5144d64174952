//! Decides again about targets whose step has had its time, whose delay is over, or whose channel failed them late.
//!
//! What comes in: work items that are due, one for a page. Rows are read first: whoever has reached what the step
//! waited for is left alone. The others get their next step from the same pure function that gave the first, without
//! the channels that were tried.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anypush_providers::contract::Reason;

use crate::delivery::job::Job;
use crate::delivery::page::{Entry, Page};
use crate::delivery::pipeline::Inner;
use crate::delivery::plan::{Aim, Plan, Planner};
use crate::delivery::state::{Delivery, Event, State};
use crate::delivery::trail::{self, TrailEntry};
use crate::delivery::{aside, cancel, onward, record, standing};
use crate::routing::{Route, RouteDevice, Wait};
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
            inner
                .recorders
                .rest
                .push(Changes { work_updates: vec![update], ..Changes::default() }, false)
                .await;
        }
    }
    Ok(more)
}

async fn again(inner: &Arc<Inner>, item: &WorkItem) -> Result<(), StoreError> {
    let (Some(job), Some(page)) = (inner.job(item.message).await?, Page::decode(&item.payload)) else {
        return aside::unreadable(inner, item).await;
    };
    if inner.is_stopped(&job) {
        return cancel::end_cancelled(inner, &job, item, &page).await;
    }
    let targets: Vec<_> = page.entries.iter().map(|entry| entry.target).collect();
    let rows = inner.parts.store.deliveries_of(job.id, &targets).await?;
    let rows: HashMap<u64, Delivery> = rows.into_iter().map(|row| (row.target, row)).collect();
    let over = job.is_over(inner.now_ms());
    let (mut open, mut later) = (Vec::new(), Vec::new());
    for entry in &page.entries {
        match turn(&page, entry, rows.get(&entry.target)) {
            Turn::Mine => open.push(entry),
            Turn::Later if over => open.push(entry),
            Turn::Later => later.push(entry.clone()),
            Turn::Gone => {}
        }
    }
    let mut round =
        Round { job: &job, wait: page.wait, held: page.held, plan: Plan::default(), events: Vec::new() };
    if !open.is_empty() {
        let routes = inner.parts.channels.routes(job.record.app);
        let planner = inner.planner(&job, &routes);
        let targets: Vec<_> = open.iter().map(|entry| entry.target).collect();
        let devices = onward::route_devices(inner, &planner, &targets).await?;
        for entry in open {
            round.decide(&planner, entry, rows.get(&entry.target), devices.get(&entry.target));
        }
    }
    let mut work = round.plan.work(inner, &job);
    if !later.is_empty() {
        let wait = (LOOK_AGAIN.as_millis() as u64) << item.attempt.min(7);
        let due_at = (inner.now_ms() + wait).min(job.ends_at());
        let page = inner.page_work(&job, 0, &page.with(later), due_at, item.attempt + 1);
        work.push(NewWork { kind: WorkKind::Escalate, ..page });
    }
    let changes = Changes { events: round.events, work: work.clone(), ..record::done(item.id) };
    if inner.recorders.rest.push_and_wait(changes, targets.len() <= 100).await {
        inner.announce(&work);
    }
    Ok(())
}

/// Whether a target of an item is to be decided about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Mine,
    /// It has ended, is reached, or stands in another item.
    Gone,
    /// Its channel failed it late while a further step was on its way already: that step's outcome decides first.
    Later,
}

/// Whose turn a target is. Items are taken one after the other, each after the one before is on disk, so of two that
/// name a target the second sees what the first did.
fn turn(page: &Page, entry: &Entry, row: Option<&Delivery>) -> Turn {
    // It was delayed before anybody had it.
    let Some(row) = row else { return Turn::Mine };
    let Some(wait) = page.wait else {
        return match row.state {
            State::Pending if standing::is_under_way(row) => Turn::Later,
            State::Pending => Turn::Mine,
            // An inbox had no room for a further step of it.
            _ if page.held.is_some() && !standing::is_settled(row, page.held) => Turn::Mine,
            _ => Turn::Gone,
        };
    };
    // Armed behind a channel: where that has failed it later, or another one has it since, another item has the target.
    let holds = match row.state {
        State::Pending => false,
        State::Accepted => entry.tried.last() == Some(&row.channel),
        _ => true,
    };
    if holds && !standing::is_settled(row, Some(wait.until)) { Turn::Mine } else { Turn::Gone }
}

/// The targets of one item while they are decided about.
struct Round<'a> {
    job: &'a Job,
    wait: Option<Wait>,
    /// What an earlier step waits for that still has it.
    held: Option<State>,
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
        let waited = self.wait.map(|wait| wait.until);
        let held = row.filter(|row| row.state != State::Pending).and(waited.or(self.held));
        let at_ms = self.job.at_ms(planner.now_ms);
        let mut event = Event {
            reason: row.and_then(|row| row.reason),
            platform: entry.platform,
            ..Event::new((self.job.id, entry.target), State::Pending, row.map_or(0, |row| row.channel), at_ms)
        };
        if let (Some(_), Some(until), Some(channel)) = (held, waited, entry.tried.last()) {
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
        let failed_later =
            row.filter(|row| trail::is_failed_later(&row.trail, row.channel)).and_then(|row| row.reason);
        match decision.as_ref().map(|decision| &decision.route) {
            _ if over => match failed_later {
                Some(reason) => ends(&mut event, State::Failed, reason),
                None => ends(&mut event, State::Expired, Reason::Expired),
            },
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
            Some(Route::Defer { until_ms }) => self.plan.defer(*until_ms, self.wait, entry.clone()),
            // What failed is why it ends, and where nothing did, routing says why.
            Some(Route::Suppress(reason)) => {
                let failed = row.and_then(|row| row.reason);
                let state = if row.is_some() { State::Failed } else { State::Suppressed };
                ends(&mut event, state, failed.unwrap_or(*reason));
            }
            // The device is gone.
            None => ends(&mut event, State::Failed, failed_later.unwrap_or(Reason::NoRoute)),
        }
        self.events.push(event);
    }
}
