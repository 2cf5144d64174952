//! Dry runs: what would become of a message is told, and nothing is stored or sent.

use std::collections::BTreeMap;
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

/// A channel of a played vendor with these settings beside those of its sample.
async fn put(world: &World, (name, provider): (&str, &str), more: Value) {
    let mut config = world.sample(provider).await["channel_config"].take();
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let path = format!("/v1/apps/{}/channels/{name}", world.app_id);
    let body = json!({"provider": provider, "config": config});
    let made = world.call(&world.admin_key, Method::PUT, &path, Some(body)).await;
    assert!(made.status.is_success(), "{:#}", made.body);
}

/// Phones of every sort, with channels that fail, are refused, are paused, cost money or are not there.
async fn mixed(world: &World) -> Vec<String> {
    for (name, provider, more) in [
        ("xiaomi", "xiaomi", json!({})),
        ("huawei", "huawei", json!({"app_secret": "not the one"})),
        ("apns", "apns", json!({"kinds": ["device", "voip"]})),
        ("spare", "apns", json!({})),
        ("sms_twilio", "sms_twilio", json!({})),
    ] {
        put(world, (name, provider), more).await;
    }
    let channel = |name: &str, verb: &str| format!("/v1/apps/{}/channels/{name}/{verb}", world.app_id);
    let paused = world.call(&world.admin_key, Method::POST, &channel("spare", "pause"), None).await;
    assert!(paused.status.is_success(), "{:#}", paused.body);
    let tokens = world.sandbox(Method::GET, "/tokens/apns?count=3", None).await;
    let ios = |index: usize, kind: &str| json!({"provider": "apns", "kind": kind, "token": tokens["tokens"][index]});
    let at = |provider: &str, token: &str| json!({"provider": provider, "token": token});
    let phones = [
        ("both", json!([at("xiaomi", "ok-1"), at("fcm", "ok-1")])),
        ("dead-at-its-maker", json!([at("xiaomi", "dead-2"), at("fcm", "ok-2")])),
        ("dead-everywhere", json!([at("xiaomi", "dead-3"), at("fcm", "dead-3")])),
        ("refused-maker", json!([at("huawei", "ok-4"), at("fcm", "ok-4")])),
        ("iphone", json!([ios(0, "device"), ios(1, "voip")])),
        ("calls-only", json!([ios(2, "voip")])),
        ("number", json!([at("phone", "+15551234567")])),
        ("bare", json!([])),
        ("connects", json!([at("fcm", "ok-6")])),
    ];
    let ids: Vec<String> = phones.iter().map(|(id, _)| (*id).to_owned()).collect();
    let devices = phones.map(|(id, addresses)| (id.to_owned(), json!({"addresses": addresses})));
    world.put_devices(devices.to_vec()).await;
    world.device_secrets(&["connects".into()]).await;
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dry_run_says_of_each_target_is_what_its_trail_then_shows() {
    let world = World::start().await;
    let mut ids = mixed(&world).await;
    ids.push("nobody".to_owned());
    let message = json!({
        "to": {"device_ids": ids}, "notification": {"title": "Hello", "body": "You have a visitor"}, "ttl_seconds": 600,
    });
    let run = dry(&world, message.clone()).await;
    let id = world.send(message).await;
    let done = world.done(&id).await;
    assert_eq!(done["counts"]["targeted"], run["targeted"], "{done:#}");
    let mut ends = BTreeMap::new();
    for delivery in world.deliveries(&id).await {
        let name = delivery["device_id"].as_str().or(delivery["given"].as_str()).unwrap().to_owned();
        let foretold = told(&run, &name);
        let path = format!("/v1/messages/{id}/deliveries/{}", delivery["id"].as_str().unwrap());
        let trail = world.api(Method::GET, &path, None).await.body["trail"].as_array().unwrap().clone();
        let steps: Vec<_> =
            foretold["steps"].as_array().into_iter().flatten().map(|step| step["channel"].clone()).collect();
        let skipped = foretold["skipped"].as_array().cloned().unwrap_or_default();
        let decided = trail.iter().find(|entry| entry["kind"] == "decided");
        if let Some(decided) = decided {
            assert_eq!(decided["channels"], json!(steps), "{name}: {foretold:#} {trail:#?}");
            assert_eq!(decided["skipped"], json!(skipped), "{name}: {foretold:#} {trail:#?}");
        }
        // Who is tried, in order, is who was named, in order, up to the one that has it.
        let mut tried: Vec<_> =
            trail.iter().filter(|e| e["kind"] == "attempted").map(|e| e["channel"].clone()).collect();
        tried.dedup();
        assert_eq!(tried, steps[..tried.len()], "{name}: {trail:#?}");
        assert!(delivery["reason"].is_null() || tried.len() == steps.len(), "{name}: {trail:#?}");
        if steps.is_empty() {
            assert_eq!(delivery["reason"], foretold["reason"], "{name}: {delivery:#}");
        }
        ends.insert(name, (delivery["state"].as_str().unwrap().to_owned(), tried));
    }
    let end = |name: &str| {
        let (state, tried) = &ends[name];
        (state.as_str(), tried.iter().map(|channel| channel.as_str().unwrap()).collect::<Vec<_>>())
    };
    for name in ["both", "iphone"] {
        assert!(matches!(end(name).0, "accepted" | "delivered"), "{name}: {:?}", end(name));
        assert_eq!(end(name).1.len(), 1, "{name}: {:?}", end(name));
    }
    assert_eq!(end("dead-at-its-maker"), ("accepted", vec!["xiaomi", "fcm"]));
    assert_eq!(end("dead-everywhere"), ("failed", vec!["xiaomi", "fcm"]));
    // Nobody had sent through it yet, so nobody knew.
    assert_eq!(end("refused-maker"), ("accepted", vec!["huawei", "fcm"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_in_trouble_is_told_as_what_it_is_left_out_or_kept() {
    let world = World::start().await;
    let fcm = |token: &str| json!({"addresses": [{"provider": "fcm", "token": token}]});
    let many = (0..40).map(|n| (format!("many-{n}"), fcm(&format!("ok-many-{n}"))));
    world.put_devices(many.chain([("both".into(), fcm("ok-both"))]).collect()).await;
    world.device_secrets(&["both".into()]).await;
    let path = format!("/v1/apps/{}/channels/fcm", world.app_id);
    let is = async |state: &str| {
        while world.call(&world.admin_key, Method::GET, &path, None).await.body["state"] != state {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let run = dry(&world, json!({"to": {"device_ids": ["both", "many-0"]}, "data": {"a": "b"}})).await;
        let way = |name: &str| told(&run, name)["text"].as_str().unwrap().to_owned();
        assert_eq!(channel(&run, "fcm")["state"], state, "{run:#}");
        let left_out = &told(&run, "both")["skipped"];
        let why = left_out.as_array().unwrap().iter().find(|skip| skip["channel"] == "fcm").unwrap();
        (why["why"].as_str().unwrap().to_owned(), way("many-0"))
    };
    let switch = async |how: Value| world.sandbox(Method::PUT, "/providers/fcm", Some(how)).await;
    let ask = async |what: &str| {
        let asked = world.call(&world.admin_key, Method::POST, &format!("{path}/{what}"), None).await;
        assert!(asked.status.is_success(), "{:#}", asked.body);
        asked.body
    };
    let cancel = async |id: String| {
        let path = format!("/v1/messages/{id}/cancel");
        assert!(world.api(Method::POST, &path, None).await.status.is_success());
    };
    ask("pause").await;
    let (out, kept) = is("paused").await;
    assert_eq!(out, "it is paused");
    assert!(kept.contains("fcm is paused: a message waits"), "{kept}");
    ask("resume").await;

    switch(json!({"credentials": "refused"})).await;
    let refused = world.send(json!({"to": {"device_ids": ["many-0"]}, "data": {"a": "b"}})).await;
    let (out, kept) = is("auth_failed").await;
    assert_eq!(out, "its credentials are refused");
    assert!(kept.contains("credentials of fcm are refused: a message waits"), "{kept}");
    switch(json!({"credentials": "ok"})).await;
    cancel(refused).await;
    // A refused token is not asked for again at once.
    while ask("check").await["ok"] != true {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    switch(json!({"outage": "http_503"})).await;
    let all: Vec<_> = (0..40).map(|n| format!("many-{n}")).collect();
    let down = world.send(json!({"to": {"device_ids": all}, "data": {"a": "b"}})).await;
    let (out, kept) = is("down").await;
    assert_eq!(out, "its vendor does not answer");
    assert!(kept.contains("vendor of fcm does not answer: a message waits"), "{kept}");
    cancel(down).await;
}
