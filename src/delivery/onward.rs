//! Where targets go that a channel did not take: the same channel later, the next channel, or the end.
//!
//! All of it is written in the transaction that ends their page, or that takes them out of it while others of the page
//! still wait for their vendor's answer.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use anypush_providers::contract::Reason;

use crate::delivery::asking;
use crate::delivery::dispatch::InHand;
use crate::delivery::page::{Entry, Page};
use crate::delivery::pipeline::Inner;
use crate::delivery::plan::{Aim, Plan, Planner};
use crate::delivery::record;
use crate::delivery::state::{Event, State};
use crate::delivery::trail::{Next, TrailEntry};
use crate::ids::GIVEN_TARGETS;
use crate::routing::{Route, RouteAddress, RouteDevice};
use crate::store::{Changes, NewWork, StoreError, WorkKind, WorkUpdate};

/// A target that leaves its channel.
pub(super) struct Leaver {
    pub(super) entry: Entry,
    /// What is recorded of it; the last trail entry says what is next.
    pub(super) event: Event,
    /// Why.
    pub(super) reason: Reason,
    /// Where there is no next channel: (attempt, seconds) after which this one is tried again.
    pub(super) else_retry: Option<(u32, u64)>,
}

/// Targets that are tried again on the same channel, by (attempt, wait in seconds).
pub(super) type Retries = BTreeMap<(u32, u64), Vec<Entry>>;

/// Gives up a channel for a whole page.
pub(super) async fn give_up(hand: InHand<'_>, reason: Reason) -> Result<(), StoreError> {
    let leaver = |entry: &Entry| {
        let event = hand.event(entry, State::Pending, Some(reason));
        Leaver { entry: entry.clone(), event, reason, else_retry: None }
    };
    let leavers = hand.page.entries.iter().map(leaver).collect();
    finish(hand, leavers, Retries::new(), Vec::new()).await
}

/// Like [`finish`] with leavers alone; where the store cannot be read, the page is tried again a little later.
pub(super) async fn finish_or_put_back(hand: InHand<'_>, leavers: Vec<Leaver>) {
    let (inner, item, place) = (hand.inner, hand.item, hand.place);
    let rest: Vec<_> = leavers.iter().map(|leaver| leaver.entry.clone()).collect();
    let (decisions, page) = (hand.page.decisions.clone(), hand.page.with(Vec::new()));
    if let Err(error) = finish(hand, leavers, Retries::new(), Vec::new()).await {
        tracing::warn!("a page waits, the store failed: {error}");
        let due_at = inner.now_ms() + 1000;
        let payload = Some(Page { decisions, ..page.with(rest) }.encode());
        let update = WorkUpdate {
            id: item.id,
            epoch: item.epoch,
            due_at,
            attempt: item.attempt,
            payload,
            lease_until: 0,
        };
        place.recorder(inner).push(Changes { work_updates: vec![update], ..Changes::default() }, true).await;
        inner.desk(item.channel).nudge(due_at);
    }
}

/// Ends a page: leavers go on or end, retries become pages of their own, and what was not sent stays in this one.
pub(super) async fn finish(
    hand: InHand<'_>,
    leavers: Vec<Leaver>,
    retries: Retries,
    unsent: Vec<Entry>,
) -> Result<(), StoreError> {
    let inner = hand.inner;
    let devices = look_up(&hand, &leavers).await?;
    let mut changes = settle(&hand, &devices, leavers, retries);
    if unsent.is_empty() {
        changes.append(record::done(hand.item.id));
    } else {
        let page = Page { entries: unsent, intent: Vec::new(), ..hand.page.clone() };
        let item = hand.item;
        changes.work_updates.push(WorkUpdate {
            id: item.id,
            epoch: item.epoch,
            due_at: inner.now_ms().max(hand.rest_until),
            attempt: item.attempt,
            payload: Some(page.encode()),
            lease_until: 0,
        });
    }
    let new_work: Vec<NewWork> = changes.work.clone();
    // Nobody waits for it, so nobody is told of it.
    let channel = inner.parts.channels.by_seq(hand.item.channel);
    changes.work.extend(channel.and_then(|channel| asking::work(&hand, &channel)));
    if new_work.is_empty() && hand.rest_until == 0 && hand.claim.is_none() {
        hand.recorder().push(changes, hand.urgent()).await;
    } else if hand.recorder().push_and_wait(changes, hand.urgent()).await {
        inner.announce(&new_work);
        if hand.rest_until > 0 {
            inner.desk(hand.item.channel).nudge(hand.rest_until);
        }
    }
    Ok(())
}

