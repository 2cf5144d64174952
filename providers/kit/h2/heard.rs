//! A stream that notices what it reads. What runs HTTP/2 over it tells its requests only that the connection is gone;
//! that the peer refused our certificate stands in the error of the stream alone. And who is heard is alive.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::kit::failure::chain;

/// What was heard from a peer.
#[derive(Default)]
pub(super) struct Heard {
    lately: AtomicBool,
    last_words: OnceLock<String>,
}

impl Heard {
    /// Whether anything came since this was asked last.
    pub(super) fn lately(&self) -> bool {
        self.lately.swap(false, Ordering::Relaxed)
    }

    /// Why the connection could not be read any more; empty as long as it can, and where it ended well.
    pub(super) fn last_words(&self) -> &str {
        self.last_words.get().map_or("", String::as_str)
    }
}

/// See the module.
pub(super) struct Listening<S> {
    stream: S,
    heard: Arc<Heard>,
}

impl<S> Listening<S> {
    pub(super) fn new(stream: S, heard: Arc<Heard>) -> Self {
        Self { stream, heard }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Listening<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        match &read {
            Poll::Ready(Ok(())) => self.heard.lately.store(true, Ordering::Relaxed),
            Poll::Ready(Err(error)) => {
                // The first is the cause.
                let _ = self.heard.last_words.set(chain(error));
            }
            Poll::Pending => {}
        }
        read
    }
}

/// Vectored writes are not offered: see [`GATHERED_BYTES`](super::drive::GATHERED_BYTES).
impl<S: AsyncWrite + Unpin> AsyncWrite for Listening<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
