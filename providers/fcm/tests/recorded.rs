//! Held to what the vendor's own client sends: requests recorded from firebase-admin-python 7.7.0 and google-auth
//! 2.62 (`tests/fixtures/fcm`), written by neither us nor the sandbox.

use std::collections::BTreeMap;

use super::super::payload::render;
use super::*;

/// Where the recorded message has a field, and of which JSON type: `android.ttl` → `string`.
fn shape(value: &Value, at: &str, found: &mut BTreeMap<String, &'static str>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(fields) => {
            for (name, field) in fields {
                shape(field, &format!("{at}.{name}"), found);
            }
            "object"
        }
    };
    found.insert(at.to_owned(), kind);
}

fn shape_of(message: &Value) -> BTreeMap<String, &'static str> {
    let mut found = BTreeMap::new();
    for (name, field) in message.as_object().unwrap() {
        shape(field, name, &mut found);
    }
    // What a caller names is the caller's.
    found.retain(|at, _| !at.starts_with("data."));
    found
}

fn fixture(text: &str) -> Value {
    serde_json::from_str::<Value>(text).unwrap()["requests"][0].take()
}

/// Fields that the recording lacks: headers of Apple and of web push, which are free maps in the client, and two
/// flags of `aps` (developer.apple.com "Generating a remote notification").
const BEYOND: [&str; 5] = [
    "apns.headers.apns-expiration",
    "apns.headers.apns-push-type",
    "apns.payload.aps.content-available",
    "apns.payload.aps.mutable-content",
    "webpush.headers.Topic",
];

#[test]
fn every_field_stands_where_the_vendors_own_client_puts_it() {
    let recorded = fixture(include_str!("../../../tests/fixtures/fcm/send_full_notification.json"));
    let recorded = shape_of(&recorded["body"]["message"]);
    let full = json!({
        "notification": {
            "title": "a", "body": "b", "image": "https://c.example", "sound": "default", "badge": {"set": 1},
            "actions_category": "d", "click": {"open": "url", "value": "https://e.example"}
        },
        "data": {"f": "g"},
        "collapse_key": "h"
    });
    let silent = json!({"data": {"f": "g"}, "collapse_key": "h"});
    for content in [full, silent] {
        let mut batch = batch(serde_json::from_value(content).unwrap(), &[TOKEN]);
        batch.message.label = Some("label".to_owned());
        let body = render(&batch, now()).unwrap().body(&batch.targets[0].address, 1, false);
        let sent: Value = serde_json::from_slice(&body).unwrap();
        for (at, kind) in shape_of(&sent["message"]) {
            match recorded.get(&at) {
                Some(theirs) => assert_eq!(kind, *theirs, "{at}"),
                None => assert!(BEYOND.contains(&at.as_str()), "the vendor's client has no {at}"),
            }
        }
    }
}

#[tokio::test]
async fn the_access_token_is_asked_for_as_the_vendors_own_client_does() {
    let recorded = fixture(include_str!("../../../tests/fixtures/fcm/token.json"));
    let vendor = vendor(|_| accepted()).await;
    send_one(&*channel(&vendor)).await;
    let asked = vendor.requests_to("/token").remove(0);
    assert_eq!(asked.header("content-type"), recorded["headers"]["content-type"]);
    let form: BTreeMap<String, String> = url::form_urlencoded::parse(&asked.body).into_owned().collect();
    let expected: Vec<&String> = recorded["form"].as_object().unwrap().keys().collect();
    assert_eq!(form.keys().collect::<Vec<_>>(), expected);
    assert_eq!(form["grant_type"], recorded["form"]["grant_type"]);
}
