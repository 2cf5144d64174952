//! Ops look back: who changed what, from where, and whether the log of it is whole.

use std::process::Command;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::sending::fcm_device;
use crate::world::World;

async fn log(world: &World, key: &str, query: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/v1/audit?limit=5&{query}{cursor}");
        let page = world.call(key, Method::GET, &path, None).await;
        assert_eq!(page.status, StatusCode::OK, "{:#}", page.body);
        all.extend(page.body["data"].as_array().unwrap().iter().cloned());
        let Some(next) = page.body["next_cursor"].as_str() else { return all };
        cursor = format!("&cursor={next}");
    }
}

fn actions(rows: &[Value]) -> Vec<String> {
    rows.iter()
        .rev()
        .map(|row| format!("{} {}", row["action"].as_str().unwrap(), row["object"].as_str().unwrap()))
        .collect()
}

/// Everything that changes what an app is, once.
async fn change_everything(world: &World) -> String {
    let app = &world.app_id;
    let category = format!("/v1/apps/{app}/categories/news");
    let channel = format!("/v1/apps/{app}/channels/fcm");
    let own = |method, path: String, body| async move {
        let answer = world.api(method, &path, body).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.body);
        answer.body
    };
    own(Method::PUT, category.clone(), Some(json!({"class": "marketing"}))).await;
    own(Method::DELETE, category, None).await;
    own(Method::POST, format!("{channel}/pause"), None).await;
    own(Method::POST, format!("{channel}/resume"), None).await;
    own(Method::POST, format!("{channel}/rotate_callback"), None).await;
    let since = json!({"since": "2020-01-01T00:00:00Z"});
    own(Method::POST, format!("{channel}/restore_addresses"), Some(since)).await;
    for device in ["one", "two"] {
        own(Method::PUT, format!("/v1/devices/{device}"), Some(fcm_device("ok-a"))).await;
    }
    own(Method::POST, "/v1/devices/two/secret".into(), None).await;
    own(Method::DELETE, "/v1/devices/one".into(), None).await;
    let id = world.send(json!({"to": {"device_ids": ["two"]}, "data": {"a": "b"}})).await;
    own(Method::POST, format!("/v1/messages/{id}/cancel"), None).await;
    own(Method::DELETE, channel, None).await;
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_is_told_with_who_and_from_where_and_no_secret() {
    let world = World::start().await;
    let message = change_everything(&world).await;
    let rows = log(&world, &world.api_key, "").await;
    let key = world.api_key.rsplit('_').next().unwrap()[..8].to_owned();
    let expected = [
        format!("app.create apps/{}", world.app_id),
        format!("key.create keys/{key}"),
        "channel.put channels/fcm".into(),
        "category.put categories/news".into(),
        "category.delete categories/news".into(),
        "channel.pause channels/fcm".into(),
        "channel.resume channels/fcm".into(),
        "channel.rotate_callback channels/fcm".into(),
        "channel.restore_addresses channels/fcm".into(),
        "address.move devices/two".into(),
        "device.make_secret devices/two".into(),
        "device.delete devices/one".into(),
        format!("message.cancel messages/{message}"),
        "channel.delete channels/fcm".into(),
    ];
    assert_eq!(actions(&rows), expected);
    for row in &rows {
        let by_admin = row["actor"]["kind"] == "admin_key";
        assert_eq!(row["ip"], if by_admin { Value::Null } else { json!("127.0.0.1") }, "{row:#}");
        assert!(by_admin || row["actor"] == json!({"kind": "key", "id": key}), "{row:#}");
        assert!(row["request_id"].as_str().unwrap().starts_with("req_"));
        assert!(row.get("hash").is_none());
    }
    let text = serde_json::to_string(&rows).unwrap();
    for secret in [&world.api_key, "BEGIN PRIVATE KEY", "ok-a"] {
        assert!(!text.contains(secret));
    }
    let paused = log(&world, &world.api_key, "action=channel.pause&object=channels/fcm").await;
    assert_eq!(paused.len(), 1);
    assert!(log(&world, &world.api_key, "to=2020-01-01T00:00:00Z").await.is_empty());
}

