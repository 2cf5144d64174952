//! The one writer: takes everything that waits, writes it in one transaction, then answers.
//!
//! Callers send a [`Job`] with the sending end of its answer. The writer ends when all senders are dropped, after it
//! has written what they sent. A dropped answer means that the caller went away: the job is written all the same.
//!
//! A group is all or nothing. Where one job's own statement is what fails, each is tried alone, so that nobody pays
//! for another's mistake; where the disk or the database fails, all are told. After a failed fsync nothing that the
//! database says can be believed, so nothing is written any more until a new start has recovered.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;
use tokio::sync::{SetOnce, mpsc, oneshot};

use super::accept;
use super::changes::{self, Batch};
use super::checkpoint::Written;
use super::events::Taps;
use super::inbox::{self, Positions};
use super::journal;
use super::session::{Aftermath, Fault, Session, Sql, cause, fault, told};
use super::stats::Remembered;
use crate::audit::{self, Actor};
use crate::clock::Clock;
use crate::failpoint::failpoint;
use crate::ids::Id;
use crate::store::{AcceptAnswer, Ack, Changes, NewMessage, PhoneEvent, RawReceipt, Result, StoreError};

/// Most accepts, events and bytes of one transaction; half of the bytes are for accepts. What is over waits for the
/// next: a few milliseconds.
const ACCEPTS: usize = 512;
const EVENTS: usize = 5000;
const BYTES: usize = 4 * 1024 * 1024;

/// Where an answer goes.
type Reply<T> = oneshot::Sender<Result<T>>;

/// Who has an accept: whoever claims it first, the writer to write it or its caller to take it back.
#[derive(Debug, Clone, Default)]
pub(super) struct Claim(Arc<AtomicBool>);

impl Claim {
    /// `true`: nobody else has it.
    pub(super) fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// Something to write.
pub(super) enum Job {
    /// A message and its first changes, unless its caller takes it back first.
    Accept(Box<(NewMessage, Changes)>, Claim, Reply<AcceptAnswer>),
    /// Changes.
    Commit(Arc<Changes>, Reply<()>),
    /// What a phone acknowledges, and when.
    Acknowledge(u64, Ack, u64, Reply<u64>),
    /// What a phone reports, and when.
    Report(u64, Vec<PhoneEvent>, u64, Reply<u64>),
    /// A message whose entries are taken back from inboxes, and when.
    Withdraw(Id, u64, Reply<u64>),
    /// Inbox entries that are handed out, and when.
    HandOut(Vec<(u64, i64)>, u64, Reply<()>),
    /// Callbacks of vendors.
    Journal(Vec<RawReceipt>, Reply<()>),
    /// Everything that is rare.
    Call(Box<dyn Call>),
}

/// A rare write. It may be run again where its group failed.
pub(super) trait Call: Send {
    /// Writes.
    fn run<'a>(&'a mut self, session: &'a mut Session) -> BoxFuture<'a, Sql<()>>;
    /// Answers, once it is on disk or has failed.
    fn answer(self: Box<Self>, outcome: Result<()>);
}

/// A [`Call`] made of a function.
pub(super) struct Function<F, T> {
    actor: Actor,
    work: F,
    value: Option<Result<T>>,
    reply: Reply<T>,
}

impl<F, T> Function<F, T> {
    /// A call that runs this function, in the name of whom its caller acts for.
    pub(super) fn new(work: F, reply: Reply<T>) -> Self {
        Self { actor: audit::actor(), work, value: None, reply }
    }
}

impl<F, T> Call for Function<F, T>
where
    F: for<'a> Fn(&'a mut Session) -> BoxFuture<'a, Sql<Result<T>>> + Send,
    T: Send,
{
    fn run<'a>(&'a mut self, session: &'a mut Session) -> BoxFuture<'a, Sql<()>> {
        session.act(self.actor.clone());
        let work = (self.work)(session);
        let value = &mut self.value;
        Box::pin(async move {
            *value = Some(work.await?);
            Ok(())
        })
    }

    fn answer(self: Box<Self>, outcome: Result<()>) {
        let value = self.value.unwrap_or_else(|| Err(StoreError::Broken("the write did not run".into())));
        let _ = self.reply.send(outcome.and(value));
    }
}

