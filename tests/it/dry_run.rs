//! Dry runs: what would become of a message is told, and nothing is stored or sent.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::sending::connect;
use crate::world::World;

async fn dry(world: &World, message: Value) -> Value {
    let answer = world.api(Method::POST, "/v1/messages?dry_run=true", Some(message)).await;
    assert_eq!(answer.status, StatusCode::OK, "{:#}", answer.body);
    answer.body
}

/// What is told of the target with this id or number.
fn told<'a>(run: &'a Value, name: &str) -> &'a Value {
    let is = |target: &&Value| {
        [&target["device_id"], &target["given"], &target["address"]["token"]].iter().any(|v| **v == name)
    };
    run["targets"].as_array().unwrap().iter().find(is).unwrap_or_else(|| panic!("no {name} in {run:#}"))
}

fn channel<'a>(run: &'a Value, name: &str) -> &'a Value {
    run["channels"].as_array().unwrap().iter().find(|c| c["channel"] == name).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_tells_each_targets_way_and_what_would_be_sent_and_sends_nothing() {
    let world = World::start().await;
    let fcm = |token: &str| json!({"addresses": [{"provider": "fcm", "token": token}]});
    world.put_devices(vec![("both".into(), fcm("ok-both")), ("push".into(), fcm("ok-push"))]).await;
    world.put_devices(vec![("bare".into(), json!({}))]).await;
    let secret = world.device_secrets(&["both".into()]).await.remove(0);
    connect(&world, "both", &secret).await;
    while world.api(Method::GET, "/v1/devices/both", None).await.body["connected"] != true {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let message = json!({
        "to": {"device_ids": ["both", "push", "bare", "nobody"]},
        "notification": {"title": "Hello", "badge": {"add": 1}, "actions_category": "ORDER"}
    });
    let run = dry(&world, message.clone()).await;
    assert_eq!(
        (&run["targeted"], &run["suppressed"], &run["complete"]),
        (&json!(4), &json!(2), &json!(true))
    );
    let steps = |name: &str| told(&run, name)["steps"].as_array().unwrap().clone();
    let both = steps("both");
    assert_eq!((&both[0]["channel"], &both[0]["wait_seconds"]), (&json!("direct"), &json!(20)), "{run:#}");
    assert_eq!((&both[1]["channel"], &both[1]["wait_seconds"]), (&json!("fcm"), &Value::Null), "{run:#}");
    assert_eq!(steps("push").len(), 1);
    assert_eq!(told(&run, "bare")["reason"], "no_route", "{run:#}");
    let why =
        told(&run, "bare")["skipped"].as_array().unwrap().iter().find(|s| s["channel"] == "fcm").unwrap();
    assert_eq!(why["why"], "the device has no address for it");
    assert_eq!(told(&run, "nobody")["reason"], "unknown_target");
    let fcm = channel(&run, "fcm");
    assert_eq!((&fcm["targets_first"], &fcm["targets_any"]), (&json!(1), &json!(2)), "{fcm:#}");
    assert_eq!(fcm["lacks"], json!(["badge", "actions"]), "{fcm:#}");
    let dropped: Vec<_> =
        fcm["preview"]["dropped"].as_array().unwrap().iter().map(|d| d["field"].clone()).collect();
    assert_eq!(dropped, ["/notification/badge", "/notification/actions_category"]);
    let token = fcm["preview"]["payload"]["message"]["token"].as_str().unwrap();
    // Of which of the two phones depends on who was registered first.
    assert!(token.starts_with("ok-") && token.contains("…("), "the token is cut: {token}");
    assert!(fcm["preview"]["bytes"].as_u64() < fcm["preview"]["max_bytes"].as_u64(), "{fcm:#}");
    let own = channel(&run, "direct");
    assert_eq!(own["preview"]["payload"]["notification"]["title"], "Hello", "{own:#}");

    let ledger = world.sandbox(Method::GET, "/summary", None).await;
    assert_eq!(ledger["accepted_distinct"], 0, "{ledger:#}");
    assert_eq!(world.api(Method::GET, "/v1/messages", None).await.body["data"], json!([]));
    // What was told is what then happens.
    let done = world.until(&world.send(message).await, |m| m["counts"]["now"]["delivered"] == 1).await;
    assert_eq!(done["by_channel"]["fcm"]["reached"]["accepted"], 1, "{done:#}");
    assert_eq!(done["reasons"], json!({"no_route": 1, "unknown_target": 1}), "{done:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_says_what_would_be_refused_before_any_request() {
    let world = World::start().await;
    let device = json!({"addresses": [{"provider": "fcm", "token": "ok-phone"}]});
    world.put_devices(vec![("phone".into(), device)]).await;
    let large = json!({"to": {"device_ids": ["phone"]}, "data": {"blob": "x".repeat(5000)}});
    let run = dry(&world, large).await;
    let preview = &channel(&run, "fcm")["preview"];
    assert_eq!(preview["refused"]["reason"], "payload_too_large", "{preview:#}");
    assert!(preview["bytes"].as_u64() > preview["max_bytes"].as_u64(), "{preview:#}");
    let reserved = json!({"to": {"device_ids": ["phone"]}, "data": {"from": "me"}});
    let run = dry(&world, reserved).await;
    assert_eq!(channel(&run, "fcm")["preview"]["refused"]["reason"], "payload_invalid", "{run:#}");
    let given = json!({"provider": "fcm", "token": "ok-given"});
    let run = dry(&world, json!({"to": {"tokens": [given, given]}, "data": {"a": "b"}})).await;
    assert_eq!(channel(&run, "fcm")["targets_first"], 1, "{run:#}");
    assert_eq!(run["targets"][1]["reason"], "duplicate_address", "{run:#}");
    // Numbers are reached by text messages alone, and nobody asked for these.
    let run = dry(&world, json!({"to": {"phones": ["+8613800000000"]}, "data": {"a": "b"}})).await;
    assert_eq!(told(&run, "+86138…")["reason"], "no_route", "{run:#}");
    let wrong = world.api(Method::POST, "/v1/messages?dry_run=true", Some(json!({"to": {}}))).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    let odd = world.api(Method::POST, "/v1/messages?dry_run=perhaps", Some(json!({}))).await;
    assert_eq!(odd.body["code"], "invalid_parameter", "{:#}", odd.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_of_a_campaign_shows_a_hundred_targets_and_counts_all() {
    let world = World::start().await;
    let device = |i: usize| {
        let addresses = if i.is_multiple_of(3) {
            json!([])
        } else {
            json!([{"provider": "fcm", "token": format!("ok-{i}")}])
        };
        (format!("d{i}"), json!({"tags": ["all"], "addresses": addresses}))
    };
    world.put_devices((0..300).map(device).collect()).await;
    let category = format!("/v1/apps/{}/categories/order", world.app_id);
    world.api(Method::PUT, &category, Some(json!({"class": "transactional"}))).await;
    let sale = json!({
        "to": {"audience": {"tag": "all"}}, "class": "marketing", "category": "order", "notification": {"title": "Sale"}
    });
    let run = dry(&world, sale).await;
    assert_eq!((&run["targeted"], &run["suppressed"]), (&json!(300), &json!(100)), "{run:#}");
    assert_eq!(run["targets"].as_array().unwrap().len(), 100);
    let ways = run["ways"].as_array().unwrap();
    assert_eq!((&ways[0]["targets"], &ways[0]["channels"]), (&json!(200), &json!(["fcm"])), "{run:#}");
    assert_eq!((&ways[1]["targets"], &ways[1]["reason"]), (&json!(100), &json!("no_route")), "{run:#}");
    let warning = run["warnings"][0].as_str().unwrap();
    assert!(warning.contains("marketing") && warning.contains("`order` is for transactional"), "{warning}");
}
