//! What is forgotten with age: ranges of the oldest rows, a few thousand in a transaction.
//!
//! A message goes whole: its row, and with it everything that the API shows of it, in one transaction. The deliveries of a
//! large one are too many for that; its number is noted with the deletion of its row, and the rest goes in the transactions
//! after it, also those of a later life.

use async_trait::async_trait;
use sqlx::Row as _;

use super::periods::{QUARTERS, around_hour};
use super::session::{Session, Sql, int, json};
use super::stats::WHOLE;
use super::{SqliteStore, accept, audit, rows, work};
use crate::clock::{DAY_MS, HOUR_MS};
use crate::failpoint::failpoint;
use crate::ids::Id;
use crate::store::{Aged, Forgotten, QUARTER_MS, Result, Retention};

/// Messages that one transaction looks at.
const LOOKED_AT: usize = 1000;
/// The message whose row is gone and whose deliveries are not yet.
const HALF_GONE: &str = "store.half_forgotten";

#[async_trait]
impl Retention for SqliteStore {
    async fn forget(&self, what: Aged, before_ms: u64, place: i64, limit: usize) -> Result<Forgotten> {
        self.call(move |s| Box::pin(async move { forget(s, what, before_ms, place, limit).await.map(Ok) }))
            .await
    }
}

async fn forget(session: &mut Session, what: Aged, before: u64, place: i64, limit: usize) -> Sql<Forgotten> {
    let things = match what {
        Aged::Messages => return messages(session, before, place, limit).await,
        Aged::IdempotencyKeys => accept::prune(session, before, limit).await?,
        Aged::Nonces => nonces(session, before, limit).await?,
        Aged::WebhookAttempts => attempts(session, before, limit).await?,
        Aged::Reports => return reports(session, before, limit).await,
        Aged::ChannelStats => channels(session, before, limit).await?,
        Aged::Audit => audit::forget(session, before, limit).await?,
    };
    Ok(Forgotten { things, more: things as usize >= limit, ..Forgotten::default() })
}

/// A message that may be too old.
struct Candidate {
    id: i64,
    /// Rows that go with it.
    weight: usize,
    is_over: bool,
}

async fn messages(session: &mut Session, before: u64, place: i64, limit: usize) -> Sql<Forgotten> {
    let half_gone = work::read_number(session, HALF_GONE).await?;
    if half_gone > 0 {
        let gone = the_rest(session, half_gone as i64, limit).await?;
        return Ok(Forgotten { deliveries: gone, place, more: true, ..Forgotten::default() });
    }
    let found = candidates(session, before, place).await?;
    let mut forgotten = Forgotten { place, more: found.len() == LOOKED_AT, ..Forgotten::default() };
    let mut gone = Vec::new();
    let mut weight = 0;
    for Candidate { id, weight: own, is_over } in found {
        if is_over && weight > 0 && weight + own > limit {
            forgotten.more = true;
            break;
        }
        forgotten.place = id;
        if is_over {
            gone.push(id);
            weight += own;
        }
        if weight > limit {
            forgotten.more = true;
            break;
        }
    }
    if gone.is_empty() {
        return Ok(forgotten);
    }
    forgotten.things = gone.len() as u64;
    forgotten.deliveries = if weight > limit && gone.len() == 1 {
        work::write_number(session, HALF_GONE, gone[0] as u64).await?;
        the_rest(session, gone[0], limit).await?
    } else {
        let all = json(&gone);
        let every = "DELETE FROM message_targets WHERE message IN (SELECT value FROM json_each(?1))";
        session.run(sqlx::query(every).bind(&all)).await?;
        let every = "DELETE FROM deliveries WHERE message IN (SELECT value FROM json_each(?1))";
        session.run(sqlx::query(every).bind(all)).await?
    };
    failpoint!("purge.before_message");
    for own in [
        "DELETE FROM message_stats WHERE message IN (SELECT value FROM json_each(?1))",
        "DELETE FROM inbox WHERE message IN (SELECT value FROM json_each(?1))",
        "DELETE FROM messages WHERE id IN (SELECT value FROM json_each(?1))",
    ] {
        session.run(sqlx::query(own).bind(json(&gone))).await?;
    }
    Ok(forgotten)
}

/// The oldest messages after one, and which of them are over: wholly expanded, nothing pending, nothing that must still be
/// done, and their time to live ended before.
async fn candidates(session: &mut Session, before: u64, place: i64) -> Sql<Vec<Candidate>> {
    let query = sqlx::query(
        "SELECT m.id, 1 + m.targeted + (SELECT count(*) FROM message_targets AS t WHERE t.message = m.id),
            m.deadline_at < ?3 AND m.expanded_at IS NOT NULL
                AND NOT EXISTS (SELECT 1 FROM work AS w WHERE w.message = m.id)
                AND m.targeted = (SELECT coalesce(sum(s.n), 0) FROM message_stats AS s
                    WHERE s.message = m.id AND s.kind = 0)
         FROM messages AS m WHERE m.id > ?1 AND m.id < ?2 ORDER BY m.id LIMIT ?4",
    );
    let bound = Id::floor_at(before).0;
    let query = query.bind(place).bind(bound).bind(int(before)).bind(LOOKED_AT as i64);
    let found = session.rows(query).await?;
    let read = |row: &sqlx::sqlite::SqliteRow| {
        let is_over = row.try_get::<Option<i64>, _>(2)? == Some(1);
        Ok(Candidate { id: row.try_get(0)?, weight: rows::number(row, 1)? as usize, is_over })
    };
    found.iter().map(read).collect()
}

