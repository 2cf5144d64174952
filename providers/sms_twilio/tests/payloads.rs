//! Content → form, against literal values.

use proptest::prelude::*;

use super::super::config::Config;
use super::super::payload::render;
use super::*;
use crate::contract::{Category, Money, Preview, Reason};

fn preview_of(config: &Value, batch: &Batch) -> Preview {
    build(config).preview(batch, &context()).unwrap()
}

fn shown(content: Value) -> Preview {
    preview_of(&settings("https://a.example"), &batch(content, &[NUMBER]))
}

fn refused(preview: &Preview) -> Reason {
    preview.refused.as_ref().unwrap_or_else(|| panic!("{preview:?}")).reason
}

fn in_category(settings: &Value) -> Batch {
    (PROVIDER.category.check)(settings).unwrap();
    let content = json!({
        "notification": {"title": "Login", "body": "Your code", "click": {"open": "url", "value": "https://a.example"}},
        "data": {"code": "123456"}
    });
    let mut batch = batch(content, &[NUMBER]);
    let settings = settings.as_object().unwrap().clone();
    batch.category = Some(Arc::new(Category { name: "login".to_owned(), settings }));
    batch
}

#[test]
fn a_text_is_title_and_body_one_below_the_other() {
    let text = |notification: Value| shown(json!({"notification": notification})).payload["Body"].clone();
    assert_eq!(text(json!({"title": "Order", "body": "Shipped"})), "Order\nShipped");
    assert_eq!(text(json!({"title": "Order"})), "Order");
    assert_eq!(text(json!({"title": "", "body": "Shipped"})), "Shipped");
    for empty in
        [json!({"notification": {}}), json!({"notification": {"body": " "}}), json!({"data": {"a": "b"}})]
    {
        assert_eq!(refused(&shown(empty)), Reason::PayloadInvalid);
    }
}

#[test]
fn a_preview_tells_segments_cost_and_what_is_left_out_and_no_credential() {
    let config =
        with(settings("https://a.example"), &json!({"price_per_segment": "0.0079", "currency": "USD"}));
    let content = json!({
        "notification": {"body": "中".repeat(71), "image": "https://a.example/b.png", "sound": "x"}, "data": {"a": "b"}
    });
    let preview = preview_of(&config, &batch(content, &[NUMBER]));
    assert_eq!((preview.segments, preview.bytes, preview.max_bytes), (Some(2), 71, Some(1600)));
    assert_eq!(preview.cost, Some(Money { amount: "0.0158".to_owned(), currency: "USD".to_owned() }));
    let fields: Vec<&str> = preview.dropped.iter().map(|dropped| dropped.field.as_str()).collect();
    assert_eq!(fields, ["/notification/image", "/notification/sound", "/data"]);
    let text = serde_json::to_string(&preview).unwrap();
    assert!(!text.contains("canary") && !text.contains(NUMBER), "{text}");
    assert_eq!(preview.payload["From"], "+15557654321");
}

#[test]
fn a_text_that_is_too_long_or_too_dear_is_refused_before_it_costs_anything() {
    let body = |text: String| json!({"notification": {"body": text}});
    assert_eq!(shown(body("x".repeat(1600))).refused, None);
    assert_eq!(refused(&shown(body("x".repeat(1601)))), Reason::PayloadTooLarge);
    let cheap = with(settings("https://a.example"), &json!({"max_segments": 1}));
    let of = |text: String| preview_of(&cheap, &batch(body(text), &[NUMBER]));
    assert_eq!(of("x".repeat(160)).segments, Some(1));
    assert_eq!(refused(&of("x".repeat(161))), Reason::PayloadTooLarge);
    // A curly quote makes 71 letters two messages, unless the vendor may straighten it.
    let curly = || format!("it’s {}", "x".repeat(66));
    assert_eq!(refused(&of(curly())), Reason::PayloadTooLarge);
    let smart = with(cheap.clone(), &json!({"smart_encoded": true}));
    let preview = preview_of(&smart, &batch(body(curly()), &[NUMBER]));
    assert_eq!((preview.segments, &preview.payload["SmartEncoded"]), (Some(1), &json!("true")));
    assert_eq!(preview.payload["Body"], curly(), "the vendor straightens it, not we");
}

