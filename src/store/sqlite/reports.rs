//! Reports, read: counters alone, never the rows that they count.

use std::collections::BTreeMap;

use anypush_providers::contract::Reason;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::periods::{HOURS, QUARTERS, cover};
use super::rows;
use super::session::{Session, Sql, json};
use super::stats::WHOLE;
use super::tally::{self, Counter, Sums};
use crate::delivery::state::View;
use crate::store::{ChannelStats, Counted, ReportAsk, ReportGroup, ReportRow};

/// The numbers that a question asks for; those that are zero are left out.
pub(super) async fn deliveries(session: &mut Session, ask: &ReportAsk) -> Sql<Vec<ReportRow>> {
    let mut sums: BTreeMap<(usize, u8, String), Sums> = BTreeMap::new();
    let joined = is_joined(ask);
    let mut see = |first: usize, row: SqliteRow| {
        let class = if ask.by.class { row.try_get::<i64, _>(1)? as u8 } else { 0 };
        let label = if ask.by.label { row.try_get(2)? } else { String::new() };
        let span = first + rows::number(&row, 0)? as usize;
        let sums = sums.entry((span, class, label)).or_default();
        let counts: &[u8] = row.try_get::<Option<_>, _>(3)?.unwrap_or_default();
        tally::decode_hex(counts, |counter, n| {
            if is_asked(ask, counter) {
                *sums.entry(told_apart(ask, counter)).or_insert(0) += n;
            }
        })
    };
    let abreast = if joined { ABREAST } else { ask.spans.len().max(1) };
    for (nth, spans) in ask.spans.chunks(abreast).enumerate() {
        session.each(question("", ask, spans).build(), |row| see(nth * abreast, row)).await?;
    }
    let mut found = Vec::new();
    for ((span, class, label), sums) in sums {
        for (counter, n) in sums.into_iter().filter(|(_, n)| *n != 0) {
            found.push(record(span, (class, &label), counter, n)?);
        }
    }
    Ok(found)
}

/// Where neither classes nor labels are told apart, all values of a stretch of time are joined to one: a row of its own
/// costs more than what is in it.
fn is_joined(ask: &ReportAsk) -> bool {
    !ask.by.class && !ask.by.label
}

/// Joined values that are asked for at a time: the database hands out rows before they are taken, and a busy day in a zone
/// whose days are not the counters' is a megabyte.
const ABREAST: usize = 32;

/// Each stretch of time is a few ranges of the key. `before` stands before the statement.
pub(super) fn question(before: &'static str, ask: &ReportAsk, spans: &[(u64, u64)]) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::<Sqlite>::new(before);
    let joined = is_joined(ask);
    let whole = joined && ask.class.is_none() && ask.label.is_none();
    let grains = |(grain, first, out)| (if whole { WHOLE + grain } else { grain }, first, out);
    let ranges = |span: &(u64, u64)| cover(&QUARTERS, *span).into_iter().map(grains).collect::<Vec<_>>();
    let spans: Vec<_> = spans.iter().map(ranges).collect();
    if joined {
        query.push("SELECT b.key, NULL, NULL, (SELECT group_concat(hex(s.counts), '') FROM");
    } else {
        query.push("SELECT b.key, s.class, s.label, hex(s.counts) FROM json_each(").push_bind(json(&spans));
        query.push(") AS b CROSS JOIN");
    }
    query.push(" json_each(b.value) AS p CROSS JOIN stats AS s WHERE s.app = ").push_bind(ask.app);
    query.push(" AND s.grain = p.value ->> 0 AND s.period >= p.value ->> 1 AND s.period < p.value ->> 2");
    if let Some(class) = ask.class {
        query.push(" AND s.class = ").push_bind(rows::class_code(class));
    }
    if let Some(label) = &ask.label {
        query.push(" AND s.label = ").push_bind(label.clone());
    }
    if joined {
        query.push(") FROM json_each(").push_bind(json(&spans)).push(") AS b");
    }
    query
}

fn is_asked(ask: &ReportAsk, counter: Counter) -> bool {
    ask.channels.as_ref().is_none_or(|channels| channels.contains(&counter.channel))
        && ask.platform.is_none_or(|platform| platform == counter.platform)
}

/// Without what the question does not tell apart.
fn told_apart(ask: &ReportAsk, counter: Counter) -> Counter {
    Counter {
        channel: if ask.by.channel { counter.channel } else { 0 },
        platform: if ask.by.platform { counter.platform } else { 0 },
        reason: if ask.by.reason { counter.reason } else { 0 },
        ..counter
    }
}

fn record(span: usize, (class, label): (u8, &str), of: Counter, n: i64) -> Sql<ReportRow> {
    let Counter { channel, platform, kind, code, reason } = of;
    let reason = (reason != 0).then(|| rows::reason(i64::from(reason))).transpose()?;
    let state = rows::state(i64::from(code))?;
    let counted = match kind {
        0 => Counted::In(View::Now, state),
        1 => Counted::In(View::Reached, state),
        2 => Counted::Targeted,
        other => return Err(rows::odd("counter", other)),
    };
    let group = ReportGroup { channel, platform, class, label: label.to_owned(), reason };
    Ok(ReportRow { span, group, counted, n })
}

/// How these channels' tries went in these hours since 1970.
pub(super) async fn channels(
    session: &mut Session,
    channels: &[i64],
    hours: (u64, u64),
) -> Sql<Vec<ChannelStats>> {
    let query = sqlx::query(
        "SELECT s.channel, s.kind, s.code, sum(s.n) FROM json_each(?1) AS c CROSS JOIN json_each(?2) AS p
         CROSS JOIN channel_stats AS s ON s.channel = c.value AND s.grain = p.value ->> 0
            AND s.period >= p.value ->> 1 AND s.period < p.value ->> 2
         GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
    );
    let found = session.rows(query.bind(json(channels)).bind(json(&cover(&HOURS, hours)))).await?;
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
