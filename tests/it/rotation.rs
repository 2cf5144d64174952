//! Credentials at rest: what a stolen or bent database gives away (nothing), and how master keys are exchanged.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output};

use reqwest::Method;
use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::register;
use crate::slow::crash_points::SIGABRT;
use crate::trouble::{phone, to_phone};
use crate::world::World;

const NEW: &str = "bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmU=";

async fn database(world: &World) -> SqliteConnection {
    SqliteConnectOptions::new().filename(world.data_dir().join("anypush.db")).connect().await.unwrap()
}

fn run(world: &World, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anypush"));
    command
        .args(args)
        .arg("--data-dir")
        .arg(world.data_dir())
        .envs(world.env.iter().cloned())
        .output()
        .unwrap()
}

fn old_key(world: &World) -> String {
    std::fs::read_to_string(world.data_dir().join("master.key")).unwrap().trim().to_owned()
}

fn with_keys(keys: &str) -> (&'static str, String) {
    ("ANYPUSH_MASTER_KEY", keys.to_owned())
}

/// Ends the gateway at the second time that it reaches a point.
fn dies_at_second(point: &str) -> (&'static str, String) {
    ("ANYPUSH_FAILPOINT", format!("{point}:2"))
}

/// A message that went through the channel whose credentials are encrypted.
async fn sends(world: &World) {
    let id = world.send(to_phone()).await;
    let done = world.done(&id).await;
    assert_eq!(done["counts"]["reached"]["accepted"], 1, "{done:#}\n{}", world.log());
}

/// A58: the channel is of no use and says so; the others go on; nothing is sent, and nothing of the other's key is shown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_were_swapped_or_cut_in_the_database_open_nothing() {
    let mut world = World::start().await;
    phone(&world, "ok-phone").await;
    let (bank, _) = world.new_app("bank").await;
    for (app, name) in [(&world.app_id, "second"), (&world.app_id, "third"), (&bank, "fcm")] {
        let made = world.put_fcm_channel(app, name, "demo-project").await;
        assert!(made.status.is_success(), "{}", made.body);
    }
    assert!(world.stop_gateway().success());
    let mut db = database(&world).await;
    let bent = [
        // Another app's channel of the same name, and another channel of the same app.
        "UPDATE channels SET secrets = (SELECT secrets FROM channels c WHERE c.app = 1 AND c.name = 'fcm')
         WHERE app = 2 AND name = 'fcm'",
        "UPDATE channels SET secrets = (SELECT secrets FROM channels c WHERE c.app = 1 AND c.name = 'fcm')
         WHERE app = 1 AND name = 'second'",
        "UPDATE channels SET secrets = substr(secrets, 1, length(secrets) - 1) WHERE app = 1 AND name = 'third'",
    ];
    for sql in bent {
        assert_eq!(sqlx::query(sql).execute(&mut db).await.unwrap().rows_affected(), 1, "{sql}");
    }
    db.close().await.unwrap();
    world.start_gateway().await;
    for (app, name) in [(&world.app_id, "second"), (&world.app_id, "third"), (&bank, "fcm")] {
        let path = format!("/v1/apps/{app}/channels/{name}");
        let shown = world.call(&world.admin_key, Method::GET, &path, None).await.body;
        assert_eq!(shown["state"], "auth_failed", "{shown}");
        let why = shown["state_info"].as_str().unwrap();
        assert!(why.contains("damaged or does not belong here"), "{why}");
    }
    assert_eq!(world.log().matches("the channel cannot be used").count(), 3, "each is told of in the log");
    assert!(!world.log().contains("PRIVATE KEY"));
    sends(&world).await;
}

