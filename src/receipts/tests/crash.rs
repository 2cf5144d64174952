//! The process dies at each point of a callback's way; the vendor, who heard nothing, calls again.
//!
//! Each test runs this file's ignored test as a process of its own, which is the life that ends early.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus};

use anypush_providers::contract::{Class, Content};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{NOW, World};
use crate::delivery::spec::Spec;
use crate::delivery::state::{State, View};
use crate::delivery::trail::{self, TrailEntry};
use crate::ids::Id;
use crate::routing::StepSpec;
use crate::store::sqlite::{SqliteOptions, SqliteStore};
use crate::store::{Changes, DevicePut, Journal as _, NewAddress, NewMessage, Store as _};

const SIGABRT: i32 = 6;
const DIRECTORY: &str = "ANYPUSH_TEST_DIRECTORY";
const HEARD: &str = "heard";
const TARGET: &str = "target";

/// Two targets were accepted; the vendor reports one as delivered and the other as clicked.
fn said(world: &World, message: Id) -> Value {
    let channel = &world.channel;
    json!([world.said(channel, message, 7, "delivered"), world.said(channel, message, 8, "clicked")])
}

fn message() -> Id {
    Id(Id::floor_at(NOW).0 + 1)
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

/// Runs a life until it reaches a point.
fn die(life: &str, directory: &Path, point: &str) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", life])
        .env(DIRECTORY, directory)
        .env("ANYPUSH_FAILPOINT", point)
        .status()
        .unwrap()
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
    let life = "receipts::tests::crash::a_life_that_takes_a_callback_and_merges_it";
    let status = die(life, directory.path(), point);
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

/// A device with an address, and a message to it through two channels of which the first has accepted.
async fn on_its_way(world: &World) -> u64 {
    let address = NewAddress {
        provider: "played".into(),
        kind: "token".into(),
        token: "t".into(),
        params: BTreeMap::default(),
    };
    let put =
        DevicePut { id: "of t".into(), enabled: true, addresses: vec![address], ..DevicePut::default() };
    let target = world.store.put_devices(world.apps[0], vec![put], NOW).await.unwrap()[0].seq;
    let step = |uses: &str| StepSpec { uses: uses.into(), ..StepSpec::default() };
    let content = Content { data: BTreeMap::from([("k".into(), "v".into())]), ..Content::default() };
    let steps = ["played", "played_batch"].map(step).to_vec();
    let spec = Spec { content: content.into(), steps, ttl_seconds: 3600, ..Spec::default() };
    let new = NewMessage {
        id: message(),
        app: world.apps[0],
        class: Class::Transactional,
        spec: serde_json::to_string(&spec).unwrap(),
        collapse: None,
        label: None,
        created_at: NOW,
        deadline_at: NOW + 3_600_000,
        send_at: None,
        idempotency: None,
    };
    let expanded = vec![(message(), 1, Some(NOW))];
    world.store.accept(new, Changes { expanded, ..Changes::default() }).await.unwrap();
    world.record(&world.channel.clone(), message(), target, State::Accepted).await;
    target
}

#[tokio::test]
#[ignore = "the life that ends early; run by the tests below"]
async fn a_life_that_takes_a_late_failure_and_merges_it() {
    let directory = std::env::var_os(DIRECTORY).expect("a directory");
    let mut world = World::at(Path::new(&directory)).await;
    let channel = world.channel.clone();
    let target = std::fs::read_to_string(Path::new(&directory).join(TARGET)).unwrap().parse().unwrap();
    world.call(&channel, json!([world.said(&channel, message(), target, "failed")])).await;
    world.merge().await;
    world.store.close().await;
}

/// The delivery goes on to its next channel exactly once; answers how the next life finds it.
async fn fails_late_and_dies_at(point: &str) -> (State, u64) {
    let directory = TempDir::new().unwrap();
    let world = World::at(directory.path()).await;
    let target = on_its_way(&world).await;
    std::fs::write(directory.path().join(TARGET), target.to_string()).unwrap();
    world.store.close().await;
    let life = "receipts::tests::crash::a_life_that_takes_a_late_failure_and_merges_it";
    let status = die(life, directory.path(), point);
    assert_eq!(status.signal(), Some(SIGABRT), "{point} was never reached: {status}");
    // Read before anybody goes on with it.
    let store = SqliteStore::open(&directory.path().join("data"), SqliteOptions::default()).await.unwrap();
    let row = store.deliveries_of(message(), &[target]).await.unwrap().remove(0);
    let found = (row.state, store.journal_rows().await.unwrap());
    store.close().await;
    let mut world = World::at(directory.path()).await;
    let channel = world.channel.clone();
    for _ in 0..2 {
        world.merge().await;
        world.call(&channel, json!([world.said(&channel, message(), target, "failed")])).await;
    }
    world.merge().await;
    let next = world.batch.record.seq;
    let is_tried =
        |entry: &TrailEntry| matches!(entry, TrailEntry::Attempted { channel, .. } if *channel == next);
    let row = world.until(message(), target, |row| trail::decode(&row.trail).iter().any(is_tried)).await;
    let told = trail::decode(&row.trail);
    let count = |is: fn(&TrailEntry) -> bool| told.iter().filter(|entry| is(entry)).count();
    assert_eq!(count(|entry| matches!(entry, TrailEntry::FailedLater { .. })), 1, "{told:?}");
    assert_eq!(count(|entry| matches!(entry, TrailEntry::Decided { .. })), 1, "{told:?}");
    let counters = world.store.counters(message()).await.unwrap();
    let now: u64 = counters.iter().filter(|c| c.view == View::Now && c.channel != next).map(|c| c.n).sum();
    assert_eq!(now, 0, "the first channel has nothing any more: {counters:?}");
    assert_eq!(world.store.journal_rows().await.unwrap(), 0);
    world.store.close().await;
    found
}

#[tokio::test]
async fn a_late_failure_that_was_not_committed_is_merged_by_the_next_life() {
    assert_eq!(fails_late_and_dies_at("receipts.before_late_failure").await, (State::Accepted, 1));
}

#[tokio::test]
async fn a_late_failure_that_was_committed_goes_on_its_route_in_the_next_life() {
    assert_eq!(fails_late_and_dies_at("receipts.after_late_failure").await, (State::Pending, 0));
}
