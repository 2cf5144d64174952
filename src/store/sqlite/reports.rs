//! Reports, read: counters alone, never the rows that they count.

use std::collections::BTreeMap;

use anypush_providers::contract::Reason;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::rows;
use super::session::{Session, Sql, json};
use crate::delivery::state::View;
use crate::store::{ChannelStats, Counted, ReportAsk, ReportGroup, ReportRow};

/// The numbers that a question asks for; those that are zero are left out.
pub(super) async fn deliveries(session: &mut Session, ask: &ReportAsk) -> Sql<Vec<ReportRow>> {
    let mut query = question("", ask);
    session.rows(query.build()).await?.iter().map(record).collect()
}

/// Each stretch of time is a range of the key. `before` stands before the statement.
pub(super) fn question(before: &'static str, ask: &ReportAsk) -> QueryBuilder<Sqlite> {
    let by = ask.by;
    let mut query = QueryBuilder::<Sqlite>::new(before);
    query.push("SELECT b.key");
    for (told, column) in [
        (by.channel, ", s.channel"),
        (by.platform, ", s.platform"),
        (by.class, ", s.class"),
        (by.label, ", s.label"),
        (by.reason, ", s.reason"),
    ] {
        query.push(if told { column } else { ", NULL" });
    }
    query.push(", s.kind, s.code, sum(s.n) FROM json_each(").push_bind(json(&ask.spans));
    query.push(") AS b CROSS JOIN stats AS s ON s.app = ").push_bind(ask.app);
    query.push(" AND s.quarter >= b.value ->> 0 AND s.quarter < b.value ->> 1 WHERE true");
    if let Some(channels) = &ask.channels {
        query.push(" AND s.channel IN (SELECT value FROM json_each(").push_bind(json(channels)).push("))");
    }
    if let Some(platform) = ask.platform {
        query.push(" AND s.platform = ").push_bind(i64::from(platform));
    }
    if let Some(class) = ask.class {
        query.push(" AND s.class = ").push_bind(rows::class_code(class));
    }
    if let Some(label) = &ask.label {
        query.push(" AND s.label = ").push_bind(label.clone());
    }
    query.push(" GROUP BY 1, 2, 3, 4, 5, 6, 7, 8 HAVING sum(s.n) <> 0");
    query
}

fn record(row: &SqliteRow) -> Sql<ReportRow> {
    let group = ReportGroup {
        channel: row.try_get::<Option<i64>, _>(1)?.unwrap_or(0),
        platform: row.try_get::<Option<i64>, _>(2)?.unwrap_or(0) as u8,
        class: row.try_get::<Option<i64>, _>(3)?.unwrap_or(0) as u8,
        label: row.try_get::<Option<String>, _>(4)?.unwrap_or_default(),
        reason: row.try_get::<Option<i64>, _>(5)?.filter(|code| *code != 0).map(rows::reason).transpose()?,
    };
    let state = rows::state(row.try_get(7)?)?;
    let counted = match row.try_get::<i64, _>(6)? {
        0 => Counted::In(View::Now, state),
        1 => Counted::In(View::Reached, state),
        2 => Counted::Targeted,
        other => return Err(rows::odd("counter", other)),
    };
    Ok(ReportRow { span: rows::number(row, 0)? as usize, group, counted, n: row.try_get(8)? })
}

/// How these channels' tries went in these hours since 1970.
pub(super) async fn channels(
    session: &mut Session,
    channels: &[i64],
    (from, to): (u64, u64),
) -> Sql<Vec<ChannelStats>> {
    let query = sqlx::query(
        "SELECT s.channel, s.kind, s.code, sum(s.n) FROM json_each(?1) AS c
         CROSS JOIN channel_stats AS s ON s.channel = c.value AND s.hour >= ?2 AND s.hour < ?3
         GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
    );
    let found = session.rows(query.bind(json(channels)).bind(from as i64).bind(to as i64)).await?;
    let mut all: BTreeMap<i64, ChannelStats> = BTreeMap::new();
    for row in &found {
        let (channel, code, n): (i64, i64, u64) = (row.try_get(0)?, row.try_get(2)?, rows::number(row, 3)?);
        let stats = all.entry(channel).or_insert_with(|| ChannelStats { channel, ..ChannelStats::default() });
        if row.try_get::<i64, _>(1)? == 0 {
            let reason: Option<Reason> = (code != 0).then(|| rows::reason(code)).transpose()?;
            stats.tries.push((reason, n));
        } else {
            stats.latency.push((code as u8, n));
        }
    }
    Ok(all.into_values().collect())
}
