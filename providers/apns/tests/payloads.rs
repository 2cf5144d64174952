//! Content → headers and body, against literal JSON.

use proptest::prelude::*;

use super::super::payload::{Collapse, Rendered, apns_id, key_text, render};
use super::*;
use crate::contract::{Category, Reason};
use crate::kit::failure::Unsendable;

fn rendered(content: Value) -> Result<Rendered, Unsendable> {
    of_kind(content, "device")
}

fn of_kind(content: Value, kind: &str) -> Result<Rendered, Unsendable> {
    render(&batch(content, &[TOKEN]), kind, now())
}

fn body(rendered: &Rendered) -> Value {
    serde_json::from_slice(&rendered.body).unwrap()
}

fn given(rendered: &Rendered) -> &str {
    match &rendered.collapse_id {
        Collapse::Given(id) => id.to_str().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_notification_is_written_in_the_vendors_words() {
    let content = json!({
        "notification": {
            "title": "Order shipped", "body": "Your parcel leaves today", "sound": "default", "badge": {"set": 3},
            "image": "https://cdn.example.com/p/42.png", "actions_category": "ORDER",
            "click": {"open": "url", "value": "https://example.com/orders/42"}
        },
        "data": {"orderId": "42"},
        "collapse_key": "order-42",
        "overrides": {"apns": {"aps": {
            "alert": {"subtitle": "#42"}, "thread-id": "orders", "interruption-level": "active"
        }}}
    });
    let rendered = rendered(content).unwrap();
    assert_eq!(
        body(&rendered),
        json!({
            "aps": {
                "alert": {"title": "Order shipped", "subtitle": "#42", "body": "Your parcel leaves today"},
                "badge": 3, "sound": "default", "category": "ORDER", "thread-id": "orders",
                "interruption-level": "active", "mutable-content": 1
            },
            "orderId": "42",
            "anypush_id": "msg_1",
            "anypush_image": "https://cdn.example.com/p/42.png",
            "anypush_open": "url",
            "anypush_open_value": "https://example.com/orders/42"
        })
    );
    assert_eq!((rendered.push_type.name(), given(&rendered)), ("alert", "order-42"));
    assert_eq!(
        (&rendered.priority, &rendered.expiration),
        (&"10".parse().unwrap(), &"1700086400".parse().unwrap())
    );
}

#[test]
fn a_silent_message_wakes_no_screen() {
    let mut batch = batch(json!({"data": {"op": "sync", "cursor": "1700000000123"}}), &[TOKEN]);
    batch.ttl = Duration::ZERO;
    let rendered = render(&batch, "device", now()).unwrap();
    let expected = json!({
        "aps": {"content-available": 1}, "op": "sync", "cursor": "1700000000123", "anypush_id": "msg_1"
    });
    assert_eq!(body(&rendered), expected);
    assert_eq!((rendered.push_type.name(), &rendered.collapse_id), ("background", &Collapse::Never));
    // At high priority the vendor would refuse it; a TTL of zero means now or never.
    assert_eq!((&rendered.priority, &rendered.expiration), (&"5".parse().unwrap(), &"0".parse().unwrap()));
}

#[test]
fn each_push_type_has_its_own_part_for_the_system() {
    let data = || json!({"data": {"mdm": "magic"}});
    let aps = |kind: &str| body(&of_kind(data(), kind).unwrap())["aps"].take();
    for kind in ["voip", "location", "complication", "fileprovider", "pushtotalk"] {
        assert_eq!(aps(kind), json!({}), "{kind}");
    }
    for kind in ["widgets", "controls"] {
        assert_eq!(aps(kind), json!({"content-changed": true}), "{kind}");
    }
    assert_eq!(body(&of_kind(data(), "mdm").unwrap()), json!({"mdm": "magic"}));
    let update = json!({
        "notification": {"title": "Goal"},
        "overrides": {"apns": {"aps": {"content-state": {"home": 1}}}}
    });
    let aps = body(&of_kind(update, "liveactivity").unwrap())["aps"].take();
    let expected = json!({
        "timestamp": 1_700_000_000, "event": "update", "content-state": {"home": 1}, "alert": {"title": "Goal"}
    });
    assert_eq!(aps, expected);
}

#[test]
fn what_a_push_type_cannot_carry_is_refused_before_any_call() {
    let why = |content: Value, kind: &str| {
        let unsendable = of_kind(content, kind).unwrap_err();
        assert_eq!(unsendable.reason, Reason::PayloadInvalid);
        unsendable.why
    };
    // An ordinary message that a route brings here must not ring a phone.
    for kind in
        ["voip", "location", "complication", "fileprovider", "mdm", "pushtotalk", "widgets", "controls"]
    {
        assert!(why(hello(), kind).contains("takes data only"), "{kind}");
    }
    assert!(why(hello(), "liveactivity").contains("content-state"));
    assert!(why(json!({"data": {"a": "b"}}), "mdm").contains("data key mdm"));
    assert!(why(json!({"data": {"aps": "{}"}}), "device").contains("aps"));
    let loud = json!({"data": {"a": "b"}, "overrides": {"apns": {"headers": {"apns-priority": "10"}}}});
    assert!(why(loud, "device").contains("apns-priority 10"));
    let silent =
        with(hello(), &json!({"overrides": {"apns": {"headers": {"apns-push-type": "background"}}}}));
    assert!(why(silent, "device").contains("takes data only"));
    // Stored before a rule came.
    let old = with(hello(), &json!({"overrides": {"apns": {"headers": {"apns-topic": "other.app"}}}}));
    assert!(why(old, "device").contains("apns-topic"));
}

#[test]
fn a_repeat_replaces_itself_on_the_screen_unless_the_caller_names_what_it_replaces() {
    assert_eq!(rendered(hello()).unwrap().collapse_id, Collapse::Delivery);
    assert_eq!(key_text(1), "AAAAAAAAAAAAAAAAAAAAAQ");
    let named = |key: &str| rendered(with(hello(), &json!({"collapse_key": key}))).unwrap();
    assert_eq!(given(&named("order-42")), "order-42");
    assert_eq!(given(&named(&"x".repeat(64))), "x".repeat(64));
    for key in ["ü", "a b", &"x".repeat(65), "a\r\nauthorization: x"] {
        let named = named(key);
        let id = given(&named);
        assert!(id.len() == 43 && id.bytes().all(|byte| byte.is_ascii_graphic()), "{key:?}: {id}");
    }
    let set = json!({"collapse_key": "a", "overrides": {"apns": {"headers": {"apns-collapse-id": "mine"}}}});
    assert_eq!(given(&rendered(with(hello(), &set)).unwrap()), "mine");
}

#[test]
fn a_payload_at_the_limit_goes_and_one_over_it_fails() {
    for (kind, max) in [("device", 4096), ("voip", 5120)] {
        let sized = |bytes: usize| of_kind(json!({"data": {"k": "x".repeat(bytes)}}), kind);
        let fixed = max - sized(0).unwrap().body.len();
        assert_eq!(sized(fixed).unwrap().body.len(), max);
        let over = sized(fixed + 1).unwrap_err();
        assert_eq!(over.reason, Reason::PayloadTooLarge);
        assert_eq!(over.why, format!("the payload has {} bytes, {max} fit", max + 1));
    }
    let merged = json!({"overrides": {"apns": {"aps": {"thread-id": "x".repeat(4096)}}}});
    assert_eq!(rendered(with(hello(), &merged)).unwrap_err().reason, Reason::PayloadTooLarge);
}

#[test]
fn a_category_sets_what_the_message_leaves_open() {
    let mut batch = batch(hello(), &[TOKEN]);
    let settings = json!({
        "interruption_level": "time-sensitive", "relevance_score": 0.5, "thread_id": "orders", "sound": "order.caf",
        "actions_category": "ORDER"
    });
    (PROVIDER.category.check)(&settings).unwrap();
    let settings = settings.as_object().unwrap().clone();
    batch.category = Some(Arc::new(Category { name: "order_update".to_owned(), settings }));
    let aps = |batch: &Batch| body(&render(batch, "device", now()).unwrap())["aps"].take();
    let expected = json!({
        "alert": {"title": "Hello", "body": "You"}, "interruption-level": "time-sensitive", "relevance-score": 0.5,
        "thread-id": "orders", "sound": "order.caf", "category": "ORDER"
    });
    assert_eq!(aps(&batch), expected);
    let said = json!({"notification": {"title": "x", "sound": "default", "actions_category": "MINE"}});
    batch.content = Arc::new(serde_json::from_value(said).unwrap());
    assert_eq!((&aps(&batch)["sound"], &aps(&batch)["category"]), (&json!("default"), &json!("MINE")));

    let wrong = json!({"interruption_level": "loud", "relevance_score": 2, "thread_id": 1, "colour": "red"});
    let mistakes = (PROVIDER.category.check)(&wrong).unwrap_err().0;
    let at: Vec<&str> = mistakes.iter().map(|(at, _)| at.as_str()).collect();
    assert_eq!(at, ["/interruption_level", "/relevance_score", "/thread_id", "/colour"]);
}

#[test]
fn a_preview_shows_what_would_be_sent_and_no_credential() {
    let channel = build(&settings("https://apns.example", "PREVIEW001"));
    let content = json!({
        "notification": {"title": "Hello", "image": "https://a.example/b.png", "badge": {"add": 1}}
    });
    let preview = channel.preview(&batch(content, &[TOKEN]), &context()).unwrap();
    assert_eq!(preview.payload["headers"]["apns-topic"], "com.example.app");
    assert_eq!(preview.payload["aps"]["alert"]["title"], "Hello");
    assert_eq!((preview.class.as_deref(), preview.max_bytes), (Some("alert"), Some(4096)));
    assert_eq!(preview.dropped[0].field, "/notification/badge");
    assert!(preview.warnings[0].contains("service extension") && preview.refused.is_none());
    let shown = serde_json::to_string(&preview).unwrap();
    assert!(!shown.contains("authorization") && !shown.contains(TOKEN), "{shown}");
    let refused = channel.preview(&batch(json!({"data": {"aps": "x"}}), &[TOKEN]), &context()).unwrap();
    assert_eq!(refused.refused.unwrap().reason, Reason::PayloadInvalid);
    let no_token = channel.preview(&batch(hello(), &["no hex"]), &context()).unwrap();
    assert_eq!(no_token.refused.unwrap().reason, Reason::InvalidToken);
}

#[test]
fn silent_messages_are_counted_apart() {
    let channel = build(&settings("https://apns.example", "QUOTAS0001"));
    let class = |content: Value| channel.quota_class(&serde_json::from_value(content).unwrap(), None);
    assert_eq!((class(json!({"data": {"a": "b"}})), class(hello())), ("background", ""));
}

/// Texts that try to break out of their string.
fn nasty() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("\"},\"aps\":{".to_owned()),
        Just("\u{0}\u{1f}\u{2028}\u{7f}\\\"\n\r\t".to_owned()),
        any::<String>(),
    ]
}

