//! Every behaviour and every switch.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::{PROJECT, World, blamed, fcm_error, to};

#[tokio::test]
async fn each_prefix_gets_its_row_of_the_error_table() {
    let world = World::start().await;
    let token = world.access_token(PROJECT).await;
    let rows = [
        ("dead-1", 404, "NOT_FOUND", Some("UNREGISTERED")),
        ("notfound-1", 404, "NOT_FOUND", None),
        ("malformed-1", 400, "INVALID_ARGUMENT", Some("INVALID_ARGUMENT")),
        ("payload-1", 400, "INVALID_ARGUMENT", Some("INVALID_ARGUMENT")),
        ("toobig-1", 400, "INVALID_ARGUMENT", None),
        ("wrongapp-1", 403, "PERMISSION_DENIED", Some("SENDER_ID_MISMATCH")),
        ("forbidden-1", 403, "PERMISSION_DENIED", None),
        ("thirdparty-1", 401, "UNAUTHENTICATED", Some("THIRD_PARTY_AUTH_ERROR")),
        ("apnsauth-1", 401, "UNAUTHENTICATED", Some("APNS_AUTH_ERROR")),
        ("unauthenticated-1", 401, "UNAUTHENTICATED", None),
        ("quota-1", 429, "RESOURCE_EXHAUSTED", Some("QUOTA_EXCEEDED")),
        ("devicequota-1", 429, "RESOURCE_EXHAUSTED", Some("QUOTA_EXCEEDED")),
        ("unavailable-1", 503, "UNAVAILABLE", Some("UNAVAILABLE")),
        ("internal-1", 500, "INTERNAL", Some("INTERNAL")),
        ("deadline-1", 504, "DEADLINE_EXCEEDED", None),
        ("cancelled-1", 499, "CANCELLED", None),
        ("unspecified-1", 500, "UNKNOWN", Some("UNSPECIFIED_ERROR")),
        ("unheard-1", 400, "FAILED_PRECONDITION", Some("NEVER_HEARD_OF")),
    ];
    for (target, status, name, code) in rows {
        let (got, answer) = world.post(&token, &to(target, "m")).await;
        assert_eq!(
            (got, answer["error"]["status"].as_str(), answer["error"]["code"].as_u64(), fcm_error(&answer)),
            (status, Some(name), Some(u64::from(status)), code),
            "{target}: {answer}"
        );
    }
    let (_, answer) = world.post(&token, &to("malformed-1", "m")).await;
    assert_eq!(blamed(&answer), ["message.token"]);
    let (_, answer) = world.post(&token, &to("payload-1", "m")).await;
    assert_ne!(blamed(&answer), ["message.token"]);
    for (target, status) in [("badgateway-1", 502), ("gatewaytimeout-1", 504)] {
        let answer = world.try_post(&token, &to(target, "m")).await.unwrap();
        assert_eq!(answer.status(), status);
        assert!(answer.text().await.unwrap().starts_with("<!DOCTYPE html>"));
    }
    assert_eq!(world.sums("").await, [22, 0, 0, 0]);
}

#[tokio::test]
async fn flaky_and_limited_fail_on_the_first_try_of_each_message_only() {
    let world = World::start().await;
    let token = world.access_token(PROJECT).await;
    for (target, first, retry_after) in [("flaky-1", 503, None), ("limited-1", 429, Some("1"))] {
        for message in ["m1", "m2"] {
            let answer = world.try_post(&token, &to(target, message)).await.unwrap();
            let header = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
            assert_eq!((answer.status().as_u16(), header), (first, retry_after), "{target}");
            for _ in 0..2 {
                assert_eq!(world.post(&token, &to(target, message)).await.0, 200);
            }
        }
    }
    assert_eq!(world.sums("?message=m1").await, [6, 4, 2, 2]);
}

#[tokio::test]
async fn garbage_comes_in_five_kinds_in_the_same_order_for_every_token() {
    let world = World::start().await;
    let token = world.access_token(PROJECT).await;
    let mut runs = Vec::new();
    for target in ["garbage-1", "garbage-2"] {
        let mut kinds = Vec::new();
        for _ in 0..5 {
            let answer = world.try_post(&token, &to(target, "m")).await.unwrap();
            assert_eq!(answer.status(), 200);
            let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
            let text = answer.text().await.unwrap();
            let name =
                serde_json::from_str::<Value>(&text).ok().and_then(|v| v["name"].as_str().map(str::len));
            assert_eq!(name, None, "{text}");
            kinds.push((kind, text.is_empty()));
        }
        runs.push(kinds);
    }
    assert_eq!(runs[0], runs[1]);
}

