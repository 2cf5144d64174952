//! Work items: what must happen later, who has it, and until when.

use std::collections::BTreeMap;

use sqlx::Row as _;

use super::session::{Session, Sql, int, json};
use super::{audit, rows};
use crate::ids::Id;
use crate::store::{Audit, Lease, NewWork, WorkItem, WorkKind, WorkUpdate};

/// Adds work.
pub(super) async fn insert(session: &mut Session, work: &[&NewWork]) -> Sql<()> {
    let head = "INSERT INTO work
        (id, kind, channel, lane, app, message, due_at, attempt, owner, epoch, lease_until, payload) ";
    session
        .write_rows(head, "", work, |row, item| {
            let (node, epoch, until) =
                item.leased.map_or((0, 0, 0), |(node, epoch, until)| (owner(node), epoch, until));
            row.push_bind(item.id.0)
                .push_bind(i64::from(item.kind as u8))
                .push_bind(item.channel)
                .push_bind(i64::from(item.lane as u8))
                .push_bind(item.app)
                .push_bind(item.message.0)
                .push_bind(int(item.due_at))
                .push_bind(i64::from(item.attempt))
                .push_bind(node)
                .push_bind(int(epoch))
                .push_bind(int(until))
                .push_bind(item.payload.as_slice());
        })
        .await
}

/// The owner that is stored for a node: 0 means free, so nodes count from 1.
fn owner(node: u8) -> i64 {
    i64::from(node) + 1
}

/// Changes work that goes on, where the epoch is still the lease's.
pub(super) async fn update(session: &mut Session, updates: &[&WorkUpdate]) -> Sql<()> {
    // Several changes of one item in a group: the last one holds, with the last payload that was given.
    let mut last: BTreeMap<(Id, u64), WorkUpdate> = BTreeMap::new();
    for &update in updates {
        let entry = last.entry((update.id, update.epoch)).or_insert_with(|| update.clone());
        let payload = update.payload.clone().or_else(|| entry.payload.take());
        *entry = WorkUpdate { payload, ..update.clone() };
    }
    let last: Vec<_> = last.into_values().collect();
    let head = "WITH u (id, epoch, due_at, attempt, payload, lease_until) AS (";
    let tail =
        ") UPDATE work SET due_at = u.due_at, attempt = u.attempt, payload = coalesce(u.payload, work.payload),
            owner = iif(u.lease_until = 0, 0, work.owner), lease_until = u.lease_until
         FROM u WHERE work.id = u.id AND work.epoch = u.epoch";
    session
        .write_rows(head, tail, &last, |row, update| {
            row.push_bind(update.id.0)
                .push_bind(int(update.epoch))
                .push_bind(int(update.due_at))
                .push_bind(i64::from(update.attempt))
                .push_bind(update.payload.as_deref())
                .push_bind(int(update.lease_until));
        })
        .await
}

/// Ends work.
pub(super) async fn delete(session: &mut Session, done: &[Id]) -> Sql<()> {
    let ids: Vec<i64> = done.iter().map(|id| id.0).collect();
    session.write_json("DELETE FROM work WHERE id IN (SELECT value FROM json_each(", &ids, "))").await
}

/// Frees what an earlier life of this node left, and counts a new life. The old epoch stays on the rows: whoever
/// leases them next learns that they were begun.
pub(super) async fn begin_epoch(session: &mut Session, node: u8) -> Sql<u64> {
    let query = sqlx::query("UPDATE work SET owner = 0, lease_until = 0 WHERE owner = ?1 AND owner > 0");
    session.run(query.bind(owner(node))).await?;
    let epoch = 1 + read_number(session, "store.epoch").await?;
    write_number(session, "store.epoch", epoch).await?;
    Ok(epoch)
}

/// The newest id of a message or a work item.
pub(super) async fn last_id(session: &mut Session) -> Sql<Id> {
    let query = sqlx::query(
        "SELECT max(coalesce((SELECT max(id) FROM messages), 0), coalesce((SELECT max(id) FROM work), 0))",
    );
    session.row(query).await?.map_or(Ok(Id(0)), |row| row.try_get(0).map(Id))
}