proptest! {
    #[test]
    fn whatever_people_write_arrives_as_they_wrote_it(
        title in nasty(), value in nasty(), key in "[a-z]{1,8}", collapse in proptest::option::of(nasty()),
    ) {
        prop_assume!(key != "aps");
        let said = json!({"notification": {"title": title}, "data": {&key: value}, "collapse_key": collapse});
        match rendered(said) {
            Ok(rendered) => {
                let body = body(&rendered);
                prop_assert_eq!(&body["aps"], &json!({"alert": {"title": title}}));
                prop_assert_eq!(&body[&key], &json!(value));
                prop_assert_eq!(&body["anypush_id"], "msg_1");
            }
            Err(unsendable) => prop_assert_eq!(unsendable.reason, Reason::PayloadTooLarge),
        }
    }

    #[test]
    fn every_deliverys_id_is_a_uuid_and_its_own(one in any::<u128>(), other in any::<u128>()) {
        let id = apns_id(one);
        let lengths: Vec<usize> = id.split('-').map(str::len).collect();
        prop_assert_eq!(lengths, [8, 4, 4, 4, 12]);
        prop_assert_eq!((&id[14..15], matches!(&id[19..20], "8" | "9" | "a" | "b")), ("8", true));
        prop_assert!(id.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit() || byte.is_ascii_lowercase()));
        prop_assert_eq!(apns_id(one), id.clone());
        prop_assert!(one == other || id != apns_id(other));
    }
}