#[test]
fn a_category_has_a_text_of_its_own_or_an_approved_template() {
    let config = settings("https://a.example");
    let preview = preview_of(
        &config,
        &in_category(
            &json!({"template": "{{ data.code }} is your code. {{title}} {{link}} {", "message_intent": "otp"}),
        ),
    );
    assert_eq!(preview.payload["Body"], "123456 is your code. Login https://a.example {");
    assert_eq!((preview.class.as_deref(), &preview.payload["MessageIntent"]), (Some("otp"), &json!("otp")));

    let sid = format!("HX{}", "d".repeat(32));
    let template = json!({"content_sid": sid, "content_variables": {"1": "{{data.code}}", "2": "\"x\""}});
    let preview = preview_of(&config, &in_category(&template));
    assert_eq!(preview.payload["ContentSid"], sid);
    let variables: Value =
        serde_json::from_str(preview.payload["ContentVariables"].as_str().unwrap()).unwrap();
    assert_eq!(variables, json!({"1": "123456", "2": "\"x\""}));
    assert_eq!((preview.payload.get("Body"), preview.segments, preview.cost), (None, None, None));
    assert!(preview.warnings[0].contains("length is not known"));

    let missing = preview_of(&config, &in_category(&json!({"template": "{{data.name}}"})));
    assert_eq!(refused(&missing), Reason::PayloadInvalid);
    assert!(missing.refused.unwrap().words.contains("data.name"));
}

#[test]
fn all_mistakes_of_a_category_are_told_at_once() {
    let wrong = json!({
        "template": "{{password}}", "content_sid": "x", "content_variables": [], "message_intent": "spam", "colour": "red"
    });
    let mistakes = (PROVIDER.category.check)(&wrong).unwrap_err().0;
    let at: Vec<&str> = mistakes.iter().map(|(at, _)| at.as_str()).collect();
    assert_eq!(at, ["/template", "/content_sid", "/content_variables", "/message_intent", "/colour"]);
    for wrong in [
        json!({"template": "{{title"}),
        json!({"template": "{{data.}}"}),
        json!({"content_variables": {"1": "x"}}),
    ] {
        assert!((PROVIDER.category.check)(&wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_time_to_live_is_how_long_the_text_waits_at_the_vendor() {
    for (ttl, validity) in [(0, "5"), (3, "5"), (90, "90"), (36_000, "36000"), (86_400, "36000")] {
        let mut batch = batch(hello(), &[NUMBER]);
        batch.ttl = Duration::from_secs(ttl);
        let preview = preview_of(&settings("https://a.example"), &batch);
        assert_eq!(preview.payload["ValidityPeriod"], validity, "{ttl}");
    }
}

#[test]
fn the_sender_is_a_number_a_pool_or_one_of_a_pool() {
    let service = format!("MG{}", "e".repeat(32));
    let pool = with(settings("https://a.example"), &json!({"messaging_service_sid": service}));
    let both = preview_of(&pool, &batch(hello(), &[NUMBER])).payload;
    assert_eq!((&both["From"], &both["MessagingServiceSid"]), (&json!("+15557654321"), &json!(service)));
    let pool = preview_of(&without(pool, &["from"]), &batch(hello(), &[NUMBER])).payload;
    assert_eq!((pool.get("From"), &pool["MessagingServiceSid"]), (None, &json!(service)));
}

#[test]
fn overrides_set_what_they_may_and_are_refused_at_sending_too() {
    let content = |fields: Value| with(hello(), &json!({"overrides": {"sms_twilio": fields}}));
    let preview =
        shown(content(json!({"RiskCheck": "disable", "MessageIntent": "fraud", "SmartEncoded": "false"})));
    assert_eq!((&preview.payload["RiskCheck"], preview.class.as_deref()), (&json!("disable"), Some("fraud")));
    assert_eq!(refused(&shown(content(json!({"To": "+15550000000"})))), Reason::PayloadInvalid);
}

/// The text that is sent; no client is built for it.
fn sent(body: &str) -> String {
    let config = Config::read(&settings("https://a.example")).unwrap();
    let batch = batch(json!({"notification": {"body": body}}), &[NUMBER]);
    let form = render(&batch, &config).unwrap().form(&batch.targets[0], None).unwrap();
    form.into_iter().find(|(name, _)| *name == "Body").unwrap().1
}

proptest! {
    #[test]
    fn whatever_people_write_arrives_as_they_wrote_it(text in "\\PC{1,200}", template in "[a-z{} ]{0,40}") {
        prop_assume!(!text.trim().is_empty());
        prop_assert_eq!(&sent(&text), &text);
        // A text is never taken for a template.
        let body = format!("{{{{title}}}} {text}");
        prop_assert_eq!(sent(&body), body);
        // No template makes the check panic.
        let _ = (PROVIDER.category.check)(&json!({"template": template}));
    }
}
