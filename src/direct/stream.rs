//! `GET /v1/device/events`: a stream of server-sent events, for phones and pages that would rather listen than talk.
//!
//! The messages, their order and what they mean are those of a WebSocket; what the phone has to say it says by single
//! requests, or by coming again: `Last-Event-ID` acknowledges as a poll's `after` does. So a stream whose phone owes an
//! acknowledgement for too long, or too many, ends, and the phone comes again by itself.
//!
//! One task per stream: it listens to the process's end, its seat in the hub, acknowledgements ([`Window`]), the reader
//! leaving, and a timer. A reader that takes nothing blocks it for [`WRITE_BLOCKED`] at the most.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::auth::{Caller, Phone};
use super::bell::Signal;
use super::hub::Seat;
use super::session::{Session, Verdict};
use super::tuning::{DRAIN_MS, Heartbeat, WRITE_BLOCKED};
use super::window::Window;
use super::{ask, cursor, frame, origin, quiet};
use crate::api::problem::{Answer, Problem};
use crate::app::Gateway;
use crate::store::{Ack, StoreError};

/// Messages that a phone gets which acknowledges nothing but by coming again.
pub(super) const UNSAID: usize = 100;
/// When to come again after the line was lost.
const LOST_MS: u64 = 5000;
/// When to come again to acknowledge.
const SOON_MS: u64 = 500;
/// When a client comes again that was told not to, and does not understand it: two of them must not take the seat from
/// each other all the time.
const NEVER_MS: u64 = 300_000;

/// Somebody who may open a stream, as far as the origin goes: see [`origin::admit`].
pub(super) struct Admitted(Option<HeaderValue>);

impl FromRequestParts<Arc<Gateway>> for Admitted {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Answer<Self> {
        origin::admit(parts, gateway).map(Self)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    after: Option<String>,
    /// Read by [`Caller`].
    #[serde(rename = "ticket")]
    _ticket: Option<String>,
}

/// Why a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The phone has left, or takes nothing.
    Gone,
    /// The phone shall acknowledge by coming again.
    Again,
    /// The process stops.
    Drain,
    /// The store is busy or broken.
    TryLater,
    /// A newer connection of the same device.
    Superseded,
    /// The secret or the device is gone.
    Revoked,
}

impl End {
    /// What the phone is told.
    fn farewell(self) -> String {
        match self {
            Self::Gone => String::new(),
            Self::Again => format!("retry: {SOON_MS}\n\n"),
            Self::Drain | Self::TryLater => format!("retry: {}\n\n", rand::random_range(DRAIN_MS)),
            Self::Superseded => format!("retry: {NEVER_MS}\nevent: superseded\ndata: {{}}\n\n"),
            Self::Revoked => "event: revoked\ndata: {}\n\n".to_owned(),
        }
    }
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> Self {
        tracing::warn!(%error, "a phone is sent away: its inbox cannot be read or written");
        Self::TryLater
    }
}

/// Opens a stream.
pub(super) async fn open(
    State(gateway): State<Arc<Gateway>>,
    Admitted(page): Admitted,
    Caller(phone): Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Answer<Response> {
    let asked: Asked = ask::parameters(&uri)?;
    // A client that comes again by itself repeats its URL, and says in the header how far it has got since.
    let said = headers.get("last-event-id").filter(|id| !id.is_empty());
    let said = said.map(|id| id.to_str().unwrap_or("?").to_owned()).or(asked.after);
    let resume = match said {
        Some(text) => ask::cursor(&phone, &text)?,
        None => None,
    };
    let (out, reader) = mpsc::channel(1);
    let (last, ending) = oneshot::channel();
    let tasks = gateway.tasks.clone();
    tasks.spawn("phone stream", Events::begin(gateway, phone, out).serve(resume, last));
    let read = stream::unfold(reader, |mut reader| async move { Some((reader.recv().await?, reader)) });
    let body = read.chain(stream::once(ending).filter_map(async |end| end.ok()));
    let body = Body::from_stream(body.map(Ok::<Bytes, Infallible>));
    let kind = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // Proxies would keep back what is small.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
        (header::VARY, "Origin"),
    ];
    let page = page.map(|origin| [(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin)]);
    Ok((kind, page, body).into_response())
}

/// A stream.
struct Events {
    gateway: Arc<Gateway>,
    phone: Arc<Phone>,
    seat: Seat,
    window: Arc<Window>,
    /// Dropped before the last word is said.
    out: mpsc::Sender<Bytes>,
    began: Instant,
    told_at: Instant,
}

