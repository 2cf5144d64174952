//! An HTTP/2 pool with a stream budget, for vendors that take one token a request.
//!
//! Requests go straight to `hyper`'s connections: half the CPU of a general client. The pool opens one connection
//! on need, the next when all streams within budget are in use, up to a maximum; then callers wait. A connection
//! that dies is replaced by the next caller who needs one.
//!
//! Who waits for what: a caller without a free stream waits on `changed`. One permit is given when a stream is
//! freed; everybody is woken when a connection opens, dies, or fails to open. If opening fails and no connection is
//! left, all who waited for it fail with its error, at once. One task per connection opens and drives it; it ends
//! when the peer closes or the pool is dropped, and holds no strong reference to the pool while it drives.

mod connect;
mod errors;
#[cfg(test)]
mod tests;

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use tokio::sync::Notify;
use tokio::time::Instant;
use url::Url;

use self::connect::{Connector, Opened};
use super::failure::{TransportError, TransportErrorKind};
use super::http::{DEFAULT_REQUEST_TIMEOUT, MAX_BODY_BYTES, too_long};

/// After a further connection could not be opened, this long none is tried while others live.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// A request that a dying connection gives back unsent goes to another one, this many times.
const MAX_HANDOVERS: u32 = 3;

/// How a pool is made.
#[derive(Debug, Clone)]
pub struct H2Options {
    /// Authorities to trust instead of the system's.
    pub ca_pem: Option<String>,
    /// Connections at most.
    pub max_connections: usize,
    /// Streams in use on one connection at most; the peer's own limit counts if it is lower.
    pub streams_per_connection: usize,
    /// Longest time for one request: waiting for a stream, answer and body together.
    pub request_timeout: Duration,
    /// Whether a new connection carries one request at a time until its first success (a peer that checks
    /// credentials only then allows more).
    pub warm_up: bool,
}

impl Default for H2Options {
    fn default() -> Self {
        Self {
            ca_pem: None,
            max_connections: 4,
            streams_per_connection: 100,
            request_timeout: DEFAULT_REQUEST_TIMEOUT,
            warm_up: false,
        }
    }
}

/// Connections to one origin.
#[derive(Clone)]
pub struct H2Pool(Arc<Inner>);

struct Inner {
    connector: Connector,
    options: H2Options,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    live: Vec<Connection>,
    /// A connection is being opened: one at a time, so that a burst does not open all of them.
    opening: bool,
    next_id: u64,
    /// Counts failed openings, so that a caller sees whether one failed while it waited.
    failures: u64,
    last_failure: Option<(Instant, TransportError)>,
}

struct Connection {
    id: u64,
    sender: SendRequest<Full<Bytes>>,
    in_use: usize,
    /// The peer's SETTINGS_MAX_CONCURRENT_STREAMS as last seen by the connection's task.
    peer_limit: Arc<AtomicUsize>,
    warm: bool,
}

impl Connection {
    fn has_room(&self, options: &H2Options) -> bool {
        if options.warm_up && !self.warm {
            return self.in_use == 0;
        }
        // A peer that allows none at the moment still gets one, which waits inside: only a request that is handed
        // over lets us see a later, higher limit.
        let limit = self.peer_limit.load(Ordering::Relaxed).clamp(1, options.streams_per_connection.max(1));
        self.in_use < limit
    }
}

impl H2Pool {
    /// A pool for the origin of `base`: TLS for `https`, HTTP/2 with prior knowledge for `http`. Nothing is
    /// connected yet.
    pub fn new(base: &Url, options: H2Options) -> Result<Self, String> {
        let connector = Connector::new(base, options.ca_pem.as_deref(), options.warm_up)?;
        Ok(Self(Arc::new(Inner { connector, options, state: Mutex::default(), changed: Notify::new() })))
    }

    /// Sends a request, whose URI must be absolute and of this origin, and reads the whole answer
    /// ([`MAX_BODY_BYTES`] at most). Dropping the future resets the stream.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
        let handed_over = AtomicBool::new(false);
        let limit = self.0.options.request_timeout;
        match tokio::time::timeout(limit, self.exchange(request, &handed_over)).await {
            Ok(result) => result,
            Err(_) if handed_over.load(Ordering::Relaxed) => {
                Err(TransportError::new(TransportErrorKind::MaybeSent, format!("no answer within {limit:?}")))
            }
            Err(_) => Err(TransportError::new(
                TransportErrorKind::NotSent,
                format!("no connection with a free stream within {limit:?}"),
            )),
        }
    }

    async fn exchange(
        &self,
        request: Request<Bytes>,
        handed_over: &AtomicBool,
    ) -> Result<Response<Bytes>, TransportError> {
        let mut request = request.map(Full::new);
        for _ in 0..MAX_HANDOVERS {
            let mut lease = self.0.lease().await?;
            handed_over.store(true, Ordering::Relaxed);
            match lease.sender.try_send_request(request).await {
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    let body = read(body).await?;
                    if head.status.is_success() {
                        lease.succeeded();
                    }
                    return Ok(Response::from_parts(head, body));
                }
                Err(mut refused) => match refused.take_message() {
                    // The connection died before it looked at the request: another one takes it.
                    Some(unsent) => request = unsent,
                    None => return Err(errors::before_answer(&refused.into_error())),
                },
            }
            handed_over.store(false, Ordering::Relaxed);
        }
        Err(TransportError::new(
            TransportErrorKind::NotSent,
            format!("{MAX_HANDOVERS} connections closed before they took the request"),
        ))
    }
}

