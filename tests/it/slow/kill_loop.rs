//! The kill loop: the gateway is killed again and again while a hundred thousand deliveries run, and the ledger must
//! still add up. `scripts/kill-loop` runs it.
//!
//! The seed gives the messages and the moments again, not the threads between them: a failure that does not come back
//! at once comes back after some runs of its seed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::ledger::{self, Bounds};
use crate::sending::{direct_device, fcm_device};
use crate::world::{PATIENCE, World, assert_adds_up};

/// Deliveries of a run, whatever the number of kills.
const DELIVERIES: usize = 100_000;
const DEVICES: usize = 4000;
/// Devices that share a tag.
const GROUP: usize = 50;
/// What one kill may send twice, with one channel that has a vendor; stricter than what the construction promises
/// (docs/reliability.md).
const WINDOW: u64 = 6000;
/// Callers at the same time.
const CALLERS: usize = 8;
/// Of so many messages one must not be sent twice whatever happens.
const ONCE: usize = 4;
/// Of so many kills one comes before the gateway is ready: recovery itself must bear it.
const EARLY: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_killed_again_and_again_loses_nothing_and_repeats_little() {
    let kills = setting("ANYPUSH_KILLS", 20) as usize;
    let seed = setting("ANYPUSH_SEED", rand::random::<u32>().into());
    eprintln!("{kills} kills, seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let began = Instant::now();
    let mut world = prepared().await;
    eprintln!("{DEVICES} devices after {} s", began.elapsed().as_secs());
    let line = Arc::new(Line::new(&world));
    let callers: Vec<_> = (0..CALLERS).map(|_| Arc::clone(&line).start()).collect();
    let mut each = Vec::new();
    for kill in 1..=kills {
        plan(&mut random, &line, kill, DELIVERIES / kills);
        let before = duplicates(&world).await;
        let early = random.random_range(0..EARLY) == 0;
        world.spawn_gateway();
        if !early {
            world.ready().await;
            line.repeat_some(&mut random).await;
        }
        let after = log_uniform(&mut random, if early { 0.2 } else { 5.0 });
        tokio::time::sleep(after).await;
        world.kill_gateway();
        each.push(duplicates(&world).await - before);
        let (sent, when) = (line.done.lock().unwrap().len(), if early { "start" } else { "ready" });
        eprintln!(
            "kill {kill}: {after:.1?} after {when}, {sent} messages, {} repeated before it",
            each[kill - 1]
        );
    }
    let before = duplicates(&world).await;
    world.start_gateway().await;
    line.repeat_some(&mut random).await;
    line.finish(callers).await;
    let ids = line.ids();
    for (number, id) in ids.iter().enumerate() {
        if number % 100 == 0 {
            eprintln!("{number} of {} messages are done, {} s", ids.len(), began.elapsed().as_secs());
        }
        ended(&world, id).await;
    }
    each.push(duplicates(&world).await - before);
    line.tell(&world);
    assert!(world.stop_gateway().success());
    let bounds = Bounds { crashes: kills as u64, window: WINDOW, ..Bounds::default() };
    let report = ledger::check(&world, bounds).await;
    let most = each.iter().max().copied().unwrap_or_default();
    assert!(most <= WINDOW, "one kill repeated {most} targets, {WINDOW} may");
    let result = json!({
        "kills": kills, "seed": seed, "messages": report.messages, "deliveries": report.deliveries,
        "vendor_requests": report.requests, "lost": 0, "duplicates": report.duplicates,
        "duplicates_per_kill": {"max": most, "window": WINDOW, "histogram": histogram(&each)},
        "at_most_once": line.at_most_once(), "at_most_once_duplicates": report.at_most_once_duplicates,
        "calls_without_answer": line.lost.load(Ordering::Relaxed), "seconds": began.elapsed().as_secs(),
    });
    println!(
        "{kills} kills during {} deliveries: lost 0, sent twice {} (at most {most} a kill, {WINDOW} may), \
         seed {seed}\n{result}",
        report.deliveries, report.duplicates
    );
}

fn setting(name: &str, or: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(or)
}

/// FCM with some trouble, and phones that connect themselves; the vendor takes its time and has no quota.
async fn prepared() -> World {
    let world = World::start().await;
    let devices = (0..DEVICES).map(|i| {
        let mut device = match i % 50 {
            0 => fcm_device(&format!("flaky-{i}")),
            1 => fcm_device(&format!("limited-{i}")),
            // In every page: none holds up the others.
            2 => fcm_device(&format!("slow-{i}")),
            3..6 => direct_device(),
            _ => fcm_device(&format!("ok-{i}")),
        };
        device["tags"] = json!(["all", format!("group-{}", i / GROUP)]);
        (format!("d{i}"), device)
    });
    world.put_devices(devices.collect()).await;
    let direct: Vec<_> =
        (0..DEVICES).filter(|i| (3..6).contains(&(i % 50))).map(|i| format!("d{i}")).collect();
    world.device_secrets(&direct).await;
    let switch = json!({"latency_ms": 30, "quota": {"account_per_minute": null}});
    world.sandbox(Method::PUT, "/providers/fcm", Some(switch)).await;
    world
}

/// Messages worth this many deliveries: to everybody, to a group, to one.
fn plan(random: &mut StdRng, line: &Line, kill: usize, mut deliveries: usize) {
    let mut number = 0;
    while deliveries > 0 {
        number += 1;
        let (to, size) = match random.random_range(0..10) {
            0..3 if deliveries >= DEVICES => (json!({"audience": {"tag": "all"}}), DEVICES),
            0..7 if deliveries >= GROUP => {
                let group = random.random_range(0..DEVICES / GROUP);
                (json!({"audience": {"tag": format!("group-{group}")}}), GROUP)
            }
            _ => (json!({"device_ids": [format!("d{}", random.random_range(0..DEVICES))]}), 1),
        };
        deliveries -= size;
        let class = if random.random_range(0..2) == 0 { "marketing" } else { "transactional" };
        let title = format!("{kill}/{number}");
        let mut body =
            json!({"to": to, "class": class, "notification": {"title": title}, "ttl_seconds": 86_400});
        if random.random_range(0..ONCE) == 0 {
            body["delivery"] = json!("at_most_once");
        }
        // A call without a key is never repeated: its caller does not know what became of it.
        let key = (size > 1 || random.random_range(0..4) > 0).then(|| format!("kill-{kill}-{number}"));
        line.waiting.lock().unwrap().push_back(Call { key, body, size });
    }
}

/// Most kills soon, some late.
fn log_uniform(random: &mut StdRng, most_seconds: f64) -> Duration {
    let least = 0.001_f64;
    Duration::from_secs_f64(least * (most_seconds / least).powf(random.random::<f64>()))
}

/// Waits until nothing of a message is pending. A busy machine may take its time, as long as something moves.
async fn ended(world: &World, id: &str) {
    let (mut before, mut since) = (Value::Null, Instant::now());
    loop {
        let message = world.api(Method::GET, &format!("/v1/messages/{id}"), None).await.body;
        assert_adds_up(&message);
        if message["state"] == "done" {
            return;
        }
        let now = json!([message["counts"], world.sandbox(Method::GET, "/summary", None).await["requests"]]);
        if now != before {
            (before, since) = (now, Instant::now());
        }
        assert!(since.elapsed() < PATIENCE, "nothing moves: {message:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn duplicates(world: &World) -> u64 {
    world.sandbox(Method::GET, "/summary", None).await["duplicates"].as_u64().unwrap()
}

/// How many kills repeated none, up to 1, 10, 100, 1000, more.
fn histogram(each: &[u64]) -> Value {
    let within = |low: u64, high: u64| each.iter().filter(|n| (low..=high).contains(n)).count();
    json!({
        "0": within(0, 0), "1": within(1, 1), "10": within(2, 10), "100": within(11, 100),
        "1000": within(101, 1000), "more": within(1001, u64::MAX),
    })
}

#[derive(Clone)]
struct Call {
    key: Option<String>,
    body: Value,
    /// Deliveries.
    size: usize,
}

/// The callers and what they wait for.
struct Line {
    url: String,
    key: String,
    http: Client,
    waiting: Mutex<VecDeque<Call>>,
    done: Mutex<Vec<(Call, String)>>,
    /// Calls whose answer never came: those with a key were repeated.
    lost: AtomicU64,
    unknown: AtomicU64,
    ending: AtomicBool,
}

impl Line {
    fn new(world: &World) -> Self {
        Self {
            url: format!("{}/v1/messages", world.url),
            key: world.api_key.clone(),
            http: world.http.clone(),
            waiting: Mutex::default(),
            done: Mutex::default(),
            lost: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            ending: AtomicBool::new(false),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "awaited in `finish`")]
    fn start(self: Arc<Self>) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move {
            loop {
                let next = self.waiting.lock().unwrap().pop_front();
                match next {
                    Some(call) => self.make(call).await,
                    None if self.ending.load(Ordering::Relaxed) => return,
                    None => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        })
    }

    /// Calls until there is an answer; without a key once the request may have arrived, never again.
    async fn make(&self, call: Call) {
        loop {
            match self.once(&call).await {
                Ok((StatusCode::ACCEPTED, id, _)) => {
                    self.done.lock().unwrap().push((call, id));
                    return;
                }
                Ok((status, ..)) => assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE),
                Err(error) if error.is_connect() => {}
                Err(_) => {
                    self.lost.fetch_add(1, Ordering::Relaxed);
                    if call.key.is_none() {
                        self.unknown.fetch_add(1, Ordering::Relaxed);
                        return;
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn once(&self, call: &Call) -> reqwest::Result<(StatusCode, String, bool)> {
        let mut request = self.http.post(&self.url).bearer_auth(&self.key).json(&call.body);
        if let Some(key) = &call.key {
            request = request.header("Idempotency-Key", key);
        }
        let response = request.send().await?;
        let (status, replayed) = (response.status(), response.headers().contains_key("Idempotency-Replayed"));
        let body: Value = response.json().await?;
        Ok((status, body["id"].as_str().unwrap_or_default().to_owned(), replayed))
    }

    /// Repeats some calls that were answered in an earlier life: they must be answered the same.
    async fn repeat_some(&self, random: &mut StdRng) {
        let keyed: Vec<_> =
            self.done.lock().unwrap().iter().filter(|(call, _)| call.key.is_some()).cloned().collect();
        for _ in 0..keyed.len().min(3) {
            let (call, id) = &keyed[random.random_range(0..keyed.len())];
            let (status, again, replayed) = self.once(call).await.expect("the gateway runs");
            assert_eq!((status, &again, replayed), (StatusCode::ACCEPTED, id, true), "{:?}", call.key);
        }
    }

    async fn finish(&self, callers: Vec<tokio::task::JoinHandle<()>>) {
        self.ending.store(true, Ordering::Relaxed);
        for caller in callers {
            caller.await.unwrap();
        }
    }

    fn ids(&self) -> Vec<String> {
        self.done.lock().unwrap().iter().map(|(_, id)| id.clone()).collect()
    }

    /// Deliveries that were asked for at most once.
    fn at_most_once(&self) -> usize {
        let done = self.done.lock().unwrap();
        done.iter()
            .filter(|(call, _)| call.body["delivery"] == "at_most_once")
            .map(|(call, _)| call.size)
            .sum()
    }

    /// Lets the ledger know what the callers know.
    fn tell(&self, world: &World) {
        for id in self.ids() {
            world.book.answered(StatusCode::ACCEPTED, &json!({"id": id}));
        }
        (0..self.unknown.load(Ordering::Relaxed)).for_each(|_| world.book.unanswered());
    }
}
