//! The process dies at each point of a callback's way; the vendor, who heard nothing, calls again.
//!
//! Each test runs this file's ignored test as a process of its own, which is the life that ends early.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::World;
use crate::delivery::state::{State, View};
use crate::ids::Id;

const SIGABRT: i32 = 6;
const DIRECTORY: &str = "ANYPUSH_TEST_DIRECTORY";
const HEARD: &str = "heard";

/// Two targets were accepted; the vendor reports one as delivered and the other as clicked.
fn said(world: &World, message: Id) -> Value {
    let channel = &world.channel;
    json!([world.said(channel, message, 7, "delivered"), world.said(channel, message, 8, "clicked")])
}

fn message() -> Id {
    Id(Id::floor_at(super::NOW).0 + 1)
}

#[tokio::test]
#[ignore = "the life that ends early; run by the tests below"]
async fn a_life_that_takes_a_callback_and_merges_it() {
    let directory = std::env::var_os(DIRECTORY).expect("a directory");
    let mut world = World::at(Path::new(&directory)).await;
    let channel = world.channel.clone();
    world.call(&channel, said(&world, message())).await;
    std::fs::write(Path::new(&directory).join(HEARD), []).unwrap();
    world.merge().await;
    world.store.close().await;
}

/// What the next life finds: (the vendor heard 200, rows of the journal).
async fn dies_at(point: &str) -> (bool, u64) {
    let directory = TempDir::new().unwrap();
    let world = World::at(directory.path()).await;
    assert_eq!(world.message(1).await, message());
    for target in [7, 8] {
        world.record(&world.channel.clone(), message(), target, State::Accepted).await;
    }
    world.store.close().await;
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "receipts::tests::crash::a_life_that_takes_a_callback_and_merges_it"])
        .env(DIRECTORY, directory.path())
        .env("ANYPUSH_FAILPOINT", point)
        .status()
        .unwrap();
    assert_eq!(status.signal(), Some(SIGABRT), "{point} was never reached: {status}");
    let heard = directory.path().join(HEARD).exists();
    let mut world = World::at(directory.path()).await;
    let left = world.store.journal_rows().await.unwrap();
    let channel = world.channel.clone();
    // Who heard nothing calls again; who heard 200 does not, and one who does all the same changes nothing.
    world.call(&channel, said(&world, message())).await;
    world.merge().await;
    world.call(&channel, said(&world, message())).await;
    world.merge().await;
    assert_eq!(world.state(message(), 7).await, Some(State::Delivered));
    assert_eq!(world.state(message(), 8).await, Some(State::Clicked));
    let counters = world.store.counters(message()).await.unwrap();
    let count = |view, state| -> u64 {
        counters.iter().filter(|c| c.view == view && c.state == state).map(|c| c.n).sum()
    };
    assert_eq!((count(View::Now, State::Delivered), count(View::Now, State::Clicked)), (1, 1));
    assert_eq!(count(View::Now, State::Accepted), 0);
    assert_eq!((count(View::Reached, State::Accepted), count(View::Reached, State::Clicked)), (2, 1));
    assert_eq!(world.store.journal_rows().await.unwrap(), 0);
    world.store.close().await;
    (heard, left)
}

/// C14
#[tokio::test]
async fn a_callback_that_was_not_stored_was_not_answered() {
    assert_eq!(dies_at("receipt.before_store").await, (false, 0));
}

/// C15
#[tokio::test]
async fn a_callback_that_was_stored_and_not_answered_applies_once() {
    assert_eq!(dies_at("receipt.before_answer").await, (false, 1));
}

/// C16
#[tokio::test]
async fn a_merge_that_was_not_committed_is_made_again() {
    assert_eq!(dies_at("receipts.before_merge").await, (true, 1));
}

/// C16
#[tokio::test]
async fn a_merge_that_was_committed_is_over() {
    assert_eq!(dies_at("receipts.after_merge").await, (true, 0));
}
