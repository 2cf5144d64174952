//! Quotas: asked before anything is sent, shown, and kept through the end of the process.

use std::time::{Duration, SystemTime};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::trouble::{phone, to_phone};
use crate::world::World;

/// Puts the FCM channel again with these limits.
async fn limited(world: &World, limits: Value) -> (StatusCode, Value) {
    let path = format!("/v1/apps/{}/channels/fcm", world.app_id);
    let now = world.call(&world.admin_key, Method::GET, &path, None).await.body;
    let body = json!({"provider": "fcm", "config": now["config"], "limits": limits});
    let answer = world.call(&world.admin_key, Method::PUT, &path, Some(body)).await;
    (answer.status, answer.body)
}

/// The quotas that this test holds begin anew each hour: not in the middle of it.
async fn early_in_the_hour() {
    #[expect(clippy::disallowed_methods, reason = "the gateway's clock is the machine's")]
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() % 3600;
    if now > 3480 {
        tokio::time::sleep(Duration::from_secs(3601 - now)).await;
    }
}

fn quota<'a>(channel: &'a Value, name: &str) -> &'a Value {
    channel["quotas"].as_array().unwrap().iter().find(|quota| quota["name"] == name).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_that_is_used_up_ends_a_step_without_a_request_also_after_a_kill() {
    let mut world = World::start().await;
    early_in_the_hour().await;
    phone(&world, "ok-phone").await;
    let (status, channel) = limited(&world, json!({"quotas": {"device_hour": 1}})).await;
    assert_eq!(status, StatusCode::OK, "{channel:#}");
    let shown = quota(&channel, "device_hour");
    assert_eq!((&shown["limit"], &shown["counted"]), (&json!(1), &json!(true)), "{shown:#}");
    assert!(shown["resets_at"].as_str().unwrap().contains(":00:00.000Z"), "{shown:#}");
    assert_eq!(quota(&channel, "project_minute")["counted"], json!(false));
    let dry = world.api(Method::POST, "/v1/messages?dry_run=true", Some(to_phone())).await.body;
    assert_eq!(dry["channels"][0]["quotas"][0]["name"], "device_hour", "{dry:#}");
    let first = world.done(&world.send(to_phone()).await).await;
    assert_eq!(first["counts"]["now"]["accepted"], 1, "a dry run uses nothing: {first:#}");
    world.kill_gateway();
    world.start_gateway().await;
    let second = world.done(&world.send(to_phone()).await).await;
    assert_eq!(second["reasons"], json!({"quota_exceeded": 1}), "{second:#}");
    let ledger = world.sandbox(Method::GET, "/summary", None).await;
    assert_eq!(ledger["accepted_distinct"], 1, "{ledger:#}");
    limited(&world, json!({"quotas": {"device_hour": 2}})).await;
    let third = world.done(&world.send(to_phone()).await).await;
    assert_eq!(third["counts"]["now"]["accepted"], 1, "{third:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_for_a_quota_that_cannot_be_counted_is_refused_at_its_place() {
    let world = World::start().await;
    let (status, refused) = limited(&world, json!({"quotas": {"device_minute": 5, "no_such": 1}})).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let places: Vec<_> = refused["errors"].as_array().unwrap().iter().map(|e| &e["pointer"]).collect();
    assert_eq!(places, ["/limits/quotas/device_minute", "/limits/quotas/no_such"], "{refused:#}");
}
