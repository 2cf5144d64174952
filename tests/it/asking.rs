//! Vendors that call nobody back are asked what became of messages, from outside.

use reqwest::Method;
use serde_json::{Value, json};

use crate::receipts::put_channel_of;
use crate::steps::trail;
use crate::world::World;

/// A gateway that vendors cannot call back, and that asks them after a second; with a channel of this vendor.
async fn unreachable(provider: &str) -> World {
    let mut world = World::start().await;
    world.restart_with("ANYPUSH_RECEIPTS_ASK_AFTER_SECONDS", "1".to_owned()).await;
    put_channel_of(&world, &world.sample(provider).await).await;
    world
}

fn to_phone() -> Value {
    json!({
        "to": {"device_ids": ["phone"]}, "notification": {"title": "Hello", "body": "You have a visitor"},
        "class": "transactional", "route": {"steps": [{"use": "xiaomi"}]},
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vendor_without_callbacks_is_asked_what_became_of_a_message_also_by_the_next_life() {
    let mut world = unreachable("xiaomi").await;
    let device = json!({"addresses": [{"provider": "xiaomi", "token": "ok-phone"}]});
    world.put_devices(vec![("phone".into(), device)]).await;
    let id = world.send(to_phone()).await;
    let message = world.until(&id, |m| m["counts"]["now"]["delivered"] == 1).await;
    assert_eq!(message["by_channel"]["xiaomi"]["reached"]["delivered"], 1, "{message:#}");
    let told = trail(&world, &id).await;
    let last = told.last().unwrap();
    assert_eq!((&last["kind"], &last["witness"]), (&json!("received"), &json!("vendor")), "{told:#?}");
    // Nobody has the phone in hand yet; the question outlives the process.
    let switch = json!({"kind": "xiaomi", "token": "ok-phone", "online": false});
    world.sandbox(Method::PUT, "/phones/it", Some(switch)).await;
    let id = world.send(to_phone()).await;
    world.until(&id, |m| m["counts"]["now"]["accepted"] == 1).await;
    world.kill_gateway();
    world.start_gateway().await;
    let switch = json!({"kind": "xiaomi", "token": "ok-phone", "online": true});
    world.sandbox(Method::PUT, "/phones/it", Some(switch)).await;
    world.until(&id, |m| m["counts"]["now"]["delivered"] == 1).await;
}
