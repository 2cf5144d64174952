//! Phones, many in one process: they connect, hold their line, acknowledge what comes, and ask. Told what to do line by line.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use futures_util::stream::{self, SplitSink};
use futures_util::{SinkExt as _, StreamExt as _, TryStreamExt as _, future};
use hdrhistogram::Histogram;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::{Mutex, Notify, mpsc};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::load::{Seen, book};
use super::request::{Connection, asked, posted};

/// Connections that are being made at the same time.
const ABREAST: usize = 128;
/// Callers of single sends.
const CALLERS: usize = 32;
/// No order takes longer.
const PATIENCE: Duration = Duration::from_mins(5);

/// Who the phones are.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Phones {
    /// Host and port.
    pub(crate) origin: String,
    /// Their secrets; none where nothing but bytes is spoken.
    pub(crate) secrets: Vec<String>,
    /// They come from 127.0.0.this.
    pub(crate) source: u8,
}

/// What they are to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// So many more connect: how long each took.
    Connect(usize),
    /// So many messages come, and are acknowledged: how long each was on its way. What came before counts.
    Collect(u64),
    /// Sends to one phone after another at so many a second, for so long, with this key; then collects.
    Singles { key: String, rate: f64, seconds: f64 },
    /// Asks for empty inboxes over so many connections, for so long.
    Poll { abreast: usize, seconds: f64 },
}

/// The process of the phones.
pub(crate) struct Client {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Client {
    /// Starts it.
    pub(crate) async fn start(core: Option<usize>, phones: &Phones) -> anyhow::Result<Self> {
        let mut child = super::part("sockets", core)?;
        let input = child.stdin.take().context("a standard input was asked for")?;
        let output = child.stdout.take().context("a standard output was asked for")?;
        let mut client = Self { input, output: BufReader::new(output).lines(), _child: child };
        client.write(phones).await?;
        Ok(client)
    }

    /// Gives an order, and waits until it is done.
    pub(crate) async fn order(&mut self, order: Order) -> anyhow::Result<Seen> {
        self.write(&order).await?;
        let line = tokio::time::timeout(PATIENCE, self.output.next_line()).await;
        let line = line.context("the phones do not answer")??.context("the phones have ended")?;
        Ok(serde_json::from_str(&line)?)
    }

    async fn write<T: Serialize>(&mut self, what: &T) -> anyhow::Result<()> {
        self.input.write_all(format!("{}\n", serde_json::to_string(what)?).as_bytes()).await?;
        Ok(())
    }
}

/// What all phones of this process write into.
struct Book {
    latencies: Mutex<Histogram<u64>>,
    came: AtomicU64,
    news: Notify,
}

/// The other side.
pub(super) async fn run() -> anyhow::Result<()> {
    let mut lines = lines();
    let phones: Phones =
        serde_json::from_str(&lines.recv().await.context("nobody says who the phones are")?)?;
    let came =
        Arc::new(Book { latencies: Mutex::new(book()?), came: AtomicU64::new(0), news: Notify::new() });
    let (mut bare, mut connected) = (Vec::new(), 0);
    while let Some(line) = lines.recv().await {
        let seen = match serde_json::from_str(&line)? {
            Order::Connect(count) if phones.secrets.is_empty() => hold(&phones, count, &mut bare).await?,
            Order::Connect(count) => {
                let seen = connect(&phones, connected..connected + count, &came).await?;
                connected += count;
                seen
            }
            Order::Collect(count) => came.collected(count).await?,
            Order::Singles { key, rate, seconds } => {
                let sent = singles(&phones.origin, connected as u64, &key, (rate, seconds)).await?;
                came.collected(sent).await?
            }
            Order::Poll { abreast, seconds } => poll(&phones, abreast, seconds).await?,
        };
        super::say(&seen)?;
    }
    Ok(())
}

/// Lines of the standard input; a thread reads them, because reading there blocks.
fn lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(4);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

async fn dial(phones: &Phones) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, phones.source], 0).into())?;
    let stream = socket.connect(phones.origin.parse()?).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Bare connections, each heard once.
async fn hold(phones: &Phones, count: usize, kept: &mut Vec<TcpStream>) -> anyhow::Result<Seen> {
    let (started, mut times) = (Instant::now(), book()?);
    let one = async |_| {
        let began = Instant::now();
        let mut stream = dial(phones).await?;
        stream.write_all(b"x").await?;
        stream.read_exact(&mut [0]).await?;
        anyhow::Ok((stream, began.elapsed()))
    };
    let mut all = std::pin::pin!(stream::iter(0..count).map(one).buffer_unordered(ABREAST));
    while let Some((stream, took)) = all.try_next().await? {
        kept.push(stream);
        times.saturating_record(took.as_micros() as u64);
    }
    Ok(Seen::of(&times, started.elapsed().as_secs_f64()))
}

/// WebSockets, each greeted.
async fn connect(phones: &Phones, which: Range<usize>, came: &Arc<Book>) -> anyhow::Result<Seen> {
    let (started, mut times) = (Instant::now(), book()?);
    let secrets = phones.secrets.get(which).context("there are not so many phones")?;
    let all = stream::iter(secrets).map(|secret| greeted(phones, secret)).buffer_unordered(ABREAST);
    let mut all = std::pin::pin!(all);
    while let Some((socket, took)) = all.try_next().await? {
        times.saturating_record(took.as_micros() as u64);
        tokio::spawn(phone(socket, came.clone()));
    }
    Ok(Seen::of(&times, started.elapsed().as_secs_f64()))
}

