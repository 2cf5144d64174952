//! An outside witness: builds the messages of `tests/fixtures/witness` with other people's types.
//!
//! Each fixture says what a backend asked for and what our adapter sends for it. The gateway's tests compare the
//! adapter with the fixture; this package compares the fixture with what another client builds for the same wish.

use std::collections::HashMap;

use a2::request::payload::PayloadLike;
use a2::{DefaultNotificationBuilder, NotificationBuilder, NotificationOptions};
use fcm_v1::android::{AndroidConfig, AndroidMessagePriority, AndroidNotification};
use fcm_v1::apns::ApnsConfig;
use fcm_v1::message::{Message, Notification};
use fcm_v1::webpush::{WebpushConfig, WebpushFcmOptions};
use serde_json::{Value, json};

/// The delivery key 1 as the adapter writes it, where a message has no collapse key.
const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAQ";

/// The bodies that `fcm_v1` builds, by the name of the fixture.
pub fn fcm_bodies() -> Vec<(&'static str, Value)> {
    vec![("fcm_notification", body(&notification())), ("fcm_data_only", body(&data_only()))]
}

/// The payloads that `a2` builds, by the name of the fixture.
pub fn apns_payloads() -> Vec<(&'static str, Value)> {
    let notification = DefaultNotificationBuilder::new()
        .set_title("Order shipped")
        .set_body("Your parcel leaves today")
        .set_sound("default")
        .set_badge(3)
        .set_category("ORDER")
        .set_mutable_content();
    let background = DefaultNotificationBuilder::new().set_content_available();
    let id = ("anypush_id", "msg_witness");
    vec![
        (
            "apns_notification",
            payload(
                notification,
                &[id, ("order", "42"), ("anypush_image", "https://cdn.example.com/p/42.png")],
            ),
        ),
        ("apns_background", payload(background, &[id, ("op", "sync"), ("cursor", "1700000000123")])),
    ]
}

fn payload(builder: DefaultNotificationBuilder<'_>, data: &[(&'static str, &str)]) -> Value {
    let mut payload = builder.build("witness-token", NotificationOptions::default());
    for (name, value) in data {
        payload.add_custom_data(name, value).expect("texts can be written as JSON");
    }
    let text = payload.to_json_string().expect("a payload can be written as JSON");
    serde_json::from_str(&text).expect("JSON")
}

fn body(message: &Message) -> Value {
    json!({"message": message})
}

fn texts<const N: usize>(pairs: [(&str, &str); N]) -> HashMap<String, Value> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect()
}

fn notification() -> Message {
    Message {
        token: Some("witness-token".into()),
        notification: Some(Notification {
            title: Some("Order shipped".into()),
            body: Some("Your parcel leaves today".into()),
            image: Some("https://cdn.example.com/p/42.png".into()),
        }),
        data: Some(texts([("order", "42"), ("anypush_id", "msg_witness")])),
        android: Some(AndroidConfig {
            collapse_key: Some("order-42".into()),
            priority: Some(AndroidMessagePriority::High),
            ttl: Some("3600s".into()),
            notification: Some(AndroidNotification {
                sound: Some("default".into()),
                tag: Some("order-42".into()),
                notification_count: Some(3),
                ..AndroidNotification::default()
            }),
            ..AndroidConfig::default()
        }),
        apns: Some(apns(
            texts([
                ("apns-collapse-id", "order-42"),
                ("apns-expiration", "1800003600"),
                ("apns-priority", "10"),
            ]),
            json!({"badge": 3, "sound": "default", "mutable-content": 1}),
        )),
        webpush: Some(webpush(texts([("TTL", "3600"), ("Topic", "order-42"), ("Urgency", "high")]))),
        ..Message::default()
    }
}

fn data_only() -> Message {
    Message {
        token: Some("witness-token".into()),
        data: Some(texts([("op", "sync"), ("cursor", "1700000000123"), ("anypush_id", "msg_witness")])),
        android: Some(AndroidConfig {
            priority: Some(AndroidMessagePriority::Normal),
            ttl: Some("60s".into()),
            ..AndroidConfig::default()
        }),
        apns: Some(apns(
            texts([
                ("apns-collapse-id", KEY),
                ("apns-expiration", "1800000060"),
                ("apns-priority", "5"),
                ("apns-push-type", "background"),
            ]),
            json!({"content-available": 1}),
        )),
        webpush: Some(webpush(texts([("TTL", "60"), ("Topic", KEY), ("Urgency", "normal")]))),
        ..Message::default()
    }
}

fn apns(headers: HashMap<String, Value>, aps: Value) -> ApnsConfig {
    let payload = HashMap::from([("aps".to_owned(), aps)]);
    ApnsConfig { headers: Some(headers), payload: Some(payload), fcm_options: None }
}

fn webpush(headers: HashMap<String, Value>) -> WebpushConfig {
    WebpushConfig {
        headers: Some(headers),
        fcm_options: WebpushFcmOptions::default(),
        ..WebpushConfig::default()
    }
}

/// Takes away what two clients may write differently and the vendor reads alike:
///
/// - empty objects (`fcm_v1` always writes `webpush.fcm_options`) and `validate_only: false`, which are defaults;
/// - the case of `android.priority` (`high`, `HIGH`: the vendor's own clients write both);
/// - `mutable-content: 0`, which `a2` always writes and is the default;
/// - fractions of whole durations (`3600s`, `3600.000000000s`).
pub fn normalised(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .filter(|(name, value)| !(*name == "validate_only" && **value == Value::Bool(false)))
                .filter(|(name, value)| !(*name == "mutable-content" && **value == 0))
                .map(|(name, value)| (name.clone(), field(name, value)))
                .filter(|(_, value)| !value.as_object().is_some_and(serde_json::Map::is_empty))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(normalised).collect()),
        other => other.clone(),
    }
}

fn field(name: &str, value: &Value) -> Value {
    match (name, value.as_str()) {
        ("priority", Some(text)) => text.to_uppercase().into(),
        ("ttl", Some(text)) => text.replace(".000000000s", "s").into(),
        _ => normalised(value),
    }
}
