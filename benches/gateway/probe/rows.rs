//! P-db for deliveries: their rows, a thousand in a durable transaction, inserted in order or updated in random order, by a
//! program that decides nothing. The database is set as the gateway's is.

use std::path::PathBuf;

use anyhow::ensure;
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use rand::seq::SliceRandom as _;
use serde::{Deserialize, Serialize};
use sqlx::query_builder::QueryBuilder;
use sqlx::{ConnectOptions as _, Connection as _, Sqlite, SqliteConnection};

use super::{Reached, durable, measured};

/// Rows of one transaction.
const ROWS: usize = 1000;

/// What to write.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    /// Where; on the disk that the gateway writes to.
    pub(crate) dir: PathBuf,
    pub(crate) rows: u64,
    pub(crate) what: What,
}

/// What is measured.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum What {
    /// Outcomes of a campaign: new rows.
    Insert,
    /// Receipts of it.
    Update,
    /// Receipts that name tokens: their devices are found and their rows read before.
    Receipts,
}

pub(super) async fn run(task: Task) -> anyhow::Result<Reached> {
    let file = task.dir.join(format!("rows-{}.db", std::process::id()));
    let mut db = durable(&file).pragma("cache_size", "-8192").connect().await?;
    create(&mut db).await?;
    let mut targets: Vec<u64> = (0..task.rows).collect();
    let reached = match task.what {
        What::Insert => measured(insert(&mut db, &targets)).await?,
        What::Update | What::Receipts => {
            insert(&mut db, &targets).await?;
            let told = matches!(task.what, What::Receipts);
            if told {
                register(&mut db, &targets).await?;
            }
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut db).await?;
            targets.shuffle(&mut rand::rng());
            measured(update(&mut db, &targets, told)).await?
        }
    };
    db.close().await?;
    std::fs::remove_file(file)?;
    Ok(reached)
}

/// What the gateway keeps of a delivery, and its index by device.
async fn create(db: &mut SqliteConnection) -> anyhow::Result<()> {
    let sql = "CREATE TABLE deliveries (message INTEGER NOT NULL, target INTEGER NOT NULL, state INTEGER NOT NULL,
        reason INTEGER, channel INTEGER NOT NULL, vendor_id BLOB, updated_ms INTEGER NOT NULL, accepted_ms INTEGER,
        delivered_ms INTEGER, trail BLOB, PRIMARY KEY (message, target)) STRICT, WITHOUT ROWID;
        CREATE INDEX deliveries_by_target ON deliveries (target, message);
        CREATE TABLE addresses (device INTEGER PRIMARY KEY, provider TEXT NOT NULL, kind TEXT NOT NULL, token TEXT NOT NULL,
            token_hash BLOB NOT NULL) STRICT;
        CREATE UNIQUE INDEX addresses_by_token ON addresses (provider, kind, token_hash);
        CREATE TABLE counters (state INTEGER PRIMARY KEY, n INTEGER NOT NULL);
        INSERT INTO counters VALUES (1, 0), (2, 0)";
    sqlx::raw_sql(sql).execute(db).await?;
    Ok(())
}

/// Accepted deliveries of one message.
async fn insert(db: &mut SqliteConnection, targets: &[u64]) -> anyhow::Result<u64> {
    let head = "INSERT INTO deliveries (message, target, state, channel, vendor_id, updated_ms, accepted_ms, trail) ";
    for part in targets.chunks(ROWS) {
        let mut transaction = db.begin().await?;
        let mut query = QueryBuilder::<Sqlite>::new(head);
        query.push_values(part, |mut row, target| {
            let id = [1_u8; 9].into_iter().chain(target.to_le_bytes()).collect::<Vec<_>>();
            row.push_bind(1).push_bind(*target as i64).push_bind(1).push_bind(1).push_bind(id);
            row.push_bind(40).push_bind(40).push_bind([7_u8; 24].as_slice());
        });
        query.build().persistent(part.len() == ROWS).execute(&mut *transaction).await?;
        count(&mut transaction, 1, part.len()).await?;
        transaction.commit().await?;
    }
    Ok(targets.len() as u64)
}

/// What the vendor calls a target; as stored, half of it.
fn token_hash(target: u64) -> String {
    HEXLOWER.encode(&digest(&SHA256, &target.to_le_bytes()).as_ref()[..16])
}

/// The targets' addresses.
async fn register(db: &mut SqliteConnection, targets: &[u64]) -> anyhow::Result<()> {
    for part in targets.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "INSERT INTO addresses (device, provider, kind, token, token_hash) SELECT column1, 'huawei', 'token', column2, unhex(column2) FROM (",
        );
        query.push_values(part, |mut row, target| {
            row.push_bind(*target as i64).push_bind(token_hash(*target));
        });
        query.push(")").build().persistent(false).execute(&mut *db).await?;
    }
    Ok(())
}

/// Whom a report is about, and what is written of them.
async fn read(db: &mut SqliteConnection, targets: &[u64]) -> anyhow::Result<()> {
    let tokens: Vec<String> = targets.iter().map(|target| token_hash(*target)).collect();
    let sql = "SELECT json_group_array(json_array(t.value, a.device)) FROM json_each(?1) AS t
         CROSS JOIN addresses AS a ON a.provider = 'huawei' AND a.kind = 'token' AND a.token_hash = unhex(t.value)";
    let found: String =
        sqlx::query_scalar(sql).bind(serde_json::to_string(&tokens)?).fetch_one(&mut *db).await?;
    let found: Vec<(String, u64)> = serde_json::from_str(&found)?;
    ensure!(found.len() == targets.len(), "{} of {} tokens are known", found.len(), targets.len());
    let devices: Vec<u64> = found.into_iter().map(|(_, device)| device).collect();
    let sql = "SELECT json_group_array(json_array(d.target, d.state, d.channel, hex(d.vendor_id), d.accepted_ms, hex(d.trail)))
         FROM json_each(?1) AS t CROSS JOIN deliveries AS d ON d.message = 1 AND d.target = t.value";
    let rows: String =
        sqlx::query_scalar(sql).bind(serde_json::to_string(&devices)?).fetch_one(&mut *db).await?;
    let rows: Vec<(u64, u8, i64, String, u64, String)> = serde_json::from_str(&rows)?;
    ensure!(rows.iter().all(|(_, state, ..)| *state == 1), "each is reported once");
    Ok(())
}

/// Deliveries that have come; `told` by the vendor's word for them.
async fn update(db: &mut SqliteConnection, targets: &[u64], told: bool) -> anyhow::Result<u64> {
    for part in targets.chunks(ROWS) {
        let mut transaction = db.begin().await?;
        if told {
            read(&mut transaction, part).await?;
        }
        let query = sqlx::query(
            "UPDATE deliveries SET state = 2, updated_ms = 1000, delivered_ms = 1000, trail = CAST(trail || x'0a02e8070102' AS BLOB)
             WHERE message = 1 AND target IN (SELECT value FROM json_each(?1))",
        );
        query.bind(serde_json::to_string(part)?).execute(&mut *transaction).await?;
        count(&mut transaction, 2, part.len()).await?;
        transaction.commit().await?;
    }
    Ok(targets.len() as u64)
}

/// So many come to a state.
async fn count(db: &mut SqliteConnection, state: i64, n: usize) -> anyhow::Result<()> {
    let query = sqlx::query("UPDATE counters SET n = n + CASE state WHEN ?1 THEN ?2 ELSE -?2 END");
    query.bind(state).bind(n as i64).execute(db).await?;
    Ok(())
}
