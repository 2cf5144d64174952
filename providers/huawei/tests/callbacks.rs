//! Callbacks from the vendor's pages, signed and unsigned, and from nowhere.

use http::{HeaderMap, Method, StatusCode};

use super::*;
use crate::contract::{CallbackReply, CallbackRequest, Reason, ReceiptEvent};
use crate::huawei::config::Config;
use crate::huawei::receipts::Signature;

/// The sheet's vectors: same user, secret, time and nonce, both ways to read the secret.
const SIGNED_AT_MS: u64 = 1_563_105_451_261;
const NONCE: &str = "a07bfa17-6d82-4b53-a9a2-07cfef5ceef1";
const CALLBACK_SECRET: &str = "c2VjcmV0LWtleS1mb3ItdGVzdHMtb25seS0wMDAx";
const AS_BASE64: &str = "hrFV4/YaK9HS9z/0jwdNC6yAsQ6e1TnOYlkWoaC2ZzQ=";
const AS_TEXT: &str = "rqFMGrcRpGNYgIBu2GIRuAD5gPAkcYjthZql1btPGMI=";

fn signed_config() -> Value {
    let mut config = config("http://x.invalid");
    config["callback_user"] = json!("push-demo");
    config["callback_secret"] = json!(CALLBACK_SECRET);
    config
}

fn header(value: &str) -> String {
    format!("timestamp={SIGNED_AT_MS}; nonce={NONCE}; value={value}")
}

fn called(config: &Value, signature: Option<&str>, body: impl Into<bytes::Bytes>, age: i64) -> CallbackReply {
    let mut headers = HeaderMap::new();
    if let Some(signature) = signature {
        headers.insert("X-HUAWEI-CALLBACK-ID", signature.parse().unwrap());
    }
    let received_ms = SIGNED_AT_MS.saturating_add_signed(age * 1000);
    let request = CallbackRequest {
        method: Method::POST,
        url: "https://gw.example/v1/callbacks/chn_1/s3cret".to_owned(),
        headers,
        body: body.into(),
        received_at: SystemTime::UNIX_EPOCH + Duration::from_millis(received_ms),
    };
    build(config).parse_callback(&request).unwrap()
}

fn sample(status: &Value) -> String {
    json!({"statuses": [{
        "biTag": "m42", "appid": "100001", "token": TOKEN, "status": status, "timestamp": 1_607_832_761_768_u64,
        "requestId": REQUEST_ID
    }]})
    .to_string()
}

fn is_believed(reply: &CallbackReply) -> bool {
    reply.authenticated && reply.status == StatusCode::OK && reply.receipts.len() == 1
}

#[test]
fn both_ways_to_read_the_secret_are_believed_with_and_without_blanks() {
    for value in [AS_BASE64, AS_TEXT] {
        let signature = header(value);
        for signature in [signature.clone(), signature.replace("; ", ";")] {
            let reply = called(&signed_config(), Some(&signature), sample(&json!(0)), 1);
            assert!(is_believed(&reply), "{signature}");
            assert_eq!(reply.body, r#"{"code":"0","message":"success"}"#);
        }
    }
}

#[test]
fn the_vendors_published_header_is_taken_apart() {
    let header = "timestamp=1563105451261; nonce=a07bfa17-6d82-4b53-a9a2-07cfef5ceef1; value=E4YeOsnMtHZ6592U8B9S37238E+Hwtjfrmpf8AQXF+c=";
    let signature = Signature::read(header).unwrap();
    assert_eq!((signature.timestamp, signature.nonce), ("1563105451261", NONCE));
    assert_eq!(signature.value.len(), 32);
    let config = Config::read(&signed_config()).unwrap();
    assert!(!signature.is_from(&config.callback.unwrap()), "it is somebody else's");
}

#[test]
fn forged_missing_and_odd_signatures_change_nothing() {
    let changed = AS_BASE64.replace("hrFV", "hrFW");
    for signature in [
        None,
        Some(String::new()),
        Some("x".to_owned()),
        Some(header(&changed)),
        Some(header("")),
        Some(header("!!!")),
        Some(header(AS_BASE64).replace(NONCE, "b07bfa17")),
        Some(header(AS_BASE64).replace("1563105451261", "1563105451262")),
        Some(header(AS_BASE64).replace("1563105451261", "soon")),
        Some(format!("value={AS_BASE64}")),
    ] {
        let reply = called(&signed_config(), signature.as_deref(), sample(&json!(0)), 0);
        assert_eq!((reply.authenticated, reply.status), (false, StatusCode::UNAUTHORIZED), "{signature:?}");
        assert!(reply.receipts.is_empty());
    }
}

#[test]
fn a_signature_is_good_for_five_minutes_on_both_sides_of_its_time() {
    for (age, believed) in
        [(0, true), (300, true), (-300, true), (301, false), (-301, false), (86_400, false)]
    {
        let reply = called(&signed_config(), Some(&header(AS_BASE64)), sample(&json!(0)), age);
        assert_eq!(is_believed(&reply), believed, "{age}");
    }
}

#[test]
fn the_consoles_unsigned_probe_is_answered_and_has_no_effect() {
    for body in ["", "{}", r#"{"statuses":[]}"#, "test"] {
        let reply = called(&signed_config(), None, body, 0);
        assert_eq!(
            (reply.authenticated, reply.status, reply.receipts.len()),
            (false, StatusCode::OK, 0),
            "{body}"
        );
    }
}

#[test]
fn without_a_configured_secret_the_url_is_what_authenticates() {
    let reply = called(&config("http://x.invalid"), None, sample(&json!(0)), 0);
    assert!(is_believed(&reply));
    let receipt = &reply.receipts[0];
    assert_eq!(
        (receipt.param.as_deref(), receipt.token.as_deref(), receipt.vendor_id.as_deref()),
        (Some("m42"), Some(TOKEN), Some(REQUEST_ID))
    );
    assert_eq!(receipt.at, Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_607_832_761_768)));
}

