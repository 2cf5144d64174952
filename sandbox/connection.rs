//! What a twin may know of the connection that a request came on: some vendors bind credentials to it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

/// One connection; every request that comes on it has it among its extensions, as `Arc<Connection>`.
pub(crate) struct Connection {
    /// A number of its own.
    pub(crate) id: u64,
    /// The certificate that the client showed. Its key is proved; who signed it is for the twin to judge.
    pub(crate) client_certificate: Option<CertificateDer<'static>>,
    /// What twins note about it, each under a type of its own.
    notes: Mutex<http::Extensions>,
    close: CancellationToken,
}

impl Connection {
    pub(crate) fn new(client_certificate: Option<CertificateDer<'static>>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            client_certificate,
            notes: Mutex::default(),
            close: CancellationToken::new(),
        }
    }

    /// The twins' notes. Not to be held across an await.
    pub(crate) fn notes(&self) -> MutexGuard<'_, http::Extensions> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks it to end: requests in flight are answered, an HTTP/2 client is told by GOAWAY.
    pub(crate) fn close(&self) {
        self.close.cancel();
    }

    /// Ends when it is asked to end.
    pub(crate) async fn closing(&self) {
        self.close.cancelled().await;
    }
}
