//! What goes on for one endpoint: a task that takes its work, posts, and writes down what came of it.
//!
//! Whoever changes the endpoint rings its bell; the journal rings another one after each commit. A runner ends where its
//! endpoint is disabled or gone. Dropped in the middle of a turn (the process stops), it has told some of what nobody wrote
//! down: that is told again, under the same ids.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::sync::watch;

use super::post::Answer;
use super::retry::{Meaning, Pace, next_try};
use super::sign::Secrets;
use super::work::Task;
use super::{Bell, Inner};
use crate::clock::HOUR_MS;
use crate::events::Event;
use crate::failpoint::failpoint;
use crate::ids::Id;
use crate::store::{
    Changes, EventRow, Lease, Result, StoreError, WebhookChange, WebhookRecord, WorkItem, WorkKind,
    WorkUpdate,
};
use crate::telemetry::WebhookLabels;

/// A lease on one node is ended by its done, or by the next start (owner epoch); never by time.
const LEASE_MS: u64 = 100 * 365 * 24 * 3600 * 1000;
/// Items of failed events that may wait before no new ones are tried.
const MOST_WAITING: u64 = 1000;
/// Items that are taken at a time.
const TAKEN: usize = 4;

/// An endpoint's task.
pub(super) struct Runner {
    inner: Arc<Inner>,
    bell: Arc<Bell>,
    journal: watch::Receiver<u64>,
    webhook: i64,
    /// What it reads: the journal from now on, and replays.
    reads: VecDeque<Reading>,
    /// What failed and is due.
    again: VecDeque<(WorkItem, Vec<u64>, u32)>,
    /// Items of failed events, in hand or waiting; about.
    waiting: u64,
    pace: Pace,
}

/// A work item that reads the journal.
struct Reading {
    id: Id,
    epoch: u64,
    after: u64,
    /// `None`: for ever.
    until: Option<u64>,
    /// What the journal had when nothing more was found.
    seen: Option<u64>,
}

/// What comes next.
enum Next {
    Turn,
    /// Nothing until then (Unix milliseconds), or until a bell rings.
    Wait(u64),
    /// Until then, whatever rings in the journal.
    Pause(u64),
    End,
}

/// What a look into the journal came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reads {
    /// There may be more.
    More,
    /// There is nothing.
    Nothing,
    /// That was the last.
    Ended,
}

/// What was tried in a turn.
struct Turn {
    tried: Vec<(Event, Answer)>,
}

impl Turn {
    fn told(&self) -> usize {
        self.tried.iter().filter(|(_, answer)| answer.meaning == Meaning::Told).count()
    }

    fn failed(&self) -> Vec<u64> {
        let failed = self.tried.iter().filter(|(_, answer)| answer.meaning != Meaning::Told);
        failed.map(|(event, _)| event.number).collect()
    }

    fn retry_after(&self) -> Option<Duration> {
        self.tried.iter().filter_map(|(_, answer)| answer.retry_after).max()
    }

    fn has(&self, meaning: Meaning) -> bool {
        self.tried.iter().any(|(_, answer)| answer.meaning == meaning)
    }
}

impl Runner {
    pub(super) fn new(inner: Arc<Inner>, bell: Arc<Bell>, webhook: &WebhookRecord) -> Self {
        let journal = inner.parts.store.event_bell();
        Self {
            inner,
            bell,
            journal,
            webhook: webhook.seq,
            reads: VecDeque::new(),
            again: VecDeque::new(),
            waiting: 0,
            pace: Pace::default(),
        }
    }

    /// Until the endpoint is disabled or gone, or the process stops.
    pub(super) async fn run(mut self) {
        let inner = Arc::clone(&self.inner);
        tokio::select! {
            () = inner.parts.tasks.stopped() => {}
            () = self.go_on() => {}
        }
    }

