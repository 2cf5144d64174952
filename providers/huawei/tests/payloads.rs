//! Bodies against literal JSON.

use super::*;
use crate::contract::{Reason, Verdict};
use crate::huawei::payload::notify_id;

#[tokio::test]
async fn a_plain_notification_is_this_body_and_no_more() {
    assert_eq!(
        body_of(batch(hello(), &[TOKEN])).await,
        json!({
            "validate_only": false,
            "message": {
                "data": r#"{"anypush_id":"msg_1"}"#,
                "notification": {"title": "Hello", "body": "You"},
                "android": {
                    "ttl": "86400s",
                    "bi_tag": "param-1",
                    "notification": {
                        "click_action": {"type": 3}, "importance": "NORMAL", "notify_id": notify_id("msg_1")
                    }
                },
                "token": [TOKEN]
            }
        })
    );
}

#[tokio::test]
async fn a_full_notification_is_this_body() {
    let said = json!({
        "notification": {
            "title": "a", "body": "b", "image": "https://c.example/p.png", "sound": "ding.mp3", "badge": {"add": 2},
            "click": {"open": "deep_link", "value": "shop://orders/42?x=1"}
        },
        "data": {"order": "42"},
        "collapse_key": "order-42",
        "overrides": {"huawei": {
            "android": {"notification": {"style": 1, "big_title": "t", "big_body": "b", "tag": "x"}},
            "review": [{"reviewer": "r", "type": 1, "result": 1}]
        }}
    });
    let mut batch = batch(content(said), &[TOKEN, OTHER]);
    batch.category = Some(category(json!({
        "category": "EXPRESS", "channel_id": "orders", "importance": "LOW", "receipt_id": "R2", "collapse_group": 7
    })));
    batch.ttl = Duration::from_hours(15 * 24);
    let mut config = config("");
    config["badge_class"] = json!("com.example.app.MainActivity");
    config["receipt_id"] = json!("R1");
    config["test_messages"] = json!(true);
    let intent = "intent://orders/42?x=1#Intent;scheme=shop;launchFlags=0x4000000;end";
    assert_eq!(
        body_with(batch, config).await,
        json!({
            "validate_only": false,
            "message": {
                "data": r#"{"anypush_id":"msg_1","anypush_open":"deep_link","anypush_open_value":"shop://orders/42?x=1","order":"42"}"#,
                "notification": {"title": "a", "body": "b", "image": "https://c.example/p.png"},
                "android": {
                    "category": "EXPRESS",
                    "ttl": "1296000s",
                    "collapse_key": 7,
                    "bi_tag": "param-1",
                    "receipt_id": "R2",
                    "target_user_type": 1,
                    "notification": {
                        "click_action": {"type": 1, "intent": intent},
                        "channel_id": "orders",
                        "importance": "LOW",
                        "notify_id": notify_id("order-42"),
                        "sound": "/raw/ding",
                        "default_sound": false,
                        "badge": {"add_num": 2, "class": "com.example.app.MainActivity"},
                        "style": 1, "big_title": "t", "big_body": "b", "tag": "x"
                    }
                },
                "token": [TOKEN, OTHER]
            },
            "review": [{"reviewer": "r", "type": 1, "result": 1}]
        })
    );
}

#[tokio::test]
async fn a_silent_message_has_an_urgency_and_nothing_to_show() {
    let mut batch = batch(content(json!({"data": {"a": "b"}})), &[TOKEN]);
    batch.ttl = Duration::ZERO;
    let expected = |urgency: &str| {
        json!({
            "data": r#"{"a":"b","anypush_id":"msg_1"}"#,
            "android": {"urgency": urgency, "ttl": "1s", "bi_tag": "param-1"},
            "token": [TOKEN]
        })
    };
    // HIGH needs a right of the app: never without a word of its operators.
    assert_eq!(body_of(batch.clone()).await["message"], expected("NORMAL"));
    batch.category = Some(category(json!({"urgency": "HIGH"})));
    assert_eq!(body_of(batch).await["message"], expected("HIGH"));
}

#[tokio::test]
async fn marketing_is_called_so_and_shows_silently() {
    let said = json!({"notification": {"title": "a", "body": "b"}, "class": "marketing"});
    let android = body_of(batch(content(said), &[TOKEN])).await["message"]["android"].take();
    assert_eq!(
        (&android["category"], &android["notification"]["importance"]),
        (&json!("MARKETING"), &json!("LOW"))
    );
}

#[tokio::test]
async fn a_collapse_key_without_a_group_throws_away_nobody_elses_message() {
    let said = json!({"notification": {"title": "a", "body": "b"}, "collapse_key": "k"});
    let android = body_of(batch(content(said), &[TOKEN])).await["message"]["android"].take();
    assert!(android.get("collapse_key").is_none());
    assert_eq!(android["notification"]["notify_id"], notify_id("k"));
}

#[tokio::test]
async fn a_tap_goes_where_it_can() {
    for (click, expected) in [
        (json!({"open": "app"}), json!({"type": 3})),
        (
            json!({"open": "url", "value": "https://a.example"}),
            json!({"type": 2, "url": "https://a.example"}),
        ),
        // The vendor opens https pages only; the app finds the link in its data.
        (json!({"open": "url", "value": "http://a.example"}), json!({"type": 3})),
        (
            json!({"open": "deep_link", "value": "intent:#Intent;action=x;end"}),
            json!({"type": 1, "intent": "intent:#Intent;action=x;end"}),
        ),
    ] {
        let said = json!({"notification": {"title": "a", "body": "b", "click": click}});
        let body = body_of(batch(content(said), &[TOKEN])).await;
        assert_eq!(body["message"]["android"]["notification"]["click_action"], expected);
    }
}

