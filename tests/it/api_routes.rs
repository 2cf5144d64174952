//! The app's own rules for routes: kept, checked, followed, explained.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::steps::trail;
use crate::world::{Answer, World};

async fn put(world: &World, rules: Value) -> Answer {
    let path = format!("/v1/apps/{}/routes", world.app_id);
    world.api(Method::PUT, &path, Some(json!({"rules": rules}))).await
}

/// A Chinese phone that has an FCM token and may connect itself, and one that says nothing of itself.
async fn two_phones(world: &World) {
    let addresses = json!([{"provider": "fcm", "token": "ok-phone"}]);
    let said =
        json!({"platform": "android", "manufacturer": "XIAOMI", "country": "CN", "addresses": addresses});
    let silent = json!({"addresses": [{"provider": "fcm", "token": "ok-silent"}]});
    world.put_devices(vec![("said".into(), said), ("silent".into(), silent)]).await;
    world.device_secrets(&["said".into(), "silent".into()]).await;
}

fn to_both() -> Value {
    json!({"to": {"device_ids": ["said", "silent"]}, "notification": {"title": "Hello"}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_without_a_route_goes_by_the_apps_first_rule_that_fits_and_says_so() {
    let world = World::start().await;
    two_phones(&world).await;
    let rules = json!([
        {"name": "ads", "match": {"class": "marketing"}, "steps": [{"use": "fcm"}]},
        {"name": "own-first", "match": {"manufacturers": ["Xiaomi"], "countries": ["CN"]}, "steps": [{"use": "direct"}]}
    ]);
    let kept = put(&world, rules.clone()).await;
    assert_eq!(kept.status, StatusCode::OK, "{:#}", kept.body);
    let path = format!("/v1/apps/{}/routes", world.app_id);
    let read = world.api(Method::GET, &path, None).await.body;
    assert_eq!(read, kept.body);
    assert_eq!((&read["rules"][1]["match"], &read["warnings"]), (&rules[1]["match"], &json!([])));
    let told = world.api(Method::POST, "/v1/messages?dry_run=true", Some(to_both())).await.body;
    let by: Vec<_> = told["targets"].as_array().unwrap().iter().map(|t| &t["rule"]).collect();
    assert_eq!(by, [&json!("own-first"), &Value::Null], "{told:#}");
    let text = told["targets"][0]["text"].as_str().unwrap();
    assert!(text.starts_with("By the rule own-first. Will be sent through direct."), "{text}");
    let id = world.send(to_both()).await;
    let done = world.done(&id).await;
    assert_eq!(done["by_channel"]["direct"]["now"]["accepted"], 1, "{done:#}");
    assert_eq!(done["by_channel"]["fcm"]["now"]["accepted"], 1, "{done:#}");
    assert_eq!(trail(&world, &id).await[0]["rule"], "own-first");
    // What it says itself counts more.
    let mut asked = to_both();
    asked["route"] = json!({"steps": [{"use": "fcm"}]});
    let id = world.send(asked).await;
    assert_eq!(world.done(&id).await["by_channel"]["fcm"]["now"]["accepted"], 2);
    let mut ad = to_both();
    ad["class"] = json!("marketing");
    let id = world.send(ad).await;
    assert_eq!(world.done(&id).await["by_channel"]["fcm"]["now"]["accepted"], 2);
    assert_eq!(trail(&world, &id).await[0]["rule"], "ads");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_that_means_nothing_is_refused_with_all_its_mistakes_and_the_old_ones_stay() {
    let world = World::start().await;
    let before = put(&world, json!([{"name": "all", "steps": [{"use": "fcm"}]}])).await.body;
    let wrong = json!([
        {"name": "a", "steps": [{"use": "pigeon"}]},
        {"name": "a", "steps": []},
        {"name": "b", "match": {"countries": ["china"], "categories": ["none"]}, "steps": [{"use": "sms"}]},
        {"name": "c", "steps": [{"use": "fcm", "until": "displayed"}]},
        {"name": "d", "steps": [{"use": "fcm", "until": "displayed", "wait_seconds": 60}, {"use": "direct"}]},
        {"name": "e", "steps": [{"use": "fcm"}], "priority": 1}
    ]);
    let refused = put(&world, wrong).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    let mut found: Vec<_> =
        refused.body["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
    found.sort_unstable();
    let expected = [
        "/rules/0/steps/0/use",
        "/rules/1/name",
        "/rules/1/steps",
        "/rules/2/match/categories/0",
        "/rules/2/match/countries",
        "/rules/3/steps/0/if_blind",
        "/rules/3/steps/0/wait_seconds",
        "/rules/4/steps/0/if_blind",
        "/rules/5/priority",
    ];
    assert_eq!(found, expected, "{:#}", refused.body);
    let path = format!("/v1/apps/{}/routes", world.app_id);
    assert_eq!(world.api(Method::GET, &path, None).await.body, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_a_rule_names_is_not_deleted_behind_it_and_rules_outlive_a_restart() {
    let mut world = World::start().await;
    let app = world.app_id.clone();
    let done = world.put_fcm_channel(&app, "second", "demo-project").await;
    assert!(done.status.is_success(), "{:#}", done.body);
    let rules = json!([{"name": "codes", "steps": [{"use": "second"}, {"use": "platform"}]}]);
    let kept = put(&world, rules).await;
    assert_eq!(kept.body["warnings"].as_array().unwrap().len(), 1, "{:#}", kept.body);
    let channel = format!("/v1/apps/{app}/channels/second");
    let refused = world.api(Method::DELETE, &channel, None).await;
    assert_eq!((refused.status, &refused.body["code"]), (StatusCode::CONFLICT, &json!("channel_in_use")));
    assert!(refused.body["detail"].as_str().unwrap().contains("codes"), "{:#}", refused.body);
    assert!(world.stop_gateway().success());
    world.start_gateway().await;
    two_phones(&world).await;
    let id = world.send(to_both()).await;
    assert_eq!(world.done(&id).await["by_channel"]["second"]["now"]["accepted"], 2);
    assert_eq!(put(&world, json!([])).await.status, StatusCode::OK);
    assert_eq!(world.api(Method::DELETE, &channel, None).await.status, StatusCode::NO_CONTENT);
}
