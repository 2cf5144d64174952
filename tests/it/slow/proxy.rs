//! A wire between gateway and vendor that can be spoilt while it carries.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What the wire does to answers; requests always pass, so that the vendor acts on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Wire {
    /// Nothing.
    Good,
    /// They are swallowed.
    BlackHole,
    /// A byte a second.
    Dribble,
    /// The connection is reset in their middle.
    Reset,
}

/// A proxy on a free port. Ends when dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    wire: Arc<AtomicU8>,
    /// Connections that stood, TLS included.
    pub(crate) stood: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Starts a proxy to `vendor` (`http://host:port`), with TLS where there is an acceptor.
    #[expect(clippy::disallowed_methods, reason = "a test's server ends with the test")]
    pub(crate) async fn start(vendor: &str, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (wire, stood) = (Arc::new(AtomicU8::new(Wire::Good as u8)), Arc::new(AtomicU64::new(0)));
        let (vendor, spoilt, count) = (vendor["http://".len()..].to_owned(), wire.clone(), stood.clone());
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (vendor, spoilt, count, tls) =
                    (vendor.clone(), spoilt.clone(), count.clone(), tls.clone());
                tokio::spawn(async move {
                    let far = TcpStream::connect(vendor).await.unwrap();
                    // A reset instead of an orderly end.
                    near.set_zero_linger().unwrap();
                    match tls {
                        None => carry(near, far, &spoilt, &count).await,
                        Some(tls) => {
                            if let Ok(near) = tls.accept(near).await {
                                carry(near, far, &spoilt, &count).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, wire, stood, task }
    }

    /// Changes the wire, also for connections that stand.
    pub(crate) fn set(&self, wire: Wire) {
        self.wire.store(wire as u8, Ordering::SeqCst);
    }
}

async fn carry(near: impl AsyncRead + AsyncWrite, far: TcpStream, wire: &AtomicU8, stood: &AtomicU64) {
    stood.fetch_add(1, Ordering::SeqCst);
    let (mut requests, mut near) = tokio::io::split(near);
    let (mut answers, mut far) = far.into_split();
    let there = async { drop(tokio::io::copy(&mut requests, &mut far).await) };
    let back = async {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = answers.read(&mut buffer).await {
            let now = wire.load(Ordering::SeqCst);
            if now == Wire::Good as u8 {
                if near.write_all(&buffer[..read]).await.is_err() {
                    return;
                }
            } else if now == Wire::Dribble as u8 {
                for byte in &buffer[..read] {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    if near.write_all(&[*byte]).await.is_err() {
                        return;
                    }
                }
            } else if now == Wire::Reset as u8 {
                drop(near.write_all(&buffer[..read / 2]).await);
                return;
            }
        }
    };
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}
