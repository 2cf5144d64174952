//! Requests that are bent on the wire: lengths that lie, two ways to end a body, heads without end, silence.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::trouble::{phone, to_phone};
use crate::world::World;

/// How long a gateway may take to give a silent peer up: its own limit is 10 s.
const GIVEN_UP: Duration = Duration::from_secs(40);

async fn connect(world: &World) -> TcpStream {
    TcpStream::connect(world.url.trim_start_matches("http://")).await.unwrap()
}

/// Writes bytes and reads all that comes until the gateway closes.
async fn raw(world: &World, bytes: &[u8]) -> String {
    let mut stream = connect(world).await;
    // The gateway may have closed before all of it is written: what it said is still to be read.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(GIVEN_UP, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the gateway keeps the connection: {}", String::from_utf8_lossy(&answer));
    String::from_utf8_lossy(&answer).into_owned()
}

fn head(world: &World, more: &str) -> String {
    format!(
        "POST /v1/messages HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         connection: close\r\n{more}",
        world.api_key
    )
}

fn status(answer: &str) -> u16 {
    answer
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or_else(|| panic!("no answer: {answer:?}"))
}

async fn assert_nothing_stored(world: &World) {
    let list = world.api(Method::GET, "/v1/messages", None).await;
    assert_eq!(list.body["data"], json!([]), "nothing is half stored");
}

/// A22, A26.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_whose_length_is_in_doubt_is_refused() {
    let world = World::start().await;
    phone(&world, "ok-phone").await;
    let body = to_phone().to_string();
    let n = body.len();
    let chunk = format!("{n:x}\r\n{body}\r\n0\r\n\r\n");
    let bent = [
        ("two lengths", format!("content-length: {n}\r\ncontent-length: {}\r\n\r\n{body}", n + 1)),
        ("a negative length", format!("content-length: -1\r\n\r\n{body}")),
        ("a length with a sign", format!("content-length: +{n}\r\n\r\n{body}")),
        ("a length beyond all numbers", format!("content-length: 99999999999999999999999\r\n\r\n{body}")),
        ("an unknown coding", format!("transfer-encoding: xchunked\r\n\r\n{chunk}")),
        (
            "a coding behind a tab",
            format!("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n{chunk}"),
        ),
        ("a broken chunk", "transfer-encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n".to_owned()),
        ("a header over two lines", format!("x-a: 1\r\n b: 2\r\ncontent-length: {n}\r\n\r\n{body}")),
        ("a space before the colon", format!("content-length : {n}\r\n\r\n{body}")),
    ];
    for (what, rest) in bent {
        let answer = raw(&world, head(&world, &rest).as_bytes()).await;
        assert_eq!(status(&answer), 400, "{what}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{what}: one answer, not two: {answer}");
    }
    assert_nothing_stored(&world).await;
    let good =
        raw(&world, head(&world, &format!("transfer-encoding: chunked\r\n\r\n{chunk}")).as_bytes()).await;
    assert_eq!(status(&good), 202, "{good}");
    let id =
        world.api(Method::GET, "/v1/messages", None).await.body["data"][0]["id"].as_str().unwrap().to_owned();
    world.done(&id).await;
}

/// A22: one byte too many, told and untold; and a body that is never sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_too_long_or_never_comes_is_refused() {
    let mut world = World::start().await;
    assert!(world.stop_gateway().success());
    world.env = vec![("ANYPUSH_LIMITS_BODY_BYTES", "4096".into())];
    world.start_gateway().await;
    phone(&world, "ok-phone").await;
    let sized = |bytes: usize| {
        let mut message = to_phone();
        let empty = message.to_string().len() + r#","metadata":{"a":""}"#.len();
        message["metadata"] = json!({"a": "x".repeat(bytes - empty)});
        message.to_string()
    };
    let over = sized(4097);
    assert_eq!(over.len(), 4097);
    let told = raw(&world, head(&world, &format!("content-length: 4097\r\n\r\n{over}")).as_bytes()).await;
    let chunks = format!("transfer-encoding: chunked\r\n\r\n1001\r\n{over}\r\n0\r\n\r\n");
    let untold = raw(&world, head(&world, &chunks).as_bytes()).await;
    for answer in [told, untold] {
        assert_eq!(status(&answer), 413, "{answer}");
        assert!(answer.contains("body_too_large"), "{answer}");
    }
    let started = Instant::now();
    // Of 4096 bytes three come; the answer to `Expect` is waited for and nothing follows.
    let silent = raw(&world, head(&world, "content-length: 4096\r\n\r\n{\"t").as_bytes()).await;
    let expecting =
        raw(&world, head(&world, "expect: 100-continue\r\ncontent-length: 99\r\n\r\n").as_bytes()).await;
    for answer in [&silent, &expecting] {
        assert!(answer.contains("HTTP/1.1 408") && answer.contains("body_timeout"), "{answer}");
    }
    assert!(started.elapsed() < 2 * GIVEN_UP);
    // The peer hangs up in the middle.
    let mut cut = connect(&world).await;
    cut.write_all(head(&world, "content-length: 4096\r\n\r\n{\"t").as_bytes()).await.unwrap();
    drop(cut);
    assert_nothing_stored(&world).await;
}

