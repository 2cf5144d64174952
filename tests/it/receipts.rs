//! Where vendors report to, and what becomes of what they report, from outside.

use reqwest::Method;
use serde_json::{Value, json};

use crate::steps::trail;
use crate::world::World;

/// A gateway that vendors can call back, with a channel of a played vendor beside that of FCM.
async fn with_vendor(provider: &str) -> World {
    let mut world = World::start().await;
    world.env = vec![("ANYPUSH_PUBLIC_URL", world.url.clone())];
    world.kill_gateway();
    world.start_gateway().await;
    put_channel_of(&world, &world.sample(provider).await).await;
    world
}

/// Puts the channel of a played vendor, named as its provider.
pub(crate) async fn put_channel_of(world: &World, sample: &Value) {
    let provider = sample["provider"].as_str().unwrap();
    let body = json!({"provider": provider, "config": sample["channel_config"]});
    let path = format!("/v1/apps/{}/channels/{provider}", world.app_id);
    let made = world.call(&world.admin_key, Method::PUT, &path, Some(body)).await;
    assert!(made.status.is_success(), "{} {:#}", made.status, made.body);
}

/// Sends to a phone with these addresses through these channels, until the last of them has it; what the trail tells.
async fn goes_on(world: &World, addresses: Value, steps: [&str; 2]) -> Vec<(String, Value, Value)> {
    world.put_devices(vec![("phone".into(), json!({"addresses": addresses}))]).await;
    let message = json!({
        "to": {"device_ids": ["phone"]}, "notification": {"title": "Hello", "body": "You have a visitor"},
        "route": {"steps": steps.map(|channel| json!({"use": channel}))},
    });
    let id = world.send(message).await;
    let message = world.until(&id, |m| m["by_channel"][steps[1]]["now"]["accepted"] == 1).await;
    assert_eq!(message["by_channel"][steps[0]]["reached"]["accepted"], 1, "it had accepted: {message:#}");
    assert_eq!(message["by_channel"][steps[0]]["now"]["accepted"], 0, "{message:#}");
    let told = |entry: &Value| {
        let kind = entry["kind"].as_str().unwrap().to_owned();
        (kind, entry["channel"].clone(), entry["reason"].clone())
    };
    trail(world, &id).await.iter().map(told).collect()
}

/// A first step that accepts and fails later for this reason, and a second one.
fn both_steps(steps: [&str; 2], reason: &str) -> Vec<(String, Value, Value)> {
    let entry = |kind: &str, channel: Value, reason: Value| (kind.to_owned(), channel, reason);
    vec![
        entry("decided", json!(null), json!(null)),
        entry("attempted", json!(steps[0]), json!(null)),
        entry("failed_later", json!(steps[0]), json!(reason)),
        entry("decided", json!(null), json!(null)),
        entry("attempted", json!(steps[1]), json!(null)),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_message_that_is_reported_undelivered_goes_on_to_the_next_channel() {
    let world = with_vendor("sms_twilio").await;
    // Taken, and undelivered with 30003 later: the phone is off.
    let addresses = json!([
        {"provider": "phone", "token": "+15551230013"}, {"provider": "fcm", "token": "ok-phone"}
    ]);
    let steps = ["sms_twilio", "fcm"];
    assert_eq!(goes_on(&world, addresses, steps).await, both_steps(steps, "device_unavailable"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_a_receipt_calls_dead_is_retired_and_the_message_goes_on() {
    let world = with_vendor("xiaomi").await;
    // Taken, and reported with 16 later: not a registered phone.
    let addresses = json!([
        {"provider": "xiaomi", "token": "fails-16-phone"}, {"provider": "fcm", "token": "ok-phone"}
    ]);
    let steps = ["xiaomi", "fcm"];
    assert_eq!(goes_on(&world, addresses, steps).await, both_steps(steps, "invalid_token"));
    let device = world.api(Method::GET, "/v1/devices/phone", None).await.body;
    let states: Vec<_> = device["addresses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|address| (address["provider"].as_str().unwrap(), address["state"].as_str().unwrap()))
        .collect();
    assert!(states.contains(&("xiaomi", "retired")) && states.contains(&("fcm", "active")), "{device:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_whose_vendor_has_no_callbacks_takes_none() {
    let world = World::start().await;
    let channel = format!("/v1/apps/{}/channels/fcm", world.app_id);
    let shown = world.api(Method::POST, &format!("{channel}/rotate_callback"), None).await;
    assert_eq!(shown.status, 200);
    assert!(shown.body["callback_url"].is_null());
    let id = shown.body["id"].as_str().unwrap();
    for secret in ["x", "00000000000000000000000000"] {
        for method in [Method::POST, Method::GET] {
            let path = format!("/v1/callbacks/{id}/{secret}");
            let answer = world.call("", method.clone(), &path, Some(json!({"event": "delivered"}))).await;
            assert_eq!((answer.status.as_u16(), &answer.body["code"]), (404, &json!("not_found")));
        }
    }
    assert!(!world.log().contains("0000000000000000"), "the secret of a callback is never logged");
}
