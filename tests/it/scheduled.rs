//! Messages for later: sent at their time, to who is there then, or cancelled before.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::sending::fcm_device;
use crate::world::{World, now};

/// A time so many milliseconds ahead.
fn ahead(ms: i64) -> String {
    now().checked_add(jiff::Span::new().milliseconds(ms)).unwrap().to_string()
}

fn to_vips(send_at: &str) -> Value {
    json!({
        "to": {"audience": {"tag": "all"}}, "class": "transactional", "data": {"a": "b"},
        "send_at": send_at, "ttl_seconds": 3600
    })
}

async fn scheduled(world: &World) -> Vec<Value> {
    let list = world.api(Method::GET, "/v1/messages?state=scheduled", None).await;
    assert_eq!(list.status, StatusCode::OK, "{:#}", list.body);
    list.body["data"].as_array().unwrap().iter().map(|message| message["id"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduled_message_survives_a_kill_and_reaches_who_is_there_at_its_time() {
    let mut world = World::start().await;
    world.put_devices(vec![("early".into(), fcm_device("ok-early"))]).await;
    let at = ahead(6000);
    let sent = world.api(Method::POST, "/v1/messages", Some(to_vips(&at))).await;
    assert_eq!((sent.status, &sent.body["state"]), (StatusCode::ACCEPTED, &json!("scheduled")));
    let id = sent.body["id"].as_str().unwrap().to_owned();
    assert_eq!(scheduled(&world).await, [json!(id)]);
    let waits = world.api(Method::GET, &format!("/v1/messages/{id}"), None).await.body;
    assert_eq!((&waits["state"], &waits["counts"]["targeted"]), (&json!("scheduled"), &json!(0)));
    let time = |field: &Value| field.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let lives = time(&waits["expires_at"]).duration_since(time(&waits["send_at"]));
    assert_eq!(lives.as_secs(), 3600, "the TTL counts from its time");
    world.kill_gateway();
    world.start_gateway().await;
    // Who goes before its time is not in it, who comes before it is.
    world.put_devices(vec![("late".into(), fcm_device("ok-late"))]).await;
    assert_eq!(world.api(Method::DELETE, "/v1/devices/early", None).await.status, StatusCode::NO_CONTENT);
    let done = world.until(&id, |message| message["state"] == "done").await;
    assert!(now() >= time(&waits["send_at"]), "it went too early");
    assert_eq!(done["counts"]["now"]["accepted"], 1, "{done:#}");
    assert_eq!(world.deliveries(&id).await[0]["device_id"], "late");
    assert!(scheduled(&world).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduled_message_that_is_cancelled_is_never_sent_and_ends_at_once() {
    let world = World::start().await;
    world.put_devices(vec![("a".into(), fcm_device("ok-a"))]).await;
    let id = world.send(to_vips(&ahead(2500))).await;
    let told = world.api(Method::POST, &format!("/v1/messages/{id}/cancel"), None).await.body;
    assert_eq!(told, json!({"cancelled": 0, "already_sent": 0, "in_flight": 0}));
    let ended = world.api(Method::GET, &format!("/v1/messages/{id}"), None).await.body;
    assert_eq!((&ended["state"], &ended["counts"]["targeted"]), (&json!("cancelled"), &json!(0)));
    tokio::time::sleep(Duration::from_secs(4)).await;
    let ledger = world.sandbox(Method::GET, &format!("/summary?message={id}"), None).await;
    assert_eq!(ledger["accepted_distinct"], 0, "{ledger:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_that_cannot_be_is_refused_and_one_that_has_just_come_is_now() {
    let world = World::start().await;
    world.put_devices(vec![("a".into(), fcm_device("ok-a"))]).await;
    for wrong in ["tomorrow", "2020-01-01T00:00:00Z", &ahead(100 * 86_400_000)] {
        let refused = world.api(Method::POST, "/v1/messages", Some(to_vips(wrong))).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
        assert_eq!(refused.body["pointer"], "/send_at", "{:#}", refused.body);
    }
    let id = world.send(to_vips(&ahead(-1000))).await;
    assert_eq!(world.done(&id).await["send_at"], Value::Null);
}
