//! HTTP/2 frames that the server library cannot send: a stream limit that rises later, and words in a GOAWAY.
//!
//! APNs allows one stream until it trusts a connection, and says in its GOAWAY why it ends one. hyper's server fixes the
//! limit when the connection begins, and its GOAWAY is mute. So this layer lies between library and socket and
//! edits what passes: the library always believes in the full limit; the client is told less in the first SETTINGS frame,
//! and the rest in a second one, whose acknowledgement is kept from the library. A client that opens more streams than it was
//! told is not punished for it. HTTP/1.1 passes untouched.
//!
//! Concurrency: the connection's task reads and writes; twins call [`Frames::raise`] and [`Frames::say`] from handlers and
//! wake it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What every HTTP/2 client sends first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD: usize = 9;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const MAX_CONCURRENT_STREAMS: u16 = 3;

/// The twins' hold on a connection's frames.
#[derive(Default)]
pub(crate) struct Frames(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// What the first SETTINGS frame says instead of the full limit.
    first_limit: Option<u32>,
    /// What it said before it was changed.
    full_limit: Option<u32>,
    /// Whether the limit is to be raised, and whether it was.
    raise: bool,
    raised: bool,
    /// Added to a GOAWAY.
    words: Vec<u8>,
    waker: Option<Waker>,
}