/// What a phone says.
#[derive(Debug, Clone, Copy)]
pub(super) enum PhoneSays<'j> {
    /// It has these.
    Ack(&'j Ack),
    /// This became of those.
    Events(&'j [PhoneEvent]),
    /// Nothing: the gateway takes this message back from all phones that were not given it.
    Withdrawn(Id),
    /// Nothing: a user has left it, and what was sent to the user before.
    Left,
}

/// A phone's word, as a part of a group.
#[derive(Debug, Clone, Copy)]
pub(super) struct PhoneCall<'j> {
    pub(super) device: u64,
    pub(super) says: PhoneSays<'j>,
    pub(super) now_ms: u64,
}

impl Job {
    /// `false`: its caller took it back, and was told that nothing is stored.
    fn begin(&self) -> bool {
        match self {
            Self::Accept(_, claim, _) => claim.take(),
            _ => true,
        }
    }

    fn events(&self) -> usize {
        match self {
            Self::Accept(accept, ..) => accept.1.events.len(),
            Self::Commit(changes, _) => changes.events.len() + changes.receipts.len(),
            Self::Withdraw(..) => 1000,
            Self::Acknowledge(..)
            | Self::Report(..)
            | Self::HandOut(..)
            | Self::Journal(..)
            | Self::Call(_) => 1,
        }
    }

    /// Whether it brings outcomes.
    #[cfg(debug_assertions)]
    fn records(&self) -> bool {
        matches!(self, Self::Commit(changes, _) if !changes.events.is_empty())
    }

    /// About how many bytes it will write.
    fn bytes(&self) -> usize {
        match self {
            Self::Accept(accept, ..) => 300 + accept.0.spec.len() + weight(&accept.1),
            Self::Commit(changes, _) => weight(changes),
            Self::Journal(raw, _) => raw.iter().map(|r| 100 + r.envelope.len() + r.body.len()).sum(),
            _ => 500,
        }
    }

    fn fail(self, error: StoreError) {
        match self {
            Self::Accept(_, _, reply) => drop(reply.send(Err(error))),
            Self::Commit(_, reply) | Self::HandOut(_, _, reply) | Self::Journal(_, reply) => {
                drop(reply.send(Err(error)));
            }
            Self::Acknowledge(_, _, _, reply)
            | Self::Report(_, _, _, reply)
            | Self::Withdraw(_, _, reply) => {
                drop(reply.send(Err(error)));
            }
            Self::Call(call) => call.answer(Err(error)),
        }
    }
}

fn weight(changes: &Changes) -> usize {
    let payloads: usize = changes.work.iter().map(|work| work.payload.len()).sum();
    let updates: usize =
        changes.work_updates.iter().filter_map(|work| work.payload.as_ref()).map(Vec::len).sum();
    payloads
        + updates
        + 200 * (changes.events.len() + changes.receipts.len())
        + 150 * (changes.inbox.len() + changes.targets.len())
}

/// The sending ends.
#[derive(Clone)]
pub(super) struct Inbox {
    pub(super) accepts: mpsc::Sender<Job>,
    pub(super) rest: mpsc::Sender<Job>,
}

/// The writer's own.
pub(super) struct Writer {
    pub(super) session: Session,
    pub(super) accepts: mpsc::Receiver<Job>,
    pub(super) rest: mpsc::Receiver<Job>,
    pub(super) positions: Positions,
    pub(super) taps: Arc<Taps>,
    pub(super) clock: Clock,
    pub(super) written: Arc<Written>,
    /// When old idempotency keys are looked for next.
    pub(super) prune_at: u64,
    /// What counters of reports stand under.
    pub(super) remembered: Remembered,
    /// Set once the disk or the database failed; the store's front door looks at it too.
    pub(super) broken: Arc<SetOnce<String>>,
}

/// What is answered to each job of a group; calls keep their own.
enum Answer {
    Accept(AcceptAnswer),
    Count(u64),
    Done,
}

impl Writer {
    /// Writes until all senders are gone.
    pub(super) async fn run(mut self) {
        let mut alone = true;
        while let Some(first) = self.next().await {
            if !alone {
                self.let_others_come().await;
            }
            let group = self.gather(first);
            alone = group.len() < 2;
            if !group.is_empty() {
                self.serve(group).await;
            }
        }
        if self.broken.get().is_some() {
            // The last connection that closes copies the log back, with an fsync: see `checkpoint`.
            std::mem::forget(self.session);
        } else if let Err(error) = self.session.close().await {
            tracing::warn!("closing the database's writing end failed: {error}");
        }
    }

    async fn next(&mut self) -> Option<Job> {
        tokio::select! {
            biased;
            Some(job) = self.accepts.recv() => Some(job),
            Some(job) = self.rest.recv() => Some(job),
            else => None,
        }
    }

