//! Messages and deliveries, read.

use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::readers::LookUp;
use super::rows;
use super::session::{Session, Sql, int, json};
use crate::delivery::page::Page;
use crate::delivery::state::{Delivery, State};
use crate::ids::Id;
use crate::store::{Counter, DeliveryFilter, MessageFilter, MessageRecord, NewTarget, WorkKind};

macro_rules! message_columns {
    () => {
        "id, app, state, class, spec, label, created_at, deadline_at, expanded_at, targeted, generation,
         send_at"
    };
}

/// The columns that [`rows::delivery`] reads.
macro_rules! delivery_columns {
    () => {
        "message, target, state, reason, channel, vendor_id, updated_ms, accepted_ms, delivered_ms, displayed_ms,
         clicked_ms, trail"
    };
}

/// Messages by id: a page of a short queue needs one each.
pub(super) const MESSAGES: LookUp<(), Id, MessageRecord> = LookUp {
    find: |session, (), ids| Box::pin(messages_by_id(session, ids)),
    by: |message| &message.id,
    abreast: 64,
};

async fn messages_by_id(session: &mut Session, ids: &[Id]) -> Sql<Vec<MessageRecord>> {
    let query = sqlx::query(concat!(
        "SELECT ",
        message_columns!(),
        " FROM messages WHERE id IN (SELECT value FROM json_each(?1))"
    ));
    let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
    session.rows(query.bind(json(&ids))).await?.iter().map(rows::message).collect()
}

/// An app's messages before one, newest first.
pub(super) async fn messages(
    session: &mut Session,
    app: i64,
    filter: &MessageFilter,
    before: Id,
    limit: usize,
) -> Sql<Vec<MessageRecord>> {
    let mut query =
        QueryBuilder::<Sqlite>::new(concat!("SELECT ", message_columns!(), " FROM messages WHERE app = "));
    query.push_bind(app);
    if filter.scheduled {
        query.push(" AND state = 1");
    }
    if let Some(label) = &filter.label {
        query.push(" AND label = ").push_bind(label);
    }
    query.push(" AND id < ").push_bind(before.0);
    query.push(" ORDER BY id DESC LIMIT ").push_bind(limit as i64);
    session.rows(query.build()).await?.iter().map(rows::message).collect()
}

/// A message's counters.
pub(super) async fn counters(session: &mut Session, message: Id) -> Sql<Vec<Counter>> {
    let query = sqlx::query(
        "SELECT channel, kind, code, reason, n FROM message_stats WHERE message = ?1 AND n > 0
         ORDER BY channel, kind, code, reason",
    );
    session.rows(query.bind(message.0)).await?.iter().map(rows::counter).collect()
}

/// Devices to which a newer message of a collapse key was handed over, or is being tried. Where there is no newer
/// message of the key, which is nearly always so, the first part finds nothing and no device is looked at.
pub(super) async fn newer_of_key(
    session: &mut Session,
    app: i64,
    collapse: i64,
    than: Id,
    devices: &[u64],
) -> Sql<Vec<u64>> {
    let query = sqlx::query(
        "SELECT DISTINCT d.target FROM
            (SELECT 1 FROM messages WHERE app = ?1 AND collapse = ?2 AND id > ?3 LIMIT 1)
            CROSS JOIN json_each(?4) AS t
            CROSS JOIN deliveries AS d INDEXED BY deliveries_by_target ON d.target = t.value AND d.message > ?3
            CROSS JOIN messages AS m ON m.id = d.message AND m.app = ?1 AND m.collapse = ?2
         WHERE d.accepted_ms IS NOT NULL OR d.state IN (?5, ?6)",
    );
    let [pending, unknown] = [State::Pending, State::Unknown].map(|state| i64::from(state.code()));
    let query = query.bind(app).bind(collapse).bind(than.0).bind(json(devices)).bind(pending).bind(unknown);
    session.rows(query).await?.iter().map(|row| rows::number(row, 0)).collect()
}

/// A message's recorded deliveries after a target.
pub(super) async fn deliveries(
    session: &mut Session,
    message: Id,
    filter: DeliveryFilter,
    after: Option<u64>,
    limit: usize,
) -> Sql<Vec<Delivery>> {
    let mut query = QueryBuilder::<Sqlite>::new(concat!(
        "SELECT ",
        delivery_columns!(),
        " FROM deliveries WHERE message = "
    ));
    query.push_bind(message.0);
    query.push(" AND target > ").push_bind(after.map_or(-1, |after| after as i64));
    if let Some(state) = filter.state {
        query.push(" AND state = ").push_bind(i64::from(state.code()));
    }
    if let Some(channel) = filter.channel {
        query.push(" AND channel = ").push_bind(channel);
    }
    if filter.reason.is_some() {
        query.push(" AND reason = ").push_bind(rows::reason_code(filter.reason));
    }
    query.push(" ORDER BY target LIMIT ").push_bind(limit as i64);
    session.rows(query.build()).await?.iter().map(rows::delivery).collect()
}

