//! What dashboards ask, and the same by a look at every row.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use anypush::delivery::state::State;
use anypush::store::sqlite::vendor_id;
use anypush_providers::contract::Reason;
use jiff::Timestamp;
use serde_json::Value;
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::fill::{DAY_MS, Year};

/// Numbers by what they count.
pub(super) type Numbers = BTreeMap<String, i64>;

const REACHED: [&str; 4] = ["accepted", "delivered", "displayed", "clicked"];
const INDIA_MS: u64 = 19_800_000;

/// A series by day, of so many days, in a place east of Greenwich.
#[derive(Debug, Clone, Copy)]
pub(super) struct Days {
    count: u64,
    east_ms: u64,
    by_channel: bool,
    by_reason: bool,
    csv: bool,
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Series(Days),
    /// One message and its counts.
    Message,
    /// A page of its deliveries.
    Page,
    /// What a device got.
    Device,
    /// How channels did.
    Channels,
}

/// A call, perhaps under several addresses; the first one's answer is checked.
pub(super) struct Ask {
    pub(super) what: &'static str,
    pub(super) kind: Kind,
    pub(super) paths: Vec<String>,
}

impl Ask {
    /// All that are asked; `message` is one to all devices, `pages` lead through its deliveries.
    pub(super) fn all(
        year: &Year,
        until: u64,
        message: &str,
        pages: Vec<String>,
    ) -> anyhow::Result<Vec<Self>> {
        let path = |name: &str, days: u64, east_ms: u64, more: &str| -> anyhow::Result<Vec<String>> {
            let at = |ms: u64| Timestamp::from_millisecond(ms as i64);
            let (from, to) = (at(until - days * DAY_MS - east_ms)?, at(until - east_ms)?);
            Ok(vec![format!("/v1/reports/{name}?from={from}&to={to}{more}")])
        };
        let series = |what, days: Days, more: &str| -> anyhow::Result<Self> {
            let name = if days.csv { "deliveries.csv" } else { "deliveries" };
            let paths = path(name, days.count, days.east_ms, &format!("&interval=day{more}"))?;
            Ok(Self { what, kind: Kind::Series(days), paths })
        };
        let year_whole = Days { count: 365, east_ms: 0, by_channel: false, by_reason: false, csv: false };
        let year_by = Days { by_channel: true, by_reason: true, ..year_whole };
        let month = |of: Days| Days { count: 30, ..of };
        let both = "&group_by=channel,reason";
        let india = Days { count: 364, east_ms: INDIA_MS, ..year_whole };
        let csv = Days { csv: true, by_channel: true, ..year_whole };
        let device = |nth| format!("/v1/devices/phone-{}/deliveries?limit=100", nth * year.devices / 50);
        let one = |what, kind, paths| Self { what, kind, paths };
        Ok(vec![
            series("30 days by day", month(year_whole), "")?,
            series("30 days by day, channel, reason", month(year_by), both)?,
            series("a year by day", year_whole, "")?,
            series("a year by day, channel, reason", year_by, both)?,
            series("a year by day in Kolkata", india, "&timezone=Asia/Kolkata")?,
            series("a year by day, channel, as CSV", csv, "&group_by=channel")?,
            one("channels over a year", Kind::Channels, path("channels", 365, 0, "")?),
            one("one message", Kind::Message, vec![format!("/v1/messages/{message}")]),
            one("a page of its deliveries", Kind::Page, pages),
            one("a device's deliveries", Kind::Device, (0..50).map(device).collect()),
        ])
    }

