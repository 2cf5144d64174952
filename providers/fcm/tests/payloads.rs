//! Content → message, against literal JSON.

use proptest::prelude::*;

use super::super::category;
use super::super::payload::{MAX_BYTES, key_text, render};
use super::*;
use crate::contract::{Category, Reason, Verdict};
use crate::kit::failure::Unsendable;

fn rendered(batch: &Batch) -> Result<Value, Unsendable> {
    let body = render(batch, now())?.body(&batch.targets[0].address, batch.targets[0].key, false);
    Ok(serde_json::from_slice(&body).unwrap())
}

fn content(content: Value) -> Content {
    serde_json::from_value(content).unwrap()
}

#[test]
fn a_notification_reaches_each_platform_in_its_own_words() {
    let mut batch = batch(
        content(json!({
            "notification": {
                "title": "Order shipped",
                "body": "Your parcel leaves today",
                "image": "https://cdn.example.com/p/42.png",
                "sound": "default",
                "badge": {"set": 3},
                "actions_category": "ORDER",
                "click": {"open": "url", "value": "https://example.com/orders/42"}
            },
            "data": {"orderId": "42"},
            "collapse_key": "order-42",
            "overrides": {"fcm": {"android": {
                "restricted_package_name": "com.example.app",
                "notification": {"channel_id": "orders", "click_action": "OPEN_ORDER"}
            }}}
        })),
        &[TOKEN],
    );
    batch.message.label = Some("orders".to_owned());
    let expected = json!({"message": {
        "token": TOKEN,
        "notification": {
            "title": "Order shipped",
            "body": "Your parcel leaves today",
            "image": "https://cdn.example.com/p/42.png"
        },
        "data": {
            "orderId": "42",
            "anypush_id": "msg_1",
            "anypush_open": "url",
            "anypush_open_value": "https://example.com/orders/42"
        },
        "android": {
            "collapse_key": "order-42",
            "priority": "HIGH",
            "ttl": "86400s",
            "restricted_package_name": "com.example.app",
            "notification": {
                "channel_id": "orders",
                "tag": "order-42",
                "click_action": "OPEN_ORDER",
                "sound": "default",
                "notification_count": 3
            }
        },
        "apns": {
            "headers": {
                "apns-priority": "10",
                "apns-collapse-id": "order-42",
                "apns-expiration": "1700086400"
            },
            "payload": {"aps": {"badge": 3, "sound": "default", "category": "ORDER", "mutable-content": 1}}
        },
        "webpush": {
            "headers": {"TTL": "86400", "Urgency": "high", "Topic": "order-42"},
            "fcm_options": {"link": "https://example.com/orders/42"}
        },
        "fcm_options": {"analytics_label": "orders"}
    }});
    assert_eq!(rendered(&batch), Ok(expected));
}

#[test]
fn a_category_names_androids_channel_and_what_iphones_know_and_the_message_goes_first() {
    let settings = json!({
        "channel_id": "orders", "sound": "order.caf", "actions_category": "ORDER", "thread_id": "orders",
        "interruption_level": "time-sensitive"
    });
    assert_eq!(category::check(&settings), Ok(()));
    let settings = settings.as_object().cloned().unwrap();
    let category = Some(Arc::new(Category { name: "order_update".to_owned(), settings }));
    let of = |notification: Value| {
        let content = content(json!({"notification": notification}));
        let Value::Object(message) =
            rendered(&Batch { category: category.clone(), ..batch(content, &[TOKEN]) }).unwrap()
        else {
            unreachable!("a message is an object")
        };
        (
            message["message"]["android"]["notification"].clone(),
            message["message"]["apns"]["payload"]["aps"].clone(),
        )
    };
    let (android, aps) = of(json!({"title": "Shipped"}));
    assert_eq!(android["channel_id"], "orders");
    assert_eq!(android["sound"], "order.caf");
    let expected = json!({
        "sound": "order.caf", "category": "ORDER", "thread-id": "orders", "interruption-level": "time-sensitive"
    });
    assert_eq!(aps, expected);
    let (android, aps) = of(json!({"title": "Shipped", "sound": "own.caf", "actions_category": "OWN"}));
    assert_eq!(
        (&android["sound"], &aps["sound"], &aps["category"]),
        (&json!("own.caf"), &json!("own.caf"), &json!("OWN"))
    );

    let wrong = category::check(&json!({"interruption_level": "loud", "chanel_id": "orders"})).unwrap_err();
    assert_eq!(wrong.0.len(), 2, "all mistakes at once: {wrong:?}");
}

