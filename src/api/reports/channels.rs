//! `/v1/reports/channels`: how each channel does, from the counters of a stretch of time and from this moment.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::{MOST_DAYS, csv, range};
use crate::api::auth::Caller;
use crate::api::channels::quota;
use crate::api::extract::Query;
use crate::api::problem::{Answer, Problem};
use crate::app::Gateway;
use crate::channels::Channel;
use crate::clock::{DAY_MS, HOUR_MS, rfc3339};
use crate::pacing::{Circuit, Seen};
use crate::store::ChannelStats;

/// `GET /v1/reports/channels`
pub(in crate::api) async fn channels(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    query: Query,
) -> Answer<Json<Value>> {
    let (hours, data) = report(&gateway, &caller, query).await?;
    let [from, to] = [hours.0, hours.1].map(|hour| rfc3339(hour * HOUR_MS));
    Ok(Json(json!({"from": from, "to": to, "data": data})))
}

/// `GET /v1/reports/channels.csv`
pub(in crate::api) async fn channels_csv(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    query: Query,
) -> Answer<Response> {
    let columns = [
        "channel",
        "provider",
        "tier",
        "state",
        "tries",
        "accepted",
        "success_rate",
        "latency_p50_ms",
        "latency_p99_ms",
        "breaker",
        "pace_limit",
        "pace_in_flight",
        "pace_waiting",
    ];
    let mut table = csv::Table::new(&columns.map(str::to_owned))?;
    for channel in report(&gateway, &caller, query).await?.1 {
        let text = |value: &Value| match value {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let pace = ["limit", "in_flight", "waiting"].map(|name| text(&channel["pace"][name]));
        let plain = ["channel", "provider", "tier", "state", "tries", "accepted", "success_rate"];
        let latency = ["p50", "p99"].map(|name| text(&channel["latency_ms"][name]));
        let mut row: Vec<_> = plain.iter().map(|name| text(&channel[*name])).chain(latency).collect();
        row.push(text(&channel["breaker"]));
        row.extend(pace);
        table.row(&row)?;
    }
    table.answer("channels.csv")
}

async fn report(gateway: &Gateway, caller: &Caller, mut query: Query) -> Answer<((u64, u64), Vec<Value>)> {
    let app = caller.app_seq()?;
    let (from, to) = range(gateway, &mut query, DAY_MS)?;
    query.finish()?;
    if to - from > MOST_DAYS as u64 * DAY_MS {
        let why = "the time is too long: 400 days are the most";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "report_too_large", why));
    }
    let hours = (from / HOUR_MS, to.div_ceil(HOUR_MS));
    let channels = gateway.channels.of_app(app);
    let numbers: Vec<_> = channels.iter().map(|channel| channel.record.seq).collect();
    let found = gateway.store.channel_stats(&numbers, hours).await?;
    let stats: HashMap<i64, ChannelStats> = found.into_iter().map(|stats| (stats.channel, stats)).collect();
    let pace: HashMap<i64, Seen> =
        gateway.pipeline.pace().into_iter().map(|(channel, seen)| (channel.record.seq, seen)).collect();
    let none = ChannelStats::default();
    let mut data = Vec::with_capacity(channels.len());
    for channel in channels.iter() {
        let seq = channel.record.seq;
        data.push(view(gateway, channel, stats.get(&seq).unwrap_or(&none), pace.get(&seq)).await?);
    }
    Ok((hours, data))
}

async fn view(
    gateway: &Gateway,
    channel: &Channel,
    stats: &ChannelStats,
    pace: Option<&Seen>,
) -> Answer<Value> {
    let tries: u64 = stats.tries.iter().map(|(_, n)| n).sum();
    let accepted: u64 = stats.tries.iter().filter(|(reason, _)| reason.is_none()).map(|(_, n)| n).sum();
    let rate = (tries > 0).then(|| (accepted as f64 / tries as f64 * 10_000.0).round() / 10_000.0);
    let failures: BTreeMap<&str, u64> =
        stats.tries.iter().filter_map(|(reason, n)| Some((reason.as_ref()?.as_str(), *n))).collect();
    let quotas: Vec<_> = gateway.pipeline.quotas(channel).await?.iter().map(quota).collect();
    let sees = channel.descriptor.capabilities;
    let latency = stats.quantile_ms(0.5).zip(stats.quantile_ms(0.99));
    Ok(json!({
        "channel": channel.record.name,
        "provider": channel.record.provider,
        "tier": channel.descriptor.tier,
        "state": channel.route.state,
        "state_info": channel.record.state_info,
        "witnesses": {
            "delivered": sees.witnesses_delivered,
            "displayed": sees.witnesses_displayed,
            "clicked": sees.witnesses_clicked,
        },
        "tries": tries,
        "accepted": accepted,
        "success_rate": rate,
        "failures": failures,
        "latency_ms": latency.map(|(p50, p99)| json!({"p50": p50, "p99": p99})),
        "quotas": quotas,
        "breaker": pace.map(|seen| match seen.circuit {
            Circuit::Closed => "closed",
            Circuit::ProbeDue | Circuit::ProbeOut(_) => "probing",
            Circuit::Open(_) => "open",
        }),
        "pace": pace.map(|seen| json!({
            "limit": seen.limit, "in_flight": seen.in_flight, "waiting": seen.waiting,
        })),
    }))
}
