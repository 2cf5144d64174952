//! What is malformed, too much, or somebody else's: the right problem document, and nothing stored.

use std::process::Command;

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::trouble::{phone, to_phone};
use crate::world::{Answer, World};

const SEND: &str = "/v1/messages";

/// Posts these bytes as JSON with the app's key.
async fn post(world: &World, body: impl Into<Vec<u8>>) -> Answer {
    let key = format!("Bearer {}", world.api_key);
    let headers = [("authorization", key.as_str()), ("content-type", "application/json")];
    world.raw(Method::POST, SEND, &headers, body.into()).await.0
}

fn told(answer: &Answer) -> (u16, &str) {
    (answer.status.as_u16(), answer.body["code"].as_str().unwrap_or_default())
}

async fn assert_nothing_stored(world: &World) {
    let list = world.api(Method::GET, SEND, None).await;
    assert_eq!(list.body["data"], json!([]), "nothing is half stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_refused_and_nothing_is_stored() {
    let world = World::start().await;
    let nested = |depth: usize| format!("{{\"data\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    let malformed: [Vec<u8>; 10] = [
        b"".into(),
        b"{".into(),
        b"{'to':1}".into(),
        b"\xef\xbb\xbf{}".into(),
        b"{\"to\": NaN}".into(),
        b"{\"ttl_seconds\": 1e400}".into(),
        b"{\"label\": \"\\ud800\"}".into(),
        b"{\"label\": \"\xff\"}".into(),
        b"{\"to\":{\"device_ids\":[\"a\"]},\"to\":{\"device_ids\":[\"b\"]}}".into(),
        nested(100_000).into(),
    ];
    for body in malformed {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        assert_eq!(told(&post(&world, body).await), (400, "malformed_json"), "{shown}");
    }
    let mut unknown = to_phone();
    unknown["state"] = json!("done");
    let answer = post(&world, unknown.to_string()).await;
    assert_eq!((told(&answer), &answer.body["pointer"]), ((422, "unknown_field"), &json!("/state")));
    let long = json!({"to": {"device_ids": ["a"]}, "notification": {"title": "x".repeat(3 << 20)}});
    assert_eq!(told(&post(&world, long.to_string()).await), (413, "body_too_large"));
    let many = |n: usize| json!({"to": {"device_ids": vec!["a"; n]}, "data": {"a": "b"}}).to_string();
    assert_eq!(told(&post(&world, many(10_001)).await), (413, "too_many_targets"));
    assert_eq!(told(&post(&world, many(400_000)).await), (413, "too_many_targets"));
    let key = format!("Bearer {}", world.api_key);
    for other in [("content-encoding", "gzip"), ("content-type", "text/plain")] {
        let kind = if other.0 == "content-type" { other } else { ("content-type", "application/json") };
        let mut headers = vec![("authorization", key.as_str()), kind];
        if other != kind {
            headers.push(other);
        }
        let answer = world.raw(Method::POST, SEND, &headers, b"{}".into()).await.0;
        assert_eq!(told(&answer), (415, "unsupported_media_type"), "{other:?}");
    }
    assert_nothing_stored(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_vendor_would_be_told_is_an_allow_list() {
    let world = World::start().await;
    for name in ["token", "topic", "condition", "validate_only", "authorization"] {
        let mut message = to_phone();
        message["overrides"] = json!({"fcm": {name: "victim"}});
        let answer = world.api(Method::POST, SEND, Some(message)).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{name}: {}", answer.body);
    }
    assert_nothing_stored(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_not_good_opens_nothing() {
    let world = World::start().await;
    let (app, revoked) = (world.app_id.clone(), {
        let made = world
            .call(
                &world.admin_key,
                Method::POST,
                &format!("/v1/apps/{}/keys", world.app_id),
                Some(json!({"name": "old", "scopes": ["messages:read"]})),
            )
            .await;
        let path = format!("/v1/apps/{}/keys/{}", world.app_id, made.body["id"].as_str().unwrap());
        let key = made.body["key"].as_str().unwrap().to_owned();
        assert_eq!(world.call(&key, Method::GET, SEND, None).await.status, StatusCode::OK);
        let sending = world.call(&key, Method::POST, SEND, Some(to_phone())).await;
        assert_eq!(told(&sending), (403, "forbidden"), "it may only read");
        let gone = world.call(&world.admin_key, Method::DELETE, &path, None).await;
        assert!(gone.status.is_success(), "{}", gone.body);
        key
    });
    let last = world.api_key.chars().last().unwrap();
    let wrong_sum =
        format!("{}{}", &world.api_key[..world.api_key.len() - 1], if last == 'a' { 'b' } else { 'a' });
    phone(&world, "ok-phone").await;
    let secret = world.device_secrets(&["phone".into()]).await.remove(0);
    for key in [revoked.as_str(), &wrong_sum, "apk_live_short", "x", &secret] {
        let answer = world.call(key, Method::GET, SEND, None).await;
        assert_eq!(told(&answer), (401, "unauthorized"), "{}", answer.body);
    }
    let phones = world.call(&world.api_key, Method::GET, "/v1/device/messages", None).await;
    assert_eq!(phones.status, StatusCode::UNAUTHORIZED, "a backend's key opens no phone's inbox");
    let key = format!("Bearer {}", world.api_key);
    let small = key.replace("Bearer", "bearer");
    let cases: [(Vec<(&str, &str)>, u16); 5] = [
        (vec![], 401),
        (vec![("authorization", &small)], 401),
        (vec![("authorization", "Basic eDp5")], 401),
        (vec![("authorization", &key), ("authorization", &key)], 400),
        (vec![("authorization", &key), ("anypush-app", &app)], 403),
    ];
    for (headers, status) in cases {
        let answer = world.raw(Method::GET, SEND, &headers, Vec::new()).await.0;
        assert_eq!(answer.status.as_u16(), status, "{headers:?}: {}", answer.body);
    }
    let in_url = format!("{SEND}?key={}", world.api_key);
    assert_eq!(world.call(&world.api_key, Method::GET, &in_url, None).await.status.as_u16(), 401);
}

/// Asks for something of another app and for something that does not exist: the answers must be the same.
async fn assert_looks_absent(world: &World, key: &str, method: Method, foreign: &str, absent: &str) {
    let body = (method == Method::PATCH).then(|| json!({"tags": ["mine"]}));
    let theirs = world.call(key, method.clone(), foreign, body.clone()).await;
    let nothing = world.call(key, method.clone(), absent, body).await;
    assert_eq!(theirs.status, StatusCode::NOT_FOUND, "{method} {foreign}: {}", theirs.body);
    assert_eq!(theirs.body, nothing.body, "{method} {foreign}");
}

/// A1, A2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_app_has_looks_as_if_it_were_not_there() {
    let world = World::start().await;
    phone(&world, "ok-phone").await;
    let id = world.send(to_phone()).await;
    world.done(&id).await;
    let delivery = world.deliveries(&id).await[0]["id"].as_str().unwrap().to_owned();
    let (other_app, other) = world.new_app("bank").await;
    let mine = world
        .call(
            &other,
            Method::POST,
            SEND,
            Some(json!({"to": {"device_ids": ["phone"]}, "data": {"a": "b"}, "metadata": {"of": "bank"}})),
        )
        .await;
    let mine = mine.body["id"].as_str().unwrap().to_owned();
    let counts = world.call(&other, Method::GET, &format!("{SEND}/{mine}"), None).await;
    assert_eq!(counts.body["reasons"], json!({"unknown_target": 1}), "the other app's device is no target");
    let absent = "msg_00000000000000000000000000";
    let message = |id: &str| format!("{SEND}/{id}");
    assert_looks_absent(&world, &other, Method::GET, &message(&id), &message(absent)).await;
    let list = |id: &str| format!("{SEND}/{id}/deliveries");
    assert_looks_absent(&world, &other, Method::GET, &list(&id), &list(absent)).await;
    let one = |id: &str| format!("{SEND}/{id}/deliveries/{delivery}");
    assert_looks_absent(&world, &other, Method::GET, &one(&id), &one(absent)).await;
    for method in [Method::GET, Method::PATCH, Method::DELETE] {
        assert_looks_absent(&world, &other, method, "/v1/devices/phone", "/v1/devices/nobody").await;
    }
    let secret = |id: &str| format!("/v1/devices/{id}/secret");
    assert_looks_absent(&world, &other, Method::POST, &secret("phone"), &secret("nobody")).await;
    let channel = |app: &str| format!("/v1/apps/{app}/channels/fcm");
    assert_looks_absent(&world, &other, Method::GET, &channel(&world.app_id), &channel("app_none")).await;
    assert_looks_absent(&world, &other, Method::DELETE, &channel(&world.app_id), &channel("app_none")).await;
    let gone = world.call(&other, Method::GET, &channel(&other_app), None).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
    let kept = world.api(Method::GET, "/v1/devices/phone", None).await;
    assert_eq!((kept.status, &kept.body["addresses"][0]["state"]), (StatusCode::OK, &json!("active")));
}

/// A21.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_no_header_is_refused_and_nothing_is_stored() {
    let world = World::start().await;
    let body = to_phone().to_string();
    let long = "k".repeat(1 << 20);
    // A header that ends in its middle, one that goes on in the next line, a bare end of line, and far too long a one.
    for key in ["a\r\nb", "a\r\n b", "a\nb", "a\rb", &long] {
        let head = format!(
            "POST {SEND} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {}\r\nIdempotency-Key: {key}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            world.api_key,
            body.len()
        );
        let mut socket = TcpStream::connect(&world.url["http://".len()..]).await.unwrap();
        // It may hang up before it has read all of that.
        let _ = socket.write_all(head.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        let refused = answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.1 431");
        assert!(refused, "{:.20}: {answer}", key.escape_debug().to_string());
    }
    assert_nothing_stored(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_calls_at_once_with_one_key_are_one_message() {
    let world = World::start().await;
    phone(&world, "ok-phone").await;
    let body = to_phone().to_string();
    let key = format!("Bearer {}", world.api_key);
    let headers = |idempotency: &'static str| {
        [
            ("authorization", key.clone()),
            ("content-type", "application/json".into()),
            ("idempotency-key", idempotency.to_owned()),
        ]
    };
    let once = |headers: [(&'static str, String); 3], body: String| {
        let world = &world;
        async move {
            let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
            world.raw(Method::POST, SEND, &headers, body.into()).await.0
        }
    };
    let answers = join_all((0..100).map(|_| once(headers("order-1"), body.clone()))).await;
    let first = answers[0].body["id"].as_str().unwrap();
    for answer in &answers {
        assert_eq!((answer.status, answer.body["id"].as_str()), (StatusCode::ACCEPTED, Some(first)));
    }
    let list = world.api(Method::GET, SEND, None).await;
    assert_eq!(list.body["data"].as_array().unwrap().len(), 1);
    for key in ["with space", "é"] {
        let answer = once(headers(key), body.clone()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{key:?}: {}", answer.body);
    }
    world.done(first).await;
    assert_eq!(world.sandbox(Method::GET, "/summary", None).await["accepted_distinct"], 1);
}

#[test]
fn a_wrong_configuration_names_every_mistake_and_ends_with_64() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("wrong.toml");
    std::fs::write(
        &file,
        "node = 300\nlistn = \"127.0.0.1:1\"\n[limits]\ntargets = \"many\"\njson_depth = 1\n",
    )
    .unwrap();
    let ended = Command::new(env!("CARGO_BIN_EXE_anypush"))
        .args(["serve", "--config"])
        .arg(&file)
        .arg("--data-dir")
        .arg(dir.path().join("data"))
        .env("ANYPUSH_LOG_FORMAT", "colourful")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(64), "{said}");
    for key in ["node", "listn", "limits.targets", "limits.json_depth", "log.format"] {
        assert!(said.contains(key), "{key} is missing: {said}");
    }
    assert!(!dir.path().join("data").exists(), "nothing is made by a start that cannot be");
}

#[test]
fn a_port_that_is_taken_is_said_in_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = Command::new(env!("CARGO_BIN_EXE_anypush"))
        .args(["serve", "--listen", &address, "--data-dir"])
        .arg(dir.path())
        .env("ANYPUSH_LOG_LEVEL", "error")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(&address) && said.contains("--listen"), "{said}");
    assert_eq!(Value::from(ended.stdout.len()), json!(0));
}
