//! a: single sends, one device a call, an idempotency key on each: how many are accepted, durably, and how long callers wait.
//! Against a bare HTTP server and a bare database one after the other.
//!
//! What is accepted here goes out slowly (the channel's rate is one a second): this is the door alone. How fast single messages
//! also leave the house is said beside it.

use anyhow::ensure;
use reqwest::Method;
use serde_json::json;

use crate::machine::{self, Look, Noise};
use crate::probe::load::{self, Seen};
use crate::probe::{self, accept, db};
use crate::report::{Good, Report};
use crate::rounds::{Rounds, number};
use crate::world::{Cores, World};
use crate::{Bench, Size};

/// Devices that the calls go to in turn.
const DEVICES: usize = 10_000;
/// Callers at a time; the one that the ratio is of.
const ABREAST: usize = 64;

/// A world whose phones can be sent to, one by one; `limits` of the channel.
async fn world(bench: &Bench, limits: serde_json::Value) -> anyhow::Result<World> {
    let world = World::start(bench, Cores::Apart, Vec::new()).await?;
    world.channel_of(&world.app, "apns", "apns", limits).await?;
    let tokens = world.tokens("apns", DEVICES).await?;
    let devices = tokens.into_iter().enumerate().map(|(index, token)| {
        json!({"id": format!("phone-{index}"), "addresses": [{"provider": "apns", "token": token}]})
    });
    world.import(&world.key.clone(), devices).await?;
    Ok(world)
}

fn calls(world: &World, abreast: usize, seconds: f64, round: u64) -> load::Task {
    let body = json!({
        "to": {"device_ids": ["phone-{n}"]},
        "notification": {"title": "Your code", "body": "482 913 is your code. It is good for ten minutes; tell it to nobody."},
        "data": {"order": "71-482-913", "screen": "orders/71-482-913", "campaign": "codes"},
        "class": "transactional", "ttl_seconds": 86_400,
    });
    load::Task {
        origin: world.url.trim_start_matches("http://").to_owned(),
        path: "/v1/messages".to_owned(),
        key: world.key.clone(),
        body: body.to_string(),
        numbers: DEVICES as u64,
        round,
        abreast,
        seconds,
        rate: 0.0,
    }
}

async fn messages(world: &World) -> anyhow::Result<u64> {
    let mut reader = world.reader().await?;
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM messages").fetch_one(&mut reader).await?;
    Ok(rows as u64)
}

/// What one round found.
struct Round {
    http: Seen,
    db: Seen,
    /// Both and a look-up, in one process.
    least: Seen,
    least_cpu_us: f64,
    ours: Seen,
    cpu_us: f64,
    noise: Noise,
}

impl Round {
    /// One after the other: 1 / (1/http + 1/db).
    fn ceiling(&self) -> f64 {
        1.0 / (1.0 / self.http.rate() + 1.0 / self.db.rate())
    }
}

async fn round(world: &World, seconds: f64, number: u64) -> anyhow::Result<Round> {
    let (others, own) = (Cores::Apart.of_others(), Cores::Apart.of_gateway());
    let look = Look::now(&world.pids())?;
    let task = calls(world, ABREAST, seconds, number);
    let server = probe::server("http", own, &()).await?;
    let http: Seen =
        probe::run("load", others, &load::Task { origin: server.origin.clone(), ..task.clone() }).await?;
    drop(server);
    let rows = db::Task { dir: world.dir().to_owned(), spec: task.body.clone(), abreast: ABREAST, seconds };
    let db: Seen = probe::run("db", own, &rows).await?;
    let (least, least_cpu_us) = least(world, &task).await?;
    let pid = world.gateway_pid()?;
    let (before, stored) = (machine::cpu(pid)?, messages(world).await?);
    let ours: Seen = probe::run("load", others, &task).await?;
    let cpu = machine::cpu(pid)? - before;
    let stored = messages(world).await? - stored;
    ensure!(stored == ours.calls, "{} calls were answered, {stored} messages are stored", ours.calls);
    let noise = look.noise(&world.pids(), world.dir())?;
    let cpu_us = cpu.as_secs_f64() * 1e6 / ours.calls as f64;
    Ok(Round { http, db, least, least_cpu_us, ours, cpu_us, noise })
}

