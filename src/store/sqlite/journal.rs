//! The journal of callbacks: appended before they are answered, read in order, deleted as they are merged.

use sqlx::Row as _;

use super::changes::Batch;
use super::rows;
use super::session::{Session, Sql, int, json};
use crate::store::RawReceipt;

/// Most bytes of bodies that one read brings into memory.
const BYTES: u64 = 4 * 1024 * 1024;

/// Appends callbacks, in one statement.
pub(super) async fn append(session: &mut Session, receipts: &[&RawReceipt]) -> Sql<()> {
    let head = "INSERT INTO receipt_journal (channel, received_at, method, envelope, body) ";
    session
        .insert_rows(head, "", receipts, |row, receipt| {
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
    let query = sqlx::query("DELETE FROM receipt_journal WHERE seq IN (SELECT value FROM json_each(?1))");
    session.run(query.bind(json(&done))).await.map(drop)
}