/// The recorded deliveries of these targets, by target.
pub(super) async fn deliveries_of(session: &mut Session, message: Id, targets: &[u64]) -> Sql<Vec<Delivery>> {
    let query = sqlx::query(concat!(
        "SELECT ",
        delivery_columns!(),
        " FROM deliveries WHERE message = ?1 AND target IN (SELECT value FROM json_each(?2)) ORDER BY target"
    ));
    session.rows(query.bind(message.0).bind(json(targets))).await?.iter().map(rows::delivery).collect()
}

/// The pages of a message that wait in work items.
pub(super) async fn pending_pages(session: &mut Session, message: Id, limit: usize) -> Sql<Vec<Page>> {
    let query =
        sqlx::query("SELECT payload FROM work WHERE message = ?1 AND kind IN (?2, ?3) ORDER BY id LIMIT ?4");
    let [page, later] = [WorkKind::Page, WorkKind::Escalate].map(|kind| i64::from(kind as u8));
    let query = query.bind(message.0).bind(page).bind(later).bind(limit as i64);
    let found = session.rows(query).await?;
    let pages = found.iter().map(|row| row.try_get::<&[u8], _>(0).map(Page::decode));
    Ok(pages.collect::<Sql<Vec<_>>>()?.into_iter().flatten().collect())
}

/// What a target got before a message, newest first. Of a large message that is just being forgotten nothing is told.
pub(super) async fn deliveries_to(
    session: &mut Session,
    target: u64,
    before: Id,
    limit: usize,
) -> Sql<Vec<Delivery>> {
    let query = sqlx::query(concat!(
        "SELECT ",
        delivery_columns!(),
        " FROM deliveries AS d WHERE target = ?1 AND message < ?2
            AND EXISTS (SELECT 1 FROM messages AS m WHERE m.id = d.message)
         ORDER BY message DESC LIMIT ?3"
    ));
    let query = query.bind(int(target)).bind(before.0).bind(limit as i64);
    session.rows(query).await?.iter().map(rows::delivery).collect()
}

/// What the devices of a user got, newest first. Found along the index alone, then read.
pub(super) async fn deliveries_to_user(
    session: &mut Session,
    app: i64,
    user: &str,
    (message, target): (Id, u64),
    limit: usize,
) -> Sql<Vec<Delivery>> {
    let query = sqlx::query(concat!(
        "WITH f AS MATERIALIZED (SELECT i.message, i.target
            FROM devices AS u CROSS JOIN deliveries AS i INDEXED BY deliveries_by_target
            ON i.target = u.seq AND i.message <= ?3 AND (i.message < ?3 OR i.target < ?4)
            WHERE u.app = ?1 AND u.user_id = ?2 AND EXISTS (SELECT 1 FROM messages AS m WHERE m.id = i.message)
            ORDER BY i.message DESC, i.target DESC LIMIT ?5)
         SELECT ",
        delivery_columns!(),
        " FROM f CROSS JOIN deliveries AS d USING (message, target) ORDER BY message DESC, target DESC"
    ));
    let query = query.bind(app).bind(user).bind(message.0).bind(int(target)).bind(limit as i64);
    session.rows(query).await?.iter().map(rows::delivery).collect()
}

/// Targets given in the call, by token.
pub(super) async fn given_tokens(
    session: &mut Session,
    message: Id,
    tokens: &[String],
) -> Sql<Vec<(String, u64)>> {
    let query = sqlx::query(
        "SELECT token, idx FROM message_targets
         WHERE message = ?1 AND token IN (SELECT value FROM json_each(?2)) ORDER BY idx",
    );
    let found = session.rows(query.bind(message.0).bind(json(tokens))).await?;
    found.iter().map(|row| Ok((row.try_get(0)?, rows::number(row, 1)?))).collect()
}

/// Targets given in the call, by index.
pub(super) async fn given_targets(
    session: &mut Session,
    message: Id,
    indexes: &[u64],
) -> Sql<Vec<(u64, NewTarget)>> {
    let query = sqlx::query(
        "SELECT idx, provider, kind, token, params, given FROM message_targets
         WHERE message = ?1 AND idx IN (SELECT value FROM json_each(?2)) ORDER BY idx",
    );
    let found = session.rows(query.bind(message.0).bind(json(indexes))).await?;
    let target = |row| -> Sql<(u64, NewTarget)> {
        let target = NewTarget {
            provider: sqlx::Row::try_get(row, 1)?,
            kind: sqlx::Row::try_get(row, 2)?,
            token: sqlx::Row::try_get(row, 3)?,
            params: sqlx::Row::try_get(row, 4)?,
            given: sqlx::Row::try_get(row, 5)?,
        };
        Ok((rows::number(row, 0)?, target))
    };
    found.iter().map(target).collect()
}
