//! Many callers share a commit: where it fails, or the process dies around it, each message is wholly there or not at
//! all, and nobody was told otherwise.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::crash_points::SIGABRT;
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

/// What a caller hears: nothing where the gateway died over it, an id, or that it should come again.
async fn ask(world: &World, n: usize) -> Option<Result<String, String>> {
    let request = world.http.post(format!("{}/v1/messages", world.url)).bearer_auth(&world.api_key);
    let request = request.header("Idempotency-Key", format!("key-{n}")).json(&to_three(n));
    let answer = request.send().await.ok()?;
    let status = answer.status();
    let body: Value = answer.json().await.ok()?;
    match status {
        StatusCode::ACCEPTED => {
            world.book.answered(status, &body);
            Some(Ok(body["id"].as_str().unwrap().to_owned()))
        }
        StatusCode::SERVICE_UNAVAILABLE => Some(Err(body["code"].as_str().unwrap().to_owned())),
        _ => panic!("{status} {body}"),
    }
}

/// All callers at once, each with a key of its own.
async fn ask_all(world: &World) -> Vec<Option<Result<String, String>>> {
    join_all((0..CALLERS).map(|n| ask(world, n))).await
}

/// The same calls, each until it is taken: a busy machine may ask for another try.
async fn taken(world: &World) -> Vec<String> {
    let until_taken = async |n| {
        loop {
            if let Ok(id) = ask(world, n).await.expect("an answer") {
                return id;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    join_all((0..CALLERS).map(until_taken)).await
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

/// C4. The database is held until callers wait for it: the first of them is a commit of its own, the others are a
/// group, and the gateway dies over that. How many messages were there that nobody had been told of.
async fn dies_in_a_group(point: &str) -> usize {
    let mut world = world().await;
    assert!(world.stop_gateway().success());
    world.env = vec![("ANYPUSH_FAILPOINT", format!("{point}:2"))];
    world.start_gateway().await;
    let stranger = lock(&world).await;
    let release = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        unlock(stranger).await;
    };
    let (mut first, ()) = tokio::join!(ask_all(&world), release);
    // A busy machine may have kept them all waiting for too long: whoever was refused comes again.
    while !world.has_ended() {
        for (answer, again) in first.iter_mut().zip(ask_all(&world).await) {
            if matches!(answer, Some(Err(_))) {
                *answer = again;
            }
        }
    }
    let status = world.ended().await;
    assert_eq!(status.signal(), Some(SIGABRT), "{point} was never reached: {status}");
    world.env.clear();
    world.start_gateway().await;
    let told: BTreeSet<String> = first.iter().flatten().flatten().cloned().collect();
    let unanswered = first.iter().filter(|answer| answer.is_none()).count();
    assert!(unanswered >= 1, "nobody was left without an answer: {first:?}");
    let there = stored(&world).await;
    assert!(told.is_subset(&there), "{:?} were answered and are gone", told.difference(&there));
    let untold = there.len() - told.len();
    assert!(
        untold <= unanswered,
        "{untold} are there, {unanswered} had no answer: one that was refused is there"
    );
    let again = taken(&world).await;
    for (n, (id, before)) in again.iter().zip(&first).enumerate() {
        assert!(!matches!(before, Some(Ok(before)) if before != id), "{n} has another id now");
    }
    let all = stored(&world).await;
    assert_eq!(all.len(), CALLERS, "a call that is repeated with its key is one message");
    for id in &all {
        assert_eq!(world.done(id).await["counts"]["now"]["accepted"], EACH);
    }
    assert!(world.stop_gateway().success());
    ledger::check(&world, Bounds { crashes: 1, window: CALLERS as u64 * EACH, ..Bounds::default() }).await;
    untold
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_before_a_group_is_committed_leaves_nothing_of_it() {
    // The first commit was a message of its own, and its answer may have been on its way.
    let untold = dies_in_a_group("accept.before_commit").await;
    assert!(untold <= 1, "{untold} were there that nobody had been told of");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_after_a_group_is_committed_leaves_all_of_it() {
    let untold = dies_in_a_group("accept.after_commit").await;
    assert!(untold >= 1, "nothing was there: {untold}");
}

/// C5. Everybody is refused with one of these codes, and nothing is there.
async fn all_are_refused(world: &World, codes: &[&str]) {
    for answer in ask_all(world).await {
        let refused = answer.expect("an answer").expect_err("nothing can be taken");
        assert!(codes.contains(&refused.as_str()), "{refused}");
    }
    assert_eq!(stored(world).await.len(), 0, "nothing is half stored");
}

/// The same calls again, when they can be taken.
async fn all_are_taken(world: &mut World) {
    let ids: BTreeSet<String> = taken(world).await.into_iter().collect();
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
