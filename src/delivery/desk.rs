//! A channel's desk: takes its pages in turn, transactional first, and sends a few at a time.
//!
//! A page arrives in memory (its writer leased it to itself) or is leased from the store. Whatever finds no room in
//! memory stays in the store, so a queue of a million costs no more memory than a queue of ten.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anypush_providers::contract::Class;
use tokio::sync::{Notify, Semaphore};

use crate::delivery::dispatch;
use crate::delivery::pipeline::Inner;
use crate::store::{WorkItem, WorkKind};

/// Pages that wait in memory at one desk.
const ROOM: usize = 16;
/// Pages of one channel that are being sent at the same time.
const ABREAST: usize = 4;
/// Nothing is due.
const NEVER: u64 = u64::MAX;

/// The desk of one channel.
#[derive(Debug)]
pub(super) struct Desk {
    channel: i64,
    queues: Mutex<Queues>,
    /// Pages in memory or promised to it.
    taken: AtomicUsize,
    /// When the store is worth asking, in Unix milliseconds.
    look_at: AtomicU64,
    bell: Notify,
}

#[derive(Debug, Default)]
struct Queues {
    transactional: VecDeque<WorkItem>,
    marketing: VecDeque<WorkItem>,
}

impl Desk {
    pub(super) fn new(channel: i64) -> Self {
        // An earlier life may have left pages: the store is asked at once.
        Self {
            channel,
            queues: Mutex::default(),
            taken: AtomicUsize::new(0),
            look_at: AtomicU64::new(0),
            bell: Notify::new(),
        }
    }

    /// Promises room for one page in memory.
    pub(super) fn reserve(&self) -> bool {
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < ROOM).then_some(n + 1)).is_ok()
    }

    /// Gives back a promise that is not used.
    pub(super) fn release(&self) {
        self.taken.fetch_sub(1, Ordering::AcqRel);
    }

    /// Hands over a page for which room was promised.
    pub(super) fn hand_over(&self, item: WorkItem) {
        {
            let mut queues = self.queues();
            match item.lane {
                Class::Transactional => queues.transactional.push_back(item),
                Class::Marketing => queues.marketing.push_back(item),
            }
        }
        self.bell.notify_one();
    }

    /// There is something in the store that is due at this time.
    pub(super) fn nudge(&self, due_at: u64) {
        self.look_at.fetch_min(due_at, Ordering::AcqRel);
        self.bell.notify_one();
    }

    /// Runs until the process stops.
    pub(super) async fn run(self: Arc<Self>, inner: Arc<Inner>) {
        let abreast = Arc::new(Semaphore::new(ABREAST));
        while !inner.parts.tasks.is_stopping() {
            let place = tokio::select! {
                () = inner.parts.tasks.stopped() => return,
                place = Arc::clone(&abreast).acquire_owned() => place,
            };
            let Ok(place) = place else { return };
            let Some(item) = self.next(&inner).await else { return };
            let (desk, inner) = (Arc::clone(&self), Arc::clone(&inner));
            let pages = inner.pages.clone();
            let tracked = pages.track_future(async move {
                dispatch::page(&inner, item).await;
                desk.release();
                drop(place);
                desk.bell.notify_one();
            });
            #[expect(clippy::disallowed_methods, reason = "stop waits for it by `pages`")]
            tokio::spawn(tracked);
        }
    }

    /// The next page; `None` when the process stops.
    async fn next(&self, inner: &Inner) -> Option<WorkItem> {
        loop {
            if inner.parts.tasks.is_stopping() {
                return None;
            }
            if let Some(item) = self.pop() {
                return Some(item);
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

    fn pop(&self) -> Option<WorkItem> {
        let mut queues = self.queues();
        queues.transactional.pop_front().or_else(|| queues.marketing.pop_front())
    }

    /// Leases from the store what there is room for.
    async fn fill(&self, inner: &Inner) {
        // Whoever writes new work from here on sets this again; what is in the store already is seen below.
        self.look_at.store(NEVER, Ordering::Release);
        let mut room = 0;
        while room < ROOM / 2 && self.reserve() {
            room += 1;
        }
        if room == 0 {
            // All room is promised to pages that are about to arrive.
            self.look_at.fetch_min(inner.now_ms() + 20, Ordering::AcqRel);
            return;
        }
        let mut leased = Vec::new();
        let mut failed = false;
        for lane in [Class::Transactional, Class::Marketing] {
            if leased.len() < room {
                match inner.lease(WorkKind::Page, self.channel, Some(lane), room - leased.len()).await {
                    Ok(items) => leased.extend(items),
                    Err(error) => {
                        tracing::warn!("work cannot be leased: {error}");
                        failed = true;
                    }
                }
            }
        }
        let next = if leased.len() == room {
            Some(inner.now_ms())
        } else if failed {
            // Reading may go on working on a full disk: what is due would be asked for again and again.
            Some(inner.now_ms() + 1000)
        } else {
            let due = inner.parts.store.next_due(WorkKind::Page, self.channel).await;
            due.unwrap_or_else(|_| Some(inner.now_ms() + 1000))
        };
        self.look_at.fetch_min(next.unwrap_or(NEVER), Ordering::AcqRel);
        for _ in leased.len()..room {
            self.release();
        }
        for item in leased {
            self.hand_over(item);
        }
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
