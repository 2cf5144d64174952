//! How often somebody may call: what callers are told, and whom a flood of strangers does not lock out.

use std::time::{Duration, Instant};

use anypush::secrets::token::{random_base62, with_checksum};
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::contract::{self, Call, NDJSON};
use crate::world::{PATIENCE, World};

/// A call and all of its answer.
async fn call(
    world: &World,
    key: &str,
    headers: &[(&str, String)],
    method: Method,
    path: &str,
    body: Option<Value>,
) -> (u16, HeaderMap, Value) {
    let mut request = world.http.request(method.clone(), format!("{}{path}", world.url)).bearer_auth(key);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    if let Some(body) = &body {
        request = request.json(body);
    }
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let told = answer.json().await.unwrap_or_default();
    contract::check(&Call {
        method: &method,
        path,
        sent: body.as_ref(),
        status,
        headers: &headers,
        body: &told,
    });
    (status, headers, told)
}

async fn get(world: &World, key: &str, path: &str) -> (u16, HeaderMap, Value) {
    call(world, key, &[], Method::GET, path, None).await
}

fn to(n: usize) -> Value {
    let ids: Vec<_> = (0..n).map(|i| format!("d{i}")).collect();
    json!({"to": {"device_ids": ids}, "notification": {"title": "Hi"}, "class": "transactional"})
}

