//! f: kill -9 with many deliveries queued; how long from the start of the next process until a vendor is asked again. And that nothing
//! queued is lost: all of it is sent afterwards.

use std::time::{Duration, Instant};

use anyhow::ensure;
use reqwest::Method;
use serde_json::{Value, json};

use crate::machine;
use crate::report::{Good, Plot, Report};
use crate::rounds::{Rounds, number};
use crate::scenario::b;
use crate::world::World;
use crate::{Bench, Size};

/// Phones of one message: a queue is many messages to them.
const PHONES: usize = 20_000;

pub(crate) async fn run(bench: &Bench) -> anyhow::Result<Report> {
    let (small, large, rounds) = match bench.size {
        Size::Guard | Size::Quick => (20_000, 100_000, 2),
        Size::Full => (100_000, 1_000_000, 3),
        Size::Long => (100_000, 10_000_000, 3),
    };
    let mut world = b::phones(bench, PHONES).await?;
    // Nothing goes out, so that all of it waits.
    outage(&world, "http_503").await?;
    let mut messages = Vec::new();
    let (mut few, mut many, mut log) = (Rounds::default(), Rounds::default(), Vec::new());
    for (queued, found) in [(small, &mut few), (large, &mut many)] {
        queue(bench, &world, &mut messages, queued).await?;
        for round in 1..=rounds {
            let took = restart(&mut world).await?;
            bench.say(&format!(
                "{} queued, kill {round} of {rounds}: {took:.0?} to the first try",
                number(queued as f64)
            ));
            found.push(took.as_secs_f64());
            log.push((queued as f64, took.as_secs_f64()));
        }
    }
    let empty = opening(&world).await?;
    outage(&world, "none").await?;
    let sent = Instant::now();
    let drained = drain(&world, &messages, large).await?;
    let mut report = bench.report(
        "f",
        &format!("kill -9 with {} queued, until a vendor is asked again", number(large as f64)),
    )?;
    (report.value, report.unit) = (many.median(), "s".to_owned());
    (report.ceiling, report.of) = (few.median(), format!("the same with {} queued", number(small as f64)));
    report.ratio = many.median() / few.median();
    (report.target, report.good, report.verified) = (1.3, Good::AtMost, drained);
    report.also("slowest", format!("{} s (target ≤ 2 s)", many.span()));
    report.also("opening the database and reading all work rows", format!("{empty:.2?}"));
    report.also(
        "afterwards",
        format!("all {} taken by the vendor, none lost, in {:.0?}", number(large as f64), sent.elapsed()),
    );
    let line = log.iter().map(|(queued, took)| (*queued, *took)).collect();
    report.plot = Some(Plot {
        x: "deliveries queued".to_owned(),
        y: "seconds to the first try".to_owned(),
        lines: vec![("after kill -9".to_owned(), line)],
    });
    Ok(report)
}

async fn outage(world: &World, which: &str) -> anyhow::Result<()> {
    world.sandbox(Method::PUT, "/providers/apns", Some(json!({"outage": which}))).await?;
    Ok(())
}

/// Sends to everybody until so many deliveries wait.
async fn queue(
    bench: &Bench,
    world: &World,
    messages: &mut Vec<String>,
    deliveries: usize,
) -> anyhow::Result<()> {
    bench.say(&format!("queueing {}", number(deliveries as f64)));
    while messages.len() * PHONES < deliveries {
        let mut message = b::message();
        message["ttl_seconds"] = json!(86_400);
        messages.push(world.send(&world.key, message).await?);
    }
    for id in messages {
        loop {
            let message = world.call(&world.key, Method::GET, &format!("/v1/messages/{id}"), None).await?;
            if message["counts"]["targeted"] == PHONES {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// Kills, starts, and waits for the first request at the vendor.
async fn restart(world: &mut World) -> anyhow::Result<Duration> {
    world.kill_gateway()?;
    world.sandbox(Method::DELETE, "/requests", None).await?;
    let started = Instant::now();
    world.spawn_gateway()?;
    loop {
        let summary = world.sandbox(Method::GET, "/summary", None).await?;
        if summary["requests"].as_u64().is_some_and(|requests| requests > 0) {
            return Ok(started.elapsed());
        }
        ensure!(started.elapsed() < Duration::from_mins(5), "the gateway asked nobody: {summary}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What a bare reader takes to open the database and look at each work item: where there is a floor, it is this.
async fn opening(world: &World) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let mut reader = world.reader().await?;
    let items: i64 =
        sqlx::query_scalar("SELECT sum(length(payload)) FROM work").fetch_one(&mut reader).await?;
    ensure!(items > 0, "nothing is queued");
    Ok(started.elapsed())
}

/// Waits until all is done, and looks that everybody got everything.
async fn drain(world: &World, messages: &[String], deliveries: usize) -> anyhow::Result<bool> {
    machine::resident(world.gateway_pid()?)?;
    for id in messages {
        let message: Value = world.done(&world.key, id).await?;
        ensure!(message["counts"]["now"]["accepted"] == PHONES, "the gateway counts {message}");
    }
    let summary = world.sandbox(Method::GET, "/summary", None).await?;
    let taken = summary["accepted_distinct"].as_u64().unwrap_or(0);
    // What went out before the last kill was forgotten with the sandbox's book: nothing did, the vendor was down.
    ensure!(taken == (messages.len() * PHONES) as u64, "the sandbox took {summary} of {deliveries}");
    Ok(true)
}
