//! A channel's desk: takes its pages in turn and sends a few at a time, with places of their own for what a person waits
//! for.
//!
//! A page arrives in memory (its writer leased it to itself) or is leased from the store. Whatever finds no room in
//! memory stays in the store, so a queue of a million costs no more memory than a queue of ten.
//!
//! A page that waits for nothing but its vendor's last few answers gives its place to the next: a phone about which its
//! vendor is silent holds up nobody. How many such tails there are is bounded too.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::delivery::ahead::Ahead;
use crate::delivery::dispatch;
use crate::delivery::pipeline::Inner;
use crate::delivery::record::Recorder;
use crate::store::{WorkItem, WorkKind, WorkLane};

/// Nothing is due.
const NEVER: u64 = u64::MAX;
/// When a desk without room looks into the store again, in milliseconds.
const FULL_MS: u64 = 50;
/// Targets in the tails of one lane: what a crash may repeat of them.
const TAILS: usize = 1024;
/// Targets of one tail.
const TAIL: usize = 128;
/// What a long page's tail counts at the least: its adapter may hold all its targets in memory to the end.
const LONG_TAIL: usize = 8;

/// Each lane has places of its own.
impl WorkLane {
    /// Pages that wait in memory or are being sent.
    fn room(self) -> usize {
        match self {
            Self::Short => 128,
            Self::Transactional | Self::Marketing => 16,
        }
    }

    /// Pages that are being sent at the same time.
    fn abreast(self) -> usize {
        match self {
            Self::Short => 64,
            Self::Transactional | Self::Marketing => 4,
        }
    }

    /// What a tail of so many targets takes of [`TAILS`].
    fn tail(self, targets: usize) -> usize {
        match self {
            Self::Short => targets.max(1),
            Self::Transactional | Self::Marketing => targets.max(LONG_TAIL),
        }
    }
}

/// The desk of one channel.
#[derive(Debug)]
pub(super) struct Desk {
    channel: i64,
    queues: Mutex<Queues>,
    /// Pages in memory or promised to it, by lane.
    taken: [AtomicUsize; 3],
    /// When the store is worth asking, in Unix milliseconds.
    look_at: AtomicU64,
    bell: Notify,
    /// Taken by each page of the own connection in the order of the queue, so that a phone finds its messages in the
    /// order of the calls. Given back when the recorder has the page, not when it is on disk.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Room for tails, by lane.
    tails: [Arc<Semaphore>; 3],
}

/// A page that its desk has in memory.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) item: WorkItem,
    /// What is known of its targets' addresses; else they are read.
    pub(super) ahead: Option<Arc<Ahead>>,
}

/// A page's place at its desk, given back when it is dropped or left.
#[derive(Debug)]
pub(super) struct Place {
    desk: Arc<Desk>,
    lane: WorkLane,
    /// Its pages are recorded in their order.
    in_order: bool,
    /// Its room among the tails, once the place is left.
    tail: OnceLock<OwnedSemaphorePermit>,
}

impl Place {
    /// Who records what becomes of the page. The own connection has one lane: what its phones find in their inboxes is
    /// in the order of the calls.
    pub(super) fn recorder<'i>(&self, inner: &'i Inner) -> &'i Recorder {
        let recorders = &inner.recorders;
        if self.lane == WorkLane::Short && !self.in_order { &recorders.short } else { &recorders.rest }
    }

    /// Gives the place to the next page where there is room for a tail of so many targets. `false`: it is kept.
    pub(super) fn leave(&self, targets: usize) -> bool {
        if self.tail.get().is_some() {
            return true;
        }
        if targets > TAIL {
            return false;
        }
        let tails = Arc::clone(&self.desk.tails[self.lane as usize]);
        let room = tails.try_acquire_many_owned(self.lane.tail(targets) as u32);
        let is_left = room.is_ok_and(|room| self.tail.set(room).is_ok());
        if is_left {
            self.give_back();
        }
        is_left
    }

    fn give_back(&self) {
        self.desk.free(self.lane);
        self.desk.queues().busy[self.lane as usize] -= 1;
        self.desk.bell.notify_one();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.tail.get().is_none() {
            self.give_back();
        }
    }
}

#[derive(Debug, Default)]
struct Queues {
    waiting: [VecDeque<Handed>; 3],
    /// Pages that are being sent.
    busy: [usize; 3],
}

impl Desk {
    pub(super) fn new(channel: i64) -> Self {
        // An earlier life may have left pages: the store is asked at once.
        Self {
            channel,
            queues: Mutex::default(),
            taken: Default::default(),
            look_at: AtomicU64::new(0),
            bell: Notify::new(),
            turn: Arc::default(),
            tails: std::array::from_fn(|_| Arc::new(Semaphore::new(TAILS))),
        }
    }

    /// Gives back a promise that is not used.
    pub(super) fn release(&self, item: &WorkItem) {
        self.free(item.lane);
    }