    /// The numbers of an answer.
    pub(super) fn told(&self, text: &str) -> anyhow::Result<Numbers> {
        if let Kind::Series(Days { csv: true, east_ms, .. }) = self.kind {
            return table(text, east_ms);
        }
        let body: Value = serde_json::from_str(text)?;
        let list = |name: &str| body[name].as_array().with_context(|| format!("no {name} in {text}"));
        let mut all = Numbers::new();
        match self.kind {
            Kind::Series(Days { east_ms, .. }) => {
                for one in list("series")? {
                    let [channel, reason] =
                        ["channel", "reason"].map(|by| one["group"][by].as_str().unwrap_or(""));
                    for point in one["points"].as_array().context("a series has points")? {
                        let day = day(point["start"].as_str().context("a point has a start")?, east_ms)?;
                        let at = format!("{day}|{channel}|{reason}");
                        add(&mut all, &at, "now", &point["now"]);
                        add(&mut all, &at, "reached", &point["reached"]);
                    }
                }
            }
            Kind::Message => add(&mut all, "", "now", &body["counts"]["now"]),
            Kind::Page => {
                let line = |one: &Value| (format!("{}|{}", one["device_id"], one["state"]), 1);
                all.extend(list("data")?.iter().map(line));
            }
            Kind::Device => {
                let line =
                    |(nth, one): (usize, &Value)| (format!("{nth}|{}|{}", one["state"], one["vendor_id"]), 1);
                all.extend(list("data")?.iter().enumerate().map(line));
            }
            Kind::Channels => {
                for one in list("data")?.iter().filter(|one| one["tries"] != 0) {
                    for name in ["tries", "accepted"] {
                        let channel = one["channel"].as_str().unwrap_or_default();
                        all.insert(format!("{channel}|{name}"), one[name].as_i64().unwrap_or_default());
                    }
                }
            }
        }
        Ok(all)
    }

    /// The same numbers from the rows themselves, each of which is looked at.
    pub(super) async fn scanned(
        &self,
        db: &mut SqliteConnection,
        year: &Year,
        until: u64,
    ) -> anyhow::Result<Numbers> {
        match self.kind {
            Kind::Series(days) => {
                let sql = "SELECT (m.created_at + ?4) / 86400000, d.channel, d.reason, d.state, count(*),
                        count(d.accepted_ms), count(d.delivered_ms), count(d.displayed_ms), count(d.clicked_ms)
                     FROM messages AS m CROSS JOIN deliveries AS d ON d.message = m.id
                     WHERE m.app = ?1 AND m.created_at >= ?2 AND m.created_at < ?3 GROUP BY 1, 2, 3, 4";
                let (from, to) = (until - days.count * DAY_MS - days.east_ms, until - days.east_ms);
                let query = sqlx::query(sql).bind(year.app).bind(from as i64).bind(to as i64);
                series(&query.bind(days.east_ms as i64).fetch_all(db).await?, year, days)
            }
            Kind::Channels => channels(db, year, until).await,
            Kind::Message => {
                let sql = "SELECT state, count(*) FROM deliveries
                     WHERE +message = (SELECT id FROM messages WHERE label = 'big') GROUP BY 1";
                let found = sqlx::query(sql).fetch_all(db).await?;
                found.iter().map(|row| Ok((format!("|now|{}", state(row, 0)?), row.try_get(1)?))).collect()
            }
            Kind::Page => {
                let sql = "SELECT target, state FROM deliveries
                     WHERE +message = (SELECT id FROM messages WHERE label = 'big') ORDER BY target LIMIT 100";
                let line = |row: &SqliteRow| {
                    let device = row.try_get::<i64, _>(0)? as u64 - year.first_device;
                    Ok((format!("\"phone-{device}\"|\"{}\"", state(row, 1)?), 1))
                };
                sqlx::query(sql).fetch_all(db).await?.iter().map(line).collect()
            }
            Kind::Device => {
                let sql = "SELECT state, vendor_id FROM deliveries NOT INDEXED WHERE +target = ?1
                     ORDER BY +message DESC LIMIT 100";
                let found = sqlx::query(sql).bind(year.first_device as i64).fetch_all(db).await?;
                let line = |(nth, row): (usize, &SqliteRow)| {
                    let vendor = row.try_get::<Option<&[u8]>, _>(1)?.and_then(vendor_id::unpack);
                    let vendor = vendor.map_or_else(|| "null".to_owned(), |id| format!("\"{id}\""));
                    Ok((format!("{nth}|\"{}\"|{vendor}", state(row, 0)?), 1))
                };
                found.iter().enumerate().map(line).collect()
            }
        }
    }
}

