//! What a user of this adapter gets, against a vendor that answers as it is told.

mod answers;
mod asking;
mod callbacks;
mod configuration;
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
use crate::kit::testing::{FakeVendor, Reply, Seen, assert_contract, environment};

/// The sheet's example: `+`, `/` and `=` all occur.
const TOKEN: &str = "0VcFXB+GdD/q=";
const SECRET: &str = "AbCdSecret";
const CALLBACK: &str = "https://gw.example/v1/callbacks/chn_1/s3cret";

/// 2023-11-14T22:13:20Z: in China it is the 15th already.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn context() -> SendContext {
    SendContext { gate: Arc::new(OpenGate), now, callback_url: None }
}

fn config(base: &str) -> Value {
    json!({
        "app_secret": SECRET,
        "package_name": "com.example.app",
        "private_channel_id": "118442",
        "public_channel_id": "118443",
        "base_url": base,
    })
}

/// A channel on `vendor`, whose requests take two seconds at most.
fn channel(vendor: &FakeVendor) -> Arc<dyn Provider> {
    build(&config(&vendor.url("")))
}

fn build(config: &Value) -> Arc<dyn Provider> {
    (PROVIDER.build)(config, &environment()).unwrap()
}

/// A vendor that answers every send as told.
async fn vendor(send: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> FakeVendor {
    FakeVendor::start(move |seen| match seen.path.as_str() {
        "/v3/message/regid" => send(seen),
        _ => Reply::status(418),
    })
    .await
}

fn accepted() -> Reply {
    accepted_with(json!({}))
}

/// An acceptance with more in its `data`.
fn accepted_with(more: Value) -> Reply {
    let mut data = json!({"id": "sdm001", "day_quota": "100000", "day_acked": "12"});
    let Value::Object(more) = more else { panic!("must be an object") };
    data.as_object_mut().unwrap().extend(more);
    let info = "Received push messages for 3 REGID";
    let body = json!({"result": "ok", "trace_id": "Xdm1", "code": 0, "data": data, "description": "成功", "info": info});
    Reply::ok(body.to_string())
}

fn refused(code: i64, reason: &str) -> Reply {
    let body =
        json!({"result": "error", "trace_id": "Xcm1", "code": code, "reason": reason, "description": "失败"});
    Reply::ok(body.to_string())
}

fn target(token: &str, key: u128) -> Target {
    let address = Address { kind: "regid".to_owned(), token: Token::new(token), params: BTreeMap::new() };
    Target { address, key, receipt_param: Some(format!("param-{key}").into()), variables: None }
}

fn in_region(token: &str, key: u128, region: &str) -> Target {
    let mut target = target(token, key);
    target.address.params.insert("region".to_owned(), region.to_owned());
    target
}

fn batch(content: Content, tokens: &[&str]) -> Batch {
    let targets = tokens.iter().zip(1..).map(|(token, key)| target(token, key)).collect();
    batch_to(content, targets)
}

fn batch_to(content: Content, targets: Vec<Target>) -> Batch {
    Batch {
        message: MessageRef { id: "msg_1".to_owned(), page_key: 1, label: None },
        content: Arc::new(content),
        category: None,
        ttl: Duration::from_hours(1),
        targets,
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
    content(json!({"notification": {"title": "订单", "body": "已发货"}}))
}

/// Sends one notification and returns its outcome.
async fn send_one(channel: &dyn Provider) -> Outcome {
    send_to(channel, &[TOKEN]).await.remove(0)
}

async fn send_to(channel: &dyn Provider, tokens: &[&str]) -> Vec<Outcome> {
    assert_contract(channel, batch(hello(), tokens), context(), &[SECRET]).await
}

/// The form that a content becomes for one target.
async fn form_of(batch: Batch) -> BTreeMap<String, String> {
    form_with(batch, config("http://x.invalid")).await
}

async fn form_with(batch: Batch, mut config: Value) -> BTreeMap<String, String> {
    let vendor = vendor(|_| accepted()).await;
    config["base_url"] = json!(vendor.url(""));
    assert_contract(&*build(&config), batch, context(), &[SECRET]).await;
    vendor.requests().remove(0).form()
}