    async fn go_on(&mut self) {
        self.count_waiting().await;
        loop {
            let rings = self.bell.rings.load(Ordering::Acquire);
            let next = match self.turn().await {
                Ok(next) => next,
                Err(StoreError::Broken(_)) => return,
                Err(error) => {
                    tracing::warn!(
                        webhook.number = self.webhook,
                        "a webhook waits for the database: {error}"
                    );
                    Next::Pause(self.now() + 1000)
                }
            };
            match next {
                Next::Turn => {}
                Next::Wait(until) => self.wait(until, true).await,
                Next::Pause(until) => self.wait(until, false).await,
                Next::End => {
                    let mut runners =
                        self.inner.runners.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    if self.bell.rings.load(Ordering::Acquire) == rings {
                        runners.remove(&self.webhook);
                        return;
                    }
                }
            }
        }
    }

    fn now(&self) -> u64 {
        self.inner.parts.clock.now_ms()
    }

    /// About how many failed items an earlier life left.
    async fn count_waiting(&mut self) {
        let found = self.inner.parts.store.backlog().await.unwrap_or_default();
        let own = |(kind, channel, _): &&(WorkKind, i64, u64)| {
            *kind == WorkKind::Webhook && *channel == self.webhook
        };
        self.waiting = found.iter().find(own).map_or(0, |(.., n)| *n);
    }

    async fn wait(&mut self, until: u64, journal: bool) {
        let time = Duration::from_millis(until.saturating_sub(self.now()).max(1));
        tokio::select! {
            () = self.bell.notify.notified() => {}
            _ = self.journal.changed(), if journal => {}
            () = tokio::time::sleep(time) => {}
        }
    }

    async fn turn(&mut self) -> Result<Next> {
        self.journal.mark_unchanged();
        let store = Arc::clone(&self.inner.parts.store);
        let head = |app| store.event_head(app);
        let Some(webhook) = store.webhook(self.webhook).await? else {
            store.clear_webhook(self.webhook).await?;
            return Ok(Next::End);
        };
        if webhook.disabled.is_some() {
            self.reads.clear();
            self.again.clear();
            store.clear_webhook(self.webhook).await?;
            return Ok(Next::End);
        }
        let due = self.take_work().await?;
        let now = self.now();
        if self.pace.paused_until > now {
            return Ok(Next::Pause(self.pace.paused_until));
        }
        if let Some((item, events, attempt)) = self.again.pop_front() {
            if let Err(error) = self.try_again(&webhook, &item, &events, attempt).await {
                self.again.push_back((item, events, attempt));
                return Err(error);
            }
            return Ok(Next::Turn);
        }
        let far = now + HOUR_MS;
        let next_due = due.unwrap_or(far).min(far);
        if self.waiting >= MOST_WAITING {
            return Ok(Next::Pause(next_due));
        }
        if self.pace.new_from() > now {
            return Ok(Next::Pause(next_due.min(self.pace.new_from())));
        }
        let newest = head(webhook.app);
        for _ in 0..self.reads.len() {
            let Some(mut reading) = self.reads.pop_front() else { break };
            if reading.seen == Some(newest) {
                self.reads.push_back(reading);
                continue;
            }
            let more = self.read_on(&webhook, &mut reading, newest).await;
            // To the end of the line: others have their turn in between.
            if !matches!(more, Ok(Reads::Ended)) {
                self.reads.push_back(reading);
            }
            if more? != Reads::Nothing {
                return Ok(Next::Turn);
            }
        }
        // Something may have been written since; the bell in the journal says so.
        Ok(Next::Wait(next_due))
    }

