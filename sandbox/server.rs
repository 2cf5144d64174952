//! The listener: HTTP/1.1, h2c and TLS on one port.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;
use tracing::{debug, info, warn};

use crate::connection::{Connection, FirstStreamsChoice};
use crate::phones::Phones;
use crate::state::Abort;
use crate::wire::{Frames, Wire};

/// How long open connections get to finish when the sandbox ends.
const DRAIN: Duration = Duration::from_secs(2);
/// First byte of a TLS handshake record (RFC 8446 §5.1); no HTTP request begins so.
const TLS_HANDSHAKE: u8 = 0x16;

/// How to start a sandbox.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where rules, keys and the ledger's counts live on; `None` forgets them at the end.
    pub data_dir: Option<PathBuf>,
    /// The certificate for TLS, which is served on the same port beside plain HTTP; `None` makes one, signed by an
    /// authority that `GET /_sandbox/ca.pem` shows.
    pub tls: Option<Tls>,
    /// How many of the newest requests the ledger lists. Counts cover all requests whatever this is.
    pub ledger_entries: usize,
    /// Streams that one HTTP/2 connection may have open at a time.
    pub max_concurrent_streams: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            data_dir: None,
            tls: None,
            ledger_entries: 200_000,
            max_concurrent_streams: 1000,
        }
    }
}

/// A certificate chain and its key.
#[derive(Clone)]
pub struct Tls {
    /// The chain, leaf first, PEM.
    pub cert_pem: Vec<u8>,
    /// The private key, PEM.
    pub key_pem: Vec<u8>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// A sandbox that answers. Dropping it does not stop it; the shutdown future given to [`start`] does.
pub struct Running {
    local_addr: SocketAddr,
    phones: Phones,
    ended: TaskTracker,
}

impl Running {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Its address as a base URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.local_addr)
    }

    /// The handsets that it plays.
    pub fn phones(&self) -> Phones {
        self.phones.clone()
    }

    /// Ends when the sandbox has ended: shutdown was asked for and open connections are done or cut.
    pub async fn wait(self) {
        self.ended.wait().await;
    }
}

/// Starts a sandbox that runs until `shutdown` ends. When this returns, it answers.
pub async fn start(
    options: Options,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<Running> {
    let tracker = TaskTracker::new();
    let stop = CancellationToken::new();
    let phones = Phones::new(tracker.clone(), stop.child_token());
    let (control, tls) = {
        let (options, phones) = (options.clone(), phones.clone());
        let (tracker, stop) = (tracker.clone(), stop.child_token());
        // Reading back a long ledger takes seconds: not on a thread that serves others.
        tokio::task::spawn_blocking(move || crate::state::open(&options, phones, tracker, stop))
            .await
            .context("opening the sandbox's state")??
    };
    let listener = TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("listening on {}", options.listen))?;
    let local_addr = listener.local_addr().context("reading the listener's address")?;
    let server = Server {
        router: crate::control::router(&control),
        builder: builder(options.max_concurrent_streams),
        tls,
        first_streams: control.sandbox.first_streams.clone(),
        stop: stop.clone(),
        tracker: tracker.clone(),
    };
    tracker.spawn(async move {
        shutdown.await;
        stop.cancel();
    });
    tracker.spawn(server.accept(listener));
    tracker.close();
    info!(server.address = %local_addr, "sandbox listening on {local_addr}");
    Ok(Running { local_addr, phones, ended: tracker })
}

fn builder(max_concurrent_streams: u32) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_mins(2));
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(max_concurrent_streams);
    builder
}

#[derive(Clone)]
struct Server {
    router: Router,
    builder: Builder<TokioExecutor>,
    tls: TlsAcceptor,
    first_streams: Arc<FirstStreamsChoice>,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Server {
    async fn accept(self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let _ = stream.set_nodelay(true);
                    self.tracker.spawn(self.clone().connection(stream));
                }
                // Out of file descriptors, mostly: wait for some to come back instead of spinning.
                Err(error) => {
                    warn!(%error, "sandbox could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn connection(self, stream: TcpStream) {
        let mut first = [0];
        let peeked = tokio::select! {
            () = self.stop.cancelled() => return,
            peeked = stream.peek(&mut first) => peeked,
        };
        if peeked.is_err() || first[0] != TLS_HANDSHAKE {
            let frames = Frames::new(self.first_streams.of(false));
            return self.serve(stream, Connection::new(None, frames)).await;
        }
        let accepted = tokio::select! {
            () = self.stop.cancelled() => return,
            accepted = self.tls.accept(stream) => accepted,
        };
        match accepted {
            Ok(stream) => {
                let certificates = stream.get_ref().1.peer_certificates();
                let certificate =
                    certificates.and_then(|chain| chain.first()).map(|cert| cert.clone().into_owned());
                let frames = Frames::new(self.first_streams.of(true));
                self.serve(stream, Connection::new(certificate, frames)).await;
            }
            Err(error) => debug!(%error, "a TLS handshake failed"),
        }
    }

    async fn serve(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        connection: Connection,
    ) {
        let router = self.router;
        let known = Arc::new(connection);
        let noted = known.clone();
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            let router = router.clone();
            request.extensions_mut().insert(noted.clone());
            async move {
                let answer: Result<_, Infallible> = router.oneshot(request.map(Body::new)).await;
                let answer = answer.unwrap_or_else(|never| match never {});
                // An error here makes hyper close an h1 connection, or reset an h2 stream, without an answer.
                if answer.extensions().get::<Abort>().is_some() { Err(Aborted) } else { Ok(answer) }
            }
        });
        let connection =
            self.builder.serve_connection(TokioIo::new(Wire::new(stream, known.frames.clone())), service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    debug!(%error, "a connection ended early");
                }
                return;
            }
            () = self.stop.cancelled() => connection.as_mut().graceful_shutdown(),
            () = known.closing() => connection.as_mut().graceful_shutdown(),
        }
        let _ = tokio::time::timeout(DRAIN, connection).await;
    }
}

/// The reason that hyper gets when an answer is withheld on purpose.
#[derive(Debug)]
struct Aborted;

impl std::fmt::Display for Aborted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a rule or switch asked for no answer")
    }
}

impl std::error::Error for Aborted {}
