//! Starts and stops the way of a message.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::sync::Cache;
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;

use crate::bulk::Bulk;
use crate::channels::{Channel, Channels};
use crate::clock::Clock;
use crate::delivery::aside::Aside;
use crate::delivery::asking::Asks;
use crate::delivery::brake::Brakes;
use crate::delivery::collapse::Claims;
use crate::delivery::desk::Desk;
use crate::delivery::gate::Gates;
use crate::delivery::job::Job;
use crate::delivery::page::Page;
use crate::delivery::plan::Planner;
use crate::delivery::record::Recorders;
use crate::delivery::{cancel, escalate, expand, expire, judge, pace, quota, recall};
use crate::direct::Hub;
use crate::ids::{Id, IdCodec, IdMaker};
use crate::pacing::Seen;
use crate::receipts::CallbackUrls;
use crate::routing::{RouteChannel, Traits};
use crate::store::{NewWork, Store, StoreError, WorkItem, WorkKind, WorkLane};
use crate::tasks::Tasks;
use crate::telemetry::Metrics;

/// What the pipeline works with.
#[derive(Clone)]
pub struct Parts {
    /// Number of this node.
    pub node: u8,
    /// Time.
    pub clock: Clock,
    /// Makes internal ids.
    pub ids: Arc<IdMaker>,
    /// Translates public ids.
    pub codec: Arc<IdCodec>,
    /// Everything that lasts.
    pub store: Arc<dyn Store>,
    /// Live channels.
    pub channels: Channels,
    /// Where vendors report to.
    pub callback_urls: CallbackUrls,
    /// Connected phones.
    pub hub: Hub,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What shutdown waits for.
    pub tasks: Tasks,
    /// Where campaigns are worked on.
    pub bulk: Bulk,
    /// How long the own connection is waited for before vendors are asked too, where a message says nothing.
    pub own_wait_seconds: u32,
    /// How long after acceptance a vendor that calls nobody back is asked what became of it.
    pub ask_after_seconds: u32,
}

/// The way of a message. Cloning shares it.
#[derive(Clone)]
pub struct Pipeline {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) parts: Parts,
    pub(super) epoch: u64,
    pub(super) recorders: Recorders,
    pub(super) gates: Gates,
    pub(super) brakes: Brakes,
    /// What vendors say of their quotas.
    pub(super) closed: quota::Closed,
    /// Which devices are being sent messages that have a collapse key.
    pub(super) collapses: Arc<Claims>,
    /// When vendors are to be asked for receipts.
    pub(super) asks: Asks,
    desks: Mutex<HashMap<i64, Arc<Desk>>>,
    jobs: Cache<Id, Arc<Job>>,
    /// Generations that cancelled messages were raised to, for as long as a page may be on its way under an older one.
    pub(super) generations: Cache<Id, u32>,
    /// Grows with each cancel: those who wait at a gate look up.
    pub(super) cancels: watch::Sender<u64>,
    /// Work that cannot be read.
    pub(super) aside: Aside,
    /// Rung when there is something to expand.
    pub(super) expand_bell: Notify,
    /// Rung when something will expire.
    pub(super) expire_bell: Notify,
    /// Rung when there is something to decide again.
    pub(super) escalate_bell: Notify,
    /// Pages that are being sent: stop waits for them before the recorder ends.
    pub(super) pages: TaskTracker,
}

/// A lease on one node is ended by its done, or by the next start (owner epoch); never by time.
pub(super) const LEASE_MS: u64 = 100 * 365 * 24 * 3600 * 1000;
/// How long a page may be in hand that was read before its message was cancelled.
const GENERATION_LIFE: Duration = Duration::from_hours(24);
/// Bytes of messages kept parsed in memory, by estimate.
const JOB_BYTES: u64 = 64 * 1024 * 1024;
/// What a parsed message costs besides its text.
const JOB_OVERHEAD: u32 = 4096;

