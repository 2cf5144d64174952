//! What FCM takes and what it refuses, field by field.

use serde_json::{Value, json};

use crate::world::{PROJECT, World, blamed, fcm_error};

/// The example of a notification in the vendor's contract.
fn notification() -> Value {
    json!({"validate_only": false, "message": {
        "token": "bk3RNwTe3H0:CI2k_HHwgIpoDKCIZvvDMExUdFQ3P1",
        "notification": {"title": "Order shipped", "body": "Your parcel leaves today", "image": "https://cdn.example.com/p/42.png"},
        "data": {"orderId": "42", "deeplink": "app://orders/42"},
        "android": {"collapse_key": "order-42", "priority": "HIGH", "ttl": "86400s", "restricted_package_name": "com.example.app",
            "notification": {"channel_id": "orders", "tag": "order-42", "click_action": "OPEN_ORDER", "sound": "default",
                "notification_priority": "PRIORITY_HIGH", "notification_count": 3}},
        "apns": {"headers": {"apns-priority": "10", "apns-collapse-id": "order-42"},
            "payload": {"aps": {"badge": 3, "sound": "default", "category": "ORDER"}}},
        "webpush": {"headers": {"TTL": "86400", "Urgency": "high"}, "fcm_options": {"link": "https://example.com/orders/42"}},
        "fcm_options": {"analytics_label": "orders"}}})
}

