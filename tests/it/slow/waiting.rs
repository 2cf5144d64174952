//! What waits half a minute or more.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::ledger::{self, Bounds};
use crate::sending::fcm_device;
use crate::steps::trail;
use crate::trouble::{phone, to_phone};
use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_credentials_stop_the_channel_not_the_message() {
    let world = World::start().await;
    phone(&world, "ok-phone").await;
    world.sandbox(Method::PUT, "/providers/fcm", Some(json!({"credentials": "refused"}))).await;
    let id = world.send(to_phone()).await;
    let channel = format!("/v1/apps/{}/channels/fcm", world.app_id);
    loop {
        let now = world.call(&world.admin_key, Method::GET, &channel, None).await;
        if now.body["state"] == "auth_failed" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(world.until(&id, |_| true).await["counts"]["now"]["pending"], 1);
    world.sandbox(Method::PUT, "/providers/fcm", Some(json!({"credentials": "ok"}))).await;
    let message = world.done(&id).await;
    assert_eq!(message["counts"]["now"]["accepted"], 1, "{message:#}");
    let now = world.call(&world.admin_key, Method::GET, &channel, None).await;
    assert_eq!(now.body["state"], "ok", "{:#}", now.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_whose_time_is_over_ends_expired() {
    let world = World::start().await;
    phone(&world, "ok-phone").await;
    world.sandbox(Method::PUT, "/providers/fcm", Some(json!({"outage": "http_503"}))).await;
    let mut message = to_phone();
    message["ttl_seconds"] = json!(31);
    let id = world.send(message).await;
    let message = world.done(&id).await;
    assert_eq!(message["counts"]["now"]["expired"], 1, "{message:#}");
    assert_eq!(message["reasons"], json!({"expired": 1}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_expires_while_its_vendor_is_down_ends_in_time_and_is_never_sent() {
    let mut world = World::start().await;
    let phones = (0..60).map(|i| (format!("p{i}"), fcm_device(&format!("ok-{i}"))));
    world.put_devices(phones.collect()).await;
    let to_all = |ttl: u32| {
        json!({
            "to": {"audience": {"tag": "all"}}, "class": "transactional", "ttl_seconds": ttl,
            "notification": {"title": "Hello"}
        })
    };
    world.sandbox(Method::PUT, "/providers/fcm", Some(json!({"outage": "http_503"}))).await;
    let long = world.send(to_all(3600)).await;
    let channel = format!("/v1/apps/{}/channels/fcm", world.app_id);
    while world.api(Method::GET, &channel, None).await.body["state"] != "down" {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // One that meets a closed door, and one whose time is over when it is open again.
    let (began, ttl) = (Instant::now(), 35);
    let short = world.send(to_all(ttl)).await;
    let message = world.done(&short).await;
    assert_eq!(message["counts"]["now"]["expired"], 60, "{message:#}");
    assert!(began.elapsed() >= Duration::from_secs(ttl.into()), "it ended before its time");
    // The promise is a minute; the rest is the machine's.
    assert!(began.elapsed() < Duration::from_secs(u64::from(ttl) + 90), "{:?}", began.elapsed());
    world.sandbox(Method::PUT, "/providers/fcm", Some(json!({"outage": "none"}))).await;
    let message = world.done(&long).await;
    assert_eq!(message["counts"]["now"]["accepted"], 60, "{message:#}");
    let sent = world.sandbox(Method::GET, &format!("/summary?message={short}"), None).await;
    assert_eq!(sent["accepted_distinct"], 0, "{sent:#}");
    assert!(world.stop_gateway().success());
    let report = ledger::check(&world, Bounds { lossy: true, ..Bounds::default() }).await;
    assert_eq!(report.duplicates, 0);
}

/// C32.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vendor_whose_host_is_not_found_is_gone_around_and_what_has_no_other_waits_for_it() {
    let world = World::start().await;
    phone(&world, "ok-phone").await;
    let gone = json!({"base_url": "https://push.invalid"});
    let made = world.put_fcm_channel_at(&world.app_id, "gone", "demo-project", gone).await;
    assert!(made.status.is_success(), "{}", made.body);
    let to = |steps: &[&str]| {
        let mut message = to_phone();
        let steps: Vec<_> = steps.iter().map(|channel| json!({"use": channel})).collect();
        message["route"] = json!({"steps": steps});
        message
    };
    let around = world.send(to(&["gone", "fcm"])).await;
    let waits = world.send(to(&["gone"])).await;
    world.until(&around, |message| message["by_channel"]["fcm"]["now"]["accepted"] == 1).await;
    let trail = trail(&world, &around).await;
    let tried = trail.iter().find(|entry| entry["kind"] == "attempted" && entry["channel"] == "gone");
    assert_eq!(tried.expect("a try")["reason"], "vendor_unavailable", "{trail:#?}");
    assert_eq!(world.until(&waits, |_| true).await["counts"]["now"]["pending"], 1);
    let found = json!({"base_url": world.sandbox_url});
    let made = world.put_fcm_channel_at(&world.app_id, "gone", "demo-project", found).await;
    assert!(made.status.is_success(), "{}", made.body);
    let message = world.done(&waits).await;
    assert_eq!(message["counts"]["now"]["accepted"], 1, "{message:#}");
    let sums = world.sandbox(Method::GET, "/summary", None).await;
    assert_eq!((&sums["accepted"], &sums["duplicates"]), (&json!(2), &json!(0)), "{sums:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_while_a_channel_is_paused_arrives_when_it_goes_on() {
    let world = World::start().await;
    phone(&world, "ok-phone").await;
    let channel = format!("/v1/apps/{}/channels/fcm", world.app_id);
    let paused = world.api(Method::POST, &format!("{channel}/pause"), None).await;
    assert_eq!(paused.body["state"], "paused");
    let id = world.send(to_phone()).await;
    // Long enough for a channel that is not paused: what is left undone cannot be waited for.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(world.until(&id, |_| true).await["counts"]["now"]["pending"], 1);
    let resumed = world.api(Method::POST, &format!("{channel}/resume"), None).await;
    assert_eq!(resumed.body["state"], "ok");
    let message = world.done(&id).await;
    assert_eq!(message["counts"]["now"]["accepted"], 1, "{message:#}");
}
