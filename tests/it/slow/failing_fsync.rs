//! C21. The disk does not confirm what was written, and forgets it: the gateway ends at once, never asks again, and
//! nobody whom it told 202 is lost.
//!
//! `failing_fsync.c` plays the disk: it stands between the real gateway and the C library.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::ledger::{self, Bounds};
use crate::sending::fcm_device;
use crate::world::{PATIENCE, World};

const CALLERS: usize = 16;
const DEVICES: u64 = 4000;
/// How long the gateway may take to end: nothing of an orderly stop, and what a busy machine adds.
const AT_ONCE: Duration = Duration::from_secs(10);

/// Builds the disk.
fn shim(dir: &Path) -> String {
    let (source, built) =
        (concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/slow/failing_fsync.c"), dir.join("failing_fsync.so"));
    let done = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
        .arg(&built)
        .args([source, "-ldl", "-lpthread"])
        .status();
    assert!(done.expect("`cc`, which the build needs too").success(), "{source} does not build");
    built.to_str().unwrap().to_owned()
}

/// A call that the gateway has not said yes to.
type Open = (String, Value);

/// Sends one message after another until the gateway is gone; what it said neither yes nor no to.
async fn calls(world: &World, caller: usize) -> Option<Open> {
    for n in 0.. {
        let key = format!("{caller}-{n}");
        let device = format!("d{}", (caller * 997 + n) as u64 % DEVICES);
        let body = json!({"to": {"device_ids": [device]}, "notification": {"title": key}});
        loop {
            match ask(world, &key, &body).await {
                None => return Some((key, body)),
                Some(true) => break,
                // Busy: nothing is stored.
                Some(false) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
    None
}

/// Whether the gateway takes it; `None`: it does not say, or fails over it.
async fn ask(world: &World, key: &str, body: &Value) -> Option<bool> {
    let request = world.http.post(format!("{}/v1/messages", world.url)).bearer_auth(&world.api_key);
    let answer = request.header("Idempotency-Key", key).json(body).send().await.ok()?;
    let status = answer.status();
    let told: Value = answer.json().await.ok()?;
    world.book.answered(status, &told);
    match status {
        StatusCode::ACCEPTED => Some(true),
        StatusCode::SERVICE_UNAVAILABLE => Some(false),
        _ => None,
    }
}

/// The load of a day, and an fsync of that file that fails in the middle of it.
async fn the_disk_fails(of: &'static str) {
    let mut world = World::start().await;
    world
        .put_devices((0..DEVICES).map(|i| (format!("d{i}"), fcm_device(&format!("ok-{i}")))).collect())
        .await;
    assert!(world.stop_gateway().success());
    let dir = tempfile::tempdir().unwrap();
    let (trigger, log) = (dir.path().join("fails"), dir.path().join("log"));
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    world.env = vec![
        ("LD_PRELOAD", shim(dir.path())),
        ("FSYNC_OF", of.to_owned()),
        ("FSYNC_FAILS", path(&trigger)),
        ("FSYNC_LOG", path(&log)),
    ];
    world.start_gateway().await;
    let campaign = json!({
        "to": {"audience": {"tag": "all"}}, "class": "marketing", "notification": {"title": "All"}
    });
    world.send(campaign).await;
    let fails = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        std::fs::write(&trigger, "").unwrap();
        let until = Instant::now() + PATIENCE;
        while !log.exists() {
            assert!(Instant::now() < until, "nobody synced the file: the test proves nothing");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Instant::now()
    };
    let (open, failed) = tokio::join!(join_all((0..CALLERS).map(|caller| calls(&world, caller))), fails);
    let status = world.ended().await;
    assert!(failed.elapsed() < AT_ONCE, "it ended {:?} after the failure", failed.elapsed());
    assert_eq!(status.code(), Some(1), "{status}\n{}", world.log());
    assert!(world.log().contains("fsync failed"), "{}", world.log());
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "EIO\n", "it was asked again, and said yes");

    world.env.clear();
    world.start_gateway().await;
    for (key, body) in open.iter().flatten() {
        while !ask(&world, key, body).await.expect("an answer") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let mut cursor = String::new();
    loop {
        let page = world.api(Method::GET, &format!("/v1/messages?limit=100{cursor}"), None).await;
        for message in page.body["data"].as_array().unwrap() {
            world.done(message["id"].as_str().unwrap()).await;
        }
        let Some(next) = page.body["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert!(world.stop_gateway().success());
    let report = ledger::check(&world, Bounds { crashes: 1, window: 2 * DEVICES, ..Bounds::default() }).await;
    eprintln!("{of}: {report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_the_disk_does_not_confirm_ends_the_gateway_at_once_and_loses_nobody() {
    the_disk_fails("anypush.db-wal").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_the_log_that_the_disk_does_not_confirm_ends_it_as_well() {
    the_disk_fails("anypush.db").await;
}