/// A5, A7.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_sees_its_own_log_and_an_admin_all_of_them() {
    let world = World::start().await;
    let (other, other_key) = world.new_app("other").await;
    let path = format!("/v1/apps/{other}/categories/theirs");
    world.call(&other_key, Method::PUT, &path, Some(json!({}))).await;
    // The key of the tests' own app may read; that of the other was made by the same hand.
    let ours = log(&world, &world.api_key, "").await;
    assert!(ours.iter().all(|row| row["app"] == world.app_id), "{ours:#?}");
    assert!(log(&world, &world.api_key, "object=categories/theirs").await.is_empty());
    let all = log(&world, &world.admin_key, "").await;
    let numbers: Vec<_> = all.iter().map(|row| row["number"].as_u64().unwrap()).collect();
    assert_eq!(
        numbers,
        (1..=all.len() as u64).rev().collect::<Vec<_>>(),
        "an admin sees that no row is missing"
    );
    let first = all.last().unwrap();
    assert_eq!((&first["actor"]["kind"], &first["app"]), (&json!("command_line"), &Value::Null));
    let cursor = world.api(Method::GET, "/v1/audit?limit=1", None).await.body["next_cursor"].clone();
    let path = format!("/v1/audit?limit=1&cursor={}", cursor.as_str().unwrap());
    let stolen = world.call(&other_key, Method::GET, &path, None).await;
    assert_eq!(stolen.body["code"], "invalid_cursor");
}

/// A6, A15: whoever is turned away is counted, and told in the log without what they sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_turned_away_is_counted_and_told() {
    let world = World::start().await;
    let made = json!({"name": "reader", "scopes": ["messages:read"]});
    let keys = format!("/v1/apps/{}/keys", world.app_id);
    let reader = world.call(&world.admin_key, Method::POST, &keys, Some(made)).await.body;
    let (reader, id) = (reader["key"].as_str().unwrap(), reader["id"].as_str().unwrap());
    assert_eq!(world.call(reader, Method::GET, "/v1/devices", None).await.status, 403);
    let bearer = format!("Bearer {}", world.api_key);
    let acting = [("authorization", bearer.as_str()), ("anypush-app", "it")];
    assert_eq!(world.raw(Method::GET, "/v1/messages", &acting, Vec::new()).await.0.status, 403);
    world.api(Method::PUT, "/v1/devices/one", Some(json!({}))).await;
    let secret = world.api(Method::POST, "/v1/devices/one/secret", None).await.body;
    let secret = secret["secret"].as_str().unwrap();
    assert_eq!(world.call(secret, Method::GET, "/v1/messages", None).await.status, 401);
    assert_eq!(world.call(&world.api_key, Method::GET, "/v1/device/messages", None).await.status, 401);
    let log = world.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("turned away")).collect();
    assert_eq!(lines.len(), 4, "{log}");
    assert!(lines[0].contains(&format!("key:{id}")) && lines[0].contains("127.0.0.1"), "{}", lines[0]);
    assert!(lines[2].contains("device_user:"), "{}", lines[2]);
    assert!(!log.contains(secret) && !log.contains(reader));
    let metrics = world.raw(Method::GET, "/metrics", &[], Vec::new()).await.1;
    for (plane, why, n) in
        [("backend", "forbidden", 2), ("backend", "unauthenticated", 1), ("phone", "unauthenticated", 1)]
    {
        let line = format!("anypush_refusals_total{{plane=\"{plane}\",why=\"{why}\"}} {n}");
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
}

/// A72: from outside, also while the gateway runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_proves_that_the_log_is_whole_or_says_what_is_missing() {
    let mut world = World::start().await;
    let verify = |world: &World, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_anypush"));
        command.args(["audit", "verify", "--json", "--data-dir"]).arg(world.data_dir()).args(more);
        let output = command.output().unwrap();
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), told)
    };
    let (code, whole) = verify(&world, &[]);
    assert_eq!((code, &whole["rows"], &whole["findings"]), (Some(0), &json!(4), &json!([])));
    let head = whole["head"].as_str().unwrap().to_owned();
    world.api(Method::PUT, &format!("/v1/apps/{}/categories/x", world.app_id), Some(json!({}))).await;
    assert_eq!(verify(&world, &["--head", &head]).0, Some(0), "it only grew");
    let other = format!("4:{}", "0".repeat(64));
    assert_eq!(verify(&world, &["--head", &other]).0, Some(1));
    let listed = Command::new(env!("CARGO_BIN_EXE_anypush"))
        .args(["audit", "list", "--url", &world.url])
        .env("ANYPUSH_API_KEY", &world.api_key)
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("category.put"), "{listed:?}");
    world.stop_gateway();
    world.start_gateway().await;
    assert_eq!(verify(&world, &[]).1["rows"], json!(5));
}