/// A25: a head that is too large, or never ends, or never begins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_without_end_and_a_silent_peer_are_given_up() {
    let world = World::start().await;
    let large = raw(&world, head(&world, &format!("x-a: {}\r\n\r\n", "y".repeat(20_000))).as_bytes()).await;
    assert_eq!(status(&large), 431, "{large}");
    let many = "x-a: 1\r\n".repeat(2000);
    assert_eq!(status(&raw(&world, head(&world, &format!("{many}\r\n")).as_bytes()).await), 431);
    let silence: [&[u8]; 4] =
        [b"", b"PRI * HT", b"GET /healthz HTTP/1.1\r\nhost:", b"GET /healthz HTTP/1.1\r\n"];
    let ended = silence.map(|bytes| raw(&world, bytes));
    let began = Instant::now();
    futures_util::future::join_all(ended).await;
    assert!(began.elapsed() >= Duration::from_secs(5), "they were given time");
    let healthy = raw(&world, b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert_eq!(status(&healthy), 200);
}

/// A24: whoever packs a body is told to send it plain, before a byte of it is unpacked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packed_bodies_are_refused() {
    let world = World::start().await;
    let key = format!("Bearer {}", world.api_key);
    for coding in ["gzip", "deflate", "br", "zstd", "compress", "gzip, gzip", "x"] {
        let headers = [
            ("authorization", key.as_str()),
            ("content-type", "application/json"),
            ("content-encoding", coding),
        ];
        let answer = world.raw(Method::POST, "/v1/messages", &headers, b"\x1f\x8b\x08".to_vec()).await.0;
        assert_eq!(answer.status.as_u16(), 415, "{coding}: {}", answer.body);
    }
    assert_nothing_stored(&world).await;
}

/// A68, A69: methods and paths that are nobody's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn methods_and_paths_that_are_nobodys_lead_nowhere() {
    let world = World::start().await;
    for method in ["TRACE", "CONNECT", "PROPFIND", "PUT"] {
        let line = format!(
            "{method} /v1/messages HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nconnection: close\r\n\
             content-length: 0\r\nx-http-method-override: POST\r\n\r\n",
            world.api_key
        );
        let answer = raw(&world, line.as_bytes()).await;
        assert!([400, 404, 405].contains(&status(&answer)), "{method}: {answer}");
        assert!(!answer.contains(&world.api_key), "{method}: nothing is echoed");
    }
    for path in [
        "//v1//apps",
        "/v1/apps/../apps",
        "/v1/%2e%2e/v1/apps",
        "/V1/apps",
        "/v1/apps/",
        "/v1/apps;x",
        "/v1%2fapps",
    ] {
        let line = format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nconnection: close\r\n\r\n",
            world.api_key
        );
        let answer = raw(&world, line.as_bytes()).await;
        assert!([403, 404].contains(&status(&answer)), "{path}: {answer}");
    }
}

/// A54: whatever people write, a line of the log is one JSON object.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_writes_lines_of_their_own_into_the_log() {
    let mut world = World::start().await;
    assert!(world.stop_gateway().success());
    let before = world.log().len();
    world.env = vec![("ANYPUSH_LOG_FORMAT", "json".into()), ("ANYPUSH_LOG_LEVEL", "debug".into())];
    world.start_gateway().await;
    let evil = "\n{\"level\":\"ERROR\",\"fields\":{\"message\":\"forged-7c1\"}}\r\n\u{1b}[31mforged-7c1\u{1b}[0m\u{2028}";
    for token in [format!("ok-{evil}"), format!("dead-{evil}"), format!("garbage-{evil}")] {
        let device = json!({"addresses": [{"provider": "fcm", "token": token}]});
        let _ = world.api(Method::PUT, "/v1/devices/phone", Some(device)).await;
        let mut message = to_phone();
        message["notification"] = json!({"title": evil, "body": evil});
        message["data"] = json!({"a": evil});
        let sent = world.api(Method::POST, "/v1/messages", Some(message)).await;
        if let Some(id) = sent.body["id"].as_str() {
            world.done(id).await;
        }
    }
    let odd = percent(evil);
    for path in [format!("/v1/devices/{odd}"), format!("/v1/messages?label={odd}"), format!("/{odd}")] {
        let _ = world.api(Method::GET, &path, None).await;
    }
    let key = world.api_key.clone();
    let line = format!(
        "GET /v1/messages HTTP/1.1\r\nhost: x\r\nuser-agent: \u{1b}[31mforged-7c1\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\r\n"
    );
    raw(&world, line.as_bytes()).await;
    let log = world.log();
    let lines: Vec<_> = log[before..].lines().collect();
    assert!(lines.len() > 10, "the log is empty");
    for line in lines {
        let read: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        assert!(read["fields"]["message"] != "forged-7c1", "{line}");
        assert!(!line.contains('\u{1b}'), "{line:?}");
    }
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect::<Vec<_>>().concat()
}
