//! Many devices in one call: a line each, and what is wrong with one stops none of the others.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::contract::NDJSON;
use crate::world::World;

const PATH: &str = "/v1/devices/import";

/// Imports lines: the answer's lines.
pub(crate) async fn import(world: &World, key: &str, body: Vec<u8>) -> Vec<Value> {
    let key = format!("Bearer {key}");
    let headers = [("authorization", key.as_str()), ("content-type", NDJSON)];
    let (answer, text) = world.raw(Method::POST, PATH, &headers, body).await;
    assert_eq!(answer.status, StatusCode::OK, "{text}");
    answer.body.as_array().expect("lines").clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_a_body_may_hold_is_imported_and_wrong_lines_stop_nobody() {
    let world = World::start().await;
    let filler = "x".repeat(500);
    let mut body = String::new();
    for n in 0..6000 {
        body += &match n % 1000 {
            7 => "no JSON".to_owned(),
            8 => json!({"tags": ["vip"]}).to_string(),
            9 => json!({"id": format!("d{n}"), "langauge": "de"}).to_string(),
            10 => json!({"id": format!("d{n}"), "attributes": {"long": "y".repeat(70_000)}}).to_string(),
            11 => String::new(),
            12 => json!({"id": "import"}).to_string(),
            13 => "[1]".to_owned(),
            _ => json!({"id": format!("d{n}"), "user_id": "u-1", "attributes": {"n": n, "filler": filler}})
                .to_string(),
        };
        body.push('\n');
    }
    assert!(body.len() > 3 << 20, "more than a call's body may have");
    let lines = import(&world, &world.api_key, body.into_bytes()).await;
    let expected = |n: u64| match n % 1000 {
        7 => (400, "malformed_json"),
        9 => (422, "unknown_field"),
        10 => (413, "line_too_long"),
        8 | 12 | 13 => (422, "invalid_field"),
        _ => (200, ""),
    };
    let numbers: Vec<u64> = (0..6000).filter(|n| n % 1000 != 11).collect();
    assert_eq!(lines.len(), numbers.len());
    for (line, n) in lines.iter().zip(numbers) {
        let code = line["error"]["code"].as_str().unwrap_or_default();
        assert_eq!(
            (&line["index"], line["status"].as_u64().unwrap(), code),
            (&json!(n), expected(n).0, expected(n).1)
        );
    }
    let last = world.api(Method::GET, "/v1/devices/d5999", None).await.body;
    assert_eq!((&last["attributes"]["n"], &last["user_id"]), (&json!(5999), &json!("u-1")));
    let message =
        json!({"to": {"audience": {"attr": "n", "gte": 5000}}, "class": "marketing", "data": {"a": "b"}});
    let run = world.api(Method::POST, "/v1/messages?dry_run=true", Some(message)).await.body;
    assert_eq!(run["targeted"], 993, "{:#}", run["ways"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_imported_again_replaces_and_of_two_lines_the_last_one_holds() {
    let world = World::start().await;
    let line = |id: &str, tag: &str, token: &str| {
        json!({"id": id, "tags": [tag], "addresses": [{"provider": "fcm", "token": token}]}).to_string()
            + "\n"
    };
    let body = line("a", "one", "ok-1") + &line("b", "one", "ok-2") + &line("a", "two", "ok-1");
    assert_eq!(import(&world, &world.api_key, body.into()).await.len(), 3);
    // The token moves to another device, in a call with both.
    let body = line("c", "three", "ok-1") + &line("b", "two", "ok-3");
    let lines = import(&world, &world.api_key, body.into()).await;
    assert!(lines.iter().all(|line| line["status"] == 200), "{lines:?}");
    let device = async |id: &str| world.api(Method::GET, &format!("/v1/devices/{id}"), None).await.body;
    assert_eq!((&device("a").await["tags"], &device("a").await["addresses"]), (&json!(["two"]), &json!([])));
    assert_eq!(device("b").await["addresses"][0]["token"], "ok-3");
    assert_eq!(device("c").await["addresses"][0]["token"], "ok-1");
    // Who moved it is known, though the lines came long after the call began.
    let log = world.call(&world.admin_key, Method::GET, "/v1/audit?action=address.move", None).await.body;
    let told = &log["data"][0];
    assert_eq!((&told["object"], &told["details"]["from"]), (&json!("devices/c"), &json!("a")), "{log:#}");
    assert_eq!(
        (&told["actor"]["kind"], log["data"].as_array().unwrap().len()),
        (&json!("key"), 1),
        "{log:#}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_lines_are_imported_and_only_with_the_scope() {
    let world = World::start().await;
    let key = format!("Bearer {}", world.api_key);
    for kind in ["application/json", "text/csv"] {
        let headers = [("authorization", key.as_str()), ("content-type", kind)];
        let refused = world.raw(Method::POST, PATH, &headers, b"\n".into()).await.0;
        assert_eq!(refused.body["code"], "unsupported_media_type");
    }
    let path = format!("/v1/apps/{}/keys", world.app_id);
    let wanted = json!({"name": "reader", "scopes": ["devices:read"]});
    let made = world.call(&world.admin_key, Method::POST, &path, Some(wanted)).await.body;
    let key = format!("Bearer {}", made["key"].as_str().unwrap());
    let headers = [("authorization", key.as_str()), ("content-type", "application/x-ndjson")];
    let refused = world.raw(Method::POST, PATH, &headers, b"{\"id\": \"a\"}\n\n".into()).await.0;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert_eq!(world.api(Method::GET, "/v1/devices/a", None).await.status, StatusCode::NOT_FOUND);
}

/// The blocks of lines in the guide, in order.
fn guide() -> Vec<Vec<u8>> {
    let text = include_str!("../../docs/devices.md");
    text.split("```ndjson\n").skip(1).map(|block| block.split("```").next().unwrap().into()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guides_example_is_answered_as_the_guide_says() {
    let world = World::start().await;
    let [sent, told] = guide().try_into().expect("an example and its answer");
    let mut lines = import(&world, &world.api_key, sent).await;
    lines[1]["error"]["detail"] = json!("…");
    for name in ["status", "title", "errors"] {
        lines[1]["error"].as_object_mut().unwrap().remove(name);
    }
    let told: Vec<Value> =
        String::from_utf8(told).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, told);
}