#[test]
fn every_status_of_both_versions_becomes_its_event() {
    use Reason::{
        ContentRejected, DeviceUnavailable, InvalidToken, PayloadInvalid, QuotaExceeded, Superseded,
        Unclassified, VendorUnavailable,
    };
    let failed = |reason| Some(ReceiptEvent::failed(reason));
    for (status, event) in [
        (0, Some(ReceiptEvent::Delivered)),
        (2, failed(InvalidToken)),
        (5, failed(InvalidToken)),
        (6, failed(DeviceUnavailable)),
        (10, failed(DeviceUnavailable)),
        (14, failed(VendorUnavailable)),
        (15, Some(ReceiptEvent::ended(Superseded))),
        (22, failed(DeviceUnavailable)),
        (27, None),
        (31, failed(PayloadInvalid)),
        (51, None),
        (102, failed(QuotaExceeded)),
        (144, failed(PayloadInvalid)),
        (151, failed(DeviceUnavailable)),
        (155, failed(Unclassified)),
        (188, failed(DeviceUnavailable)),
        (191, failed(Unclassified)),
        (201, failed(DeviceUnavailable)),
        (256, failed(QuotaExceeded)),
        (259, failed(ContentRejected)),
        (262, failed(QuotaExceeded)),
        (264, failed(Unclassified)),
        (12345, failed(Unclassified)),
    ] {
        let v2 = json!({"statuses": [{
            "biTag": "m42", "token": TOKEN, "requestId": REQUEST_ID,
            "deliveryStatus": {"result": status, "timestamp": 1_607_832_761_768_u64}
        }]});
        let as_text = sample(&json!(status.to_string()));
        for body in [sample(&json!(status)), as_text, v2.to_string()] {
            let reply = called(&config("http://x.invalid"), None, body, 0);
            assert_eq!(reply.receipts.first().map(|receipt| receipt.event), event, "{status}");
            assert!(reply.receipts.iter().all(|receipt| receipt.vendor.code == Some(status.to_string())));
        }
    }
}

#[test]
fn nonsense_reports_nothing() {
    let deep = "[".repeat(100_000);
    for body in [
        "",
        "{",
        "[]",
        "null",
        r#"{"statuses":{}}"#,
        r#"[[{"status":0}]]"#,
        r#"{"statuses":[7,null,{},{"status":"x"},{"status":1.5},{"formStatus":{"result":0}}]}"#,
        &deep,
    ] {
        let reply = called(&config("http://x.invalid"), None, body.to_owned(), 0);
        assert_eq!((reply.receipts.len(), reply.status), (0, StatusCode::OK), "{body:.20}");
    }
    let far = json!({"statuses": [{"status": 0, "timestamp": u64::MAX}]}).to_string();
    assert_eq!(called(&config("http://x.invalid"), None, far, 0).receipts.len(), 1);
}

#[test]
fn an_odd_report_costs_no_other_and_an_odd_field_not_its_report() {
    let body = json!({"statuses": [
        ["m1", TOKEN, REQUEST_ID, 0],
        {"token": {"of": [1]}, "biTag": 7, "requestId": ["x"], "status": " 0 ", "timestamp": "soon", "new": {"a": [{}]}},
        {"deliveryStatus": {"result": []}, "token": TOKEN, "status": 0},
        {"deliveryStatus": "none", "token": "a\"b\\c", "status": 0, "timestamp": -1},
    ]});
    let reply = called(&config("http://x.invalid"), None, body.to_string(), 0);
    let tokens: Vec<_> = reply.receipts.iter().map(|receipt| receipt.token.as_deref()).collect();
    assert_eq!(tokens, [None, Some("a\"b\\c")]);
    assert!(reply.receipts.iter().all(|receipt| receipt.param.is_none() && receipt.at.is_none()));
}