async fn read(mut body: hyper::body::Incoming) -> Result<Bytes, TransportError> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| errors::within_answer(&error))?;
        if let Ok(data) = frame.into_data() {
            if read.len() + data.len() > MAX_BODY_BYTES {
                return Err(too_long());
            }
            read.extend_from_slice(&data);
        }
    }
    Ok(read.freeze())
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn lease(self: &Arc<Self>) -> Result<Lease, TransportError> {
        let mut failures_before = None;
        loop {
            // Registered before looking, so that a change in between is not missed.
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(lease) = self.try_lease(&mut failures_before)? {
                return Ok(lease);
            }
            changed.await;
        }
    }

    fn try_lease(
        self: &Arc<Self>,
        failures_before: &mut Option<u64>,
    ) -> Result<Option<Lease>, TransportError> {
        let mut state = self.lock();
        state.live.retain(|connection| !connection.sender.is_closed());
        let free = state
            .live
            .iter_mut()
            .filter(|connection| connection.has_room(&self.options))
            .min_by_key(|connection| connection.in_use);
        if let Some(connection) = free {
            connection.in_use += 1;
            let sender = connection.sender.clone();
            return Ok(Some(Lease { pool: self.clone(), id: connection.id, sender }));
        }
        let failed_meanwhile = failures_before.is_some_and(|before| before != state.failures);
        if failed_meanwhile
            && state.live.is_empty()
            && let Some((_, error)) = &state.last_failure
        {
            return Err(error.clone());
        }
        failures_before.get_or_insert(state.failures);
        if self.may_open(&state) {
            state.opening = true;
            self.open();
        }
        Ok(None)
    }

    fn may_open(&self, state: &State) -> bool {
        let failed_lately = state.last_failure.as_ref().is_some_and(|(at, _)| at.elapsed() < REOPEN_AFTER);
        !state.opening
            && state.live.len() < self.options.max_connections.max(1)
            && (state.live.is_empty() || !failed_lately)
    }

    /// Opens a connection and drives it until it ends, in a task of its own.
    #[expect(clippy::disallowed_methods, reason = "a connection's task ends with its pool or its peer")]
    fn open(self: &Arc<Self>) {
        let pool = self.clone();
        tokio::spawn(async move {
            match pool.connector.open().await {
                Ok(Opened { sender, peer_limit, driver }) => {
                    let id = pool.opened(sender, peer_limit);
                    let weak = Arc::downgrade(&pool);
                    drop(pool);
                    driver.await;
                    if let Some(pool) = weak.upgrade() {
                        pool.closed(id);
                    }
                }
                Err(error) => pool.failed(error),
            }
        });
    }

    fn opened(&self, sender: SendRequest<Full<Bytes>>, peer_limit: Arc<AtomicUsize>) -> u64 {
        let mut state = self.lock();
        let id = state.next_id;
        state.next_id += 1;
        state.opening = false;
        state.live.push(Connection { id, sender, in_use: 0, peer_limit, warm: false });
        drop(state);
        self.changed.notify_waiters();
        id
    }

    fn failed(&self, error: TransportError) {
        tracing::debug!(error = %error, "a connection could not be opened");
        let mut state = self.lock();
        state.opening = false;
        state.failures += 1;
        state.last_failure = Some((Instant::now(), error));
        drop(state);
        self.changed.notify_waiters();
    }

    fn closed(&self, id: u64) {
        self.lock().live.retain(|connection| connection.id != id);
        self.changed.notify_waiters();
    }
}

/// The right to use one stream of a connection; dropping it frees the stream for the next caller.
struct Lease {
    pool: Arc<Inner>,
    id: u64,
    sender: SendRequest<Full<Bytes>>,
}

impl Lease {
    fn succeeded(&self) {
        if !self.pool.options.warm_up {
            return;
        }
        let mut state = self.pool.lock();
        let cold = state.live.iter_mut().find(|connection| connection.id == self.id && !connection.warm);
        let warmed = cold.map(|connection| connection.warm = true).is_some();
        drop(state);
        if warmed {
            self.pool.changed.notify_waiters();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        if let Some(connection) = state.live.iter_mut().find(|connection| connection.id == self.id) {
            connection.in_use -= 1;
        }
        drop(state);
        self.pool.changed.notify_one();
    }
}
