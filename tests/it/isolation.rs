//! A vendor account in trouble, or one app's campaign, leaves the others alone. What takes longer is in `slow::pace`.
//!
//! The bounds are loose: they tell a wait for a campaign or a sick vendor from a busy machine, and nothing finer.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::World;

/// What a login code may take on a busy machine. What it would wait for otherwise takes longer.
pub(crate) const PROMPT: Duration = Duration::from_secs(8);

/// An app beside the world's own, with a channel for this project.
pub(crate) struct Neighbour<'a> {
    pub(crate) world: &'a World,
    pub(crate) key: String,
}

impl<'a> Neighbour<'a> {
    pub(crate) async fn new(world: &'a World, name: &str, project: &str) -> Self {
        let (app, key) = world.new_app(name).await;
        let done = world.put_fcm_channel(&app, "fcm", project).await;
        assert!(done.status.is_success(), "{}", done.body);
        Self { world, key }
    }

    /// Sends to these tokens: the message's id.
    pub(crate) async fn send(&self, tokens: &[String], class: &str) -> String {
        send(self.world, &self.key, tokens, class).await
    }

    pub(crate) async fn message(&self, id: &str) -> Value {
        self.world.call(&self.key, Method::GET, &format!("/v1/messages/{id}"), None).await.body
    }

    pub(crate) async fn done(&self, id: &str) -> Value {
        let until = Instant::now() + crate::world::PATIENCE;
        loop {
            let message = self.message(id).await;
            if message["state"] == "done" {
                return message;
            }
            assert!(Instant::now() < until, "still {message:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sends one login code after the other, each to be accepted by its vendor: the longest time that one took.
    pub(crate) async fn login_codes(&self, count: usize) -> Duration {
        let mut longest = Duration::ZERO;
        for i in 0..count {
            let started = Instant::now();
            let id = self.send(&[format!("ok-code-{i}")], "transactional").await;
            let message = self.done(&id).await;
            assert_eq!(message["counts"]["now"]["accepted"], 1, "{message:#}");
            longest = longest.max(started.elapsed());
        }
        longest
    }
}

pub(crate) async fn send(world: &World, key: &str, tokens: &[String], class: &str) -> String {
    let addresses: Vec<_> = tokens.iter().map(|t| json!({"provider": "fcm", "token": t})).collect();
    let body = json!({"to": {"tokens": addresses}, "class": class, "notification": {"title": "Hello"}});
    let sent = world.call(key, Method::POST, "/v1/messages", Some(body)).await;
    assert_eq!(sent.status, StatusCode::ACCEPTED, "{}", sent.body);
    sent.body["id"].as_str().unwrap().to_owned()
}

pub(crate) fn tokens(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|i| format!("{prefix}-{i}")).collect()
}

pub(crate) async fn rules(world: &World, rules: Value) {
    world.sandbox(Method::PUT, "/rules", Some(rules)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_whose_vendor_is_slow_silent_failing_or_refusing_leaves_another_account_alone() {
    let world = World::start().await;
    let other = Neighbour::new(&world, "bank", "bank-project").await;
    let troubles = [
        json!([{"pattern": "sick-", "behaviour": "slow", "delay_ms": 10_000}]),
        json!([{"pattern": "sick-", "behaviour": "hang"}]),
        json!([{"pattern": "sick-*1", "behaviour": "unavailable"}, {"pattern": "sick-*2", "behaviour": "unavailable"},
               {"pattern": "sick-*3", "behaviour": "unavailable"}, {"pattern": "sick-*4", "behaviour": "unavailable"},
               {"pattern": "sick-*5", "behaviour": "unavailable"}]),
        json!([{"pattern": "sick-", "behaviour": "unauthenticated"}]),
    ];
    for trouble in troubles {
        rules(&world, trouble.clone()).await;
        let sick = send(&world, &world.api_key, &tokens("sick", 500), "transactional").await;
        let longest = other.login_codes(5).await;
        assert!(longest < PROMPT, "{longest:?} beside {trouble}");
        let message = world.until(&sick, |_| true).await;
        assert_ne!(message["counts"]["now"]["accepted"], 500, "it was no trouble: {message:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_campaign_of_ten_thousand_on_the_same_account_does_not_hold_up_another_apps_login_codes() {
    let world = World::start().await;
    let other = Neighbour::new(&world, "bank", "demo-project").await;
    world.sandbox(Method::PUT, "/providers/fcm", Some(json!({"latency_ms": 50}))).await;
    let campaign = send(&world, &world.api_key, &tokens("ok", 10_000), "marketing").await;
    let longest = other.login_codes(5).await;
    assert!(longest < PROMPT, "{longest:?}");
    let message = world.done(&campaign).await;
    assert_eq!(message["counts"]["now"]["accepted"], 10_000, "{message:#}");
    let ledger = world.sandbox(Method::GET, &format!("/summary?message={campaign}"), None).await;
    assert_eq!(ledger["duplicates"], 0, "{ledger:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_with_a_rate_serves_a_login_code_before_the_rest_of_a_campaign() {
    let world = World::start().await;
    let account = world.sandbox(Method::GET, "/fcm/demo-project/service_account", None).await;
    let config = json!({"service_account": account, "base_url": world.sandbox_url});
    let body = json!({"provider": "fcm", "config": config, "limits": {"per_second": 20}});
    let path = format!("/v1/apps/{}/channels/fcm", world.app_id);
    let put = world.call(&world.admin_key, Method::PUT, &path, Some(body)).await;
    assert!(put.status.is_success(), "{}", put.body);
    let campaign = send(&world, &world.api_key, &tokens("ok", 400), "marketing").await;
    let same = Neighbour { world: &world, key: world.api_key.clone() };
    let longest = same.login_codes(3).await;
    assert!(longest < PROMPT, "{longest:?}");
    let message = same.message(&campaign).await;
    assert_ne!(message["state"], "done", "the codes were not ahead of it: {message:#}");
    world.done(&campaign).await;
}
