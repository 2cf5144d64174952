//! h: one vendor of four is ill. What the well ones lose when one answers after ten seconds, or half of the time with 503, or not
//! at all; and how soon the ill one is back afterwards.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::machine::{self, Look};
use crate::report::{Good, Report};
use crate::rounds::{Rounds, number};
use crate::world::{Cores, World};
use crate::{Bench, Size};

/// The ill one, and those that are well.
const ILL: &str = "fcm";
const WELL: [&str; 3] = ["apns", "xiaomi", "huawei"];

/// The fourth while nothing is wrong with it: what it takes of the core then is what illness is to be held against.
const WELL_TOO: &str = "a fourth that is well";

/// What the others keep beside one illness, by round.
#[derive(Default)]
struct Kept {
    name: &'static str,
    ratios: Rounds,
    ill_rates: Rounds,
    well_rates: Rounds,
    /// Bytes by which the gateway's memory was larger at the most.
    grown: u64,
}

/// How the ill one is ill: what its switch and rules are set to.
fn illnesses() -> [(&'static str, Value, Value); 4] {
    [
        ("answers after 10 s", json!({"latency_ms": 10_000}), json!([])),
        ("503 half of the time", json!({}), json!([{"provider": ILL, "pattern": "*", "behaviour": "flaky"}])),
        ("never answers", json!({"outage": "hang"}), json!([])),
        (WELL_TOO, json!({}), json!([])),
    ]
}

async fn world(bench: &Bench, each: usize) -> anyhow::Result<World> {
    let world = World::start(bench, Cores::Apart, Vec::new()).await?;
    for provider in [ILL].iter().chain(&WELL) {
        world.channel(provider).await?;
        let tokens = world.tokens(provider, each).await?;
        let tag = provider.to_string();
        bench.say(&format!("registering {} phones of {tag}", number(each as f64)));
        let devices = tokens.into_iter().enumerate().map(move |(index, token)| {
            json!({"id": format!("{tag}-{index}"), "tags": [tag], "addresses": [{"provider": tag, "token": token}]})
        });
        world.import(&world.key.clone(), devices).await?;
    }
    Ok(world)
}

/// Sends to everybody of these, one message for each vendor at the same time; seconds until all have it.
async fn send(world: &World, providers: &[&str], each: usize) -> anyhow::Result<f64> {
    let started = Instant::now();
    let mut ids = Vec::new();
    for provider in providers {
        let body = json!({
            "to": {"audience": {"tag": provider}}, "class": "transactional",
            "notification": {"title": "Hello", "body": "There is something new for you in the app."},
        });
        ids.push(world.send(&world.key, body).await?);
    }
    for id in ids {
        let message = world.done(&world.key, &id).await?;
        ensure!(message["counts"]["now"]["accepted"] == each, "the gateway counts {message}");
    }
    Ok(started.elapsed().as_secs_f64())
}

pub(crate) async fn run(bench: &Bench) -> anyhow::Result<Report> {
    let (each, rounds) = match bench.size {
        Size::Guard => (2_000, 1),
        Size::Quick => (10_000, 1),
        Size::Full => (100_000, 5),
        Size::Long => (300_000, 5),
    };
    let world = world(bench, each).await?;
    send(&world, &WELL, each).await?;
    let (mut kept, mut noise) = (Vec::new(), Vec::new());
    let pid = world.gateway_pid()?;
    for (name, switch, rules) in illnesses() {
        let mut of_this = Kept { name, ..Kept::default() };
        for _ in 0..rounds {
            let look = Look::now(&world.pids())?;
            let well = send(&world, &WELL, each).await?;
            let memory = machine::resident(pid)?;
            fall_ill(&world, &switch, &rules).await?;
            let waiting = world.send(&world.key, json!({
                "to": {"audience": {"tag": ILL}}, "class": "transactional", "ttl_seconds": 3600,
                "notification": {"title": "Hello", "body": "There is something new for you in the app."},
            })).await?;
            // It has a hold of what it can get hold of by then.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let ill = send(&world, &WELL, each).await?;
            of_this.grown = of_this.grown.max(machine::resident(pid)?.saturating_sub(memory));
            let healed = Instant::now();
            fall_ill(&world, &json!({}), &json!([])).await?;
            let message = world.done(&world.key, &waiting).await?;
            ensure!(message["counts"]["now"]["accepted"] == each, "after it was well again: {message}");
            let others = (each * WELL.len()) as f64;
            let (ill_rate, well_rate) = (others / ill, others / well);
            bench.say(&format!("{name}: the others {ill_rate:.0}/s beside it, {well_rate:.0}/s alone; all of its own {:.1} s after it was well",
                healed.elapsed().as_secs_f64()));
            of_this.ratios.push(well / ill);
            of_this.ill_rates.push(ill_rate);
            of_this.well_rates.push(well_rate);
            noise.push(look.noise(&world.pids(), world.dir())?);
        }
        kept.push(of_this);
    }
    // A bound that is kept on the average of illnesses is of no use to whoever has the worst one.
    let worst = kept
        .iter()
        .filter(|kept| kept.name != WELL_TOO)
        .min_by(|a, b| a.ratios.median().total_cmp(&b.ratios.median()))
        .context("an illness")?;
    let mut report =
        bench.report("h", "one vendor of four is ill: what the others keep beside the worst illness")?;
    (report.value, report.unit) = (worst.ill_rates.median(), "deliveries/s".to_owned());
    (report.ceiling, report.of) = (worst.well_rates.median(), "the same while all are well".to_owned());
    report.ratio = worst.ratios.median();
    (report.target, report.good, report.verified) = (0.95, Good::AtLeast, true);
    for Kept { name, ratios, grown, .. } in &kept {
        let (ratio, span) = (ratios.median(), ratios.span());
        report.also(name, format!("{ratio:.2} of the rate alone (span {span}), {} MiB more", grown >> 20));
    }
    report.also("noise", machine::noise(&noise));
    Ok(report)
}

async fn fall_ill(world: &World, switch: &Value, rules: &Value) -> anyhow::Result<()> {
    let mut well = json!({"outage": "none", "latency_ms": 0});
    if let (Some(well), Some(switch)) = (well.as_object_mut(), switch.as_object()) {
        well.extend(switch.clone());
    }
    world.sandbox(Method::PUT, &format!("/providers/{ILL}"), Some(well)).await?;
    world.sandbox(Method::PUT, "/rules", Some(rules.clone())).await?;
    Ok(())
}
