//! What a person is shown before a send.

use super::*;
use crate::contract::{Preview, Reason};

fn preview_of(batch: &Batch) -> Preview {
    build(&config("http://x.invalid")).preview(batch, &context()).unwrap()
}

#[tokio::test]
async fn a_preview_shows_what_would_be_sent_and_no_secret() {
    let batch = batch(hello(), &[TOKEN]);
    let mut preview = preview_of(&batch);
    let shown = serde_json::to_string(&preview).unwrap();
    for secret in [TOKEN, SECRET, "param-1"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert_eq!(preview.payload["message"]["token"], json!(["IQAAAA…(41 bytes)"]));
    let mut sent = body_of(batch).await;
    for body in [&mut sent, &mut preview.payload] {
        body["message"]["token"].take();
        body["message"]["android"]["bi_tag"].take();
    }
    assert_eq!(preview.payload, sent);
    assert_eq!(preview.max_bytes, Some(4096));
}

#[test]
fn a_preview_says_what_is_left_out() {
    let said = json!({"notification": {
        "body": "b", "image": "http://c.example", "badge": {"set": 1}, "actions_category": "d",
        "click": {"open": "url", "value": "http://d.example"}
    }});
    let preview = preview_of(&batch(content(said), &[TOKEN]));
    let fields: Vec<&str> = preview.dropped.iter().map(|dropped| dropped.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "/notification/image",
            "/notification/actions_category",
            "/notification/badge",
            "/notification/click"
        ]
    );
    assert!(preview.warnings.join("\n").contains("no title"));
}

#[test]
fn a_class_that_does_not_fit_is_warned_of() {
    let preview = |class: &str, settings: Value| {
        let said = json!({"notification": {"title": "a", "body": "b"}, "class": class});
        let mut batch = batch(content(said), &[TOKEN]);
        batch.category = Some(category(settings));
        let preview = preview_of(&batch);
        (preview.class.unwrap(), preview.warnings.join("\n"))
    };
    let (class, warnings) = preview("transactional", json!({"category": "MARKETING"}));
    assert!(class == "MARKETING" && warnings.contains("two a day"), "{warnings}");
    let (class, warnings) = preview("marketing", json!({"category": "EXPRESS"}));
    assert!(class == "EXPRESS" && warnings.contains("breaks Huawei's rules"), "{warnings}");
    let (class, warnings) = preview("transactional", json!({}));
    assert!(class == "unclassified" && warnings.contains("counts it as marketing"), "{warnings}");
    assert_eq!(preview("transactional", json!({"category": "EXPRESS"})).1, "");
    assert_eq!(preview("marketing", json!({})), ("MARKETING".to_owned(), String::new()));
}

#[test]
fn what_would_be_refused_is_said_before() {
    let refused =
        preview_of(&batch(content(json!({"notification": {"title": ""}})), &[TOKEN])).refused.unwrap();
    assert_eq!(refused.reason, Reason::PayloadInvalid);
}

#[test]
fn quotas_are_counted_by_the_class_that_the_send_has() {
    let channel = build(&config("http://x.invalid"));
    let marketing = content(json!({"notification": {"title": "a"}, "class": "marketing"}));
    assert_eq!(channel.quota_class(&marketing, None), "marketing");
    assert_eq!(channel.quota_class(&hello(), None), "unclassified");
    let express = category(json!({"category": "EXPRESS"}));
    assert_eq!(channel.quota_class(&hello(), Some(&express)), "classified");
    let mut test = config("http://x.invalid");
    test["test_messages"] = json!(true);
    assert_eq!(build(&test).quota_class(&marketing, None), "test");
}
