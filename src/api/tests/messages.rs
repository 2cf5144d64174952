//! Sending: what is taken, what is refused, and what is told afterwards.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use super::{Answer, World};

fn simple() -> Value {
    json!({"to": {"device_ids": ["d-1"]}, "notification": {"title": "Hello"}})
}

async fn with_key(world: &World, key: &str, body: &str) -> Answer {
    let request = Request::post("/v1/messages")
        .header("authorization", format!("Bearer {}", world.key))
        .header("content-type", "application/json; charset=utf-8")
        .header("idempotency-key", key);
    world.send(request.body(Body::from(body.to_owned())).unwrap()).await
}

#[tokio::test]
async fn a_message_for_nobody_known_ends_suppressed_and_is_told_so() {
    let world = World::new().await;
    let sent = world.own("POST", "/v1/messages", Some(simple())).await;
    assert_eq!(sent.status, 202, "{}", sent.text);
    let path = format!("/v1/messages/{}", sent.json()["id"].as_str().unwrap());
    let mut message = Value::Null;
    for _ in 0..100 {
        message = world.own("GET", &path, None).await.json();
        if message["state"] == "done" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(message["state"], "done", "{message}");
    assert_eq!(message["counts"]["now"]["suppressed"], 1);
    assert_eq!(message["reasons"]["unknown_target"], 1);
    let list = world.own("GET", &format!("{path}/deliveries"), None).await.json();
    let delivery = &list["data"][0];
    assert_eq!((delivery["state"].as_str(), delivery["given"].as_str()), (Some("suppressed"), Some("d-1")));
    let one = format!("{path}/deliveries/{}", delivery["id"].as_str().unwrap());
    let one = world.own("GET", &one, None).await.json();
    assert!(one["trail"].as_array().is_some_and(|trail| !trail.is_empty()), "{one}");
    let none = world.own("GET", &format!("{path}/deliveries?state=failed"), None).await.json();
    assert_eq!(none["data"], json!([]));
    let bad = world.own("GET", &format!("{path}/deliveries?state=lost"), None).await;
    assert_eq!(bad.told(), (422, "invalid_parameter".into()));
}

#[tokio::test]
async fn every_mistake_in_a_message_has_its_pointer() {
    let world = World::new().await;
    let cases = [
        (json!({}), "/to"),
        (json!({"to": {}, "data": {"a": "b"}}), "/to"),
        (json!({"to": {"device_ids": ["a"], "user_ids": ["b"]}, "data": {"a": "b"}}), "/to"),
        (json!({"to": {"device_ids": []}, "data": {"a": "b"}}), "/to/device_ids"),
        (json!({"to": {"device_ids": ["a\u{0}"]}, "data": {"a": "b"}}), "/to/device_ids/0"),
        (json!({"to": {"audience": {"all": true}}, "data": {"a": "b"}}), "/class"),
        (
            json!({"to": {"audience": {"all": false}}, "class": "marketing", "data": {"a": "b"}}),
            "/to/audience/all",
        ),
        (json!({"to": {"audience": {}}, "class": "marketing", "data": {"a": "b"}}), "/to/audience"),
        (
            json!({"to": {"tokens": [{"provider": "nobody", "token": "x"}]}, "data": {"a": "b"}}),
            "/to/tokens/0/provider",
        ),
        (json!({"to": {"phones": ["+8613800000000", "+1"]}, "data": {"a": "b"}}), "/to/phones/1"),
        (json!({"to": {"phones": []}, "data": {"a": "b"}}), "/to/phones"),
        (json!({"to": {"device_ids": ["a"]}}), ""),
        (json!({"to": {"device_ids": ["a"]}, "data": {"anypush_id": "b"}}), "/data"),
        (json!({"to": {"device_ids": ["a"]}, "data": {"a": 1}}), "/data/a"),
        (json!({"to": {"device_ids": ["a"]}, "data": {"a": "b"}, "ttl_seconds": 2_419_201}), "/ttl_seconds"),
        (json!({"to": {"device_ids": ["a"]}, "data": {"a": "b"}, "ttl_seconds": -1}), "/ttl_seconds"),
        (
            json!({"to": {"device_ids": ["a"]}, "notification": {"badge": {"set": 1, "add": 1}}}),
            "/notification/badge",
        ),
        (json!({"to": {"device_ids": ["a"]}, "notification": {"image": "http://x"}}), "/notification/image"),
        (
            json!({"to": {"device_ids": ["a"]}, "notification": {"click": {"open": "url"}}}),
            "/notification/click/value",
        ),
        (
            json!({"to": {"device_ids": ["a"]}, "data": {"a": "b"}, "route": {"steps": [{"use": "nope"}]}}),
            "/route/steps/0/use",
        ),
        (
            json!({"to": {"device_ids": ["a"]}, "data": {"a": "b"},
                "route": {"steps": [{"use": "direct", "until": "delivered"}]}}),
            "/route/steps/0/wait_seconds",
        ),
        (
            json!({"to": {"device_ids": ["a"]}, "data": {"a": "b"},
                "route": {"steps": [{"use": "direct", "until": "failed"}]}}),
            "/route/steps/0/until",
        ),
        (json!({"to": {"device_ids": ["a"]}, "data": {"a": "b"}, "delivery": "twice"}), "/delivery"),
        (json!({"to": {"device_ids": ["a"]}, "data": {"a": "b"}, "category": "nope"}), "/category"),
        (json!({"to": {"device_ids": ["a"]}, "data": {"a": "b"}, "category": "no such name"}), "/category"),
        (
            json!({"to": {"device_ids": ["a"]}, "data": {"a": "b"}, "overrides": {"nope": {}}}),
            "/overrides/nope",
        ),
        (
            json!({"to": {"device_ids": ["a"]}, "notification": {"title": "x".repeat(1025)}}),
            "/notification/title",
        ),
    ];
    for (body, pointer) in cases {
        let answer = world.own("POST", "/v1/messages", Some(body.clone())).await;
        let told = answer.json();
        assert_eq!(answer.told(), (422, "invalid_field".into()), "{body}: {}", answer.text);
        assert_eq!(told["pointer"], pointer, "{body}");
        assert!(told["errors"].as_array().is_some_and(|all| !all.is_empty()));
    }
    for name in ["cost", "state", "id", "app_id"] {
        let mut body = simple();
        body[name] = json!("x");
        let answer = world.own("POST", "/v1/messages", Some(body)).await;
        assert_eq!(answer.told(), (422, "unknown_field".into()));
        assert_eq!(answer.json()["pointer"], format!("/{name}"));
    }
    assert_eq!(world.own("GET", "/v1/messages", None).await.json()["data"], json!([]), "nothing is stored");
}

#[tokio::test]
async fn bodies_are_bounded_in_size_number_depth_and_kind() {
    let world = World::new().await;
    let many: Vec<_> = (0..10_001).map(|n| format!("d-{n}")).collect();
    let body = json!({"to": {"device_ids": many}, "class": "marketing", "data": {"a": "b"}});
    let answer = world.own("POST", "/v1/messages", Some(body)).await;
    assert_eq!(answer.told(), (413, "too_many_targets".into()));

    let raw = |kind: &str, body: Vec<u8>, encoding: Option<&str>| {
        let mut request = Request::post("/v1/messages")
            .header("authorization", format!("Bearer {}", world.key))
            .header("content-type", kind);
        if let Some(encoding) = encoding {
            request = request.header("content-encoding", encoding);
        }
        world.send(request.body(Body::from(body)).unwrap())
    };
    let json_kind = "application/json";
    assert_eq!(raw(json_kind, vec![b' '; (2 << 20) + 1], None).await.told(), (413, "body_too_large".into()));
    assert_eq!(raw(json_kind, vec![b'['; 100_000], None).await.told(), (400, "malformed_json".into()));
    assert_eq!(raw(json_kind, b"{\"a\":1,\"a\":2}".to_vec(), None).await.told().0, 400);
    assert_eq!(raw("text/plain", b"{}".to_vec(), None).await.told(), (415, "unsupported_media_type".into()));
    assert_eq!(raw(json_kind, b"{}".to_vec(), Some("gzip")).await.told().0, 415);
    assert_eq!(raw(json_kind, b"[]".to_vec(), None).await.told().0, 422);
}

#[tokio::test]
async fn an_idempotency_key_makes_a_repeat_the_same_message() {
    let world = World::new().await;
    let body = simple().to_string();
    let first = with_key(&world, "order-1", &body).await;
    let again = with_key(&world, "order-1", &body).await;
    assert_eq!((first.status.as_u16(), again.status.as_u16()), (202, 202), "{}", again.text);
    assert_eq!(first.text, again.text);
    assert!(!first.headers.contains_key("idempotency-replayed"));
    assert_eq!(again.headers["idempotency-replayed"], "true");
    let other = with_key(&world, "order-1", &format!("{body} ")).await;
    assert_eq!(other.told(), (422, "idempotency_key_reused".into()));
    for key in ["", "a b", "ä", &"k".repeat(256)] {
        let answer = with_key(&world, key, &body).await;
        assert_eq!(answer.status, 400, "{key}: {}", answer.text);
    }
    let theirs = Request::post("/v1/messages")
        .header("authorization", format!("Bearer {}", world.other_key))
        .header("content-type", "application/json")
        .header("idempotency-key", "order-1");
    let theirs = world.send(theirs.body(Body::from(body)).unwrap()).await;
    assert_ne!(theirs.json()["id"], first.json()["id"]);
}

#[tokio::test]
async fn a_repeat_hears_the_first_answer_although_its_category_is_gone() {
    let world = World::new().await;
    let category = format!("/v1/apps/{}/categories/order", world.app);
    assert_eq!(world.own("PUT", &category, Some(json!({}))).await.status, 201);
    let mut body = simple();
    body["category"] = json!("order");
    let body = body.to_string();
    let first = with_key(&world, "order-1", &body).await;
    assert_eq!(first.status, 202, "{}", first.text);
    assert_eq!(world.own("DELETE", &category, None).await.status, 204);
    let again = with_key(&world, "order-1", &body).await;
    assert_eq!((again.status.as_u16(), &again.text), (202, &first.text));
    assert_eq!(again.headers["idempotency-replayed"], "true");
    let new = with_key(&world, "order-2", &body).await;
    assert_eq!(new.told(), (422, "invalid_field".into()), "a new call may not name it");
    let other = with_key(&world, "order-1", &format!("{body} ")).await;
    assert_eq!(other.status, 422, "another body is another call: {}", other.text);
    let path = "/v1/messages?dry_run=true";
    let dry = Request::post(path)
        .header("authorization", format!("Bearer {}", world.key))
        .header("content-type", "application/json")
        .header("idempotency-key", "order-1");
    let dry = world.send(dry.body(Body::from(body.clone())).unwrap()).await;
    assert_eq!(dry.status, 422, "a dry run tells what would be said now: {}", dry.text);
    world.gateway.clock.advance(std::time::Duration::from_hours(24));
    assert_eq!(with_key(&world, "order-1", &body).await.status, 422, "keys are kept for a day");
}

#[tokio::test]
async fn messages_are_listed_newest_first_by_label_and_time() {
    let world = World::new().await;
    for label in ["a", "b", "a"] {
        let mut body = simple();
        body["label"] = json!(label);
        assert_eq!(world.own("POST", "/v1/messages", Some(body)).await.status, 202);
        world.gateway.clock.advance(std::time::Duration::from_mins(1));
    }
    let ids = |answer: Value| -> Vec<Value> {
        answer["data"].as_array().unwrap().iter().map(|m| m["created_at"].clone()).collect()
    };
    let all = ids(world.own("GET", "/v1/messages", None).await.json());
    assert_eq!(all.len(), 3);
    assert!(all[0].as_str() > all[1].as_str());
    assert_eq!(ids(world.own("GET", "/v1/messages?label=a", None).await.json()).len(), 2);
    let from = all[1].as_str().unwrap();
    assert_eq!(ids(world.own("GET", &format!("/v1/messages?from={from}"), None).await.json()), all[..2]);
    assert_eq!(ids(world.own("GET", &format!("/v1/messages?to={from}"), None).await.json()), all[2..]);
    assert_eq!(world.own("GET", "/v1/messages?from=yesterday", None).await.told().0, 422);
    let page = world.own("GET", "/v1/messages?limit=2", None).await.json();
    let next = format!("/v1/messages?limit=2&cursor={}", page["next_cursor"].as_str().unwrap());
    assert_eq!(ids(world.own("GET", &next, None).await.json()), all[2..]);
}

#[tokio::test]
async fn a_message_that_went_with_age_is_absent_and_says_for_how_long_they_are_kept() {
    let world = World::new().await;
    let sent = world.own("POST", "/v1/messages", Some(simple())).await.json();
    let path = format!("/v1/messages/{}", sent["id"].as_str().unwrap());
    while world.own("GET", &path, None).await.json()["state"] != "done" {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let day = std::time::Duration::from_hours(24);
    world.gateway.clock.advance(day * 32);
    // What another app has looks the same before and after.
    let foreign = world.call("GET", &path, &world.other_key, None).await;
    let before = world.gateway.clock.now_ms() - 30 * 86_400_000;
    let gone = world.gateway.store.forget(crate::store::Aged::Messages, before, 0, 100).await.unwrap();
    assert_eq!(gone.things, 1);
    let gone = world.own("GET", &path, None).await;
    assert_eq!(gone.told(), (404, "not_found".into()));
    let why = gone.json()["detail"].as_str().unwrap().to_owned();
    assert!(why.contains("kept for 30 days"), "{why}");
    assert_eq!(foreign.json()["detail"], why);
    let list = world.own("GET", "/v1/messages", None).await.json();
    assert_eq!(list["data"], json!([]));
}
