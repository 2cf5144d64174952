//! What was accepted survives the end of the process, at whatever moment it comes.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::ledger::{self, Bounds};
use crate::world::World;

/// Vendor requests that may be under way or not yet recorded when the process dies: what may be sent twice.
const AT_RISK: u64 = 6000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_killed_in_the_middle_of_twenty_thousand_loses_none() {
    let mut world = World::start().await;
    let devices = (0..20_000).map(|i| {
        let address = json!([{"provider": "fcm", "token": format!("ok-{i}")}]);
        (format!("d{i}"), json!({"tags": ["all"], "addresses": address}))
    });
    world.put_devices(devices.collect()).await;
    let id = world
        .send(json!({"to": {"audience": {"tag": "all"}}, "class": "marketing", "notification": {"title": "Hi"}}))
        .await;
    world.until(&id, |m| m["counts"]["reached"]["accepted"].as_u64() >= Some(3000)).await;
    world.kill_gateway();
    let sent = world.sandbox(Method::GET, &format!("/summary?message={id}"), None).await;
    let before = sent["accepted_distinct"].as_u64().unwrap();
    assert!(before < 20_000, "killed too late to prove anything: {before}");
    world.start_gateway().await;
    let message = world.done(&id).await;
    assert_eq!(message["counts"]["targeted"], 20_000);
    assert_eq!(message["counts"]["now"]["accepted"], 20_000, "{message:#}");
    let ledger = world.sandbox(Method::GET, &format!("/summary?message={id}"), None).await;
    assert_eq!(ledger["accepted_distinct"], 20_000, "{ledger:#}");
    assert!(ledger["duplicates"].as_u64().unwrap() <= AT_RISK, "{ledger:#}");
    assert!(world.stop_gateway().success());
    ledger::check(&world, Bounds { crashes: 1, window: AT_RISK, ..Bounds::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_told_to_stop_finishes_what_is_under_way_and_sends_nothing_twice() {
    let mut world = World::start().await;
    let devices = (0..2000).map(|i| {
        let address = json!([{"provider": "fcm", "token": format!("ok-{i}")}]);
        (format!("d{i}"), json!({"tags": ["all"], "addresses": address}))
    });
    world.put_devices(devices.collect()).await;
    world.sandbox(Method::PUT, "/providers/fcm", Some(json!({"latency_ms": 100}))).await;
    let id = world
        .send(json!({"to": {"audience": {"tag": "all"}}, "class": "marketing", "notification": {"title": "Hi"}}))
        .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let status = world.stop_gateway();
    assert!(status.success(), "{status}: {}", world.log());
    world.start_gateway().await;
    let message = world.done(&id).await;
    assert_eq!(message["counts"]["now"]["accepted"], 2000, "{message:#}");
    let ledger = world.sandbox(Method::GET, &format!("/summary?message={id}"), None).await;
    assert_eq!(
        (&ledger["accepted_distinct"], &ledger["duplicates"]),
        (&json!(2000), &json!(0)),
        "{ledger:#}"
    );
    assert!(world.stop_gateway().success());
    ledger::check(&world, Bounds::default()).await;
}
