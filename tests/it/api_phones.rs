//! A phone with its device secret: it polls or connects, acknowledges, reports, and changes what is its own.

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::contract::{self, Call};
use crate::sending::direct_device;
use crate::world::{PATIENCE, World};

/// A device that connects itself, and its secret.
async fn own_phone(world: &World) -> String {
    world.put_devices(vec![("phone".into(), direct_device())]).await;
    world.device_secrets(&["phone".into()]).await.remove(0)
}

async fn send(world: &World, title: &str) -> String {
    world.send(json!({"to": {"device_ids": ["phone"]}, "notification": {"title": title}})).await
}

async fn poll(world: &World, secret: &str, query: &str) -> Value {
    let path = format!("/v1/device/messages?{query}");
    let answer = world.call(secret, Method::GET, &path, None).await;
    assert_eq!(answer.status, StatusCode::OK, "{:#}", answer.body);
    answer.body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_polling_phone_gets_what_waits_and_acknowledges_it() {
    let world = World::start().await;
    let secret = own_phone(&world).await;
    let (first, second) = (send(&world, "first").await, send(&world, "second").await);
    for id in [&first, &second] {
        world.until(id, |m| m["counts"]["now"]["accepted"] == 1).await;
    }
    let inbox = poll(&world, &secret, "wait_seconds=5").await;
    let titles: Vec<_> =
        inbox["messages"].as_array().unwrap().iter().map(|m| m["notification"]["title"].clone()).collect();
    assert_eq!(titles, ["first", "second"]);
    let ack = json!({"messages": [first]});
    let answer = world.call(&secret, Method::POST, "/v1/device/ack", Some(ack)).await;
    assert_eq!(answer.body, json!({"acknowledged": 1}));
    world.until(&first, |m| m["counts"]["now"]["delivered"] == 1).await;
    assert_eq!(poll(&world, &secret, "").await["messages"][0]["id"], second);
    let cursor = inbox["cursor"].as_str().unwrap();
    assert_eq!(poll(&world, &secret, &format!("after={cursor}")).await["messages"], json!([]));
    world.until(&second, |m| m["counts"]["now"]["delivered"] == 1).await;
    let ack = json!({"cursor": cursor});
    let again = world.call(&secret, Method::POST, "/v1/device/ack", Some(ack)).await;
    assert_eq!(again.body, json!({"acknowledged": 0}), "twice is as good as once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_move_a_delivery_on_and_those_of_strangers_do_not() {
    let world = World::start().await;
    let secret = own_phone(&world).await;
    let id = send(&world, "Hello").await;
    world.until(&id, |m| m["counts"]["now"]["accepted"] == 1).await;
    poll(&world, &secret, "").await;
    let report = |event: &str| json!([{"message_id": id, "event": event, "at": "2026-12-01T09:00:00Z"}]);
    for event in ["delivered", "displayed", "clicked"] {
        let body = Some(report(event));
        let answer = world.call(&secret, Method::POST, "/v1/device/receipts", body).await;
        assert_eq!(answer.body, json!({"recorded": 1}), "{event}");
        world.until(&id, |m| m["counts"]["now"][event] == 1).await;
    }
    world.put_devices(vec![("other".into(), direct_device())]).await;
    let other = world.device_secrets(&["other".into()]).await.remove(0);
    let foreign = world.call(&other, Method::POST, "/v1/device/receipts", Some(report("clicked"))).await;
    assert_eq!(foreign.body, json!({"recorded": 0}));
    let many = Value::Array(vec![report("clicked")[0].clone(); 101]);
    let refused = world.call(&secret, Method::POST, "/v1/device/receipts", Some(many)).await;
    assert_eq!(refused.body["code"], "too_many_receipts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_changes_its_own_token_and_not_whose_it_is() {
    let world = World::start().await;
    let secret = own_phone(&world).await;
    let own = json!({"app_version": "3.2.1", "addresses": [{"provider": "fcm", "token": "ok-fresh"}]});
    let changed = world.call(&secret, Method::PATCH, "/v1/device", Some(own)).await;
    assert_eq!(changed.status, StatusCode::NO_CONTENT, "{:#}", changed.body);
    let device = world.api(Method::GET, "/v1/devices/phone", None).await.body;
    assert_eq!(device["addresses"][0]["token"], "ok-fresh", "{device:#}");
    assert_eq!((&device["app_version"], &device["tags"]), (&json!("3.2.1"), &json!(["all"])));
    let refused = world.call(&secret, Method::PATCH, "/v1/device", Some(json!({"user_id": "u-1"}))).await;
    assert_eq!((refused.status, &refused.body["code"]), (StatusCode::FORBIDDEN, &json!("forbidden")));
    let backends = world.call(&secret, Method::GET, "/v1/devices/phone", None).await;
    assert!(!backends.status.is_success(), "a phone's secret opens nothing of the backend's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_connects_with_a_ticket_gets_a_message_and_acknowledges_it() {
    let world = World::start().await;
    let secret = own_phone(&world).await;
    let made = world.call(&secret, Method::POST, "/v1/device/ticket", None).await;
    let ticket = made.body["ticket"].as_str().expect("a ticket");
    let url = format!("{}/v1/device/socket?ticket={ticket}", world.url.replacen("http", "ws", 1));
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", "anypush.v1".parse().unwrap());
    let (mut socket, opened) = tokio_tungstenite::connect_async(request).await.unwrap();
    assert_eq!(opened.headers()["Sec-WebSocket-Protocol"], "anypush.v1");
    contract::check(&Call {
        method: &Method::GET,
        path: "/v1/device/socket",
        sent: None,
        status: opened.status().as_u16(),
        headers: opened.headers(),
        body: &Value::Null,
    });
    let id = send(&world, "Hello").await;
    let message = loop {
        let frame = tokio::time::timeout(PATIENCE, socket.next()).await.expect("a frame").unwrap().unwrap();
        let Message::Text(text) = frame else { continue };
        let mut frame: Value = serde_json::from_str(&text).unwrap();
        if frame["msg"].is_object() {
            break frame["msg"].take();
        }
    };
    assert_eq!((&message["id"], &message["notification"]["title"]), (&json!(id), &json!("Hello")));
    let ack = json!({"ack": message["cursor"]}).to_string();
    socket.send(Message::text(ack)).await.unwrap();
    world.until(&id, |m| m["counts"]["now"]["delivered"] == 1).await;
    let plain = world.call(&secret, Method::GET, "/v1/device/socket", None).await;
    assert_eq!(
        (plain.status, &plain.body["code"]),
        (StatusCode::UPGRADE_REQUIRED, &json!("upgrade_required"))
    );
}
