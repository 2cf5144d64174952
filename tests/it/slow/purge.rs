//! What is too old is removed, by a gateway that dies in the middle of it too; what is not over stays, and reports still
//! count what is gone.

use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt as _;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;

use super::crash_points::SIGABRT;
use crate::api_import::import;
use crate::world::{PATIENCE, World, now};

const DAY: i64 = 24 * 3600;
/// More than one transaction removes.
const PHONES: usize = 5300;

async fn rows(world: &World, table: &str) -> i64 {
    let file = world.data_dir().join("anypush.db");
    let mut db = SqliteConnectOptions::new().filename(file).read_only(true).connect().await.unwrap();
    let query = match table {
        "messages" => "SELECT count(*) FROM messages",
        "message_stats" => "SELECT count(*) FROM message_stats",
        _ => "SELECT count(*) FROM deliveries",
    };
    sqlx::query_scalar(query).fetch_one(&mut db).await.unwrap()
}

/// What reports count of the days around that on which everything was sent.
async fn reported(world: &World, since: jiff::Timestamp) -> Value {
    let day = |days: i64| {
        let at = since + jiff::SignedDuration::from_hours(24 * days);
        at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    };
    let path = format!("/v1/reports/deliveries?interval=day&from={}&to={}", day(-42), day(-38));
    let report = world.api(Method::GET, &path, None).await;
    assert_eq!(report.status, StatusCode::OK, "{}", report.body);
    assert_eq!(report.body["series"][0]["total"]["targeted"], PHONES + 5, "{:#}", report.body);
    report.body["series"].clone()
}

async fn restart_at(world: &mut World, days: i64, failpoint: &str) {
    if !world.has_ended() {
        assert!(world.stop_gateway().success());
    }
    let clock = world.data_dir().join("wall-clock");
    std::fs::write(&clock, (days * DAY).to_string()).unwrap();
    world.env = vec![("ANYPUSH_WALL_CLOCK", clock.display().to_string())];
    if failpoint.is_empty() {
        world.start_gateway().await;
    } else {
        world.env.push(("ANYPUSH_FAILPOINT", failpoint.to_owned()));
        world.spawn_gateway();
        let status = world.ended().await;
        assert_eq!(
            status.signal(),
            Some(SIGABRT),
            "{failpoint} was never reached: {status}\n{}",
            world.log()
        );
    }
}

/// C44.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_old_is_removed_whole_although_the_gateway_dies_over_it() {
    let mut world = World::start().await;
    restart_at(&mut world, -40, "").await;
    let mut lines = String::new();
    for n in 0..PHONES {
        writeln!(lines, "{}", json!({"id": format!("p{n}"), "tags": ["all"]})).unwrap();
    }
    assert_eq!(import(&world, &world.api_key, lines.into_bytes()).await.len(), PHONES);
    // Nobody has an address: each target ends at once.
    let to_all =
        json!({"to": {"audience": {"tag": "all"}}, "class": "marketing", "notification": {"title": "All"}});
    let all = world.send(to_all.clone()).await;
    world.done(&all).await;
    let mut small = Vec::new();
    for n in 0..5 {
        let to = json!({"to": {"device_ids": [format!("p{n}")]}, "notification": {"title": "One"}});
        small.push(world.send(to).await);
    }
    for id in &small {
        world.done(id).await;
    }
    let later = (now() + jiff::SignedDuration::from_hours(24 * 30)).to_string();
    let mut scheduled = to_all;
    scheduled["send_at"] = later.into();
    let scheduled = world.send(scheduled).await;
    let today = now();
    let before = reported(&world, today).await;

    // Whoever starts with such a clock is asked to look at it first.
    restart_at(&mut world, 0, "").await;
    assert!(world.log().contains("days ahead of the newest message"));
    world.done(&all).await;
    let fresh = world.send(json!({"to": {"device_ids": ["p0"]}, "notification": {"title": "Now"}})).await;
    world.done(&fresh).await;

    restart_at(&mut world, 0, "purge.before_message").await;
    assert_eq!(rows(&world, "messages").await, 8, "nothing of that transaction is left");
    assert_eq!(rows(&world, "deliveries").await, PHONES as i64 + 6);
    restart_at(&mut world, 0, "purge.between_transactions").await;
    assert_eq!(rows(&world, "messages").await, 7, "the large one went first");
    assert_eq!(rows(&world, "deliveries").await, PHONES as i64 + 6 - 5000);
    restart_at(&mut world, 0, "").await;
    let until = std::time::Instant::now() + PATIENCE;
    while !world.log().contains("removed because of its age") {
        assert!(std::time::Instant::now() < until, "nobody goes on with it:\n{}", world.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    for id in small.iter().chain([&all]) {
        for path in [format!("/v1/messages/{id}"), format!("/v1/messages/{id}/deliveries")] {
            let gone = world.api(Method::GET, &path, None).await;
            assert_eq!((gone.status, &gone.body["code"]), (StatusCode::NOT_FOUND, &json!("not_found")));
            let why = gone.body["detail"].as_str().unwrap();
            assert!(why.contains("messages are kept for 30 days"), "{why}");
        }
    }
    assert_eq!(world.until(&scheduled, |_| true).await["state"], "scheduled");
    world.done(&fresh).await;
    let list = world.api(Method::GET, "/v1/messages", None).await;
    assert_eq!(list.body["data"].as_array().unwrap().len(), 2, "{:#}", list.body);
    let got = world.api(Method::GET, "/v1/devices/p0/deliveries", None).await;
    assert_eq!(got.body["data"].as_array().unwrap().len(), 1, "{:#}", got.body);
    assert_eq!(reported(&world, today).await, before, "reports still count what is gone");
    assert_eq!((rows(&world, "deliveries").await, rows(&world, "messages").await), (1, 2));
    let metrics = world.http.get(format!("{}/metrics", world.url)).bearer_auth(&world.admin_key);
    let text = metrics.send().await.unwrap().text().await.unwrap();
    assert!(text.contains("anypush_forgotten_total{what=\"messages\"} 5"), "{text}");
    // Stopped here: the check at the end of a test holds reports against rows, and these are gone on purpose.
    assert!(world.stop_gateway().success());
}
