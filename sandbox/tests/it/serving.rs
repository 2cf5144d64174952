//! The port: both versions of HTTP, and who may call the control API.

use anypush_sandbox::{Options, Tls};
use http::Version;
use serde_json::Value;

use crate::world::{PROJECT, World, client, https_client, to};

#[tokio::test]
async fn h1_and_h2c_are_served_on_one_port() {
    let world = World::start().await;
    let token = world.access_token(PROJECT).await;
    let url = format!("{}/v1/projects/{PROJECT}/messages:send", world.url);
    for (h2c, version) in [(false, Version::HTTP_11), (true, Version::HTTP_2)] {
        let http = client(h2c);
        let send =
            async |target: &str| http.post(&url).bearer_auth(&token).json(&to(target, "m")).send().await;
        let answer = send("a").await.unwrap();
        assert_eq!((answer.version(), answer.status().as_u16()), (version, 200));
        assert_eq!(answer.headers()["content-type"], "application/json; charset=UTF-8");
        assert!(send("reset-1").await.is_err());
        assert_eq!(send("a").await.unwrap().status(), 200, "the next request is served");
    }
}

#[tokio::test]
async fn pages_of_this_machine_may_use_the_control_api_and_others_may_not() {
    let world = World::start().await;
    let url = format!("{}/_sandbox/rules", world.url);
    for (origin, allowed) in [
        ("http://127.0.0.1:8080", true),
        ("http://localhost:3000", true),
        ("http://localhost", true),
        ("http://localhost.example.com", false),
        ("http://127.0.0.1:8080.example.com", false),
        ("https://example.com", false),
        ("null", false),
    ] {
        for method in [http::Method::OPTIONS, http::Method::GET] {
            let answer = world.http.request(method, &url).header("origin", origin).send().await.unwrap();
            let header = answer.headers().get("access-control-allow-origin");
            assert_eq!(header.is_some_and(|header| header == origin), allowed, "{origin}");
            assert_eq!(answer.status().is_success(), allowed, "{origin}");
        }
    }
}

#[tokio::test]
async fn help_lists_every_behaviour() {
    let world = World::start().await;
    let text = world.http.get(format!("{}/_sandbox", world.url)).send().await.unwrap().text().await.unwrap();
    let json: Value = world.get("/_sandbox?format=json").await;
    let behaviours = json["behaviours"].as_array().unwrap();
    assert!(behaviours.len() > 20, "{json}");
    for behaviour in behaviours {
        assert!(text.contains(behaviour["behaviour"].as_str().unwrap()), "{behaviour}");
    }
}

#[tokio::test]
async fn an_end_does_not_wait_for_a_request_that_hangs() {
    let world = World::start().await;
    let token = world.access_token(PROJECT).await;
    let body = to("hang-1", "m");
    let hanging = world.try_post(&token, &body);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(100), hanging).await.is_err());
    tokio::time::timeout(std::time::Duration::from_secs(5), world.stop()).await.unwrap();
}

#[tokio::test]
async fn a_sample_has_a_channel_that_works_here_and_phones() {
    let world = World::start().await;
    let samples = world.get("/_sandbox/samples").await;
    let samples = samples["samples"].as_array().unwrap();
    let sample = samples.iter().find(|sample| sample["provider"] == "fcm").unwrap();
    let config = &sample["channel_config"];
    assert_eq!(config["base_url"], world.url);
    let project = config["service_account"]["project_id"].as_str().unwrap();
    assert_eq!(world.service_account(project).await, config["service_account"]);
    assert!(
        sample["devices"].as_array().unwrap().iter().all(|device| device["address"]["token"].is_string())
    );
}