async fn with_limits(limits: &[(&'static str, &str)]) -> World {
    let mut world = World::start().await;
    assert!(world.stop_gateway().success());
    world.env = limits.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    world.start_gateway().await;
    world
}

fn number(headers: &HeaderMap, name: &str) -> u64 {
    let value = headers.get(name).unwrap_or_else(|| panic!("no {name} in {headers:?}"));
    value.to_str().unwrap().parse().unwrap()
}

/// Refused, with all that a caller needs to come again.
fn assert_refused(status: u16, headers: &HeaderMap, told: &Value) -> u64 {
    assert_eq!((status, &told["code"]), (429, &json!("rate_limited")), "{told}");
    assert_eq!(headers["content-type"], "application/problem+json");
    let wait = number(headers, "retry-after");
    assert!(wait >= 1, "{headers:?}");
    wait
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_says_what_is_left_and_as_it_comes_nobody_is_refused() {
    let world = World::start().await;
    let device = world.api(Method::PUT, "/v1/devices/d", Some(json!({"user_id": "u"}))).await;
    assert!(device.status.is_success(), "{}", device.body);
    let secret = world.device_secrets(&["d".to_owned()]).await.remove(0);
    let key = world.api_key.clone();
    let calls = [
        (key.as_str(), "/v1/messages", 200, "key_calls"),
        (&key, "/v1/messages/msg_none", 404, "key_calls"),
        (&world.admin_key, "/v1/apps", 200, "key_calls"),
        (&secret, "/v1/device/messages", 200, "phone"),
        ("apk_live_nobody", "/v1/messages", 401, "address"),
        ("", "/healthz", 200, "address"),
        ("", "/nowhere", 404, "address"),
    ];
    for (key, path, expected, limit) in calls {
        let (status, headers, told) = get(&world, key, path).await;
        assert_eq!(status, expected, "{path}: {told}");
        let policy = headers["ratelimit-policy"].to_str().unwrap();
        assert!(policy.contains(limit), "{path}: {policy}");
        assert!(
            number(&headers, "ratelimit-remaining") <= number(&headers, "ratelimit-limit"),
            "{headers:?}"
        );
        assert!(number(&headers, "ratelimit-reset") <= 1, "{headers:?}");
    }
    let (status, headers, sent) = call(&world, &key, &[], Method::POST, "/v1/messages", Some(to(3))).await;
    assert_eq!(status, 202, "{sent}");
    assert!(headers["ratelimit-policy"].to_str().unwrap().contains("app_sends"), "{headers:?}");
    assert_eq!(number(&headers, "ratelimit-limit"), 1_000_000);
    world.done(sent["id"].as_str().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_too_fast_is_told_when_to_come_again_and_may_go_on_reading() {
    let world = with_limits(&[("ANYPUSH_RATE_KEY_SENDS_PER_SECOND", "1")]).await;
    let key = world.api_key.clone();
    // More than a second's worth goes where nothing is owed, and is paid off afterwards.
    let (status, headers, first) =
        call(&world, &key, &[], Method::POST, "/v1/messages", Some(to(5000))).await;
    assert_eq!(status, 202, "{first}");
    assert_eq!((number(&headers, "ratelimit-limit"), number(&headers, "ratelimit-remaining")), (1, 0));
    let (status, headers, told) = call(&world, &key, &[], Method::POST, "/v1/messages", Some(to(1))).await;
    let wait = assert_refused(status, &headers, &told);
    assert!((1000..=5000).contains(&wait), "{wait}");
    // A batch is no way around it: each line is refused for itself.
    let lines = format!("{}\n{}\n", to(1), to(2));
    let (answer, _) = world
        .raw(
            Method::POST,
            "/v1/messages/batch",
            &[("authorization", &format!("Bearer {key}")), ("content-type", NDJSON)],
            lines.into_bytes(),
        )
        .await;
    let told = answer.body.as_array().unwrap();
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|line| line["status"] == 429 && line["code"] == "rate_limited"), "{told:#?}");
    let (status, headers, _) =
        get(&world, &key, &format!("/v1/messages/{}", first["id"].as_str().unwrap())).await;
    assert_eq!(status, 200, "reading is another rate");
    assert!(headers["ratelimit-policy"].to_str().unwrap().contains("key_calls"), "{headers:?}");
    let (_, other) = world.new_app("other").await;
    let (status, _, told) = call(&world, &other, &[], Method::POST, "/v1/messages", Some(to(1))).await;
    assert_eq!(status, 202, "another key: {told}");
    let list = world.api(Method::GET, "/v1/messages", None).await.body;
    assert_eq!(list["data"].as_array().unwrap().len(), 1, "nothing of what was refused is stored");
    world.done(first["id"].as_str().unwrap()).await;
    let metrics =
        world.http.get(format!("{}/metrics", world.url)).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("anypush_rate_limited_total{limit=\"key_sends\"}"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_are_counted_one_by_one_messages_refused_and_devices_slowed_down() {
    let limits = [("ANYPUSH_RATE_APP_SENDS_PER_SECOND", "10"), ("ANYPUSH_RATE_KEY_CALLS_PER_SECOND", "200")];
    let world = with_limits(&limits).await;
    let bearer = format!("Bearer {}", world.api_key);
    let headers = [("authorization", bearer.as_str()), ("content-type", NDJSON)];
    // Two thousand targets at ten a second: after the first line all is owed for minutes.
    let mut lines = format!("{}\n", to(2000));
    for n in 0..20 {
        lines += &to(n).to_string();
        lines += "\n";
    }
    lines.push_str("nonsense\n");
    let (answer, _) = world.raw(Method::POST, "/v1/messages/batch", &headers, lines.into_bytes()).await;
    let told = answer.body.as_array().unwrap();
    let refused: Vec<_> = told.iter().filter(|line| line["code"] == "rate_limited").collect();
    assert!(refused.len() >= 20, "{told:#?}");
    assert!(refused.iter().all(|line| line["retry_after_seconds"].as_u64().unwrap() >= 1), "{refused:?}");
    for line in told.iter().filter(|line| line["status"] == 202) {
        world.done(line["id"].as_str().unwrap()).await;
    }
    // Devices are all taken, at the rate: 900 lines at 200 a second, of which a second's worth comes at once.
    let lines: Vec<_> = (0..900).map(|n| json!({"id": format!("i{n}")}).to_string()).collect();
    let began = Instant::now();
    let (answer, _) =
        world.raw(Method::POST, "/v1/devices/import", &headers, lines.join("\n").into_bytes()).await;
    let told = answer.body.as_array().unwrap();
    assert_eq!(told.iter().filter(|line| line["status"] == 200).count(), 900, "{told:#?}");
    // The last group goes as soon as the one before it is paid off to a second's worth.
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_that_calls_without_end_is_slowed_down_and_no_other() {
    let world = with_limits(&[("ANYPUSH_RATE_PHONE_CALLS_PER_SECOND", "1")]).await;
    let ids = ["a".to_owned(), "b".to_owned()];
    world.put_devices(ids.iter().map(|id| (id.clone(), json!({}))).collect()).await;
    let secrets = world.device_secrets(&ids).await;
    let until = Instant::now() + PATIENCE;
    loop {
        let (status, headers, told) = get(&world, &secrets[0], "/v1/device/messages").await;
        if status == 429 {
            assert_refused(status, &headers, &told);
            break;
        }
        assert_eq!(status, 200, "{told}");
        assert!(Instant::now() < until, "never refused");
    }
    assert_eq!(get(&world, &secrets[1], "/v1/device/messages").await.0, 200);
}

/// A10, A27: strangers run dry whatever they say of where they come from; whoever has a good key goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_keys_from_one_address_is_refused_and_locks_nobody_out() {
    let world = with_limits(&[("ANYPUSH_RATE_ADDRESS_FAILURES_PER_SECOND", "1")]).await;
    world.put_devices(vec![("d".to_owned(), json!({}))]).await;
    let secret = world.device_secrets(&["d".to_owned()]).await.remove(0);
    let known = &world.api_key[..world.api_key.len() - 38];
    let (mut refused, mut n) = (0, 0);
    let until = Instant::now() + PATIENCE;
    while refused < 100 {
        n += 1;
        // Whole and unknown, with a known id and a wrong secret, too short, a phone's; and a path that may be a callback's.
        let (key, path) = match n % 5 {
            0 => (with_checksum(&format!("apk_live_{}", random_base62(40))), "/v1/messages"),
            1 => (with_checksum(&format!("{known}{}", random_base62(32))), "/v1/messages"),
            2 => (with_checksum(&format!("{}{}", &secret[..24], random_base62(32))), "/v1/device/messages"),
            3 => ("apk_live_x".to_owned(), "/v1/messages"),
            _ => (String::new(), "/v1/callbacks/chn_none/guess"),
        };
        let forged = [("x-forwarded-for", format!("9.9.{}.{n}", n % 7))];
        let (status, headers, told) = call(&world, &key, &forged, Method::GET, path, None).await;
        match status {
            401 | 404 => {}
            429 => {
                assert_refused(status, &headers, &told);
                refused += 1;
            }
            other => panic!("{other}: {told}"),
        }
        assert!(Instant::now() < until, "{refused} of {n} refused");
    }
    assert_eq!(get(&world, &world.api_key, "/v1/messages").await.0, 200);
    assert_eq!(get(&world, &secret, "/v1/device/messages").await.0, 200);
}

/// A27: behind a trusted proxy each client is counted for itself, and the audit log names it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_trusted_proxy_callers_are_told_apart() {
    let world = with_limits(&[
        ("ANYPUSH_RATE_ADDRESS_FAILURES_PER_SECOND", "1"),
        ("ANYPUSH_RATE_TRUSTED_PROXIES", "127.0.0.0/8"),
    ])
    .await;
    // Who was good lately is no stranger, whoever fails beside them.
    assert_eq!(get(&world, &world.admin_key, "/v1/apps").await.0, 200);
    for n in 0..30 {
        let from = [("x-forwarded-for", format!("6.6.6.6, 9.9.9.{n}"))];
        assert_eq!(call(&world, "x", &from, Method::GET, "/v1/messages", None).await.0, 401);
    }
    let until = Instant::now() + PATIENCE;
    let from = [("x-forwarded-for", "6.6.6.6, 9.9.9.200".to_owned())];
    while call(&world, "x", &from, Method::GET, "/v1/messages", None).await.0 != 429 {
        assert!(Instant::now() < until, "never refused");
    }
    let body = Some(json!({"name": "from-afar"}));
    let (status, _, told) = call(&world, &world.admin_key, &from, Method::POST, "/v1/apps", body).await;
    assert_eq!(status, 201, "{told}");
    let audit = world.call(&world.admin_key, Method::GET, "/v1/audit", None).await.body;
    let made = &audit["data"][0];
    assert_eq!((&made["action"], &made["ip"]), (&json!("app.create"), &json!("9.9.9.200")), "{made}");
}