/// The least that an accept is: how many, and CPU for each.
async fn least(world: &World, calls: &load::Task) -> anyhow::Result<(Seen, f64)> {
    let task = accept::Task { dir: world.dir().to_owned(), devices: DEVICES };
    let server = probe::server("accept", Cores::Apart.of_gateway(), &task).await?;
    let before = machine::cpu(server.pid)?;
    let calls = load::Task { origin: server.origin.clone(), ..calls.clone() };
    let seen: Seen = probe::run("load", Cores::Apart.of_others(), &calls).await?;
    let cpu = machine::cpu(server.pid)? - before;
    Ok((seen, cpu.as_secs_f64() * 1e6 / seen.calls as f64))
}

pub(crate) async fn run(bench: &Bench) -> anyhow::Result<Report> {
    let (seconds, rounds) = match bench.size {
        Size::Guard | Size::Quick => (3.0, 3),
        Size::Full => (10.0, 5),
        Size::Long => (30.0, 5),
    };
    let slow = world(bench, json!({"per_second": 1})).await?;
    probe::run::<_, Seen>("load", Cores::Apart.of_others(), &calls(&slow, ABREAST, 1.0, 0)).await?;
    let mut found = Vec::new();
    for turn in 1..=rounds {
        let round = round(&slow, seconds, turn).await?;
        bench.say(&format!(
            "round {turn} of {rounds}: http {}/s, database {}/s, the least {}/s with {:.1} µs each, gateway {}/s with {:.1} µs each, {}",
            number(round.http.rate()),
            number(round.db.rate()),
            number(round.least.rate()),
            round.least_cpu_us,
            number(round.ours.rate()),
            round.cpu_us,
            round.ours.text()
        ));
        found.push(round);
    }
    let mut report =
        bench.report("a", "single sends, one device each, durable before the answer, 64 callers")?;
    let all = |of: &dyn Fn(&Round) -> f64| found.iter().map(of).collect::<Rounds>();
    report.value = all(&|round| round.ours.rate()).median();
    report.unit = "accepts/s".to_owned();
    report.ceiling = all(&Round::ceiling).median();
    report.of = "bare HTTP server and bare database, one after the other".to_owned();
    report.ratio = all(&|round| round.ours.rate() / round.ceiling()).median();
    (report.target, report.good, report.verified) = (0.6, Good::AtLeast, true);
    report.also("CPU of the gateway", format!("{:.1} µs an accept", all(&|round| round.cpu_us).median()));
    report.also(
        "the least that an accept is: its hashes, its device and its rows, nothing decided",
        format!(
            "{}/s, {:.1} µs of CPU each: {:.2} of the ceiling; the gateway {:.2} of it",
            number(all(&|round| round.least.rate()).median()),
            all(&|round| round.least_cpu_us).median(),
            all(&|round| round.least.rate() / round.ceiling()).median(),
            all(&|round| round.ours.rate() / round.least.rate()).median(),
        ),
    );
    let p99 = all(&|round| round.ours.p99 / round.db.p99).median();
    report.also("latency at 64 callers", found.last().map(|round| round.ours.text()).unwrap_or_default());
    report.also("p99 by that of the bare database", format!("{p99:.2} (target ≤ 2)"));
    for abreast in [1, 8, 256] {
        let seen: Seen = probe::run(
            "load",
            Cores::Apart.of_others(),
            &calls(&slow, abreast, seconds, 100 + abreast as u64),
        )
        .await?;
        report.also(&format!("{abreast} callers"), format!("{}/s, {}", number(seen.rate()), seen.text()));
    }
    let sync = machine::sync(slow.dir())?;
    report.also("fdatasync", format!("{sync:.0?}"));
    drop(slow);
    report.also("sent as well, 64 callers", sent_as_well(bench, seconds).await?);
    report.also("noise", machine::noise(&found.iter().map(|round| round.noise).collect::<Vec<_>>()));
    Ok(report)
}

/// Single messages that also go out, until the last is with the vendor.
async fn sent_as_well(bench: &Bench, seconds: f64) -> anyhow::Result<String> {
    let fast = world(bench, json!({})).await?;
    let started = std::time::Instant::now();
    let seen: Seen = probe::run("load", Cores::Apart.of_others(), &calls(&fast, ABREAST, seconds, 0)).await?;
    loop {
        let summary = fast.sandbox(Method::GET, "/summary", None).await?;
        ensure!(summary["duplicates"] == 0, "the sandbox took {summary}");
        if summary["accepted_distinct"] == seen.calls {
            break;
        }
        ensure!(started.elapsed().as_secs() < 600, "the sandbox took {summary} of {}", seen.calls);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let whole = seen.calls as f64 / started.elapsed().as_secs_f64();
    Ok(format!("{}/s to the vendor, {}", number(whole), seen.text()))
}
