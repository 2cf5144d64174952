//! One call to a thousand devices of every kind.

use reqwest::Method;
use serde_json::json;

use crate::ledger::{self, Bounds};
use crate::sending::{connect, direct_device, fcm_device};
use crate::world::World;

/// Half FCM with every kind of trouble, half direct with some offline: everything ends, everything adds up, and the
/// vendor's ledger says the same as the record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_to_a_thousand_devices_ends_with_numbers_that_add_up() {
    let mut world = World::start().await;
    let kinds = [("dead", 20), ("flaky", 20), ("limited", 20), ("slow", 20), ("garbage", 10), ("ok", 410)];
    let mut devices = Vec::new();
    for (kind, count) in kinds {
        devices.extend((0..count).map(|i| (format!("{kind}-{i}"), fcm_device(&format!("{kind}-{i}")))));
    }
    let direct: Vec<String> = (0..500).map(|i| format!("direct-{i}")).collect();
    devices.extend(direct.iter().map(|id| (id.clone(), direct_device())));
    world.put_devices(devices).await;
    let secrets = world.device_secrets(&direct).await;
    let online = 450;
    for (id, secret) in direct.iter().zip(&secrets).take(online) {
        connect(&world, id, secret).await;
    }
    let body = json!({
        "to": {"audience": {"tag": "all"}}, "class": "marketing", "ttl_seconds": 30,
        "notification": {"title": "Sale", "body": "Today only"}
    });
    let id = world.send(body).await;
    let message = world
        .until(&id, |m| m["state"] == "done" && m["counts"]["now"]["expired"].as_u64() >= Some(50))
        .await;
    let (now, reached) = (&message["counts"]["now"], &message["counts"]["reached"]);
    assert_eq!(message["counts"]["targeted"], 1000);
    assert_eq!(now["delivered"], online, "{message:#}");
    assert_eq!(message["reasons"]["invalid_token"], 20, "{message:#}");
    assert_eq!(message["by_channel"]["fcm"]["reached"]["accepted"], 470, "{message:#}");
    assert_eq!(reached["accepted"], 470 + 500, "{message:#}");
    // Garbage is tried until it is given up or the time is over; never is it accepted.
    let garbage = now["failed"].as_u64().unwrap() - 20 + now["expired"].as_u64().unwrap() - 50;
    assert_eq!(garbage, 10, "{message:#}");
    let ledger = world.sandbox(Method::GET, &format!("/summary?message={id}"), None).await;
    assert_eq!(ledger["accepted_distinct"], 470, "{ledger:#}");
    assert_eq!(ledger["duplicates"], 0, "{ledger:#}");
    let deliveries = world.deliveries(&id).await;
    assert_eq!(deliveries.len(), 1000);
    let accepted = deliveries.iter().filter(|d| d["state"] == "accepted").count();
    assert_eq!(accepted, 470);
    let dead = world.api(Method::GET, "/v1/devices/dead-0", None).await;
    assert_eq!(dead.body["addresses"][0]["state"], "retired", "{:#}", dead.body);
    assert!(world.stop_gateway().success());
    ledger::check(&world, Bounds::default()).await;
}
