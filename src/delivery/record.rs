//! The recorder: gathers what happened and writes it in few, large transactions.
//!
//! What comes in: change sets, in the order in which they must become true. What goes out: one commit at a time. A
//! change set that one person waits for is written at once; those of a campaign are gathered for a moment. When the
//! store cannot write, nothing is dropped: the channel fills, dispatch waits, nothing more is sent ("no record, no
//! send").

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::failpoint::failpoint;
use crate::ids::Id;
use crate::store::{Changes, Store, StoreError};
use crate::tasks::Tasks;

/// Events that make a transaction worth its while.
const ENOUGH: usize = 1000;
/// How long changes of a campaign are gathered.
const GATHER: Duration = Duration::from_millis(250);
/// How long changes that a person waits for are gathered.
const GATHER_URGENT: Duration = Duration::from_millis(5);
/// Change sets that may wait before dispatch does.
const WAITING: usize = 4096;
/// Events that may be known and not written. With the pages in hand this bounds what a crash sends twice.
const UNWRITTEN: usize = 2000;

/// The way to the recorder. Every page holds one; when all are dropped and what waits is written, the recorder ends.
#[derive(Debug, Clone)]
pub(super) struct Recorder {
    way: mpsc::Sender<Entry>,
    unwritten: Arc<Semaphore>,
}

struct Entry {
    changes: Changes,
    urgent: bool,
    /// Told when it is on disk. Dropped unanswered when the process ends first.
    done: Option<oneshot::Sender<()>>,
    /// Its share of what may be unwritten.
    share: Option<OwnedSemaphorePermit>,
}

impl Recorder {
    /// Makes the way, and the work that must be run.
    pub(super) fn new(
        store: Arc<dyn Store>,
        tasks: Tasks,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (way, receiver) = mpsc::channel(WAITING);
        (Self { way, unwritten: Arc::new(Semaphore::new(UNWRITTEN)) }, run(store, tasks, receiver))
    }

    /// Hands over changes; waits only where the store is behind.
    pub(super) async fn push(&self, changes: Changes, urgent: bool) {
        self.send(changes, urgent, None).await;
    }

    /// Hands over changes and waits until they are on disk. `false`: the process is ending, and they are not.
    pub(super) async fn push_and_wait(&self, changes: Changes, urgent: bool) -> bool {
        self.push_in_turn(changes, urgent).await.await.is_ok()
    }

    /// Hands over changes; what it gives back resolves when they are on disk. Between the two the caller may let the
    /// next in line push.
    pub(super) async fn push_in_turn(&self, changes: Changes, urgent: bool) -> oneshot::Receiver<()> {
        let (sender, done) = oneshot::channel();
        self.send(changes, urgent, Some(sender)).await;
        done
    }

    async fn send(&self, changes: Changes, urgent: bool, done: Option<oneshot::Sender<()>>) {
        // A set of more events than may wait has the way to itself.
        let events = changes.events.len().min(UNWRITTEN) as u32;
        let share = Arc::clone(&self.unwritten).acquire_many_owned(events).await.ok();
        let _ = self.way.send(Entry { changes, urgent, done, share }).await;
    }
}

async fn run(store: Arc<dyn Store>, tasks: Tasks, mut receiver: mpsc::Receiver<Entry>) {
    while let Some(first) = receiver.recv().await {
        let started = Instant::now();
        let mut batch = Batch::default();
        batch.add(first);
        while batch.changes.events.len() < ENOUGH {
            let until = started + if batch.urgent { GATHER_URGENT } else { GATHER };
            match tokio::time::timeout_at(until, receiver.recv()).await {
                Ok(Some(entry)) => batch.add(entry),
                Ok(None) | Err(_) => break,
            }
        }
        failpoint!("record.before_write", !batch.changes.events.is_empty());
        if !write(&*store, batch.changes).await {
            tasks.stop();
            return;
        }
        failpoint!("record.after_write");
        for done in batch.done {
            let _ = done.send(());
        }
    }
}

#[derive(Default)]
struct Batch {
    changes: Changes,
    urgent: bool,
    done: Vec<oneshot::Sender<()>>,
    shares: Vec<OwnedSemaphorePermit>,
}

impl Batch {
    fn add(&mut self, entry: Entry) {
        self.changes.append(entry.changes);
        self.urgent |= entry.urgent;
        self.done.extend(entry.done);
        self.shares.extend(entry.share);
    }
}

/// Writes until it is written. `false`: the database is broken, and going on would only lose more.
async fn write(store: &dyn Store, changes: Changes) -> bool {
    let mut wait = Duration::from_millis(50);
    loop {
        match store.commit(changes.clone()).await {
            Ok(()) => return true,
            Err(StoreError::Broken(cause)) => {
                tracing::error!("outcomes cannot be recorded, the gateway stops: {cause}");
                return false;
            }
            Err(error) => tracing::warn!("outcomes wait to be recorded: {error}"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(5));
    }
}

/// A work item that is done, and nothing else.
pub(super) fn done(id: Id) -> Changes {
    Changes { work_done: vec![id], ..Changes::default() }
}