/// A number in `meta`; 0 where it was never written.
pub(super) async fn read_number(session: &mut Session, key: &str) -> Sql<u64> {
    let row = session.row(sqlx::query("SELECT value FROM meta WHERE key = ?1").bind(key)).await?;
    let Some(row) = row else { return Ok(0) };
    let bytes: &[u8] = row.try_get(0)?;
    Ok(bytes.try_into().map_or(0, u64::from_be_bytes))
}

/// Writes a number to `meta`.
pub(super) async fn write_number(session: &mut Session, key: &str, number: u64) -> Sql<()> {
    let query =
        sqlx::query("INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2");
    session.run(query.bind(key).bind(number.to_be_bytes().to_vec())).await.map(drop)
}

/// Leases due work, oldest first.
pub(super) async fn lease(session: &mut Session, lease: &Lease) -> Sql<Vec<WorkItem>> {
    // NULL as lane means any: the index is then walked once for each.
    let query = sqlx::query(
        "SELECT id, kind, channel, lane, app, message, due_at, attempt, owner, epoch, payload FROM work
         WHERE kind = ?1 AND channel = ?2 AND lane IN (coalesce(?3, 0), coalesce(?3, 1), coalesce(?3, 2))
           AND due_at <= ?4 AND lease_until <= ?4
         ORDER BY due_at, id LIMIT ?5",
    );
    let query = query
        .bind(i64::from(lease.kind as u8))
        .bind(lease.channel)
        .bind(lease.lane.map(|lane| i64::from(lane as u8)))
        .bind(int(lease.now_ms))
        .bind(lease.limit as i64);
    let items = session.rows(query).await?.iter().map(rows::work).collect::<Sql<Vec<_>>>()?;
    take(session, lease, items).await
}

/// Leases what waits of a message, due or not.
pub(super) async fn lease_of(session: &mut Session, message: Id, lease: &Lease) -> Sql<Vec<WorkItem>> {
    let query = sqlx::query(
        "SELECT id, kind, channel, lane, app, message, due_at, attempt, owner, epoch, payload FROM work
         WHERE message = ?1 AND kind IN (?2, ?3) AND lease_until <= ?4 ORDER BY id LIMIT ?5",
    );
    let [page, later] = [WorkKind::Page, WorkKind::Escalate].map(|kind| i64::from(kind as u8));
    let query = query.bind(message.0).bind(page).bind(later).bind(int(lease.now_ms)).bind(lease.limit as i64);
    let items = session.rows(query).await?.iter().map(rows::work).collect::<Sql<Vec<_>>>()?;
    take(session, lease, items).await
}

/// Marks a message as cancelled, once; what waits of it is due, so that a restart ends it too. Where it is scheduled and
/// nobody expands it at this moment, it never will be: it ends without targets.
pub(super) async fn cancel(
    session: &mut Session,
    message: Id,
    public_id: &str,
    now_ms: u64,
) -> Sql<Option<u32>> {
    let query = sqlx::query(
        "UPDATE messages SET state = 2, generation = generation + 1, expanded_at = iif(state = 1 AND NOT EXISTS
            (SELECT 1 FROM work WHERE message = ?1 AND kind = ?3 AND owner > 0), ?2, expanded_at)
         WHERE id = ?1 AND state < 2 RETURNING app",
    );
    let expand = i64::from(WorkKind::Expand as u8);
    let query = query.bind(message.0).bind(int(now_ms)).bind(expand);
    if let Some(row) = session.rows(query).await?.first() {
        let app: i64 = row.try_get(0)?;
        audit::note(session, &[Audit::new(app, "message.cancel", format!("messages/{public_id}"))]).await?;
    }
    let query = sqlx::query(
        "DELETE FROM work WHERE message = ?1 AND kind = ?2 AND owner = 0
         AND EXISTS (SELECT 1 FROM messages WHERE id = ?1 AND state = 2 AND expanded_at IS NOT NULL)",
    );
    session.run(query.bind(message.0).bind(expand)).await?;
    let query = sqlx::query(
        "UPDATE work SET due_at = ?2 WHERE message = ?1 AND kind IN (?3, ?4) AND owner = 0 AND due_at > ?2",
    );
    let [page, later] = [WorkKind::Page, WorkKind::Escalate].map(|kind| i64::from(kind as u8));
    session.run(query.bind(message.0).bind(int(now_ms)).bind(page).bind(later)).await?;
    let row =
        session.row(sqlx::query("SELECT generation FROM messages WHERE id = ?1").bind(message.0)).await?;
    row.map(|row| rows::number(&row, 0).map(|n| n as u32)).transpose()
}

