//! How much longer a login code takes beside another app's trouble: a number, asserted loosely, written down in
//! docs/reliability.md. What must not happen at all is in `isolation` and `slow::pace`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::isolation::{Neighbour, rules, send, tokens};
use crate::world::World;

/// Codes of each measurement.
const CODES: usize = 60;
/// Targets of one message of the campaign, and so many of its messages are under way.
const PART: usize = 5000;
const AHEAD: usize = 4;

/// From the call's `created_at` to the vendor's yes, by the gateway's own clock: (median, 95th percentile).
async fn dwell(other: &Neighbour<'_>, name: &str) -> (Duration, Duration) {
    let mut took = Vec::new();
    for i in 0..CODES {
        let started = Instant::now();
        let id = other.send(&[format!("ok-{name}-{i}")], "transactional").await;
        let message = other.done(&id).await;
        assert_eq!(message["counts"]["now"]["accepted"], 1, "{message:#}");
        let path = format!("/v1/messages/{id}/deliveries?limit=1");
        let list = other.world.call(&other.key, Method::GET, &path, None).await.body;
        let at = |value: &serde_json::Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let (from, to) = (at(&message["created_at"]), at(&list["data"][0]["accepted_at"]));
        took.push(Duration::from_millis(to.duration_since(from).as_millis() as u64));
        // Twenty a second at most, so that the codes are no flood of their own.
        tokio::time::sleep(Duration::from_millis(50).saturating_sub(started.elapsed())).await;
    }
    took.sort_unstable();
    (took[CODES / 2], took[CODES * 95 / 100])
}

/// A campaign without an end: there are always some thousands of it to be sent.
async fn campaign(world: &World, name: &str) -> Infallible {
    let mut parts = VecDeque::new();
    for part in 0.. {
        let tokens = tokens(&format!("ok-{name}-{part}"), PART);
        parts.push_back(send(world, &world.api_key, &tokens, "marketing").await);
        if parts.len() == AHEAD {
            let oldest = parts.pop_front().unwrap();
            world.done(&oldest).await;
        }
    }
    unreachable!("it never ends")
}

async fn beside_a_campaign<T>(world: &World, name: &str, measurement: impl Future<Output = T>) -> T {
    tokio::select! {
        measured = measurement => measured,
        never = campaign(world, name) => match never {},
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_code_beside_another_apps_campaign_or_outage_takes_little_longer() {
    let world = World::start().await;
    world.sandbox(Method::PUT, "/providers/fcm", Some(json!({"latency_ms": 50}))).await;
    let own = Neighbour::new(&world, "own", "bank-project").await;
    let shared = Neighbour::new(&world, "shared", "demo-project").await;
    let alone = dwell(&own, "alone").await;
    let beside_other = beside_a_campaign(&world, "other", dwell(&own, "beside")).await;
    let beside_same = beside_a_campaign(&world, "same", dwell(&shared, "same")).await;
    let fails = |pattern: &str| json!({"pattern": pattern, "behaviour": "unavailable"});
    rules(&world, json!([fails("ok-other-"), fails("ok-same-"), fails("sick-")])).await;
    send(&world, &world.api_key, &tokens("sick", 2000), "transactional").await;
    let beside_outage = dwell(&own, "outage").await;
    for (name, (median, most)) in [
        ("alone", alone),
        ("campaign, other account", beside_other),
        ("campaign, same account", beside_same),
        ("outage, other account", beside_outage),
    ] {
        let factor = most.as_secs_f64() / alone.1.as_secs_f64();
        println!("{name}: median {median:?}, p95 {most:?}, factor {factor:.1}");
        // Loose: both run on the same two cores, and a debug build needs them.
        assert!(most < alone.1 * 20 + Duration::from_secs(2), "{name}: {most:?}, alone {alone:?}");
    }
    let mut world = world;
    world.kill_gateway();
}
