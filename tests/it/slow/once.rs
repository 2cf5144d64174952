//! At most once: whatever happens to the process, nothing is sent twice.

use reqwest::Method;
use serde_json::json;

use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_killed_repeats_nothing_that_may_be_sent_once_only() {
    let mut world = World::start().await;
    let devices = (0..5000).map(|i| {
        let kind = if i % 50 == 0 { "lost" } else { "ok" };
        let address = json!([{"provider": "fcm", "token": format!("{kind}-{i}")}]);
        (format!("d{i}"), json!({"tags": ["all"], "addresses": address}))
    });
    world.put_devices(devices.collect()).await;
    world.sandbox(Method::PUT, "/providers/fcm", Some(json!({"latency_ms": 50}))).await;
    let id = world
        .send(json!({
            "to": {"audience": {"tag": "all"}}, "class": "marketing", "delivery": "at_most_once",
            "notification": {"title": "Your code is 123"}
        }))
        .await;
    for kill in 1..=4u64 {
        world.until(&id, |m| m["counts"]["reached"]["accepted"].as_u64() >= Some(kill * 700)).await;
        world.kill_gateway();
        world.start_gateway().await;
    }
    let message = world.done(&id).await;
    let ledger = world.sandbox(Method::GET, &format!("/summary?message={id}"), None).await;
    assert_eq!(ledger["duplicates"], 0, "{ledger:#}");
    let now = &message["counts"]["now"];
    let (accepted, unknown) = (now["accepted"].as_u64().unwrap(), now["unknown"].as_u64().unwrap());
    assert_eq!(accepted + unknown, 5000, "{message:#}");
    // A hundred answers are lost; each kill leaves at most one slice of each of the five pages.
    assert!((100..=100 + 4 * 5 * 64).contains(&unknown), "{message:#}");
    let lost = world.deliveries(&id).await.into_iter().filter(|d| d["state"] == "unknown").count() as u64;
    assert_eq!(lost, unknown);
}