#[tokio::test]
async fn a_stream_that_is_reset_leaves_the_connection_and_its_other_streams_alone() {
    let world = World::start().await;
    let token = world.access_token(PROJECT).await;
    let url = format!("{}/v1/projects/{PROJECT}/messages:send", world.url);
    let http = client(true);
    let send = |target: String| http.post(&url).bearer_auth(&token).json(&to(&target, "m")).send();
    let mut tasks = tokio::task::JoinSet::new();
    for turn in 0..1500 {
        let kind = if turn % 3 == 0 { "ok" } else { "reset" };
        let answer = send(format!("{kind}-{turn}"));
        tasks.spawn(async move { (kind, answer.await.is_ok_and(|answer| answer.status() == 200)) });
    }
    for (kind, answered) in tasks.join_all().await {
        assert_eq!(answered, kind == "ok", "{kind}");
    }
    assert_eq!(world.sums("").await, [1500, 500, 500, 0]);
}

#[tokio::test]
async fn tls_and_plain_http_are_served_on_one_port_with_a_certificate_that_was_given() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let tls = Tls {
        cert_pem: made.cert.pem().into_bytes(),
        key_pem: made.signing_key.serialize_pem().into_bytes(),
    };
    let world = World::start_with(Options { tls: Some(tls), ..Options::default() }).await;
    let https = https_client(&made.cert.pem());
    let url = format!("https://localhost:{}/_sandbox", world.running.local_addr().port());
    let answer = https.get(url).send().await.unwrap();
    assert_eq!((answer.version(), answer.status().as_u16()), (Version::HTTP_2, 200));
    assert_eq!(world.http.get(format!("{}/_sandbox", world.url)).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn without_a_certificate_the_sandbox_makes_one_that_stays_trusted_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start_in(dir.path()).await;
    let ca =
        world.http.get(format!("{}/_sandbox/ca.pem", world.url)).send().await.unwrap().text().await.unwrap();
    world.stop().await;
    let world = World::start_in(dir.path()).await;
    let https = https_client(&ca);
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("https://{host}:{}/_sandbox/rules", world.running.local_addr().port());
        let answer = https.get(url).send().await.unwrap();
        assert_eq!((answer.version(), answer.status().as_u16()), (Version::HTTP_2, 200));
    }
}

#[tokio::test]
async fn help_names_every_vendor_with_its_patterns() {
    let world = World::start().await;
    let help = world.get("/_sandbox?format=json").await;
    let text = world.http.get(format!("{}/_sandbox", world.url)).send().await.unwrap().text().await.unwrap();
    let samples = world.get("/_sandbox/samples").await;
    let mut ids = std::collections::HashSet::new();
    for id in anypush_sandbox::played() {
        assert!(!help["twins"][id]["patterns"].as_array().unwrap().is_empty(), "{id}");
        assert!(text.contains(&format!("{id}: tokens of this form")), "{id}");
        let tokens = world.get(&format!("/_sandbox/tokens/{id}?from=990&count=20")).await;
        for token in tokens["tokens"].as_array().unwrap() {
            let row = help["twins"][id]["patterns"].as_array().unwrap().iter().find(|row| {
                let pattern = row["pattern"].as_str().unwrap();
                anypush_sandbox::rules::matches(pattern, token.as_str().unwrap())
            });
            assert!(row.is_none_or(|row| row["behaviour"] == "ok"), "{id}: {token} is not simply taken");
        }
        let samples = samples["samples"].as_array().unwrap();
        let sample = samples.iter().find(|sample| sample["provider"] == id).unwrap();
        for device in sample["devices"].as_array().unwrap() {
            assert!(
                ids.insert(device["id"].as_str().unwrap().to_owned()),
                "{id}: {device} is not the only one"
            );
        }
    }
    let folders = std::fs::read_dir(env!("CARGO_MANIFEST_DIR")).unwrap().map(|entry| entry.unwrap().path());
    let is_twin = |path: &std::path::PathBuf| {
        std::fs::read_to_string(path.join("mod.rs"))
            .is_ok_and(|text| text.contains("const TWIN: Registration"))
    };
    let twins = folders.filter(is_twin).count();
    assert_eq!(twins, anypush_sandbox::played().count(), "a folder with a TWIN has a line in lib.rs");
}
