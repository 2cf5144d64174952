//! A phone about which its vendor says nothing holds up nobody: neither other pages, nor other targets of its own page.
//!
//! The vendor's silence lasts until the request's time is over. Who waited for it is told by counting: how many silences
//! had ended, and were asked again, by the time when all others had their message.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::isolation::{rules, tokens};
use crate::world::World;

/// So many healthy tokens with silent ones among them, evenly.
fn mixed(number: usize, healthy: usize, silent: usize) -> Vec<String> {
    let mut all = tokens(&format!("ok-{number}"), healthy);
    for (i, token) in tokens(&format!("mute-{number}"), silent).into_iter().enumerate() {
        all.insert(i * (healthy + silent) / silent, token);
    }
    all
}

async fn send(world: &World, tokens: &[String], class: &str, delivery: &str) -> String {
    let addresses: Vec<_> = tokens.iter().map(|t| json!({"provider": "fcm", "token": t})).collect();
    let body = json!({
        "to": {"tokens": addresses}, "class": class, "delivery": delivery, "notification": {"title": "Hello"}
    });
    let sent = world.api(Method::POST, "/v1/messages", Some(body)).await;
    assert_eq!(sent.status, StatusCode::ACCEPTED, "{}", sent.body);
    sent.body["id"].as_str().unwrap().to_owned()
}

/// Waits until so many targets of each message are accepted.
async fn accepted(world: &World, ids: &[String], each: usize) {
    for id in ids {
        world.until(id, |message| message["counts"]["now"]["accepted"].as_u64() >= Some(each as u64)).await;
    }
}

/// Of how many silent targets the first silence has ended.
async fn ended(world: &World, ids: &[String]) -> usize {
    let mut count = 0;
    for id in ids {
        let deliveries = world.deliveries(id).await;
        count += deliveries.iter().filter(|delivery| delivery["reason"] == "vendor_unavailable").count();
    }
    count
}

async fn world() -> World {
    let world = World::start().await;
    rules(&world, json!([{"pattern": "mute-", "behaviour": "hang"}])).await;
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_campaign_with_silent_phones_in_every_page_costs_one_silence_and_not_one_for_each_four_pages() {
    let world = world().await;
    // Six pages of which four are sent at a time.
    let (healthy, silent) = (5960, 40);
    let id = send(&world, &mixed(0, healthy, silent), "marketing", "at_least_once").await;
    let ids = [id];
    accepted(&world, &ids, healthy).await;
    let ended = ended(&world, &ids).await;
    println!("{ended} of {silent} silences had ended when all others were accepted");
    // Whoever waits for the first four pages to end sees the silences of all four end.
    assert!(ended < silent * 4 / 6, "{ended} silences were waited for");
    rules(&world, json!([])).await;
    let message = world.done(&ids[0]).await;
    assert_eq!(message["counts"]["now"]["accepted"], healthy + silent, "{message:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_phones_in_each_of_many_long_pages_do_not_hold_up_the_others() {
    let world = world().await;
    let (pages, healthy, silent) = (16, 300, 3);
    let mut ids = Vec::new();
    for page in 0..pages {
        ids.push(send(&world, &mixed(page, healthy, silent), "transactional", "at_least_once").await);
    }
    accepted(&world, &ids, healthy).await;
    let ended = ended(&world, &ids).await;
    println!("{ended} of {} silences had ended when all others were accepted", pages * silent);
    // Four pages at a time, each to the end of its silence: all but those of the last four.
    assert!(ended < (pages - 4) * silent, "{ended} silences were waited for");
    rules(&world, json!([])).await;
    for id in &ids {
        let message = world.done(id).await;
        assert_eq!(message["counts"]["now"]["accepted"], healthy + silent, "{message:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_most_once_a_silent_phone_in_each_slice_costs_one_silence_and_not_one_for_each() {
    let world = world().await;
    let (healthy, silent) = (620, 20);
    let ids = [send(&world, &mixed(0, healthy, silent), "transactional", "at_most_once").await];
    accepted(&world, &ids, healthy).await;
    let ended = ended(&world, &ids).await;
    println!("{ended} of {silent} silences had ended when all others were accepted");
    assert!(ended < silent / 2, "{ended} silences were waited for");
    let message = world.done(&ids[0]).await;
    assert_eq!(message["counts"]["now"]["accepted"], healthy, "{message:#}");
    assert_eq!(message["counts"]["now"]["unknown"], silent, "{message:#}");
    let summary = world.sandbox(Method::GET, &format!("/summary?message={}", ids[0]), None).await;
    assert_eq!(summary["requests"], healthy + silent, "none is asked twice");
}