/// Who has left a page that is still in hand.
pub(super) struct Gone<'a> {
    pub(super) leavers: &'a mut Vec<Leaver>,
    pub(super) retries: &'a mut Retries,
    /// They become a page of their own.
    pub(super) unsent: &'a mut Vec<Entry>,
}

/// Takes out of a page in hand who has left it, so that they need not wait for the page's slowest answer. What is `left`
/// stays, and of it these requests may be under way. Where the store fails, they wait for the page's end.
pub(super) async fn part(hand: &mut InHand<'_>, gone: Gone<'_>, left: Vec<Entry>, intent: Vec<u64>) {
    let devices = match look_up(hand, gone.leavers).await {
        Ok(devices) => devices,
        Err(error) => {
            tracing::warn!("what has left a page waits for its end, the store failed: {error}");
            return;
        }
    };
    let (inner, item) = (hand.inner, hand.item);
    let mut changes = settle(hand, &devices, std::mem::take(gone.leavers), std::mem::take(gone.retries));
    // Nobody waits for it, so nobody is told of it.
    let channel = inner.parts.channels.by_seq(item.channel);
    let ask = channel.and_then(|channel| asking::work(hand, &channel));
    hand.armed.clear();
    hand.to_ask.clear();
    let rest_at = inner.now_ms().max(std::mem::take(&mut hand.rest_until));
    let unsent = Page { entries: std::mem::take(gone.unsent), intent: Vec::new(), ..hand.page.clone() };
    if !unsent.entries.is_empty() {
        changes.work.push(inner.page_work(&hand.job, item.channel, &unsent, rest_at, item.attempt));
    }
    let stays: HashSet<u64> = left.iter().map(|entry| entry.target).collect();
    hand.page.entries = left;
    let new_work: Vec<NewWork> = changes.work.clone();
    changes.work.extend(ask);
    // Where nothing follows from those who left, the page may speak of them: their rows tell.
    if !changes.events.is_empty() || !changes.work.is_empty() {
        changes.work_updates.push(WorkUpdate {
            id: item.id,
            epoch: item.epoch,
            due_at: item.due_at,
            attempt: item.attempt,
            payload: Some(Page { intent, ..hand.page.clone() }.encode()),
            lease_until: i64::MAX as u64,
        });
    }
    if hand.recorder().push_and_wait(changes, hand.urgent()).await {
        inner.announce(&new_work);
        if let Some(claim) = &mut hand.claim {
            claim.narrow(&stays);
        }
    }
}

/// The leavers as routing sees them.
async fn look_up(hand: &InHand<'_>, leavers: &[Leaver]) -> Result<HashMap<u64, RouteDevice>, StoreError> {
    if leavers.is_empty() {
        return Ok(HashMap::new());
    }
    let routes = hand.inner.parts.channels.routes(hand.job.record.app);
    let targets: Vec<_> = leavers.iter().map(|leaver| leaver.entry.target).collect();
    route_devices(hand.inner, &hand.inner.planner(&hand.job, &routes), &targets).await
}

/// What is recorded of those who have left a page, and the work that follows from it.
fn settle(
    hand: &InHand<'_>,
    devices: &HashMap<u64, RouteDevice>,
    leavers: Vec<Leaver>,
    retries: Retries,
) -> Changes {
    let (inner, job) = (hand.inner, &hand.job);
    let mut onward = Onward { retries, ..Onward::default() };
    if !leavers.is_empty() {
        let routes = hand.inner.parts.channels.routes(hand.job.record.app);
        let planner = inner.planner(job, &routes);
        for leaver in leavers {
            let device = devices.get(&leaver.entry.target);
            onward.go(&planner, hand, device, leaver);
        }
    }
    let Onward { mut plan, retries, mut changes } = onward;
    changes.work.extend(plan.work(inner, job));
    changes.work.extend(armed(hand, &hand.armed));
    for ((attempt, seconds), entries) in retries {
        let page = hand.page.with(entries);
        // What would come too late comes at the deadline, to end there.
        let due_at = (inner.now_ms() + seconds * 1000).min(job.ends_at());
        changes.work.push(inner.page_work(job, hand.item.channel, &page, due_at, attempt));
    }
    changes
}

