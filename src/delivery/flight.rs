//! What of a page is with its provider: batches that were handed over, and which of their targets have no outcome yet.
//!
//! Each batch runs on a task of its own, so that a panic in an adapter ends that batch and nothing else. It sends its
//! outcomes by a channel that closes when it ends; nobody but [`Flight::hear`] receives. A target with its address is
//! in memory until its outcome is known, and no longer.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::task::Poll;

use anypush_providers::contract::{Address, Outcome, Outcomes};
use futures_util::FutureExt as _;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;

use crate::bulk::Bulk;
use crate::delivery::page::Entry;

/// Outcomes that are taken in at once.
const AT_ONCE: usize = 256;

/// A page's targets on their way. Each has a place, by which it is named here.
pub(super) struct Flight {
    /// By place; `None` = has its outcome.
    open: Vec<Option<Open>>,
    /// How many have none.
    without: usize,
    /// Places below this were handed over; the others follow in their order.
    begun: usize,
    /// Places whose request the vendor never processed.
    refused: BTreeSet<usize>,
    batches: Vec<Running>,
}

struct Open {
    target: (Entry, Address),
    /// How often it was handed over once more at once.
    again: u32,
}

struct Running {
    /// By index in the batch.
    places: Vec<usize>,
    outcomes: UnboundedReceiver<Outcome>,
    task: JoinHandle<()>,
}

/// Nobody's place.
const NOBODY: usize = usize::MAX;

/// News of a flight.
pub(super) enum Heard {
    /// Of these places.
    Outcomes(Vec<(usize, Outcome)>),
    /// A batch ended, and left these places without an outcome.
    Ended { forgotten: Vec<usize>, panicked: bool },
}

impl Flight {
    /// Nothing is handed over yet.
    pub(super) fn new(targets: Vec<(Entry, Address)>) -> Self {
        let open: Vec<_> = targets.into_iter().map(|target| Some(Open { target, again: 0 })).collect();
        Self { without: open.len(), open, begun: 0, refused: BTreeSet::new(), batches: Vec::new() }
    }

    /// The next so many places, to be handed over or taken out. Whoever asks sees to that.
    pub(super) fn next(&mut self, count: usize) -> Vec<usize> {
        let from = self.begun;
        self.begun = (from + count).min(self.open.len());
        (from..self.begun).collect()
    }

    /// The places whose request the vendor never processed; they are to be handed over again.
    pub(super) fn refused(&mut self) -> Vec<usize> {
        let places: Vec<usize> = std::mem::take(&mut self.refused).into_iter().collect();
        for place in &places {
            if let Some(Some(open)) = self.open.get_mut(*place) {
                open.again += 1;
            }
        }
        // What their old batch still says is not about the new one.
        for old in self.batches.iter_mut().flat_map(|batch| &mut batch.places) {
            if places.binary_search(old).is_ok() {
                *old = NOBODY;
            }
        }
        places
    }

    /// The targets at these places.
    pub(super) fn at(&self, places: &[usize]) -> Vec<&(Entry, Address)> {
        places.iter().filter_map(|place| self.open_at(*place)).map(|open| &open.target).collect()
    }

    /// Hands a batch over.
    pub(super) fn begin<F>(
        &mut self,
        bulk: &Bulk,
        places: Vec<usize>,
        watcher: impl Fn(&Outcome) + Send + Sync + 'static,
        send: impl FnOnce(Outcomes) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let (outcomes, receiver) = Outcomes::channel();
        let outcomes = outcomes.watched(watcher);
        // Awaited in `hear`.
        let task = bulk.spawn(send(outcomes));
        self.batches.push(Running { places, outcomes: receiver, task });
    }

    /// Waits for news; never ends while nothing is under way. News is never lost when this is dropped.
    pub(super) async fn hear(&mut self) -> Heard {
        let mut outcomes = Vec::new();
        let (at, end) = poll_fn(|context| {
            for (at, batch) in self.batches.iter_mut().enumerate() {
                match batch.outcomes.poll_recv_many(context, &mut outcomes, AT_ONCE) {
                    // It has dropped its sender: this is its last moment.
                    Poll::Ready(0) => {
                        if let Poll::Ready(end) = batch.task.poll_unpin(context) {
                            return Poll::Ready((at, Some(end)));
                        }
                    }
                    Poll::Ready(_) => return Poll::Ready((at, None)),
                    Poll::Pending => {}
                }
            }
            Poll::Pending
        })
        .await;
        if let Some(end) = end {
            let Running { places, .. } = self.batches.remove(at);
            let is_forgotten = |place: &usize| self.waiting_at(*place).is_some();
            return Heard::Ended {
                forgotten: places.into_iter().filter(is_forgotten).collect(),
                panicked: end.is_err(),
            };
        }
        let places = &self.batches[at].places;
        let place = |outcome: &Outcome| places.get(outcome.target).copied().unwrap_or(NOBODY);
        Heard::Outcomes(outcomes.into_iter().map(|outcome| (place(&outcome), outcome)).collect())
    }

    /// The target at a place that waits for its outcome, and how often it was handed over again at once; `None` where it
    /// had an outcome already or is nobody of the page.
    pub(super) fn waiting_at(&self, place: usize) -> Option<(&(Entry, Address), u32)> {
        let open = self.open_at(place).filter(|_| !self.refused.contains(&place))?;
        Some((&open.target, open.again))
    }

    /// The vendor never processed this one's request.
    pub(super) fn refuse(&mut self, place: usize) {
        self.refused.insert(place);
    }

    /// This one has its outcome, or is somebody else's matter.
    pub(super) fn take_out(&mut self, place: usize) -> Option<Entry> {
        self.refused.remove(&place);
        let open = self.open.get_mut(place).and_then(Option::take)?;
        self.without -= 1;
        Some(open.target.0)
    }

    /// Everything has its outcome, and everybody who could bring one has ended.
    pub(super) fn is_over(&self) -> bool {
        self.is_all_begun() && self.batches.is_empty()
    }

    /// Everything was handed over.
    pub(super) fn is_all_begun(&self) -> bool {
        self.begun == self.open.len()
    }

    /// How many were handed over and have no outcome.
    pub(super) fn under_way(&self) -> usize {
        self.without - (self.open.len() - self.begun)
    }

    /// Those who were handed over and have no outcome.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Entry> {
        self.open[..self.begun].iter().flatten().map(|open| &open.target.0)
    }

    /// Those without an outcome, handed over or not.
    pub(super) fn left(&self) -> impl Iterator<Item = &Entry> {
        self.open.iter().flatten().map(|open| &open.target.0)
    }

    fn open_at(&self, place: usize) -> Option<&Open> {
        self.open.get(place).and_then(Option::as_ref)
    }
}
