//! Who gets which stream of which connection.
//!
//! A caller that finds a free stream and nobody before it takes it at once. All others stand in `waiting`, in order;
//! each holds the receiving end of a channel, on which it gets a lease or an error. Whoever changes something (a
//! lease is dropped, a connection opens, warms up or ends) hands free streams to the first in line: a freed stream
//! never goes to a latecomer. A caller that gives up drops its receiver and is passed over; a lease that is already
//! under way to it comes back by its drop. If a connection cannot be opened and none is left, all who wait fail with
//! its error, at once.
//!
//! One task per connection opens and drives it. It ends when the peer closes or the pool is dropped, and holds no
//! strong reference to the pool while it drives. Leases are never dropped while the lock is held: their drop takes
//! it.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ::h2::client::{ResponseFuture, SendRequest};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Request, Response};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::H2Options;
use super::connect::Connector;
use super::drive::{self, Opened};
use super::heard::Heard;
use crate::kit::failure::{TransportError, TransportErrorKind};

/// After a further connection could not be opened, this long none is tried while others live.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// The connections of a pool and who waits for them.
pub(super) struct Streams {
    connector: Connector,
    options: H2Options,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    live: Vec<Connection>,
    waiting: VecDeque<Waiting>,
    /// A connection is being opened: one at a time, so that a burst does not open all of them.
    opening: bool,
    open_failed_at: Option<Instant>,
    next_id: u64,
}

type Waiting = oneshot::Sender<Result<Lease, TransportError>>;

struct Connection {
    id: u64,
    sender: SendRequest<Bytes>,
    in_use: usize,
    peer_limit: Arc<AtomicUsize>,
    heard: Arc<Heard>,
    /// It has carried an answer that [`H2Options::warmed_by`] lets pass.
    warm: bool,
}

impl Connection {
    fn has_room(&self, options: &H2Options) -> bool {
        if options.warmed_by.is_some() && !self.warm {
            return self.in_use == 0;
        }
        // A peer that allows none at the moment still gets one, which waits inside: only a request that is handed
        // over lets us see a later, higher limit.
        let limit = self.peer_limit.load(Ordering::Relaxed).clamp(1, options.streams_per_connection.max(1));
        self.in_use < limit
    }
}

impl Streams {
    pub(super) fn new(connector: Connector, options: H2Options) -> Self {
        Self { connector, options, state: Mutex::default() }
    }

