//! Reads on for a moment where a body was refused half-way. A connection that is closed while its peer still sends is
//! reset, and with it goes the answer that says why (RFC 9112 §9.6).

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::HttpBody;
use axum::extract::Request;
use axum::http::{Version, header};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// So long, and so much, is read to let a peer come to the answer.
const TIME: Duration = Duration::from_secs(2);
const BYTES: usize = 32 * 1024 * 1024;

/// A body of which the rest is read and thrown away if it is dropped before its end.
pub(super) struct Lingering {
    body: Option<Incoming>,
    tracker: Option<TaskTracker>,
    /// Its sender waits to be told whether to send (RFC 9110 §10.1.1), which whoever asks for the body tells it.
    is_held: bool,
}

impl Lingering {
    /// The body of this request. HTTP/2 ends one stream and not the connection.
    pub(super) fn of(request: Request<Incoming>, tracker: &TaskTracker) -> Request<Self> {
        let tracker = (request.version() < Version::HTTP_2).then(|| tracker.clone());
        let is_held = request.headers().contains_key(header::EXPECT);
        request.map(|body| Self { body: Some(body), tracker, is_held })
    }
}

impl HttpBody for Lingering {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.is_held = false;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let rest = self.body.take().filter(|body| !self.is_held && !body.is_end_stream());
        if let (Some(rest), Some(tracker), Ok(runtime)) = (rest, self.tracker.take(), Handle::try_current()) {
            tracker.spawn_on(tokio::time::timeout(TIME, discard(rest)), &runtime);
        }
    }
}

async fn discard(mut body: Incoming) {
    let mut seen = 0;
    while let Some(Ok(frame)) = body.frame().await
        && seen < BYTES
    {
        seen += frame.data_ref().map_or(0, Bytes::len);
    }
}
