//! Routes of several steps: who waits for whom, what an acknowledgement stops, and what a cancel takes back.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::sending::connect;
use crate::world::World;

/// A device with an FCM token that may also connect itself: its secret.
async fn both(world: &World, token: &str) -> String {
    let device = json!({"tags": ["all"], "addresses": [{"provider": "fcm", "token": token}]});
    world.put_devices(vec![("phone".into(), device)]).await;
    world.device_secrets(&["phone".into()]).await.remove(0)
}

fn own_first(seconds: u32) -> Value {
    json!({
        "to": {"device_ids": ["phone"]}, "notification": {"title": "Hello"},
        "route": {"steps": [
            {"use": "direct", "wait_seconds": seconds, "until": "delivered"},
            {"use": "fcm"}
        ]}
    })
}

async fn sent_to_vendor(world: &World, id: &str) -> u64 {
    let ledger = world.sandbox(Method::GET, &format!("/summary?message={id}"), None).await;
    ledger["accepted_distinct"].as_u64().unwrap()
}

/// What became of a message's first delivery.
pub(crate) async fn trail(world: &World, id: &str) -> Vec<Value> {
    let delivery = world.deliveries(id).await.remove(0);
    let path = format!("/v1/messages/{id}/deliveries/{}", delivery["id"].as_str().unwrap());
    world.api(Method::GET, &path, None).await.body["trail"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_that_does_not_acknowledge_in_time_is_reached_through_the_vendor_too() {
    let world = World::start().await;
    let secret = both(&world, "ok-phone").await;
    let id = world.send(own_first(2)).await;
    let message = world.until(&id, |m| m["by_channel"]["direct"]["now"]["accepted"] == 1).await;
    assert_eq!(message["state"], "done", "{message:#}");
    assert_eq!(sent_to_vendor(&world, &id).await, 0);
    let message = world.until(&id, |m| m["by_channel"]["fcm"]["now"]["accepted"] == 1).await;
    assert_eq!(message["counts"]["reached"]["accepted"], 1, "{message:#}");
    assert_eq!(message["by_channel"]["direct"]["now"]["accepted"], 0, "{message:#}");
    let told = trail(&world, &id).await;
    let kinds: Vec<_> = told.iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["decided", "attempted", "waited", "decided", "attempted"], "{told:#?}");
    // It comes late, and counts, where it came from.
    connect(&world, "phone", &secret).await;
    let message = world.until(&id, |m| m["counts"]["now"]["delivered"] == 1).await;
    assert_eq!(message["by_channel"]["direct"]["now"]["delivered"], 1, "{message:#}");
    assert_eq!(sent_to_vendor(&world, &id).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_cancels_the_vendor_push_that_was_armed() {
    let world = World::start().await;
    let secret = both(&world, "ok-phone").await;
    connect(&world, "phone", &secret).await;
    let id = world.send(own_first(2)).await;
    world.until(&id, |m| m["counts"]["now"]["delivered"] == 1).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(sent_to_vendor(&world, &id).await, 0);
    let told = trail(&world, &id).await;
    assert!(told.iter().all(|entry| entry["kind"] != "waited"), "{told:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_further_step_that_fails_takes_nothing_from_the_one_that_has_it() {
    let world = World::start().await;
    let secret = both(&world, "dead-phone").await;
    let id = world.send(own_first(1)).await;
    world.until(&id, |m| m["counts"]["now"]["accepted"] == 1).await;
    while trail(&world, &id).await.len() < 5 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let message = world.until(&id, |_| true).await;
    assert_eq!(message["by_channel"]["direct"]["now"]["accepted"], 1, "{message:#}");
    connect(&world, "phone", &secret).await;
    world.until(&id, |m| m["counts"]["now"]["delivered"] == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vendor_that_is_down_makes_way_when_the_time_of_its_step_is_over() {
    let world = World::start().await;
    both(&world, "ok-phone").await;
    world.sandbox(Method::PUT, "/providers/fcm", Some(json!({"outage": "http_503"}))).await;
    let mut message = own_first(1);
    message["route"] = json!({"steps": [{"use": "fcm", "wait_seconds": 1}, {"use": "direct"}]});
    let id = world.send(message).await;
    world.until(&id, |m| m["by_channel"]["direct"]["now"]["accepted"] == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_armed_step_survives_the_end_of_the_process() {
    let mut world = World::start().await;
    both(&world, "ok-phone").await;
    let id = world.send(own_first(3)).await;
    world.until(&id, |m| m["counts"]["now"]["accepted"] == 1).await;
    world.kill_gateway();
    world.start_gateway().await;
    world.until(&id, |m| m["by_channel"]["fcm"]["now"]["accepted"] == 1).await;
    assert_eq!(sent_to_vendor(&world, &id).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_ends_what_waits_and_withdraws_what_no_phone_has_fetched() {
    let world = World::start().await;
    let fcm = json!({"tags": ["all"], "addresses": [{"provider": "fcm", "token": "ok-a"}]});
    world.put_devices(vec![("a".into(), fcm), ("b".into(), json!({"tags": ["all"]}))]).await;
    let secret = world.device_secrets(&["b".into()]).await.remove(0);
    let channel = format!("/v1/apps/{}/channels/fcm", world.app_id);
    world.call(&world.admin_key, Method::POST, &format!("{channel}/pause"), None).await;
    let to = json!({"device_ids": ["a", "b"]});
    let id = world.send(json!({"to": to, "notification": {"title": "Oops"}})).await;
    world.until(&id, |m| m["counts"]["now"]["accepted"] == 1).await;
    let path = format!("/v1/messages/{id}/cancel");
    for _ in 0..2 {
        let answer = world.api(Method::POST, &path, None).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert_eq!(answer.body, json!({"cancelled": 2, "already_sent": 0, "in_flight": 0}));
    }
    let message = world.until(&id, |m| m["state"] == "cancelled").await;
    assert_eq!(message["reasons"], json!({"cancelled": 2}), "{message:#}");
    world.call(&world.admin_key, Method::POST, &format!("{channel}/resume"), None).await;
    connect(&world, "b", &secret).await;
    // A message behind it shows that the cancelled one is not merely late.
    let next =
        world.send(json!({"to": {"device_ids": ["a", "b"]}, "notification": {"title": "Right"}})).await;
    world
        .until(&next, |m| m["counts"]["reached"]["accepted"] == 2 && m["counts"]["now"]["delivered"] == 1)
        .await;
    assert_eq!(sent_to_vendor(&world, &id).await, 0);
    let phones = world.sandbox(Method::GET, "/phones", None).await;
    assert_eq!(phones["phones"][0]["screen"].as_array().unwrap().len(), 1, "{phones:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_campaign_stops_at_once_and_its_numbers_add_up() {
    let world = World::start().await;
    let device = |i| {
        (
            format!("d{i}"),
            json!({"tags": ["all"], "addresses": [{"provider": "fcm", "token": format!("ok-{i}")}]}),
        )
    };
    world.put_devices((0..3000).map(device).collect()).await;
    world.sandbox(Method::PUT, "/providers/fcm", Some(json!({"latency_ms": 500}))).await;
    let id = world
        .send(json!({"to": {"audience": {"tag": "all"}}, "class": "marketing", "notification": {"title": "Hi"}}))
        .await;
    world.until(&id, |m| m["counts"]["reached"]["accepted"].as_u64() >= Some(1)).await;
    let answer = world.api(Method::POST, &format!("/v1/messages/{id}/cancel"), None).await.body;
    assert!(answer["cancelled"].as_u64() >= Some(1), "{answer:#}");
    let message = world.until(&id, |m| m["state"] == "cancelled").await;
    let now = &message["counts"]["now"];
    assert_eq!(now["accepted"].as_u64().unwrap() + now["cancelled"].as_u64().unwrap(), 3000, "{message:#}");
    assert_eq!(sent_to_vendor(&world, &id).await, now["accepted"].as_u64().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_ends_unknown_where_nothing_may_be_sent_twice() {
    let world = World::start().await;
    both(&world, "lost-phone").await;
    let mut message = own_first(1);
    message["route"] = json!({"steps": [{"use": "fcm"}]});
    message["delivery"] = json!("at_most_once");
    let id = world.send(message).await;
    let message = world.done(&id).await;
    assert_eq!(message["counts"]["now"]["unknown"], 1, "{message:#}");
    let ledger = world.sandbox(Method::GET, &format!("/summary?message={id}"), None).await;
    assert_eq!(ledger["duplicates"], 0, "{ledger:#}");
}
