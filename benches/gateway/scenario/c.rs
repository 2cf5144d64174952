//! c: a mixed audience, as an app that lives everywhere has it: vendors that take one token a request, vendors that take a thousand, and phones
//! that keep a connection to the gateway themselves. And what a target costs where a thousand share a request.

use std::time::{Duration, Instant};

use anyhow::ensure;
use reqwest::Method;
use serde_json::{Value, json};

use crate::machine::{self, Look};
use crate::probe::{self, Reached, rows};
use crate::report::{Good, Report};
use crate::rounds::{Rounds, number};
use crate::scenario::b2;
use crate::world::{Cores, World};
use crate::{Bench, Size};

/// Vendors with their share of the audience in percent.
const SHARES: [(&str, usize); 4] = [("fcm", 40), ("apns", 20), ("xiaomi", 25), ("huawei", 15)];
/// Those that take a thousand tokens a request.
const BATCHES: [&str; 2] = ["xiaomi", "huawei"];

fn to(tag: &str) -> Value {
    json!({
        "to": {"audience": {"tag": tag}}, "class": "transactional",
        "notification": {"title": "Hello", "body": "There is something new for you in the app."},
    })
}

async fn world(bench: &Bench, count: usize) -> anyhow::Result<World> {
    let world = World::start(bench, Cores::Apart, Vec::new()).await?;
    bench.say(&format!("registering {} phones", number(count as f64)));
    // A project may send 600,000 a minute unless it asks for more, which who has so many phones does.
    let unlimited = json!({"quota": {"account_per_minute": null}});
    world.sandbox(Method::PUT, "/providers/fcm", Some(unlimited)).await?;
    for (provider, share) in SHARES {
        world.channel(provider).await?;
        let tokens = world.tokens(provider, count * share / 100).await?;
        let devices = tokens.into_iter().enumerate().map(move |(index, token)| {
            json!({
                "id": format!("{provider}-{index}"), "tags": ["all", provider],
                "addresses": [{"provider": provider, "token": token}],
            })
        });
        world.import(&world.key.clone(), devices).await?;
    }
    Ok(world)
}

/// Sends to a tag: targets a second, CPU for each.
async fn send(world: &World, tag: &str, count: usize) -> anyhow::Result<(f64, f64)> {
    world.sandbox(Method::DELETE, "/requests", None).await?;
    let pid = world.gateway_pid()?;
    let (before, started) = (machine::cpu(pid)?, Instant::now());
    let id = world.send(&world.key, to(tag)).await?;
    let message = world.done(&world.key, &id).await?;
    let (took, cpu): (Duration, Duration) = (started.elapsed(), machine::cpu(pid)? - before);
    ensure!(message["counts"]["now"]["accepted"] == count, "the gateway counts {message}");
    let summary = world.sandbox(Method::GET, "/summary", None).await?;
    ensure!(
        summary["accepted_distinct"] == count && summary["duplicates"] == 0,
        "the sandbox took {summary}"
    );
    Ok((count as f64 / took.as_secs_f64(), cpu.as_secs_f64() * 1e6 / count as f64))
}

/// What the adapter makes of batches, with nothing decided before and nothing recorded.
async fn alone(world: &World, provider: &str, count: usize) -> anyhow::Result<Reached> {
    let config = world.channel(provider).await?;
    let task = b2::task(world, provider, &config, count).await?;
    probe::run("adapter", Cores::Apart.of_gateway(), &task).await
}

pub(crate) async fn run(bench: &Bench) -> anyhow::Result<Report> {
    let (count, rounds) = match bench.size {
        Size::Guard | Size::Quick => (50_000, 2),
        Size::Full => (500_000, 3),
        Size::Long => (1_000_000, 5),
    };
    let world = world(bench, count).await?;
    let of = |provider: &str| {
        SHARES.iter().filter(|(name, _)| *name == provider).map(|(_, share)| count * share / 100).sum()
    };
    send(&world, "all", count).await?;
    let (mut ratios, mut mixed, mut single, mut noise) =
        (Rounds::default(), Rounds::default(), Rounds::default(), Vec::new());
    let mut cpu: Vec<(&str, Rounds)> =
        ["all", "apns"].into_iter().chain(BATCHES).map(|name| (name, Rounds::default())).collect();
    for round in 1..=rounds {
        let look = Look::now(&world.pids())?;
        let mut rates = Vec::new();
        for (tag, found) in &mut cpu {
            let (rate, each) = send(&world, tag, if *tag == "all" { count } else { of(tag) }).await?;
            found.push(each);
            rates.push(format!("{tag} {}/s with {each:.1} µs each", number(rate)));
            match *tag {
                "all" => mixed.push(rate),
                "apns" => single.push(rate),
                _ => {}
            }
        }
        ratios.push(mixed.last() / single.last());
        bench.say(&format!("round {round} of {rounds}: {}", rates.join(", ")));
        noise.push(look.noise(&world.pids(), world.dir())?);
    }
    let title = format!(
        "one call to {} phones of four vendors, two of which take a thousand a request",
        number(count as f64)
    );
    let mut report = bench.report("c", &title)?;
    (report.value, report.unit) = (mixed.median(), "deliveries/s".to_owned());
    (report.ceiling, report.of) = (single.median(), "the same gateway where each needs a request".to_owned());
    report.ratio = ratios.median();
    (report.target, report.good, report.verified) = (1.5, Good::AtLeast, true);
    for (name, found) in &cpu {
        let what = if *name == "all" { "CPU, all".to_owned() } else { format!("CPU, {name}") };
        let target = if BATCHES.contains(name) { " (target ≤ 1.5)" } else { "" };
        report.also(&what, format!("{:.2} µs a delivery{target}", found.median()));
    }
    for provider in BATCHES {
        let alone = alone(&world, provider, of(provider)).await?;
        let what = format!("CPU, {provider}, the adapter alone");
        report.also(&what, format!("{:.2} µs a token", alone.cpu_us()));
    }
    let task = rows::Task { dir: world.dir().to_owned(), rows: count as u64, what: rows::What::Insert };
    let bare: Reached = probe::run("rows", Cores::Apart.of_gateway(), &task).await?;
    report.also(
        "CPU, the rows alone",
        format!("{:.2} µs a row: inserted in order, 1000 in a transaction", bare.cpu_us()),
    );
    report.also("noise", machine::noise(&noise));
    Ok(report)
}
