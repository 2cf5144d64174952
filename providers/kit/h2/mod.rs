//! An HTTP/2 pool with a stream budget, for vendors that take one token a request.
//!
//! Requests go straight to `h2`: `hyper` has a task and two channels for each, which took a third of a delivery's CPU. The
//! pool opens one connection on need, the next when all streams within budget are in use, up to a maximum; then callers
//! wait, first come, first served. A connection that dies is replaced by the next caller who needs one. Who waits for
//! what: `streams.rs`; what a connection says: `drive.rs`.

mod connect;
mod drive;
mod errors;
mod heard;
mod streams;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::h2::RecvStream;
use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use url::Url;

use self::connect::Connector;
pub use self::streams::Carrier;
use self::streams::{Lease, Streams};
use super::egress::Egress;
use super::failure::{TransportError, TransportErrorKind};
use super::http::{DEFAULT_REQUEST_TIMEOUT, MAX_BODY_BYTES, too_long};
use super::tls::Identity;

/// A request that a dying connection does not take goes to another one: as often as there may be connections, and this
/// many times more.
const MORE_HANDOVERS: usize = 2;

/// How a pool is made.
#[derive(Debug, Clone)]
pub struct H2Options {
    /// Authorities to trust beside the system's.
    pub ca_pem: Option<String>,
    /// Connections at most.
    pub max_connections: usize,
    /// Streams in use on one connection at most; the peer's own limit counts if it is lower.
    pub streams_per_connection: usize,
    /// Longest time for one request: waiting for a stream, answer and body together.
    pub request_timeout: Duration,
    /// A new connection carries one request at a time until an answer passes this (a peer that checks credentials allows
    /// more only then); `None`: no such time.
    pub warmed_by: Option<fn(&Response<Bytes>) -> bool>,
    /// By which the peer knows us.
    pub identity: Option<Identity>,
    /// Where it may call. The default is the public Internet.
    pub egress: Egress,
}

impl Default for H2Options {
    fn default() -> Self {
        Self {
            ca_pem: None,
            max_connections: 4,
            streams_per_connection: 100,
            request_timeout: DEFAULT_REQUEST_TIMEOUT,
            warmed_by: None,
            identity: None,
            egress: Egress::default(),
        }
    }
}

/// Connections to one origin. Cloning shares them.
#[derive(Clone)]
pub struct H2Pool {
    streams: Arc<Streams>,
    request_timeout: Duration,
    handovers: usize,
}

impl H2Pool {
    /// A pool for the origin of `base`: TLS for `https`, HTTP/2 with prior knowledge for `http`. Nothing is
    /// connected yet.
    pub fn new(base: &Url, options: H2Options) -> Result<Self, String> {
        let connector = Connector::new(base, &options)?;
        let request_timeout = options.request_timeout;
        let handovers = options.max_connections + MORE_HANDOVERS;
        Ok(Self { streams: Arc::new(Streams::new(connector, options)), request_timeout, handovers })
    }

    /// Sends a request, whose URI must be absolute and of this origin, and reads the whole answer
    /// ([`MAX_BODY_BYTES`] at most). Dropping the future resets the stream.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
        self.send_by(request).await.map(|(answer, _)| answer)
    }

    /// The same; says also by which connection the answer came.
    pub async fn send_by(
        &self,
        request: Request<Bytes>,
    ) -> Result<(Response<Bytes>, Carrier), TransportError> {
        let handed_over = AtomicBool::new(false);
        let limit = self.request_timeout;
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
    ) -> Result<(Response<Bytes>, Carrier), TransportError> {
        let mut lease = self.ready().await?;
        handed_over.store(true, Ordering::Relaxed);
        let answer = lease
            .send(request)
            .map_err(|error| errors::not_taken(&error, &lease))?
            .await
            .map_err(|error| errors::before_answer(&error, &lease))?;
        let (head, body) = answer.into_parts();
        let answer = Response::from_parts(head, read(body).await?);
        lease.answered(&answer);
        Ok((answer, lease.carrier()))
    }

    /// A stream of a connection that still takes requests.
    async fn ready(&self) -> Result<Lease, TransportError> {
        for _ in 0..self.handovers {
            let mut lease = self.streams.lease().await?;
            if lease.takes_requests().await {
                return Ok(lease);
            }
            if let Some(refusal) = errors::certificate_refused(&lease) {
                return Err(refusal);
            }
        }
        Err(TransportError::new(
            TransportErrorKind::NotSent,
            format!("{} connections closed before they took the request", self.handovers),
        ))
    }
}

async fn read(mut body: RecvStream) -> Result<Bytes, TransportError> {
    let mut read = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(|error| errors::within_answer(&error))?;
        if read.len() + data.len() > MAX_BODY_BYTES {
            return Err(too_long());
        }
        read.extend_from_slice(&data);
        body.flow_control().release_capacity(data.len()).map_err(|error| errors::within_answer(&error))?;
    }
    Ok(read.freeze())
}
