//! a2: how long a single message is under way, from the call to the vendor's door, while nothing else happens. Against one durable
//! write and two round trips over HTTP, each after the same pause: a machine that was idle takes longer for everything.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::json;

use crate::machine;
use crate::probe::load::{Seen, book};
use crate::probe::vendor;
use crate::report::{Good, Report};
use crate::world::{Cores, World};
use crate::{Bench, Size};

/// How long nothing happens before each call. Outcomes gather for some milliseconds until they are recorded: what is done
/// afterwards shall be done.
const PAUSE: Duration = Duration::from_millis(25);
/// How often what it is held against is measured.
const LOOKS: usize = 200;

pub(crate) async fn run(bench: &Bench) -> anyhow::Result<Report> {
    let count = match bench.size {
        Size::Guard | Size::Quick => 300,
        Size::Full => 2000,
        Size::Long => 10_000,
    };
    let world = World::start(bench, Cores::Shared, Vec::new()).await?;
    let (origin, arrivals) = vendor::start().await?;
    let mut config = world.channel("apns").await?;
    config["base_url"] = json!(format!("http://{origin}"));
    let path = format!("/v1/apps/{}/channels/apns", world.app);
    world
        .call(&world.admin_key, Method::PUT, &path, Some(json!({"provider": "apns", "config": config})))
        .await?;
    let address = world.tokens("apns", 1).await?.pop().context("one token")?;
    let phone = json!({"addresses": [{"provider": "apns", "token": address}]});
    world.call(&world.key, Method::PUT, "/v1/devices/phone", Some(phone)).await?;
    let (mut answered, mut arrived) = (book()?, book()?);
    let started = Instant::now();
    let taken = || arrivals.lock().unwrap_or_else(PoisonError::into_inner).len();
    for number in 0..count {
        let before = taken();
        let called = Instant::now();
        let body = json!({"to": {"device_ids": ["phone"]}, "notification": {"title": "Your code", "body": number.to_string()}});
        world.send(&world.key, body).await?;
        answered.saturating_record(called.elapsed().as_micros() as u64);
        while taken() == before {
            ensure!(called.elapsed() < Duration::from_mins(1), "message {number} never came to the vendor");
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
        let came =
            arrivals.lock().unwrap_or_else(PoisonError::into_inner).last().copied().context("it came")?;
        arrived.saturating_record((came - called).as_micros() as u64);
        tokio::time::sleep(PAUSE).await;
    }
    ensure!(taken() == count, "{} of {count} came", taken());
    let whole = Seen::of(&arrived, started.elapsed().as_secs_f64());
    let mut report = bench.report("a2", "from the call to the vendor's door, nothing else under way")?;
    (report.value, report.unit) = (whole.p50, "ms (p50)".to_owned());
    // One durable write, one call, one request.
    let (write, call) = bare(&world, PAUSE).await?;
    let bare_ms = write + 2.0 * call;
    (report.ceiling, report.of) =
        (bare_ms, "one durable write and two round trips over HTTP, after the same pause".to_owned());
    report.ratio = report.value / report.ceiling;
    (report.target, report.good, report.verified) = (2.0 / bare_ms, Good::AtMost, true);
    report.also("at the vendor", format!("{} (targets: p50 ≤ 2 ms, p99 ≤ 10 ms + fdatasync)", whole.text()));
    report.also("answered to the caller", Seen::of(&answered, 1.0).text());
    let said = |(write, call): (f64, f64)| format!("{write:.2} ms and {call:.2} ms");
    report.also("a durable write and a round trip, after the same pause", said((write, call)));
    report.also("the same without a pause", said(bare(&world, Duration::ZERO).await?));
    Ok(report)
}

/// What a durable write of 8 KiB and a call that does nothing take after a pause, in milliseconds: medians.
async fn bare(world: &World, pause: Duration) -> anyhow::Result<(f64, f64)> {
    let (mut writes, mut calls) = (book()?, book()?);
    let mut file = tempfile::tempfile_in(world.dir())?;
    for _ in 0..LOOKS {
        tokio::time::sleep(pause).await;
        writes.saturating_record(machine::durable_write(&mut file)?.as_micros() as u64);
        tokio::time::sleep(pause).await;
        let started = Instant::now();
        world.http.get(format!("{}/healthz", world.url)).send().await?.bytes().await?;
        calls.saturating_record(started.elapsed().as_micros() as u64);
    }
    let median = |book: &hdrhistogram::Histogram<u64>| book.value_at_quantile(0.5) as f64 / 1000.0;
    Ok((median(&writes), median(&calls)))
}