    /// Waits for a stream.
    pub(super) async fn lease(self: &Arc<Self>) -> Result<Lease, TransportError> {
        let turn = {
            let mut state = self.lock();
            if state.waiting.is_empty()
                && let Some(lease) = self.take(&mut state)
            {
                return Ok(lease);
            }
            let (sender, turn) = oneshot::channel();
            // Those who gave up are passed over when their turn comes; until then they are swept out now and then.
            if state.waiting.len().is_power_of_two() {
                state.waiting.retain(|waiting| !waiting.is_closed());
            }
            state.waiting.push_back(sender);
            self.open_if_needed(&mut state);
            turn
        };
        turn.await
            .unwrap_or_else(|_| Err(TransportError::new(TransportErrorKind::NotSent, "the pool was closed")))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stream of the connection that has the fewest in use.
    fn take(self: &Arc<Self>, state: &mut State) -> Option<Lease> {
        let connection = state
            .live
            .iter_mut()
            .filter(|connection| connection.has_room(&self.options))
            .min_by_key(|connection| connection.in_use)?;
        let (id, heard, sender) = (connection.id, connection.heard.clone(), connection.sender.clone());
        connection.in_use += 1;
        Some(Lease { streams: self.clone(), id, sender, heard })
    }

    /// Changes something and hands what is free to the first in line.
    fn change(self: &Arc<Self>, change: impl FnOnce(&mut State)) {
        let mut granted = Vec::new();
        let mut state = self.lock();
        change(&mut state);
        while let Some(first) = state.waiting.pop_front() {
            if first.is_closed() {
                continue;
            }
            if let Some(lease) = self.take(&mut state) {
                granted.push((first, lease));
            } else {
                state.waiting.push_front(first);
                break;
            }
        }
        self.open_if_needed(&mut state);
        drop(state);
        for (waiting, lease) in granted {
            // Who gave up meanwhile leaves the lease to be dropped here, and so to the next in line.
            let _ = waiting.send(Ok(lease));
        }
    }

    fn open_if_needed(self: &Arc<Self>, state: &mut State) {
        let failed_lately = state.open_failed_at.is_some_and(|at| at.elapsed() < REOPEN_AFTER);
        if !state.waiting.is_empty()
            && !state.opening
            && state.live.len() < self.options.max_connections.max(1)
            && (state.live.is_empty() || !failed_lately)
        {
            state.opening = true;
            self.open();
        }
    }

    /// Opens a connection and drives it until it ends, in a task of its own.
    #[expect(clippy::disallowed_methods, reason = "a connection's task ends with its pool or its peer")]
    fn open(self: &Arc<Self>) {
        let streams = self.clone();
        tokio::spawn(async move {
            match streams.connector.open().await {
                Ok(Opened { sender, peer_limit, heard, driver }) => {
                    let id = streams.opened(sender, peer_limit, heard);
                    let carrier = Carrier { streams: Arc::downgrade(&streams), id };
                    drop(streams);
                    // Whatever becomes of it, nobody may find it among those that live.
                    let _ = AssertUnwindSafe(driver).catch_unwind().await;
                    carrier.retire();
                }
                Err(error) => streams.failed(&error),
            }
        });
    }

    fn opened(
        self: &Arc<Self>,
        sender: SendRequest<Bytes>,
        peer_limit: Arc<AtomicUsize>,
        heard: Arc<Heard>,
    ) -> u64 {
        let mut id = 0;
        self.change(|state| {
            id = state.next_id;
            state.next_id += 1;
            state.opening = false;
            state.open_failed_at = None;
            state.live.push(Connection { id, sender, in_use: 0, peer_limit, heard, warm: false });
        });
        id
    }

    fn failed(&self, error: &TransportError) {
        tracing::debug!(error = %error, "a connection could not be opened");
        let mut state = self.lock();
        state.opening = false;
        state.open_failed_at = Some(Instant::now());
        // Those who can still get a stream of another connection go on waiting for it.
        let hopeless =
            if state.live.is_empty() { std::mem::take(&mut state.waiting) } else { VecDeque::new() };
        drop(state);
        for waiting in hopeless {
            let _ = waiting.send(Err(error.clone()));
        }
    }
}

/// The right to use one stream of a connection; dropping it hands the stream on.
pub(super) struct Lease {
    streams: Arc<Streams>,
    id: u64,
    sender: SendRequest<Bytes>,
    heard: Arc<Heard>,
}

impl Lease {
    /// Whether the connection still takes requests. One that does not gets no more of them.
    pub(super) async fn takes_requests(&mut self) -> bool {
        let takes = poll_fn(|context| self.sender.poll_ready(context)).await.is_ok();
        if !takes {
            self.carrier().retire();
        }
        takes
    }

    /// Sends a request. An error means that nothing of it left.
    pub(super) fn send(&mut self, request: Request<Bytes>) -> Result<ResponseFuture, ::h2::Error> {
        drive::send(&mut self.sender, request)
    }

    /// The connection has carried an answer: its whole budget may be used from the first good one on.
    pub(super) fn answered(&self, answer: &Response<Bytes>) {
        if self.streams.options.warmed_by.is_some_and(|warms| warms(answer)) {
            self.change(|connection| connection.warm = true);
        }
    }

    /// Why the connection ended; empty if it has not, or nothing went wrong.
    pub(super) fn last_words(&self) -> &str {
        self.heard.last_words()
    }

    /// Which connection it is.
    pub(super) fn carrier(&self) -> Carrier {
        Carrier { streams: Arc::downgrade(&self.streams), id: self.id }
    }

    fn change(&self, change: impl FnOnce(&mut Connection)) {
        self.streams.change(|state| {
            // It may have ended meanwhile.
            if let Some(connection) = state.live.iter_mut().find(|connection| connection.id == self.id) {
                change(connection);
            }
        });
    }
}

/// The connection by which an answer came.
#[derive(Clone)]
pub struct Carrier {
    streams: Weak<Streams>,
    id: u64,
}

impl Carrier {
    /// Gives the connection no further request. Those that it carries are answered; then it closes.
    pub fn retire(&self) {
        if let Some(streams) = self.streams.upgrade() {
            streams.change(|state| state.live.retain(|connection| connection.id != self.id));
        }
    }
}

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carrier").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.change(|connection| connection.in_use -= 1);
    }
}
