//! a2: how long a single message is under way, from the call to the vendor's door, while nothing else happens. Against one durable
//! write and one request on an open HTTP/2 connection.

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
        // Idle is idle: what is done afterwards shall be done. Outcomes gather for some milliseconds until they are recorded.
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    ensure!(taken() == count, "{} of {count} came", taken());
    let sync = machine::sync(world.dir())?;
    let whole = Seen::of(&arrived, started.elapsed().as_secs_f64());
    let mut report = bench.report("a2", "from the call to the vendor's door, nothing else under way")?;
    (report.value, report.unit) = (whole.p50, "ms (p50)".to_owned());
    // One durable write, one call, one request.
    let bare = sync.as_secs_f64() * 1e3 + 2.0 * round_trip(&world).await?;
    (report.ceiling, report.of) = (bare, "one durable write and two round trips over HTTP".to_owned());
    report.ratio = report.value / report.ceiling;
    (report.target, report.good, report.verified) = (2.0 / bare, Good::AtMost, true);
    report.also("at the vendor", format!("{} (targets: p50 ≤ 2 ms, p99 ≤ 10 ms + fdatasync)", whole.text()));
    report.also("answered to the caller", Seen::of(&answered, 1.0).text());
    report.also("fdatasync", format!("{sync:.0?}"));
    Ok(report)
}

/// What a call that does nothing takes, in milliseconds: the median of many.
async fn round_trip(world: &World) -> anyhow::Result<f64> {
    let mut book = book()?;
    for _ in 0..300 {
        let started = Instant::now();
        world.http.get(format!("{}/healthz", world.url)).send().await?.bytes().await?;
        book.saturating_record(started.elapsed().as_micros() as u64);
    }
    Ok(book.value_at_quantile(0.5) as f64 / 1000.0)
}
