//! A phone on a WebSocket: moves bytes between the socket, the [`Session`] and the store, and decides nothing.
//!
//! One task per connection. It listens to four: the process's end ([`crate::tasks::Tasks`] tells, this task says bye),
//! its seat in the hub (the hub tells of news, takeover and revocation; dropping the seat gives it up), the phone, and
//! one timer that is re-armed only when it has run out.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use futures_util::FutureExt as _;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::auth::Phone;
use super::bell::Signal;
use super::frame::{self, Asks};
use super::hub::Seat;
use super::quiet;
use super::session::{Session, Verdict};
use super::tuning::{DRAIN_MS, Heartbeat, WRITE_BLOCKED};
use crate::app::Gateway;
use crate::store::StoreError;

/// Frames that are taken together before the store is told: what a phone acknowledges in one breath is one commit.
const BREATH: usize = 64;
/// How long a phone that was sent away may take to say so itself.
const LINGER: Duration = Duration::from_secs(2);
/// How long a phone that broke the rules has to read which.
const UNREAD: Duration = Duration::from_millis(300);

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The phone has left, or cannot be written to.
    Gone,
    /// The process stops.
    Drain,
    /// A newer connection of the same device.
    Superseded,
    /// The secret or the device is gone.
    Revoked,
    /// Silent for too long.
    Timeout,
    /// The phone broke the rules of its frames.
    Policy,
    /// The phone broke the rules of WebSocket: the close code that says which.
    Protocol(u16),
    /// The store is busy or broken.
    TryLater,
}

impl End {
    /// The close code, the word in `bye`, and whether it says when to come again.
    fn farewell(self) -> Option<(u16, &'static str, bool)> {
        match self {
            Self::Gone => None,
            Self::Drain => Some((1012, "drain", true)),
            Self::Superseded => Some((4001, "superseded", false)),
            Self::Revoked => Some((4003, "revoked", false)),
            Self::Timeout => Some((1001, "timeout", false)),
            Self::Policy => Some((1008, "policy", false)),
            Self::Protocol(code) => Some((code, "protocol", false)),
            Self::TryLater => Some((1013, "try_later", true)),
        }
    }
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> Self {
        tracing::warn!(%error, "a phone is sent away: its inbox cannot be read or written");
        Self::TryLater
    }
}

/// A connection.
struct Connection {
    gateway: Arc<Gateway>,
    phone: Arc<Phone>,
    socket: WebSocket,
    seat: Seat,
    session: Session,
    began: Instant,
    doubted: bool,
}

/// Serves a phone until one of the two has enough. What is made before the future begins is in it once; it would be there
/// twice otherwise.
pub(super) fn serve(
    socket: WebSocket,
    gateway: Arc<Gateway>,
    phone: Arc<Phone>,
) -> impl Future<Output = ()> + Send + 'static {
    // Shutdown waits until this is dropped.
    let under_way = gateway.tasks.guard();
    let mut connection = Connection::new(socket, gateway, phone);
    async move {
        let _under_way = &under_way;
        let end = match connection.run().await {
            Ok(()) => End::Gone,
            Err(end) => end,
        };
        Box::pin(connection.part(end)).await;
    }
}

impl Connection {
    fn new(socket: WebSocket, gateway: Arc<Gateway>, phone: Arc<Phone>) -> Self {
        let seat = gateway.hub.sit(phone.device);
        seat.hear_recalls();
        let session = Session::new(Heartbeat::of(&gateway.settings).silence_ms(), 0);
        Self { gateway, phone, socket, seat, session, began: Instant::now(), doubted: false }
    }

    async fn run(&mut self) -> Result<(), End> {
        if !self.gateway.hub.auth().is_current(&self.phone) {
            return Err(End::Revoked);
        }
        Box::pin(self.greet()).await?;
        let mut timer = Box::pin(sleep_until(self.began));
        loop {
            // Boxed: an idle phone should not pay for the room that reading and writing takes.
            if self.session.wants().is_some() {
                Box::pin(self.hand_out()).await?;
            }
            while self.arm(timer.as_mut())? {
                Box::pin(self.write(Message::Ping(bytes::Bytes::new()))).await?;
            }
            let tasks = self.gateway.tasks.clone();
            tokio::select! {
                biased;
                () = tasks.stopped() => return Err(End::Drain),
                () = self.seat.called() => {
                    self.told()?;
                    Box::pin(self.tell_recalls()).await?;
                }
                heard = self.socket.recv() => {
                    if !Box::pin(self.hear(heard)).await? {
                        return Ok(());
                    }
                }
                () = timer.as_mut() => {}
            }
        }
    }

