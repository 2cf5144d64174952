//! P-db for receipts: rows of deliveries, updated in random order, a thousand in a durable transaction.

use std::path::PathBuf;

use rand::seq::SliceRandom as _;
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

use super::{Reached, measured};

/// Rows of one transaction.
const ROWS: usize = 1000;

/// What to write.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    /// Where; on the disk that the gateway writes to.
    pub(crate) dir: PathBuf,
    pub(crate) rows: u64,
}

pub(super) async fn run(task: Task) -> anyhow::Result<Reached> {
    let file = task.dir.join(format!("receipts-{}.db", std::process::id()));
    let options = SqliteConnectOptions::new()
        .filename(&file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("cache_size", "-65536");
    let mut db = options.connect().await?;
    fill(&mut db, task.rows).await?;
    let mut targets: Vec<u64> = (0..task.rows).collect();
    targets.shuffle(&mut rand::rng());
    let reached = measured(update(&mut db, &targets)).await?;
    db.close().await?;
    std::fs::remove_file(file)?;
    Ok(reached)
}

/// Accepted deliveries of one message, as the gateway has them.
async fn fill(db: &mut SqliteConnection, rows: u64) -> anyhow::Result<()> {
    let sql = "CREATE TABLE deliveries (message INTEGER NOT NULL, target INTEGER NOT NULL, state INTEGER NOT NULL,
        reason INTEGER, channel INTEGER NOT NULL, vendor_id TEXT, updated_ms INTEGER NOT NULL, accepted_ms INTEGER,
        delivered_ms INTEGER, trail BLOB, PRIMARY KEY (message, target)) STRICT, WITHOUT ROWID";
    sqlx::query(sql).execute(&mut *db).await?;
    sqlx::query("CREATE TABLE counters (state INTEGER PRIMARY KEY, n INTEGER NOT NULL)")
        .execute(&mut *db)
        .await?;
    sqlx::query("INSERT INTO counters VALUES (1, ?1), (2, 0)").bind(rows as i64).execute(&mut *db).await?;
    let query = sqlx::query(
        "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1)
         INSERT INTO deliveries SELECT 1, i, 1, NULL, 1, hex(randomblob(16)), 40, 40, NULL, randomblob(24) FROM n",
    );
    query.bind(rows as i64).execute(&mut *db).await?;
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(db).await?;
    Ok(())
}

async fn update(db: &mut SqliteConnection, targets: &[u64]) -> anyhow::Result<u64> {
    for part in targets.chunks(ROWS) {
        let mut transaction = db.begin().await?;
        let query = sqlx::query(
            "UPDATE deliveries SET state = 2, updated_ms = 1000, delivered_ms = 1000, trail = CAST(trail || x'0a02e8070102' AS BLOB)
             WHERE message = 1 AND target IN (SELECT value FROM json_each(?1))",
        );
        query.bind(serde_json::to_string(part)?).execute(&mut *transaction).await?;
        let query = sqlx::query("UPDATE counters SET n = n + CASE state WHEN 2 THEN ?1 ELSE -?1 END");
        query.bind(part.len() as i64).execute(&mut *transaction).await?;
        transaction.commit().await?;
    }
    Ok(targets.len() as u64)
}
