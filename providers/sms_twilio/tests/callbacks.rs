//! Callbacks: the vendor's published vectors, and what each status means.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Method, StatusCode};

use super::*;
use crate::contract::{CallbackReply, CallbackRequest, Reason, ReceiptEvent, Witness};

/// twilio-python's own tests (`tests/unit/test_request_validator.py`).
const VECTOR_TOKEN: &str = "12345";
const VECTOR_URL: &str = "https://mycompany.com/myapp.php?foo=1&bar=2";
const VECTOR_FORM: &str =
    "CallSid=CA1234567890ABCDE&Digits=1234&From=%2B14158675309&To=%2B18005551212&Caller=%2B14158675309";

fn request(url: &str, body: &str, signature: &str) -> CallbackRequest {
    let mut headers = HeaderMap::new();
    headers.insert("x-twilio-signature", signature.parse().unwrap());
    headers.insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
    let (url, body) = (url.to_owned(), body.to_owned().into());
    CallbackRequest { method: Method::POST, url, headers, body, received_at: now() }
}

fn verifier(token: &str) -> Arc<dyn Provider> {
    build(&with(settings("https://a.example"), &json!({"auth_token": token})))
}

fn is_good(request: &CallbackRequest) -> bool {
    let reply = verifier(VECTOR_TOKEN).parse_callback(request).unwrap();
    assert_eq!(reply.status.is_success(), reply.authenticated);
    reply.authenticated
}

#[test]
fn the_published_signatures_are_good() {
    let with_port = VECTOR_URL.replace(".com/", ".com:443/");
    let plain = VECTOR_URL.replace("https", "http");
    let plain_port = plain.replace(".com/", ".com:80/");
    let odd_port = plain.replace(".com/", ".com:1234/");
    for (name, url, form, signature) in [
        ("V1", VECTOR_URL, VECTOR_FORM, "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        (
            "V2",
            VECTOR_URL,
            "Sid=CA123&SidAccount=AC123&Digits=5678&Digits=1234&Digits=1234",
            "IK+Dwps556ElfBT0I3Rgjkr1wJU=",
        ),
        ("V3", &with_port, VECTOR_FORM, "kvajT1Ptam85bY51eRf/AJRuM3w="),
        ("V4", &plain_port, VECTOR_FORM, "0ZXoZLH/DfblKGATFgpif+LLRf4="),
        ("V5", &odd_port, VECTOR_FORM, "Zmvh+3yNM1Phv2jhDCwEM3q5ebU="),
        // The vendor is not consistent about the port: signed without, called with it, and the other way round.
        ("V1 called with its port", &with_port, VECTOR_FORM, "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        ("V3 called without", VECTOR_URL, VECTOR_FORM, "kvajT1Ptam85bY51eRf/AJRuM3w="),
        ("V4 called without", &plain, VECTOR_FORM, "0ZXoZLH/DfblKGATFgpif+LLRf4="),
    ] {
        assert!(is_good(&request(url, form, signature)), "{name}");
    }
    // V6: a body that is no form.
    let hash = "0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620";
    let url = format!("{VECTOR_URL}&bodySHA256={hash}");
    let body = r#"{"property": "value", "boolean": true}"#;
    assert!(is_good(&request(&url, body, "a9nBmqA0ju/hNViExpshrM61xv4=")));
    assert!(!is_good(&request(&url, &body.replace("true", "false"), "a9nBmqA0ju/hNViExpshrM61xv4=")));
}

#[test]
fn what_was_changed_on_the_way_is_refused() {
    let good = "RSOYDt4T1cUTdK1PDd93/VVr8B8=";
    for (url, form, signature) in [
        (VECTOR_URL, VECTOR_FORM, ""),
        (VECTOR_URL, VECTOR_FORM, "not base64!"),
        (VECTOR_URL, VECTOR_FORM, "RSOYDt4T1cUTdK1PDd93"),
        (VECTOR_URL, &*VECTOR_FORM.replace("1234&", "1235&"), good),
        (VECTOR_URL, &*format!("{VECTOR_FORM}&Extra=1"), good),
        (&*VECTOR_URL.replace("bar=2", "bar=3"), VECTOR_FORM, good),
        (&*VECTOR_URL.replace("https", "http"), VECTOR_FORM, good),
        (&*VECTOR_URL.replace("mycompany", "yourcompany"), VECTOR_FORM, good),
    ] {
        assert!(!is_good(&request(url, form, signature)), "{url} {form} {signature}");
    }
    let mut unsigned = request(VECTOR_URL, VECTOR_FORM, good);
    unsigned.headers.remove("x-twilio-signature");
    let reply = verifier(VECTOR_TOKEN).parse_callback(&unsigned).unwrap();
    assert_eq!((reply.authenticated, reply.status, reply.receipts.len()), (false, StatusCode::FORBIDDEN, 0));
    // A channel without a secret believes nobody.
    let blind = build(&without(settings("https://a.example"), &["auth_token"]));
    assert!(!blind.parse_callback(&request(VECTOR_URL, VECTOR_FORM, good)).unwrap().authenticated);
}

/// V7 of the contract sheet.
const STATUS_URL: &str = "https://push.example.com/v1/callbacks/twilio?tenant=t1";

fn status_form(status: &str) -> String {
    format!(
        "AccountSid={ACCOUNT}&ApiVersion=2010-04-01&From=%2B15557654321&MessageSid={SID}&MessageStatus={status}&\
         SmsSid={SID}&SmsStatus={status}&To=%2B15551234567"
    )
}

#[test]
fn a_status_callback_is_verified_by_either_algorithm_and_by_the_key_that_it_names() {
    let sha1 = "KjJtAQwMogPVe3eYJlCnLon+DyI=";
    let sha256 = "zxNmZmqnD0r8axVcel5jADvsjhb6fU5l0zOxF+iS8Zc=";
    let form = status_form("delivered");
    assert!(is_good(&request(STATUS_URL, &form, sha1)));
    let keys = json!({"webhook_shared_keys": {"webhooks_sharedkey_1": VECTOR_TOKEN, "webhooks_sharedkey_2": "other"}});
    let channel = build(&without(with(settings("https://a.example"), &keys), &["auth_token"]));
    let judged = |settings: &str, signature: &str| {
        let mut request = request(STATUS_URL, &form, signature);
        request.headers.insert("x-twilio-webhooks-signature-settings", settings.parse().unwrap());
        channel.parse_callback(&request).unwrap().authenticated
    };
    assert!(judged("key=webhooks_sharedkey_1,algorithm=HMAC_SHA256", sha256));
    assert!(judged("algorithm=HMAC_SHA256, key=webhooks_sharedkey_1", sha256));
    assert!(judged("key=webhooks_sharedkey_1", sha1));
    for (settings, signature) in [
        ("key=webhooks_sharedkey_2,algorithm=HMAC_SHA256", sha256),
        ("key=webhooks_sharedkey_9,algorithm=HMAC_SHA256", sha256),
        ("key=webhooks_sharedkey_1,algorithm=HMAC_MD5", sha256),
        ("key=webhooks_sharedkey_1,algorithm=HMAC_SHA256", sha1),
        // No key named: the account's own, which this channel does not have.
        ("algorithm=HMAC_SHA256", sha256),
        ("", sha1),
    ] {
        assert!(!judged(settings, signature), "{settings}");
    }
}

/// A callback as the vendor signs it, to the URL that we gave for a delivery.
fn reported(form: &str) -> CallbackReply {
    let url = format!("{CALLBACK}?p=param-1");
    let mut fields: Vec<(String, String)> =
        url::form_urlencoded::parse(form.as_bytes()).into_owned().collect();
    fields.sort();
    let text = fields.into_iter().fold(url.clone(), |text, (name, value)| text + &name + &value);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, TOKEN.as_bytes());
    let signature = STANDARD.encode(hmac::sign(&key, text.as_bytes()));
    verifier(TOKEN).parse_callback(&request(&url, form, &signature)).unwrap()
}

