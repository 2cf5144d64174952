//! A backup that was made while the gateway worked, and is restored later: it is whole, what had ended by then is not
//! sent again, and what waited is sent when somebody says so.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::process::Command;

use super::crash_points::post;
use crate::sending::fcm_device;
use crate::world::World;

const PHONES: u64 = 50;

fn to_all(title: &str) -> Value {
    json!({"to": {"audience": {"tag": "all"}}, "class": "transactional", "notification": {"title": title}})
}

/// Makes a copy as an operator would, without stopping anything.
async fn back_up(data_dir: &Path, to: &Path) {
    let program = Command::new(env!("CARGO_BIN_EXE_anypush"))
        .args([OsStr::new("backup"), OsStr::new("--data-dir"), data_dir.as_ref()])
        .args([OsStr::new("--to"), to.as_ref()])
        .output();
    let made = program.await.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

fn restore(data_dir: &Path, from: &Path) {
    for left in ["anypush.db-wal", "anypush.db-shm"] {
        let _ = std::fs::remove_file(data_dir.join(left));
    }
    std::fs::copy(from, data_dir.join("anypush.db")).unwrap();
}

/// How many pushes of a message the vendor has taken, repeats too.
async fn taken(world: &World, id: &str) -> u64 {
    let summary = world.sandbox(Method::GET, &format!("/summary?message={id}"), None).await;
    summary["accepted_distinct"].as_u64().unwrap() + summary["duplicates"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_backup_is_whole_and_sends_old_pages_only_when_told() {
    let mut world = World::start().await;
    world.put_devices((0..PHONES).map(|i| (format!("p{i}"), fcm_device(&format!("ok-{i}")))).collect()).await;
    let ended = world.send(to_all("ended before")).await;
    world.done(&ended).await;
    world.sandbox(Method::PUT, "/providers/fcm", Some(json!({"latency_ms": 3000}))).await;
    let waited = world.send(to_all("waited")).await;
    world.until(&waited, |m| m["counts"]["targeted"] == PHONES).await;
    let copy = world.data_dir().join("copy.db");
    back_up(&world.data_dir(), &copy).await;
    assert_eq!(
        world.until(&waited, |_| true).await["counts"]["now"]["pending"],
        PHONES,
        "the copy came too late"
    );
    world.sandbox(Method::PUT, "/providers/fcm", Some(json!({"latency_ms": 0}))).await;
    world.done(&waited).await;
    let (_, after) = post(&world, "after", &to_all("after")).await.unwrap();
    world.done(&after).await;
    assert!(world.stop_gateway().success());

    restore(&world.data_dir(), &copy);
    world.more = vec!["--paused"];
    world.start_gateway().await;
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(world.until(&waited, |_| true).await["counts"]["now"]["pending"], PHONES);
    assert_eq!(taken(&world, &waited).await, PHONES, "it was sent again, and nobody said so");
    let gone = world.api(Method::GET, &format!("/v1/messages/{after}"), None).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND, "a backup does not know what came after it");
    let channel = format!("/v1/apps/{}/channels/fcm", world.app_id);
    let now = world.api(Method::GET, &channel, None).await.body;
    assert_eq!(
        (&now["state"], &now["state_info"]),
        (&json!("paused"), &json!("started with --paused")),
        "{now:#}"
    );
    // Somebody who looked may cancel it; here it may go.
    assert_eq!(world.api(Method::POST, &format!("{channel}/resume"), None).await.body["state"], "ok");
    let message = world.done(&waited).await;
    assert_eq!(message["counts"]["now"]["accepted"], PHONES, "{message:#}");
    assert_eq!(taken(&world, &waited).await, 2 * PHONES, "once more each, and no more");
    assert_eq!(taken(&world, &ended).await, PHONES, "what had ended is not sent again");
    // Its caller repeats the call that the backup does not know.
    let (status, again) = post(&world, "after", &to_all("after")).await.unwrap();
    assert_eq!(status, StatusCode::ACCEPTED);
    assert_ne!(again, after);
    assert_eq!(world.done(&again).await["counts"]["now"]["accepted"], PHONES);
}
