//! Health, metrics, and the contract itself.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::problem::{Answer, Problem};
use crate::app::Gateway;
use crate::channels::Channel;
use crate::pacing::{Circuit, Seen};
use crate::store::{LogSize, WorkKind};

/// The contract with users.
pub const OPENAPI: &str = include_str!("../../openapi.yaml");

/// `GET /healthz`: the process lives. `degraded`: it works, and somebody must look before it does not.
pub(super) async fn healthz(State(gateway): State<Arc<Gateway>>) -> Json<Value> {
    let LogSize { bytes, is_long } = gateway.store.log_size();
    if !is_long {
        return Json(json!({"status": "ok"}));
    }
    let why = format!(
        "the database's write-ahead log has grown to {} MiB: somebody keeps reading an old state of the database",
        bytes >> 20
    );
    Json(json!({"status": "degraded", "why": why}))
}

/// `GET /readyz`: requests are welcome, and the store answers.
pub(super) async fn readyz(State(gateway): State<Arc<Gateway>>) -> Answer<Json<Value>> {
    let not_ready =
        |why: &str| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", why).retry_after(2);
    if gateway.tasks.is_stopping() {
        return Err(not_ready("the gateway is stopping"));
    }
    gateway.store.backlog().await.map_err(|_| not_ready("the store does not answer"))?;
    Ok(Json(json!({"status": "ready"})))
}

/// `GET /metrics`
pub(super) async fn metrics(State(gateway): State<Arc<Gateway>>) -> Answer<impl IntoResponse> {
    let backlog = gateway.store.backlog().await?;
    // Questions to vendors stand there for days, and nothing is late by them.
    let (asks, work): (Vec<_>, Vec<_>) = backlog.iter().partition(|(kind, ..)| *kind == WorkKind::Ask);
    let count = |items: Vec<&(WorkKind, i64, u64)>| items.iter().map(|(.., n)| n).sum::<u64>();
    let (waiting, asks) = (count(work), count(asks));
    let log = gateway.store.log_size();
    let gauges = [
        ("work_waiting", "Work items that wait", waiting),
        ("asks_waiting", "Pages of which vendors are asked what became of them", asks),
        (
            "work_set_aside",
            "Work items that cannot be read and wait for the next start",
            gateway.pipeline.set_aside(),
        ),
        ("phones_connected", "Phones connected to this node", gateway.hub.connected() as u64),
        ("receipts_journal_rows", "Callbacks that wait to be merged", gateway.receipts.journal_rows()),
        ("receipts_lag_seconds", "Age of the oldest callback not read yet", gateway.receipts.lag_seconds()),
        (
            "clock_off_seconds",
            "Seconds between the wall clock and the gateway's time, either way",
            gateway.clock.wall_ahead_seconds().unsigned_abs(),
        ),
        ("store_log_bytes", "Length of the database's write-ahead log", log.bytes),
        ("store_log_is_long", "1: the write-ahead log is longer than it may be", log.is_long.into()),
        ("store_write_statements", "Statements that wrote since start", gateway.store.write_statements()),
    ];
    let channels = gateway.pipeline.pace();
    let paced = |what: fn(&Seen) -> u64| -> Vec<(String, u64)> {
        channels.iter().map(|(channel, seen)| (labels(channel), what(seen))).collect()
    };
    let (mut used, mut limits) = (Vec::new(), Vec::new());
    for channel in gateway.channels.all() {
        for seen in gateway.pipeline.quotas(&channel).await? {
            let Some(n) = seen.used else { continue };
            let labels = format!("{},quota=\"{}\"", labels(&channel), seen.quota.name);
            used.push((labels.clone(), n));
            limits.push((labels, seen.limit));
        }
    }
    let families = [
        ("quota_used", "What is used of a channel's quota in its present period", used),
        ("quota_limit", "How many a channel's quota allows", limits),
        ("pace_limit", "Requests that a channel's credential may have in flight", paced(|s| s.limit.into())),
        (
            "pace_in_flight",
            "Requests that a channel's credential has in flight",
            paced(|s| s.in_flight.into()),
        ),
        ("pace_waiting", "Requests that wait at a channel's credential", paced(|s| s.waiting as u64)),
        (
            "pace_breaker",
            "Breaker of a channel's credential: 0 closed, 1 may probe or probes, 2 open",
            paced(|s| match s.circuit {
                Circuit::Closed => 0,
                Circuit::ProbeDue | Circuit::ProbeOut(_) => 1,
                Circuit::Open(_) => 2,
            }),
        ),
    ];
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], gateway.metrics.render(&gauges, &families)))
}

/// Names of channels are checked when they are made: nothing in them must be escaped.
fn labels(channel: &Channel) -> String {
    let record = &channel.record;
    format!(
        "provider=\"{}\",channel=\"{}\",channel_id=\"{}\"",
        record.provider, record.name, record.public_id
    )
}

/// `GET /openapi.yaml`
pub(super) async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/yaml")], OPENAPI)
}