#[test]
fn a_silent_message_wakes_no_screen() {
    let mut batch = batch(
        content(json!({
            "data": {"op": "sync", "cursor": "1700000000123"},
            "priority": "normal",
            "collapse_key": "sync"
        })),
        &[TOKEN],
    );
    batch.ttl = Duration::ZERO;
    let expected = json!({"message": {
        "token": TOKEN,
        "data": {"op": "sync", "cursor": "1700000000123", "anypush_id": "msg_1"},
        "android": {"priority": "NORMAL", "ttl": "0s", "collapse_key": "sync"},
        "apns": {
            "headers": {
                "apns-priority": "5",
                "apns-push-type": "background",
                "apns-collapse-id": "sync",
                "apns-expiration": "0"
            },
            "payload": {"aps": {"content-available": 1}}
        },
        "webpush": {"headers": {"TTL": "0", "Urgency": "normal", "Topic": "sync"}}
    }});
    assert_eq!(rendered(&batch), Ok(expected));
}

#[test]
fn a_repeat_replaces_itself_on_the_screen_and_other_devices_keys_differ() {
    let batch = batch(hello(), &["one", "two"]);
    let template = render(&batch, now()).unwrap();
    let bodies: Vec<Value> = batch
        .targets
        .iter()
        .map(|target| serde_json::from_slice(&template.body(&target.address, target.key, false)).unwrap())
        .collect();
    for (body, target) in bodies.iter().zip(&batch.targets) {
        let key = key_text(target.key);
        assert!(
            key.len() == 22 && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        );
        let message = &body["message"];
        assert_eq!(message["token"], target.address.token.expose());
        assert_eq!(message["android"]["notification"]["tag"], key);
        assert_eq!(message["apns"]["headers"]["apns-collapse-id"], key);
        assert_eq!(message["webpush"]["headers"]["Topic"], key);
        // At most four of these may wait on a device: only a caller's own key is worth one.
        assert_eq!(message["android"].get("collapse_key"), None);
    }
    assert_ne!(bodies[0]["message"]["android"], bodies[1]["message"]["android"]);
}

#[test]
fn an_installation_id_is_sent_under_its_own_name() {
    let mut batch = batch(hello(), &["fid-1"]);
    batch.targets[0].address.kind = "fid".to_owned();
    let message = rendered(&batch).unwrap();
    assert_eq!((&message["message"]["fid"], message["message"].get("token")), (&json!("fid-1"), None));
}

#[test]
fn a_collapse_key_that_a_platform_cannot_take_is_hashed_for_it_alone() {
    for key in ["ü".to_owned(), "a b".to_owned(), "x".repeat(65), "a\r\nauthorization: x".to_owned()] {
        let batch = batch(content(json!({"notification": {"title": "x"}, "collapse_key": key})), &[TOKEN]);
        let message = rendered(&batch).unwrap()["message"].take();
        assert_eq!(message["android"]["collapse_key"], *key);
        let apns = message["apns"]["headers"]["apns-collapse-id"].as_str().unwrap();
        let topic = message["webpush"]["headers"]["Topic"].as_str().unwrap();
        assert_eq!((apns.len(), topic.len()), (43, 32));
        assert!(apns.starts_with(topic));
    }
}

#[test]
fn a_label_that_the_vendor_would_refuse_is_left_out() {
    for (label, sent) in [("Spring-24_a.b~c%", true), ("two words", false), ("ü", false), ("", false)] {
        let mut batch = batch(hello(), &[TOKEN]);
        batch.message.label = Some(label.to_owned());
        let message = rendered(&batch).unwrap();
        assert_eq!(message["message"].get("fcm_options").is_some(), sent, "{label}");
    }
}

#[test]
fn only_an_https_link_is_handed_to_browsers() {
    for (value, linked) in
        [("https://a.example", true), ("http://a.example", false), ("app://orders/42", false)]
    {
        let shown = json!({"title": "x", "click": {"open": "deep_link", "value": value}});
        let message = rendered(&batch(content(json!({"notification": shown})), &[TOKEN])).unwrap();
        assert_eq!(message["message"]["data"]["anypush_open"], "deep_link");
        assert_eq!(message["message"]["data"]["anypush_open_value"], value);
        assert_eq!(message["message"]["webpush"].get("fcm_options").is_some(), linked, "{value}");
    }
}

#[tokio::test]
async fn data_keys_that_the_vendor_reserves_fail_without_a_call() {
    let vendor = vendor(|_| accepted()).await;
    let channel = channel(&vendor);
    for key in ["from", "message_type", "google.a", "gcm.notification.b"] {
        let batch = batch(content(json!({"data": {key: "x"}})), &[TOKEN, "second-token"]);
        let outcomes = assert_contract(&*channel, batch, context(), &[]).await;
        for outcome in outcomes {
            let Verdict::Failed(failure) = outcome.verdict else { panic!("accepted") };
            assert_eq!(failure.reason, Reason::PayloadInvalid);
            assert!(outcome.vendor.words.unwrap().contains(key));
        }
    }
    assert!(vendor.requests().is_empty());
    for key in ["fromage", "googles", "gcm", "Message_type"] {
        assert!(rendered(&batch(content(json!({"data": {key: "x"}})), &[TOKEN])).is_ok(), "{key}");
    }
}

