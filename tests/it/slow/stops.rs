//! Told to stop while its own machine is in trouble: the gateway ends in time and in order. What it could still write
//! is not sent again; what it could not is sent once more by the next life, as after a crash.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::disk::{limit_files, lock, unlock};
use crate::ledger::{self, Bounds};
use crate::sending::fcm_device;
use crate::world::{PATIENCE, World};

const PHONES: u64 = 300;
/// The grace of requests, of the pipeline and of the rest, 10 s each, and what a busy machine adds.
const STOP: Duration = Duration::from_mins(1);

/// What the machine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// Nothing may be written: the disk is full.
    FullDisk,
    /// Somebody else holds the database.
    Held,
}

/// A message whose answers come while nothing can be written, and a stop then. `passes`: the trouble ends while the
/// gateway is stopping.
async fn stops(trouble: Trouble, passes: bool) {
    let mut world = World::start().await;
    let phones = (0..PHONES).map(|i| (format!("p{i}"), fcm_device(&format!("ok-{i}"))));
    world.put_devices(phones.collect()).await;
    world.sandbox(Method::PUT, "/providers/fcm", Some(json!({"latency_ms": 2000}))).await;
    let all = json!({
        "to": {"audience": {"tag": "all"}}, "class": "transactional", "notification": {"title": "Hi"}
    });
    let id = world.send(all).await;
    let asked = || async { world.sandbox(Method::GET, "/summary", None).await };
    let until = Instant::now() + PATIENCE;
    while asked().await["requests"].as_u64().unwrap() < PHONES / 4 {
        assert!(Instant::now() < until, "the vendor was never asked");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut stranger = None;
    match trouble {
        Trouble::FullDisk if !limit_files(&world, "8192") => {
            eprintln!("skipped: there is no `prlimit`, or it may not limit another process here");
            return;
        }
        Trouble::FullDisk => {}
        Trouble::Held => stranger = Some(lock(&world).await),
    }
    // The answers come, and find nobody who writes them down.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let began = Instant::now();
    world.tell_to_stop();
    if passes {
        tokio::time::sleep(Duration::from_secs(2)).await;
        match stranger.take() {
            Some(stranger) => unlock(stranger).await,
            None => assert!(limit_files(&world, "unlimited")),
        }
    }
    let status = world.ended().await;
    assert!(status.success(), "{status}\n{}", world.log());
    assert!(began.elapsed() < STOP, "stopped after {:?}", began.elapsed());
    if let Some(stranger) = stranger {
        unlock(stranger).await;
    }
    world.sandbox(Method::PUT, "/providers/fcm", Some(json!({"latency_ms": 0}))).await;
    world.start_gateway().await;
    let message = world.done(&id).await;
    assert_eq!(message["counts"]["now"]["accepted"], PHONES, "{message:#}");
    assert!(world.stop_gateway().success());
    let crashes = u64::from(!passes);
    let report = ledger::check(&world, Bounds { crashes, window: PHONES, ..Bounds::default() }).await;
    assert!(passes || report.duplicates > 0, "everything was written all the same: this proves nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_on_a_disk_that_gets_room_in_time_sends_nothing_twice() {
    stops(Trouble::FullDisk, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_on_a_full_disk_ends_in_time_and_loses_nothing() {
    stops(Trouble::FullDisk, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_while_somebody_holds_the_database_for_a_moment_sends_nothing_twice() {
    stops(Trouble::Held, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_while_somebody_holds_the_database_ends_in_time_and_loses_nothing() {
    stops(Trouble::Held, false).await;
}
