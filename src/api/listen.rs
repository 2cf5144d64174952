//! The listener: HTTP/1.1 and HTTP/2 (h2c) on one port, with limits on what a peer may hold.

use std::convert::Infallible;
use std::net::IpAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::linger::Lingering;

/// Longest time until the head of a request is whole.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Most bytes of all headers.
const HEAD_BYTES: u32 = 16 * 1024;
/// Requests that one HTTP/2 connection may have under way.
const STREAMS: u32 = 100;
/// Requests taken back before they were looked at (CVE-2023-44487, "rapid reset"), until the connection is closed.
const RESETS: usize = 20;
/// Requests that a peer has made us take back (CVE-2025-8671, "made you reset"), until the connection is closed. More,
/// because a proxy's connection carries the mistakes of many.
const FORCED_RESETS: usize = 256;
/// Bytes of bodies that a peer may send ahead: of one request, and of all of a connection.
const WINDOWS: (u32, u32) = (256 * 1024, 1024 * 1024);
/// Largest frame. With it and `HEAD_BYTES` the library bounds CONTINUATION frames (CVE-2024-27316).
const FRAME_BYTES: u32 = 16 * 1024;
/// Bytes of an answer that are kept for a peer who does not read.
const UNREAD_BYTES: usize = 64 * 1024;

/// Who is at the other end of the connection that a request came by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// Connections and the way to end them.
pub struct Connections {
    listener: TcpListener,
    router: Router,
    tracker: TaskTracker,
    /// Cancelled when connections shall end: each finishes its request and closes.
    end: CancellationToken,
}

/// Prepares to accept.
pub fn accept(listener: TcpListener, router: Router) -> Connections {
    Connections { listener, router, tracker: TaskTracker::new(), end: CancellationToken::new() }
}

impl Connections {
    /// Accepts until it is dropped.
    pub async fn run(&self) -> Infallible {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let _ = stream.set_nodelay(true);
                    let router = self.router.clone();
                    let serving =
                        serve(stream, Peer(peer.ip()), router, self.tracker.clone(), self.end.clone());
                    self.tracker.spawn(serving);
                }
                Err(error) => {
                    // Out of file descriptors: those in use will be given back; spinning would only burn the CPU.
                    tracing::warn!("a connection could not be accepted: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Closes the port, lets requests finish; `false` where some did not in this time.
    pub async fn drain(self, grace: Duration) -> bool {
        drop(self.listener);
        self.end.cancel();
        self.tracker.close();
        tokio::time::timeout(grace, self.tracker.wait()).await.is_ok()
    }
}

/// The first bytes of HTTP/2.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Waits until it is clear which protocol a peer speaks. The library waits for that without a limit: a peer that is silent,
/// or stops within these bytes, would keep its place for ever.
async fn begins(stream: &TcpStream) -> std::io::Result<()> {
    let mut first = [0; PREFACE.len()];
    loop {
        let seen = stream.peek(&mut first).await?;
        if seen == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if seen == PREFACE.len() || !PREFACE.starts_with(&first[..seen]) {
            return Ok(());
        }
        // What was seen stays to be seen: the socket cannot tell when there is more.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn serve(stream: TcpStream, peer: Peer, router: Router, tracker: TaskTracker, end: CancellationToken) {
    tokio::select! {
        spoken = tokio::time::timeout(HEAD_TIME, begins(&stream)) => match spoken {
            Ok(Ok(())) => {}
            _ => return,
        },
        () = end.cancelled() => return,
    }
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD_BYTES)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(FORCED_RESETS)
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .max_frame_size(FRAME_BYTES)
        .max_send_buf_size(UNREAD_BYTES)
        .keep_alive_interval(Duration::from_mins(1))
        .keep_alive_timeout(Duration::from_secs(20));
    let service = TowerToHyperService::new(router.map_request(move |mut request: Request<_>| {
        request.extensions_mut().insert(peer);
        Lingering::of(request, &tracker)
    }));
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = end.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection ended: {error}");
    }
}