/// A59: while messages go out and callers call, the key is exchanged; a start that is killed in the middle goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_key_is_exchanged_under_load_and_a_start_that_dies_over_it_goes_on() {
    let mut world = World::start().await;
    let old = old_key(&world);
    let devices = (0..500).map(|i| {
        let address = json!([{"provider": "fcm", "token": format!("ok-{i}")}]);
        (format!("d{i}"), json!({"tags": ["all"], "addresses": address}))
    });
    world.put_devices(devices.collect()).await;
    phone(&world, "ok-phone").await;
    let secret = world.device_secrets(&["phone".into()]).await.remove(0);
    let all =
        json!({"to": {"audience": {"tag": "all"}}, "class": "marketing", "notification": {"title": "All"}});
    let id = world.send(all).await;
    assert!(world.stop_gateway().success());
    // Between the first data key and the second.
    world.env = vec![with_keys(&format!("{NEW},{old}")), dies_at_second("keys.before_wrap")];
    world.spawn_gateway();
    assert_eq!(world.ended().await.signal(), Some(SIGABRT), "{}", world.log());
    world.env = vec![with_keys(&format!("{NEW},{old}"))];
    world.start_gateway().await;
    world.done(&id).await;
    sends(&world).await;
    assert!(world.stop_gateway().success());
    // The old one is needed no more: not for credentials, API keys, or phones.
    world.env = vec![with_keys(NEW)];
    world.start_gateway().await;
    sends(&world).await;
    let polled = world.call(&secret, Method::GET, "/v1/device/messages", None).await;
    assert!(polled.status.is_success(), "{}", polled.body);
    assert!(world.stop_gateway().success());
    world.env = vec![with_keys(&old)];
    let refused = run(&world, &["migrate"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("newest first") && said.contains("data key"),
        "{said}"
    );
    world.env = vec![with_keys(NEW)];
    world.start_gateway().await;
}

/// A59: `rewrap` seals what is stored under the new data key and drops the old one; killed, it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rewrap_encrypts_every_credential_anew_and_may_be_killed_in_the_middle() {
    let mut world = World::start().await;
    phone(&world, "ok-phone").await;
    for name in ["second", "third"] {
        assert!(world.put_fcm_channel(&world.app_id.clone(), name, "demo-project").await.status.is_success());
    }
    let key = register::new_key(&world, &world.app_id, &world.api_key).await;
    let webhook = json!({"url": world.sandbox_url, "events": ["message.done"]});
    let path = format!("/v1/apps/{}/webhooks", world.app_id);
    let made = world.api(Method::POST, &path, Some(webhook)).await;
    assert!(made.status.is_success(), "{:#}", made.body);
    let old = old_key(&world);
    assert!(world.stop_gateway().success());
    let backup = tempfile::tempdir().unwrap();
    copy(&world.data_dir(), backup.path());
    world.env = vec![with_keys(&format!("{NEW},{old}")), dies_at_second("keys.before_reseal")];
    let died = run(&world, &["rewrap"]);
    assert_eq!(died.status.signal(), Some(SIGABRT), "{}", String::from_utf8_lossy(&died.stderr));
    world.env.pop();
    let done = run(&world, &["rewrap"]);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(said.contains("4 credentials encrypted anew, 1 older data keys dropped"), "{said}");
    let again = run(&world, &["rewrap"]);
    let said = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(said.contains("0 credentials encrypted anew, 0 older"), "{said}");
    world.env = vec![with_keys(NEW)];
    world.start_gateway().await;
    sends(&world).await;
    // What phones' tokens and webhooks are signed with is still there too.
    let token = register::signed(&key, &register::claims("self-made", "u-1", "nonce-0001"));
    let registered = register::register(&world, json!({"token": token})).await;
    assert_eq!(registered.status, 201, "{:#}", registered.body);
    let id = made.body["id"].as_str().unwrap();
    let rotated = world.api(Method::POST, &format!("{path}/{id}/rotate_secret"), None).await;
    assert!(rotated.status.is_success(), "{:#}", rotated.body);
    assert!(world.stop_gateway().success());
    // A backup from before is opened by both keys.
    copy(backup.path(), &world.data_dir());
    world.env = vec![with_keys(&format!("{NEW},{old}"))];
    world.start_gateway().await;
    sends(&world).await;
}

/// A61: a key file that others may read ends the start, with the command that mends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_key_that_others_may_read_is_refused() {
    let mut world = World::start().await;
    assert!(world.stop_gateway().success());
    let file = world.data_dir().join("master.key");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        std::fs::metadata(world.data_dir()).unwrap().permissions().mode() & 0o077,
        0,
        "for its owner only"
    );
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = run(&world, &["serve", "--listen", "127.0.0.1:0"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("chmod 600"), "{said}");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    world.start_gateway().await;
}

/// The database's files; the key file stays where it is.
fn copy(from: &Path, to: &Path) {
    for name in ["anypush.db", "anypush.db-wal", "anypush.db-shm"] {
        let _ = std::fs::remove_file(to.join(name));
        if from.join(name).exists() {
            std::fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}
