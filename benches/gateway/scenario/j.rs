//! j: receipts. A vendor reports each delivery, a hundred in a call, in random order: at rest, and beside a campaign. Against
//! updates of the same rows by a program that does nothing else.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::machine::{self, Look, Noise};
use crate::probe::receipts::{Task, Told, Vendor};
use crate::probe::sockets::now_us;
use crate::probe::{self, Reached, rows};
use crate::report::{Good, Report};
use crate::rounds::{Rounds, number};
use crate::scenario::b;
use crate::world::{Cores, World};
use crate::{Bench, Size};

/// The vendor that reports a hundred in a call.
const VENDOR: &str = "huawei";
/// Nothing takes longer, in looks of ten milliseconds.
const LOOKS: usize = 90_000;

/// Receipts at rest.
struct AtRest {
    told: Told,
    /// Merged a second: of those that were left when the last was taken, or, where these are few, of all.
    merged_rate: f64,
    /// CPU for each, door and merge together, and the door's part where the two can be told apart.
    cpu_us: f64,
    door_us: Option<f64>,
}

pub(crate) async fn run(bench: &Bench) -> anyhow::Result<Report> {
    let (count, rounds) = match bench.size {
        Size::Quick | Size::Guard => (50_000, 2),
        Size::Full => (1_000_000, 3),
        Size::Long => (1_000_000, 5),
    };
    let world = b::phones(bench, count).await?;
    let phones = Reporting::register(bench, &world, count).await?;
    // The first warms caches and connections, and is not counted.
    b::turn(&world, count).await?;
    let mut found = Found::default();
    for round in 1..=rounds {
        let look = Look::now(&world.pids())?;
        let task = rows::Task { dir: world.dir().to_owned(), rows: count as u64, what: rows::What::Update };
        let bare: Reached = probe::run("rows", Cores::Apart.of_gateway(), &task).await?;
        let task = rows::Task { what: rows::What::Receipts, ..task };
        let least: Reached = probe::run("rows", Cores::Apart.of_gateway(), &task).await?;
        let at_rest = phones.at_rest(&world).await?;
        let alone = b::turn(&world, count).await?;
        let (beside, late) = phones.beside(&world, alone.rate()).await?;
        let noise = look.noise(&world.pids(), world.dir())?;
        bench.say(&format!(
            "round {round} of {rounds}: {} receipts/s taken, {} merged with {:.1} µs each; bare updates {}/s with {:.1} µs, with look-ups {}/s with {:.1} µs; sends {}/s, with receipts {}/s, others {:.0} %",
            number(at_rest.told.receipts as f64 / at_rest.told.seconds),
            number(at_rest.merged_rate),
            at_rest.cpu_us,
            number(bare.rate()),
            bare.cpu_us(),
            number(least.rate()),
            least.cpu_us(),
            number(alone.rate()),
            number(beside.rate()),
            noise.foreign * 100.0
        ));
        found.push((&bare, &least), &at_rest, (alone.rate(), beside.rate(), late), noise);
    }
    found.report(bench, count)
}

/// Phones of the vendor that reports.
struct Reporting {
    count: usize,
    url: String,
    account: Value,
}

impl Reporting {
    async fn register(bench: &Bench, world: &World, count: usize) -> anyhow::Result<Self> {
        let account = world.channel(VENDOR).await?;
        let path = format!("/v1/apps/{}/channels/{VENDOR}", world.app);
        let channel = world.call(&world.admin_key, Method::GET, &path, None).await?;
        let url = channel["callback_url"].as_str().context("the vendor calls back")?.to_owned();
        // What the sandbox itself would report is nobody's number here.
        let quiet = json!({"receipts": {"on": false}});
        world.sandbox(Method::PUT, &format!("/providers/{VENDOR}"), Some(quiet)).await?;
        bench.say(&format!("registering {} phones that are reported about", number(count as f64)));
        let tokens = world.tokens(VENDOR, count).await?;
        let devices = tokens.into_iter().enumerate().map(|(nth, token)| {
            json!({
                "id": format!("reported-{nth}"), "platform": "android", "tags": ["reported"],
                "addresses": [{"provider": VENDOR, "token": token}],
            })
        });
        world.import(&world.key, devices).await?;
        Ok(Self { count, url, account })
    }

    /// Sends to all of them, and has the vendor ready to report it: the message's id, and whoever reports.
    async fn sent(&self, world: &World, rate: f64) -> anyhow::Result<(String, Vendor)> {
        // Of marketing, the vendor takes only a few a day for each phone.
        let message = json!({
            "to": {"audience": {"tag": "reported"}}, "class": "transactional",
            "notification": {"title": b::TITLE, "body": b::BODY},
        });
        let id = world.send(&world.key, message).await?;
        let done = world.done(&world.key, &id).await?;
        ensure!(done["counts"]["now"]["accepted"] == self.count, "{done}");
        let mut reader = world.reader().await?;
        let number = sqlx::query_scalar("SELECT max(id) FROM messages").fetch_one(&mut reader).await?;
        let (database, url, account) = (world.database(), self.url.clone(), self.account.clone());
        let task = Task { database, message: number, url, account, rate };
        Ok((id, Vendor::ready(Cores::Apart.of_others(), &task).await?))
    }

