//! A vendor that reports: each delivery once, in random order, a hundred in a call, signed as the played vendor signs.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use anypush::ids::{Id, IdCodec};
use anypush::store::sqlite::vendor_id;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future;
use http::{Request, StatusCode};
use http_body_util::Full;
use rand::seq::SliceRandom as _;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Child;

use super::request::Connection;
use super::sockets::now_us;

/// What the vendor puts into one call.
const A_CALL: usize = 100;
/// Calls under way.
const ABREAST: usize = 16;

/// What to report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Task {
    /// The gateway's database, where the deliveries stand.
    pub(crate) database: PathBuf,
    /// The message's number there.
    pub(crate) message: i64,
    /// The channel's callback URL and configuration.
    pub(crate) url: String,
    pub(crate) account: serde_json::Value,
    /// Receipts a second; 0: as many as are taken.
    pub(crate) rate: f64,
}

/// How it went.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) receipts: u64,
    /// Unix time in microseconds.
    pub(crate) began_us: u64,
    pub(crate) seconds: f64,
    /// Calls that were to come again.
    pub(crate) refused: u64,
}

/// One that is ready.
pub(crate) struct Vendor {
    child: Child,
}

impl Vendor {
    /// Reads what there is to report, and waits.
    pub(crate) async fn ready(core: Option<usize>, task: &Task) -> anyhow::Result<Self> {
        let mut child = super::part("receipts", core)?;
        let input = child.stdin.as_mut().context("a standard input was asked for")?;
        input.write_all(format!("{}\n", serde_json::to_string(task)?).as_bytes()).await?;
        let mut vendor = Self { child };
        vendor.line().await?;
        Ok(vendor)
    }

    /// Reports all.
    pub(crate) async fn go(mut self) -> anyhow::Result<Told> {
        self.child.stdin.as_mut().context("a standard input was asked for")?.write_all(b"go\n").await?;
        Ok(serde_json::from_str(&self.line().await?)?)
    }

    async fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        let output = self.child.stdout.as_mut().context("a standard output was asked for")?;
        // It says one line at a time: nothing of the next is lost with the buffer.
        BufReader::new(output).read_line(&mut line).await?;
        ensure!(!line.is_empty(), "the vendor has ended");
        Ok(line)
    }
}

/// A delivery that is reported: the token, the vendor's own id, and the parameter that it echoes.
struct Delivered {
    token: String,
    request_id: String,
    bi_tag: String,
}

/// The other side.
pub(super) async fn run() -> anyhow::Result<()> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let task: Task = serde_json::from_str(&line)?;
    let all = read(&task).await?;
    super::say(&all.len())?;
    std::io::stdin().read_line(&mut line)?;
    super::say(&tell(&task, &all).await?)
}

async fn read(task: &Task) -> anyhow::Result<Vec<Delivered>> {
    let mut db = SqliteConnectOptions::new().filename(&task.database).read_only(true).connect().await?;
    let key: Vec<u8> =
        sqlx::query_scalar("SELECT value FROM meta WHERE key = 'id key'").fetch_one(&mut db).await?;
    let codec = IdCodec::new(key.as_slice().try_into().context("a key has 32 bytes")?);
    let rows: Vec<(String, Option<Vec<u8>>, i64, i64)> = sqlx::query_as(
        "SELECT a.token, d.vendor_id, d.channel, d.target FROM deliveries AS d
         CROSS JOIN addresses AS a ON a.device = d.target WHERE d.message = ?1",
    )
    .bind(task.message)
    .fetch_all(&mut db)
    .await?;
    let delivered = |(token, id, channel, target): (String, Option<Vec<u8>>, i64, i64)| Delivered {
        token,
        request_id: id.as_deref().and_then(vendor_id::unpack).unwrap_or_default(),
        bi_tag: codec.receipt_param(channel, Id(task.message), target as u64),
    };
    let mut all: Vec<_> = rows.into_iter().map(delivered).collect();
    all.shuffle(&mut rand::rng());
    Ok(all)
}

async fn tell(task: &Task, all: &[Delivered]) -> anyhow::Result<Told> {
    let text = |name: &str| task.account[name].as_str().with_context(|| format!("the account has no {name}"));
    let (user, app) = (text("callback_user")?, text("app_id")?);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(text("callback_secret")?)?);
    let (_, rest) = task.url.split_once("://").context("the callback has a URL")?;
    let (origin, path) = rest.split_at(rest.find('/').context("the callback's URL has a path")?);
    let (next, refused) = (AtomicUsize::new(0), AtomicU64::new(0));
    let (began_us, started) = (now_us(), Instant::now());
    let calls: Vec<_> = all.chunks(A_CALL).collect();
    let caller = async |_| {
        let mut connection = Connection::open(origin).await?;
        while let Some((nth, part)) = {
            let nth = next.fetch_add(1, Ordering::Relaxed);
            calls.get(nth).map(|part| (nth, part))
        } {
            if task.rate > 0.0 {
                let due = started + Duration::from_secs_f64((nth * A_CALL) as f64 / task.rate);
                tokio::time::sleep_until(due.into()).await;
            }
            let body = Bytes::from(body(app, part));
            loop {
                let (status, answer) =
                    connection.call(request(origin, path, (user, &key), body.clone())?).await?;
                if status == StatusCode::OK {
                    break;
                }
                let later = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
                ensure!(later, "{status}: {}", String::from_utf8_lossy(&answer));
                refused.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        anyhow::Ok(())
    };
    future::try_join_all((0..ABREAST).map(caller)).await?;
    let seconds = started.elapsed().as_secs_f64();
    Ok(Told { receipts: all.len() as u64, began_us, seconds, refused: refused.into_inner() })
}

fn body(app: &str, part: &[Delivered]) -> String {
    let at = now_us() / 1000;
    let one = |one: &Delivered| {
        json!({
            "biTag": one.bi_tag, "appid": app, "token": one.token, "status": 0,
            "timestamp": at, "requestId": one.request_id,
        })
    };
    json!({"statuses": part.iter().map(one).collect::<Vec<_>>()}).to_string()
}

/// The header proves that the sender knows the secret: HMAC-SHA256 over time, nonce and user name.
fn request(
    origin: &str,
    path: &str,
    (user, key): (&str, &hmac::Key),
    body: Bytes,
) -> anyhow::Result<Request<Full<Bytes>>> {
    let (at, nonce) = (now_us() / 1000, rand::random::<u64>());
    let tag = STANDARD.encode(hmac::sign(key, format!("{at}{nonce}{user}").as_bytes()));
    let request = Request::post(path)
        .header("host", origin)
        .header("content-type", "application/json")
        .header("x-huawei-callback-id", format!("timestamp={at}; nonce={nonce}; value={tag}"));
    Ok(request.body(Full::new(body))?)
}
