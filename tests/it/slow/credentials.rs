//! C31. Credentials that end in the middle of a campaign: access tokens are renewed once for everybody, and what meets
//! credentials that are refused waits until somebody mends them; nothing fails for it.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{PATIENCE, World};

const MESSAGES: u64 = 40;
/// Phones of each message.
const EACH: u64 = 10;
const ALL: u64 = MESSAGES * EACH;

/// A world whose channel `vendor` is this provider's, slow enough that a campaign has a middle; and its configuration.
async fn world(provider: &str) -> (World, Value) {
    let mut world = World::start().await;
    world.env = vec![("ANYPUSH_PUBLIC_URL", world.url.clone())];
    assert!(world.stop_gateway().success());
    world.start_gateway().await;
    let sample = world.sample(provider).await;
    let channel =
        json!({"provider": provider, "config": sample["channel_config"], "limits": {"per_second": 100}});
    put(&world, &channel).await;
    let tokens = world.sandbox(Method::GET, &format!("/tokens/{provider}?count={EACH}"), None).await;
    let phones = tokens["tokens"].as_array().unwrap().iter().enumerate().map(|(n, token)| {
        let mut address = sample["devices"][0]["address"].clone();
        address["token"] = token.clone();
        (format!("d{n}"), json!({"addresses": [address]}))
    });
    world.put_devices(phones.collect()).await;
    (world, channel)
}

fn path(world: &World) -> String {
    format!("/v1/apps/{}/channels/vendor", world.app_id)
}

async fn put(world: &World, channel: &Value) {
    let made = world.call(&world.admin_key, Method::PUT, &path(world), Some(channel.clone())).await;
    assert!(made.status.is_success(), "{} {:#}", made.status, made.body);
}

async fn sums(world: &World, provider: &str) -> Value {
    world.sandbox(Method::GET, "/summary", None).await["by_provider"][provider].clone()
}

/// Sends the campaign, and waits until the vendor has taken some of it.
async fn begin(world: &World, provider: &str) -> Vec<String> {
    let before = sums(world, provider).await["accepted"].as_u64().unwrap_or_default();
    let devices: Vec<_> = (0..EACH).map(|n| format!("d{n}")).collect();
    let mut ids = Vec::new();
    for n in 0..MESSAGES {
        let message = json!({
            "to": {"device_ids": devices}, "notification": {"title": "Hello", "body": format!("number {n}")},
            "route": {"steps": [{"use": "vendor"}]},
        });
        ids.push(world.send(message).await);
    }
    let until = Instant::now() + PATIENCE;
    while sums(world, provider).await["accepted"].as_u64().unwrap_or_default() < before + EACH {
        assert!(Instant::now() < until, "the vendor takes nothing");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ids
}

/// How many deliveries of these are in this state.
async fn now(world: &World, ids: &[String], state: &str) -> u64 {
    let mut sum = 0;
    for id in ids {
        sum += world.until(id, |_| true).await["counts"]["now"][state].as_u64().unwrap();
    }
    sum
}

async fn arrived(world: &World, ids: &[String]) {
    for id in ids {
        let message = world.done(id).await;
        assert_eq!(message["counts"]["now"]["accepted"], EACH, "{message:#}");
    }
}

/// Access tokens that are withdrawn in the middle: nobody waits, nobody fails, and one new one serves all.
async fn a_new_token_serves_all(provider: &str, withdraw: &str) {
    let (world, _) = world(provider).await;
    let ids = begin(&world, provider).await;
    let granted =
        async || sums(&world, provider).await["other"]["token/granted"].as_u64().unwrap_or_default();
    let before = granted().await;
    world.sandbox(Method::POST, withdraw, None).await;
    assert!(now(&world, &ids, "pending").await > 0, "all was sent: this proves nothing");
    arrived(&world, &ids).await;
    assert_eq!(granted().await - before, 1, "one refresh for everybody");
    let channel = world.call(&world.admin_key, Method::GET, &path(&world), None).await;
    assert_eq!(channel.body["state"], "ok", "{:#}", channel.body);
    let sums = sums(&world, provider).await;
    assert_eq!((&sums["accepted"], &sums["duplicates"]), (&json!(ALL), &json!(0)), "{sums:#}");
}

/// Credentials that are refused in the middle: what is left waits, and goes on when somebody puts the channel anew.
async fn what_is_left_waits(provider: &str) {
    let (world, channel) = world(provider).await;
    let ids = begin(&world, provider).await;
    world
        .sandbox(Method::PUT, &format!("/providers/{provider}"), Some(json!({"credentials": "refused"})))
        .await;
    let until = Instant::now() + PATIENCE;
    while world.call(&world.admin_key, Method::GET, &path(&world), None).await.body["state"] != "auth_failed"
    {
        assert!(Instant::now() < until, "nobody was told");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (waits, has) = (now(&world, &ids, "pending").await, now(&world, &ids, "accepted").await);
    assert!(waits > 0 && waits + has == ALL, "{waits} wait, {has} were taken, the others were given up");
    world.sandbox(Method::PUT, &format!("/providers/{provider}"), Some(json!({"credentials": "ok"}))).await;
    put(&world, &channel).await;
    arrived(&world, &ids).await;
    let sums = sums(&world, provider).await;
    assert_eq!((&sums["accepted"], &sums["duplicates"]), (&json!(ALL), &json!(0)), "{sums:#}");
    let channel = world.call(&world.admin_key, Method::GET, &path(&world), None).await;
    assert_eq!(channel.body["state"], "ok", "{:#}", channel.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fcm_tokens_that_are_withdrawn_in_the_middle_are_renewed_once_for_everybody() {
    a_new_token_serves_all("fcm", "/fcm/demo-project/withdraw_tokens").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn huawei_tokens_that_are_withdrawn_in_the_middle_are_renewed_once_for_everybody() {
    a_new_token_serves_all("huawei", "/huawei/100001/withdraw_tokens").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fcm_refuses_in_the_middle_waits_for_the_credentials_to_be_mended() {
    what_is_left_waits("fcm").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_huawei_refuses_in_the_middle_waits_for_the_credentials_to_be_mended() {
    what_is_left_waits("huawei").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_apns_refuses_in_the_middle_waits_for_the_credentials_to_be_mended() {
    what_is_left_waits("apns").await;
}
