//! Those who call: so many connections, each with one request under way, as backends with a pool do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::Bytes;
use futures_util::future;
use hdrhistogram::Histogram;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

/// What to call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Task {
    /// Host and port.
    pub(crate) origin: String,
    pub(crate) path: String,
    pub(crate) key: String,
    /// The body; `{n}` in it is the number of the call, below `numbers`.
    pub(crate) body: String,
    pub(crate) numbers: u64,
    /// What makes its idempotency keys differ from those of other rounds.
    pub(crate) round: u64,
    /// Connections.
    pub(crate) abreast: usize,
    pub(crate) seconds: f64,
    /// Calls a second at most; 0: as many as are answered.
    pub(crate) rate: f64,
}

/// What the callers saw.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) calls: u64,
    pub(crate) seconds: f64,
    /// Latencies in milliseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) most: f64,
}

impl Seen {
    /// Calls a second.
    pub(crate) fn rate(&self) -> f64 {
        self.calls as f64 / self.seconds
    }

    pub(crate) fn of(histogram: &Histogram<u64>, seconds: f64) -> Self {
        let ms = |micros: u64| micros as f64 / 1000.0;
        Self {
            calls: histogram.len(),
            seconds,
            p50: ms(histogram.value_at_quantile(0.5)),
            p99: ms(histogram.value_at_quantile(0.99)),
            p999: ms(histogram.value_at_quantile(0.999)),
            most: ms(histogram.max()),
        }
    }

    /// As people read it.
    pub(crate) fn text(&self) -> String {
        format!("p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms", self.p50, self.p99, self.p999)
    }
}

/// An empty book of latencies in microseconds, up to a minute.
pub(crate) fn book() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000, 3)?)
}

pub(super) async fn run(task: Task) -> anyhow::Result<Seen> {
    let (task, next) = (Arc::new(task), Arc::new(AtomicU64::new(0)));
    let started = Instant::now();
    let callers = (0..task.abreast).map(|_| tokio::spawn(caller(task.clone(), next.clone(), started)));
    let mut all = book()?;
    for caller in future::join_all(callers).await {
        all.add(caller??)?;
    }
    Ok(Seen::of(&all, started.elapsed().as_secs_f64()))
}

async fn caller(task: Arc<Task>, next: Arc<AtomicU64>, started: Instant) -> anyhow::Result<Histogram<u64>> {
    let socket = TcpStream::connect(&task.origin).await?;
    socket.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    let driver = tokio::spawn(connection);
    let until = started + Duration::from_secs_f64(task.seconds);
    let mut book = book()?;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let mut due = Instant::now();
        if task.rate > 0.0 {
            // Whoever is late counts from when it should have been called: waiting is latency too.
            due = started + Duration::from_secs_f64(number as f64 / task.rate);
            tokio::time::sleep_until(due.into()).await;
        }
        if due >= until {
            break;
        }
        let body = task.body.replace("{n}", &(number % task.numbers.max(1)).to_string());
        let request = Request::post(&task.path)
            .header("host", &task.origin)
            .header("authorization", format!("Bearer {}", task.key))
            .header("content-type", "application/json")
            .header("idempotency-key", format!("bench-{}-{number}", task.round))
            .body(Full::new(Bytes::from(body)))?;
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let answer = response.into_body().collect().await?.to_bytes();
        ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&answer));
        book.saturating_record(due.elapsed().as_micros() as u64);
    }
    driver.abort();
    Ok(book)
}
