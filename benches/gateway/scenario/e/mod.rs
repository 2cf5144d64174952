//! e: what dashboards ask, over a year of deliveries; each answer is held against a scan of the rows in the same run.

mod ask;
mod fill;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use reqwest::Method;
use serde_json::{Value, json};

use self::ask::{Ask, same};
use self::fill::{DAY_MS, DAYS, Year};
use crate::machine;
use crate::report::{Good, Report};
use crate::rounds::number;
use crate::world::{Cores, World};
use crate::{Bench, Size};

/// What a person who looks at a dashboard does not notice.
const AT_ONCE: Duration = Duration::from_millis(50);
/// A call that is slow is made less often.
const FOR_EACH: Duration = Duration::from_secs(15);

/// How long a call took.
struct Found {
    what: &'static str,
    calls: u64,
    p50: Duration,
    p99: Duration,
    scan: Duration,
    cpu_us: f64,
}

impl Found {
    fn share(&self) -> f64 {
        self.p99.as_secs_f64() / self.scan.as_secs_f64()
    }

    fn text(&self) -> String {
        let ms = |time: Duration| format!("{} ms", number(time.as_secs_f64() * 1000.0));
        format!(
            "p50 {}, p99 {} of {} calls, {} µs of CPU; scan {}: {} times as long{}",
            ms(self.p50),
            ms(self.p99),
            self.calls,
            number(self.cpu_us),
            ms(self.scan),
            number(1.0 / self.share()),
            if self.p99 > AT_ONCE { " (over 50 ms)" } else { "" }
        )
    }
}

pub(crate) async fn run(bench: &Bench) -> anyhow::Result<Report> {
    let (deliveries, most) = match bench.size {
        Size::Quick | Size::Guard => (1_000_000, 30),
        Size::Full => (10_000_000, 200),
        Size::Long => (10_000_000, 1000),
    };
    // A year of rows to scan: by default messages are forgotten after a month.
    let kept = [("ANYPUSH_RETENTION_MESSAGES_DAYS", "500"), ("ANYPUSH_RETENTION_REPORTS_DAYS", "800")];
    let kept = kept.map(|(name, days)| (name, days.to_owned())).to_vec();
    let mut world = World::start(bench, Cores::Apart, kept).await?;
    for provider in ["apns", "fcm", "xiaomi", "huawei"] {
        world.channel(provider).await?;
    }
    one_real(&world).await?;
    world.stop_gateway()?;
    let now = jiff::Timestamp::now().as_millisecond() as u64;
    let today = now - now % DAY_MS;
    let year = Year::plan(&world.database(), &world.app, deliveries, today - DAYS * DAY_MS).await?;
    let started = Instant::now();
    year.fill(bench, &world.database()).await?;
    world.start_gateway().await?;
    let bytes = world.database_bytes().await? as f64;
    bench.say(&format!("filled in {:.0} s", started.elapsed().as_secs_f64()));
    let (message, pages) = pages(&world).await?;
    let mut found = Vec::new();
    let mut reader = world.reader().await?;
    for ask in Ask::all(&year, today, &message, pages)? {
        let began = Instant::now();
        let scanned = ask.scanned(&mut reader, &year, today).await?;
        let scan = began.elapsed();
        same(ask.what, &ask.told(&get(&world, &ask.paths[0]).await?)?, &scanned)?;
        let one = measured(&world, &ask, most, scan).await?;
        bench.say(&format!("{}: {}", one.what, one.text()));
        found.push(one);
    }
    let memory = machine::resident(world.gateway_pid()?)? as f64 / 1_048_576.0;
    let mut report = report(bench, deliveries, &found)?;
    report.also("database", format!("{} MiB", number(bytes / 1_048_576.0)));
    report.also("memory", format!("{} MiB", number(memory)));
    Ok(report)
}

