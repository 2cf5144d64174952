//! d: phones on connections of their own, plain sockets: the gateway ends no TLS. Against a bare TCP server that holds as many.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use reqwest::Method;
use serde_json::json;

use crate::machine;
use crate::probe;
use crate::probe::load::Seen;
use crate::probe::sockets::{Client, Order, Phones, now_us};
use crate::report::{Good, Report};
use crate::rounds::{Rounds, number};
use crate::world::{Cores, World};
use crate::{Bench, Size};

/// Userland bytes that an idle connection may cost.
const BUDGET: f64 = 5.0 * 1024.0;
/// Files that a process has open beside its connections.
const OTHER_FILES: u64 = 500;
/// Single messages a second.
const SINGLES: f64 = 1000.0;

/// How much is done.
#[derive(Clone, Copy)]
struct Plan {
    phones: usize,
    rounds: u8,
    seconds: f64,
}

pub(crate) async fn run(bench: &Bench) -> anyhow::Result<Report> {
    let (phones, rounds, seconds) = match bench.size {
        Size::Quick | Size::Guard => (1000, 2, 3.0),
        Size::Full => (10_000, 3, 15.0),
        Size::Long => (18_000, 5, 60.0),
    };
    let most = machine::open_files()?.saturating_sub(OTHER_FILES) as usize;
    if most < phones {
        bench.say(&format!("{most} phones: more open files are not allowed"));
    }
    let plan = Plan { phones: phones.min(most), rounds, seconds };
    // Memory that is free again is given back at once, or what holding takes would be mixed with what polling took before.
    let env = vec![("MIMALLOC_PURGE_DELAY", "1".to_owned())];
    let mut world = World::start(bench, Cores::Apart, env).await?;
    let secrets = register(bench, &world, plan.phones).await?;
    let mut found = Found::default();
    for round in 1..=plan.rounds {
        let tcp = bare("echo", plan, Phones { source: 10 + round, ..Phones::default() }).await?;
        let phones = Phones { secrets: secrets.clone(), source: 50 + round, ..Phones::default() };
        let sockets = bare("websockets", plan, phones).await?;
        // Memory that an earlier round gave back would hide what this one takes.
        world.stop_gateway()?;
        world.start_gateway().await?;
        let origin = world.url.trim_start_matches("http://").to_owned();
        let ours =
            gateway(&world, plan, Phones { origin, secrets: secrets.clone(), source: 100 + round }).await?;
        bench.say(&format!(
            "round {round} of {rounds}: bare {} bytes and {} connects/s, bare WebSockets {} bytes and {} connects/s, gateway {} bytes and {} connects/s; to all {}/s",
            number(tcp.bytes),
            number(tcp.connects.rate()),
            number(sockets.bytes),
            number(sockets.connects.rate()),
            number(ours.held.bytes),
            number(ours.held.connects.rate()),
            number(ours.to_all)
        ));
        found.push(&tcp, &sockets, ours);
    }
    found.report(bench, plan)
}

/// Devices that connect themselves, and their secrets.
async fn register(bench: &Bench, world: &World, count: usize) -> anyhow::Result<Vec<String>> {
    bench.say(&format!("registering {} phones and making their secrets", number(count as f64)));
    let device = |nth| json!({"id": format!("phone-{nth}"), "platform": "android", "tags": ["all"]});
    world.import(&world.key, (0..count).map(device)).await?;
    let secret = async |nth| {
        let path = format!("/v1/devices/phone-{nth}/secret");
        let made = world.call(&world.key, Method::POST, &path, None).await?;
        anyhow::Ok(made["secret"].as_str().context("a secret is told once")?.to_owned())
    };
    stream::iter(0..count).map(secret).buffered(64).try_collect().await
}

/// What holding connections took.
struct Held {
    /// Bytes of each of the later half: the first half pays for what is made once.
    bytes: f64,
    connects: Seen,
}

async fn held(client: &mut Client, pid: u32, phones: usize) -> anyhow::Result<Held> {
    let half = phones / 2;
    client.order(Order::Connect(half)).await?;
    let before = settled(pid).await?;
    let connects = client.order(Order::Connect(phones - half)).await?;
    let after = settled(pid).await?;
    ensure!(connects.calls == (phones - half) as u64, "{} of {} connected", connects.calls, phones - half);
    Ok(Held { bytes: (after as f64 - before as f64) / (phones - half) as f64, connects })
}

/// Resident memory once nothing happens any more.
async fn settled(pid: u32) -> anyhow::Result<u64> {
    tokio::time::sleep(Duration::from_secs(2)).await;
    machine::resident(pid)
}

/// A server that does nothing else.
async fn bare(server: &str, plan: Plan, phones: Phones) -> anyhow::Result<Held> {
    let server = probe::server(server, Cores::Apart.of_gateway(), &()).await?;
    let phones = Phones { origin: server.origin.clone(), ..phones };
    let mut client = Client::start(Cores::Apart.of_others(), &phones).await?;
    held(&mut client, server.pid, plan.phones).await
}

/// What one turn of the gateway found.
struct Turn {
    /// Connects of which the gateway knows nothing yet.
    strangers: Seen,
    polls: Seen,
    held: Held,
    /// Deliveries of one message to all a second, each acknowledged and written down.
    to_all: f64,
    to_all_cpu_us: f64,
    to_all_latency: Seen,
    singles: Seen,
}