impl Pipeline {
    /// Takes over what an earlier life left, and starts the desks.
    pub async fn start(parts: Parts) -> Result<Self, StoreError> {
        let epoch = parts.store.begin_epoch(parts.node).await?;
        let (recorders, recording) = Recorders::new(Arc::clone(&parts.store), parts.tasks.clone());
        // Not among `tasks`: it must outlive the pages that those stop, and `stop` waits for the last word to it.
        #[expect(clippy::disallowed_methods, reason = "ends when the last page and the pipeline are gone")]
        tokio::spawn(recording);
        let inner = Arc::new(Inner {
            epoch,
            recorders,
            gates: Gates::default(),
            brakes: Brakes::default(),
            closed: quota::Closed::new(parts.store.closed_quotas(parts.clock.now_ms()).await?),
            collapses: Arc::default(),
            asks: Asks::default(),
            desks: Mutex::default(),
            // By size: some are a few bytes of text, others megabytes of data.
            jobs: Cache::builder()
                .weigher(|_, job: &Arc<Job>| JOB_OVERHEAD.saturating_add(3 * job.record.spec.len() as u32))
                .max_capacity(JOB_BYTES)
                .build(),
            generations: Cache::builder().max_capacity(1 << 20).time_to_live(GENERATION_LIFE).build(),
            cancels: watch::Sender::new(0),
            aside: Aside::default(),
            expand_bell: Notify::new(),
            expire_bell: Notify::new(),
            escalate_bell: Notify::new(),
            pages: TaskTracker::new(),
            parts,
        });
        for channel in inner.parts.channels.all() {
            inner.desk(channel.record.seq);
        }
        // A channel that was deleted may have left pages behind: they go on to the next channel.
        for (kind, channel, _) in inner.parts.store.backlog().await? {
            if kind == WorkKind::Page {
                inner.desk(channel);
            }
        }
        inner.parts.tasks.spawn("cancel", cancel::finish(Arc::clone(&inner)));
        inner.parts.tasks.spawn("pace", pace::watch(Arc::clone(&inner)));
        inner.parts.tasks.spawn("quota", quota::purge(Arc::clone(&inner)));
        inner.parts.tasks.spawn_bulk(&inner.parts.bulk, "expand", expand::run(Arc::clone(&inner)));
        inner.parts.tasks.spawn("expire", expire::run(Arc::clone(&inner)));
        inner.parts.tasks.spawn("recall", recall::run(Arc::clone(&inner)));
        inner.parts.tasks.spawn("escalate", escalate::run(Arc::clone(&inner)));
        Ok(Self { inner })
    }

    /// The epoch of this life of the node: work is leased under it.
    pub fn epoch(&self) -> u64 {
        self.inner.epoch
    }

    /// Where vendors are talked to.
    pub fn bulk(&self) -> &Bulk {
        &self.inner.parts.bulk
    }

    /// Lets a channel's desk look again: it was resumed, or its configuration changed.
    pub fn nudge(&self, channel: i64) {
        self.inner.desk(channel).nudge(0);
        self.inner.gates.bell.notify_one();
    }

    /// A channel whose credentials were refused works again: what waits for that goes on at once, and not when its
    /// half minute is over. Pages that wait for another reason for no longer than that are tried early too; the gate
    /// still holds them to what the vendor bears.
    pub async fn reopen(&self, channel: i64) {
        self.inner.reopen(channel).await;
    }

    /// The pace of every vendor channel that something was sent through.
    pub fn pace(&self) -> Vec<(Arc<Channel>, Seen)> {
        let all = self.inner.parts.channels.all();
        all.into_iter()
            .filter_map(|channel| self.inner.gates.seen(&channel).map(|seen| (channel, seen)))
            .collect()
    }

    /// How many work items are set aside because they cannot be read.
    pub fn set_aside(&self) -> u64 {
        self.inner.aside.count()
    }

    /// Waits for requests in flight (at most this long), writes what they brought, and returns what was not begun.
    /// Call after the tasks were told to stop.
    pub async fn stop(&self, deadline: Duration) {
        self.inner.pages.close();
        if tokio::time::timeout(deadline, self.inner.pages.wait()).await.is_err() {
            tracing::warn!(
                "vendor requests are still in flight; their targets are sent again at the next start"
            );
        }
        // Everything that pages pushed is in the recorder's lanes; one more set behind it marks the end.
        let _ = tokio::time::timeout(deadline, self.inner.recorders.flush()).await;
    }
}

impl Inner {
    pub(super) fn now_ms(&self) -> u64 {
        self.parts.clock.now_ms()
    }

    pub(super) fn next_id(&self) -> Id {
        self.parts.ids.next(self.now_ms())
    }

    /// The desk of a channel; its runner is started with it.
    pub(super) fn desk(self: &Arc<Self>, channel: i64) -> Arc<Desk> {
        let mut desks = self.desks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(desk) = desks.get(&channel) {
            return Arc::clone(desk);
        }
        let desk = Arc::new(Desk::new(channel));
        desks.insert(channel, Arc::clone(&desk));
        self.parts.tasks.spawn("desk", Desk::run(Arc::clone(&desk), Arc::clone(self)));
        desk
    }

