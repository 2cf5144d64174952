//! The vendor's callback → receipts. It carries no signature: the secret in the URL that each request names is what
//! authenticates it (the gateway has compared it before).

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::contract::{CallbackReply, CallbackRequest, Reason, Receipt, ReceiptEvent, VendorEcho, Witness};
use crate::kit::echo;

/// All bits that we understand. A mask that counts 3 beside 1 and 2 silently disables callbacks (CSDN, a report of the
/// vendor's support): this is the sum of single bits.
pub(super) const SUBSCRIBED: u32 = 1267;

/// What each bit of `type` reports (dev.mi.com pId=1558 of 2024-10-22; 1024: pId=1854).
const EVENTS: [(u64, ReceiptEvent); 7] = [
    (1, ReceiptEvent::Delivered),
    (2, ReceiptEvent::Clicked),
    (16, ReceiptEvent::failed(Reason::InvalidToken)),
    // The person or the app has switched pushes off: the token stays good.
    (32, ReceiptEvent::failed(Reason::DeviceUnavailable)),
    // The phone does not fit the filter (locale, model, version).
    (64, ReceiptEvent::failed(Reason::DeviceUnavailable)),
    (128, ReceiptEvent::failed(Reason::QuotaExceeded)),
    // Its time was over: no other channel may bring it then.
    (1024, ReceiptEvent::ended(Reason::Expired)),
];

/// Reads a callback. It is always answered with 200: one 406 made the vendor stop calling (CSDN).
pub(super) fn read(request: &CallbackRequest) -> CallbackReply {
    let receipts = document(request)
        .as_ref()
        .and_then(Value::as_object)
        .map(|messages| messages.iter().flat_map(|(id, report)| message(id, report)).collect())
        .unwrap_or_default();
    CallbackReply { receipts, authenticated: true, status: StatusCode::OK, body: "{}".into() }
}

/// A form with one field `data`; some receivers are written for a bare JSON body.
fn document(request: &CallbackRequest) -> Option<Value> {
    if !is_json(&request.headers) {
        let data = url::form_urlencoded::parse(&request.body).find(|(name, _)| name == "data");
        if let Some((_, text)) = data {
            return serde_json::from_str(&text).ok();
        }
    }
    serde_json::from_slice(&request.body).ok()
}

fn is_json(headers: &HeaderMap) -> bool {
    let said = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    said.is_some_and(|said| said.trim_start().to_ascii_lowercase().starts_with("application/json"))
}

/// The receipts about one message: each of its targets, each event of its type.
fn message(id: &str, report: &Value) -> Vec<Receipt> {
    let Some(kind) = number(&report["type"]) else { return Vec::new() };
    let targets = report["targets"].as_str().unwrap_or_default();
    let targets: Vec<&str> = targets.split(',').map(str::trim).filter(|target| !target.is_empty()).collect();
    let param = report["param"].as_str().filter(|param| !param.is_empty()).map(ToOwned::to_owned);
    let at =
        number(&report["timestamp"]).map(|ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms.min(MAX_MS)));
    let extra = extra(report);
    let of = |token: Option<&str>, event| Receipt {
        param: param.clone(),
        vendor_id: Some(id.to_owned()).filter(|id| !id.is_empty()),
        token: token.map(ToOwned::to_owned),
        event,
        witness: Witness::Vendor,
        at,
        vendor: VendorEcho {
            id: echo::words(id, &[]),
            code: Some(format!("type {kind}")),
            ..VendorEcho::default()
        },
        extra: extra.clone(),
    };
    let events: Vec<ReceiptEvent> =
        EVENTS.into_iter().filter(|(bit, _)| kind & bit != 0).map(|(_, event)| event).collect();
    events
        .into_iter()
        .flat_map(|event| {
            // A report without targets is about all that the request carried.
            let tokens =
                if targets.is_empty() { vec![None] } else { targets.iter().map(|t| Some(*t)).collect() };
            tokens.into_iter().map(move |token| (token, event))
        })
        .map(|(token, event)| of(token, event))
        .collect()
}

/// The year 9999: a later time is a mistake, and no sum with it may overflow.
const MAX_MS: u64 = 253_402_300_799_000;

/// What else is worth a line in the trail. Replaced tokens are left out: they are tokens.
fn extra(report: &Value) -> BTreeMap<String, String> {
    let mut extra = BTreeMap::new();
    let mut keep = |name: &str, value: &Value| {
        let text = match value {
            Value::String(text) => echo::words(text, &[]),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        if let Some(text) = text {
            extra.insert(name.to_owned(), text);
        }
    };
    keep("bar_status", &report["barStatus"]);
    keep("error_code", &report["errorCode"]);
    keep("job_key", &report["jobkey"]);
    keep("delivered_today", &report["extra"]["ack"]);
    keep("quota", &report["extra"]["quota"]);
    if report["replaceTarget"].as_object().is_some_and(|map| !map.is_empty()) {
        extra.insert("token_replaced".to_owned(), "true".to_owned());
    }
    extra
}

/// A number, or its text.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}