#[tokio::test]
async fn a_badge_stays_within_what_the_vendor_takes() {
    let mut config = config("");
    config["badge_class"] = json!("a.B");
    for (badge, expected) in [
        (json!({"set": 0}), json!({"set_num": 0, "class": "a.B"})),
        (json!({"set": 500}), json!({"set_num": 99, "class": "a.B"})),
        (json!({"add": 0}), json!({"add_num": 1, "class": "a.B"})),
        (json!({"add": 100}), json!({"add_num": 99, "class": "a.B"})),
    ] {
        let said = json!({"notification": {"title": "a", "body": "b", "badge": badge}});
        let body = body_with(batch(content(said), &[TOKEN]), config.clone()).await;
        assert_eq!(body["message"]["android"]["notification"]["badge"], expected);
    }
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_before_any_call() {
    for (said, reason) in [
        (json!({"notification": {"sound": "default"}}), Reason::PayloadInvalid),
        (json!({"notification": {"title": " "}}), Reason::PayloadInvalid),
        (json!({"data": {"k": "v".repeat(4096)}}), Reason::PayloadTooLarge),
        (
            json!({"notification": {"title": "a", "click": {"open": "deep_link", "value": "nowhere"}}}),
            Reason::PayloadInvalid,
        ),
        (json!({"data": {"a": "b"}, "overrides": {"huawei": {"token": ["x"]}}}), Reason::PayloadInvalid),
    ] {
        let vendor = vendor(|_| accepted()).await;
        let batch = batch(content(said.clone()), &[TOKEN, OTHER]);
        for outcome in assert_contract(&*channel(&vendor), batch, context(), &[SECRET]).await {
            let Verdict::Failed(failure) = &outcome.verdict else { panic!("{outcome:?}") };
            assert_eq!(failure.reason, reason, "{said}");
            assert_eq!(outcome.latency, Duration::ZERO);
        }
        assert!(vendor.requests().is_empty());
    }
}

#[tokio::test]
async fn a_body_at_the_limit_is_sent_and_tokens_do_not_count() {
    let of = |length: usize| content(json!({"data": {"k": "v".repeat(length)}}));
    let tokens: Vec<String> = (0..1000).map(|n| format!("{TOKEN}-{n}")).collect();
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let preview = |length| {
        let channel = build(&config("http://x.invalid"));
        channel.preview(&batch(of(length), &[TOKEN]), &context()).unwrap()
    };
    let fits = (4096 - preview(0).bytes) as usize;
    assert_eq!((preview(fits).bytes, preview(fits).refused), (4096, None));
    assert_eq!(preview(fits + 1).refused.unwrap().reason, Reason::PayloadTooLarge);
    let vendor = vendor(|_| accepted()).await;
    let (sink, mut source) = crate::contract::Outcomes::channel();
    channel(&vendor).send(batch(of(fits), &tokens), context(), sink).await;
    while let Some(outcome) = source.recv().await {
        assert_eq!(outcome.verdict, Verdict::Accepted);
    }
}

#[test]
fn what_names_a_target_a_category_or_a_receipt_cannot_be_overridden() {
    for (overrides, named) in [
        (json!({"token": ["x"]}), "huawei.token"),
        (json!({"topic": "x"}), "huawei.topic"),
        (json!({"notification": {}}), "huawei.notification"),
        (json!({"validate_only": true}), "huawei.validate_only"),
        (json!({"android": 7}), "huawei.android"),
        (json!({"android": {"data": "x"}}), "huawei.android.data"),
        (json!({"android": {"category": "IM"}}), "huawei.android.category"),
        (json!({"android": {"bi_tag": "x"}}), "huawei.android.bi_tag"),
        (json!({"android": {"receipt_id": "x"}}), "huawei.android.receipt_id"),
        (json!({"android": {"target_user_type": 1}}), "huawei.android.target_user_type"),
        (json!({"android": {"notification": {"title": "x"}}}), "huawei.android.notification.title"),
        (json!({"android": {"notification": []}}), "huawei.android.notification"),
        (json!({"review": {}}), "huawei.review"),
        (json!([]), "huawei"),
    ] {
        let error = (PROVIDER.check_overrides)(&overrides).unwrap_err();
        assert!(error.starts_with(named), "{overrides}: {error}");
    }
    let good = json!({"android": {"urgency": "HIGH", "notification": {"buttons": []}}, "review": []});
    assert_eq!((PROVIDER.check_overrides)(&good), Ok(()));
}

/// A32.
#[tokio::test]
async fn whatever_people_write_stays_in_its_field() {
    let nasty = [
        "\"},\"token\":[\"victim\"],\"x\":{\"",
        "\\\",\"android\":null",
        "\r\nHost: evil",
        "\u{0}\u{1f}\u{2028}\u{7f}",
    ];
    for text in nasty {
        let said = json!({"notification": {"title": text, "body": text}, "data": {"k": text}});
        let body = body_of(batch(content(said), &[TOKEN])).await;
        let message = &body["message"];
        assert_eq!(message["notification"], json!({"title": text, "body": text}));
        assert_eq!(message["token"], json!([TOKEN]));
        let members: Vec<_> = message.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, ["android", "data", "notification", "token"]);
        let data: Value = serde_json::from_str(message["data"].as_str().unwrap()).unwrap();
        assert_eq!(data, json!({"anypush_id": "msg_1", "k": text}));
    }
}