    /// Waits as long as more come at once: a commit costs about the same for one as for many, and callers who are about to
    /// write would wait for it anyway.
    async fn let_others_come(&self) {
        let mut waiting = 0;
        loop {
            tokio::task::yield_now().await;
            let now = self.accepts.len() + self.rest.len();
            if now <= waiting || now >= ACCEPTS {
                return;
            }
            waiting = now;
        }
    }

    /// Everything that waits, accepts first. Each lane has limits of its own: a flood of accepts must not keep
    /// outcomes from being recorded.
    fn gather(&mut self, first: Job) -> Vec<Job> {
        let mut group = vec![first];
        for (lane, most) in [(&mut self.accepts, ACCEPTS), (&mut self.rest, usize::MAX)] {
            let (mut jobs, mut events, mut bytes) = (0, 0, 0);
            while jobs < most && events < EVENTS && bytes < BYTES / 2 {
                let Ok(job) = lane.try_recv() else { break };
                jobs += 1;
                events += job.events();
                bytes += job.bytes();
                group.push(job);
            }
        }
        group.retain(Job::begin);
        group
    }

    async fn serve(&mut self, mut group: Vec<Job>) {
        let error = match self.attempt(&mut group).await {
            Ok(answers) => return group.into_iter().zip(answers).for_each(|(job, answer)| give(job, answer)),
            Err(error) => error,
        };
        if group.len() > 1 && fault(&error) == Fault::Poison {
            tracing::warn!("one of {} writes is refused, so each is tried alone: {error}", group.len());
            for job in group {
                Box::pin(self.serve(vec![job])).await;
            }
            return;
        }
        let told = self.told(&error);
        for job in group {
            job.fail(told.clone());
        }
    }

    /// What callers are told; what breaks the database breaks it for good.
    fn told(&mut self, error: &sqlx::Error) -> StoreError {
        if let Some(cause) = self.broken.get() {
            return StoreError::Broken(cause.clone());
        }
        let told = told(error);
        if fault(error) == Fault::Broken {
            let cause = cause(error);
            tracing::error!("the database failed, nothing more is written until a new start: {cause}");
            let _ = self.broken.set(cause);
        }
        told
    }

    async fn attempt(&mut self, group: &mut [Job]) -> Sql<Vec<Answer>> {
        if self.broken.get().is_some() {
            return Err(sqlx::Error::WorkerCrashed);
        }
        self.session.begin();
        *self.session.aftermath() = Aftermath::default();
        let positions = self.positions;
        let outcome = match self.apply(group).await {
            Ok(answers) => {
                failpoint!("accept.before_commit", group.iter().any(|job| matches!(job, Job::Accept(..))));
                failpoint!("outcomes.before_commit", group.iter().any(Job::records));
                failpoint!("ack.before_commit", group.iter().any(|job| matches!(job, Job::Acknowledge(..))));
                let done = self.session.commit().await.map(|()| answers);
                failpoint!("accept.after_commit", group.iter().any(|job| matches!(job, Job::Accept(..))));
                failpoint!("outcomes.after_commit", group.iter().any(Job::records));
                failpoint!("ack.after_commit", group.iter().any(|job| matches!(job, Job::Acknowledge(..))));
                done
            }
            Err(error) => Err(error),
        };
        if outcome.is_ok() {
            self.taps.committed();
            self.written.add(group.iter().map(Job::bytes).sum());
            if self.session.aftermath().erased {
                self.written.scrub();
            }
        } else {
            self.positions.restore(positions);
            self.taps.rolled_back();
            self.remembered.forget();
            self.session.roll_back().await;
        }
        outcome
    }

