//! The program as a person at a terminal uses it, and what a machine asks without a key.

use std::process::Stdio;

use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::process::Command;

use crate::sending::fcm_device;
use crate::world::World;

const FILE: &str = include_str!("../../openapi.yaml");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn send_and_follow_ends_when_nothing_is_pending() {
    let world = World::start().await;
    world.put_devices(vec![("phone-1".into(), fcm_device("ok-phone"))]).await;
    let sent = Command::new(env!("CARGO_BIN_EXE_anypush"))
        .args(["send", "--to-device", "phone-1", "--to-device", "nobody", "--title", "Hello", "--follow"])
        .env("ANYPUSH_URL", &world.url)
        .env("ANYPUSH_API_KEY", &world.api_key)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let sent = tokio::time::timeout(crate::world::PATIENCE, sent).await.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&sent.stdout);
    assert!(sent.status.success(), "{said}{}", String::from_utf8_lossy(&sent.stderr));
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[0].starts_with("accepted msg_"), "{said}");
    let last = lines.last().unwrap();
    assert!(last.starts_with("done: 2 of 2 done, 0 left"), "{said}");
    assert!(last.ends_with("; accepted 1; suppressed 1"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_is_told_as_tables_and_sends_nothing() {
    let world = World::start().await;
    world.put_devices(vec![("phone-1".into(), fcm_device("ok-phone"))]).await;
    let told = Command::new(env!("CARGO_BIN_EXE_anypush"))
        .args(["send", "--to-device", "phone-1", "--to-device", "nobody", "--title", "Hello", "--dry-run"])
        .env("ANYPUSH_URL", &world.url)
        .env("ANYPUSH_API_KEY", &world.api_key)
        .output();
    let told = told.await.unwrap();
    let said = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.success(), "{said}{}", String::from_utf8_lossy(&told.stderr));
    for part in [
        "2 targets: 1 would be sent to, 1 would not",
        "Will be sent through fcm.",
        "of 4096",
        "Nothing was stored",
    ] {
        assert!(said.contains(part), "{part} in\n{said}");
    }
    assert_eq!(world.api(Method::GET, "/v1/messages", None).await.body["data"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_send_with_a_wrong_key_says_so_and_fails() {
    let world = World::start().await;
    let sent = Command::new(env!("CARGO_BIN_EXE_anypush"))
        .args(["send", "--to-all", "--title", "Hello", "--url", &world.url])
        .env("ANYPUSH_API_KEY", "apk_test_wrong")
        .output();
    let sent = sent.await.unwrap();
    assert_eq!(sent.status.code(), Some(1));
    let said = String::from_utf8_lossy(&sent.stderr);
    assert!(said.starts_with("anypush: ") && said.contains("key"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_is_printed_and_served_as_it_is() {
    let printed = Command::new(env!("CARGO_BIN_EXE_anypush")).arg("openapi").output().await.unwrap();
    assert!(printed.status.success());
    assert!(printed.stdout == FILE.as_bytes(), "`anypush openapi` prints something else than the file");
    let world = World::start().await;
    assert_eq!(world.api(Method::GET, "/openapi.yaml", None).await.status, StatusCode::OK);
    let served = world.http.get(format!("{}/openapi.yaml", world.url)).send().await.unwrap();
    assert!(served.text().await.unwrap() == FILE, "the gateway serves something else than the file");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_ask_after_health_and_numbers() {
    let world = World::start().await;
    assert_eq!(world.api(Method::GET, "/healthz", None).await.body, json!({"status": "ok"}));
    assert_eq!(world.api(Method::GET, "/readyz", None).await.body, json!({"status": "ready"}));
    assert_eq!(world.api(Method::GET, "/metrics", None).await.status, StatusCode::OK);
    let metrics = world.http.get(format!("{}/metrics", world.url)).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(metrics.ends_with("# EOF\n"), "whole, in the form that is promised");
    for secret in ["apk_", "aps_", world.app_id.as_str()] {
        assert!(!metrics.contains(secret), "anybody may read the metrics: {secret}");
    }
}

#[tokio::test]
async fn a_directory_that_was_mistyped_is_told_and_does_not_become_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("absent");
    let commands: [&[&str]; 4] =
        [&["rewrap"], &["audit", "verify"], &["keys", "list", "--admin"], &["backup", "--to", "copy.db"]];
    for command in commands {
        let told = Command::new(env!("CARGO_BIN_EXE_anypush"))
            .args(command)
            .arg("--data-dir")
            .arg(&absent)
            .current_dir(dir.path())
            .output();
        let told = told.await.unwrap();
        let words = String::from_utf8_lossy(&told.stderr);
        assert_eq!(told.status.code(), Some(1), "{command:?}: {words}");
        assert!(words.contains("there is no database in"), "{command:?}: {words}");
    }
    assert!(!absent.exists());
}

#[tokio::test]
async fn a_reader_that_has_enough_is_no_failure_and_a_full_disk_is_one() {
    let program = env!("CARGO_BIN_EXE_anypush");
    let run = async |script: &str| Command::new("bash").args(["-c", script, program]).output().await.unwrap();
    let enough = run("set -o pipefail; \"$0\" openapi | head -1").await;
    let words = String::from_utf8_lossy(&enough.stderr);
    assert!(enough.status.success() && words.is_empty(), "{}: {words}", enough.status);
    assert_eq!(enough.stdout, b"openapi: 3.1.0\n");
    let full = run("\"$0\" openapi > /dev/full").await;
    let words = String::from_utf8_lossy(&full.stderr);
    assert_eq!((full.status.code(), words.contains("cannot be written")), (Some(1), true), "{words}");
}
