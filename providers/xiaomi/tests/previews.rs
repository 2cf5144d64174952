//! What a person is shown before a send.

use super::*;
use crate::contract::{Preview, Reason};

fn preview_of(batch: &Batch, callback_url: Option<&str>) -> Preview {
    let context = SendContext { callback_url: callback_url.map(Into::into), ..context() };
    build(&config("http://x.invalid")).preview(batch, &context).unwrap()
}

#[tokio::test]
async fn a_preview_shows_what_would_be_sent_and_no_secret() {
    let batch = batch(hello(), &[TOKEN]);
    let preview = preview_of(&batch, Some(CALLBACK));
    let sent = form_of(batch.clone()).await;
    for (name, value) in &sent {
        if name != "registration_id" {
            assert_eq!(preview.payload[name], *value, "{name}");
        }
    }
    assert_eq!(preview.payload["registration_id"], "0VcFXB…(13 bytes)");
    assert_eq!((preview.bytes, preview.max_bytes), (sent["payload"].len() as u32, Some(4095)));
    assert_eq!((preview.class.as_deref(), preview.refused.is_none()), (Some("private"), true));
    let shown = serde_json::to_string(&preview).unwrap();
    for secret in [TOKEN, SECRET, "s3cret", "param-1"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn a_preview_says_what_is_cut_and_what_is_left_out() {
    let said = json!({"notification": {
        "title": "t".repeat(60), "body": "b".repeat(200), "image": "https://c.example", "badge": {"set": 1},
        "actions_category": "d"
    }, "class": "marketing"});
    let mut batch = batch(content(said), &[TOKEN]);
    batch.ttl = Duration::from_hours(48);
    let preview = preview_of(&batch, Some(CALLBACK));
    let fields: Vec<&str> = preview.dropped.iter().map(|dropped| dropped.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "/notification/image",
            "/notification/badge",
            "/notification/actions_category",
            "/notification/title",
            "/notification/body",
            "/ttl_seconds",
        ]
    );
    assert_eq!(preview.class.as_deref(), Some("public"));
    assert!(preview.warnings.is_empty(), "{:?}", preview.warnings);
}

#[test]
fn a_class_that_does_not_fit_is_warned_of() {
    let warnings = |class: &str, settings: Value| {
        let said = json!({"notification": {"title": "a", "body": "b"}, "class": class});
        let mut batch = batch(content(said), &[TOKEN]);
        batch.category = Some(category(settings));
        preview_of(&batch, Some(CALLBACK)).warnings.join("\n")
    };
    let private = json!({"class": "private", "template_id": "P1"});
    let public = json!({"class": "public"});
    assert!(warnings("marketing", private.clone()).contains("breaks Xiaomi's rules"));
    assert!(warnings("transactional", public.clone()).contains("five a day"));
    assert_eq!(warnings("transactional", private), "");
    assert_eq!(warnings("marketing", public), "");
    assert!(warnings("transactional", json!({"class": "private"})).contains("template"));
}

#[test]
fn missing_channels_titles_and_receipts_are_warned_of() {
    let bare = build(&json!({"app_secret": SECRET, "package_name": "a.b"}));
    let batch = batch(content(json!({"notification": {"body": "b"}})), &[TOKEN]);
    let warnings = bare.preview(&batch, &context()).unwrap().warnings.join("\n");
    for word in ["no notification channel", "no title", "no receipts"] {
        assert!(warnings.contains(word), "{warnings}");
    }
    let long = format!("https://gw.example/{}", "x".repeat(128));
    assert!(preview_of(&batch, Some(&long)).warnings.join("\n").contains("147 bytes"));
}

#[test]
fn what_would_be_refused_is_said_before() {
    let silent = batch(content(json!({"data": {"a": "b"}})), &[TOKEN]);
    let refused = preview_of(&silent, None).refused.unwrap();
    assert_eq!(refused.reason, Reason::PayloadInvalid);
    assert!(refused.words.contains("silent"));
}

#[test]
fn what_is_too_large_is_shown_with_its_size() {
    let said = json!({"notification": {"title": "a", "body": "b"}, "data": {"k": "x".repeat(5000)}});
    let preview = preview_of(&batch(content(said), &[TOKEN]), None);
    assert_eq!(preview.refused.unwrap().reason, Reason::PayloadTooLarge);
    assert!((5000..5100).contains(&preview.bytes), "{}", preview.bytes);
    assert_eq!(preview.max_bytes, Some(4095));
}

#[test]
fn quotas_are_counted_by_the_class_that_the_send_has() {
    let channel = build(&config("http://x.invalid"));
    let marketing = content(json!({"notification": {"title": "a"}, "class": "marketing"}));
    assert_eq!(channel.quota_class(&hello(), None), "private");
    assert_eq!(channel.quota_class(&marketing, None), "public");
    let public = category(json!({"class": "public", "channel_id": "7"}));
    assert_eq!(channel.quota_class(&hello(), Some(&public)), "public");
    let classes = ["public", "private", ""];
    for quota in PROVIDER.descriptor.quotas {
        assert!(classes.contains(&quota.class), "{}", quota.name);
    }
}
