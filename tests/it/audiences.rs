//! Whom an expression finds, from outside: each kind of test, all that is put together of them, and what is refused.
//! That any expression finds who fits, in rounds of any size, is held where expressions are walked.

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::sending::fcm_device;
use crate::world::World;

fn message(audience: &Value) -> Value {
    json!({"to": {"audience": audience}, "class": "marketing", "notification": {"title": "Hello"}})
}

/// Whom a dry run names.
async fn found(world: &World, audience: &Value) -> BTreeSet<String> {
    let run = world.api(Method::POST, "/v1/messages?dry_run=true", Some(message(audience))).await;
    assert_eq!(run.status, StatusCode::OK, "{audience}: {:#}", run.body);
    let targets = run.body["targets"].as_array().unwrap();
    assert_eq!(run.body["targeted"], targets.len(), "{audience}");
    targets.iter().map(|target| target["device_id"].as_str().unwrap().to_owned()).collect()
}

async fn people(world: &World) {
    let devices = [
        (
            "ann",
            json!({"tags": ["vip"], "attributes": {"level": 7, "plan": "gold", "paid": true}, "country": "CN",
            "app_version": "3.10.0", "platform": "android", "language": "zh-Hans", "location": {"lat": 31.2304, "lon": 121.4737}}),
        ),
        (
            "bob",
            json!({"tags": ["vip", "muted"], "attributes": {"level": 9.5, "plan": "silver", "paid": false},
            "country": "DE", "app_version": "3.9", "platform": "ios", "location": {"lat": 31.3, "lon": 121.5}}),
        ),
        (
            "cat",
            json!({"attributes": {"level": "7", "plan": "gold+"}, "app_version": "3.2.0", "platform": "web",
            "location": {"lat": 39.9042, "lon": 116.4074}}),
        ),
        ("dan", json!({"tags": ["muted"], "attributes": {"level": -3}, "language": "zh-CN"})),
        ("eve", json!({})),
    ];
    let mut all = Vec::new();
    for (id, mut device) in devices {
        device["addresses"] = fcm_device(&format!("ok-{id}"))["addresses"].clone();
        all.push((id.to_owned(), device));
    }
    world.put_devices(all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_expression_finds_who_fits_and_nobody_of_another_app() {
    let world = World::start().await;
    people(&world).await;
    let (_, stranger) = world.new_app("stranger").await;
    for id in ["ann", "foreign"] {
        let body = Some(json!({"tags": ["vip"], "attributes": {"level": 7}}));
        let made = world.call(&stranger, Method::PUT, &format!("/v1/devices/{id}"), body).await;
        assert_eq!(made.status, StatusCode::OK);
    }
    let shanghai = |radius_km: u32| json!({"near": {"lat": 31.23, "lon": 121.47, "radius_km": radius_km}});
    let cases = [
        (json!({"all": true}), "ann bob cat dan eve"),
        (json!({"tag": "vip"}), "ann bob"),
        (json!({"tag": "VIP"}), ""),
        (json!({"not": {"tag": "vip"}}), "cat dan eve"),
        (json!({"attr": "level", "eq": 7}), "ann"),
        (json!({"attr": "level", "eq": "7"}), "cat"),
        (json!({"attr": "level", "gt": 7}), "bob"),
        (json!({"attr": "level", "gte": 7, "lt": 9.5}), "ann"),
        (json!({"attr": "level", "lte": 7.0}), "ann dan"),
        (json!({"attr": "level", "gt": ""}), "cat"),
        (json!({"attr": "level", "in": [-3, "7", true]}), "cat dan"),
        (json!({"attr": "level", "exists": false}), "eve"),
        (json!({"attr": "plan", "starts_with": "gold"}), "ann cat"),
        (json!({"attr": "paid", "eq": true}), "ann"),
        (json!({"not": {"attr": "paid", "eq": true}}), "bob cat dan eve"),
        (json!({"attr": "device.app_version", "gte": "3.9"}), "ann bob"),
        (json!({"attr": "device.app_version", "eq": "3.2"}), "cat"),
        (json!({"attr": "device.country", "in": ["CN", "DE"]}), "ann bob"),
        (json!({"attr": "device.platform", "eq": "web"}), "cat"),
        (json!({"attr": "device.language", "starts_with": "zh"}), "ann dan"),
        (shanghai(1), "ann"),
        (shanghai(25), "ann bob"),
        (shanghai(1100), "ann bob cat"),
        (json!({"and": [shanghai(25), {"not": {"tag": "muted"}}]}), "ann"),
        (json!({"or": [{"attr": "level", "lt": 0}, {"and": [{"tag": "vip"}, {"tag": "muted"}]}]}), "bob dan"),
        (json!({"and": [{"not": {"tag": "vip"}}, {"not": {"tag": "muted"}}]}), "cat eve"),
        (json!({"not": {"or": [{"tag": "vip"}, {"not": {"attr": "level", "exists": true}}]}}), "cat dan"),
    ];
    for (audience, expected) in cases {
        let expected: BTreeSet<_> = expected.split_whitespace().map(str::to_owned).collect();
        assert_eq!(found(&world, &audience).await, expected, "{audience}");
    }
    let audience = json!({"and": [{"attr": "level", "gte": 5}, {"not": {"tag": "muted"}}]});
    let done = world.done(&world.send(message(&audience)).await).await;
    assert_eq!((&done["counts"]["targeted"], &done["counts"]["now"]["accepted"]), (&json!(1), &json!(1)));
    // A device that changes is found by what it is now.
    let patch = json!({"attributes": {"level": 1}, "location": null, "app_version": null});
    assert_eq!(world.api(Method::PATCH, "/v1/devices/ann", Some(patch)).await.status, StatusCode::OK);
    assert!(found(&world, &json!({"attr": "level", "eq": 7})).await.is_empty());
    assert!(found(&world, &shanghai(1)).await.is_empty());
    assert!(found(&world, &json!({"attr": "plan", "eq": "gold"})).await.is_empty());
}

/// A30
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expression_bomb_is_refused_with_a_pointer_before_it_costs_anything() {
    let world = World::start().await;
    let many: Vec<_> = (0..10_000).map(|n| json!({"tag": format!("t{n}")})).collect();
    let mut deep = json!({"tag": "a"});
    for _ in 0..7 {
        deep = json!({"not": deep});
    }
    let circles = vec![json!({"near": {"lat": 0, "lon": 0, "radius_km": 1}}); 20];
    for (audience, at) in [(json!({"or": many}), "/or"), (deep, ""), (json!({"or": circles}), "/or")] {
        let refused = world.api(Method::POST, "/v1/messages", Some(message(&audience))).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(refused.body["code"], "audience_too_complex");
        let pointer = refused.body["pointer"].as_str().unwrap();
        assert!(pointer.starts_with(&format!("/to/audience{at}")), "{pointer}");
    }
    let mut deepest = json!({"tag": "a"});
    for _ in 0..1000 {
        deepest = json!({"not": deepest});
    }
    let refused = world.api(Method::POST, "/v1/messages", Some(message(&deepest))).await;
    assert_eq!((refused.status, &refused.body["code"]), (StatusCode::BAD_REQUEST, &json!("malformed_json")));
    for wrong in [
        json!({"near": {"lat": "NaN", "lon": 0, "radius_km": 1}}),
        json!({"near": {"lat": 0, "lon": 181, "radius_km": 1}}),
        json!({"attr": "a", "matches": "(a+)+$"}),
        json!({"attr": "a", "like": "%"}),
    ] {
        let refused = world.api(Method::POST, "/v1/messages", Some(message(&wrong))).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}: {}", refused.body);
    }
    let key = format!("Bearer {}", world.api_key);
    let headers = [("authorization", key.as_str()), ("content-type", "application/json")];
    let nan =
        br#"{"to": {"audience": {"near": {"lat": NaN, "lon": 0, "radius_km": 1}}}, "data": {"a": "b"}}"#;
    let refused = world.raw(Method::POST, "/v1/messages", &headers, nan.into()).await.0;
    assert_eq!(refused.body["code"], "malformed_json");
    let list = world.api(Method::GET, "/v1/messages", None).await;
    assert_eq!(list.body["data"], json!([]), "nothing is stored");
}

/// The expressions in the guide: one a line, or one over several lines.
fn guide() -> Vec<Value> {
    let text = include_str!("../../docs/sending.md");
    let section = text.split("## To whom").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut found = Vec::new();
    for block in section.split("```json\n").skip(1) {
        let block = block.split("```").next().unwrap();
        found.extend(serde_json::Deserializer::from_str(block).into_iter::<Value>().map(Result::unwrap));
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guides_expressions_are_understood() {
    let world = World::start().await;
    people(&world).await;
    let guide = guide();
    assert!(guide.len() >= 5, "{guide:?}");
    for audience in guide {
        let who = found(&world, &audience).await;
        assert!(audience.to_string().contains("newsletter") || !who.is_empty(), "{audience} finds nobody");
    }
}