    async fn at_rest(&self, world: &World) -> anyhow::Result<AtRest> {
        let pid = world.gateway_pid()?;
        let (id, vendor) = self.sent(world, 0.0).await?;
        let before = machine::cpu(pid)?;
        let told = vendor.go().await?;
        let (taken_us, taken, merged) = (now_us(), machine::cpu(pid)?, merged(world, &id).await?);
        let done_us = self.all_merged(world, &id).await?;
        let done = machine::cpu(pid)?;
        let us = |time: Duration| time.as_secs_f64() * 1e6;
        let all = self.count as f64;
        let left = all - merged as f64;
        let (merged_rate, door_us) = if left >= all / 10.0 {
            let merging = us(done - taken) / left;
            let rate = left / ((done_us - taken_us) as f64 / 1e6);
            (rate, Some((us(taken - before) - merging * merged as f64) / all))
        } else {
            (all / ((done_us - told.began_us) as f64 / 1e6), None)
        };
        Ok(AtRest { told, merged_rate, cpu_us: us(done - before) / all, door_us })
    }

    /// A campaign with as many receipts a second as it alone has sends; and how long after it the last was merged.
    async fn beside(&self, world: &World, rate: f64) -> anyhow::Result<(Reached, Duration)> {
        let (id, vendor) = self.sent(world, rate).await?;
        world.sandbox(Method::DELETE, "/requests", None).await?;
        let (campaign, told) = tokio::join!(b::campaign(world, self.count), vendor.go());
        let (campaign, ended_us) = (campaign?, now_us());
        ensure!(told?.receipts == self.count as u64, "not all were reported");
        let done_us = self.all_merged(world, &id).await?;
        Ok((campaign, Duration::from_micros(done_us.saturating_sub(ended_us))))
    }

    /// Waits until the gateway counts each as delivered: when that was, in Unix microseconds. The rows say the same.
    async fn all_merged(&self, world: &World, id: &str) -> anyhow::Result<u64> {
        let mut looks = 0;
        while merged(world, id).await? < self.count as u64 {
            looks += 1;
            ensure!(looks < LOOKS, "{} of {} receipts are merged", merged(world, id).await?, self.count);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let at = now_us();
        let mut reader = world.reader().await?;
        let sql = "SELECT count(*) FROM deliveries WHERE message = (SELECT max(message) FROM deliveries WHERE state = 2)
             AND state = 2 AND delivered_ms IS NOT NULL";
        let rows: i64 = sqlx::query_scalar(sql).fetch_one(&mut reader).await?;
        ensure!(rows == self.count as i64, "{rows} rows are delivered, the counters say {}", self.count);
        Ok(at)
    }
}

async fn merged(world: &World, id: &str) -> anyhow::Result<u64> {
    let message = world.call(&world.key, Method::GET, &format!("/v1/messages/{id}"), None).await?;
    message["counts"]["now"]["delivered"].as_u64().context("a message has counts")
}

/// Numbers of all rounds.
#[derive(Default)]
struct Found {
    ratios: Rounds,
    merged: Rounds,
    bare: Rounds,
    bare_cpu: Rounds,
    /// Devices found and rows read before, and nothing else.
    least: Rounds,
    least_cpu: Rounds,
    cpu: Rounds,
    door: Rounds,
    taken: Rounds,
    kept: Rounds,
    sends: Rounds,
    late: Rounds,
    refused: u64,
    noise: Vec<Noise>,
}

impl Found {
    fn push(
        &mut self,
        (bare, least): (&Reached, &Reached),
        at_rest: &AtRest,
        (alone, beside, late): (f64, f64, Duration),
        noise: Noise,
    ) {
        self.ratios.push(at_rest.merged_rate / bare.rate());
        self.merged.push(at_rest.merged_rate);
        self.bare.push(bare.rate());
        self.least.push(least.rate());
        self.least_cpu.push(least.cpu_us());
        self.bare_cpu.push(bare.cpu_us());
        self.cpu.push(at_rest.cpu_us);
        if let Some(door) = at_rest.door_us {
            self.door.push(door);
        }
        self.taken.push(at_rest.told.receipts as f64 / at_rest.told.seconds);
        self.refused += at_rest.told.refused;
        self.kept.push(beside / alone);
        self.sends.push(beside);
        self.late.push(late.as_secs_f64());
        self.noise.push(noise);
    }

    fn report(&self, bench: &Bench, count: usize) -> anyhow::Result<Report> {
        let title = format!("{} receipts, a hundred in a call, in random order", number(count as f64));
        let mut report = bench.report("j", &title)?;
        report.value = self.merged.median();
        report.unit = "receipts/s merged".to_owned();
        report.ceiling = self.bare.median();
        report.of = "bare updates of such rows, 1000 in a transaction".to_owned();
        report.ratio = self.ratios.median();
        (report.target, report.good, report.verified) = (1.0, Good::AtLeast, true);
        report.also("ratios of the rounds", self.ratios.span());
        let door = match self.door.median() {
            0.0 => "not told apart: the merge kept up with the door".to_owned(),
            door => format!("{door:.1} µs a receipt (target ≤ 4)"),
        };
        report.also("CPU at the door", door);
        report.also(
            "CPU of door and merge",
            format!("{:.1} µs a receipt; bare update {:.1} µs", self.cpu.median(), self.bare_cpu.median()),
        );
        report.also(
            "the least that a merge is: its devices found by token, their rows read and updated",
            format!(
                "{}/s, {:.1} µs of CPU each: {:.2} of the bare updates; the gateway {:.2} of it",
                number(self.least.median()),
                self.least_cpu.median(),
                self.least.median() / self.bare.median(),
                self.merged.median() / self.least.median()
            ),
        );
        let (taken, refused) = (number(self.taken.median()), self.refused);
        report.also("taken", format!("{taken} receipts/s; {refused} calls were told to come again"));
        report.also(
            "a campaign with as many receipts as sends",
            format!(
                "{} sends/s, {:.2} of those without receipts (target ≥ 0.8); the last was merged {:.1} s after its end",
                number(self.sends.median()),
                self.kept.median(),
                self.late.median()
            ),
        );
        report.also("noise", machine::noise(&self.noise));
        Ok(report)
    }
}