#[test]
fn every_status_is_read_as_what_the_vendor_knows() {
    use ReceiptEvent::Delivered;
    let failed = ReceiptEvent::failed;
    for (status, event) in [
        ("accepted", None),
        ("scheduled", None),
        ("queued", None),
        ("sending", None),
        ("sent", None),
        ("delivered", Some(Delivered)),
        ("read", Some(Delivered)),
        ("undelivered", Some(failed(Reason::Unclassified))),
        ("failed", Some(failed(Reason::Unclassified))),
        ("canceled", Some(ReceiptEvent::ended(Reason::Cancelled))),
        ("partially_delivered", None),
        ("receiving", None),
        ("received", None),
        ("never heard of", None),
        ("", None),
    ] {
        let reply = reported(&status_form(status));
        assert_eq!((reply.authenticated, reply.status), (true, StatusCode::NO_CONTENT), "{status}");
        assert_eq!(reply.receipts.first().map(|receipt| receipt.event), event, "{status}");
    }
}

#[test]
fn a_receipt_finds_its_delivery_by_our_parameter() {
    let receipt = reported(&status_form("delivered")).receipts.remove(0);
    assert_eq!(receipt.param.as_deref(), Some("param-1"));
    assert_eq!((receipt.vendor_id.as_deref(), receipt.token.as_deref()), (Some(SID), Some(NUMBER)));
    assert_eq!((receipt.witness, receipt.at), (Witness::Vendor, None));
    // What the vendor adds without notice changes nothing.
    let more = format!("{}&RawDlrDoneDate=2611201200&New%20Key=a%20%26", status_form("delivered"));
    assert_eq!(reported(&more).receipts.remove(0).event, ReceiptEvent::Delivered);
}

#[test]
fn a_failure_carries_the_vendors_code_and_no_number() {
    for (code, reason) in [
        (30001, Reason::RateLimited),
        (30003, Reason::DeviceUnavailable),
        (30005, Reason::UnreachableRecipient),
        (30006, Reason::UnreachableRecipient),
        (30007, Reason::CarrierRejected),
        (30008, Reason::Unclassified),
        (30034, Reason::CarrierRejected),
        (30999, Reason::CarrierRejected),
        (21610, Reason::OptedOut),
        (63_016, Reason::Unclassified),
    ] {
        let form =
            format!("{}&ErrorCode={code}&ErrorMessage=to%20%2B15551234567", status_form("undelivered"));
        let receipt = reported(&form).receipts.remove(0);
        assert_eq!(receipt.event, ReceiptEvent::failed(reason), "{code}");
        assert_eq!(receipt.vendor.code, Some(code.to_string()));
        assert_eq!(receipt.vendor.words.as_deref(), Some("to [removed]"));
    }
}

#[test]
fn a_form_that_makes_no_sense_is_an_empty_report() {
    for form in [
        "",
        "=&&=%",
        "MessageStatus=delivered&MessageStatus=failed",
        "MessageSid=..%2F..&MessageStatus=delivered",
    ] {
        let reply = reported(form);
        assert!(reply.receipts.iter().all(|receipt| receipt.vendor_id.is_none()), "{form}");
    }
}
