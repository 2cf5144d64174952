//! What a twin may know of the connection that a request came on: some vendors bind credentials to it.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::wire::Frames;

/// Which HTTP/2 connections begin with one stream, until a twin raises the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub(crate) enum FirstStreams {
    /// None.
    Never,
    /// Those over TLS: the vendor that has this rule knows no others.
    Tls,
    /// All.
    Always,
}

/// The choice that holds for new connections.
#[derive(Default)]
pub(crate) struct FirstStreamsChoice(AtomicU8);

impl FirstStreamsChoice {
    pub(crate) fn set(&self, choice: FirstStreams) {
        self.0.store(choice as u8, Ordering::Relaxed);
    }

    /// The first limit of a new connection, where it is not the full one.
    pub(crate) fn of(&self, is_tls: bool) -> Option<u32> {
        let choice = self.0.load(Ordering::Relaxed);
        let is_low = choice == FirstStreams::Always as u8 || (choice == FirstStreams::Tls as u8 && is_tls);
        is_low.then_some(1)
    }
}

/// One connection; every request that comes on it has it among its extensions, as `Arc<Connection>`.
pub(crate) struct Connection {
    /// The certificate that the client showed. Its key is proved; who signed it is for the twin to judge.
    pub(crate) client_certificate: Option<CertificateDer<'static>>,
    /// Its HTTP/2 frames.
    pub(crate) frames: Arc<Frames>,
    /// What twins note about it, each under a type of its own.
    notes: Mutex<http::Extensions>,
    close: CancellationToken,
}

impl Connection {
    pub(crate) fn new(client_certificate: Option<CertificateDer<'static>>, frames: Frames) -> Self {
        Self {
            client_certificate,
            frames: Arc::new(frames),
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