async fn gateway(world: &World, plan: Plan, phones: Phones) -> anyhow::Result<Turn> {
    let pid = world.gateway_pid()?;
    let strangers = {
        // It hangs up when it is dropped.
        let mut client = Client::start(Cores::Apart.of_others(), &phones).await?;
        client.order(Order::Connect(plan.phones / 5)).await?
    };
    let mut client = Client::start(Cores::Apart.of_others(), &phones).await?;
    // Asking first also brings all devices into the database's cache, which is no connection's memory.
    let polls = client.order(Order::Poll { abreast: 64, seconds: plan.seconds }).await?;
    let held = held(&mut client, pid, plan.phones).await?;
    let (before, began) = (machine::cpu(pid)?, now_us());
    let message = json!({
        "to": {"audience": {"tag": "all"}}, "class": "transactional", "data": {"at": began.to_string()},
        "notification": {"title": "Doors open", "body": "The market is open from now until eight."},
    });
    let id = world.send(&world.key, message).await?;
    let to_all_latency = client.order(Order::Collect(plan.phones as u64)).await?;
    delivered(world, &id, plan.phones).await?;
    let seconds = (now_us() - began) as f64 / 1e6;
    let cpu = (machine::cpu(pid)? - before).as_secs_f64();
    ensure!(to_all_latency.calls == plan.phones as u64, "{} of {} came", to_all_latency.calls, plan.phones);
    let order = Order::Singles { key: world.key.clone(), rate: SINGLES, seconds: plan.seconds };
    let singles = client.order(order).await?;
    ensure!(singles.calls == (SINGLES * plan.seconds) as u64, "{} single messages came", singles.calls);
    let all = plan.phones as f64;
    Ok(Turn {
        strangers,
        polls,
        held,
        to_all: all / seconds,
        to_all_cpu_us: cpu * 1e6 / all,
        to_all_latency,
        singles,
    })
}

/// Waits until the gateway counts all as delivered.
async fn delivered(world: &World, id: &str, phones: usize) -> anyhow::Result<()> {
    for _ in 0..30_000 {
        let message = world.call(&world.key, Method::GET, &format!("/v1/messages/{id}"), None).await?;
        if message["counts"]["now"]["delivered"] == phones {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bail!("not all of {phones} are counted as delivered")
}

/// Numbers of all rounds.
#[derive(Default)]
struct Found {
    bytes: Rounds,
    bare_bytes: Rounds,
    connect_ratios: Rounds,
    strangers: Rounds,
    connects: Rounds,
    bare_connects: Rounds,
    socket_bytes: Rounds,
    socket_ratios: Rounds,
    socket_connects: Rounds,
    to_all: Rounds,
    to_all_cpu: Rounds,
    polls: Rounds,
    last: Option<Turn>,
}

impl Found {
    fn push(&mut self, bare: &Held, sockets: &Held, ours: Turn) {
        self.socket_bytes.push(sockets.bytes);
        self.socket_connects.push(sockets.connects.rate());
        self.socket_ratios.push(ours.held.connects.rate() / sockets.connects.rate());
        self.bytes.push(ours.held.bytes);
        self.bare_bytes.push(bare.bytes);
        self.connect_ratios.push(ours.held.connects.rate() / bare.connects.rate());
        self.strangers.push(ours.strangers.rate());
        self.connects.push(ours.held.connects.rate());
        self.bare_connects.push(bare.connects.rate());
        self.to_all.push(ours.to_all);
        self.to_all_cpu.push(ours.to_all_cpu_us);
        self.polls.push(ours.polls.rate());
        self.last = Some(ours);
    }

    fn report(&self, bench: &Bench, plan: Plan) -> anyhow::Result<Report> {
        let last = self.last.as_ref().context("a round was run")?;
        let title = format!("{} phones hold a WebSocket, no TLS", number(plan.phones as f64));
        let mut report = bench.report("d", &title)?;
        report.value = self.bytes.median();
        report.unit = "bytes of userland memory a connection".to_owned();
        (report.ceiling, report.of) = (BUDGET, "the budget".to_owned());
        report.ratio = report.value / BUDGET;
        (report.target, report.good, report.verified) = (1.0, Good::AtMost, true);
        let bare = number(self.bare_bytes.median());
        report.also("a bare TCP server, which keeps nothing of a connection", format!("{bare} bytes"));
        report.also(
            "a bare WebSocket server",
            format!(
                "{} bytes; {} connects/s: {:.2} of bare TCP; the gateway {:.2} of it",
                number(self.socket_bytes.median()),
                number(self.socket_connects.median()),
                self.socket_connects.median() / self.bare_connects.median(),
                self.socket_ratios.median()
            ),
        );
        report.also(
            "connects",
            format!(
                "{}/s, bare {}/s: {:.2} (target ≥ 0.5); {}",
                number(self.connects.median()),
                number(self.bare_connects.median()),
                self.connect_ratios.median(),
                last.held.connects.text()
            ),
        );
        report.also(
            "connects after a start, each device and inbox read",
            format!("{}/s", number(self.strangers.median())),
        );
        let to_all = number(self.to_all.median());
        let cpu = number(self.to_all_cpu.median());
        let latency = last.to_all_latency.text();
        report.also(
            "one message to all, acknowledged",
            format!("{to_all}/s, {cpu} µs of CPU each; to the phone {latency}"),
        );
        report.also("1000 single messages a second", format!("to the phone {}", last.singles.text()));
        report.also(
            "polls of an empty inbox",
            format!("{}/s; {}", number(self.polls.median()), last.polls.text()),
        );
        report.also("mosquitto, QoS 1", "not compared: the phones here speak no MQTT");
        Ok(report)
    }
}
