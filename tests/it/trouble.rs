//! Vendors that are down, slow, or refuse; phones that are away: what was sent waits, moves on, or ends with the right
//! reason, and never counts as accepted.

use std::process::Command;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::World;

/// One device with these FCM tokens, `phone`.
pub(crate) async fn phone(world: &World, token: &str) {
    let device = json!({"addresses": [{"provider": "fcm", "token": token}]});
    world.put_devices(vec![("phone".into(), device)]).await;
}

pub(crate) fn to_phone() -> Value {
    json!({"to": {"device_ids": ["phone"]}, "notification": {"title": "Hello"}})
}

/// The trail of the message's only delivery.
async fn trail(world: &World, id: &str) -> Vec<Value> {
    let delivery = world.deliveries(id).await.remove(0);
    let path = format!("/v1/messages/{id}/deliveries/{}", delivery["id"].as_str().unwrap());
    world.api(Method::GET, &path, None).await.body["trail"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_waits_while_its_vendor_is_down_and_arrives_when_it_is_back() {
    let world = World::start().await;
    phone(&world, "ok-phone").await;
    world.sandbox(Method::PUT, "/providers/fcm", Some(json!({"outage": "http_503"}))).await;
    let id = world.send(to_phone()).await;
    let tries = |m: &Value| m["reasons"]["vendor_unavailable"] == 1 || m["counts"]["now"]["pending"] == 1;
    world.until(&id, tries).await;
    // Pending is what it is also before its first outcome is written.
    while world.deliveries(&id).await.is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    while trail(&world, &id).await.len() < 3 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let message = world.until(&id, |_| true).await;
    assert_eq!(message["counts"]["now"]["pending"], 1, "{message:#}");
    assert_eq!(message["state"], "sending");
    world.sandbox(Method::PUT, "/providers/fcm", Some(json!({"outage": "none"}))).await;
    let message = world.done(&id).await;
    assert_eq!(message["counts"]["now"]["accepted"], 1, "{message:#}");
    let told = trail(&world, &id).await;
    assert_eq!(told[0]["kind"], "decided");
    assert_eq!(told[1]["reason"], "vendor_unavailable", "{told:#?}");
    assert_eq!(told.last().unwrap()["kind"], "attempted");
    assert_eq!(told.last().unwrap()["reason"], Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_token_is_retired_and_the_inbox_takes_over() {
    let world = World::start().await;
    phone(&world, "dead-phone").await;
    world.device_secrets(&["phone".into()]).await;
    let id = world.send(to_phone()).await;
    let message = world.until(&id, |m| m["counts"]["now"]["accepted"] == 1).await;
    assert_eq!(message["by_channel"]["direct"]["now"]["accepted"], 1, "{message:#}");
    let told = trail(&world, &id).await;
    let kinds: Vec<_> = told.iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["decided", "attempted", "decided", "attempted"], "{told:#?}");
    let device = world.api(Method::GET, "/v1/devices/phone", None).await;
    assert_eq!(device.body["addresses"][0]["state"], "retired", "{:#}", device.body);
    let again = world.send(to_phone()).await;
    let message = world.done(&again).await;
    assert_eq!(message["by_channel"]["direct"]["now"]["accepted"], 1, "{message:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_repeated_with_its_key_sends_once_even_after_a_crash() {
    let mut world = World::start().await;
    phone(&world, "ok-phone").await;
    let call = |world: &World, body: Value| {
        let request = world.http.post(format!("{}/v1/messages", world.url)).bearer_auth(&world.api_key);
        request.header("Idempotency-Key", "order-42").json(&body).send()
    };
    let first = call(&world, to_phone()).await.unwrap();
    assert_eq!(first.status(), StatusCode::ACCEPTED);
    let first: Value = first.json().await.unwrap();
    world.kill_gateway();
    world.start_gateway().await;
    let again = call(&world, to_phone()).await.unwrap();
    assert_eq!(again.headers()["Idempotency-Replayed"], "true");
    assert_eq!(again.json::<Value>().await.unwrap(), first);
    let mut other = to_phone();
    other["notification"]["title"] = json!("Other");
    assert_eq!(call(&world, other).await.unwrap().status(), StatusCode::UNPROCESSABLE_ENTITY);
    let id = first["id"].as_str().unwrap();
    world.done(id).await;
    let ledger = world.sandbox(Method::GET, "/summary", None).await;
    assert_eq!(ledger["accepted_distinct"], 1, "{ledger:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_hears_the_first_answer_although_the_channel_that_it_names_is_gone() {
    let world = World::start().await;
    phone(&world, "ok-phone").await;
    let made = world.put_fcm_channel(&world.app_id, "spare", "spare-project").await;
    assert!(made.status.is_success(), "{}", made.body);
    let mut body = to_phone();
    body["route"] = json!({"steps": [{"use": "spare"}]});
    let call = || {
        let request = world.http.post(format!("{}/v1/messages", world.url)).bearer_auth(&world.api_key);
        request.header("Idempotency-Key", "order-42").json(&body).send()
    };
    let first: Value = call().await.unwrap().json().await.unwrap();
    world.done(first["id"].as_str().unwrap()).await;
    let spare = format!("/v1/apps/{}/channels/spare", world.app_id);
    assert!(world.api(Method::DELETE, &spare, None).await.status.is_success());
    let again = call().await.unwrap();
    assert_eq!(
        (again.status(), &again.headers()["Idempotency-Replayed"]),
        (StatusCode::ACCEPTED, &"true".parse().unwrap())
    );
    assert_eq!(again.json::<Value>().await.unwrap(), first);
    let new = world.api(Method::POST, "/v1/messages", Some(body.clone())).await;
    assert_eq!(new.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", new.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_gateway_on_the_same_data_refuses_to_start_and_says_why() {
    let world = World::start().await;
    let second = Command::new(env!("CARGO_BIN_EXE_anypush"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(world.data_dir())
        .output()
        .unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains(&*world.data_dir().to_string_lossy()), "{said}");
    assert!(said.lines().count() <= 3, "one clear sentence, not a trace: {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_deliveries_take_few_statements() {
    let world = World::start().await;
    let devices = (0..5000).map(|i| {
        let address = json!([{"provider": "fcm", "token": format!("ok-{i}")}]);
        (format!("d{i}"), json!({"tags": ["all"], "addresses": address}))
    });
    world.put_devices(devices.collect()).await;
    let before = statements(&world).await;
    let id = world
        .send(json!({"to": {"audience": {"tag": "all"}}, "class": "marketing", "notification": {"title": "Hi"}}))
        .await;
    world.done(&id).await;
    let per_thousand = (statements(&world).await - before) / 5;
    // Twenty where the machine is quiet; more where it is so slow that a quarter of a second brings few outcomes. One for
    // each device would be a thousand.
    assert!(per_thousand <= 200, "{per_thousand} statements for 1000 deliveries");
}

async fn statements(world: &World) -> u64 {
    let text =
        world.http.get(format!("{}/metrics", world.url)).bearer_auth(&world.admin_key).send().await.unwrap();
    let text = text.text().await.unwrap();
    let line =
        text.lines().find(|line| line.starts_with("anypush_store_write_statements")).expect("the metric");
    line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64
}
