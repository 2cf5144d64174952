//! `anypush demo` as a newcomer meets it: one command, one call, Ctrl-C, and again.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anypush_providers::kit::egress::Egress;
use anypush_providers::kit::http::{HttpOptions, client, send};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

fn demo(listen: &str, dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anypush"));
    command.args(["demo", "--listen", listen, "--data-dir"]).arg(dir);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Waits for demo.json, as any script would.
async fn ready(dir: &Path) -> Value {
    let file = dir.join("demo.json");
    for _ in 0..300 {
        if let Ok(text) = std::fs::read(&file) {
            assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
            return serde_json::from_slice(&text).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("demo.json did not appear within 30 s");
}

async fn stop(child: Child) {
    let id = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().await.unwrap().success());
    let output =
        tokio::time::timeout(Duration::from_secs(20), child.wait_with_output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The demo is on this machine.
fn anywhere() -> HttpOptions {
    HttpOptions { egress: Egress::everywhere(), ..HttpOptions::default() }
}

async fn call(demo: &Value, method: http::Method, path: &str, body: Option<Value>) -> Value {
    let url = format!("{}{path}", demo["url"].as_str().unwrap());
    let mut request = client(&anywhere()).unwrap().request(method, url);
    request = request.bearer_auth(demo["api_key"].as_str().unwrap());
    if let Some(body) = body {
        request = request.json(&body);
    }
    let answer = send(request).await.unwrap();
    assert!(answer.status().is_success(), "{}: {:?}", answer.status(), answer.body());
    serde_json::from_slice(answer.body()).unwrap()
}

async fn done(demo: &Value, id: &str) -> Value {
    for _ in 0..200 {
        let message = call(demo, http::Method::GET, &format!("/v1/messages/{id}"), None).await;
        if message["state"] == "done" {
            return message;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the message did not end within 20 s");
}

#[tokio::test]
async fn one_call_reaches_every_phone_and_a_second_start_continues() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("demo");
    let child = demo("127.0.0.1:0", &dir).spawn().unwrap();
    let first = ready(&dir).await;
    let devices = first["devices"].as_array().unwrap();
    assert!(devices.iter().all(|device| (device["provider"] == "direct") == device["secret"].is_string()));

    let body = json!({
        "to": {"audience": {"tag": "demo"}}, "notification": {"title": "Hello"}, "class": "transactional",
    });
    let sent = call(&first, http::Method::POST, "/v1/messages", Some(body)).await;
    let id = sent["id"].as_str().unwrap();
    let message = done(&first, id).await;
    let counts = &message["counts"];
    assert_eq!(counts["targeted"], devices.len());
    let sum: u64 = counts["now"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert_eq!(sum, devices.len() as u64);
    // One phone of each vendor has gone away.
    assert!(counts["now"]["failed"].as_u64().unwrap() >= 1, "{message}");
    assert!(message["reasons"]["invalid_token"].as_u64().unwrap() >= 1, "{message}");
    assert_eq!(counts["reached"]["delivered"], 3);
    stop(child).await;
    assert!(!dir.join("demo.json").exists(), "demo.json says that somebody answers");

    let child = demo("127.0.0.1:0", &dir).spawn().unwrap();
    let second = ready(&dir).await;
    for kept in ["api_key", "admin_key", "app_id", "sandbox_url", "devices"] {
        assert_eq!(first[kept], second[kept], "{kept}");
    }
    assert_eq!(done(&second, id).await["counts"], message["counts"]);
    stop(child).await;
}

#[tokio::test]
async fn a_taken_port_is_named_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = demo(&address, folder.path()).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&address) && said.contains("--listen"), "{said}");
}

#[tokio::test]
async fn a_second_demo_on_the_same_directory_leaves_the_first_alone() {
    let folder = tempfile::tempdir().unwrap();
    let child = demo("127.0.0.1:0", folder.path()).spawn().unwrap();
    let first = ready(folder.path()).await;
    let output = demo("127.0.0.1:0", folder.path()).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(ready(folder.path()).await, first);
    call(&first, http::Method::GET, "/v1/messages", None).await;
    stop(child).await;
}

#[tokio::test]
async fn the_page_is_served_under_its_policy_to_this_machine_alone() {
    let folder = tempfile::tempdir().unwrap();
    let child = demo("127.0.0.1:0", folder.path()).spawn().unwrap();
    let first = ready(folder.path()).await;
    let url = first["url"].as_str().unwrap();
    let http = client(&anywhere()).unwrap();
    let page = send(http.get(format!("{url}/demo"))).await.unwrap();
    assert_eq!(page.status(), 200);
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let rebound = http.get(format!("{url}/demo/config.json")).header("host", "rebound.example");
    assert_eq!(send(rebound).await.unwrap().status(), 403);
    stop(child).await;
}
