//! P-accept: the least that an accept is, in one process. A server that reads the call, takes the hashes of its key and body, looks
//! up the device, and puts the message, its key and its page into one durable transaction with those of others who call.
//!
//! Tables and indexes are the gateway's own, and what it does is done as the gateway does it: callers who ask at the same time are
//! looked up together, and what nobody waits for goes to the database's thread with the next statement. It asks for no
//! credentials, checks no field, counts nothing, decides no route and sends nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::Context as _;
use aws_lc_rs::digest::{SHA256, digest};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{ConnectOptions as _, QueryBuilder, Row as _, Sqlite, SqliteConnection};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::durable;

/// The gateway's tables.
const SCHEMA: &str = include_str!("../../../migrations/sqlite/0001_first.sql");
/// Callers who are answered together at the most, as the gateway has it.
const LOOKED_UP: usize = 256;
const WRITTEN: usize = 512;

/// Where it keeps its database, and whose calls it takes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    /// On the disk that the gateway writes to.
    pub(crate) dir: PathBuf,
    /// Phones, named `phone-0` and so on.
    pub(crate) devices: usize,
}

/// A call, as it is written.
struct Message {
    id: i64,
    spec: String,
    key: Vec<u8>,
    hash: Vec<u8>,
    page: Vec<u8>,
}

type Asked<Q, A> = (Q, oneshot::Sender<A>);

/// A device and an address of it, as they are read: number, id, enabled, platform; provider, version, kind, parameters.
type Found = (i64, String, u8, Option<String>, String, u32, String, String);

/// The ways to those who look up and write.
#[derive(Clone)]
struct Ways {
    look_up: mpsc::Sender<Asked<String, i64>>,
    write: mpsc::Sender<Asked<Message, ()>>,
    next: Arc<AtomicI64>,
}

/// Answers until the process is ended; says first where.
pub(super) async fn serve(task: Task) -> anyhow::Result<()> {
    let file = task.dir.join(format!("accept-{}.db", std::process::id()));
    let writing = create(&file, task.devices).await?;
    let reading = durable(&file).read_only(true).connect().await?;
    let (look_up, looked_up) = mpsc::channel(1024);
    let (write, written) = mpsc::channel(1024);
    let ways = Ways { look_up, write, next: Arc::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let router = Router::new().route("/v1/messages", post(take)).with_state(ways);
    tokio::select! {
        done = read(reading, looked_up) => done,
        done = store(writing, written) => done,
        done = async { axum::serve(listener, router).await } => done.context("it served"),
    }
}

async fn create(file: &Path, devices: usize) -> anyhow::Result<SqliteConnection> {
    let mut db = durable(file).pragma("cache_size", "-8192").pragma("secure_delete", "ON").connect().await?;
    sqlx::raw_sql(SCHEMA).execute(&mut db).await?;
    let numbers: Vec<usize> = (0..devices).collect();
    for part in numbers.chunks(1000) {
        let mut rows =
            QueryBuilder::<Sqlite>::new("INSERT INTO devices (seq, app, id, created_at, updated_at) ");
        rows.push_values(part, |mut row, n| {
            row.push_bind(*n as i64 + 1)
                .push_bind(1)
                .push_bind(format!("phone-{n}"))
                .push_bind(0)
                .push_bind(0);
        });
        rows.build().execute(&mut db).await?;
        let mut rows = QueryBuilder::<Sqlite>::new(
            "INSERT INTO addresses (app, provider, device, version, kind, token, token_hash, updated_at, registered_at) ",
        );
        rows.push_values(part, |mut row, n| {
            let token = sha256(&n.to_le_bytes());
            row.push_bind(1).push_bind("apns").push_bind(*n as i64 + 1).push_bind(1).push_bind("token");
            row.push_bind(HEXLOWER.encode(&token)).push_bind(token[..16].to_vec()).push_bind(0).push_bind(0);
        });
        rows.build().execute(&mut db).await?;
    }
    Ok(db)
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}

/// One call.
async fn take(
    State(ways): State<Ways>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), StatusCode> {
    let call: Value = serde_json::from_slice(&body).map_err(|_| StatusCode::BAD_REQUEST)?;
    let name = call["to"]["device_ids"][0].as_str().ok_or(StatusCode::BAD_REQUEST)?.to_owned();
    let key = headers.get("idempotency-key").ok_or(StatusCode::BAD_REQUEST)?;
    let (key, hash) = (sha256(key.as_bytes()), sha256(&body));
    let device = ask(&ways.look_up, name).await?;
    let id = ways.next.fetch_add(1, Ordering::Relaxed);
    let page = [&[7; 32][..], &device.to_le_bytes()].concat();
    ask(&ways.write, Message { id, spec: call.to_string(), key, hash, page }).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({"id": format!("msg_{id:026}"), "state": "sending"}))))
}

