//! What a user of this adapter gets, against a vendor that answers as it is told.

mod answers;
mod callbacks;
mod configuration;
mod payloads;
mod recorded;
mod sending;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::PROVIDER;
use crate::contract::{
    Address, Batch, Content, Environment, Failure, MessageRef, OpenGate, Outcome, Provider, SendContext,
    Target, Token, Verdict,
};
use crate::kit::testing::{FakeVendor, Reply, Seen, assert_contract, environment};

const ACCOUNT: &str = "ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const KEY: &str = "SKcccccccccccccccccccccccccccccccc";
const SID: &str = "SMbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const SECRET: &str = "canary-api-secret";
const TOKEN: &str = "canary-auth-token";
const NUMBER: &str = "+15551234567";
const CALLBACK: &str = "https://push.example.com/v1/callbacks/chn_1/canary-path-secret";

/// 2023-11-14T22:13:20Z.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn context() -> SendContext {
    SendContext { gate: Arc::new(OpenGate), now, callback_url: Some(CALLBACK.into()) }
}

fn settings(base_url: &str) -> Value {
    json!({
        "account_sid": ACCOUNT, "api_key_sid": KEY, "api_key_secret": SECRET, "auth_token": TOKEN,
        "from": "+15557654321", "base_url": base_url,
    })
}

fn with(mut settings: Value, more: &Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        settings[name] = value.clone();
    }
    settings
}

fn without(mut settings: Value, names: &[&str]) -> Value {
    for name in names {
        settings.as_object_mut().unwrap().remove(*name);
    }
    settings
}

/// A channel whose requests take two seconds at most.
fn build(config: &Value) -> Arc<dyn Provider> {
    (PROVIDER.build)(config, &environment()).unwrap()
}

fn channel(vendor: &FakeVendor) -> Arc<dyn Provider> {
    build(&settings(&vendor.url("")))
}

async fn vendor(send: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> FakeVendor {
    FakeVendor::start(send).await
}

fn message(status: &str) -> Value {
    json!({
        "sid": SID, "status": status, "num_segments": "1", "price": null, "price_unit": "USD", "error_code": null,
        "error_message": null, "to": NUMBER, "from": null, "account_sid": ACCOUNT,
    })
}

fn queued() -> Reply {
    Reply::status(201).body(message("queued").to_string())
}

fn target(number: &str, key: u128) -> Target {
    let address = Address { kind: "phone".to_owned(), token: Token::new(number), params: BTreeMap::new() };
    Target { address, key, receipt_param: Some(format!("param-{key}").into()), variables: None }
}

fn batch(content: Value, numbers: &[&str]) -> Batch {
    let content: Content = serde_json::from_value(content).unwrap();
    Batch {
        message: MessageRef { id: "msg_1".to_owned(), page_key: 1, label: None },
        content: Arc::new(content),
        category: None,
        ttl: Duration::from_hours(1),
        targets: numbers.iter().zip(1..).map(|(number, key)| target(number, key)).collect(),
        attempt: 1,
    }
}

fn hello() -> Value {
    json!({"notification": {"body": "Héllo €"}})
}

/// Sends one text and returns its outcome.
async fn send_one(channel: &dyn Provider) -> Outcome {
    let secrets = [SECRET, TOKEN, "canary-path-secret"];
    assert_contract(channel, batch(hello(), &[NUMBER]), context(), &secrets).await.remove(0)
}

fn failed(outcome: &Outcome) -> &Failure {
    match &outcome.verdict {
        Verdict::Failed(failure) => failure,
        Verdict::Accepted => panic!("accepted: {outcome:?}"),
    }
}
