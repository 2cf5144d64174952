//! Forms against literal fields.

use super::*;
use crate::contract::{Reason, Verdict};
use crate::xiaomi::payload::{job_key, notify_id};

fn fields(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn a_plain_notification_is_this_form_and_no_more() {
    assert_eq!(
        form_of(batch(hello(), &[TOKEN])).await,
        fields(&[
            ("registration_id", TOKEN),
            ("restricted_package_name", "com.example.app"),
            ("pass_through", "0"),
            ("title", "订单"),
            ("description", "已发货"),
            ("payload", r#"{"anypush_id":"msg_1"}"#),
            ("notify_type", "-1"),
            ("notify_id", &notify_id("msg_1")),
            ("time_to_live", "3600000"),
            ("extra.channel_id", "118442"),
            ("extra.notify_effect", "1"),
            ("extra.jobkey", &job_key("msg_1")),
        ])
    );
}

#[tokio::test]
async fn a_full_notification_is_this_form() {
    let said = json!({
        "notification": {
            "title": "a", "body": "b", "image": "https://c.example", "sound": "ding.mp3", "badge": {"set": 1},
            "actions_category": "d", "click": {"open": "url", "value": "https://e.example/?q=1"}
        },
        "data": {"order": "42"},
        "collapse_key": "order-42",
        "overrides": {"xiaomi": {"notify_type": 1, "extra": {"ticker": "t", "notify_foreground": "0"}}}
    });
    let mut batch = batch(content(said), &[TOKEN, "tokQb"]);
    let settings = json!({
        "channel_id": "9", "class": "public", "template_id": "P1",
        "template_param": {"order": "{data.order}", "what": "{title}: {body}!"}
    });
    batch.category = Some(category(settings));
    batch.ttl = Duration::from_hours(9 * 24);
    assert_eq!(
        form_of(batch).await,
        fields(&[
            ("registration_id", "0VcFXB+GdD/q=,tokQb"),
            ("restricted_package_name", "com.example.app"),
            ("pass_through", "0"),
            ("title", "a"),
            ("description", "b"),
            (
                "payload",
                r#"{"anypush_id":"msg_1","anypush_open":"url","anypush_open_value":"https://e.example/?q=1","order":"42"}"#
            ),
            ("notify_type", "1"),
            ("notify_id", &notify_id("order-42")),
            // A public channel keeps it for a day.
            ("time_to_live", "86400000"),
            ("extra.channel_id", "9"),
            ("extra.template_id", "P1"),
            ("extra.template_param", r#"{"order":"42","what":"a: b!"}"#),
            ("extra.notify_effect", "3"),
            ("extra.web_uri", "https://e.example/?q=1"),
            ("extra.sound_uri", "android.resource://com.example.app/raw/ding"),
            ("extra.jobkey", &job_key("msg_1")),
            ("extra.ticker", "t"),
            ("extra.notify_foreground", "0"),
        ])
    );
}

#[tokio::test]
async fn a_private_channel_keeps_a_message_as_long_as_the_caller_says() {
    let mut batch = batch(hello(), &[TOKEN]);
    batch.ttl = Duration::from_hours(10 * 24);
    assert_eq!(form_of(batch).await["time_to_live"], "864000000");
}

#[tokio::test]
async fn a_message_for_now_or_never_is_sent_to_connected_phones_only() {
    let mut batch = batch(hello(), &[TOKEN]);
    batch.ttl = Duration::ZERO;
    let form = form_of(batch).await;
    assert_eq!(form["extra.only_send_once"], "1");
    assert!(!form.contains_key("time_to_live"));
}

#[tokio::test]
async fn a_deep_link_is_the_intent_of_a_tap() {
    let said = json!({"notification": {"title": "a", "body": "b", "click": {"open": "deep_link", "value": "shop://o/42"}}});
    let form = form_of(batch(content(said), &[TOKEN])).await;
    assert_eq!(
        (form["extra.notify_effect"].as_str(), form["extra.intent_uri"].as_str()),
        ("2", "shop://o/42")
    );
}

#[tokio::test]
async fn marketing_goes_through_the_public_channel_and_the_rest_through_the_private_one() {
    let marketing = || content(json!({"class": "marketing", "notification": {"title": "a", "body": "b"}}));
    assert_eq!(form_of(batch(marketing(), &[TOKEN])).await["extra.channel_id"], "118443");
    assert_eq!(form_of(batch(hello(), &[TOKEN])).await["extra.channel_id"], "118442");
    // Marketing is never put into a private channel because there is no other.
    let mut only_private = config("");
    only_private.as_object_mut().unwrap().remove("public_channel_id");
    let form = form_with(batch(marketing(), &[TOKEN]), only_private).await;
    assert!(!form.contains_key("extra.channel_id"));
    let mut only_public = config("");
    only_public.as_object_mut().unwrap().remove("private_channel_id");
    assert_eq!(form_with(batch(hello(), &[TOKEN]), only_public).await["extra.channel_id"], "118443");
    // A category may name the class alone.
    let mut by_class = batch(hello(), &[TOKEN]);
    by_class.category = Some(category(json!({"class": "public"})));
    assert_eq!(form_of(by_class).await["extra.channel_id"], "118443");
}

#[tokio::test]
async fn long_texts_are_cut_at_a_letter_and_end_in_an_ellipsis() {
    let said = json!({"notification": {"title": "题".repeat(50), "body": format!("{}👨‍👩‍👧", "文".repeat(125))}});
    let form = form_of(batch(content(said), &[TOKEN])).await;
    assert_eq!(form["title"], format!("{}…", "题".repeat(48)));
    assert_eq!(form["description"], format!("{}…", "文".repeat(125)));
    let fits = json!({"notification": {"title": "题".repeat(49), "body": "文".repeat(127)}});
    let form = form_of(batch(content(fits), &[TOKEN])).await;
    assert_eq!((form["title"].chars().count(), form["description"].chars().count()), (49, 127));
}

#[tokio::test]
async fn a_notification_without_a_title_or_text_is_shown_all_the_same() {
    let body = || content(json!({"notification": {"body": "b", "title": "  "}}));
    let form = form_of(batch(body(), &[TOKEN])).await;
    assert_eq!((form["title"].as_str(), form["description"].as_str()), ("b", "b"));
    let mut named = config("");
    named["default_title"] = json!("Shop");
    let form = form_with(batch(body(), &[TOKEN]), named).await;
    assert_eq!((form["title"].as_str(), form["description"].as_str()), ("Shop", "b"));
    let form = form_of(batch(content(json!({"notification": {"title": "t"}})), &[TOKEN])).await;
    assert_eq!((form["title"].as_str(), form["description"].as_str()), ("t", "t"));
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_before_any_call() {
    let show = |more: Value| {
        let mut said = json!({"notification": {"title": "a", "body": "b"}});
        said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        said
    };
    let nothing = category(json!({"template_id": "P1", "template_param": {"order": "{data.order}"}}));
    for (said, category, reason) in [
        (json!({"data": {"a": "b"}}), None, Reason::PayloadInvalid),
        (json!({"notification": {"sound": "default"}}), None, Reason::PayloadInvalid),
        (show(json!({"data": {"k": "v".repeat(4096)}})), None, Reason::PayloadTooLarge),
        (show(json!({})), Some(nothing.clone()), Reason::PayloadInvalid),
        (show(json!({"data": {"order": " "}})), Some(nothing.clone()), Reason::PayloadInvalid),
        (show(json!({"data": {"order": "x".repeat(129)}})), Some(nothing), Reason::PayloadInvalid),
        (show(json!({"overrides": {"xiaomi": {"alias": "x"}}})), None, Reason::PayloadInvalid),
        (json!({"notification": {"title": "a", "click": {"open": "url"}}}), None, Reason::PayloadInvalid),
    ] {
        let vendor = vendor(|_| accepted()).await;
        let mut batch = batch(content(said.clone()), &[TOKEN, "tokQb"]);
        batch.category = category;
        for outcome in assert_contract(&*channel(&vendor), batch, context(), &[SECRET]).await {
            let Verdict::Failed(failure) = &outcome.verdict else { panic!("{outcome:?}") };
            assert_eq!(failure.reason, reason, "{said}");
            assert_eq!(outcome.latency, Duration::ZERO);
        }
        assert!(vendor.requests().is_empty());
    }
}

#[tokio::test]
async fn a_payload_at_the_limit_is_sent_and_one_byte_more_is_not() {
    let of = |length: usize| {
        content(json!({"notification": {"title": "a", "body": "b"}, "data": {"k": "v".repeat(length)}}))
    };
    let empty = form_of(batch(of(0), &[TOKEN])).await["payload"].len();
    let fits = form_of(batch(of(4095 - empty), &[TOKEN])).await;
    assert_eq!(fits["payload"].len(), 4095);
    let vendor = vendor(|_| accepted()).await;
    let outcomes =
        assert_contract(&*channel(&vendor), batch(of(4096 - empty), &[TOKEN]), context(), &[SECRET]).await;
    assert!(
        matches!(&outcomes[0].verdict, Verdict::Failed(failure) if failure.reason == Reason::PayloadTooLarge)
    );
}

#[test]
fn a_message_has_its_own_place_on_the_screen_and_its_own_job_key() {
    for message in ["msg_1", "msg_2", ""] {
        let id: u32 = notify_id(message).parse().unwrap();
        assert!((1..=0x7fff_ffff).contains(&id));
        let key = job_key(message);
        assert_eq!(key.len(), 20);
        assert!(
            key.starts_with('m') && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        );
    }
    assert_ne!(notify_id("msg_1"), notify_id("msg_2"));
    assert_ne!(job_key("msg_1"), job_key("msg_2"));
}

#[test]
fn what_names_a_target_a_time_or_a_channel_cannot_be_overridden() {
    for (overrides, named) in [
        (json!({"registration_id": "x"}), "xiaomi.registration_id"),
        (json!({"restricted_package_name": "x"}), "xiaomi.restricted_package_name"),
        (json!({"time_to_send": 1}), "xiaomi.time_to_send"),
        (json!({"title": "x"}), "xiaomi.title"),
        (json!({"notify_type": true}), "xiaomi.notify_type"),
        (json!({"extra": {"channel_id": "x"}}), "xiaomi.extra.channel_id"),
        (json!({"extra": {"callback": "x"}}), "xiaomi.extra.callback"),
        (json!({"extra": {"callback.param": "x"}}), "xiaomi.extra.callback.param"),
        (json!({"extra": {"jobkey": "x"}}), "xiaomi.extra.jobkey"),
        (json!({"extra": {"ticker": {}}}), "xiaomi.extra.ticker"),
        (json!({"extra": []}), "xiaomi.extra"),
        (json!([]), "xiaomi"),
    ] {
        let error = (PROVIDER.check_overrides)(&overrides).unwrap_err();
        assert!(error.starts_with(named), "{overrides}: {error}");
    }
    let good = json!({"notify_type": 1, "extra": {"template_param": {"a": "b"}, "locale": "zh_CN", "only_send_once": 1}});
    assert_eq!((PROVIDER.check_overrides)(&good), Ok(()));
}

/// A32, A33.
#[tokio::test]
async fn whatever_people_write_stays_in_its_field() {
    let nasty = [
        "a&registration_id=victim",
        "\"},\"token\":\"victim",
        "%26alias%3Dx+y;",
        "x\r\nHost: evil",
        "\u{0}\u{1f}\u{2028}\\",
    ];
    for text in nasty {
        let said = json!({"notification": {"title": text, "body": text}, "data": {"k": text}});
        let form = form_of(batch(content(said), &[TOKEN])).await;
        let plain = form_of(batch(
            content(json!({"notification": {"title": "a", "body": "b"}, "data": {"k": "v"}})),
            &[TOKEN],
        ))
        .await;
        assert!(form.keys().eq(plain.keys()), "{text:?}: {form:?}");
        assert_eq!((form["title"].as_str(), form["description"].as_str()), (text, text));
        assert_eq!(form["registration_id"], TOKEN);
        let payload: Value = serde_json::from_str(&form["payload"]).unwrap();
        assert_eq!(payload, json!({"anypush_id": "msg_1", "k": text}));
    }
}