    /// Promises room in memory for a page of this lane.
    pub(super) fn reserve(&self, lane: WorkLane) -> bool {
        let one_more = |n: usize| (n < lane.room()).then_some(n + 1);
        self.taken[lane as usize].fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).is_ok()
    }

    fn free(&self, lane: WorkLane) {
        self.taken[lane as usize].fetch_sub(1, Ordering::AcqRel);
    }

    /// Hands over a page for which room was promised.
    pub(super) fn hand_over(&self, page: Handed) {
        self.queues().waiting[page.item.lane as usize].push_back(page);
        self.bell.notify_one();
    }

    /// There is something in the store that is due at this time.
    pub(super) fn nudge(&self, due_at: u64) {
        self.look_at.fetch_min(due_at, Ordering::AcqRel);
        self.bell.notify_one();
    }

    /// Runs until the process stops.
    pub(super) async fn run(self: Arc<Self>, inner: Arc<Inner>) {
        while let Some(page) = self.next(&inner).await {
            let lane = page.item.lane;
            let in_order =
                inner.parts.channels.by_seq(self.channel).is_some_and(|channel| channel.is_direct());
            let turn = if in_order { Some(Arc::clone(&self.turn).lock_owned().await) } else { None };
            let place = Place { desk: Arc::clone(&self), lane, in_order, tail: OnceLock::new() };
            let inner = Arc::clone(&inner);
            let (pages, bulk) = (inner.pages.clone(), inner.parts.bulk.clone());
            let tracked = pages.track_future(async move { dispatch::page(&inner, page, &place, turn).await });
            // Stop waits for it by `pages`.
            if lane == WorkLane::Short {
                #[expect(clippy::disallowed_methods, reason = "see above")]
                tokio::spawn(tracked);
            } else {
                bulk.spawn(tracked);
            }
        }
    }

    /// The next page; `None` when the process stops.
    async fn next(&self, inner: &Inner) -> Option<Handed> {
        loop {
            if inner.parts.tasks.is_stopping() {
                return None;
            }
            if let Some(next) = self.pop() {
                return Some(next);
            }
            let now = inner.now_ms();
            let look_at = self.look_at.load(Ordering::Acquire);
            if look_at <= now {
                self.fill(inner).await;
                continue;
            }
            let wait = Duration::from_millis((look_at - now).min(3_600_000));
            tokio::select! {
                () = inner.parts.tasks.stopped() => return None,
                () = self.bell.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn pop(&self) -> Option<Handed> {
        let mut queues = self.queues();
        let lane = WorkLane::ALL.into_iter().find(|lane| {
            queues.busy[*lane as usize] < lane.abreast() && !queues.waiting[*lane as usize].is_empty()
        })?;
        let page = queues.waiting[lane as usize].pop_front()?;
        queues.busy[lane as usize] += 1;
        Some(page)
    }

    /// Leases from the store what there is room for.
    async fn fill(&self, inner: &Inner) {
        // Whoever writes new work from here on sets this again; what is in the store already is seen below.
        self.look_at.store(NEVER, Ordering::Release);
        let (mut look_again, mut is_full) = (None, true);
        for lane in WorkLane::ALL {
            let room = (0..lane.room() / 2).take_while(|_| self.reserve(lane)).count();
            let leased = if room == 0 {
                // What is due waits in the store; the desk looks again when a page of it is done.
                Vec::new()
            } else {
                match inner.lease(WorkKind::Page, self.channel, Some(lane), room).await {
                    Ok(items) => items,
                    Err(error) => {
                        tracing::warn!("work cannot be leased: {error}");
                        // Reading may go on working on a full disk: what is due would be asked for again and again.
                        look_again = Some(inner.now_ms() + 1000);
                        Vec::new()
                    }
                }
            };
            is_full &= room == 0;
            if room > 0 && leased.len() == room {
                look_again = look_again.or_else(|| Some(inner.now_ms()));
            }
            (leased.len()..room).for_each(|_| self.free(lane));
            for item in leased {
                self.hand_over(Handed { item, ahead: None });
            }
        }
        let next = match look_again {
            Some(at) => Some(at),
            None if is_full => Some(inner.now_ms() + FULL_MS),
            None => {
                let due = inner.parts.store.next_due(WorkKind::Page, self.channel).await;
                let due = due.unwrap_or_else(|_| Some(inner.now_ms() + 1000));
                // What is due already belongs to a lane without room.
                due.map(|due| due.max(inner.now_ms() + FULL_MS))
            }
        };
        self.look_at.fetch_min(next.unwrap_or(NEVER), Ordering::AcqRel);
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(desk: &Arc<Desk>, lane: WorkLane) -> Place {
        assert!(desk.reserve(lane));
        desk.queues().busy[lane as usize] += 1;
        Place { desk: Arc::clone(desk), lane, in_order: false, tail: OnceLock::new() }
    }

    #[test]
    fn tails_have_bounds_and_give_back_what_they_take() {
        for (lane, most) in
            [(WorkLane::Short, 1024), (WorkLane::Transactional, 128), (WorkLane::Marketing, 128)]
        {
            let desk = Arc::new(Desk::new(1));
            let mut tails = Vec::new();
            let kept = loop {
                let place = taken(&desk, lane);
                if !place.leave(1) {
                    break place;
                }
                assert!(place.leave(TAIL + 1), "it has left already");
                tails.push(place);
            };
            assert_eq!(tails.len(), most, "{lane:?}");
            assert_eq!(
                (desk.queues().busy[lane as usize], desk.taken[lane as usize].load(Ordering::SeqCst)),
                (1, 1)
            );
            tails.pop();
            assert!(!kept.leave(TAIL + 1), "too many for a tail");
            assert!(kept.leave(1));
            drop((tails, kept));
            assert_eq!(
                (desk.queues().busy[lane as usize], desk.taken[lane as usize].load(Ordering::SeqCst)),
                (0, 0)
            );
            assert_eq!(desk.tails[lane as usize].available_permits(), TAILS);
        }
    }
}