#[tokio::test]
async fn what_the_vendor_documents_is_taken_in_both_spellings() {
    let world = World::start().await;
    let token = world.access_token(PROJECT).await;
    let good = [
        notification(),
        json!({"message": {"token": "t", "data": {"op": "sync"}, "android": {"priority": "NORMAL", "ttl": "0s", "collapse_key": "sync"},
            "apns": {"headers": {"apns-priority": "5"}, "payload": {"aps": {"content-available": 1}}}}}),
        json!({"validateOnly": false, "message": {"token": "t", "fcmOptions": {"analyticsLabel": "a-Z_.~%9"},
            "android": {"collapseKey": "k", "priority": "high", "ttl": "3.500000000s", "directBootOk": true, "data": null,
                "notification": {"channelId": "c", "eventTime": "2026-11-20T10:00:00Z", "vibrateTimings": ["0.5s"],
                    "lightSettings": {"color": {"red": 1, "alpha": 0.5}, "lightOnDuration": "1s"}, "color": "#A1b2C3"}}}}),
        json!({"message": {"fid": "c9dJq2GfQ0", "androidV2": {}}}),
        json!({"message": {"topic": "news-1_.~%", "notification": {"title": "x"}}}),
        json!({"message": {"condition": "'a' in topics && ('b' in topics || !('c' in topics))"}}),
    ];
    for body in good {
        let (status, answer) = world.post(&token, &body).await;
        assert_eq!(status, 200, "{body} got {answer}");
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_read_is_refused_without_an_fcm_error() {
    let world = World::start().await;
    let token = world.access_token(PROJECT).await;
    let cases = [
        (json!({"message": {"token": "t", "foo": 1}}), "message"),
        (json!({"messages": {"token": "t"}}), ""),
        (
            json!({"message": {"token": "t", "android": {"notification": {"channel": "c"}}}}),
            "message.android.notification",
        ),
        (json!({"message": {"token": "t", "data": {"a": 12}}}), "message.data[0].value"),
        (json!({"message": {"token": "t", "data": []}}), "message.data"),
        (json!({"message": {"token": 5}}), "message.token"),
        (json!({"message": "hello"}), "message"),
        (json!({"message": {"token": "t", "android": {"ttl": 60}}}), "message.android.ttl"),
        (json!({"message": {"token": "t", "android": {"ttl": "60"}}}), "message.android.ttl"),
        (json!({"message": {"token": "t", "android": {"priority": "URGENT"}}}), "message.android.priority"),
        (
            json!({"message": {"token": "t", "android": {"notification": {"sticky": "yes"}}}}),
            "message.android.notification.sticky",
        ),
        (
            json!({"message": {"token": "t", "android": {"notification": {"event_time": "noon"}}}}),
            "message.android.notification.event_time",
        ),
        (
            json!({"message": {"token": "t", "android": {"collapse_key": "a", "collapseKey": "b"}}}),
            "message.android.collapse_key",
        ),
        (json!({"message": {"token": "t", "topic": "n"}}), "message"),
        (json!({"validate_only": "true", "message": {"token": "t"}}), "validate_only"),
    ];
    for (body, field) in cases {
        let (status, answer) = world.post(&token, &body).await;
        assert_eq!((status, answer["error"]["status"].as_str()), (400, Some("INVALID_ARGUMENT")), "{body}");
        let fields = if field.is_empty() { vec![] } else { vec![field] };
        assert_eq!((fcm_error(&answer), blamed(&answer)), (None, fields), "{body} got {answer}");
    }
    let url = format!("{}/v1/projects/{PROJECT}/messages:send", world.url);
    let answer = world.http.post(url).bearer_auth(&token).body("{\"message\":").send().await.unwrap();
    assert_eq!(answer.status(), 400);
    let (_, answer) =
        world.post(&token, &json!({"message": {"token": "t", "data": {"a": "x", "b": 12}}})).await;
    assert_eq!(answer["error"]["message"], "Invalid value at 'message.data[1].value' (TYPE_STRING), 12");
}

#[tokio::test]
async fn a_value_that_is_not_allowed_is_refused_with_its_field() {
    let world = World::start().await;
    let token = world.access_token(PROJECT).await;
    let long = "x".repeat(51);
    let six: Vec<_> = (0..6).map(|i| format!("'t{i}' in topics")).collect();
    let cases = [
        (json!({"notification": {}}), "message"),
        (json!({"token": "two words"}), "message.token"),
        (json!({"token": ""}), "message.token"),
        (json!({"topic": "/topics/news"}), "message.topic"),
        (json!({"topic": "caf\u{e9}"}), "message.topic"),
        (json!({"condition": six.join(" || ")}), "message.condition"),
        (json!({"token": "t", "data": {"from": "x"}}), "message.data"),
        (json!({"token": "t", "data": {"message_type": "x"}}), "message.data"),
        (json!({"token": "t", "data": {"google.x": "x"}}), "message.data"),
        (json!({"token": "t", "android": {"data": {"gcm.notification.x": "x"}}}), "message.android.data"),
        (json!({"token": "t", "android": {"ttl": "2419201s"}}), "message.android.ttl"),
        (json!({"token": "t", "android": {"ttl": "-1s"}}), "message.android.ttl"),
        (json!({"token": "t", "android": {}, "android_v2": {}}), "message"),
        (
            json!({"token": "t", "android": {"notification": {"color": "red"}}}),
            "message.android.notification.color",
        ),
        (
            json!({"token": "t", "fcm_options": {"analytics_label": long}}),
            "message.fcm_options.analytics_label",
        ),
        (
            json!({"token": "t", "apns": {"fcm_options": {"analytics_label": "a b"}}}),
            "message.apns.fcm_options.analytics_label",
        ),
        (
            json!({"token": "t", "webpush": {"fcm_options": {"link": "http://a"}}}),
            "message.webpush.fcm_options.link",
        ),
    ];
    for (message, field) in cases {
        let (status, answer) = world.post(&token, &json!({"message": message})).await;
        assert_eq!(
            (status, fcm_error(&answer), blamed(&answer)),
            (400, Some("INVALID_ARGUMENT"), vec![field]),
            "{message} got {answer}"
        );
    }
    let (status, answer) = world.post(&token, &json!({"validate_only": true})).await;
    assert_eq!((status, blamed(&answer)), (400, vec!["message"]));
}

#[tokio::test]
async fn a_payload_beyond_the_limit_gets_no_details() {
    let world = World::start().await;
    let token = world.access_token(PROJECT).await;
    let sized = |bytes: usize| "x".repeat(bytes - 1);
    let too_big = [
        json!({"token": "t", "data": {"k": sized(4097)}}),
        json!({"token": "t", "notification": {"body": "x".repeat(4093)}}),
        json!({"token": "t", "data": {"k": sized(2000)}, "android": {"notification": {"body": "x".repeat(2200)}}}),
        json!({"token": "t", "apns": {"payload": {"aps": {}, "k": sized(4090)}}}),
        json!({"topic": "t", "data": {"k": sized(2049)}}),
    ];
    for message in too_big {
        let (status, answer) = world.post(&token, &json!({"message": message})).await;
        assert_eq!((status, &answer["error"]["details"]), (400, &Value::Null));
        assert_eq!(answer["error"]["message"], "Request contains an invalid argument.");
    }
    let fits = [
        json!({"token": "t", "data": {"k": sized(4096)}}),
        json!({"token": "t", "data": {"k": sized(4090)}, "android": {"data": {"small": "x"}, "ttl": "60s"}}),
        json!({"topic": "t", "data": {"k": sized(2048)}}),
    ];
    for message in fits {
        assert_eq!(world.post(&token, &json!({"message": message})).await.0, 200);
    }
}

#[tokio::test]
async fn validate_only_validates_and_delivers_nothing() {
    let world = World::start().await;
    let token = world.access_token(PROJECT).await;
    let (status, answer) =
        world.post(&token, &json!({"validate_only": true, "message": {"token": "t"}})).await;
    assert_eq!((status, answer), (200, json!({"name": "projects/demo-proj/messages/fake_message_id"})));
    let (status, _) =
        world.post(&token, &json!({"validate_only": true, "message": {"token": "dead-t"}})).await;
    assert_eq!(status, 404);
    assert_eq!(world.sums("").await, [2, 0, 0, 0]);
}
