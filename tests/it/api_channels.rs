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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_sends_one_message_once_and_answers_with_the_vendors_words() {
    let world = World::start().await;
    phone(&world, "ok-phone").await;
    let path = format!("/v1/apps/{}/channels/fcm/test", world.app_id);
    let test = async |to: Value| world.api(Method::POST, &path, Some(json!({"to": to}))).await;
    let good = test(json!({"device_ids": ["phone"]})).await;
    assert_eq!((good.status, &good.body["ok"]), (StatusCode::OK, &json!(true)), "{:#}", good.body);
    assert_eq!(good.body["delivery"]["state"], "accepted");
    let id = good.body["message_id"].as_str().unwrap();
    let message = world.api(Method::GET, &format!("/v1/messages/{id}"), None).await.body;
    assert_eq!(message["label"], "channel-test", "reports tell it apart");
    let dead = test(json!({"tokens": [{"provider": "fcm", "token": "dead-one"}]})).await.body;
    assert_eq!(
        (&dead["ok"], &dead["delivery"]["reason"]),
        (&json!(false), &json!("invalid_token")),
        "{dead:#}"
    );
    let told = dead["delivery"]["trail"].as_array().unwrap().last().unwrap();
    assert_eq!(told["vendor"]["code"], "UNREGISTERED", "{told:#}");
    // A refusal that others are tried again after ends it.
    world.sandbox(Method::PUT, "/providers/fcm", Some(json!({"outage": "http_503"}))).await;
    let down = test(json!({"device_ids": ["phone"]})).await.body;
    assert_eq!((&down["ok"], &down["delivery"]["state"]), (&json!(false), &json!("failed")), "{down:#}");
    assert_eq!(down["delivery"]["reason"], "vendor_unavailable");
    let id = down["message_id"].as_str().unwrap();
    assert_eq!(world.done(id).await["counts"]["targeted"], 1);
    world.sandbox(Method::PUT, "/providers/fcm", Some(json!({"outage": "none"}))).await;
    for wrong in [json!({"device_ids": ["a", "b"]}), json!({"audience": {"all": true}}), json!({})] {
        let refused = test(wrong).await;
        assert_eq!(
            (refused.status, &refused.body["pointer"]),
            (StatusCode::UNPROCESSABLE_ENTITY, &json!("/to"))
        );
    }
    let more = json!({"to": {"device_ids": ["phone"]}, "ttl_seconds": 5});
    assert_eq!(world.api(Method::POST, &path, Some(more)).await.body["code"], "unknown_field");
    assert_eq!(channel(&world, Method::POST, "/pause").await.0, StatusCode::OK);
    let paused = test(json!({"device_ids": ["phone"]})).await;
    assert_eq!((paused.status, &paused.body["code"]), (StatusCode::CONFLICT, &json!("channel_unusable")));
}
