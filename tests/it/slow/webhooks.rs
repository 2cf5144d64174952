//! The gateway dies around its webhooks: nothing is lost, and what comes twice comes under its old id. And C45: endpoints
//! that hang or fail keep no other waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use serde_json::json;

use super::crash_points::{SIGABRT, post};
use crate::api_webhooks::{Backend, Got, make};
use crate::sending::fcm_device;
use crate::world::World;

const PHONES: usize = 200;

async fn phones(world: &World) {
    let devices = (0..PHONES).map(|i| (format!("ok-{i}"), fcm_device(&format!("ok-{i}"))));
    world.put_devices(devices.collect()).await;
}

/// A message to all phones, the end at the `nth` time that `point` is reached, and a new start.
async fn dies_at(point: &str, nth: u32) {
    let mut world = World::start().await;
    let backend = Backend::start().await;
    phones(&world).await;
    make(&world, &format!("{}/a", backend.url), &["message.done", "delivery.accepted"], json!({})).await;
    assert!(world.stop_gateway().success());
    world.env = vec![("ANYPUSH_FAILPOINT", format!("{point}:{nth}"))];
    world.start_gateway().await;
    let body = json!({"to": {"audience": {"tag": "all"}}, "class": "transactional", "data": {"a": "b"}});
    let first = post(&world, "all", &body).await.map(|(_, id)| id);
    let status = world.ended().await;
    assert_eq!(status.signal(), Some(SIGABRT), "{point} was never reached: {status}\n{}", world.log());
    world.env.clear();
    world.start_gateway().await;
    let (_, id) = post(&world, "all", &body).await.expect("an answer");
    assert!(first.is_none_or(|first| first == id));
    world.done(&id).await;
    let ids = |got: &[Got]| got.iter().map(|got| got.id().to_owned()).collect::<BTreeSet<_>>().len();
    let got = backend.until("/a", |got| ids(got) > PHONES).await;
    // Repeats are the same, word for word, and there are no more of them than were under way.
    let mut by_id: BTreeMap<&str, &Got> = BTreeMap::new();
    for got in &got {
        let before = by_id.insert(got.id(), got);
        assert!(
            before.is_none_or(|before| before.body["data"]["delivery_id"] == got.body["data"]["delivery_id"])
        );
    }
    assert!(got.len() <= PHONES + 1 + 64, "{} for {} events", got.len(), PHONES + 1);
    let deliveries: BTreeSet<_> =
        by_id.values().filter_map(|got| got.body["data"]["delivery_id"].as_str()).collect();
    let done = by_id.values().filter(|got| got.body["type"] == "message.done").count();
    assert_eq!((deliveries.len(), done, by_id.len()), (PHONES, 1, PHONES + 1), "each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_an_event_is_written() {
    dies_at("outcomes.before_commit", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_event_is_written() {
    dies_at("outcomes.after_commit", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_an_event_is_posted() {
    dies_at("webhook.before_post", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_event_is_posted_and_before_that_is_written_down() {
    dies_at("webhook.after_post", 2).await;
}

/// C45. The five days are a unit test's, on a clock that is turned.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_hang_or_fail_keep_neither_others_nor_messages_waiting() {
    let world = World::start().await;
    let backend = Backend::start().await;
    phones(&world).await;
    let events = ["message.done", "delivery.accepted"];
    for path in ["/hung", "/failing", "/good"] {
        make(&world, &format!("{}{path}", backend.url), &events, json!({})).await;
    }
    backend.answer("/hung", 0);
    backend.answer("/failing", 500);
    let mut slowest = Duration::ZERO;
    for n in 1..=5 {
        let began = Instant::now();
        let to = json!({"to": {"audience": {"tag": "all"}}, "class": "transactional", "data": {"a": "b"}});
        let id = world.send(to).await;
        world.done(&id).await;
        backend.until("/good", |got| got.len() >= n * (PHONES + 1)).await;
        slowest = slowest.max(began.elapsed());
    }
    assert!(slowest < Duration::from_secs(15), "{slowest:?}: less than one request that hangs");
    let tried = (backend.got("/hung").len(), backend.got("/failing").len());
    assert!(tried.0 <= 40 && tried.1 <= 60, "{tried:?}: while nothing arrives new events wait");
}
