//! The recorder: gathers what happened and writes it in few, large transactions.
//!
//! What comes in: change sets in two lanes, those of short pages and all others, each in the order in which they must
//! become true. What goes out: one commit at a time. A change set that one person waits for is written at once and
//! waits for none of the other lane; those of a campaign are gathered for a moment. When the store cannot write,
//! nothing is dropped: the lane fills, dispatch waits, nothing more is sent ("no record, no send").

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
/// The same while short pages come: theirs wait for the transaction that is being written.
const ENOUGH_BESIDE_SHORT: usize = 256;
/// For how long after the last of a short page more are expected.
const SHORT_FOR: Duration = Duration::from_secs(1);
/// How long changes of a campaign are gathered at the most.
const GATHER: Duration = Duration::from_millis(250);
/// Where none came for so long, no more are waited for; not so in the [`GATHER`] after a small transaction, or a campaign that
/// is sent slowly would have one for each of its outcomes.
const PAUSE: Duration = Duration::from_millis(16);
/// How long changes that a person waits for are gathered.
const GATHER_URGENT: Duration = Duration::from_millis(5);
/// How often the lane of campaigns is looked into while a transaction is gathered: to be woken for each of its change sets
/// would cost more than they do.
const LOOK: Duration = Duration::from_millis(4);
/// Change sets that may wait in a lane before dispatch does.
const WAITING: usize = 4096;
/// Events that may be known and not written, of short pages and of others. With the pages in hand this bounds what a
/// crash sends twice.
const UNWRITTEN_SHORT: usize = 500;
const UNWRITTEN: usize = 2000;

/// The way to the recorder, in one of its lanes. A page keeps to its lane: its change sets build on each other. When all
/// are dropped and what waits is written, the recorder ends.
#[derive(Debug, Clone)]
pub(super) struct Recorder {
    way: mpsc::Sender<Entry>,
    unwritten: Arc<Semaphore>,
    most: usize,
}

/// Both lanes.
#[derive(Debug)]
pub(super) struct Recorders {
    /// Of short pages, which wait for no others.
    pub(super) short: Recorder,
    /// Of everything else.
    pub(super) rest: Recorder,
}

impl Recorders {
    /// Makes the lanes, and the work that must be run.
    pub(super) fn new(
        store: Arc<dyn Store>,
        tasks: Tasks,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let ((short, of_short), (rest, of_rest)) = (Recorder::new(UNWRITTEN_SHORT), Recorder::new(UNWRITTEN));
        (Self { short, rest }, run(store, tasks, Lanes::new(of_short, of_rest)))
    }

    /// Waits until everything that was handed over is on disk.
    pub(super) async fn flush(&self) {
        let empty = Changes::default;
        tokio::join!(self.short.push_and_wait(empty(), true), self.rest.push_and_wait(empty(), true));
    }
}

#[derive(Debug)]
struct Entry {
    changes: Changes,
    urgent: bool,
    /// Told when it is on disk. Dropped unanswered when the process ends first.
    done: Option<oneshot::Sender<()>>,
    /// Its share of what may be unwritten.
    share: Option<OwnedSemaphorePermit>,
}

impl Recorder {
    fn new(most: usize) -> (Self, mpsc::Receiver<Entry>) {
        let (way, receiver) = mpsc::channel(WAITING);
        (Self { way, unwritten: Arc::new(Semaphore::new(most)), most }, receiver)
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
        // A set of more events than may wait has the lane to itself.
        let events = changes.events.len().min(self.most) as u32;
        let share = Arc::clone(&self.unwritten).acquire_many_owned(events).await.ok();
        let _ = self.way.send(Entry { changes, urgent, done, share }).await;
    }
}

/// The receiving ends.
struct Lanes {
    short: mpsc::Receiver<Entry>,
    rest: mpsc::Receiver<Entry>,
    /// Until when short pages are expected.
    short_until: Instant,
    /// The last transaction was of short pages alone: however many there are, the others get on.
    owes_rest: bool,
    /// Until when no transaction is written because of a pause.
    bears_pauses_until: Instant,
}

impl Lanes {
    fn new(short: mpsc::Receiver<Entry>, rest: mpsc::Receiver<Entry>) -> Self {
        let now = Instant::now();
        Self { short, rest, short_until: now, owes_rest: false, bears_pauses_until: now }
    }

