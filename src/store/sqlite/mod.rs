//! The embedded store: SQLite in one file, one writer, a few readers.
//!
//! - [`writer`]: everything that waits becomes one transaction; the only connection that writes.
//! - [`accept`], [`changes`], [`deliveries`], [`events`], [`inbox`], [`journal`], [`work`]: the parts of such a transaction, one statement for
//!   each kind of change of the whole group.
//! - [`devices`], [`users`], [`erase`], [`addresses`], [`admin`], [`audit`], [`data_keys`], [`webhooks`]: what is rare, a call at a time inside the same
//!   transactions.
//! - [`stats`]: counters of reports, moved with the rows that they count; [`tally`] is how they are stored.
//! - [`retention`]: what is forgotten with age.
//! - [`reads`], [`audience`], [`reports`]: what goes out, over read-only connections; [`walk`] finds who is in an
//!   audience, by tags and by what [`attrs`] and [`places`] keep.
//! - [`open`], [`check`], [`checkpoint`], [`log`], [`session`], [`rows`]: files and schema, the log's way back, connections,
//!   columns.
//! - [`backup`]: a copy while all of this goes on.
//!
//! Nothing is answered before its commit is on disk, and nothing but the writer's own statements happens between
//! BEGIN and COMMIT.

mod accept;
mod addresses;
mod admin;
mod attrs;
mod audience;
mod audit;
mod backup;
mod categories;
mod changes;
mod check;
mod checkpoint;
mod data_keys;
mod deliveries;
mod devices;
mod erase;
mod events;
mod inbox;
mod journal;
mod log;
mod open;
pub mod periods;
mod places;
mod quotas;
mod readers;
mod reads;
mod registration;
mod reports;
mod retention;
mod rows;
mod rules;
mod session;
pub mod stats;
mod store;
pub mod tally;
mod users;
pub mod vendor_id;
mod walk;
mod webhooks;
mod work;
mod writer;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{Mutex, Semaphore, SetOnce, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

pub use audit::{AuditLog, verify_audit};
pub use backup::{BackupError, back_up};
pub use open::{FILE, OpenError, SqliteOptions};

use self::events::Taps;
use self::log::Log;
use self::readers::{Readers, Together};
pub(crate) use self::session::hex;
use self::session::{Session, Sql};
use self::writer::{Claim, Function, Inbox, Job};
use crate::ids::Id;
use crate::store::{
    AcceptAnswer, Changes, MessageRecord, NewMessage, PhoneRecord, Result, SendAddress, StoreError,
    TargetDevice,
};

/// What close() waits for: the writer, then the checkpointer, which is told to stop.
type Tasks = (JoinHandle<()>, oneshot::Sender<()>, JoinHandle<()>);

/// Kilobytes of accepts that may wait for the writer.
const ACCEPT_ROOM: usize = 64 * 1024;

/// Look-ups that callers share: what every single send, every phone that connects and every page needs.
struct LookUps {
    /// Devices of an app by id.
    targets: Together<i64, String, TargetDevice>,
    /// Devices by user name.
    phones: Together<(), String, PhoneRecord>,
    /// Addresses for a provider by device.
    addresses: Together<(i64, String), u64, SendAddress>,
    /// What waits in inboxes.
    inboxes: Together<(), inbox::Wanted, inbox::Waits>,
    /// Messages by id.
    messages: Together<(), Id, MessageRecord>,
}

impl LookUps {
    /// How many connections they keep.
    const CONNECTIONS: u32 = 5;

    fn begin(readers: &Readers) -> Self {
        Self {
            targets: Together::begin(readers.clone(), audience::TARGETS),
            phones: Together::begin(readers.clone(), audience::PHONES),
            addresses: Together::begin(readers.clone(), audience::ADDRESSES),
            inboxes: Together::begin(readers.clone(), inbox::INBOXES),
            messages: Together::begin(readers.clone(), reads::MESSAGES),
        }
    }
}

/// The embedded store.
pub struct SqliteStore {
    /// Tells the look at the whole database that it is over.
    leave_off: Arc<AtomicBool>,
    /// Gone once it is closed.
    inbox: RwLock<Option<Inbox>>,
    readers: Readers,
    look_ups: LookUps,
    statements: Arc<AtomicU64>,
    /// Who listens to events.
    taps: Arc<Taps>,
    /// Why nothing is written any more.
    broken: Arc<SetOnce<String>>,
    log: Arc<Log>,
    /// How long a caller waits for a place in the writer's inbox.
    patience: Duration,
    /// How long an accept may wait until it is begun.
    accept_timeout: Duration,
    /// Kilobytes of accepts that may wait.
    accept_room: Semaphore,
    tasks: Mutex<Option<Tasks>>,
    /// Held while it is read who listens: an older answer must not come last.
    listening: Mutex<()>,
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("readers", &self.readers).finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Hands a job to the writer and waits for its answer.
    async fn send<T>(
        &self,
        lane: impl FnOnce(Inbox) -> mpsc::Sender<Job>,
        job: impl FnOnce(oneshot::Sender<Result<T>>) -> Job,
    ) -> Result<T> {
        let closed = || StoreError::Busy("the store is closed".into());
        let inbox = self.inbox.read().unwrap_or_else(PoisonError::into_inner).clone();
        let lane = lane(inbox.ok_or_else(closed)?);
        let (reply, answer) = oneshot::channel();
        lane.send_timeout(job(reply), self.patience).await.map_err(|error| match error {
            mpsc::error::SendTimeoutError::Timeout(_) => {
                StoreError::Busy("too much waits to be written".into())
            }
            mpsc::error::SendTimeoutError::Closed(_) => closed(),
        })?;
        drop(lane);
        answer.await.unwrap_or_else(|_| Err(StoreError::Broken("the writer stopped".into())))
    }

