//! Speaks HTTP/2 over a stream that stands: settings, pings, and the future that moves it all.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ::h2::client::{Builder, ResponseFuture, SendRequest};
use ::h2::{Ping, PingPong};
use bytes::Bytes;
use http::{HeaderValue, Request, header};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};

use super::heard::{Heard, Listening};
use crate::kit::failure::chain;

/// A connection from which nothing came for this long (twice as long at most) is pinged, also when idle: a dead one is
/// found before it is needed.
const SILENCE: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Streams before the peer has said how many it allows: the least that RFC 9113 §6.5.2 recommends to it.
const STREAMS_AT_FIRST: usize = 100;

/// What the peer may send ahead, for one answer and for all.
const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 5 * 1024 * 1024;
const MAX_ANSWER_HEAD_BYTES: u32 = 16 * 1024;

/// What `h2` gathers with other frames where the stream offers no vectored writes (from 256 bytes on where it does). A
/// larger piece of a body is written by itself: a system call and a TLS record for each request.
pub(super) const GATHERED_BYTES: usize = 1023;

/// A connection that stands.
pub(super) struct Opened {
    pub(super) sender: SendRequest<Bytes>,
    /// The peer's SETTINGS_MAX_CONCURRENT_STREAMS as last seen by the driver.
    pub(super) peer_limit: Arc<AtomicUsize>,
    pub(super) heard: Arc<Heard>,
    /// Ends when the connection does; must be driven for anything to happen.
    pub(super) driver: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Begins to speak; `one_stream_first` until the peer says how many it allows.
pub(super) async fn speak<S>(stream: S, one_stream_first: bool) -> Result<Opened, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let heard = Arc::new(Heard::default());
    let (sender, mut connection) = Builder::new()
        .enable_push(false)
        .initial_max_send_streams(if one_stream_first { 1 } else { STREAMS_AT_FIRST })
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(MAX_ANSWER_HEAD_BYTES)
        .handshake(Listening::new(stream, heard.clone()))
        .await
        .map_err(|error| chain(&error))?;
    let peer_limit = Arc::new(AtomicUsize::new(sender.current_max_send_streams()));
    let (pings, seen, listening) = (connection.ping_pong(), peer_limit.clone(), heard.clone());
    let driver = Box::pin(async move {
        let end = poll_fn(|context| {
            let end = Pin::new(&mut connection).poll(context);
            seen.store(connection.max_concurrent_send_streams(), Ordering::Relaxed);
            end
        });
        tokio::select! {
            biased;
            end = end => if let Err(error) = end {
                tracing::debug!(error = %chain(&error), "a connection ended");
            },
            () = silence(pings, &listening) => tracing::debug!("a connection does not answer pings"),
        }
    });
    Ok(Opened { sender, peer_limit, heard, driver })
}

/// Sends a request. An error means that nothing of it left.
pub(super) fn send(
    sender: &mut SendRequest<Bytes>,
    request: Request<Bytes>,
) -> Result<ResponseFuture, ::h2::Error> {
    let (mut head, mut body) = request.into_parts();
    if !body.is_empty() {
        head.headers.entry(header::CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(body.len()));
    }
    let (answer, mut stream) = sender.send_request(Request::from_parts(head, ()), body.is_empty())?;
    while !body.is_empty() {
        let piece = body.split_to(body.len().min(GATHERED_BYTES));
        // If the stream is gone already, the answer says why.
        let _ = stream.send_data(piece, body.is_empty());
    }
    Ok(answer)
}

/// Ends when the peer is silent and does not answer a ping either.
async fn silence(pings: Option<PingPong>, heard: &Heard) {
    let Some(mut pings) = pings else { return std::future::pending().await };
    loop {
        sleep(SILENCE).await;
        if heard.lately() {
            continue;
        }
        match timeout(PING_TIMEOUT, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // The connection is ending by itself.
            Ok(Err(_)) => return std::future::pending().await,
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, IoSlice};
    use std::task::{Context, Poll};

    use futures_util::FutureExt as _;
    use tokio::io::{DuplexStream, ReadBuf, duplex};
    use tokio::time::Instant;

    use super::*;

    async fn pair() -> (Opened, ::h2::server::Connection<DuplexStream, Bytes>) {
        let (ours, theirs) = duplex(64 * 1024);
        let (opened, peer) = tokio::join!(speak(ours, false), ::h2::server::handshake(theirs));
        (opened.unwrap(), peer.unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_answer_a_ping_is_given_up() {
        // It holds the connection and does nothing with it.
        let (opened, _peer) = pair().await;
        let begun = Instant::now();
        opened.driver.await;
        assert!((SILENCE + PING_TIMEOUT..=SILENCE * 2 + PING_TIMEOUT).contains(&begun.elapsed()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_stays_as_long_as_its_peer_answers_pings() {
        let (opened, mut peer) = pair().await;
        let idle = async { tokio::join!(opened.driver, peer.accept()) };
        assert!(timeout(Duration::from_hours(1), idle).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_when_nobody_can_use_it_any_more() {
        let (opened, mut peer) = pair().await;
        let (sender, driver) = (opened.sender, opened.driver);
        let unused = async {
            sleep(Duration::from_secs(1)).await;
            drop(sender);
        };
        let begun = Instant::now();
        let (accepted, (), ()) = tokio::join!(peer.accept(), driver, unused);
        assert!(accepted.is_none() && begun.elapsed() < SILENCE);
    }

    /// A stream that counts how often it is written to, and offers what a socket does.
    struct Counted(DuplexStream, Arc<AtomicUsize>);

    impl AsyncRead for Counted {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(context, buffer)
        }
    }

    impl AsyncWrite for Counted {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.1.fetch_add(1, Ordering::SeqCst);
            Pin::new(&mut self.0).poll_write(context, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(context)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(context)
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.1.fetch_add(1, Ordering::SeqCst);
            Pin::new(&mut self.0).poll_write_vectored(context, slices)
        }

        fn is_write_vectored(&self) -> bool {
            true
        }
    }

    #[tokio::test]
    async fn requests_that_come_together_are_written_together() {
        const REQUESTS: usize = 40;
        for size in [600, 1500] {
            let (ours, theirs) = duplex(1024 * 1024);
            let writes = Arc::new(AtomicUsize::new(0));
            let (opened, _peer) =
                tokio::join!(speak(Counted(ours, writes.clone()), false), ::h2::server::handshake(theirs));
            let Opened { mut sender, driver, .. } = opened.unwrap();
            let request = || Request::post("http://peer/send").body(vec![b'x'; size].into()).unwrap();
            let _answers: Vec<_> = (0..REQUESTS).map(|_| send(&mut sender, request()).unwrap()).collect();
            assert!(driver.now_or_never().is_none());
            let writes = writes.load(Ordering::SeqCst);
            assert!(writes < REQUESTS / 4, "{writes} writes for {REQUESTS} bodies of {size} bytes");
        }
    }
}
