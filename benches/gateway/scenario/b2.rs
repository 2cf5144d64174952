//! b2: the adapter alone, from batches to outcomes that nobody records: what of the distance between the gateway and the bare loop is
//! the adapter's and the pool's. A diagnosis, not a promise.

use serde_json::Value;

use crate::machine::Look;
use crate::probe::{self, Reached, adapter};
use crate::report::{Good, Report};
use crate::rounds::{Rounds, number};
use crate::scenario::b;
use crate::world::{Cores, World};
use crate::{Bench, Size};

/// What the adapter of a channel is to send to so many phones, a thousand in a batch.
pub(crate) async fn task(
    world: &World,
    provider: &str,
    config: &Value,
    count: usize,
) -> anyhow::Result<adapter::Task> {
    Ok(adapter::Task {
        provider: provider.to_owned(),
        config: config.clone(),
        tokens: world.tokens(provider, count).await?,
        batch: 1000,
        abreast: 4,
        title: b::TITLE.to_owned(),
        body: b::BODY.to_owned(),
    })
}

pub(crate) async fn run(bench: &Bench) -> anyhow::Result<Report> {
    let (count, rounds) = match bench.size {
        Size::Guard | Size::Quick => (50_000, 3),
        Size::Full | Size::Long => (300_000, 5),
    };
    let world = World::start(bench, Cores::Apart, Vec::new()).await?;
    let config = world.channel("apns").await?;
    let task = task(&world, "apns", &config, count).await?;
    b::ceiling(&world, &config, 20_000).await?;
    let (mut ratios, mut rates, mut bare_rates) = (Rounds::default(), Rounds::default(), Rounds::default());
    let (mut cpu, mut bare_cpu, mut noise) = (Rounds::default(), Rounds::default(), Vec::new());
    for round in 1..=rounds {
        let look = Look::now(&world.pids())?;
        let bare = b::ceiling(&world, &config, count).await?;
        let ours: Reached = probe::run("adapter", Cores::Apart.of_gateway(), &task).await?;
        bench.say(&format!(
            "round {round} of {rounds}: bare loop {}/s with {:.1} µs each, adapter {}/s with {:.1} µs each",
            number(bare.rate()),
            bare.cpu_us(),
            number(ours.rate()),
            ours.cpu_us()
        ));
        ratios.push(ours.rate() / bare.rate());
        rates.push(ours.rate());
        bare_rates.push(bare.rate());
        cpu.push(ours.cpu_us());
        bare_cpu.push(bare.cpu_us());
        noise.push(look.noise(&world.pids(), world.dir())?);
    }
    let title = format!("the adapter alone, {} requests, nothing recorded", number(count as f64));
    let mut report = bench.report("b2", &title)?;
    report.value = rates.median();
    report.unit = "requests/s".to_owned();
    report.ceiling = bare_rates.median();
    report.of = "bare h2 loop, one connection".to_owned();
    report.ratio = ratios.median();
    (report.target, report.good, report.verified) = (0.8, Good::AtLeast, true);
    report.also("ratios of the rounds", ratios.span());
    report.also("CPU", format!("{:.1} µs a request; bare loop {:.1} µs", cpu.median(), bare_cpu.median()));
    report.also("noise", crate::machine::noise(&noise));
    Ok(report)
}
