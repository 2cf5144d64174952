//! Held to the vendor's documented samples and to what its Python demo sends (`tests/fixtures/huawei`).

use http::{HeaderMap, Method};

use super::*;
use crate::contract::{CallbackRequest, ReceiptEvent, Verdict};

/// Where a message has a field, and of which JSON type.
fn shape(value: &Value, at: &str, found: &mut BTreeMap<String, &'static str>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(fields) => {
            for (name, field) in fields {
                shape(field, &format!("{at}/{name}"), found);
            }
            "object"
        }
    };
    found.insert(at.to_owned(), kind);
}

fn fixture(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Fields of the reference's tables that its samples lack.
const BEYOND: [&str; 5] = [
    "/message/android/notification/badge/set_num",
    "/message/android/notification/click_action/url",
    "/message/android/notification/default_sound",
    "/message/android/notification/sound",
    "/message/android/receipt_id",
];

#[tokio::test]
async fn every_field_stands_where_the_vendors_samples_have_it() {
    let mut documented = BTreeMap::new();
    for text in [
        include_str!("../../../tests/fixtures/huawei/notification.json"),
        include_str!("../../../tests/fixtures/huawei/data.json"),
    ] {
        shape(&fixture(text)["requests"][0]["body"], "", &mut documented);
    }
    let full = json!({
        "notification": {
            "title": "a", "body": "b", "image": "https://c.example", "sound": "ding.mp3", "badge": {"set": 1},
            "click": {"open": "url", "value": "https://e.example"}
        },
        "data": {"f": "g"},
        "collapse_key": "h"
    });
    let linked = json!({"notification": {"title": "a", "badge": {"add": 1}, "click": {"open": "deep_link", "value": "a://b"}}});
    for content_of in [full, linked, json!({"data": {"f": "g"}, "collapse_key": "h"})] {
        let mut batch = batch(content(content_of), &[TOKEN]);
        let settings =
            json!({"category": "EXPRESS", "channel_id": "orders", "receipt_id": "R", "collapse_group": 1});
        batch.category = Some(category(settings));
        let mut config = config("");
        config["badge_class"] = json!("com.example.app.MainActivity");
        config["test_messages"] = json!(true);
        let mut sent = BTreeMap::new();
        shape(&body_with(batch, config).await, "", &mut sent);
        for (at, kind) in sent {
            match documented.get(&at) {
                Some(theirs) => assert_eq!(kind, *theirs, "{at}"),
                None => assert!(BEYOND.contains(&at.as_str()), "the vendor's samples have no {at}"),
            }
        }
    }
}

#[tokio::test]
async fn the_access_token_is_asked_for_as_the_vendors_demo_does() {
    let recorded = fixture(include_str!("../../../tests/fixtures/huawei/token.json"))["requests"][0].take();
    let vendor = vendor(|_| accepted()).await;
    send_one(&*channel(&vendor)).await;
    let asked = vendor.requests_to("/token").remove(0);
    assert_eq!(asked.header("content-type"), recorded["headers"]["content-type"]);
    let form = asked.form();
    assert_eq!(
        form.keys().collect::<Vec<_>>(),
        recorded["form"].as_object().unwrap().keys().collect::<Vec<_>>()
    );
    assert_eq!(form["grant_type"], recorded["form"]["grant_type"]);
}

#[tokio::test]
async fn the_vendors_sample_answers_are_understood() {
    let tokens = ["ok-1", "ok-2", "ok-3", "dead-1"];
    for (name, text, expected) in [
        ("accepted", include_str!("../../../tests/fixtures/huawei/notification.json"), [true; 4]),
        (
            "partial",
            include_str!("../../../tests/fixtures/huawei/some_illegal_tokens.json"),
            [true, true, true, false],
        ),
    ] {
        let body = fixture(text)["requests"][0]["answer"].to_string();
        let vendor = vendor(move |_| Reply::ok(body.clone())).await;
        let outcomes = send_to(&*channel(&vendor), &tokens).await;
        let accepted: Vec<bool> =
            outcomes.iter().map(|outcome| outcome.verdict == Verdict::Accepted).collect();
        assert_eq!(accepted, expected, "{name}");
    }
}

#[test]
fn the_vendors_sample_callbacks_are_understood() {
    for (version, text) in [
        ("V1", include_str!("../../../tests/fixtures/huawei/receipts_v1.json")),
        ("V2", include_str!("../../../tests/fixtures/huawei/receipts_v2.json")),
    ] {
        let body = fixture(text)["requests"][0]["body"].take();
        let request = CallbackRequest {
            method: Method::POST,
            url: "https://gw.example/".to_owned(),
            headers: HeaderMap::new(),
            body: body.to_string().into(),
            received_at: now(),
        };
        let reply = build(&config("http://x.invalid")).parse_callback(&request).unwrap();
        let receipt = &reply.receipts[0];
        assert_eq!(receipt.event, ReceiptEvent::Delivered, "{version}");
        assert_eq!(receipt.param.as_deref(), Some("batch-20261120-1"));
        assert_eq!(receipt.vendor_id.as_deref(), Some(REQUEST_ID));
        assert_eq!(receipt.at, Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_607_832_761_768)));
    }
}
