//! What a user of this adapter gets, against a vendor that answers as it is told.

mod answers;
mod configuration;
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
    Address, Batch, Content, Environment, MessageRef, OpenGate, Outcome, Provider, SendContext, Target, Token,
};
use crate::kit::testing::{FakeVendor, RSA_PEM, Reply, Seen, assert_contract, environment};

const TOKEN: &str = "bk3RNwTe3H0:CI2k_HHwgIpoDKCIZvvDMExUdFQ3P1";
const ACCESS_TOKEN: &str = "ya29.canary-access-token";
const NAME: &str = "projects/demo-proj/messages/0:1700000000000000%31bd1c9631bd1c96";

/// 2023-11-14T22:13:20Z.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn context() -> SendContext {
    SendContext { gate: Arc::new(OpenGate), now, callback_url: None }
}

fn account() -> Value {
    json!({
        "type": "service_account",
        "project_id": "demo-proj",
        "private_key_id": "key-1",
        "private_key": RSA_PEM,
        "client_email": "sender@demo-proj.iam.gserviceaccount.com",
        "client_id": "1",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": "https://oauth2.googleapis.com/token",
        "universe_domain": "googleapis.com"
    })
}

/// A channel on `vendor`, whose requests take two seconds at most.
fn channel(vendor: &FakeVendor) -> Arc<dyn Provider> {
    let config = json!({
        "service_account": account(),
        "base_url": vendor.url(""),
        "token_url": vendor.url("/token"),
    });
    build(&config)
}

fn build(config: &Value) -> Arc<dyn Provider> {
    (PROVIDER.build)(config, &environment()).unwrap()
}

/// A vendor whose token endpoint works and whose send endpoint answers as told.
async fn vendor(send: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> FakeVendor {
    FakeVendor::start(move |seen| match seen.path.as_str() {
        "/token" => token_reply(),
        "/v1/projects/demo-proj/messages:send" => send(seen),
        _ => Reply::status(418),
    })
    .await
}

fn token_reply() -> Reply {
    let body = json!({"access_token": ACCESS_TOKEN, "expires_in": 3599, "token_type": "Bearer"});
    Reply::ok(body.to_string())
}

fn accepted() -> Reply {
    Reply::ok(json!({"name": NAME}).to_string())
}

fn target(token: &str, key: u128) -> Target {
    let address = Address { kind: "token".to_owned(), token: Token::new(token), params: BTreeMap::new() };
    Target { address, key, receipt_param: None, variables: None }
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

fn hello() -> Content {
    serde_json::from_value(json!({"notification": {"title": "Hello", "body": "You"}})).unwrap()
}

/// Sends one notification and returns its outcome.
async fn send_one(channel: &dyn Provider) -> Outcome {
    let secrets = [ACCESS_TOKEN, RSA_PEM];
    assert_contract(channel, batch(hello(), &[TOKEN]), context(), &secrets).await.remove(0)
}
