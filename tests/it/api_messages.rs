//! A backend looks back: which messages were sent, and what became of each target.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::sending::fcm_device;
use crate::world::World;

fn labelled(label: &str) -> Value {
    json!({"to": {"device_ids": ["good", "dead"]}, "data": {"a": "b"}, "label": label, "metadata": {"trace": "t"}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_listed_newest_first_and_by_label() {
    let world = World::start().await;
    let mut sent = Vec::new();
    for label in ["orders", "news", "orders"] {
        sent.push(world.send(labelled(label)).await);
    }
    let mut seen = Vec::new();
    let mut path = "/v1/messages?label=orders&limit=1".to_owned();
    loop {
        let page = world.api(Method::GET, &path, None).await;
        assert_eq!(page.status, StatusCode::OK, "{:#}", page.body);
        seen.extend(
            page.body["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap().to_owned()),
        );
        let Some(cursor) = page.body["next_cursor"].as_str() else { break };
        path = format!("/v1/messages?label=orders&limit=1&cursor={cursor}");
    }
    assert_eq!(seen, [sent[2].clone(), sent[0].clone()]);
    let none = world.api(Method::GET, "/v1/messages?to=2020-01-01T00:00:00Z", None).await;
    assert_eq!(none.body["data"], json!([]));
    let shown = world.api(Method::GET, &format!("/v1/messages/{}", sent[0]), None).await.body;
    assert_eq!((&shown["label"], &shown["metadata"]), (&json!("orders"), &json!({"trace": "t"})));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_picked_by_their_state_page_by_page() {
    let world = World::start().await;
    world.put_devices(vec![("good".into(), fcm_device("ok-a"))]).await;
    let path = format!("/v1/apps/{}/channels/fcm/", world.app_id);
    let mut expected = Vec::new();
    for n in 0..6 {
        // Every third waits for its channel.
        let switch = if n % 3 == 0 { "pause" } else { "resume" };
        world.api(Method::POST, &format!("{path}{switch}"), None).await;
        let body =
            json!({"to": {"device_ids": ["good"]}, "data": {"a": "b"}, "route": {"steps": [{"use": "fcm"}]}});
        let id = world.send(body).await;
        if n % 3 == 0 {
            world.api(Method::POST, &format!("/v1/messages/{id}/cancel"), None).await;
        } else {
            world.done(&id).await;
            expected.insert(0, id);
        }
    }
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = world.api(Method::GET, &format!("/v1/messages?state=done&limit=1{cursor}"), None).await;
        assert_eq!(page.status, StatusCode::OK, "{:#}", page.body);
        let data = page.body["data"].as_array().unwrap();
        seen.extend(data.iter().map(|message| message["id"].as_str().unwrap().to_owned()));
        let Some(next) = page.body["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, expected);
    let wrong = world.api(Method::GET, "/v1/messages?state=lost", None).await;
    assert_eq!(wrong.body["code"], "invalid_parameter");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_are_picked_by_state_reason_and_channel() {
    let world = World::start().await;
    let devices = vec![("good".into(), fcm_device("ok-a")), ("dead".into(), fcm_device("dead-b"))];
    world.put_devices(devices).await;
    let id = world.send(labelled("orders")).await;
    world.done(&id).await;
    for (query, device) in
        [("state=accepted", "good"), ("reason=invalid_token", "dead"), ("state=failed&channel=fcm", "dead")]
    {
        let list = world.api(Method::GET, &format!("/v1/messages/{id}/deliveries?{query}"), None).await;
        let devices: Vec<_> =
            list.body["data"].as_array().unwrap().iter().map(|d| d["device_id"].clone()).collect();
        assert_eq!(devices, [device], "{query}: {:#}", list.body);
    }
    let wrong = world.api(Method::GET, &format!("/v1/messages/{id}/deliveries?state=lost"), None).await;
    assert_eq!(wrong.body["code"], "invalid_parameter");
}
