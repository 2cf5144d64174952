//! The book of requests, and what lives on.

use serde_json::{Value, json};

use crate::world::{PROJECT, World, to};

#[tokio::test]
async fn the_ledger_lists_requests_and_sums_them_up() {
    let world = World::start().await;
    let token = world.access_token(PROJECT).await;
    for (target, message) in [("a", "m1"), ("a", "m1"), ("b", "m1"), ("a", "m2"), ("dead-a", "m1")] {
        world.post(&token, &to(target, message)).await;
    }
    assert_eq!(world.sums("").await, [5, 4, 3, 1]);
    assert_eq!(world.sums("?message=m1").await, [4, 3, 2, 1]);
    let summary = world.get("/_sandbox/summary").await;
    let fcm = &summary["by_provider"]["fcm"];
    assert_eq!(fcm["verdicts"], json!({"accepted": 4, "unregistered": 1}));
    assert_eq!(fcm["other"], json!({"token/granted": 1}));
    let listed = world.get("/_sandbox/requests?token=dead-a").await;
    let entry = &listed["requests"][0];
    assert_eq!(
        (&entry["message"], &entry["status"], &entry["account"]),
        (&json!("m1"), &json!(404), &json!(PROJECT))
    );
    assert!(entry["at"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    let page = world.get("/_sandbox/requests?limit=2").await;
    let after = page["next_after"].as_u64().unwrap();
    let rest = world.get(&format!("/_sandbox/requests?after={after}")).await;
    assert_eq!(rest["requests"].as_array().unwrap().len(), 4);
    world.http.delete(format!("{}/_sandbox/requests", world.url)).send().await.unwrap();
    assert_eq!(world.sums("").await, [0, 0, 0, 0]);
    world.post(&token, &to("a", "m1")).await;
    assert_eq!(world.sums("").await, [1, 1, 1, 0]);
}

#[tokio::test]
async fn a_restart_keeps_keys_access_tokens_rules_switches_and_sums() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start_in(dir.path()).await;
    let account = world.service_account(PROJECT).await;
    let token = world.access_token(PROJECT).await;
    world.post(&token, &to("a", "m1")).await;
    world.put("/_sandbox/rules", json!([{"pattern": "x-", "behaviour": "dead"}])).await;
    world.put("/_sandbox/providers/fcm", json!({"latency_ms": 1})).await;
    world.stop().await;

    let world = World::start_in(dir.path()).await;
    let again = world.service_account(PROJECT).await;
    let names = ["private_key", "private_key_id", "client_email", "project_id"];
    assert_eq!(names.map(|name| &account[name]), names.map(|name| &again[name]));
    assert_eq!(world.post(&token, &to("a", "m1")).await.0, 200);
    assert_eq!(world.post(&token, &to("x-1", "m1")).await.0, 404);
    assert_eq!(world.sums("?message=m1").await, [3, 2, 1, 1]);
    assert_eq!(world.get("/_sandbox/providers/fcm").await["latency_ms"], 1);
    world.stop().await;
}

#[tokio::test]
async fn a_recording_keeps_whole_requests_but_no_access_token() {
    let world = World::start().await;
    let token = world.access_token(PROJECT).await;
    world.put("/_sandbox/recording", json!({"on": true})).await;
    world.post(&token, &to("dead-a", "m1")).await;
    world.put("/_sandbox/recording", json!({"on": false})).await;
    world.post(&token, &to("a", "m1")).await;
    let recording = world.get("/_sandbox/recording").await;
    let kept = recording["requests"].as_array().unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!((&kept[0]["status"], &kept[0]["method"]), (&json!(404), &json!("POST")));
    assert_eq!(kept[0]["headers"]["authorization"], "Bearer <access token>");
    let body: Value = serde_json::from_str(kept[0]["body"].as_str().unwrap()).unwrap();
    assert_eq!(body, to("dead-a", "m1"));
    assert!(!recording.to_string().contains(&token));
}
