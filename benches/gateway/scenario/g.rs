//! g: a neighbour with a campaign. A sends to many on a credential that both use; B sends one message at a time. How much longer B waits than
//! alone, and what A loses by B.

use std::time::{Duration, Instant};

use anyhow::ensure;
use reqwest::Method;
use serde_json::json;

use crate::machine::Look;
use crate::probe::load::{Seen, book};
use crate::report::{Good, Report};
use crate::rounds::{Rounds, number};
use crate::scenario::b;
use crate::world::World;
use crate::{Bench, Size};

/// Between two messages of B.
const EVERY: Duration = Duration::from_millis(50);

/// B's messages one by one until told to stop: from the call until the vendor has it.
async fn single(world: &World, key: &str, until: impl Fn(usize) -> bool) -> anyhow::Result<Seen> {
    let mut all = book()?;
    let started = Instant::now();
    let mut sent = 0;
    while !until(sent) {
        let called = Instant::now();
        let body = json!({
            "to": {"device_ids": ["own-phone"]}, "class": "transactional",
            "notification": {"title": "Your code", "body": sent.to_string()},
        });
        let id = world.send(key, body).await?;
        loop {
            let message = world.call(key, Method::GET, &format!("/v1/messages/{id}"), None).await?;
            if message["state"] == "done" {
                ensure!(message["counts"]["now"]["accepted"] == 1, "B's message: {message}");
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        all.saturating_record(called.elapsed().as_micros() as u64);
        sent += 1;
        tokio::time::sleep(EVERY.saturating_sub(called.elapsed())).await;
    }
    Ok(Seen::of(&all, started.elapsed().as_secs_f64()))
}

/// App B, with the same credential as A, and its one phone.
async fn neighbour(world: &World) -> anyhow::Result<String> {
    let (app, key) = world.new_app("neighbour").await?;
    world.channel_of(&app, "apns", "apns", json!({})).await?;
    // Beyond those of the campaign.
    let token =
        world.sandbox(Method::GET, "/tokens/apns?from=50000000&count=1", None).await?["tokens"][0].take();
    let phone = json!({"addresses": [{"provider": "apns", "token": token}]});
    world.call(&key, Method::PUT, "/v1/devices/own-phone", Some(phone)).await?;
    Ok(key)
}

pub(crate) async fn run(bench: &Bench) -> anyhow::Result<Report> {
    let (count, rounds, alone_for) = match bench.size {
        Size::Guard => (5_000, 2, 40),
        Size::Quick => (50_000, 2, 60),
        Size::Full => (500_000, 5, 200),
        Size::Long => (1_000_000, 5, 400),
    };
    let world = b::phones(bench, count).await?;
    let key = neighbour(&world).await?;
    b::turn(&world, count).await?;
    let (mut alone, mut beside, mut kept) = (Rounds::default(), Rounds::default(), Rounds::default());
    let (mut ratios, mut noise, mut last) = (Rounds::default(), Vec::new(), String::new());
    for round in 1..=rounds {
        let look = Look::now(&world.pids())?;
        let quiet = single(&world, &key, |sent| sent >= alone_for).await?;
        let campaign_alone = b::turn(&world, count).await?;
        let running = tokio::sync::watch::channel(true);
        let (campaign, crowded) = tokio::join!(
            async {
                let campaign = b::campaign(&world, count).await;
                let _ = running.0.send(false);
                campaign
            },
            single(&world, &key, |_| !*running.1.borrow())
        );
        let (campaign, crowded) = (campaign?, crowded?);
        bench.say(&format!(
            "round {round} of {rounds}: B alone {}, beside A {} ({} messages); A {}/s alone, {}/s beside B",
            quiet.text(),
            crowded.text(),
            crowded.calls,
            number(campaign_alone.rate()),
            number(campaign.rate())
        ));
        last = crowded.text();
        alone.push(quiet.p99);
        beside.push(crowded.p99);
        ratios.push(crowded.p99 / (3.0 * quiet.p99 + 20.0));
        kept.push(campaign.rate() / campaign_alone.rate());
        noise.push(look.noise(&world.pids(), world.dir())?);
    }
    let title =
        format!("single messages beside a campaign to {} on the same credential", number(count as f64));
    let mut report = bench.report("g", &title)?;
    (report.value, report.unit) = (beside.median(), "ms (p99)".to_owned());
    (report.ceiling, report.of) =
        (3.0 * alone.median() + 20.0, "three times the p99 alone, and 20 ms".to_owned());
    report.ratio = ratios.median();
    (report.target, report.good, report.verified) = (1.0, Good::AtMost, true);
    report.also("p99 alone", format!("{:.2} ms", alone.median()));
    report.also("beside the campaign", last);
    report.also(
        "what the campaign keeps of its rate",
        format!("{:.2} (target ≥ 0.95; span {})", kept.median(), kept.span()),
    );
    report.also("noise", crate::machine::noise(&noise));
    Ok(report)
}