    async fn greet(&mut self) -> Result<(), End> {
        let heartbeat = Heartbeat::of(&self.gateway.settings);
        let hello = frame::hello(&self.phone, 0, heartbeat, self.gateway.settings.node);
        self.send(format!(r#"{{"hello":{hello}}}"#)).await
    }

    fn told(&mut self) -> Result<(), End> {
        match self.seat.told() {
            Signal::Inbox => self.session.woken(),
            Signal::Superseded => return Err(End::Superseded),
            Signal::Revoked => return Err(End::Revoked),
        }
        Ok(())
    }

    /// Tells the phone what to take off its screen. It owes no acknowledgement for that any more.
    async fn tell_recalls(&mut self) -> Result<(), End> {
        for message in self.seat.take_recalls() {
            self.session.recall(message);
            let recall = frame::recall(&self.gateway.codec, message);
            self.send(format!(r#"{{"recall":{recall}}}"#)).await?;
        }
        Ok(())
    }

    /// Sends what is new, as far as the window allows.
    async fn hand_out(&mut self) -> Result<(), End> {
        let device = self.phone.device;
        while let Some(load) = self.session.wants() {
            let entries = quiet::pending(&self.gateway, device, load).await?;
            let now = self.now();
            for entry in self.session.loaded(load, entries, now) {
                let bodies = self.gateway.hub.bodies();
                let message = bodies.message(&self.gateway.codec, &self.phone, &entry).await;
                self.send(frame::msg(&message)).await?;
            }
        }
        Ok(())
    }

    /// Sets the timer to when time asks for something; `true`: it asks for a ping now. A timer that rings too early is
    /// cheaper than one that is moved with every heartbeat.
    fn arm(&mut self, timer: Pin<&mut Sleep>) -> Result<bool, End> {
        let now = self.now();
        self.seat_doubt(now);
        match self.session.on_time(now) {
            Verdict::Ping => return Ok(true),
            Verdict::Close => return Err(End::Timeout),
            Verdict::Wait(until) => {
                let until = self.began + Duration::from_millis(until);
                if timer.is_elapsed() || until < timer.deadline() {
                    timer.reset(until);
                }
            }
        }
        Ok(false)
    }

    fn seat_doubt(&mut self, now: u64) {
        let doubtful = self.session.is_doubtful(now);
        if std::mem::replace(&mut self.doubted, doubtful) != doubtful {
            self.seat.doubt(doubtful);
        }
    }

    /// Takes what the phone says, and what it says in the same breath, and stores it. `false`: it has left.
    async fn hear(&mut self, first: Option<Result<Message, axum::Error>>) -> Result<bool, End> {
        let mut next = Some(first);
        let mut stays = true;
        let mut refused = None;
        for _ in 0..BREATH {
            let Some(heard) = next else { break };
            match self.take(heard).await {
                Ok(true) => {}
                Ok(false) => stays = false,
                Err(end) => refused = Some(end),
            }
            if !stays || refused.is_some() {
                break;
            }
            next = self.socket.recv().now_or_never();
        }
        // What it said before it left or went wrong still counts.
        self.settle().await?;
        refused.map_or(Ok(stays), Err)
    }

    async fn take(&mut self, heard: Option<Result<Message, axum::Error>>) -> Result<bool, End> {
        let text = match heard {
            Some(Err(error)) => return Err(broken(error)),
            None | Some(Ok(Message::Close(_))) => return Ok(false),
            Some(Ok(Message::Binary(_))) => return Err(End::Policy),
            // The library answers pings.
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => None,
            Some(Ok(Message::Text(text))) => Some(text),
        };
        let now = self.now();
        self.session.heard(now);
        let Some(text) = text else { return Ok(true) };
        match frame::take(&mut self.session, &self.gateway.codec, &self.phone, &text) {
            Ok(Asks::Nothing) => {}
            Ok(Asks::Answer) => self.write(Message::Text(Utf8Bytes::from_static(frame::HEARTBEAT))).await?,
            Ok(Asks::Patience) => {
                let heartbeat = Heartbeat::of(&self.gateway.settings);
                self.session.allow_silence(heartbeat.longest_silence_ms());
            }
            Err(_) => return Err(End::Policy),
        }
        Ok(true)
    }

    /// Stores what the phone said.
    async fn settle(&mut self) -> Result<(), End> {
        let mut due = self.session.take_due();
        let (device, now_ms) = (self.phone.device, self.gateway.clock.now_ms());
        for ack in due.acks() {
            self.gateway.store.acknowledge(device, ack, now_ms).await?;
        }
        if !due.events.is_empty() {
            self.gateway.store.phone_events(device, due.events, now_ms).await?;
        }
        Ok(())
    }

    async fn send(&mut self, text: String) -> Result<(), End> {
        self.write(Message::Text(text.into())).await
    }

    async fn write(&mut self, message: Message) -> Result<(), End> {
        match timeout(WRITE_BLOCKED, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(End::Gone),
        }
    }

    /// Says goodbye where there is somebody to hear it.
    async fn part(mut self, end: End) {
        // The seat is free at once: whoever comes next does not wait for the goodbye.
        drop(self.seat);
        let Some((code, reason, again)) = end.farewell() else { return };
        let retry_ms = again.then(|| rand::random_range(DRAIN_MS));
        let bye = Message::Text(frame::bye(reason, retry_ms).into());
        let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
        let goodbye = async {
            self.socket.send(bye).await.ok()?;
            self.socket.send(close).await.ok()?;
            // Closing while the phone still talks would make its system throw the goodbye away.
            while let Some(Ok(_)) = self.socket.recv().await {}
            if matches!(end, End::Protocol(_)) {
                // The library reads no more after an error: what is unread stays with the system, so wait instead.
                tokio::time::sleep(UNREAD).await;
            }
            Some(())
        };
        let _ = timeout(LINGER, goodbye).await;
    }

    /// Milliseconds of this connection.
    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }
}

/// Which rule of WebSocket was broken.
fn broken(error: axum::Error) -> End {
    use tokio_tungstenite::tungstenite::Error;
    match error.into_inner().downcast_ref::<Error>() {
        Some(Error::Capacity(_)) => End::Protocol(1009),
        Some(Error::Utf8(_)) => End::Protocol(1007),
        Some(Error::Protocol(what)) if !is_cut(what) => End::Protocol(1002),
        _ => End::Gone,
    }
}

fn is_cut(what: &tokio_tungstenite::tungstenite::error::ProtocolError) -> bool {
    use tokio_tungstenite::tungstenite::error::ProtocolError::{
        ResetWithoutClosingHandshake, SendAfterClosing,
    };
    matches!(what, ResetWithoutClosingHandshake | SendAfterClosing)
}