    /// Writes a group inside its transaction.
    async fn apply(&mut self, group: &mut [Job]) -> Sql<Vec<Answer>> {
        let mut parts = Parts::default();
        for job in group.iter() {
            parts.add(job);
        }
        let accepted = accept::store(&mut self.session, &parts.accepts, &mut self.prune_at).await?;
        let stored = parts.accepts.iter().zip(&accepted.answers);
        let stored =
            stored.filter(|(_, answer)| **answer == AcceptAnswer::Stored).map(|((message, _), _)| *message);
        self.remembered.learn(&mut self.session, &stored.collect::<Vec<_>>()).await?;
        let mut sets = accepted.changes;
        sets.append(&mut parts.commits);
        let now_ms = self.clock.now_ms();
        self.session.begin_at(now_ms);
        let batch = Batch { sets, fresh: accepted.fresh, phones: parts.phones, now_ms };
        // First what was handed out: it cannot be withdrawn any more.
        if let Some(now) = parts.handed_at {
            inbox::hand_out(&mut self.session, &parts.handed, now).await?;
        }
        journal::append(&mut self.session, &parts.journal).await?;
        let (taps, remembered) = (&self.taps, &mut self.remembered);
        let counts = changes::apply(&mut self.session, &mut self.positions, remembered, taps, &batch).await?;
        let (mut accepts, mut counts) = (accepted.answers.into_iter(), counts.into_iter());
        let mut answers = Vec::with_capacity(group.len());
        for job in group {
            answers.push(match job {
                Job::Accept(..) => accepts.next().map_or(Answer::Done, Answer::Accept),
                Job::Acknowledge(..) | Job::Report(..) | Job::Withdraw(..) => {
                    Answer::Count(counts.next().unwrap_or_default())
                }
                Job::Commit(..) | Job::HandOut(..) | Job::Journal(..) => Answer::Done,
                Job::Call(call) => {
                    // What it meets shall be its own.
                    self.session.flush().await?;
                    call.run(&mut self.session).await?;
                    // It may have deleted some.
                    self.remembered.forget_counters();
                    Answer::Done
                }
            });
        }
        self.end_what_users_left(now_ms).await?;
        Ok(answers)
    }

    /// Ends what waits in inboxes of devices that a call of this transaction took a user from.
    async fn end_what_users_left(&mut self, now_ms: u64) -> Sql<()> {
        let left = std::mem::take(&mut self.session.aftermath().left);
        if left.is_empty() {
            return Ok(());
        }
        let phones =
            left.into_iter().map(|device| PhoneCall { device, says: PhoneSays::Left, now_ms }).collect();
        let batch = Batch { sets: Vec::new(), fresh: HashSet::new(), phones, now_ms };
        let (taps, remembered) = (&self.taps, &mut self.remembered);
        changes::apply(&mut self.session, &mut self.positions, remembered, taps, &batch).await.map(drop)
    }
}

/// The jobs of a group by kind.
#[derive(Default)]
struct Parts<'j> {
    accepts: Vec<(&'j NewMessage, &'j Changes)>,
    commits: Vec<&'j Changes>,
    phones: Vec<PhoneCall<'j>>,
    handed: Vec<(u64, i64)>,
    handed_at: Option<u64>,
    journal: Vec<&'j RawReceipt>,
}

impl<'j> Parts<'j> {
    fn add(&mut self, job: &'j Job) {
        match job {
            Job::Accept(accept, ..) => self.accepts.push((&accept.0, &accept.1)),
            Job::Commit(changes, _) => self.commits.push(changes),
            Job::Acknowledge(device, ack, now_ms, _) => {
                self.phones.push(PhoneCall { device: *device, says: PhoneSays::Ack(ack), now_ms: *now_ms });
            }
            Job::Report(device, events, now_ms, _) => {
                let says = PhoneSays::Events(events);
                self.phones.push(PhoneCall { device: *device, says, now_ms: *now_ms });
            }
            Job::Withdraw(message, now_ms, _) => {
                let says = PhoneSays::Withdrawn(*message);
                self.phones.push(PhoneCall { device: 0, says, now_ms: *now_ms });
            }
            Job::HandOut(places, now_ms, _) => {
                self.handed.extend(places);
                self.handed_at = self.handed_at.max(Some(*now_ms));
            }
            Job::Journal(receipts, _) => self.journal.extend(receipts),
            Job::Call(_) => {}
        }
    }
}

/// Tells a caller. One that went away is not missed.
fn give(job: Job, answer: Answer) {
    match (job, answer) {
        (Job::Accept(_, _, reply), Answer::Accept(answer)) => drop(reply.send(Ok(answer))),
        (Job::Commit(_, reply) | Job::HandOut(_, _, reply) | Job::Journal(_, reply), _) => {
            drop(reply.send(Ok(())));
        }
        (
            Job::Acknowledge(_, _, _, reply) | Job::Report(_, _, _, reply) | Job::Withdraw(_, _, reply),
            Answer::Count(count),
        ) => {
            drop(reply.send(Ok(count)));
        }
        (Job::Call(call), _) => call.answer(Ok(())),
        (job, _) => job.fail(StoreError::Broken("a write was answered for another".into())),
    }
}