    /// The first change set of a transaction, of short pages first; `None` when both lanes are over.
    async fn first(&mut self) -> Option<Entry> {
        if std::mem::take(&mut self.owes_rest)
            && let Ok(entry) = self.rest.try_recv()
        {
            return Some(entry);
        }
        tokio::select! {
            biased;
            Some(entry) = self.short.recv() => {
                self.owes_rest = true;
                Some(self.short(entry))
            }
            Some(entry) = self.rest.recv() => Some(entry),
            else => None,
        }
    }

    /// Gathers what else belongs into the transaction.
    async fn gather(&mut self, batch: &mut Batch) {
        let started = Instant::now();
        let mut came = started;
        loop {
            while let Ok(entry) = self.short.try_recv() {
                batch.add(self.short(entry));
            }
            let now = Instant::now();
            while batch.changes.events.len() < self.enough()
                && let Ok(entry) = self.rest.try_recv()
            {
                self.owes_rest = false;
                came = now;
                batch.add(entry);
            }
            let pause = (came + PAUSE).max(self.bears_pauses_until);
            let until = if batch.urgent { started + GATHER_URGENT } else { (started + GATHER).min(pause) };
            let is_over = self.rest.is_closed() && self.rest.is_empty();
            if batch.changes.events.len() >= self.enough() || is_over {
                return;
            }
            if now >= until {
                if !batch.urgent {
                    self.bears_pauses_until = now + GATHER;
                }
                return;
            }
            tokio::select! {
                biased;
                Some(entry) = self.short.recv() => batch.add(self.short(entry)),
                () = tokio::time::sleep_until(until.min(now + LOOK)) => {}
            }
        }
    }

    /// A change set of a short page has come.
    fn short(&mut self, entry: Entry) -> Entry {
        self.short_until = Instant::now() + SHORT_FOR;
        entry
    }

    fn enough(&self) -> usize {
        if Instant::now() < self.short_until { ENOUGH_BESIDE_SHORT } else { ENOUGH }
    }
}

async fn run(store: Arc<dyn Store>, tasks: Tasks, mut lanes: Lanes) {
    while let Some(first) = lanes.first().await {
        let mut batch = Batch::default();
        batch.add(first);
        lanes.gather(&mut batch).await;
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
    let changes = Arc::new(changes);
    let mut wait = Duration::from_millis(50);
    loop {
        match store.commit_shared(Arc::clone(&changes)).await {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::state::{Event, State};

    fn outcome() -> Changes {
        Changes { events: vec![Event::new((Id(1), 1), State::Accepted, 1, 0)], ..Changes::default() }
    }

    /// How long each transaction of ten seconds was gathered where an outcome comes every so often.
    async fn gathered(every: Duration) -> Vec<Duration> {
        let ((_short, of_short), (rest, of_rest)) =
            (Recorder::new(UNWRITTEN_SHORT), Recorder::new(UNWRITTEN));
        let mut lanes = Lanes::new(of_short, of_rest);
        let mut took = Vec::new();
        let campaign = async {
            loop {
                rest.push(outcome(), false).await;
                tokio::time::sleep(every).await;
            }
        };
        let transactions = async {
            loop {
                let mut batch = Batch::default();
                batch.add(lanes.first().await.unwrap());
                let began = Instant::now();
                lanes.gather(&mut batch).await;
                took.push(began.elapsed());
            }
        };
        tokio::select! {
            () = campaign => {}
            () = transactions => {}
            () = tokio::time::sleep(Duration::from_secs(10)) => {}
        }
        took
    }

    #[tokio::test(start_paused = true)]
    async fn outcomes_are_gathered_while_they_come_and_written_once_they_pause() {
        let coming = gathered(Duration::from_millis(10)).await;
        assert!(coming.iter().all(|took| (GATHER..=GATHER + LOOK).contains(took)), "{coming:?}");
        let pausing = gathered(Duration::from_secs(1)).await;
        assert!(pausing.iter().all(|took| (PAUSE..=PAUSE + LOOK).contains(took)), "{pausing:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_campaign_that_is_sent_slowly_takes_no_transaction_for_each_outcome() {
        for every in [20, 50, 100].map(Duration::from_millis) {
            let transactions = gathered(every).await.len();
            assert!(transactions <= 10_000 / 250 + 1, "{transactions}, one every {every:?}");
        }
    }
}
