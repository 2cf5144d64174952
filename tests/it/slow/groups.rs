//! Many callers share a commit: where it fails, or the process dies around it, each message is wholly there or not at
//! all, and nobody was told otherwise.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::crash_points::{SIGABRT, post};
use crate::disk::{limit_files, lock, unlock};
use crate::ledger::{self, Bounds};
use crate::sending::fcm_device;
use crate::world::World;

const CALLERS: usize = 200;
/// Devices that each message goes to.
const EACH: u64 = 3;

async fn world() -> World {
    let world = World::start().await;
    world.put_devices((0..EACH).map(|i| (format!("d{i}"), fcm_device(&format!("ok-{i}")))).collect()).await;
    world
}

fn to_three(n: usize) -> Value {
    json!({"to": {"device_ids": ["d0", "d1", "d2"]}, "notification": {"title": format!("number {n}")}})
}

/// All callers at once, each with a key of its own: the ids of those that got an answer.
async fn call(world: &World) -> Vec<Option<(StatusCode, String)>> {
    join_all((0..CALLERS).map(async |n| post(world, &format!("key-{n}"), &to_three(n)).await)).await
}

async fn stored(world: &World) -> BTreeSet<String> {
    let (mut all, mut cursor) = (BTreeSet::new(), String::new());
    loop {
        let page = world.api(Method::GET, &format!("/v1/messages?limit=100{cursor}"), None).await;
        let ids = page.body["data"].as_array().unwrap().iter();
        all.extend(ids.map(|message| message["id"].as_str().unwrap().to_owned()));
        match page.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

/// C4. How many messages were there that nobody had been told of.
async fn dies_in_a_group(point: &str) -> usize {
    let mut world = world().await;
    assert!(world.stop_gateway().success());
    // The first commits may be of one message each: those that come while they sync are a group.
    world.env = vec![("ANYPUSH_FAILPOINT", format!("{point}:4"))];
    world.start_gateway().await;
    let first = call(&world).await;
    let status = world.ended().await;
    assert_eq!(status.signal(), Some(SIGABRT), "{point} was never reached: {status}");
    world.env.clear();
    world.start_gateway().await;
    let told: BTreeSet<String> = first.iter().flatten().map(|(_, id)| id.clone()).collect();
    assert!(told.len() < CALLERS, "everybody was answered: this proves nothing");
    let there = stored(&world).await;
    assert!(told.is_subset(&there), "{:?} were answered and are gone", told.difference(&there));
    for (n, (answer, before)) in call(&world).await.into_iter().zip(first).enumerate() {
        let (status, id) = answer.expect("an answer");
        assert_eq!(status, StatusCode::ACCEPTED, "{n}");
        assert!(before.is_none_or(|(_, before)| before == id), "{n} has another id now");
        world.book.answered(status, &json!({"id": id}));
    }
    let all = stored(&world).await;
    assert_eq!(all.len(), CALLERS, "a call that is repeated with its key is one message");
    for id in &all {
        assert_eq!(world.done(id).await["counts"]["now"]["accepted"], EACH);
    }
    assert!(world.stop_gateway().success());
    ledger::check(&world, Bounds { crashes: 1, window: CALLERS as u64 * EACH, ..Bounds::default() }).await;
    there.len() - told.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_before_a_group_is_committed_leaves_nothing_of_it() {
    // Those of earlier groups whose answer was still on its way.
    let untold = dies_in_a_group("accept.before_commit").await;
    assert!(untold < CALLERS / 2, "{untold} were there that nobody had been told of");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_after_a_group_is_committed_leaves_all_of_it() {
    let untold = dies_in_a_group("accept.after_commit").await;
    assert!(untold >= 2, "that was no group: {untold}");
}

/// C5. While `code` is the answer: everybody is refused, and nothing is there.
async fn all_are_refused(world: &World, codes: &[&str]) {
    let answers = join_all((0..CALLERS).map(async |n| {
        let request = world.http.post(format!("{}/v1/messages", world.url)).bearer_auth(&world.api_key);
        let request = request.header("Idempotency-Key", format!("key-{n}")).json(&to_three(n));
        let answer = request.send().await.unwrap();
        (answer.status(), answer.json::<Value>().await.unwrap())
    }));
    for (status, body) in answers.await {
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
        assert!(codes.contains(&body["code"].as_str().unwrap()), "{body}");
    }
    assert_eq!(stored(world).await.len(), 0, "nothing is half stored");
}

/// The same calls again, when they can be taken.
async fn all_are_taken(world: &mut World) {
    let mut ids = BTreeSet::new();
    for answer in call(world).await {
        let (status, id) = answer.expect("an answer");
        assert_eq!(status, StatusCode::ACCEPTED);
        world.book.answered(status, &json!({"id": id}));
        ids.insert(id);
    }
    assert_eq!(ids.len(), CALLERS);
    assert_eq!(stored(world).await, ids);
    for id in &ids {
        assert_eq!(world.done(id).await["counts"]["now"]["accepted"], EACH);
    }
    assert!(world.stop_gateway().success());
    ledger::check(world, Bounds::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_finds_no_room_is_refused_whole() {
    let mut world = world().await;
    if !limit_files(&world, "8192") {
        eprintln!("skipped: there is no `prlimit`, or it may not limit another process here");
        return;
    }
    all_are_refused(&world, &["storage_full", "busy"]).await;
    assert!(limit_files(&world, "unlimited"));
    all_are_taken(&mut world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_meets_a_held_database_is_refused_whole() {
    let mut world = world().await;
    let stranger = lock(&world).await;
    all_are_refused(&world, &["busy"]).await;
    unlock(stranger).await;
    all_are_taken(&mut world).await;
}
