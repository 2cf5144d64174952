//! A message that is taken back: out of inboxes, off the screens of connected phones, and not from vendors.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::sending::{connect, direct_device, fcm_device};
use crate::world::World;

async fn recall(world: &World, id: &str) -> Value {
    let told = world.api(Method::POST, &format!("/v1/messages/{id}/recall"), None).await;
    assert_eq!(told.status, StatusCode::OK, "{:#}", told.body);
    told.body
}

async fn screens(world: &World) -> usize {
    let phones = world.sandbox(Method::GET, "/phones", None).await;
    phones["phones"].as_array().unwrap().iter().map(|phone| phone["screen"].as_array().unwrap().len()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recalled_message_leaves_inboxes_and_the_screen_of_a_connected_phone_but_not_its_vendor() {
    let world = World::start().await;
    let devices = [("shows", direct_device()), ("offline", direct_device()), ("vendor", fcm_device("ok-v"))];
    world.put_devices(devices.map(|(id, device)| (id.to_owned(), device)).to_vec()).await;
    let secrets = world.device_secrets(&["shows".into(), "offline".into()]).await;
    connect(&world, "shows", &secrets[0]).await;
    let to = json!({"device_ids": ["shows", "offline", "vendor"]});
    let id = world.send(json!({"to": to, "notification": {"title": "Wrong price"}})).await;
    world.until(&id, |m| m["counts"]["now"]["delivered"] == 1 && m["state"] == "done").await;
    // It was given to the phone, which has not said that it has it.
    let inbox = world.call(&secrets[1], Method::GET, "/v1/device/messages", None).await.body;
    assert_eq!(inbox["messages"].as_array().unwrap().len(), 1);
    assert_eq!(screens(&world).await, 1);
    let told = recall(&world, &id).await;
    assert_eq!((&told["cancelled"], &told["already_sent"]), (&json!(1), &json!(2)), "{told:#}");
    assert_eq!((&told["told"], &told["complete"]), (&json!(1), &json!(true)), "{told:#}");
    let channels = json!([
        {"channel": "direct", "already_sent": 1, "recalls": true},
        {"channel": "fcm", "already_sent": 1, "recalls": false}
    ]);
    let mut found = told["channels"].as_array().unwrap().clone();
    found.sort_by_key(|channel| channel["channel"].to_string());
    assert_eq!(json!(found), channels);
    while screens(&world).await > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let inbox = world.call(&secrets[1], Method::GET, "/v1/device/messages", None).await.body;
    assert_eq!(inbox["messages"], json!([]));
    let all = world.deliveries(&id).await;
    let shown = all.iter().find(|delivery| delivery["device_id"] == "shows").unwrap();
    let path = format!("/v1/messages/{id}/deliveries/{}", shown["id"].as_str().unwrap());
    let told = world.api(Method::GET, &path, None).await.body["trail"].as_array().unwrap().clone();
    let last = told.last().unwrap();
    assert_eq!((&last["kind"], &last["told"]), (&json!("recalled"), &json!(true)), "{told:#?}");
    let message = world.api(Method::GET, &format!("/v1/messages/{id}"), None).await.body;
    assert_eq!((&message["state"], &message["counts"]["now"]["delivered"]), (&json!("cancelled"), &json!(1)));
    // The phone had shown it after all, and says so late.
    let late = json!([{"message_id": id, "event": "displayed"}]);
    world.call(&secrets[1], Method::POST, "/v1/device/receipts", Some(late)).await;
    world.until(&id, |m| m["counts"]["now"]["displayed"] == 1).await;
    assert_eq!(recall(&world, &id).await["cancelled"], 0);
}

/// A1: another app's message is absent, and stays where it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recall_of_another_apps_message_finds_nothing() {
    let world = World::start().await;
    world.put_devices(vec![("offline".into(), direct_device())]).await;
    let secret = world.device_secrets(&["offline".into()]).await.remove(0);
    let id = world.send(json!({"to": {"device_ids": ["offline"]}, "notification": {"title": "Hello"}})).await;
    world.done(&id).await;
    let (_, other) = world.new_app("other").await;
    let absent = world.call(&other, Method::POST, &format!("/v1/messages/{id}/recall"), None).await;
    assert_eq!((absent.status, &absent.body["code"]), (StatusCode::NOT_FOUND, &json!("not_found")));
    let inbox = world.call(&secret, Method::GET, "/v1/device/messages", None).await.body;
    assert_eq!(inbox["messages"].as_array().unwrap().len(), 1);
}
