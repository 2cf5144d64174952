//! Every vendor that is played goes down once, and its message goes on to another.

use reqwest::Method;
use serde_json::{Value, json};

use crate::receipts::put_channel_of;
use crate::steps::trail;
use crate::world::World;

/// A vendor's address that the twin takes.
async fn address(world: &World, sample: &Value) -> Value {
    let provider = sample["provider"].as_str().unwrap();
    let tokens = world.sandbox(Method::GET, &format!("/tokens/{provider}"), None).await;
    let mut address = sample["devices"][0]["address"].clone();
    address["token"] = tokens["tokens"][0].clone();
    address
}

async fn outage(world: &World, provider: &str, outage: &str) {
    let switch = json!({"outage": outage});
    world.sandbox(Method::PUT, &format!("/providers/{provider}"), Some(switch)).await;
}

/// Sends by the first channel, which is down, with the second behind it.
async fn send(world: &World, down: &str, other: &str) -> String {
    let message = json!({
        "to": {"device_ids": ["phone"]}, "notification": {"title": "Hello", "body": "You have a visitor"},
        "route": {"steps": [{"use": down}, {"use": other}]},
    });
    world.send(message).await
}

/// Waits until the second channel has it, and reads in the trail why the first has not.
async fn arrived(world: &World, id: &str, down: &str, other: &str) {
    world.until(id, |message| message["by_channel"][other]["now"]["accepted"] == 1).await;
    let trail = trail(world, id).await;
    let tried = |channel: &str, reason: Value| {
        trail.iter().any(|entry| {
            entry["kind"] == "attempted" && entry["channel"] == channel && entry["reason"] == reason
        })
    };
    // A vendor whose 503 means "too fast" is as little to be had.
    let unavailable = tried(down, json!("vendor_unavailable")) || tried(down, json!("rate_limited"));
    assert!(unavailable && tried(other, Value::Null), "{down} → {other}: {trail:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_vendor_is_down_its_message_goes_on_and_the_trail_says_why() {
    let mut world = World::start().await;
    world.restart_with("ANYPUSH_PUBLIC_URL", world.url.clone()).await;
    let samples = world.samples().await;
    let (mut addresses, mut others) = (Vec::new(), Vec::new());
    for sample in &samples {
        let provider = sample["provider"].as_str().unwrap();
        addresses.push(address(&world, sample).await);
        if provider != "fcm" {
            put_channel_of(&world, sample).await;
            outage(&world, provider, "http_503").await;
            others.push(provider);
        }
    }
    assert!(others.len() >= 4, "{others:?}");
    world.put_devices(vec![("phone".into(), json!({"addresses": addresses}))]).await;
    let mut sent = Vec::new();
    for down in &others {
        sent.push((*down, send(&world, down, "fcm").await));
    }
    for (down, id) in &sent {
        arrived(&world, id, down, "fcm").await;
        outage(&world, down, "none").await;
    }
    outage(&world, "fcm", "http_503").await;
    let id = send(&world, "fcm", "apns").await;
    arrived(&world, &id, "fcm", "apns").await;
}
