//! Webhooks: apps' backends are told of events, as the Standard Webhooks specification has it.
//!
//! What comes in: the journal of events, which the store writes in the transactions of the rows that they tell of. What
//! goes out: one signed POST for each event and endpoint, at least once, each repeat under the same `webhook-id`. The way
//! of an event to an endpoint:
//!
//! 1. [`runner`]: one task for each endpoint that is enabled. It holds a work item that says how far it has read the
//!    journal, and takes a few events at a time.
//! 2. [`post`]: signs ([`sign`]) and posts them, side by side within a bound. What is told and what failed is written in
//!    one transaction with how far was read: a crash repeats at most what was under way.
//! 3. What failed becomes a work item of its own and is tried by the table in [`retry`]. While everything fails, new events
//!    wait in the journal, one of them is tried every few minutes, and once one arrives all that waits is due.
//!
//! What it must never do: let one endpoint keep another waiting, follow a redirect, show or log what an endpoint answers,
//! or hold more of the journal in memory than is being posted.

mod post;
mod retry;
mod runner;
pub mod sign;
mod work;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anypush_providers::kit::egress::Egress;
use anypush_providers::kit::http::{self as kit, HttpOptions};
use tokio::sync::Notify;

use self::runner::Runner;
use self::sign::Secrets;
use self::work::Task;
use crate::clock::{Clock, HOUR_MS};
use crate::events::{Fact, Teller};
use crate::ids::{Id, IdMaker};
use crate::secrets::Vault;
use crate::settings;
use crate::store::{
    Changes, EventRow, NewWork, Store, StoreError, WebhookAttempt, WebhookChange, WebhookRecord, WorkKind,
    WorkLane,
};
use crate::tasks::Tasks;
use crate::telemetry::Metrics;

/// Longest time of one request, with its answer.
const REQUEST_TIME: Duration = Duration::from_secs(15);
/// Rows of the journal that are purged at a time.
const PURGED: usize = 500;

/// What webhooks work with.
#[derive(Clone)]
pub struct Parts {
    /// Number of this node.
    pub node: u8,
    /// The epoch of this life of the node: work is leased under it.
    pub epoch: u64,
    /// Time.
    pub clock: Clock,
    /// Makes internal ids.
    pub ids: Arc<IdMaker>,
    /// Opens endpoints' secrets.
    pub vault: Arc<Vault>,
    /// Everything that lasts.
    pub store: Arc<dyn Store>,
    /// Makes events of what the journal holds.
    pub teller: Teller,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What shutdown waits for.
    pub tasks: Tasks,
    /// Retry table and times.
    pub settings: settings::Webhooks,
    /// The product token for `User-Agent`.
    pub user_agent: String,
    /// Where they may be.
    pub egress: Egress,
}

/// All endpoints. Cloning shares them.
#[derive(Clone)]
pub struct Webhooks(Arc<Inner>);

struct Inner {
    parts: Parts,
    http: reqwest::Client,
    runners: Mutex<HashMap<i64, Arc<Bell>>>,
}

/// Wakes a runner; how often says whether it heard the last ring.
#[derive(Default)]
struct Bell {
    notify: Notify,
    rings: std::sync::atomic::AtomicU64,
}

impl std::fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Webhooks")
    }
}

impl Webhooks {
    /// Begins with the endpoints that are enabled, and forgets old events from time to time.
    pub async fn start(parts: Parts) -> Result<Self, StoreError> {
        let (request_timeout, egress) = (Some(REQUEST_TIME), parts.egress.clone());
        let options = HttpOptions { request_timeout, egress, ..HttpOptions::default() };
        let http = kit::client(&options).map_err(StoreError::Broken)?;
        let all = Self(Arc::new(Inner { parts, http, runners: Mutex::default() }));
        for webhook in all.0.parts.store.webhooks(None).await? {
            if webhook.disabled.is_none() {
                all.wake(&webhook);
            }
        }
        all.0.parts.tasks.spawn("events", purge(Arc::clone(&all.0)));
        Ok(all)
    }

