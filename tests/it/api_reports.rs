//! A dashboard asks for numbers: over time, by group, in its own time zone, as a table.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::sending::fcm_device;
use crate::world::World;

async fn report(world: &World, key: &str, query: &str) -> Value {
    let answer = world.call(key, Method::GET, &format!("/v1/reports/deliveries?{query}"), None).await;
    assert_eq!(answer.status, StatusCode::OK, "{query}: {:#}", answer.body);
    answer.body
}

/// Σ now = targeted in every point and in the whole.
fn assert_points_add_up(report: &Value) {
    for series in report["series"].as_array().unwrap() {
        let points = series["points"].as_array().unwrap();
        for numbers in points.iter().chain([&series["total"]]) {
            let now: i64 = numbers["now"].as_object().unwrap().values().map(|n| n.as_i64().unwrap()).sum();
            assert_eq!(json!(now), numbers["targeted"], "{numbers:#}");
        }
        let sum: i64 = points.iter().map(|point| point["targeted"].as_i64().unwrap()).sum();
        assert_eq!(json!(sum), series["total"]["targeted"]);
    }
}

fn total(report: &Value, name: &str, value: &str) -> Value {
    let all = report["series"].as_array().unwrap();
    all.iter().find(|one| one["group"][name] == value).map_or(Value::Null, |one| one["total"].clone())
}

/// Two healthy phones and a dead one, all of different kinds.
async fn put_phones(world: &World) {
    let phone = |token: &str, platform: &str| {
        let mut device = fcm_device(token);
        device["platform"] = json!(platform);
        device
    };
    let devices = [("one", "ok-1", "android"), ("two", "ok-2", "ios"), ("three", "dead-3", "android")];
    world
        .put_devices(devices.map(|(id, token, platform)| (id.to_owned(), phone(token, platform))).to_vec())
        .await;
}

