//! Turns audiences into pages.
//!
//! Given lists of devices and addresses (up to 10,000) are expanded in one transaction. An expression, and what users
//! have, is walked in order of device number; the
//! cursor is saved in the transaction of the pages that it covers, so a crash neither skips nor doubles a device.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;

use crate::delivery::ahead::{Ahead, Known};
use crate::delivery::aside;
use crate::delivery::desk::Handed;
use crate::delivery::expression::Expression;
use crate::delivery::job::Job;
use crate::delivery::page::Page;
use crate::delivery::pipeline::Inner;
use crate::delivery::plan::Plan;
use crate::delivery::record;
use crate::delivery::spec::Audience;
use crate::failpoint::failpoint;
use crate::store::{Changes, Store, StoreError, TargetDevice, WorkItem, WorkKind, WorkUpdate};

/// Longest sleep without looking at what is due.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Devices that one transaction covers.
const STRIDE: usize = Page::MAX;
/// Devices that are decided about without a break: nobody else's message waits longer.
const BREATH: usize = 100;

/// Runs until the process stops: takes expansions from the store, one after the other.
pub(super) async fn run(inner: Arc<Inner>) {
    while !inner.parts.tasks.is_stopping() {
        let items = match inner.lease(WorkKind::Expand, 0, None, 1).await {
            Ok(items) => items,
            Err(error) => {
                tracing::warn!("audiences cannot be read: {error}");
                Vec::new()
            }
        };
        if items.is_empty() {
            let due = inner.parts.store.next_due(WorkKind::Expand, 0).await.ok().flatten();
            let left = due.map(|due| Duration::from_millis(due.saturating_sub(inner.now_ms())));
            let wait = left.unwrap_or(LOOK_AGAIN).clamp(Duration::from_millis(10), LOOK_AGAIN);
            tokio::select! {
                () = inner.parts.tasks.stopped() => return,
                () = inner.expand_bell.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        for item in items {
            // A panic is a bug of ours; it must not keep all other audiences waiting for the next start.
            let expanded = AssertUnwindSafe(expand(&inner, &item)).catch_unwind().await;
            if let Err(error) = expanded.unwrap_or_else(|_| Err(StoreError::Busy("it stumbled".into()))) {
                tracing::warn!(work.id = item.id.0, "an audience is expanded later: {error}");
                let due_at = inner.now_ms() + 1000;
                let update = WorkUpdate {
                    id: item.id,
                    epoch: item.epoch,
                    due_at,
                    attempt: item.attempt + 1,
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
    }
}

async fn expand(inner: &Arc<Inner>, item: &WorkItem) -> Result<(), StoreError> {
    let (Some(job), Ok(mut audience)) =
        (inner.job(item.message).await?, serde_json::from_slice(&item.payload))
    else {
        return aside::unreadable(inner, item).await;
    };
    loop {
        let Step { mut changes, rest: next, .. } = step(inner, &job, audience).await?;
        match &next {
            None => changes.append(record::done(item.id)),
            Some(audience) => changes.work_updates.push(WorkUpdate {
                id: item.id,
                epoch: item.epoch,
                due_at: item.due_at,
                attempt: 0,
                payload: serde_json::to_vec(audience).ok(),
                lease_until: i64::MAX as u64,
            }),
        }
        let handed = inner.lease_at_once(&mut changes.work);
        let work = changes.work.clone();
        failpoint!("expand.before_commit");
        inner.parts.store.commit(changes).await.inspect_err(|_| {
            for (desk, item) in &handed {
                desk.release(item);
            }
        })?;
        failpoint!("expand.after_commit");
        for (desk, item) in handed {
            desk.hand_over(Handed { item, ahead: None });
        }
        inner.announce(&work);
        match next {
            Some(next) if !inner.parts.tasks.is_stopping() => audience = next,
            _ => return Ok(()),
        }
    }
}

/// One transaction's worth of an audience.
pub(super) struct Step {
    pub(super) changes: Changes,
    /// What is left of the audience.
    rest: Option<Audience>,
    /// What is known of its addresses.
    pub(super) ahead: Option<Ahead>,
}

/// One transaction's worth of an audience.
pub(super) async fn step(inner: &Arc<Inner>, job: &Job, audience: Audience) -> Result<Step, StoreError> {
    let (mut plan, began_at) = (Plan::default(), inner.now_ms());
    let Part { rest, known } = decide(inner, job, audience, &mut plan).await?;
    let work = plan.work(inner, job);
    let expanded_at = rest.is_none().then(|| inner.now_ms());
    let changes = Changes {
        events: plan.events,
        expanded: vec![(job.id, plan.targeted, expanded_at)],
        targets: plan.given,
        work,
        ..Changes::default()
    };
    Ok(Step { changes, rest, ahead: known.map(|known| Ahead::new(known, began_at)) })
}

/// A part of an audience that was decided about.
#[derive(Default)]
pub(super) struct Part {
    /// What is left of the audience.
    pub(super) rest: Option<Audience>,
    /// Whose addresses were looked up or given.
    known: Option<Known>,
}

/// Decides about a part of an audience.
pub(super) async fn decide(
    inner: &Inner,
    job: &Job,
    audience: Audience,
    plan: &mut Plan,
) -> Result<Part, StoreError> {
    let store = &inner.parts.store;
    let routes = inner.parts.channels.routes(job.record.app);
    let mut planner = inner.planner(job, &routes);
    let mut part = Part::default();
    match audience {
        Audience::Addresses(addresses) => {
            planner.addresses(&addresses, plan);
            part.known = Some(Known::Given(addresses));
        }
        Audience::Devices(ids) => {
            let (found, unknown) = look_up(&**store, job.record.app, ids).await?;
            planner.traits = inner.traits(job, found.iter().map(|device| device.seq)).await?;
            planner.devices(&found, plan);
            planner.unknown(unknown, plan);
            part.known = Some(Known::Devices(found));
        }
        Audience::Users(users) => {
            let known = store.known_users(job.record.app, &users).await?;
            planner.unknown(others(users, &known), plan);
            // They may have any number of devices: walked like an expression from here on.
            part.rest = (!known.is_empty())
                .then_some(Audience::Matching { expression: Expression::Users(known), after: 0 });
        }
        Audience::Matching { expression, after } => {
            let round = store.targets_matching(job.record.app, &expression, after, STRIDE).await?;
            planner.traits = inner.traits(job, round.devices.iter().map(|device| device.seq)).await?;
            for devices in round.devices.chunks(BREATH) {
                planner.devices(devices, plan);
                tokio::task::yield_now().await;
            }
            part.rest = round.next.map(|after| Audience::Matching { expression, after });
        }
    }
    Ok(part)
}

/// Devices by id, each once and in order of number, and the ids that name nothing.
async fn look_up(
    store: &dyn Store,
    app: i64,
    ids: Vec<String>,
) -> Result<(Vec<TargetDevice>, Vec<String>), StoreError> {
    let mut seen = HashSet::new();
    let ids: Vec<_> = ids.into_iter().filter(|id| seen.insert(id.clone())).collect();
    let found = store.targets_by_id(app, &ids).await?;
    let known: Vec<_> = found.iter().map(|device| device.id.clone()).collect();
    let unknown = others(ids, &known).collect();
    Ok((found, unknown))
}

/// What is not known, each once.
fn others(given: Vec<String>, known: &[String]) -> impl Iterator<Item = String> {
    let mut seen: HashSet<_> = known.iter().cloned().collect();
    given.into_iter().filter(move |id| seen.insert(id.clone()))
}