    /// An endpoint is new or was changed.
    pub fn wake(&self, webhook: &WebhookRecord) {
        let mut runners = self.0.runners.lock().unwrap_or_else(PoisonError::into_inner);
        let bell = runners.entry(webhook.seq).or_insert_with(|| {
            let bell = Arc::<Bell>::default();
            let runner = Runner::new(Arc::clone(&self.0), Arc::clone(&bell), webhook);
            self.0.parts.tasks.spawn("webhook", runner.run());
            bell
        });
        bell.rings.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
        bell.notify.notify_one();
    }

    /// The work with which an endpoint begins: everything after this event.
    pub fn beginning(&self, app: i64, after: u64) -> NewWork {
        self.0.work(app, 0, &Task::Follow { after }, 0)
    }

    /// Tells an endpoint once more of what happened after one event and up to another.
    pub async fn replay(&self, webhook: &WebhookRecord, after: u64, until: u64) -> Result<(), StoreError> {
        self.add(webhook, &Task::Replay { after, until }).await
    }

    /// Tells an endpoint once more of one event.
    pub async fn repeat(&self, webhook: &WebhookRecord, event: u64) -> Result<(), StoreError> {
        self.add(webhook, &Task::Again { events: vec![event], attempt: 0 }).await
    }

    async fn add(&self, webhook: &WebhookRecord, task: &Task) -> Result<(), StoreError> {
        let work = vec![self.0.work(webhook.app, webhook.seq, task, 0)];
        self.0.parts.store.commit(Changes { work, ..Changes::default() }).await?;
        self.wake(webhook);
        Ok(())
    }

    /// Sends an endpoint a sample, once, and says what came of it.
    pub async fn test(&self, webhook: &WebhookRecord) -> Result<WebhookAttempt, StoreError> {
        let now = self.0.parts.clock.now_ms();
        // Beyond all numbers of the journal: nothing there has its id.
        let number = self.0.parts.ids.next(now).0 as u64;
        let row = EventRow { number, fact: Fact::Test { at: now } };
        let Some(event) = self.0.parts.teller.tell(webhook.app, &[row]).await?.pop() else {
            return Err(StoreError::Broken("a sample cannot be told".into()));
        };
        let secrets = Secrets::open(&self.0.parts.vault, webhook);
        let answer = self.0.post(&webhook.url, secrets.as_ref(), &event).await;
        let attempt = answer.attempt(&event, 1, None);
        let (failing_since, attempts) = (webhook.failing_since, vec![attempt.clone()]);
        let change = WebhookChange { webhook: webhook.seq, failing_since, disable: None, attempts };
        self.0.parts.store.commit(Changes { webhooks: vec![change], ..Changes::default() }).await?;
        Ok(attempt)
    }
}

impl Inner {
    fn work(&self, app: i64, webhook: i64, task: &Task, due_at: u64) -> NewWork {
        let now = self.parts.clock.now_ms();
        NewWork {
            id: self.parts.ids.next(now),
            kind: WorkKind::Webhook,
            channel: webhook,
            lane: WorkLane::Transactional,
            app,
            message: Id(0),
            due_at: due_at.max(now),
            attempt: 0,
            leased: None,
            payload: task.encode(),
        }
    }
}

/// Forgets events that are too old, in chunks, until the process stops.
async fn purge(inner: Arc<Inner>) {
    let Parts { clock, store, tasks, settings, .. } = &inner.parts;
    loop {
        let now = clock.now_ms();
        let before = now.saturating_sub(settings.retention_hours * HOUR_MS);
        let wait = match store.purge_events(before, now, PURGED).await {
            // More of the same; others have their turn in between.
            Ok(gone) if gone as usize >= PURGED => Duration::from_millis(200),
            Ok(_) => Duration::from_mins(10),
            Err(error) => {
                tracing::warn!("old events wait to be forgotten: {error}");
                Duration::from_mins(1)
            }
        };
        tokio::select! {
            () = tasks.stopped() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}
