//! A vendor in trouble is left alone, and what waits for it leaves places for others.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::isolation::{Neighbour, PROMPT, rules, send, tokens};
use crate::world::World;

/// A line of `/metrics` about the world's own channel.
async fn pace(world: &World, name: &str) -> u64 {
    let request = world.http.get(format!("{}/metrics", world.url)).bearer_auth(&world.admin_key);
    let text = request.send().await.unwrap().text().await.unwrap();
    let found = text.lines().find(|line| line.starts_with(&format!("anypush_{name}{{")));
    found.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

async fn state(world: &World) -> Value {
    let path = format!("/v1/apps/{}/channels/fcm", world.app_id);
    world.call(&world.admin_key, Method::GET, &path, None).await.body["state"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_campaign_that_hangs_at_the_same_account_leaves_places_for_login_codes() {
    let world = World::start().await;
    let other = Neighbour::new(&world, "bank", "demo-project").await;
    rules(&world, json!([{"pattern": "stuck-", "behaviour": "slow", "delay_ms": 12_000}])).await;
    let campaign = send(&world, &world.api_key, &tokens("stuck", 2000), "marketing").await;
    while pace(&world, "pace_waiting").await == 0 {
        assert_ne!(world.until(&campaign, |_| true).await["state"], "done");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let longest = other.login_codes(5).await;
    assert!(longest < PROMPT, "{longest:?}");
    let message = world.done(&campaign).await;
    assert_eq!(message["counts"]["now"]["accepted"], 2000, "{message:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vendor_that_is_down_gets_a_probe_now_and_then_and_its_channel_says_so() {
    let world = World::start().await;
    world.sandbox(Method::PUT, "/providers/fcm", Some(json!({"outage": "http_503"}))).await;
    let id = send(&world, &world.api_key, &tokens("ok", 300), "transactional").await;
    let started = Instant::now();
    while state(&world).await != "down" {
        assert!(started.elapsed() < crate::world::PATIENCE, "the channel never says that its vendor is down");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let spent = world.sandbox(Method::GET, &format!("/summary?message={id}"), None).await;
    let most = within_budget(300, started.elapsed());
    assert!(spent["requests"].as_u64().unwrap() <= most, "more than {most}: {spent:#}");
    world.sandbox(Method::PUT, "/providers/fcm", Some(json!({"outage": "none"}))).await;
    let message = world.done(&id).await;
    assert_eq!(message["counts"]["now"]["accepted"], 300, "{message:#}");
    while state(&world).await != "ok" {
        assert!(started.elapsed() < crate::world::PATIENCE, "the channel stays down");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!((pace(&world, "pace_breaker").await, pace(&world, "pace_in_flight").await), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_to_a_vendor_that_fails_half_of_the_time_stay_within_their_budget() {
    let world = World::start().await;
    let odd = ["1", "3", "5", "7", "9"]
        .map(|digit| json!({"pattern": format!("half-*{digit}"), "behaviour": "unavailable"}));
    rules(&world, json!(odd)).await;
    let started = Instant::now();
    let id = send(&world, &world.api_key, &tokens("half", 300), "transactional").await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    let spent = world.sandbox(Method::GET, &format!("/summary?message={id}"), None).await;
    let most = within_budget(300, started.elapsed());
    assert!(spent["requests"].as_u64().unwrap() <= most, "more than {most}: {spent:#}");
    rules(&world, json!([])).await;
    let message = world.done(&id).await;
    assert_eq!(message["counts"]["now"]["accepted"], 300, "{message:#}");
}

/// First attempts, a tenth of them, and ten a second.
fn within_budget(firsts: u64, time: Duration) -> u64 {
    firsts + firsts / 10 + 10 * (time.as_secs() + 2)
}