    /// Hands over an accept. What the writer has not begun in time, because the disk is slow or too much waits, is
    /// taken back: the caller hears that nothing is stored, and nothing is.
    async fn offer(&self, message: NewMessage, changes: Changes) -> Result<AcceptAnswer> {
        let late = || StoreError::Busy("too much waits to be accepted".into());
        let until = Instant::now() + self.accept_timeout;
        let kilobytes = message.spec.len() / 1024 + changes.targets.len() / 4 + 1;
        // Held until the answer: what waits to be accepted is bounded in bytes, not only in number.
        let room = self.accept_room.acquire_many(kilobytes.min(ACCEPT_ROOM) as u32);
        let Ok(Ok(_room)) = timeout_at(until, room).await else { return Err(late()) };
        let claim = Claim::default();
        let (mine, job) = (claim.clone(), Box::new((message, changes)));
        let sending = self.send(|inbox| inbox.accepts, |reply| Job::Accept(job, claim, reply));
        tokio::pin!(sending);
        match timeout_at(until, &mut sending).await {
            Ok(answer) => answer,
            Err(_) if mine.take() => Err(late()),
            // It is being written: only the writer knows how that ends.
            Err(_) => sending.await,
        }
    }

    /// A rare write. The function may run twice, the first time in vain.
    async fn call<T, F>(&self, work: F) -> Result<T>
    where
        F: for<'a> Fn(&'a mut Session) -> BoxFuture<'a, Sql<Result<T>>> + Send + 'static,
        T: Send + 'static,
    {
        self.send(|inbox| inbox.rest, |reply| Job::Call(Box::new(Function::new(work, reply)))).await
    }

    /// The same, lent what is given.
    async fn call_with<G, T, F>(&self, given: G, work: F) -> Result<T>
    where
        F: for<'a> Fn(&'a mut Session, &'a G) -> BoxFuture<'a, Sql<Result<T>>> + Send + Sync + 'static,
        G: Send + Sync + 'static,
        T: Send + 'static,
    {
        let both = Arc::new((given, work));
        self.call(move |session| {
            let both = Arc::clone(&both);
            Box::pin(async move { (both.1)(session, &both.0).await })
        })
        .await
    }

    /// A rare write that changes who listens to events.
    async fn call_and_listen<T, F>(&self, work: F) -> Result<T>
    where
        F: for<'a> Fn(&'a mut Session) -> BoxFuture<'a, Sql<Result<T>>> + Send + 'static,
        T: Send + 'static,
    {
        let done = self.call(work).await?;
        self.listen_anew().await?;
        Ok(done)
    }

    /// A read.
    async fn read<T>(&self, work: impl AsyncFnOnce(&mut Session) -> Sql<T>) -> Result<T> {
        self.readers.read(work).await
    }

    /// Reads anew who listens to events, once that has changed.
    async fn listen_anew(&self) -> Result<()> {
        let _turn = self.listening.lock().await;
        self.taps.put(self.read(events::listeners).await?);
        Ok(())
    }

    fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }

    /// Drains the writer, copies the log back, closes. A second call finds nothing to do.
    async fn shut(&self) {
        self.leave_off.store(true, Ordering::Relaxed);
        drop(self.inbox.write().unwrap_or_else(PoisonError::into_inner).take());
        let Some((writer, stop, copier)) = self.tasks.lock().await.take() else { return };
        let ended = |what: &str, outcome: std::result::Result<(), tokio::task::JoinError>| {
            if let Err(error) = outcome {
                tracing::error!("the {what} ended badly: {error}");
            }
        };
        ended("writer", writer.await);
        self.readers.close().await;
        let _ = stop.send(());
        ended("checkpointer", copier.await);
    }
}