/// The one work item that looks again at targets which this page's channel has accepted: their step waits for more.
/// Whoever has reached it by then is left alone, so an acknowledgement cancels what is armed here without a write.
pub(super) fn armed(hand: &InHand<'_>, entries: &[Entry]) -> Option<NewWork> {
    let wait = hand.page.wait.filter(|wait| wait.until != State::Accepted && !entries.is_empty())?;
    let due_at = hand.inner.now_ms() + u64::from(wait.seconds) * 1000;
    let page = hand.page.with(entries.iter().map(|entry| hand.left(entry)).collect());
    let work = hand.inner.page_work(&hand.job, 0, &page, due_at, 0);
    (due_at < hand.job.ends_at()).then_some(NewWork { kind: WorkKind::Escalate, ..work })
}

/// Targets as routing sees them, in one read. Addresses given in the call are their own device.
pub(super) async fn route_devices(
    inner: &Inner,
    planner: &Planner<'_>,
    targets: &[u64],
) -> Result<HashMap<u64, RouteDevice>, StoreError> {
    let (store, job) = (&inner.parts.store, planner.job);
    let (given, devices): (Vec<u64>, Vec<u64>) = targets.iter().partition(|target| **target >= GIVEN_TARGETS);
    let mut found = HashMap::new();
    if !devices.is_empty() {
        let mut traits = inner.traits(job, devices.iter().copied()).await?;
        for device in store.targets_by_number(job.record.app, &devices).await? {
            let traits = traits.remove(&device.seq).unwrap_or_default();
            found.insert(device.seq, RouteDevice { traits, ..planner.route_device(&device) });
        }
    }
    if !given.is_empty() {
        let indexes: Vec<_> = given.iter().map(|target| target - GIVEN_TARGETS).collect();
        for (index, target) in store.given_targets(job.id, &indexes).await? {
            let (Some(provider), Some(kind)) = (target.provider, target.kind) else { continue };
            let params = target.params.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default();
            let address = RouteAddress { provider, version: 0, kind, params };
            let device = RouteDevice { enabled: true, addresses: vec![address], ..RouteDevice::default() };
            found.insert(GIVEN_TARGETS + index, device);
        }
    }
    Ok(found)
}

/// Where the leavers of one page go.
#[derive(Default)]
struct Onward {
    plan: Plan,
    retries: Retries,
    changes: Changes,
}

impl Onward {
    fn go(&mut self, planner: &Planner<'_>, hand: &InHand<'_>, device: Option<&RouteDevice>, leaver: Leaver) {
        let Leaver { entry, mut event, reason, else_retry } = leaver;
        let mut tried = entry.tried.clone();
        tried.push(hand.item.channel);
        let decision = device.map(|device| planner.again(device, &tried));
        let next = decision.as_ref().and_then(|decision| match &decision.route {
            Route::Send(steps) => steps.first().cloned(),
            Route::Defer { .. } | Route::Suppress(_) => None,
        });
        match (next, decision, else_retry) {
            (Some(step), Some(decision), _) => {
                say_next(&mut event, Next::Channel(step.channel));
                let entry = Entry {
                    address_version: step.address_version,
                    step: entry.step.saturating_add(1),
                    decision: None,
                    tried,
                    counted: None,
                    ..entry
                };
                self.plan.add(Aim::at(&step, hand.page.held), entry, Arc::new(planner.decided(&decision)));
            }
            (None, _, Some((attempt, seconds))) => {
                say_next(&mut event, Next::Retry(seconds * 1000));
                self.retries.entry((attempt, seconds)).or_default().push(Entry { decision: None, ..entry });
            }
            _ => {
                event.state = State::Failed;
                event.reason = Some(reason);
                if !matches!(event.trail.last(), Some(TrailEntry::Attempted { .. })) {
                    event.trail.push(TrailEntry::Ended { at_ms: event.at_ms, reason });
                }
            }
        }
        self.changes.events.push(event);
    }
}

fn say_next(event: &mut Event, what: Next) {
    if let Some(TrailEntry::Attempted { next, .. }) = event.trail.last_mut() {
        *next = what;
    }
}