/// One message on the gateway's own way, for what rows of messages hold.
async fn one_real(world: &World) -> anyhow::Result<()> {
    let token = world.tokens("apns", 1).await?.remove(0);
    let phone = json!({"id": "real", "platform": "ios", "addresses": [{"provider": "apns", "token": token}]});
    world.import(&world.key, std::iter::once(phone)).await?;
    let message = json!({"to": {"device_ids": ["real"]}, "notification": {"title": "Your order", "body": "is on its way"}});
    let id = world.send(&world.key, message).await?;
    let done = world.done(&world.key, &id).await?;
    ensure!(done["counts"]["now"]["accepted"] == 1, "{done}");
    Ok(())
}

/// The message to all devices, and addresses of fifty pages of its deliveries.
async fn pages(world: &World) -> anyhow::Result<(String, Vec<String>)> {
    let list = world.call(&world.key, Method::GET, "/v1/messages?label=big", None).await?;
    let id = list["data"][0]["id"].as_str().context("the message to all is listed")?.to_owned();
    let first = format!("/v1/messages/{id}/deliveries?limit=100");
    let mut pages = vec![first.clone()];
    while pages.len() < 50 {
        let page: Value = serde_json::from_str(&get(world, &pages[pages.len() - 1]).await?)?;
        let cursor = page["next_cursor"].as_str().context("there is another page")?;
        pages.push(format!("{first}&cursor={cursor}"));
    }
    Ok((id, pages))
}

async fn get(world: &World, path: &str) -> anyhow::Result<String> {
    let response = world.http.get(format!("{}{path}", world.url)).bearer_auth(&world.key).send().await?;
    let (status, text) = (response.status(), response.text().await?);
    ensure!(status.is_success(), "{path}: {status} {text}");
    Ok(text)
}

async fn measured(world: &World, ask: &Ask, most: u64, scan: Duration) -> anyhow::Result<Found> {
    let mut book = Histogram::<u64>::new(3)?;
    let (began, before) = (Instant::now(), machine::cpu(world.gateway_pid()?)?);
    for path in ask.paths.iter().cycle().take(most as usize) {
        let started = Instant::now();
        get(world, path).await?;
        book.record(started.elapsed().as_micros() as u64)?;
        if began.elapsed() > FOR_EACH && book.len() >= 3 {
            break;
        }
    }
    let cpu = machine::cpu(world.gateway_pid()?)? - before;
    let at = |quantile| Duration::from_micros(book.value_at_quantile(quantile));
    let (calls, cpu_us) = (book.len(), cpu.as_secs_f64() * 1e6 / book.len() as f64);
    Ok(Found { what: ask.what, calls, p50: at(0.5), p99: at(0.99), scan, cpu_us })
}

fn report(bench: &Bench, deliveries: u64, found: &[Found]) -> anyhow::Result<Report> {
    let slowest = found.iter().max_by_key(|one| one.p99).context("something was asked")?;
    let mut report =
        bench.report("e", &format!("dashboards over {} deliveries of a year", number(deliveries as f64)))?;
    report.value = slowest.p99.as_secs_f64() * 1000.0;
    report.unit = format!("ms p99 ({}, the slowest)", slowest.what);
    report.ceiling = AT_ONCE.as_secs_f64() * 1000.0;
    report.of = "what nobody notices".to_owned();
    report.ratio = report.value / report.ceiling;
    (report.target, report.good, report.verified) = (1.0, Good::AtMost, true);
    let slow = found.iter().filter(|one| one.p99 > AT_ONCE).count();
    let verdict = if slow == 0 { "met".to_owned() } else { format!("missed by {slow} of {}", found.len()) };
    report.also("50 ms p99 each", verdict);
    // Where a few rows are read by their key, a scan reads no others.
    let scanned = found.iter().filter(|one| one.scan > AT_ONCE).map(Found::share).fold(0.0, f64::max);
    report.also(
        "a scan of the rows, where it takes over 50 ms itself",
        format!("{} times as long at the least (target ≥ 50)", number(1.0 / scanned)),
    );
    for one in found {
        report.also(one.what, one.text());
    }
    Ok(report)
}