/// Whether both say the same; where not, what is in one alone.
pub(super) fn same(what: &str, told: &Numbers, scanned: &Numbers) -> anyhow::Result<()> {
    let alone = |of: &Numbers, not: &Numbers| -> Vec<_> {
        let missing = of.iter().filter(|(key, n)| not.get(*key) != Some(n));
        missing.take(3).map(|(key, n)| format!("{key}: {n}")).collect()
    };
    let (more, less) = (alone(told, scanned), alone(scanned, told));
    ensure!(more.is_empty() && less.is_empty(), "{what}: the answer has {more:?}, the rows have {less:?}");
    ensure!(!told.is_empty(), "{what}: there are no numbers");
    Ok(())
}

fn state(row: &SqliteRow, at: usize) -> anyhow::Result<&'static str> {
    let code: i64 = row.try_get(at)?;
    Ok(State::from_code(code as u8).context("a state that is not known")?.as_str())
}

/// The number of a day, counted where it is.
fn day(start: &str, east_ms: u64) -> anyhow::Result<u64> {
    Ok((start.parse::<Timestamp>()?.as_millisecond() as u64 + east_ms) / DAY_MS)
}

fn add(all: &mut Numbers, at: &str, view: &str, counts: &Value) {
    for (name, n) in counts.as_object().into_iter().flatten() {
        if let Some(n) = n.as_i64().filter(|n| *n != 0) {
            *all.entry(format!("{at}|{view}|{name}")).or_insert(0) += n;
        }
    }
}

fn series(rows: &[SqliteRow], year: &Year, by: Days) -> anyhow::Result<Numbers> {
    let mut all = Numbers::new();
    for row in rows {
        let (day, through, why): (i64, i64, Option<i64>) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let channel = year.channels.iter().find(|(_, seq)| by.by_channel && **seq == through);
        let channel = channel.map_or("", |(name, _)| name);
        let reason = Reason::ALL.into_iter().find(|one| by.by_reason && Some(i64::from(one.code())) == why);
        let at = format!("{day}|{channel}|{}|now|{}", reason.map_or("", Reason::as_str), state(row, 3)?);
        *all.entry(at).or_insert(0) += row.try_get::<i64, _>(4)?;
        for (nth, name) in REACHED.iter().enumerate() {
            let n: i64 = row.try_get(5 + nth)?;
            if n > 0 {
                *all.entry(format!("{day}|{channel}||reached|{name}")).or_insert(0) += n;
            }
        }
    }
    Ok(all)
}

async fn channels(db: &mut SqliteConnection, year: &Year, until: u64) -> anyhow::Result<Numbers> {
    let sql = "SELECT c.name, count(*), sum(d.state <> ?4) FROM messages AS m
         CROSS JOIN deliveries AS d ON d.message = m.id CROSS JOIN channels AS c ON c.seq = d.channel
         WHERE m.app = ?1 AND m.created_at >= ?2 AND m.created_at < ?3 GROUP BY 1";
    let query = sqlx::query(sql).bind(year.app).bind((until - 365 * DAY_MS) as i64).bind(until as i64);
    let mut all = Numbers::new();
    for row in query.bind(i64::from(State::Failed.code())).fetch_all(db).await? {
        let name: String = row.try_get(0)?;
        all.insert(format!("{name}|tries"), row.try_get(1)?);
        all.insert(format!("{name}|accepted"), row.try_get(2)?);
    }
    Ok(all)
}

fn table(text: &str, east_ms: u64) -> anyhow::Result<Numbers> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let columns: Vec<String> = reader.headers()?.iter().map(str::to_owned).collect();
    let mut all = Numbers::new();
    for line in reader.records() {
        let line = line?;
        let cell = |name: &str| columns.iter().position(|column| column == name).and_then(|at| line.get(at));
        let day = day(cell("start").context("a line has a start")?, east_ms)?;
        let channel = cell("channel").unwrap_or("");
        for (column, cell) in columns.iter().zip(&line) {
            let Some((view @ ("now" | "reached"), name)) = column.split_once('_') else { continue };
            let n: i64 = cell.parse()?;
            if n != 0 {
                *all.entry(format!("{day}|{channel}||{view}|{name}")).or_insert(0) += n;
            }
        }
    }
    Ok(all)
}