/// Some more of a message whose row is gone; how many deliveries.
async fn the_rest(session: &mut Session, message: i64, limit: usize) -> Sql<u64> {
    let query = sqlx::query(
        "DELETE FROM deliveries WHERE message = ?1 AND target <= (SELECT max(target) FROM
            (SELECT target FROM deliveries WHERE message = ?1 ORDER BY target LIMIT ?2))",
    );
    let deliveries = session.run(query.bind(message).bind(limit as i64)).await?;
    let left = limit.saturating_sub(deliveries as usize);
    if left == 0 {
        return Ok(deliveries);
    }
    let query = sqlx::query(
        "DELETE FROM message_targets WHERE message = ?1 AND idx <= (SELECT max(idx) FROM
            (SELECT idx FROM message_targets WHERE message = ?1 ORDER BY idx LIMIT ?2))",
    );
    let targets = session.run(query.bind(message).bind(left as i64)).await?;
    if (targets as usize) < left {
        work::write_number(session, HALF_GONE, 0).await?;
    }
    Ok(deliveries)
}

async fn nonces(session: &mut Session, before: u64, limit: usize) -> Sql<u64> {
    let query = sqlx::query(
        "DELETE FROM registration_nonces WHERE (key, nonce) IN
            (SELECT key, nonce FROM registration_nonces WHERE until <= ?1 ORDER BY until LIMIT ?2)",
    );
    session.run(query.bind(int(before)).bind(limit as i64)).await
}

/// Attempts are numbered on from the newest, so that one stays.
async fn attempts(session: &mut Session, before: u64, limit: usize) -> Sql<u64> {
    let query = sqlx::query(
        "DELETE FROM webhook_attempts WHERE (webhook, seq) IN
            (SELECT a.webhook, a.seq FROM webhooks AS w CROSS JOIN webhook_attempts AS a ON a.webhook = w.seq
             WHERE a.at < ?1
                AND a.seq < (SELECT max(l.seq) FROM webhook_attempts AS l WHERE l.webhook = w.seq) LIMIT ?2)",
    );
    session.run(query.bind(int(before)).bind(limit as i64)).await
}

/// The oldest counters of one app, by whole days: a report never counts half of a point.
async fn reports(session: &mut Session, before: u64, limit: usize) -> Sql<Forgotten> {
    let (first_kept, day) = ((before / DAY_MS) * DAY_MS / QUARTER_MS, before / DAY_MS);
    let query = sqlx::query(
        "SELECT a.seq, (SELECT s.period FROM stats AS s WHERE s.app = a.seq AND s.grain = 0 AND s.period < ?1
            ORDER BY s.period LIMIT 1 OFFSET ?2)
         FROM apps AS a
         WHERE EXISTS (SELECT 1 FROM stats AS s WHERE s.app = a.seq AND s.grain = 0 AND s.period < ?1) LIMIT 1",
    );
    let query = query.bind(first_kept as i64).bind(limit as i64);
    let Some(row) = session.row(query).await? else {
        let things = labels(session, day, limit).await?;
        return Ok(Forgotten { things, more: things as usize >= limit, ..Forgotten::default() });
    };
    let app: i64 = row.try_get(0)?;
    let quarters = DAY_MS / QUARTER_MS;
    // At least one day, and no day in part.
    let until = match rows::maybe(&row, 1)? {
        Some(quarter) => quarter / quarters * quarters,
        None => first_kept,
    };
    let oldest = session
        .row(sqlx::query("SELECT min(period) FROM stats WHERE app = ?1 AND grain = 0").bind(app))
        .await?
        .map_or(Ok(None), |row| rows::maybe(&row, 0))?
        .unwrap_or_default();
    let until = until.max((oldest / quarters + 1) * quarters).min(first_kept);
    let mut things = 0;
    for (grain, length) in QUARTERS.into_iter().enumerate() {
        let query = sqlx::query("DELETE FROM stats WHERE app = ?1 AND grain IN (?2, ?3) AND period < ?4");
        let query = query.bind(app).bind(grain as i64).bind((WHOLE + grain) as i64);
        things += session.run(query.bind(int(until / length))).await?;
    }
    Ok(Forgotten { things, more: true, ..Forgotten::default() })
}

/// Labels of days whose counters are gone.
async fn labels(session: &mut Session, before_day: u64, limit: usize) -> Sql<u64> {
    let query = sqlx::query(
        "DELETE FROM report_labels WHERE (app, day, label) IN
            (SELECT l.app, l.day, l.label FROM apps AS a CROSS JOIN report_labels AS l ON l.app = a.seq
             WHERE l.day < ?1 LIMIT ?2)",
    );
    session.run(query.bind(int(before_day)).bind(limit as i64)).await
}

async fn channels(session: &mut Session, before: u64, limit: usize) -> Sql<u64> {
    let query = sqlx::query(
        "DELETE FROM channel_stats WHERE (channel, grain, period, kind, code) IN
            (SELECT s.channel, s.grain, s.period, s.kind, s.code FROM channels AS c CROSS JOIN json_each(?1) AS g
             CROSS JOIN channel_stats AS s ON s.channel = c.seq AND s.grain = g.key AND s.period < g.value LIMIT ?2)",
    );
    // A period of which a part is kept stays whole.
    let periods: Vec<u64> = around_hour(before / HOUR_MS).map(|(_, period)| period).collect();
    session.run(query.bind(json(&periods)).bind(limit as i64)).await
}