    /// Takes what is due. Answers when more will be.
    async fn take_work(&mut self) -> Result<Option<u64>> {
        let parts = &self.inner.parts;
        let (kind, channel, now_ms) = (WorkKind::Webhook, self.webhook, parts.clock.now_ms());
        let due = parts.store.next_due(kind, channel).await?;
        if due.is_none_or(|due| due > now_ms) || self.again.len() >= TAKEN {
            return Ok(due);
        }
        let (node, epoch, until_ms) = (parts.node, parts.epoch, now_ms + LEASE_MS);
        let lease = Lease { kind, channel, lane: None, node, epoch, now_ms, until_ms, limit: TAKEN };
        for item in parts.store.lease(lease).await? {
            let (id, epoch) = (item.id, item.epoch);
            let reading = |after, until| Reading { id, epoch, after, until, seen: None };
            match Task::decode(&item.payload) {
                Some(Task::Follow { after }) => {
                    // The one before is gone: the endpoint was disabled and enabled again.
                    self.reads.retain(|reading| reading.until.is_some());
                    self.reads.push_back(reading(after, None));
                }
                Some(Task::Replay { after, until }) => self.reads.push_back(reading(after, Some(until))),
                Some(Task::Again { events, attempt }) => self.again.push_back((item, events, attempt)),
                // It keeps its lease, and so waits for the version that can read it.
                None => tracing::error!(work.id = item.id.0, "a webhook's work cannot be read; it is left"),
            }
        }
        parts.store.next_due(kind, channel).await
    }

    /// Tells what comes next in the journal.
    async fn read_on(
        &mut self,
        webhook: &WebhookRecord,
        reading: &mut Reading,
        newest: u64,
    ) -> Result<Reads> {
        let store = &self.inner.parts.store;
        let page = store.events_after(webhook.app, webhook.kinds, reading.after, self.pace.turn()).await?;
        let until = reading.until.unwrap_or(u64::MAX);
        let mut rows = page.rows;
        rows.retain(|row| row.number <= until);
        let after = page.read_to.min(until).max(reading.after);
        let ended = reading.until.is_some_and(|until| page.read_to >= until);
        if rows.is_empty() && !ended {
            if after > reading.after {
                reading.after = after;
                return Ok(Reads::More);
            }
            reading.seen = Some(newest);
            return Ok(Reads::Nothing);
        }
        let turn = self.tell(webhook, &rows).await?;
        let mut changes = Changes::default();
        let next_at = self.put_aside(webhook, &turn, &mut changes);
        if ended {
            changes.work_done.push(reading.id);
        } else {
            let task = match reading.until {
                None => Task::Follow { after },
                Some(until) => Task::Replay { after, until },
            };
            changes.work_updates.push(WorkUpdate {
                id: reading.id,
                epoch: reading.epoch,
                due_at: self.now(),
                attempt: 0,
                payload: Some(task.encode()),
                lease_until: self.now() + LEASE_MS,
            });
        }
        self.finish(webhook, &turn, 1, next_at, changes).await?;
        reading.after = after;
        Ok(if ended { Reads::Ended } else { Reads::More })
    }

    /// What failed for the first time becomes an item of its own. Answers when it is tried again.
    fn put_aside(&mut self, webhook: &WebhookRecord, turn: &Turn, changes: &mut Changes) -> Option<u64> {
        let events = turn.failed();
        if events.is_empty() {
            return None;
        }
        let at = self.next_try(1, turn)?;
        let task = Task::Again { events, attempt: 1 };
        changes.work.push(self.inner.work(webhook.app, webhook.seq, &task, at));
        self.waiting += 1;
        Some(at)
    }

    async fn try_again(
        &mut self,
        webhook: &WebhookRecord,
        item: &WorkItem,
        events: &[u64],
        attempt: u32,
    ) -> Result<()> {
        let rows = self.inner.parts.store.events_numbered(webhook.app, events).await?;
        let attempt = attempt + 1;
        let turn = self.tell(webhook, &rows).await?;
        let (failed, mut changes) = (turn.failed(), Changes::default());
        let next_at = self.next_try(attempt, &turn).filter(|_| !failed.is_empty());
        if let Some(due_at) = next_at {
            changes.work_updates.push(WorkUpdate {
                id: item.id,
                epoch: item.epoch,
                due_at,
                attempt,
                payload: Some(Task::Again { events: failed, attempt }.encode()),
                lease_until: 0,
            });
        } else {
            self.count("given_up", failed.len());
            changes.work_done.push(item.id);
            self.waiting = self.waiting.saturating_sub(1);
        }
        self.finish(webhook, &turn, attempt, next_at, changes).await
    }