fn message(label: &str) -> Value {
    json!({"to": {"device_ids": ["one", "two", "three", "nobody"]}, "data": {"a": "b"}, "label": label})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_adds_up_by_every_dimension_and_says_what_messages_say() {
    let world = World::start().await;
    put_phones(&world).await;
    for label in ["=orders", "news", "news"] {
        let id = world.send(message(label)).await;
        world.done(&id).await;
    }
    let whole = report(&world, &world.api_key, "interval=hour").await;
    assert_points_add_up(&whole);
    assert_eq!(whole["series"].as_array().unwrap().len(), 1);
    assert!(whole["series"][0]["points"].as_array().unwrap().len() >= 24, "empty hours are there");
    let sum = &whole["series"][0]["total"];
    assert_eq!((&sum["targeted"], &sum["reached"]["accepted"]), (&json!(12), &json!(6)));
    let words = ["channel", "platform", "class", "label", "reason", "channel,platform,class,label,reason"];
    for by in words {
        let report = report(&world, &world.api_key, &format!("group_by={by}")).await;
        assert_points_add_up(&report);
        let targeted: i64 = report["series"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| s["total"]["targeted"].as_i64().unwrap())
            .sum();
        assert_eq!(targeted, 12, "{by}");
    }
    let by_label = report(&world, &world.api_key, "group_by=label").await;
    assert_eq!(total(&by_label, "label", "news")["targeted"], 8);
    let by_platform = report(&world, &world.api_key, "group_by=platform").await;
    assert_eq!(total(&by_platform, "platform", "ios")["now"]["accepted"], 3);
    assert_eq!(total(&by_platform, "platform", "android")["now"]["failed"], 1);
    let by_reason = report(&world, &world.api_key, "group_by=reason").await;
    // A dead token is retired by the first message: the later ones find no way.
    assert_eq!(total(&by_reason, "reason", "unknown_target")["now"]["suppressed"], 3);
    let news = report(&world, &world.api_key, "label=news&group_by=channel").await;
    assert_eq!(total(&news, "channel", "fcm")["reached"]["accepted"], 4);
    let none = report(&world, &world.api_key, "to=2020-06-01T00:00:00Z&group_by=channel").await;
    assert_eq!(none["series"], json!([]));

    let csv = "/v1/reports/deliveries.csv?group_by=label,class&interval=day&timezone=Asia/Kolkata";
    let bearer = format!("Bearer {}", world.api_key);
    let headers = [("authorization", bearer.as_str())];
    let (answer, table) = world.raw(Method::GET, csv, &headers, Vec::new()).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(table.starts_with("start,local,label,class,targeted,reached_accepted,"), "{table}");
    assert!(table.contains("+05:30,'=orders,transactional,4,2,"), "{table}");

    let channels = world.api(Method::GET, "/v1/reports/channels", None).await.body;
    let fcm = channels["data"].as_array().unwrap().iter().find(|c| c["channel"] == "fcm").unwrap().clone();
    assert_eq!((&fcm["accepted"], &fcm["breaker"]), (&json!(6), &json!("closed")), "{fcm:#}");
    assert_eq!(fcm["failures"], json!({"invalid_token": 1}));
    assert_eq!(fcm["success_rate"], json!(0.8571));
    assert_eq!(fcm["witnesses"]["delivered"], false, "it is blind, and says so");
    assert!(fcm["latency_ms"]["p50"].as_u64() <= fcm["latency_ms"]["p99"].as_u64());
    let (answer, table) = world.raw(Method::GET, "/v1/reports/channels.csv", &headers, Vec::new()).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(table.contains("\r\nfcm,fcm,global,ok,7,6,0.8571,"), "{table}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_makes_no_sense_or_too_much_of_it_is_refused() {
    let world = World::start().await;
    for (query, code) in [
        ("interval=week", "invalid_parameter"),
        ("timezone=Mars/Olympus", "invalid_parameter"),
        ("timezone=../../etc/passwd", "invalid_parameter"),
        ("group_by=device", "invalid_parameter"),
        ("group_by=label,label", "invalid_parameter"),
        ("from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z", "invalid_parameter"),
        ("sort=label", "invalid_parameter"),
        ("from=2020-01-01T00:00:00Z", "report_too_large"),
        ("interval=hour&from=2026-01-01T00:00:00Z&to=2026-03-01T00:00:00Z", "report_too_large"),
        ("to=9000-12-31T23:59:59Z&from=0001-01-01T00:00:00Z", "report_too_large"),
    ] {
        for path in ["/v1/reports/deliveries", "/v1/reports/deliveries.csv"] {
            let answer = world.api(Method::GET, &format!("{path}?{query}"), None).await;
            // Without `to` a report is as long as usual.
            let usual = query == "from=2020-01-01T00:00:00Z";
            assert_eq!(answer.status.as_u16(), if usual { 200 } else { 422 }, "{query}: {}", answer.body);
            if !usual {
                assert_eq!(answer.body["code"], code, "{query}");
            }
        }
    }
}

/// A5: whatever is asked for by whatever name, nothing of the other app is in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_question_shows_anything_of_another_app() {
    let world = World::start().await;
    put_phones(&world).await;
    let (other, other_key) = world.new_app("other").await;
    world.put_fcm_channel(&other, "theirs", "demo-project").await;
    let id = world.send(message("ours")).await;
    world.done(&id).await;
    let bodies = [message("theirs"), message("ours")];
    for body in bodies {
        let sent = world.call(&other_key, Method::POST, "/v1/messages", Some(body)).await;
        assert_eq!(sent.status, StatusCode::ACCEPTED);
    }
    let any = |choices: &[&str], n: usize| choices[n % choices.len()].to_owned();
    for n in 0..60usize {
        let query = [
            any(&["", "&group_by=label", "&group_by=channel,label", "&group_by=platform,reason"], n),
            any(&["", "&label=ours", "&label=theirs"], n / 4),
            any(&["", "&channel=fcm", "&channel=theirs", "&channel=direct"], n / 3),
            any(&["", "&platform=android", "&class=transactional", "&interval=hour"], n / 5),
        ]
        .concat();
        let query = query.trim_start_matches('&');
        let (ours, theirs) =
            (report(&world, &world.api_key, query).await, report(&world, &other_key, query).await);
        assert!(!ours["series"].to_string().contains("theirs"), "{query}: {ours:#}");
        let reached = |report: &Value| -> i64 {
            let all = report["series"].as_array().unwrap();
            all.iter().map(|one| one["total"]["reached"]["accepted"].as_i64().unwrap()).sum()
        };
        assert!(reached(&ours) <= 2 && reached(&theirs) == 0, "{query}");
        let targeted = |report: &Value| -> i64 {
            let all = report["series"].as_array().unwrap();
            all.iter().map(|one| one["total"]["targeted"].as_i64().unwrap()).sum()
        };
        assert!(targeted(&ours) <= 4 && targeted(&theirs) <= 8, "{query}");
    }
    let channels = world.call(&other_key, Method::GET, "/v1/reports/channels", None).await.body;
    assert!(channels["data"].as_array().unwrap().iter().all(|c| c["channel"] != "fcm"), "{channels:#}");
    assert!(!world.api(Method::GET, "/v1/reports/channels", None).await.body.to_string().contains("theirs"));
}
