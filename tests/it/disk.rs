//! A database that somebody else holds, and a disk without room: callers are told, nothing is half stored, and all
//! goes on once it can.

use std::process::Command;
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::io::AsyncWriteExt as _;

use crate::trouble::{phone, to_phone};
use crate::world::{PATIENCE, World};

/// Takes the database away from the gateway, as a careless tool would.
pub(crate) async fn lock(world: &World) -> SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(world.data_dir().join("anypush.db"))
        .busy_timeout(Duration::from_mins(1));
    let mut stranger = options.connect().await.unwrap();
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut stranger).await.unwrap();
    stranger
}

pub(crate) async fn unlock(mut stranger: SqliteConnection) {
    sqlx::query("ROLLBACK").execute(&mut stranger).await.unwrap();
    stranger.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_held_by_somebody_else_is_busy_and_all_goes_on_afterwards() {
    let world = World::start().await;
    phone(&world, "ok-phone").await;
    let stranger = lock(&world).await;
    let refused = world.api(Method::POST, "/v1/messages", Some(to_phone())).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.body);
    assert_eq!(refused.body["code"], "busy");
    let device = world.api(Method::PUT, "/v1/devices/late", Some(json!({}))).await;
    assert_eq!((device.status, &device.body["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("busy")));
    let list = world.api(Method::GET, "/v1/messages", None).await;
    assert_eq!((list.status, &list.body["data"]), (StatusCode::OK, &json!([])), "reading goes on");
    unlock(stranger).await;
    let late = world.api(Method::GET, "/v1/devices/late", None).await;
    assert_eq!(late.status, StatusCode::NOT_FOUND, "what was refused was not stored");
    let id = world.send(to_phone()).await;
    let message = world.done(&id).await;
    assert_eq!(message["counts"]["now"]["accepted"], 1, "{message:#}");
    let summary = world.sandbox(Method::GET, "/summary", None).await;
    assert_eq!(summary["accepted_distinct"], 1, "{summary:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_hangs_up_leaves_nothing_that_is_stored_and_never_sent() {
    let world = World::start().await;
    phone(&world, "ok-phone").await;
    let stranger = lock(&world).await;
    // More than one desk holds in memory: what they leave behind would fill it for ever.
    for _ in 0..40 {
        let body = to_phone().to_string();
        let mut socket = tokio::net::TcpStream::connect(&world.url["http://".len()..]).await.unwrap();
        let head = format!(
            "POST /v1/messages HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            world.api_key,
            body.len()
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    unlock(stranger).await;
    let own = world.send(to_phone()).await;
    world.done(&own).await;
    let list = world.api(Method::GET, "/v1/messages?limit=100", None).await;
    let stored = list.body["data"].as_array().unwrap();
    assert!(stored.len() > 1, "nobody was heard: the test proves nothing");
    for message in stored {
        world.done(message["id"].as_str().unwrap()).await;
    }
}

/// Lets no file of the gateway grow beyond this many bytes; `false` where this system cannot.
pub(crate) fn limit_files(world: &World, bytes: &str) -> bool {
    let pid = world.gateway_pid().to_string();
    let limit = format!("--fsize={bytes}:unlimited");
    let done = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
    done.is_ok_and(|status| status.success())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_said_so_and_all_goes_on_when_there_is_room_again() {
    let world = World::start().await;
    phone(&world, "ok-phone").await;
    let before = world.send(to_phone()).await;
    world.done(&before).await;
    if !limit_files(&world, "8192") {
        eprintln!("skipped: there is no `prlimit`, or it may not limit another process here");
        return;
    }
    for _ in 0..3 {
        let refused = world.api(Method::POST, "/v1/messages", Some(to_phone())).await;
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.body);
        assert_eq!(refused.body["code"], "storage_full");
    }
    let list = world.api(Method::GET, "/v1/messages", None).await;
    assert_eq!(list.status, StatusCode::OK, "reading goes on");
    assert_eq!(list.body["data"].as_array().unwrap().len(), 1, "nothing is half stored");
    assert!(limit_files(&world, "unlimited"));
    let id = world.send(to_phone()).await;
    let message = world.done(&id).await;
    assert_eq!(message["counts"]["now"]["accepted"], 1, "{message:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outcomes_that_find_no_room_are_recorded_when_there_is_some() {
    let world = World::start().await;
    phone(&world, "ok-phone").await;
    world.sandbox(Method::PUT, "/providers/fcm", Some(json!({"latency_ms": 1500}))).await;
    let id = world.send(to_phone()).await;
    if !limit_files(&world, "8192") {
        eprintln!("skipped: there is no `prlimit`, or it may not limit another process here");
        return;
    }
    // The vendor answers while nothing can be written.
    let until = Instant::now() + PATIENCE;
    while world.sandbox(Method::GET, "/summary", None).await["accepted_distinct"] != 1 {
        assert!(Instant::now() < until, "the vendor never got it");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let message = world.until(&id, |_| true).await;
    assert!(limit_files(&world, "unlimited"));
    assert_eq!(message["counts"]["targeted"], 1, "{message:#}");
    let message = world.done(&id).await;
    assert_eq!(message["counts"]["now"]["accepted"], 1, "{message:#}");
    let summary = world.sandbox(Method::GET, "/summary", None).await;
    assert_eq!(summary["duplicates"], 0, "recorded late is not sent twice: {summary:#}");
}

/// C23. A stranger who reads and does not end keeps the log from beginning anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_grows_without_end_is_told_by_health_metrics_and_one_line_until_it_is_short() {
    let mut world = World::start().await;
    assert!(world.stop_gateway().success());
    world.env = vec![("ANYPUSH_STORE_LOG_ALARM_MEBIBYTES", "1".into())];
    world.start_gateway().await;
    let health = async || world.api(Method::GET, "/healthz", None).await.body;
    assert_eq!(health().await, json!({"status": "ok"}));
    let options = SqliteConnectOptions::new().filename(world.data_dir().join("anypush.db"));
    let mut stranger = options.connect().await.unwrap();
    sqlx::query("BEGIN").execute(&mut stranger).await.unwrap();
    sqlx::query("SELECT count(*) FROM devices").execute(&mut stranger).await.unwrap();
    let until = Instant::now() + PATIENCE;
    let mut n = 0;
    while health().await["status"] == "ok" {
        n += 1;
        let done = world.api(Method::PUT, &format!("/v1/devices/d{n}"), Some(json!({}))).await;
        assert!(done.status.is_success(), "{}", done.body);
        assert!(Instant::now() < until, "never called long");
    }
    let told = health().await;
    assert_eq!(told["status"], "degraded", "{told}");
    assert!(told["why"].as_str().unwrap().contains("write-ahead log"), "{told}");
    let metrics = async || {
        let metrics = world.http.get(format!("{}/metrics", world.url)).send().await.unwrap();
        metrics.text().await.unwrap()
    };
    assert!(metrics().await.contains("anypush_store_log_is_long 1\n"));
    sqlx::query("ROLLBACK").execute(&mut stranger).await.unwrap();
    stranger.close().await.unwrap();
    while health().await["status"] != "ok" {
        assert!(Instant::now() < until, "it never begins anew");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(metrics().await.contains("anypush_store_log_is_long 0\n"));
    assert_eq!(world.log().matches("cannot begin anew").count(), 1, "{}", world.log());
}
