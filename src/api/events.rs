//! `/v1/events`: what happens to an app, live, and from where a reader left off.
//!
//! A stream reads the journal as its reader takes it: what waits for a slow one is on disk, and a few pages in memory. Who
//! takes nothing for half a minute is told so and let go.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::auth::{Caller, single};
use super::extract::Query;
use super::problem::{Answer, Problem};
use crate::app::Gateway;
use crate::events::EventKind;
use crate::ids::{Id, Kind};
use crate::store::{EventRow, StoreError};

/// Streams of an app at the same time.
const STREAMS: usize = 20;
/// Events of a page, and pages that may wait for a reader.
const PAGE: usize = 50;
const PAGES: usize = 4;
/// How long a reader may take nothing.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a quiet stream shows that it lives, the key is looked at here, and in the store.
const HEARTBEAT: Duration = Duration::from_secs(15);
const KEY_HERE: Duration = Duration::from_millis(250);
const KEY_STORED: Duration = Duration::from_secs(5);
/// How long everything is written down for a reader that went away, and from when on that is made longer.
const WATCH_MS: u64 = 24 * 3600 * 1000;
const WATCH_AGAIN: Duration = Duration::from_hours(1);

/// How many streams each app has.
#[derive(Debug, Default)]
pub struct Streams(Mutex<HashMap<i64, usize>>);

/// One of them, until it is dropped.
struct Place(Arc<Streams>, i64);

impl Streams {
    fn take(self: &Arc<Self>, app: i64) -> Option<Place> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.entry(app).or_default();
        if *own >= STREAMS {
            return None;
        }
        *own += 1;
        Some(Place(Arc::clone(self), app))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = all.get_mut(&self.1) {
            *own -= 1;
            if *own == 0 {
                all.remove(&self.1);
            }
        }
    }
}

/// What a reader wants.
struct Filter {
    kinds: u32,
    message: Option<Id>,
    label: Option<String>,
}

/// Why a stream ends.
#[derive(Debug, Clone, Copy)]
enum End {
    TooSlow,
    KeyRevoked,
    Stopping,
    Failed,
    /// Nobody reads any more.
    Gone,
}