    fn next_try(&self, attempt: u32, turn: &Turn) -> Option<u64> {
        let table = &self.inner.parts.settings.retry_seconds;
        next_try(table, attempt, turn.retry_after(), self.now(), rand::random())
    }

    /// Posts some events, side by side as the endpoint bears.
    async fn tell(&self, webhook: &WebhookRecord, rows: &[EventRow]) -> Result<Turn> {
        let parts = &self.inner.parts;
        if rows.is_empty() {
            return Ok(Turn { tried: Vec::new() });
        }
        let events = parts.teller.tell(webhook.app, rows).await?;
        let secrets = Secrets::open(&parts.vault, webhook);
        failpoint!("webhook.before_post");
        let post = |event: Event| {
            let secrets = secrets.as_ref();
            async move {
                let answer = self.inner.post(&webhook.url, secrets, &event).await;
                (event, answer)
            }
        };
        let tried = stream::iter(events).map(post).buffer_unordered(self.pace.abreast()).collect().await;
        failpoint!("webhook.after_post");
        Ok(Turn { tried })
    }

    /// Writes down what came of a turn, all in one transaction.
    async fn finish(
        &mut self,
        webhook: &WebhookRecord,
        turn: &Turn,
        attempt: u32,
        next_at: Option<u64>,
        mut changes: Changes,
    ) -> Result<()> {
        let (now, told) = (self.now(), turn.told());
        let failed = turn.tried.len() - told;
        self.count("told", told);
        self.count("failed", failed);
        if !turn.tried.is_empty() {
            let failing_since = (told == 0).then(|| webhook.failing_since.unwrap_or(now));
            let longest = self.inner.parts.settings.disable_after_hours * HOUR_MS;
            let disable = if turn.has(Meaning::Gone) {
                Some("gone")
            } else {
                failing_since.filter(|since| since + longest <= now).map(|_| "failing")
            };
            if let Some(reason) = disable {
                tracing::warn!(
                    webhook.id = %webhook.public_id, reason,
                    "a webhook is disabled; what it misses is kept for a while and can be replayed"
                );
            }
            let attempts = turn.tried.iter().map(|(event, answer)| {
                answer.attempt(event, attempt, next_at.filter(|_| answer.meaning != Meaning::Told))
            });
            changes.webhooks.push(WebhookChange {
                webhook: webhook.seq,
                failing_since,
                disable: disable.map(str::to_owned),
                attempts: attempts.collect(),
            });
        }
        self.commit(changes).await?;
        let overloaded = turn.has(Meaning::Overloaded);
        if self.pace.turned(told, failed, overloaded, turn.retry_after(), now) && self.waiting > 0 {
            let (store, kind) = (&self.inner.parts.store, WorkKind::Webhook);
            store.hasten(kind, self.webhook, u64::MAX, now).await?;
        }
        Ok(())
    }

    /// Writes until it is written.
    async fn commit(&self, changes: Changes) -> Result<()> {
        let changes = Arc::new(changes);
        let mut wait = Duration::from_millis(50);
        loop {
            match self.inner.parts.store.commit_shared(Arc::clone(&changes)).await {
                Err(StoreError::Busy(_) | StoreError::Full) => {}
                done => return done,
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(5));
        }
    }

    fn count(&self, result: &'static str, n: usize) {
        if n > 0 {
            self.inner.parts.metrics.webhooks.get_or_create(&WebhookLabels { result }).inc_by(n as u64);
        }
    }
}