async fn greeted(phones: &Phones, secret: &str) -> anyhow::Result<(WebSocketStream<TcpStream>, Duration)> {
    let began = Instant::now();
    let mut request = format!("ws://{}/v1/device/socket", phones.origin).into_client_request()?;
    request.headers_mut().insert("authorization", format!("Bearer {secret}").parse()?);
    request.headers_mut().insert("sec-websocket-protocol", "anypush.v1".parse()?);
    // Ten thousand of them in one process: no large buffers.
    let config = WebSocketConfig::default().read_buffer_size(1024).write_buffer_size(0);
    let stream = dial(phones).await?;
    let (mut socket, _) = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await?;
    let hello = socket.next().await.context("closed before it was greeted")??;
    ensure!(hello.to_text()?.contains("\"hello\""), "{hello} is no greeting");
    Ok((socket, began.elapsed()))
}

#[derive(Deserialize)]
struct Frame {
    msg: Option<Msg>,
    bye: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Msg {
    id: String,
    cursor: String,
    data: Data,
}

/// When it was sent, in Unix microseconds.
#[derive(Deserialize)]
struct Data {
    at: String,
}

/// One phone's life. What it does not understand ends it, and is missed where messages are counted.
async fn phone(socket: WebSocketStream<TcpStream>, came: Arc<Book>) {
    let (mut sink, mut source) = socket.split();
    let mut last = String::new();
    while let Some(Ok(frame)) = source.next().await {
        let Message::Text(text) = frame else { continue };
        if let Err(error) = heard(&text, &mut last, &mut sink, &came).await {
            eprintln!("a phone: {error:#}");
            return;
        }
    }
}

async fn heard(
    text: &str,
    last: &mut String,
    sink: &mut SplitSink<WebSocketStream<TcpStream>, Message>,
    came: &Book,
) -> anyhow::Result<()> {
    let frame: Frame = serde_json::from_str(text)?;
    if frame.bye.is_some() {
        bail!("it was told {text}");
    }
    let Some(msg) = frame.msg else { return Ok(()) };
    // One that comes again is acknowledged again, and counts once.
    if *last != msg.id {
        let took = now_us().saturating_sub(msg.data.at.parse()?);
        came.latencies.lock().await.saturating_record(took.max(1));
        came.came.fetch_add(1, Ordering::Relaxed);
        came.news.notify_one();
    }
    sink.send(Message::text(json!({"ack": msg.cursor}).to_string())).await?;
    *last = msg.id;
    Ok(())
}

impl Book {
    /// Waits for so many, and begins anew.
    async fn collected(&self, count: u64) -> anyhow::Result<Seen> {
        let started = Instant::now();
        while self.came.load(Ordering::Relaxed) < count {
            let more = tokio::time::timeout(PATIENCE, self.news.notified()).await;
            more.with_context(|| format!("{} of {count} messages came", self.came.load(Ordering::Relaxed)))?;
        }
        let mut latencies = self.latencies.lock().await;
        let seen = Seen::of(&latencies, started.elapsed().as_secs_f64());
        latencies.reset();
        self.came.store(0, Ordering::Relaxed);
        Ok(seen)
    }
}

/// Unix time in microseconds: what messages carry to say when they were sent.
pub(crate) fn now_us() -> u64 {
    jiff::Timestamp::now().as_microsecond() as u64
}

/// Answers how many were sent.
async fn singles(origin: &str, phones: u64, key: &str, (rate, seconds): (f64, f64)) -> anyhow::Result<u64> {
    let (next, started, began) = (AtomicU64::new(0), Instant::now(), now_us());
    let one = async |_| {
        let mut connection = Connection::open(origin).await?;
        let mut sent = 0;
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let after = Duration::from_secs_f64(number as f64 / rate);
            if after.as_secs_f64() >= seconds {
                return anyhow::Ok(sent);
            }
            // Whoever is late counts from when it should have been sent: waiting is latency too.
            tokio::time::sleep_until((started + after).into()).await;
            let at = began + after.as_micros() as u64;
            let message = json!({
                "to": {"device_ids": [format!("phone-{}", number.wrapping_mul(7919) % phones)]},
                "notification": {"title": "Your code", "body": "493 172"}, "data": {"at": at.to_string()},
            });
            let request = posted(origin, "/v1/messages", key, message.to_string())?;
            let (status, answer) = connection.call(request).await?;
            ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&answer));
            sent += 1;
        }
    };
    Ok(future::try_join_all((0..CALLERS).map(one)).await?.into_iter().sum())
}

async fn poll(phones: &Phones, abreast: usize, seconds: f64) -> anyhow::Result<Seen> {
    let (next, started) = (AtomicU64::new(0), Instant::now());
    let one = async |_| {
        let mut connection = Connection::open(&phones.origin).await?;
        let mut times = book()?;
        while started.elapsed().as_secs_f64() < seconds {
            let number = next.fetch_add(1, Ordering::Relaxed) as usize;
            let secret = &phones.secrets[number % phones.secrets.len()];
            let began = Instant::now();
            let (status, answer) =
                connection.call(asked(&phones.origin, "/v1/device/messages", secret)?).await?;
            let text = String::from_utf8_lossy(&answer);
            ensure!(status.is_success() && text.contains("\"messages\":[]"), "{status}: {text}");
            times.saturating_record(began.elapsed().as_micros() as u64);
        }
        anyhow::Ok(times)
    };
    let mut all = book()?;
    for times in future::try_join_all((0..abreast).map(one)).await? {
        all.add(times)?;
    }
    Ok(Seen::of(&all, started.elapsed().as_secs_f64()))
}
