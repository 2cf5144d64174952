//! A channel is checked and taken away, and shows no secret. How one is paused is in `slow::waiting`.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::trouble::{phone, to_phone};
use crate::world::World;

async fn channel(world: &World, method: Method, rest: &str) -> (StatusCode, Value) {
    let path = format!("/v1/apps/{}/channels/fcm{rest}", world.app_id);
    let answer = world.api(method, &path, None).await;
    (answer.status, answer.body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_says_whether_the_credentials_are_good() {
    let world = World::start().await;
    let (status, good) = channel(&world, Method::POST, "/check").await;
    assert_eq!((status, &good["ok"]), (StatusCode::OK, &json!(true)), "{good:#}");
    world.sandbox(Method::PUT, "/providers/fcm", Some(json!({"credentials": "refused"}))).await;
    let (status, bad) = channel(&world, Method::POST, "/check").await;
    assert_eq!((status, &bad["ok"]), (StatusCode::OK, &json!(false)), "{bad:#}");
    assert_eq!(bad["reason"], "auth_failed", "{bad:#}");
    let ledger = world.sandbox(Method::GET, "/summary", None).await;
    assert_eq!(ledger["accepted_distinct"], 0, "a check reaches nobody: {ledger:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_shows_no_secret_and_once_deleted_is_no_route() {
    let world = World::start().await;
    phone(&world, "ok-phone").await;
    let (status, shown) = channel(&world, Method::GET, "").await;
    assert_eq!((status, &shown["provider"]), (StatusCode::OK, &json!("fcm")));
    assert!(!shown.to_string().contains("PRIVATE KEY"), "{shown:#}");
    assert!(shown["secrets"].as_object().unwrap().values().any(|secret| secret["set"] == true), "{shown:#}");
    let again = world.put_fcm_channel(&world.app_id, "fcm", "demo-project").await;
    assert_eq!(again.status, StatusCode::OK, "put again replaces");

    assert_eq!(channel(&world, Method::DELETE, "").await.0, StatusCode::NO_CONTENT);
    let (status, gone) = channel(&world, Method::GET, "").await;
    assert_eq!((status, &gone["code"]), (StatusCode::NOT_FOUND, &json!("not_found")));
    let left = world.api(Method::GET, &format!("/v1/apps/{}/channels", world.app_id), None).await.body;
    let left: Vec<_> = left["data"].as_array().unwrap().iter().map(|c| c["name"].clone()).collect();
    assert_eq!(left, ["direct"]);
    let message = world.done(&world.send(to_phone()).await).await;
    assert_eq!(message["reasons"], json!({"no_route": 1}), "{message:#}");
    let direct = format!("/v1/apps/{}/channels/direct", world.app_id);
    let kept = world.api(Method::DELETE, &direct, None).await;
    assert_eq!(kept.body["code"], "channel_is_built_in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_of_providers_says_what_a_channel_takes() {
    let world = World::start().await;
    let providers = world.api(Method::GET, "/v1/providers", None).await.body;
    let ids: Vec<_> = providers["data"].as_array().unwrap().iter().map(|p| p["id"].clone()).collect();
    assert!(ids.contains(&json!("fcm")), "{ids:?}");
    let fcm = providers["data"].as_array().unwrap().iter().find(|p| p["id"] == "fcm").unwrap();
    assert!(fcm["config_schema"]["properties"]["service_account"].is_object(), "{fcm:#}");
    let wrong = json!({"provider": "fcm", "config": {"servce_account": {}}});
    let path = format!("/v1/apps/{}/channels/other", world.app_id);
    let refused = world.api(Method::PUT, &path, Some(wrong)).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.body["pointer"].as_str().unwrap().starts_with("/config"), "{:#}", refused.body);
}