/// Cancelled messages of which something waits in an inbox that no phone was given.
pub(super) async fn half_cancelled(session: &mut Session) -> Sql<Vec<Id>> {
    let query = sqlx::query(
        "SELECT id FROM messages WHERE state = 2
         AND EXISTS (SELECT 1 FROM inbox WHERE inbox.message = messages.id AND handed_at IS NULL)",
    );
    session.rows(query).await?.iter().map(|row| rows::id(row, 0)).collect()
}

/// Makes free work of a kind and channel due now that would be by some time.
pub(super) async fn hasten(
    session: &mut Session,
    kind: WorkKind,
    channel: i64,
    until_ms: u64,
    now_ms: u64,
) -> Sql<()> {
    let query = sqlx::query(
        "UPDATE work SET due_at = ?4 WHERE kind = ?1 AND channel = ?2 AND lane IN (0, 1, 2) AND owner = 0
         AND due_at > ?4 AND due_at <= ?3",
    );
    let query = query.bind(i64::from(kind as u8)).bind(channel).bind(int(until_ms)).bind(int(now_ms));
    session.run(query).await.map(drop)
}

async fn take(session: &mut Session, lease: &Lease, mut items: Vec<WorkItem>) -> Sql<Vec<WorkItem>> {
    if items.is_empty() {
        return Ok(items);
    }
    let ids: Vec<i64> = items.iter().map(|item| item.id.0).collect();
    let query = sqlx::query(
        "UPDATE work SET owner = ?2, epoch = ?3, lease_until = ?4
         WHERE id IN (SELECT value FROM json_each(?1))",
    );
    let query =
        query.bind(json(&ids)).bind(owner(lease.node)).bind(int(lease.epoch)).bind(int(lease.until_ms));
    session.run(query).await?;
    for item in &mut items {
        item.epoch = lease.epoch;
    }
    Ok(items)
}

/// When the next free work is due.
pub(super) async fn next_due(session: &mut Session, kind: WorkKind, channel: i64) -> Sql<Option<u64>> {
    let query = sqlx::query(
        "SELECT min(due_at) FROM (
            SELECT * FROM (SELECT due_at FROM work
                WHERE kind = ?1 AND channel = ?2 AND lane = 0 AND owner = 0 ORDER BY due_at LIMIT 1)
            UNION ALL
            SELECT * FROM (SELECT due_at FROM work
                WHERE kind = ?1 AND channel = ?2 AND lane = 1 AND owner = 0 ORDER BY due_at LIMIT 1)
            UNION ALL
            SELECT * FROM (SELECT due_at FROM work
                WHERE kind = ?1 AND channel = ?2 AND lane = 2 AND owner = 0 ORDER BY due_at LIMIT 1))",
    );
    let row = session.row(query.bind(i64::from(kind as u8)).bind(channel)).await?;
    row.map_or(Ok(None), |row| rows::maybe(&row, 0))
}

/// How many items wait, by kind and channel.
pub(super) async fn backlog(session: &mut Session) -> Sql<Vec<(WorkKind, i64, u64)>> {
    let query = sqlx::query("SELECT kind, channel, count(*) FROM work GROUP BY kind, channel");
    let found = session.rows(query).await?;
    found
        .iter()
        .map(|row| Ok((rows::work_kind(row.try_get(0)?)?, row.try_get(1)?, rows::number(row, 2)?)))
        .collect()
}
