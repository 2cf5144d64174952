//! A file system that is really full: a small one in memory, mounted for this test alone.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::ledger::{self, Bounds};
use crate::sending::fcm_device;
use crate::trouble::to_phone;
use crate::world::{PATIENCE, World};

/// The log alone may take 64 of them before it begins anew.
const MEGABYTES: usize = 128;
const DEVICES: u64 = 8000;
/// Set where the test runs inside its own mounts.
const INSIDE: &str = "ANYPUSH_TEST_MOUNTS";

/// `true` where this process may mount what nobody else sees. Otherwise the test is run again where it may, in a
/// namespace of its own; its failure is ours.
fn has_own_mounts(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let may = Command::new("unshare").args(["-Urm", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: `unshare -Urm` may not mount anything here");
        return false;
    }
    let mut again = Command::new("unshare");
    again.args(["-Urm"]).arg(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]);
    assert!(again.env(INSIDE, "1").status().unwrap().success(), "it failed inside its own mounts");
    false
}

fn run(program: &str, args: &[&str]) {
    assert!(Command::new(program).args(args).status().unwrap().success(), "{program} {args:?}");
}

/// Puts the gateway's data on a small file system of their own.
fn move_to_small_disk(world: &World) {
    let data = world.data_dir();
    let data = data.to_str().unwrap();
    let aside = format!("{data}.aside");
    run("mv", &[data, &aside]);
    run("mkdir", &[data]);
    run("mount", &["-t", "tmpfs", "-o", &format!("size={MEGABYTES}m,mode=700"), "none", data]);
    run("cp", &["-a", &format!("{aside}/."), data]);
}

/// Takes all the room that is left; returns how much that was.
fn fill(ballast: &Path) -> usize {
    let mut file = File::create(ballast).unwrap();
    let (mut taken, mut piece) = (0, 1 << 16);
    while piece > 0 {
        match file.write(&vec![7; piece]) {
            Ok(written) if written > 0 => taken += written,
            _ => piece /= 2,
        }
    }
    taken
}

async fn sent(world: &World) -> u64 {
    world.sandbox(Method::GET, "/summary", None).await["accepted_distinct"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_without_room_refuses_reads_on_pauses_and_goes_on() {
    let name = "slow::full_disk::a_disk_without_room_refuses_reads_on_pauses_and_goes_on";
    if !has_own_mounts(name) {
        return;
    }
    let mut world = World::start().await;
    assert!(world.stop_gateway().success());
    move_to_small_disk(&world);
    world.start_gateway().await;
    let mut devices: Vec<_> =
        (0..DEVICES).map(|i| (format!("d{i}"), fcm_device(&format!("ok-{i}")))).collect();
    devices.push(("phone".into(), json!({"addresses": [{"provider": "fcm", "token": "ok-phone"}]})));
    world.put_devices(devices).await;
    let warm = world.send(to_phone()).await;
    world.done(&warm).await;
    // The campaign waits while the gateway is started anew: what an old log holds would be room.
    let channel = format!("/v1/apps/{}/channels/fcm", world.app_id);
    assert_eq!(world.api(Method::POST, &format!("{channel}/pause"), None).await.body["state"], "paused");
    let all =
        json!({"to": {"audience": {"tag": "all"}}, "class": "marketing", "notification": {"title": "Hi"}});
    let campaign = world.send(all).await;
    world.until(&campaign, |m| m["counts"]["targeted"] == DEVICES).await;
    assert!(world.stop_gateway().success());
    world.start_gateway().await;
    // Nobody has answered yet when the disk is full.
    world.sandbox(Method::PUT, "/providers/fcm", Some(json!({"latency_ms": 5000}))).await;
    assert_eq!(world.api(Method::POST, &format!("{channel}/resume"), None).await.body["state"], "ok");
    let ballast = world.data_dir().join("ballast");
    assert!(fill(&ballast) > 0);
    let until = Instant::now() + PATIENCE;
    let mut refused = 0;
    while refused < 5 {
        let answer = world.api(Method::POST, "/v1/messages", Some(to_phone())).await;
        if answer.status == StatusCode::SERVICE_UNAVAILABLE {
            refused += u32::from(answer.body["code"] == "storage_full");
        }
        fill(&world.data_dir().join("more"));
        assert!(Instant::now() < until, "never refused: {}", answer.body);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.sandbox(Method::PUT, "/providers/fcm", Some(json!({"latency_ms": 0}))).await;
    // No record, no send: what goes out ends with what may be known and unwritten.
    let (mut before, mut quiet) = (sent(&world).await, 0);
    while quiet < 5 || before == 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = sent(&world).await;
        quiet = if now == before { quiet + 1 } else { 0 };
        before = now;
        assert!(Instant::now() < until, "it goes on sending");
    }
    assert!(before < DEVICES, "all was sent before the disk was full: this proves nothing");
    let seen = world.until(&campaign, |_| true).await;
    assert_eq!(seen["state"], "sending", "reading goes on");
    // A log that began anew has room for a while.
    let mut refused = Value::Null;
    for late in 0.. {
        fill(&world.data_dir().join("more"));
        let answer = world.api(Method::PUT, &format!("/v1/devices/late-{late}"), Some(json!({}))).await;
        if answer.status == StatusCode::SERVICE_UNAVAILABLE {
            refused = answer.body;
            break;
        }
        assert!(Instant::now() < until, "never refused: {}", answer.body);
    }
    assert_eq!(refused["code"], "storage_full");
    std::fs::remove_file(&ballast).unwrap();
    std::fs::remove_file(world.data_dir().join("more")).unwrap();
    let after = world.send(to_phone()).await;
    world.done(&after).await;
    let list = world.api(Method::GET, "/v1/messages?limit=100", None).await;
    for message in list.body["data"].as_array().unwrap() {
        world.done(message["id"].as_str().unwrap()).await;
    }
    let message = world.done(&campaign).await;
    assert_eq!(message["counts"]["now"]["accepted"], DEVICES, "{message:#}");
    assert!(world.stop_gateway().success(), "{}", world.log());
    let report = ledger::check(&world, Bounds::default()).await;
    assert_eq!(report.duplicates, 0);
}
