//! The journal of callbacks: appended before they are answered, read in order, deleted as they are merged.

use std::collections::BTreeSet;

use async_trait::async_trait;
use sqlx::Row as _;

use super::changes::Batch;
use super::session::{Session, Sql, int};
use super::writer::Job;
use super::{SqliteStore, deliveries, rows};
use crate::delivery::state::Delivery;
use crate::ids::Id;
use crate::store::{Journal, RawReceipt, Result};

/// Most bytes of bodies that one read brings into memory.
const BYTES: u64 = 4 * 1024 * 1024;

#[async_trait]
impl Journal for SqliteStore {
    async fn journal_receipts(&self, receipts: Vec<RawReceipt>) -> Result<()> {
        self.send(|inbox| inbox.rest, |reply| Job::Journal(receipts, reply)).await
    }

    async fn journal_after(&self, seq: i64, limit: usize) -> Result<Vec<RawReceipt>> {
        self.read(async |s| after(s, seq, limit).await).await
    }

    async fn journal_rows(&self) -> Result<u64> {
        self.read(count).await
    }

    async fn recorded(&self, pairs: &[(Id, u64)]) -> Result<Vec<Delivery>> {
        let pairs: BTreeSet<_> = pairs.iter().copied().collect();
        let found = self.read(async |s| deliveries::recorded(s, &pairs).await).await?;
        Ok(found.into_iter().map(|(row, _)| row).collect())
    }

    async fn unrecorded(&self, pairs: &[(Id, u64)]) -> Result<Vec<(Id, u64)>> {
        let pairs = pairs.iter().copied().collect();
        self.read(async |s| deliveries::unrecorded(s, &pairs).await).await
    }
}

/// Appends callbacks, in one statement.
pub(super) async fn append(session: &mut Session, receipts: &[&RawReceipt]) -> Sql<()> {
    let head = "INSERT INTO receipt_journal (channel, received_at, method, envelope, body) ";
    session
        .write_rows(head, "", receipts, |row, receipt| {
            row.push_bind(receipt.channel)
                .push_bind(int(receipt.received_at))
                .push_bind(receipt.method.as_str())
                .push_bind(receipt.envelope.as_slice())
                .push_bind(receipt.body.as_ref());
        })
        .await
}

/// The rows after one. Their sizes are read first: SQLite has them without the bodies.
pub(super) async fn after(session: &mut Session, seq: i64, limit: usize) -> Sql<Vec<RawReceipt>> {
    let query =
        sqlx::query("SELECT seq, length(body) FROM receipt_journal WHERE seq > ?1 ORDER BY seq LIMIT ?2");
    let mut last = seq;
    let mut bytes = 0;
    for row in &session.rows(query.bind(seq).bind(limit as i64)).await? {
        bytes += rows::number(row, 1)?;
        if bytes > BYTES && last > seq {
            break;
        }
        last = row.try_get(0)?;
    }
    let query = sqlx::query(
        "SELECT seq, channel, received_at, method, envelope, body FROM receipt_journal
         WHERE seq > ?1 AND seq <= ?2 ORDER BY seq",
    );
    session.rows(query.bind(seq).bind(last)).await?.iter().map(rows::raw_receipt).collect()
}

/// How many rows there are.
pub(super) async fn count(session: &mut Session) -> Sql<u64> {
    let row = session.row(sqlx::query("SELECT count(*) FROM receipt_journal")).await?;
    row.map_or(Ok(0), |row| rows::number(&row, 0))
}

/// Deletes what the sets of changes have merged.
pub(super) async fn delete_done(session: &mut Session, batch: &Batch<'_>) -> Sql<()> {
    let done: Vec<i64> = batch.sets.iter().flat_map(|set| set.journal_done.iter().copied()).collect();
    if done.is_empty() {
        return Ok(());
    }
    session
        .write_json("DELETE FROM receipt_journal WHERE seq IN (SELECT value FROM json_each(", &done, "))")
        .await
}