/// Waits for what is answered.
async fn ask<Q, A>(way: &mpsc::Sender<Asked<Q, A>>, question: Q) -> Result<A, StatusCode> {
    let (answer, answered) = oneshot::channel();
    way.send((question, answer)).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    answered.await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

/// Finds devices with their addresses.
async fn read(mut db: SqliteConnection, mut way: mpsc::Receiver<Asked<String, i64>>) -> anyhow::Result<()> {
    let mut group = Vec::with_capacity(LOOKED_UP);
    while way.recv_many(&mut group, LOOKED_UP).await > 0 {
        let names: Vec<&str> = group.iter().map(|(name, _)| name.as_str()).collect();
        let query = sqlx::query(
            "SELECT json_group_array(json_array(d.seq, d.id, d.enabled, d.platform, a.provider, a.version, a.kind, a.params))
             FROM json_each(?1) AS j CROSS JOIN devices AS d ON d.app = 1 AND d.id = j.value
             LEFT JOIN addresses AS a ON a.device = d.seq AND a.state = 0",
        );
        let row = query.bind(serde_json::to_string(&names)?).fetch_one(&mut db).await?;
        let found: Vec<Found> = serde_json::from_str(row.try_get(0)?)?;
        for (name, answer) in group.drain(..) {
            let device = found.iter().find(|(_, id, ..)| *id == name).context("it is registered")?;
            let _ = answer.send(device.0);
        }
    }
    Ok(())
}

/// Writes what waits, as few commits as there can be.
async fn store(mut db: SqliteConnection, mut way: mpsc::Receiver<Asked<Message, ()>>) -> anyhow::Result<()> {
    let mut group = Vec::with_capacity(WRITTEN);
    while way.recv_many(&mut group, WRITTEN).await > 0 {
        // Who is about to write as well comes with it.
        let mut before = 0;
        while group.len() > 1 && way.len() > before {
            before = way.len();
            tokio::task::yield_now().await;
        }
        while group.len() < WRITTEN
            && let Ok(more) = way.try_recv()
        {
            group.push(more);
        }
        write(&mut db, &group).await?;
        for (_, answer) in group.drain(..) {
            let _ = answer.send(());
        }
    }
    Ok(())
}

/// Two ways to the database's thread: whether a key was used before, and everything else.
async fn write(db: &mut SqliteConnection, group: &[Asked<Message, ()>]) -> anyhow::Result<()> {
    let keys: Vec<String> = group.iter().map(|(message, _)| HEXLOWER.encode(&message.key)).collect();
    let used = sqlx::query(
        "BEGIN IMMEDIATE; SELECT i.message FROM json_each(?1) AS k CROSS JOIN idempotency AS i
         ON i.app = 1 AND substr(i.key_hash, 1, 8) = substr(unhex(k.value), 1, 8) AND i.key_hash = unhex(k.value)",
    );
    let used = used.bind(serde_json::to_string(&keys)?).fetch_all(&mut *db).await?;
    anyhow::ensure!(used.is_empty(), "a key was used before");
    let mut sql = QueryBuilder::<Sqlite>::new(
        "INSERT INTO messages (id, app, class, spec, created_at, deadline_at, expanded_at, targeted) ",
    );
    sql.push_values(group, |mut row, (message, _)| {
        row.push_bind(message.id).push_bind(1).push_bind(0).push_bind(message.spec.as_str());
        row.push_bind(message.id).push_bind(message.id).push_bind(message.id).push_bind(1);
    });
    sql.push("; INSERT INTO idempotency (app, key_hash, body_hash, message, created_at) ");
    sql.push_values(group, |mut row, (message, _)| {
        row.push_bind(1).push_bind(message.key.as_slice()).push_bind(message.hash.as_slice());
        row.push_bind(message.id).push_bind(message.id);
    });
    sql.push("; INSERT INTO work (id, kind, channel, lane, app, message, due_at, owner, epoch, lease_until, payload) ");
    sql.push_values(group, |mut row, (message, _)| {
        row.push_bind(message.id).push_bind(1).push_bind(1).push_bind(2).push_bind(1).push_bind(message.id);
        row.push_bind(message.id).push_bind(0).push_bind(0).push_bind(0).push_bind(message.page.as_slice());
    });
    sql.push("; COMMIT").build().persistent(false).execute(db).await?;
    Ok(())
}