/// `GET /v1/events`
pub(super) async fn stream(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    headers: HeaderMap,
    mut query: Query,
) -> Answer<Response> {
    let app = caller.app_seq()?;
    let filter = filter(&gateway, &mut query)?;
    query.finish()?;
    let unknown = || {
        let why = "`Last-Event-ID` is no event of this gateway; leave it out to begin with what happens from now on";
        Problem::bad_request("invalid_cursor", why)
    };
    let back = match single(&headers, "last-event-id")?.filter(|id| !id.is_empty()) {
        Some(id) => Some(gateway.teller.number(id).ok_or_else(unknown)?),
        None => None,
    };
    let Some(place) = gateway.streams.take(app) else {
        let why = format!("the app has {STREAMS} streams open; close one, or share one");
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_streams", why).retry_after(30));
    };
    let now = gateway.clock.now_ms();
    let since = gateway.store.watch_events(app, now + WATCH_MS, now).await?;
    let bounds = gateway.store.event_bounds().await?;
    if back.is_some_and(|back| back > bounds.last) {
        return Err(unknown());
    }
    let mut first = String::from("retry: 3000\n\n");
    if let Some(back) = back.filter(|back| *back < since.max(bounds.purged_to)) {
        let data = json!({
            "type": "stream.gap",
            "after": gateway.teller.id(back),
            "detail": "not everything that happened since is kept; what is kept follows",
        });
        told(&mut first, None, "stream.gap", &data);
    }
    let (pages, reader) = mpsc::channel(PAGES);
    let (last, ending) = oneshot::channel();
    let producer = Producer {
        gateway: Arc::clone(&gateway),
        app,
        key: caller.key_id().to_owned(),
        filter,
        after: back.unwrap_or(bounds.last),
        pages,
    };
    gateway.tasks.spawn("stream", producer.run(first, last, place));
    let read = stream::unfold(reader, |mut reader| async move { Some((reader.recv().await?, reader)) });
    let body = read.chain(stream::once(ending).filter_map(async |end| end.ok()));
    let body = Body::from_stream(body.map(Ok::<Bytes, std::convert::Infallible>));
    Ok(([(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")], body)
        .into_response())
}

fn filter(gateway: &Gateway, query: &mut Query) -> Answer<Filter> {
    let kinds = query.choice("types", |text| {
        let mut kinds = 0;
        for name in text.split(',') {
            kinds |= EventKind::named(name).filter(|kind| *kind != EventKind::WebhookTest)?.bit();
        }
        Some(kinds)
    })?;
    let message = query.choice("message_id", |text| gateway.codec.decode(Kind::Message, text))?;
    let label = query.text("label");
    Ok(Filter { kinds: kinds.unwrap_or_else(EventKind::every), message, label })
}

fn told(text: &mut String, id: Option<&str>, kind: &str, data: &Value) {
    if let Some(id) = id {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "id: {id}");
    }
    let _ = write!(text, "event: {kind}\ndata: {data}\n\n");
}

/// Reads the journal for one stream.
struct Producer {
    gateway: Arc<Gateway>,
    app: i64,
    key: String,
    filter: Filter,
    after: u64,
    /// Dropped before the last word is said.
    pages: mpsc::Sender<Bytes>,
}

impl Producer {
    async fn run(mut self, first: String, last: oneshot::Sender<Bytes>, _place: Place) {
        let tasks = self.gateway.tasks.clone();
        let gateway = Arc::clone(&self.gateway);
        let key = self.key.clone();
        let end = tokio::select! {
            end = self.go_on(first) => end,
            end = refused(&gateway, &key) => end,
            () = tasks.stopped() => End::Stopping,
        };
        let reason = match end {
            End::TooSlow => "too_slow",
            End::KeyRevoked => "key_revoked",
            End::Stopping => "stopping",
            End::Failed => "failed",
            End::Gone => return,
        };
        let id = (self.after > 0).then(|| self.gateway.teller.id(self.after));
        let mut text = String::new();
        told(
            &mut text,
            None,
            "stream.end",
            &json!({"type": "stream.end", "reason": reason, "last_event_id": id}),
        );
        let _ = last.send(text.into());
    }

    async fn go_on(&mut self, first: String) -> End {
        let mut journal = self.gateway.store.event_bell();
        let mut watched = Instant::now();
        if let Some(end) = self.send(first).await {
            return end;
        }
        loop {
            journal.mark_unchanged();
            match self.page().await {
                Ok(Some((text, read_to))) => {
                    if let Some(end) = self.send(text).await {
                        return end;
                    }
                    // Only now: what was not sent is where the reader goes on.
                    self.after = read_to;
                    continue;
                }
                Ok(None) => {}
                Err(StoreError::Busy(_)) => tokio::time::sleep(Duration::from_millis(200)).await,
                Err(_) => return End::Failed,
            }
            if watched.elapsed() > WATCH_AGAIN {
                let now = self.gateway.clock.now_ms();
                if self.gateway.store.watch_events(self.app, now + WATCH_MS, now).await.is_ok() {
                    watched = Instant::now();
                }
            }
            tokio::select! {
                () = self.more(&mut journal) => {}
                () = self.pages.closed() => return End::Gone,
                () = tokio::time::sleep(HEARTBEAT) => {
                    if let Some(end) = self.send(": still here\n\n".to_owned()).await {
                        return end;
                    }
                }
            }
        }
    }

    /// Until there is something of this app.
    async fn more(&self, journal: &mut tokio::sync::watch::Receiver<u64>) {
        while self.gateway.store.event_head(self.app) <= self.after {
            if journal.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The next page, which may be empty where nothing of it is wanted, and where it ends; `None`: there is nothing.
    async fn page(&self) -> Result<Option<(String, u64)>, StoreError> {
        let store = &self.gateway.store;
        let page = store.events_after(self.app, self.filter.kinds, self.after, PAGE).await?;
        if page.read_to <= self.after {
            return Ok(None);
        }
        let mut rows = Vec::with_capacity(page.rows.len());
        for row in page.rows {
            if self.wants(&row).await? {
                rows.push(row);
            }
        }
        let mut text = String::new();
        for event in self.gateway.teller.tell(self.app, &rows).await? {
            told(&mut text, Some(&event.id), event.kind.as_str(), &event.body);
        }
        Ok(Some((text, page.read_to)))
    }

    async fn wants(&self, row: &EventRow) -> Result<bool, StoreError> {
        let Filter { message, label, .. } = &self.filter;
        if message.is_none() && label.is_none() {
            return Ok(true);
        }
        let Some(id) = row.fact.message() else { return Ok(false) };
        if message.is_some_and(|wanted| wanted != id) {
            return Ok(false);
        }
        let Some(label) = label else { return Ok(true) };
        let given = self.gateway.teller.given(id).await?;
        Ok(given.is_some_and(|given| given.label.as_ref() == Some(label)))
    }

    async fn send(&self, text: String) -> Option<End> {
        if text.is_empty() {
            return None;
        }
        match self.pages.send_timeout(text.into(), PATIENCE).await {
            Ok(()) => None,
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => Some(End::TooSlow),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Some(End::Gone),
        }
    }
}

/// Until the key is good no longer.
async fn refused(gateway: &Gateway, key: &str) -> End {
    let mut looked = Instant::now();
    loop {
        tokio::time::sleep(KEY_HERE).await;
        let stored = looked.elapsed() > KEY_STORED;
        if stored {
            looked = Instant::now();
        }
        if !gateway.auth.is_good(key, stored).await {
            return End::KeyRevoked;
        }
    }
}
