//! What a user of this adapter gets, against a vendor that answers as it is told.

mod answers;
mod bearers;
mod callbacks;
mod configuration;
mod documented;
mod garbage;
mod payloads;
mod previews;
mod recorded;
mod sending;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::PROVIDER;
use crate::contract::{
    Address, Batch, Category, Content, Environment, MessageRef, OpenGate, Outcome, Provider, SendContext,
    Target, Token,
};
use crate::kit::testing::{FakeVendor, RSA_PEM, Reply, Seen, assert_contract, environment};

/// The vendor's samples.
const TOKEN: &str = "IQAAAACy0kYwAADWsJ-W5yOcL9booZtsJZj1yYqf3";
const OTHER: &str = "IQAAAACy0kYwAAC8mJ-W5yOcL9booZtsJZj1yYqf4";
const SECRET: &str = "canary/app+secret";
const ACCESS_TOKEN: &str = "CF/canary-access-token";
const REQUEST_ID: &str = "157278422841836431010901";

/// 2023-11-14T22:13:20Z.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn context() -> SendContext {
    SendContext { gate: Arc::new(OpenGate), now, callback_url: None }
}

fn config(base: &str) -> Value {
    json!({
        "app_id": "100000001",
        "app_secret": SECRET,
        "base_url": base,
        "token_url": format!("{base}/oauth2/v3/token"),
    })
}

fn account() -> Value {
    json!({
        "project_id": "736430079244623000",
        "key_id": "kid-test-0001",
        "private_key": RSA_PEM,
        "sub_account": "100000001",
        "auth_uri": "https://oauth-login.cloud.huawei.com/oauth2/v3/authorize",
        "token_uri": "https://oauth-login.cloud.huawei.com/oauth2/v3/token"
    })
}

/// A channel on `vendor`, whose requests take two seconds at most.
fn channel(vendor: &FakeVendor) -> Arc<dyn Provider> {
    build(&config(&vendor.url("")))
}

fn build(config: &Value) -> Arc<dyn Provider> {
    (PROVIDER.build)(config, &environment()).unwrap()
}

/// A vendor whose token endpoint works and whose send endpoint answers as told.
async fn vendor(send: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> FakeVendor {
    FakeVendor::start(move |seen| match seen.path.as_str() {
        "/oauth2/v3/token" => token_reply(),
        path if path.ends_with("/messages:send") => send(seen),
        _ => Reply::status(418),
    })
    .await
}

/// The vendor escapes the slash.
fn token_reply() -> Reply {
    Reply::ok(r#"{"access_token":"CF\/canary-access-token","expires_in":3600,"token_type":"Bearer"}"#)
}

fn answer(code: &str, msg: &str) -> Reply {
    Reply::ok(json!({"code": code, "msg": msg, "requestId": REQUEST_ID}).to_string())
}

fn accepted() -> Reply {
    answer("80000000", "Success")
}

fn partial(msg: &Value) -> Reply {
    answer("80100000", &msg.to_string())
}

fn target(token: &str, key: u128) -> Target {
    let address = Address { kind: "token".to_owned(), token: Token::new(token), params: BTreeMap::new() };
    Target { address, key, receipt_param: Some(format!("param-{key}").into()), variables: None }
}

fn batch(content: Content, tokens: &[&str]) -> Batch {
    Batch {
        message: MessageRef { id: "msg_1".to_owned(), page_key: 1, label: None },
        content: Arc::new(content),
        category: None,
        ttl: Duration::from_hours(24),
        targets: tokens.iter().zip(1..).map(|(token, key)| target(token, key)).collect(),
        attempt: 1,
    }
}

fn category(settings: Value) -> Arc<Category> {
    (PROVIDER.category.check)(&settings).unwrap();
    let Value::Object(settings) = settings else { panic!("must be an object") };
    Arc::new(Category { name: "orders".to_owned(), settings })
}

fn content(value: Value) -> Content {
    serde_json::from_value(value).unwrap()
}

fn hello() -> Content {
    content(json!({"notification": {"title": "Hello", "body": "You"}}))
}

/// Sends one notification and returns its outcome.
async fn send_one(channel: &dyn Provider) -> Outcome {
    send_to(channel, &[TOKEN]).await.remove(0)
}

async fn send_to(channel: &dyn Provider, tokens: &[&str]) -> Vec<Outcome> {
    assert_contract(channel, batch(hello(), tokens), context(), &[SECRET, ACCESS_TOKEN]).await
}

/// The body that a batch becomes.
async fn body_of(batch: Batch) -> Value {
    body_with(batch, config("")).await
}

async fn body_with(batch: Batch, mut config: Value) -> Value {
    let vendor = vendor(|_| accepted()).await;
    config["base_url"] = json!(vendor.url(""));
    config["token_url"] = json!(vendor.url("/oauth2/v3/token"));
    assert_contract(&*build(&config), batch, context(), &[SECRET, ACCESS_TOKEN]).await;
    vendor.requests_to(":send").remove(0).json()
}
