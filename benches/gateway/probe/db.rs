//! P-db: the rows of single accepts, and nothing else: one writer that puts what waits, up to 512 accepts, into one durable
//! transaction of three statements.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use sqlx::{ConnectOptions as _, Connection as _, QueryBuilder, Sqlite, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use super::durable;
use super::load::{Seen, book};

/// What to write.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    /// Where; on the disk that the gateway writes to.
    pub(crate) dir: PathBuf,
    /// What a message's row holds.
    pub(crate) spec: String,
    /// Accepts that wait at the same time.
    pub(crate) abreast: usize,
    pub(crate) seconds: f64,
}

/// Accepts in one transaction at most.
const GROUP: usize = 512;

pub(super) async fn run(task: Task) -> anyhow::Result<Seen> {
    let mut db = open(&task).await?;
    let (sender, mut receiver) = mpsc::channel::<(i64, oneshot::Sender<()>)>(1024);
    let until = Instant::now() + Duration::from_secs_f64(task.seconds);
    let callers: Vec<_> = (0..task.abreast as i64)
        .map(|caller| tokio::spawn(call(sender.clone(), caller, task.abreast as i64, until)))
        .collect();
    drop(sender);
    let started = Instant::now();
    let mut group = Vec::with_capacity(GROUP);
    while receiver.recv_many(&mut group, GROUP).await > 0 {
        write(&mut db, &task.spec, &group).await?;
        for (_, done) in group.drain(..) {
            let _ = done.send(());
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let mut all = book()?;
    for caller in callers {
        all.add(caller.await??)?;
    }
    db.close().await?;
    Ok(Seen::of(&all, seconds))
}

async fn call(
    way: mpsc::Sender<(i64, oneshot::Sender<()>)>,
    caller: i64,
    step: i64,
    until: Instant,
) -> anyhow::Result<Histogram<u64>> {
    let mut book = book()?;
    let mut number = caller;
    while Instant::now() < until {
        let (done, answer) = oneshot::channel();
        let began = Instant::now();
        way.send((number, done)).await?;
        answer.await?;
        book.saturating_record(began.elapsed().as_micros() as u64);
        number += step;
    }
    Ok(book)
}

async fn open(task: &Task) -> anyhow::Result<SqliteConnection> {
    let file = task.dir.join(format!("accepts-{}.db", std::process::id()));
    let mut db = durable(&file).connect().await?;
    for sql in [
        "CREATE TABLE messages (id INTEGER PRIMARY KEY, app INTEGER, class INTEGER, spec TEXT, created_at INTEGER) STRICT",
        "CREATE INDEX messages_by_app ON messages (app, id)",
        "CREATE TABLE idempotency (app INTEGER, key_hash BLOB, message INTEGER, PRIMARY KEY (app, key_hash)) STRICT, WITHOUT ROWID",
        "CREATE TABLE work (id INTEGER PRIMARY KEY, channel INTEGER, message INTEGER, due_at INTEGER, payload BLOB) STRICT",
    ] {
        sqlx::query(sql).execute(&mut db).await?;
    }
    Ok(db)
}

async fn write(
    db: &mut SqliteConnection,
    spec: &str,
    group: &[(i64, oneshot::Sender<()>)],
) -> anyhow::Result<()> {
    let mut transaction = db.begin().await?;
    let mut messages =
        QueryBuilder::<Sqlite>::new("INSERT INTO messages (id, app, class, spec, created_at) ");
    messages.push_values(group, |mut row, (number, _)| {
        row.push_bind(*number).push_bind(1).push_bind(0).push_bind(spec).push_bind(*number);
    });
    messages.build().execute(&mut *transaction).await?;
    let mut keys = QueryBuilder::<Sqlite>::new("INSERT INTO idempotency (app, key_hash, message) ");
    keys.push_values(group, |mut row, (number, _)| {
        row.push_bind(1).push_bind(hash(*number)).push_bind(*number);
    });
    keys.build().execute(&mut *transaction).await?;
    let mut work = QueryBuilder::<Sqlite>::new("INSERT INTO work (id, channel, message, due_at, payload) ");
    work.push_values(group, |mut row, (number, _)| {
        row.push_bind(*number).push_bind(1).push_bind(*number).push_bind(*number).push_bind(&[7_u8; 40][..]);
    });
    work.build().execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(())
}

/// Sixteen bytes in no order, as a hash is.
fn hash(number: i64) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &number.to_le_bytes()).as_ref()[..16].to_vec()
}
