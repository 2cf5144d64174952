//! Callbacks from the vendor's pages, and from nowhere.

use http::{HeaderMap, Method, StatusCode};

use super::*;
use crate::contract::{CallbackReply, CallbackRequest, Reason, Receipt, ReceiptEvent, Witness};

fn called(content_type: &str, body: impl Into<bytes::Bytes>) -> CallbackReply {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", content_type.parse().unwrap());
    let request = CallbackRequest {
        method: Method::POST,
        url: CALLBACK.to_owned(),
        headers,
        body: body.into(),
        received_at: now(),
    };
    build(&config("http://x.invalid")).parse_callback(&request).unwrap()
}

fn form(document: &Value) -> CallbackReply {
    let body = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("data", &document.to_string())
        .finish();
    called("application/x-www-form-urlencoded", body)
}

fn sample() -> Value {
    json!({
        "sdm001007001Ab": {
            "param": "m42", "type": 1, "barStatus": "Enable", "targets": "tokA,0VcFXB+GdD/q=",
            "timestamp": 1_767_225_600_123_u64
        },
        "sdm001007002Ab": {"type": 16, "targets": "tokC", "timestamp": 1_767_225_600_456_u64}
    })
}

fn told(receipt: &Receipt) -> (Option<&str>, Option<&str>, Option<&str>, ReceiptEvent) {
    (receipt.param.as_deref(), receipt.vendor_id.as_deref(), receipt.token.as_deref(), receipt.event)
}

#[test]
fn the_vendors_sample_is_read_as_form_and_as_bare_json() {
    let bare = |content_type| called(content_type, sample().to_string());
    for reply in [form(&sample()), bare("application/json; charset=UTF-8"), bare("text/plain")] {
        assert!(reply.authenticated, "the secret in the URL has authenticated it");
        assert_eq!(reply.status, StatusCode::OK);
        let dead = ReceiptEvent::failed(Reason::InvalidToken);
        assert_eq!(
            reply.receipts.iter().map(told).collect::<Vec<_>>(),
            [
                (Some("m42"), Some("sdm001007001Ab"), Some("tokA"), ReceiptEvent::Delivered),
                (Some("m42"), Some("sdm001007001Ab"), Some(TOKEN), ReceiptEvent::Delivered),
                (None, Some("sdm001007002Ab"), Some("tokC"), dead),
            ]
        );
        let first = &reply.receipts[0];
        assert_eq!(first.witness, Witness::Vendor);
        assert_eq!(first.at, Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_225_600_123)));
        assert_eq!(first.extra["bar_status"], "Enable");
    }
}

#[test]
fn every_type_becomes_its_event_and_a_sum_becomes_several() {
    let failed = |reason| vec![ReceiptEvent::failed(reason)];
    for (kind, events) in [
        (json!(1), vec![ReceiptEvent::Delivered]),
        (json!(2), vec![ReceiptEvent::Clicked]),
        (json!(3), vec![ReceiptEvent::Delivered, ReceiptEvent::Clicked]),
        (json!(16), failed(Reason::InvalidToken)),
        (json!(32), failed(Reason::DeviceUnavailable)),
        (json!(64), failed(Reason::DeviceUnavailable)),
        (json!(128), failed(Reason::QuotaExceeded)),
        (json!(1024), vec![ReceiptEvent::ended(Reason::Expired)]),
        (json!("16"), failed(Reason::InvalidToken)),
        // A bit that nobody knows yet.
        (json!(4096), vec![]),
        (json!(null), vec![]),
        (json!({}), vec![]),
    ] {
        let reply = form(&json!({"id": {"type": kind, "targets": "t", "param": "p"}}));
        assert_eq!(reply.receipts.iter().map(|receipt| receipt.event).collect::<Vec<_>>(), events, "{kind}");
        assert_eq!(reply.status, StatusCode::OK);
    }
}

#[test]
fn what_else_a_report_says_is_kept_and_replaced_tokens_are_not_shown() {
    let reply = form(&json!({"id": {
        "type": 128, "targets": "t", "jobkey": "j", "errorCode": 7, "replaceTarget": {"old-token": "new-token"},
        "extra": {"ack": "5", "quota": "5"}
    }}));
    let extra = &reply.receipts[0].extra;
    let expected = [
        ("delivered_today", "5"),
        ("error_code", "7"),
        ("job_key", "j"),
        ("quota", "5"),
        ("token_replaced", "true"),
    ];
    let expected: BTreeMap<String, String> =
        expected.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    assert_eq!(*extra, expected);
}

#[test]
fn a_report_without_targets_is_about_the_message() {
    let reply = form(&json!({"id": {"type": 1, "param": "p"}}));
    assert_eq!(told(&reply.receipts[0]), (Some("p"), Some("id"), None, ReceiptEvent::Delivered));
}

#[test]
fn nonsense_reports_nothing_and_is_answered_so_that_the_vendor_keeps_calling() {
    let deep = "[".repeat(100_000);
    for body in [
        "",
        "data=",
        "data=%7B",
        "x=1",
        "[]",
        "null",
        "{\"a\":7}",
        "data=%FF",
        "{\"a\":{\"type\":\"x\"}}",
        &deep,
    ] {
        for content_type in ["application/x-www-form-urlencoded", "application/json", "text/html"] {
            let reply = called(content_type, body.to_owned());
            assert_eq!((reply.receipts.len(), reply.status), (0, StatusCode::OK), "{body:.20}");
        }
    }
    let far = form(&json!({"id": {"type": 1, "targets": "t", "timestamp": u64::MAX}}));
    assert_eq!(far.receipts.len(), 1);
}
