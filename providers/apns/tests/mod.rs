//! What a user of this adapter gets, against a vendor that answers as it is told.

mod answers;
mod certificates;
mod configuration;
mod connections;
mod payloads;
mod recorded;
mod sending;
mod witness;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::PROVIDER;
use crate::contract::{
    Address, Batch, Content, Environment, Failure, MessageRef, OpenGate, Outcome, Provider, SendContext,
    Target, Token, Verdict,
};
use crate::kit::testing::{EC_PEM, FakeVendor, Reply, Seen, assert_contract, environment};

/// The vendor's own example.
const TOKEN: &str = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0";
const APNS_ID: &str = "eabeae54-14a8-11e5-b60b-1697f925ec7b";

/// 2023-11-14T22:13:20Z.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn context() -> SendContext {
    SendContext { gate: Arc::new(OpenGate), now, callback_url: None }
}

/// Settings of a channel with a key. The process shares tokens by key: each test has an id of its own.
fn settings(base_url: &str, key_id: &str) -> Value {
    json!({
        "key_p8": EC_PEM,
        "key_id": key_id,
        "team_id": "DEF123GHIJ",
        "bundle_id": "com.example.app",
        "base_url": base_url,
    })
}

fn with(mut settings: Value, more: &Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        settings[name] = value.clone();
    }
    settings
}

/// A channel whose requests take two seconds at most.
fn build(config: &Value) -> Arc<dyn Provider> {
    (PROVIDER.build)(config, &environment()).unwrap()
}

fn channel(vendor: &FakeVendor) -> Arc<dyn Provider> {
    build(&settings(&vendor.url(""), "ABC123DEFG"))
}

async fn vendor(send: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> FakeVendor {
    FakeVendor::start(send).await
}

fn accepted() -> Reply {
    Reply::status(200).header("apns-id", APNS_ID)
}

fn refused(status: u16, reason: &str) -> Reply {
    Reply::status(status).header("apns-id", APNS_ID).body(json!({"reason": reason}).to_string())
}

fn target(token: &str, key: u128) -> Target {
    let address = Address { kind: "device".to_owned(), token: Token::new(token), params: BTreeMap::new() };
    Target { address, key, receipt_param: None, variables: None }
}

fn batch(content: Value, tokens: &[&str]) -> Batch {
    let content: Content = serde_json::from_value(content).unwrap();
    Batch {
        message: MessageRef { id: "msg_1".to_owned(), page_key: 1, label: None },
        content: Arc::new(content),
        category: None,
        ttl: Duration::from_hours(24),
        targets: tokens.iter().zip(1..).map(|(token, key)| target(token, key)).collect(),
        attempt: 1,
    }
}

fn hello() -> Value {
    json!({"notification": {"title": "Hello", "body": "You"}})
}

/// Sends one notification and returns its outcome.
async fn send_one(channel: &dyn Provider) -> Outcome {
    let key: String = EC_PEM.lines().nth(1).unwrap().to_owned();
    assert_contract(channel, batch(hello(), &[TOKEN]), context(), &[&key, "eyJhbGci"]).await.remove(0)
}

fn failed(outcome: &Outcome) -> &Failure {
    match &outcome.verdict {
        Verdict::Failed(failure) => failure,
        Verdict::Accepted => panic!("accepted: {outcome:?}"),
    }
}
