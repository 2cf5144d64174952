//! b: one call, N devices of a vendor that takes one token a request; outcomes on disk. Against a bare `h2` loop that posts
//! the same to the same sandbox and remembers nothing.

use std::time::Instant;

use anyhow::ensure;
use reqwest::Method;
use serde_json::{Value, json};

use crate::machine::{self, Look, Noise};
use crate::probe::{self, Reached, h2};
use crate::report::{Good, Report};
use crate::rounds::{Rounds, number};
use crate::world::{Cores, World};
use crate::{Bench, Size};

/// Requests in flight of the bare loop: where it is fastest.
const STREAMS: usize = 500;
pub(crate) const TITLE: &str = "Your order is on its way";
pub(crate) const BODY: &str =
    "The courier will be with you between ten and twelve. You can follow the parcel in the app.";

/// A world with so many phones of one vendor, all tagged `all`.
pub(crate) async fn phones(bench: &Bench, count: usize) -> anyhow::Result<World> {
    let world = World::start(bench, Cores::Apart, Vec::new()).await?;
    world.channel("apns").await?;
    bench.say(&format!("registering {} phones", number(count as f64)));
    let tokens = world.tokens("apns", count).await?;
    let devices = tokens.into_iter().enumerate().map(|(index, token)| {
        json!({
            "id": format!("phone-{index}"), "platform": "ios", "tags": ["all"],
            "addresses": [{"provider": "apns", "token": token}],
        })
    });
    world.import(&world.key.clone(), devices).await?;
    Ok(world)
}

/// What is sent.
pub(crate) fn message() -> Value {
    json!({"to": {"audience": {"tag": "all"}}, "notification": {"title": TITLE, "body": BODY}, "class": "marketing"})
}

/// Sends to all, and looks that each was asked once, taken, and written down.
pub(crate) async fn turn(world: &World, count: usize) -> anyhow::Result<Reached> {
    world.sandbox(Method::DELETE, "/requests", None).await?;
    let turn = campaign(world, count).await?;
    let summary = world.sandbox(Method::GET, "/summary", None).await?;
    ensure!(
        summary["accepted_distinct"] == count && summary["duplicates"] == 0,
        "the sandbox took {summary}"
    );
    Ok(turn)
}

/// The same, where others send as well: what the sandbox took is theirs too.
pub(crate) async fn campaign(world: &World, count: usize) -> anyhow::Result<Reached> {
    let pid = world.gateway_pid()?;
    let (before, started) = (machine::cpu(pid)?, Instant::now());
    let id = world.send(&world.key, message()).await?;
    let message = world.done(&world.key, &id).await?;
    let (seconds, cpu) = (started.elapsed().as_secs_f64(), machine::cpu(pid)? - before);
    ensure!(message["counts"]["now"]["accepted"] == count, "the gateway counts {message}");
    Ok(Reached { done: count as u64, seconds, cpu_seconds: cpu.as_secs_f64() })
}

async fn rows(world: &World) -> anyhow::Result<i64> {
    let mut reader = world.reader().await?;
    Ok(sqlx::query_scalar("SELECT count(*) FROM deliveries").fetch_one(&mut reader).await?)
}

/// One turn of the ceiling.
pub(crate) async fn ceiling(world: &World, account: &Value, requests: usize) -> anyhow::Result<Reached> {
    let payload = json!({"aps": {"alert": {"title": TITLE, "body": BODY}}, "anypush_id": "msg_".to_owned() + &"0".repeat(32)});
    let task = h2::Task {
        origin: world.sandbox_url.trim_start_matches("http://").to_owned(),
        account: account.clone(),
        tokens: world.tokens("apns", requests).await?,
        streams: STREAMS,
        payload: payload.to_string(),
    };
    probe::run("h2", Cores::Apart.of_gateway(), &task).await
}

pub(crate) async fn run(bench: &Bench) -> anyhow::Result<Report> {
    let (count, rounds) = match bench.size {
        Size::Guard => (5_000, 3),
        Size::Quick => (50_000, 3),
        Size::Full => (1_000_000, 5),
        Size::Long => (1_000_000, 9),
    };
    let world = phones(bench, count).await?;
    let account = world.channel("apns").await?;
    // The first of each warms caches and connections, and is not counted.
    ceiling(&world, &account, 20_000).await?;
    turn(&world, count).await?;
    let mut found = Found::default();
    let empty = world.database_bytes().await?;
    for round in 1..=rounds {
        let requests = count.min(200_000);
        let look = Look::now(&world.pids())?;
        let sandbox = machine::cpu(world.sandbox_pid())?;
        let bare = ceiling(&world, &account, requests).await?;
        let bare_sandbox = machine::cpu(world.sandbox_pid())?;
        let ours = turn(&world, count).await?;
        let ours_sandbox = machine::cpu(world.sandbox_pid())?;
        let noise = look.noise(&world.pids(), world.dir())?;
        bench.say(&format!(
            "round {round} of {rounds}: bare loop {}/s with {:.1} µs each (sandbox {:.1}), gateway {}/s with {:.1} µs each (sandbox {:.1}), others {:.0} %",
            number(bare.rate()), bare.cpu_us(), (bare_sandbox - sandbox).as_secs_f64() * 1e6 / requests as f64,
            number(ours.rate()), ours.cpu_us(), (ours_sandbox - bare_sandbox).as_secs_f64() * 1e6 / count as f64,
            noise.foreign * 100.0
        ));
        found.push(&bare, &ours, noise);
    }
    let stored = rows(&world).await?;
    ensure!(stored == count as i64 * (rounds + 1), "{stored} rows for {} turns", rounds + 1);
    let bytes = (world.database_bytes().await? - empty) as f64 / (count as f64 * f64::from(rounds as i32));
    let mut report = found.report(bench, count)?;
    report.also("database", format!("{bytes:.0} bytes a delivery (budget 110)"));
    report.also(
        "memory",
        format!("{} MiB", number(machine::resident(world.gateway_pid()?)? as f64 / f64::from(1 << 20))),
    );
    Ok(report)
}

/// Numbers of all rounds.
#[derive(Default)]
struct Found {
    ratios: Rounds,
    rates: Rounds,
    bare_rates: Rounds,
    cpu: Rounds,
    bare_cpu: Rounds,
    noise: Vec<Noise>,
}

impl Found {
    fn push(&mut self, bare: &Reached, ours: &Reached, noise: Noise) {
        self.ratios.push(ours.rate() / bare.rate());
        self.rates.push(ours.rate());
        self.bare_rates.push(bare.rate());
        self.cpu.push(ours.cpu_us());
        self.bare_cpu.push(bare.cpu_us());
        self.noise.push(noise);
    }

    fn report(&self, bench: &Bench, count: usize) -> anyhow::Result<Report> {
        let title =
            format!("one call to {} phones, one HTTP/2 request each, outcomes on disk", number(count as f64));
        let mut report = bench.report("b", &title)?;
        report.value = self.rates.median();
        report.unit = "deliveries/s".to_owned();
        report.ceiling = self.bare_rates.median();
        report.of = "bare h2 loop, one connection".to_owned();
        report.ratio = self.ratios.median();
        (report.target, report.good, report.verified) = (0.6, Good::AtLeast, true);
        report.also("ratios of the rounds", self.ratios.span());
        report.also(
            "CPU of the gateway",
            format!("{:.1} µs a delivery; bare loop {:.1} µs", self.cpu.median(), self.bare_cpu.median()),
        );
        report.also("noise", crate::machine::noise(&self.noise));
        Ok(report)
    }
}
