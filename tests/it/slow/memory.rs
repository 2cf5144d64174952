//! What waits costs disk, not memory. `scripts/memory` runs it with a million.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::isolation::rules;
use crate::sending::fcm_device;
use crate::world::World;

/// Devices of each message.
const DEVICES: usize = 2000;
/// Deliveries that wait at the first look.
const FEW: usize = 10_000;
/// What the gateway may grow by meanwhile, in kilobytes: the database's caches are full then, 64 MB for the writer and 16
/// for each of four readers.
const GROWTH_KB: u64 = (64 + 4 * 16) * 1024;

/// What a process keeps: the least of two seconds. What was freed is given back only after a while, and what a queue in memory
/// takes does not go away.
async fn least_kb(world: &World) -> u64 {
    let mut least = u64::MAX;
    for _ in 0..20 {
        least = least.min(world.resident_kb().unwrap());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    least
}

/// What the gateway's memory consists of.
fn parts_of(world: &World) -> String {
    let status = world.process_status();
    let parts: Vec<_> =
        status.lines().filter(|line| line.starts_with("Rss") || line.starts_with("VmHWM")).collect();
    parts.join(", ")
}

/// Sends to everybody until so many deliveries wait, and until all of them stand in pages.
async fn queue(world: &World, ids: &mut Vec<String>, deliveries: usize) {
    while ids.len() * DEVICES < deliveries {
        let class = if ids.len().is_multiple_of(2) { "marketing" } else { "transactional" };
        let body = json!({
            "to": {"audience": {"tag": "all"}}, "class": class, "ttl_seconds": 86_400,
            "notification": {"title": format!("Message {}", ids.len())}
        });
        ids.push(world.send(body).await);
    }
    for id in ids.iter() {
        world.until(id, |message| message["counts"]["targeted"] == DEVICES).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_grows_behind_a_vendor_that_is_down_fills_the_disk_and_not_the_memory() {
    let many = std::env::var("ANYPUSH_QUEUED").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000);
    let mut world = World::start().await;
    world.keep_to_two_threads().await;
    let devices = (0..DEVICES).map(|i| {
        let mut device = fcm_device(&format!("ok-{i}"));
        device["tags"] = json!(["all"]);
        (format!("d{i}"), device)
    });
    world.put_devices(devices.collect()).await;
    world.sandbox(Method::PUT, "/providers/fcm", Some(json!({"outage": "http_503"}))).await;
    let Some(empty) = world.resident_kb() else {
        eprintln!("skipped: this system does not tell a process's memory");
        return;
    };
    let mut ids = Vec::new();
    queue(&world, &mut ids, FEW).await;
    let few = world.resident_kb().unwrap();
    eprintln!("{empty} kB with none waiting, {few} kB with {FEW}");
    queue(&world, &mut ids, many).await;
    let most = world.resident_kb().unwrap();
    println!("resident: {empty} kB with none waiting, {few} kB with {FEW}, {most} kB with {many}");
    assert!(most < few + GROWTH_KB, "{most} kB with {many} waiting, {few} kB with {FEW}");
    // The vendor is back, and the numbers add up while they move: `until` looks at every poll.
    world.sandbox(Method::PUT, "/providers/fcm", Some(json!({"outage": "none"}))).await;
    rules(&world, json!([])).await;
    for id in ids.iter().take(FEW / DEVICES) {
        let message = world.done(id).await;
        assert_eq!(message["counts"]["now"]["accepted"], DEVICES, "{message:#}");
    }
    let moving = least_kb(&world).await;
    println!("resident: {moving} kB while they are sent");
    let parts = parts_of(&world);
    assert!(moving < few + GROWTH_KB, "{moving} kB while they are sent, {few} kB with {FEW}; {parts}");
    world.kill_gateway();
}