#[test]
fn a_payload_over_the_limit_fails_and_one_at_the_limit_goes() {
    let sized = |bytes: usize| batch(content(json!({"data": {"k": "x".repeat(bytes)}})), &[TOKEN]);
    let fixed = (0..MAX_BYTES).rev().find(|bytes| rendered(&sized(*bytes)).is_ok()).unwrap();
    let over = rendered(&sized(fixed + 1)).unwrap_err();
    assert_eq!(over.reason, Reason::PayloadTooLarge);
    assert_eq!(over.why, "the payload has 4097 bytes, 4096 fit");
    // Most of the limit is the caller's.
    assert!(fixed > 3850, "{fixed}");
    // What is merged counts too.
    let filler = json!({"android": {"notification": {"ticker": "x".repeat(MAX_BYTES)}}});
    let merged = content(json!({"notification": {"title": "x"}, "overrides": {"fcm": filler}}));
    assert_eq!(rendered(&batch(merged, &[TOKEN])).unwrap_err().reason, Reason::PayloadTooLarge);
}

#[test]
fn overrides_may_take_the_place_of_tag_and_collapse_id() {
    let overrides = json!({
        "android": {"notification": {"tag": "mine"}},
        "apns": {"headers": {"apns-collapse-id": "mine"}, "payload": {"aps": {"thread-id": "t"}}}
    });
    let batch =
        batch(content(json!({"notification": {"title": "x"}, "overrides": {"fcm": overrides}})), &[TOKEN]);
    let message = rendered(&batch).unwrap()["message"].take();
    assert_eq!(message["android"]["notification"]["tag"], "mine");
    assert_eq!(message["apns"]["headers"]["apns-collapse-id"], "mine");
    assert_eq!(message["apns"]["payload"]["aps"]["thread-id"], "t");
    assert_eq!(message["webpush"]["headers"]["Topic"], key_text(1));
}

#[test]
fn overrides_that_were_stored_before_a_rule_came_are_refused_at_sending_too() {
    let batch = batch(content(json!({"data": {}, "overrides": {"fcm": {"token": "victim"}}})), &[TOKEN]);
    assert_eq!(rendered(&batch).unwrap_err().reason, Reason::PayloadInvalid);
}

/// Texts that try to break out of their string, or to be taken for a splice point.
fn nasty() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("\"},\"token\":\"victim".to_owned()),
        Just("~anypush-key-000000000".to_owned()),
        Just("~anypush-key-000000000~anypush-key-000000001".to_owned()),
        Just("\u{0}\u{1f}\u{2028}\u{7f}\\\"\n\r\t".to_owned()),
        Just("\\u0022}".to_owned()),
        any::<String>(),
        "[\\x00-\\x7f]{0,40}",
    ]
}

proptest! {
    #[test]
    fn whatever_people_write_arrives_as_they_wrote_it(
        title in nasty(), body in nasty(), token in nasty(), value in nasty(), collapse in proptest::option::of(nasty()),
        overridden in proptest::option::of(nasty()), key in any::<u128>(),
    ) {
        let mut said = json!({
            "notification": {"title": title, "body": body},
            "data": {"k": value},
            "collapse_key": collapse,
        });
        if let Some(overridden) = &overridden {
            said["overrides"] = json!({"fcm": {"android": {"notification": {"ticker": overridden}}}});
        }
        let mut batch = batch(content(said), &[&token]);
        batch.targets[0].key = key;
        let message = match rendered(&batch) {
            Ok(mut body) => body["message"].take(),
            Err(unsendable) => {
                prop_assert_eq!(unsendable.reason, Reason::PayloadTooLarge);
                return Ok(());
            }
        };
        prop_assert_eq!(&message["token"], &json!(token));
        prop_assert_eq!(&message["notification"], &json!({"title": title, "body": body}));
        prop_assert_eq!(&message["data"], &json!({"k": value, "anypush_id": "msg_1"}));
        let tag = collapse.unwrap_or_else(|| key_text(key));
        prop_assert_eq!(&message["android"]["notification"]["tag"], &json!(tag));
        if let Some(overridden) = overridden {
            prop_assert_eq!(&message["android"]["notification"]["ticker"], &json!(overridden));
        }
    }
}