#[tokio::test]
async fn slow_waits_reset_ends_and_hang_never_answers() {
    let world = World::start().await;
    let token = world.access_token(PROJECT).await;
    world.put("/_sandbox/rules", json!([{"pattern": "slow-*", "behaviour": "slow", "delay_ms": 200}])).await;
    let began = Instant::now();
    assert_eq!(world.post(&token, &to("slow-1", "m")).await.0, 200);
    assert!(began.elapsed() >= Duration::from_millis(200));
    assert!(world.try_post(&token, &to("reset-1", "m")).await.is_err());
    let hang =
        tokio::time::timeout(Duration::from_millis(200), world.try_post(&token, &to("hang-1", "m"))).await;
    assert!(hang.is_err());
    let listed = world.get("/_sandbox/requests?token=hang-1").await;
    assert_eq!(listed["requests"][0]["verdict"], "hang");
}

#[tokio::test]
async fn a_lost_answer_is_accepted_and_its_repetition_is_a_duplicate() {
    let world = World::start().await;
    let token = world.access_token(PROJECT).await;
    assert!(world.try_post(&token, &to("lost-1", "m")).await.is_err());
    assert_eq!(world.sums("").await, [1, 1, 1, 0]);
    assert_eq!(world.post(&token, &to("lost-1", "m")).await.0, 200);
    assert_eq!(world.sums("").await, [2, 2, 1, 1]);
}

#[tokio::test]
async fn a_rule_that_was_put_changes_what_a_token_gets_and_a_wrong_one_is_refused() {
    let world = World::start().await;
    let token = world.access_token(PROJECT).await;
    let rule = json!({"provider": "fcm", "pattern": "vip-?", "behaviour": "quota", "retry_after_seconds": 7});
    assert_eq!(world.put("/_sandbox/rules", json!([rule])).await.0, 204);
    let answer = world.try_post(&token, &to("vip-1", "m")).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].as_bytes()), (429, &b"7"[..]));
    assert_eq!(world.post(&token, &to("vip-10", "m")).await.0, 200);
    assert_eq!(world.get("/_sandbox/rules").await["rules"], json!([rule]));
    for wrong in
        [json!({}), json!([{"pattern": "x"}]), json!([{"pattern": "x", "behaviour": "ok", "delay": 1}])]
    {
        assert_eq!(world.put("/_sandbox/rules", wrong).await.0, 400);
    }
}

#[tokio::test]
async fn a_switch_makes_a_whole_provider_slow_down_out_or_refuse() {
    let world = World::start().await;
    let token = world.access_token(PROJECT).await;
    let switch = async |switch: Value| {
        assert_eq!(world.put("/_sandbox/providers/fcm", switch).await.0, 204);
    };
    switch(json!({"latency_ms": 150})).await;
    let began = Instant::now();
    assert_eq!(world.post(&token, &to("a", "m")).await.0, 200);
    assert!(began.elapsed() >= Duration::from_millis(150));
    switch(json!({"outage": "http_503"})).await;
    assert_eq!(world.post(&token, &to("a", "m")).await.0, 503);
    assert_eq!(world.post_assertion("x").await.0, 503);
    switch(json!({"outage": "refuse"})).await;
    assert!(world.try_post(&token, &to("a", "m")).await.is_err());
    switch(json!({"outage": "hang"})).await;
    let hang = tokio::time::timeout(Duration::from_millis(200), world.try_post(&token, &to("a", "m"))).await;
    assert!(hang.is_err());
    switch(json!({"credentials": "refused"})).await;
    assert_eq!(world.post(&token, &to("a", "m")).await.0, 401);
    switch(json!({"quota": {"account_per_minute": 1}})).await;
    assert_eq!(world.post(&token, &to("dead-1", "m")).await.0, 404, "a failure uses the quota up too");
    let answer = world.try_post(&token, &to("a", "m")).await.unwrap();
    assert_eq!(answer.status(), 429);
    assert!(answer.headers().contains_key("retry-after"));
    switch(json!({"quota": {"account_per_minute": null, "target_per_minute": 1}})).await;
    assert_eq!(world.post(&token, &to("a", "m")).await.0, 200);
    assert_eq!(world.post(&token, &to("a", "m")).await.0, 429);
    assert_eq!(world.post(&token, &to("b", "m")).await.0, 200);
    assert_eq!(world.put("/_sandbox/providers/fcm", json!({"outage": "maybe"})).await.0, 400);
}