impl Frames {
    /// Frames of a connection whose client is first told this limit of streams.
    pub(crate) fn new(first_limit: Option<u32>) -> Self {
        Self(Mutex::new(Inner { first_limit, ..Inner::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the client the full limit of streams.
    pub(crate) fn raise(&self) {
        let waker = {
            let mut inner = self.lock();
            inner.raise = true;
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Puts words into the GOAWAY that ends the connection.
    pub(crate) fn say(&self, words: &str) {
        self.lock().words = words.as_bytes().to_vec();
    }
}

/// A connection whose frames can be edited.
pub(crate) struct Wire<S> {
    inner: S,
    frames: Arc<Frames>,
    incoming: Incoming,
    outgoing: Outgoing,
}

impl<S> Wire<S> {
    pub(crate) fn new(inner: S, frames: Arc<Frames>) -> Self {
        Self { inner, frames, incoming: Incoming::default(), outgoing: Outgoing::default() }
    }
}

/// What came in: bytes for the library, and where the next frame begins.
struct Incoming {
    buffer: Box<[u8]>,
    ready: Vec<u8>,
    given: usize,
    preface: usize,
    is_http2: Option<bool>,
    head: Vec<u8>,
    /// What is left of a frame whose head has passed.
    body: usize,
    acknowledged: u32,
}

impl Default for Incoming {
    fn default() -> Self {
        Self {
            buffer: vec![0; 16 * 1024].into(),
            ready: Vec::new(),
            given: 0,
            preface: 0,
            is_http2: None,
            head: Vec::with_capacity(HEAD),
            body: 0,
            acknowledged: 0,
        }
    }
}

impl Incoming {
    /// Sorts new bytes into those for the library and those that it must not see.
    fn take(&mut self, mut bytes: &[u8]) {
        if self.is_http2.is_none() {
            let count = bytes.len().min(PREFACE.len() - self.preface);
            let fits = bytes[..count] == PREFACE[self.preface..self.preface + count];
            self.preface += count;
            if !fits {
                self.is_http2 = Some(false);
            } else if self.preface == PREFACE.len() {
                self.is_http2 = Some(true);
            }
            self.ready.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
        }
        if self.is_http2 == Some(false) {
            self.ready.extend_from_slice(bytes);
            return;
        }
        while !bytes.is_empty() {
            if self.body > 0 {
                let count = bytes.len().min(self.body);
                self.ready.extend_from_slice(&bytes[..count]);
                self.body -= count;
                bytes = &bytes[count..];
                continue;
            }
            let count = bytes.len().min(HEAD - self.head.len());
            self.head.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            if self.head.len() < HEAD {
                return;
            }
            self.body = length(&self.head);
            let is_acknowledgement = self.head[3] == SETTINGS && self.head[4] & ACK != 0;
            self.acknowledged += u32::from(is_acknowledgement);
            // Acknowledgements come in order: the first is for the library's own frame, the second for ours.
            if !is_acknowledgement || self.acknowledged == 1 {
                self.ready.extend_from_slice(&self.head);
            }
            self.head.clear();
        }
    }
}

/// What goes out: bytes for the socket, and how much of the library's frame is still to come.
#[derive(Default)]
struct Outgoing {
    ready: Vec<u8>,
    written: usize,
    head: Vec<u8>,
    body: usize,
    /// A frame that is edited is kept until it is whole.
    kept: Option<Vec<u8>>,
}

impl Outgoing {
    fn take(&mut self, mut bytes: &[u8], frames: &mut Inner) {
        while !bytes.is_empty() {
            if self.body > 0 {
                let count = bytes.len().min(self.body);
                self.kept.as_mut().unwrap_or(&mut self.ready).extend_from_slice(&bytes[..count]);
                self.body -= count;
                bytes = &bytes[count..];
                self.end_of_frame(frames);
                continue;
            }
            let count = bytes.len().min(HEAD - self.head.len());
            self.head.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            if self.head.len() < HEAD {
                return;
            }
            self.body = length(&self.head);
            let is_first_settings = self.head[3] == SETTINGS && self.head[4] & ACK == 0;
            if is_first_settings || self.head[3] == GOAWAY {
                self.kept = Some(std::mem::take(&mut self.head));
            } else {
                self.ready.append(&mut self.head);
            }
            self.end_of_frame(frames);
        }
    }

    fn end_of_frame(&mut self, frames: &mut Inner) {
        if self.body > 0 {
            return;
        }
        if let Some(mut frame) = self.kept.take() {
            if frame[3] == SETTINGS {
                lower(&mut frame, frames);
            } else {
                frame.extend_from_slice(&frames.words);
                let length = (frame.len() - HEAD) as u32;
                frame[..3].copy_from_slice(&length.to_be_bytes()[1..]);
            }
            self.ready.append(&mut frame);
        }
        self.insert(frames);
    }

    /// Puts the second SETTINGS frame where a frame may begin.
    fn insert(&mut self, frames: &mut Inner) {
        let is_between = self.body == 0 && self.head.is_empty() && self.kept.is_none();
        if let Some(limit) = frames.full_limit
            && frames.raise
            && !frames.raised
            && is_between
        {
            frames.raised = true;
            self.ready.extend_from_slice(&[0, 0, 6, SETTINGS, 0, 0, 0, 0, 0]);
            self.ready.extend_from_slice(&MAX_CONCURRENT_STREAMS.to_be_bytes());
            self.ready.extend_from_slice(&limit.to_be_bytes());
        }
    }
}

/// Lowers the limit of streams in a SETTINGS frame, and notes what it was.
fn lower(frame: &mut [u8], frames: &mut Inner) {
    let Some(first) = frames.first_limit else { return };
    for setting in frame[HEAD..].chunks_exact_mut(6) {
        if setting[..2] == MAX_CONCURRENT_STREAMS.to_be_bytes() {
            let mut full = [0; 4];
            full.copy_from_slice(&setting[2..]);
            frames.full_limit = Some(u32::from_be_bytes(full));
            setting[2..].copy_from_slice(&first.to_be_bytes());
        }
    }
}

fn length(head: &[u8]) -> usize {
    usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { inner, frames, incoming, .. } = &mut *self;
        loop {
            if incoming.given < incoming.ready.len() {
                let count = out.remaining().min(incoming.ready.len() - incoming.given);
                out.put_slice(&incoming.ready[incoming.given..incoming.given + count]);
                incoming.given += count;
                return Poll::Ready(Ok(()));
            }
            incoming.ready.clear();
            incoming.given = 0;
            frames.lock().waker = Some(context.waker().clone());
            let mut buffer = std::mem::take(&mut incoming.buffer);
            let mut read = ReadBuf::new(&mut buffer);
            let polled = Pin::new(&mut *inner).poll_read(context, &mut read);
            let is_end = read.filled().is_empty();
            incoming.take(read.filled());
            incoming.buffer = buffer;
            match polled {
                Poll::Ready(Ok(())) if is_end => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> Wire<S> {
    /// Writes what is ready; pending while the socket takes no more.
    fn drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outgoing = &mut self.outgoing;
        while outgoing.written < outgoing.ready.len() {
            let rest = &outgoing.ready[outgoing.written..];
            let count = ready!(Pin::new(&mut self.inner).poll_write(context, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            outgoing.written += count;
        }
        outgoing.ready.clear();
        outgoing.written = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // What was taken before goes first, so that at most one write's worth is held here.
        ready!(self.drain(context))?;
        if self.incoming.is_http2 != Some(true) {
            return Pin::new(&mut self.inner).poll_write(context, bytes);
        }
        let Self { frames, outgoing, .. } = &mut *self;
        outgoing.take(bytes, &mut frames.lock());
        match self.drain(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(bytes.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { frames, outgoing, .. } = &mut *self;
        outgoing.insert(&mut frames.lock());
        ready!(self.drain(context))?;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.drain(context))?;
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
