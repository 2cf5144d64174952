//! One call, two kinds of phone: what a backend sends is what phones and vendors get, and the numbers say so.

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::World;

/// A device with one FCM token.
pub(crate) fn fcm_device(token: &str) -> Value {
    json!({"platform": "android", "tags": ["all"], "addresses": [{"provider": "fcm", "token": token}]})
}

/// A device that connects itself.
pub(crate) fn direct_device() -> Value {
    json!({"platform": "android", "tags": ["all"]})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_call_reaches_an_fcm_phone_and_a_connected_phone() {
    let world = World::start().await;
    world.put_devices(vec![("a".into(), fcm_device("ok-a")), ("b".into(), direct_device())]).await;
    let secret = world.device_secrets(&["b".into()]).await.remove(0);
    connect(&world, "b", &secret).await;
    let to = json!({"device_ids": ["a", "b", "nobody"]});
    let id = world.send(json!({"to": to, "notification": {"title": "Hello", "body": "World"}})).await;
    let message = world.until(&id, |m| m["counts"]["now"]["delivered"] == 1 && m["state"] == "done").await;
    assert_eq!(message["counts"]["targeted"], 3);
    assert_eq!(message["counts"]["now"]["accepted"], 1, "{message:#}");
    assert_eq!(message["counts"]["now"]["suppressed"], 1);
    assert_eq!(message["counts"]["reached"]["accepted"], 2);
    assert_eq!(message["reasons"], json!({"unknown_target": 1}));
    assert_eq!(message["by_channel"]["direct"]["now"]["delivered"], 1);
    let phones = world.sandbox(Method::GET, "/phones", None).await;
    assert_eq!(phones["phones"][0]["screen"][0]["title"], "Hello", "{phones:#}");
    for delivery in world.deliveries(&id).await {
        let path = format!("/v1/messages/{id}/deliveries/{}", delivery["id"].as_str().unwrap());
        let told = world.api(Method::GET, &path, None).await;
        assert!(!told.body["trail"].as_array().unwrap().is_empty(), "{:#}", told.body);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offline_phone_finds_its_messages_in_the_order_of_the_calls() {
    let world = World::start().await;
    world.put_devices(vec![("a".into(), direct_device())]).await;
    let secret = world.device_secrets(&["a".into()]).await.remove(0);
    let mut sent = Vec::new();
    for n in 0..60 {
        let title = format!("number {n}");
        sent.push(world.send(json!({"to": {"device_ids": ["a"]}, "notification": {"title": title}})).await);
    }
    for id in &sent {
        world.until(id, |m| m["counts"]["now"]["accepted"] == 1).await;
    }
    let inbox = world.call(&secret, Method::GET, "/v1/device/messages?limit=100", None).await;
    let got: Vec<_> =
        inbox.body["messages"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!(got, sent);
}

/// Connects a played phone and waits until it is.
pub(crate) async fn connect(world: &World, id: &str, secret: &str) {
    let phone = json!({
        "kind": "direct_websocket", "gateway": world.url, "secret": secret, "receipts": []
    });
    world.sandbox(Method::PUT, &format!("/phones/{id}"), Some(phone)).await;
}