impl Events {
    fn begin(gateway: Arc<Gateway>, phone: Arc<Phone>, out: mpsc::Sender<Bytes>) -> Self {
        let seat = gateway.hub.sit(phone.device);
        seat.hear_recalls();
        // A reader is silent by nature: only what it owes counts against it.
        let session = Session::new(Duration::from_hours(24 * 365).as_millis() as u64, 0);
        let window = Arc::new(Window::new(session, UNSAID));
        seat.share(&window);
        let began = Instant::now();
        Self { gateway, phone, seat, window, out, began, told_at: began }
    }

    async fn serve(mut self, resume: Option<i64>, last: oneshot::Sender<Bytes>) {
        let tasks = self.gateway.tasks.clone();
        let ended = tokio::select! {
            biased;
            () = tasks.stopped() => Err(End::Drain),
            ended = self.run(resume) => ended,
        };
        // The seat is free before the goodbye is heard.
        drop(self);
        let farewell = ended.err().map(End::farewell).filter(|words| !words.is_empty());
        if let Some(words) = farewell {
            let _ = last.send(words.into());
        }
    }

    async fn run(&mut self, resume: Option<i64>) -> Result<(), End> {
        if !self.gateway.hub.auth().is_current(&self.phone) {
            return Err(End::Revoked);
        }
        if let Some(pos) = resume {
            let now_ms = self.gateway.clock.now_ms();
            self.gateway.store.acknowledge(self.phone.device, Ack::UpTo(pos), now_ms).await?;
        }
        let heartbeat = Heartbeat::of(&self.gateway.settings);
        let hello = frame::hello(&self.phone, resume.unwrap_or(0), heartbeat, self.gateway.settings.node);
        let at = cursor::encode(self.phone.device, self.phone.epoch, resume.unwrap_or(0));
        self.say(format!("retry: {LOST_MS}\n\nid: {at}\nevent: hello\ndata: {hello}\n\n")).await?;
        let interval = Duration::from_secs(heartbeat.interval);
        loop {
            self.hand_out().await?;
            let late = self.late()?;
            let quiet = self.told_at + interval;
            tokio::select! {
                biased;
                () = self.out.closed() => return Err(End::Gone),
                () = self.seat.called() => {
                    self.told()?;
                    self.tell_recalls().await?;
                }
                () = self.window.moved() => {}
                () = sleep_until(late.min(quiet)) => {
                    if Instant::now() >= quiet {
                        self.say(": hb\n\n".to_owned()).await?;
                    }
                }
            }
        }
    }

    /// When an acknowledgement will be late. Where one is, the phone shall come again: there is no other way to ask it.
    fn late(&self) -> Result<Instant, End> {
        let now = self.now();
        match self.window.with(|session| session.on_time(now)) {
            Verdict::Wait(until) => Ok(self.began + Duration::from_millis(until)),
            Verdict::Ping | Verdict::Close => Err(End::Again),
        }
    }

    fn told(&mut self) -> Result<(), End> {
        match self.seat.told() {
            Signal::Inbox => self.window.with(Session::woken),
            Signal::Superseded => return Err(End::Superseded),
            Signal::Revoked => return Err(End::Revoked),
        }
        Ok(())
    }

    /// Tells the phone what to take off its screen. It owes no acknowledgement for that any more.
    async fn tell_recalls(&mut self) -> Result<(), End> {
        for message in self.seat.take_recalls() {
            self.window.with(|session| session.recall(message));
            let recall = frame::recall(&self.gateway.codec, message);
            self.say(format!("event: recall\ndata: {recall}\n\n")).await?;
        }
        Ok(())
    }

    /// Sends what is new, as far as the window allows.
    async fn hand_out(&mut self) -> Result<(), End> {
        let device = self.phone.device;
        while let Some(load) = self.window.with(|session| session.wants()) {
            let entries = quiet::pending(&self.gateway, device, load).await?;
            let now = self.now();
            for entry in self.window.with(|session| session.loaded(load, entries, now)) {
                let bodies = self.gateway.hub.bodies();
                let message = bodies.message(&self.gateway.codec, &self.phone, &entry).await;
                let at = cursor::encode(self.phone.device, self.phone.epoch, entry.pos);
                self.say(format!("id: {at}\nevent: message\ndata: {message}\n\n")).await?;
            }
        }
        // Whoever acknowledges by single requests gets on by them, the others by coming again.
        if self.window.with(|session| session.handed()) >= UNSAID {
            return Err(End::Again);
        }
        Ok(())
    }

    async fn say(&mut self, text: String) -> Result<(), End> {
        self.out.send_timeout(text.into(), WRITE_BLOCKED).await.map_err(|_| End::Gone)?;
        self.told_at = Instant::now();
        Ok(())
    }

    /// Milliseconds of this stream.
    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }
}