    /// The message of a work item; `None` where it is gone or cannot be read.
    pub(super) async fn job(&self, id: Id) -> Result<Option<Arc<Job>>, StoreError> {
        if let Some(job) = self.jobs.get(&id) {
            return Ok(Some(job));
        }
        let Some(record) = self.parts.store.message(id).await? else { return Ok(None) };
        let job = Job::stored(record, &self.parts.codec).map(Arc::new);
        if let Some(job) = &job {
            self.jobs.insert(id, Arc::clone(job));
        }
        Ok(job)
    }

    /// Reads a message anew when it is next needed: it was changed.
    pub(super) fn forget(&self, id: Id) {
        self.jobs.invalidate(&id);
    }

    /// See [`Pipeline::reopen`].
    pub(super) async fn reopen(self: &Arc<Self>, channel: i64) {
        let now = self.now_ms();
        let until = now + judge::AUTH_WAIT.as_millis() as u64;
        if let Err(error) = self.parts.store.hasten(WorkKind::Page, channel, until, now).await {
            tracing::warn!("pages of a channel that works again wait for their time: {error}");
        }
        self.desk(channel).nudge(0);
        self.gates.bell.notify_one();
    }

    /// Keeps a message that was just stored, so that its pages need not read it.
    pub(super) fn keep(&self, job: Job) {
        self.jobs.insert(job.id, Arc::new(job));
    }

    /// What decides about a message's targets, as things are now.
    pub(super) fn planner<'a>(&'a self, job: &'a Job, channels: &'a [RouteChannel]) -> Planner<'a> {
        let own_wait_seconds = self.parts.own_wait_seconds;
        let (hub, now_ms) = (&self.parts.hub, self.now_ms());
        Planner { job, channels, hub, now_ms, own_wait_seconds, traits: HashMap::new() }
    }

    /// What the rules of a message ask of these devices; nothing is read where they ask nothing.
    pub(super) async fn traits(
        &self,
        job: &Job,
        devices: impl Iterator<Item = u64>,
    ) -> Result<HashMap<u64, Traits>, StoreError> {
        if !job.spec.rules.iter().any(|rule| rule.fits.asks_devices()) {
            return Ok(HashMap::new());
        }
        let devices: Vec<u64> = devices.collect();
        Ok(self.parts.store.device_traits(&devices).await?.into_iter().collect())
    }

    /// A page as a work item that is free.
    pub(super) fn page_work(
        &self,
        job: &Job,
        channel: i64,
        page: &Page,
        due_at: u64,
        attempt: u32,
    ) -> NewWork {
        let payload = page.encode();
        NewWork {
            id: self.next_id(),
            kind: WorkKind::Page,
            channel,
            lane: WorkLane::of(job.record.class, payload.len()),
            app: job.record.app,
            message: job.id,
            due_at,
            attempt,
            leased: None,
            payload,
        }
    }

    /// Where new work is due now and there is room in memory, it is leased at once and handed over after the commit:
    /// `handed` says to whom.
    pub(super) fn lease_at_once(self: &Arc<Self>, work: &mut [NewWork]) -> Vec<(Arc<Desk>, WorkItem)> {
        let until = self.now_ms() + LEASE_MS;
        let mut handed = Vec::new();
        for item in work.iter_mut().filter(|item| item.kind == WorkKind::Page) {
            let desk = self.desk(item.channel);
            if desk.reserve(item.lane) {
                item.leased = Some((self.parts.node, self.epoch, until));
                handed.push((desk, item.as_item(self.epoch)));
            }
        }
        handed
    }

    /// Leases free pages of a channel.
    pub(super) async fn lease(
        &self,
        kind: WorkKind,
        channel: i64,
        lane: Option<WorkLane>,
        limit: usize,
    ) -> Result<Vec<WorkItem>, StoreError> {
        let now_ms = self.now_ms();
        let (node, epoch) = (self.parts.node, self.epoch);
        let until_ms = now_ms + LEASE_MS;
        self.parts
            .store
            .lease(crate::store::Lease { kind, channel, lane, node, epoch, now_ms, until_ms, limit })
            .await
    }

    /// Tells the desks of new pages when these are due.
    pub(super) fn announce(self: &Arc<Self>, work: &[NewWork]) {
        for item in work.iter().filter(|item| item.leased.is_none()) {
            match item.kind {
                WorkKind::Page => self.desk(item.channel).nudge(item.due_at),
                WorkKind::Expand => self.expand_bell.notify_one(),
                WorkKind::Escalate => self.escalate_bell.notify_one(),
                WorkKind::Expire | WorkKind::Ask | WorkKind::Recall | WorkKind::Webhook => {}
            }
        }
    }
}
