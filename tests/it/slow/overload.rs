//! More callers than the database can serve: some are refused and told when to come again, nobody who was accepted is
//! forgotten, and afterwards all goes on.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::disk::{lock, unlock};
use crate::ledger::{self, Bounds};
use crate::world::World;

/// Callers at the same time: more than one transaction takes, which waits for the database as a whole.
const CALLERS: usize = 600;
/// Kilobytes by which they may make the gateway grow: what may wait for the database (64 MB), and their connections.
const GROWTH_KB: u64 = 200_000;

/// One call with its key: status, how long to wait, answer.
async fn call(world: &World, number: usize) -> (StatusCode, Option<u64>, Value) {
    let data = json!({"padding": "x".repeat(2000), "number": number.to_string()});
    let body = json!({
        "to": {"tokens": [{"provider": "fcm", "token": format!("ok-{number}")}]}, "class": "transactional",
        "notification": {"title": "Hello"}, "data": data
    });
    let request = world.http.post(format!("{}/v1/messages", world.url)).bearer_auth(&world.api_key);
    let answer =
        request.header("Idempotency-Key", format!("flood-{number}")).json(&body).send().await.unwrap();
    let status = answer.status();
    let after = answer.headers().get("Retry-After").map(|value| value.to_str().unwrap().parse().unwrap());
    (status, after, answer.json().await.unwrap())
}

async fn flood(world: &World, numbers: Vec<usize>) -> (Vec<(usize, String)>, Vec<usize>) {
    let (mut accepted, mut refused) = (Vec::new(), Vec::new());
    let answers = stream::iter(numbers).map(|number| async move { (number, call(world, number).await) });
    let answers: Vec<_> = answers.buffer_unordered(CALLERS).collect().await;
    for (number, (status, after, body)) in answers {
        world.book.answered(status, &body);
        if status == StatusCode::ACCEPTED {
            accepted.push((number, body["id"].as_str().unwrap().to_owned()));
        } else {
            assert_eq!((status, &body["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("busy")), "{body}");
            assert!(after.is_some_and(|seconds| seconds >= 1), "the caller is not told when to come again");
            refused.push(number);
        }
    }
    (accepted, refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_while_the_database_is_held_is_refused_in_part_and_nobody_accepted_is_lost() {
    let mut world = World::start().await;
    world.keep_to_two_threads().await;
    let (first, _) = flood(&world, (0..CALLERS).collect()).await;
    assert!(!first.is_empty(), "nobody is served on a good day");
    let before = world.resident_kb();
    let stranger = lock(&world).await;
    let holding = async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        let during = world.resident_kb();
        unlock(stranger).await;
        during
    };
    let numbers = (CALLERS..4 * CALLERS).collect();
    let ((accepted, mut refused), during) = tokio::join!(flood(&world, numbers), holding);
    eprintln!("{} accepted, {} refused, {before:?} and {during:?} kB", accepted.len(), refused.len());
    assert!(!refused.is_empty(), "nobody was refused while nothing could be written");
    if let (Some(before), Some(during)) = (before, during) {
        assert!(during < before + GROWTH_KB, "{before} kB before, {during} kB while it was held");
    }
    // Who comes again is served, without a second message for the same key.
    let mut all: Vec<_> = first.into_iter().chain(accepted).collect();
    let missing = (0..CALLERS).filter(|number| !all.iter().any(|(n, _)| n == number));
    refused.extend(missing.collect::<Vec<_>>());
    while !refused.is_empty() {
        let (accepted, again) = flood(&world, refused).await;
        all.extend(accepted);
        refused = again;
    }
    assert_eq!(all.len(), 4 * CALLERS);
    for (_, id) in &all {
        world.done(id).await;
    }
    let summary = world.sandbox(Method::GET, "/summary", None).await;
    assert_eq!(summary["accepted_distinct"], 4 * CALLERS, "{summary:#}");
    assert!(world.stop_gateway().success());
    ledger::check(&world, Bounds::default()).await;
}
