//! Many messages in one call: a line each, an answer each.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::contract::NDJSON;
use crate::sending::fcm_device;
use crate::world::World;

/// Bytes of a batch that is too large.
const LARGE: usize = 9 << 20;

fn line(key: &str, device: &str) -> Value {
    json!({"idempotency_key": key, "to": {"device_ids": [device]}, "data": {"key": key}})
}

fn body(lines: &[Value]) -> Vec<u8> {
    lines.iter().flat_map(|line| format!("{line}\n").into_bytes()).collect()
}

async fn send(world: &World, body: Vec<u8>) -> Vec<Value> {
    let auth = format!("Bearer {}", world.api_key);
    let headers = [("authorization", auth.as_str()), ("content-type", NDJSON)];
    let (answer, text) = world.raw(Method::POST, "/v1/messages/batch", &headers, body).await;
    assert_eq!(answer.status, StatusCode::OK, "{text}");
    answer.body.as_array().unwrap().clone()
}

/// Index, status and code of each answer.
fn told(answers: &[Value]) -> Vec<(u64, u64, &str)> {
    let number = |answer: &Value, name: &str| answer[name].as_u64().unwrap();
    answers
        .iter()
        .map(|answer| {
            let code = answer["code"].as_str().unwrap_or_default();
            (number(answer, "index"), number(answer, "status"), code)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_line_is_answered_in_order_and_a_bad_one_stops_no_other() {
    let world = World::start().await;
    world.put_devices(vec![("a".into(), fcm_device("ok-a"))]).await;
    let mut lines = body(&[line("k-0", "a")]);
    lines.extend(b"{\"to\": \n\r\n");
    lines.extend(body(&[
        json!({"to": {"device_ids": ["a"]}, "data": {"a": "b"}, "colour": "red"}),
        line("k 3", "a"),
    ]));
    lines.extend(format!("{{\"data\": {{\"a\": \"{}\"}}}}\n", "x".repeat(70_000)).into_bytes());
    lines.extend(body(&[line("k-5", "nobody")]).strip_suffix(b"\n").unwrap());
    let answers = send(&world, lines).await;
    let expected = [
        (0, 202, ""),
        (1, 400, "malformed_json"),
        (2, 422, "unknown_field"),
        (3, 400, "invalid_idempotency_key"),
        (4, 413, "line_too_long"),
        (5, 202, ""),
    ];
    assert_eq!(told(&answers), expected, "{answers:#?}");
    let first = world.done(answers[0]["id"].as_str().unwrap()).await;
    assert_eq!(first["counts"]["now"]["accepted"], 1, "{first:#}");
    let last = world.done(answers[5]["id"].as_str().unwrap()).await;
    assert_eq!(last["reasons"], json!({"unknown_target": 1}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_that_are_sent_again_with_their_keys_get_the_same_answers_and_send_nothing_twice() {
    let mut world = World::start().await;
    world.put_devices(vec![("a".into(), fcm_device("ok-a"))]).await;
    let mut lines: Vec<_> = (0..500).map(|n| line(&format!("k-{n}"), "a")).collect();
    // The same key in the same batch is the same message, too.
    lines.push(lines[0].clone());
    let first = send(&world, body(&lines)).await;
    assert_eq!(first.len(), 501);
    assert!(first.iter().all(|answer| answer["status"] == 202), "{first:#?}");
    assert_eq!((&first[500]["id"], &first[500]["replayed"]), (&first[0]["id"], &json!(true)));
    world.kill_gateway();
    world.start_gateway().await;
    let again = send(&world, body(&lines)).await;
    for (first, again) in first.iter().zip(&again) {
        assert_eq!((&first["id"], &first["created_at"]), (&again["id"], &again["created_at"]));
        assert_eq!(again["replayed"], true);
    }
    lines[7]["data"] = json!({"other": "x"});
    let other = send(&world, body(&lines[7..8])).await;
    assert_eq!(told(&other), [(0, 422, "idempotency_key_reused")]);
    let total = world.api(Method::GET, "/v1/messages?limit=100", None).await.body;
    assert_eq!(total["data"].as_array().unwrap().len(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_much_is_told_and_what_came_before_it_stands() {
    let world = World::start().await;
    let auth = format!("Bearer {}", world.api_key);
    let kinds = [("authorization", auth.as_str()), ("content-type", NDJSON)];
    let (refused, _) = world.raw(Method::POST, "/v1/messages/batch", &kinds, vec![b' '; LARGE]).await;
    assert_eq!(
        (refused.status, &refused.body["code"]),
        (StatusCode::PAYLOAD_TOO_LARGE, &json!("body_too_large"))
    );
    let kinds = [("authorization", auth.as_str()), ("content-type", "application/json")];
    let (refused, _) = world.raw(Method::POST, "/v1/messages/batch", &kinds, b"{}".to_vec()).await;
    assert_eq!(refused.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let lines = b"{}\n".repeat(10_001);
    let answers = send(&world, lines).await;
    assert_eq!(answers.len(), 10_001);
    assert_eq!(told(&answers)[9_999..], [(9_999, 422, "invalid_field"), (10_000, 413, "too_many_lines")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_everything_before_it_listens_is_told_why_it_was_refused() {
    let world = World::start().await;
    let address = world.url.trim_start_matches("http://").to_owned();
    let cases = [
        (world.api_key.as_str(), "/batch", "", "413"),
        ("nobody", "/batch", "", "401"),
        // Who would wait to be told whether to send is told to, because its body is asked for.
        (world.api_key.as_str(), "", "Expect: 100-continue\r\n", "413"),
    ];
    for (key, path, expects, status) in cases {
        let kind = if path.is_empty() { "application/json" } else { NDJSON };
        let head = format!(
            "POST /v1/messages{path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\n{expects}\
             Content-Type: {kind}\r\nContent-Length: {LARGE}\r\nConnection: close\r\n\r\n",
        );
        let address = address.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&vec![b' '; LARGE]).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        });
        let answer = answer.await.unwrap();
        let answer = answer.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(&answer);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_hangs_up_keeps_what_was_answered_and_loses_the_line_that_it_began() {
    let mut world = World::start().await;
    world.put_devices(vec![("a".into(), fcm_device("ok-a"))]).await;
    let address = world.url.trim_start_matches("http://").to_owned();
    let head = format!(
        "POST /v1/messages/batch HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\
         Content-Type: {NDJSON}\r\nContent-Length: 100000\r\n\r\n",
        world.api_key
    );
    let half = br#"{"idempotency_key":"half","to":{"device_ids":["a"]},"data":{"a":"b"}"#;
    let answered = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&body(&[line("one", "a"), line("two", "a")])).unwrap();
        let mut answers = String::new();
        let mut some = [0; 4096];
        // Two answers come although the body is far from its end.
        while !answers.contains("\"index\":1") {
            let n = stream.read(&mut some).unwrap();
            assert!(n > 0, "{answers}");
            answers.push_str(&String::from_utf8_lossy(&some[..n]));
        }
        stream.write_all(half).unwrap();
        answers
    })
    .await
    .unwrap();
    world.kill_gateway();
    world.start_gateway().await;
    let list = world.api(Method::GET, "/v1/messages", None).await.body;
    let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 2, "{list:#}");
    for id in ids {
        assert!(answered.contains(id), "{answered}");
        assert_eq!(world.done(id).await["counts"]["now"]["accepted"], 1);
    }
}
