//! Every row of the vendor's error table, and answers that no table has.

use serde_json::{Value, json};

use super::*;
use crate::contract::{Certainty, Failure, Hint, Reason, Scope, Verdict};

/// What one answer becomes.
async fn outcome_of(reply: Reply) -> Outcome {
    let vendor = vendor(move |_| reply.clone()).await;
    send_one(&*channel(&vendor)).await
}

async fn failure_of(reply: Reply) -> (Failure, Outcome) {
    let outcome = outcome_of(reply).await;
    match outcome.verdict.clone() {
        Verdict::Failed(failure) => (failure, outcome),
        Verdict::Accepted => panic!("accepted: {outcome:?}"),
    }
}

/// The vendor's refusal, with or without its own code and a violated field.
fn refusal(http: u16, status: &str, code: Option<&str>, field: Option<&str>) -> Reply {
    let mut details = Vec::new();
    if let Some(code) = code {
        details
            .push(json!({"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code}));
    }
    if let Some(field) = field {
        details.push(json!({
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{"field": field, "description": "is wrong"}]
        }));
    }
    let error =
        json!({"code": http, "message": format!("about {TOKEN}"), "status": status, "details": details});
    Reply::status(http).body(json!({"error": error}).to_string())
}

fn plain(reason: Reason, scope: Scope) -> Failure {
    Failure { reason, scope, certainty: Certainty::Definite, hint: Hint::None, since: None }
}

#[tokio::test]
async fn every_row_of_the_vendors_table_becomes_its_reason() {
    use Reason::{AuthFailed, InvalidToken, PayloadInvalid, Unclassified, VendorUnavailable, WrongApp};
    use Scope::{Channel, Target};
    let rows = [
        (404, "NOT_FOUND", Some("UNREGISTERED"), None, InvalidToken, Target),
        (404, "NOT_FOUND", None, None, AuthFailed, Channel),
        (400, "INVALID_ARGUMENT", Some("INVALID_ARGUMENT"), Some("message.token"), InvalidToken, Target),
        (
            400,
            "INVALID_ARGUMENT",
            Some("INVALID_ARGUMENT"),
            Some("message.data[0].value"),
            PayloadInvalid,
            Target,
        ),
        (400, "INVALID_ARGUMENT", Some("INVALID_ARGUMENT"), None, PayloadInvalid, Target),
        (400, "INVALID_ARGUMENT", None, Some("message.token"), PayloadInvalid, Target),
        (400, "INVALID_ARGUMENT", None, None, PayloadInvalid, Target),
        (403, "PERMISSION_DENIED", Some("SENDER_ID_MISMATCH"), None, WrongApp, Target),
        (403, "PERMISSION_DENIED", None, None, AuthFailed, Channel),
        (401, "UNAUTHENTICATED", Some("THIRD_PARTY_AUTH_ERROR"), None, AuthFailed, Target),
        (401, "UNAUTHENTICATED", Some("APNS_AUTH_ERROR"), None, AuthFailed, Target),
        (401, "UNAUTHENTICATED", None, None, AuthFailed, Channel),
        (503, "UNAVAILABLE", Some("UNAVAILABLE"), None, VendorUnavailable, Channel),
        (503, "UNAVAILABLE", None, None, VendorUnavailable, Channel),
        (500, "INTERNAL", Some("INTERNAL"), None, VendorUnavailable, Channel),
        (500, "INTERNAL", None, None, VendorUnavailable, Channel),
        (500, "UNKNOWN", None, None, VendorUnavailable, Channel),
        (500, "INTERNAL", Some("UNSPECIFIED_ERROR"), None, Unclassified, Target),
        (400, "INVALID_ARGUMENT", Some("NEVER_HEARD_OF"), None, Unclassified, Target),
        (409, "ABORTED", None, None, Unclassified, Target),
    ];
    for (http, status, code, field, reason, scope) in rows {
        let (failure, outcome) = failure_of(refusal(http, status, code, field)).await;
        assert_eq!(failure, plain(reason, scope), "{http} {status} {code:?} {field:?}");
        assert_eq!(outcome.vendor.status, Some(http));
        assert_eq!(outcome.vendor.code.as_deref(), Some(code.unwrap_or(status)));
        assert!(outcome.vendor.words.unwrap().starts_with("about [removed]"));
    }
}

#[tokio::test]
async fn a_malformed_token_is_known_by_the_vendors_words_too() {
    let message = "The registration token is not a valid FCM registration token";
    let detail = json!({"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": "INVALID_ARGUMENT"});
    let error = |details: Value| {
        let error =
            json!({"code": 400, "message": message, "status": "INVALID_ARGUMENT", "details": details});
        Reply::status(400).body(json!({"error": error}).to_string())
    };
    assert_eq!(failure_of(error(json!([detail]))).await.0, plain(Reason::InvalidToken, Scope::Target));
    // Without an FcmError nothing blames the token.
    assert_eq!(failure_of(error(json!([]))).await.0, plain(Reason::PayloadInvalid, Scope::Target));
}

#[tokio::test]
async fn a_gateways_deadline_leaves_doubt_and_a_refusal_does_not() {
    for (http, status) in [(504, "DEADLINE_EXCEEDED"), (499, "CANCELLED")] {
        let (failure, _) = failure_of(refusal(http, status, None, None)).await;
        assert_eq!(failure, plain(Reason::VendorUnavailable, Scope::Channel).doubtful(), "{status}");
    }
    for (http, certainty) in [
        (502, Certainty::Doubtful),
        (504, Certainty::Doubtful),
        (503, Certainty::Definite),
        (500, Certainty::Definite),
    ] {
        let (failure, _) = failure_of(Reply::status(http).body("<html>Error</html>")).await;
        assert_eq!((failure.reason, failure.certainty), (Reason::VendorUnavailable, certainty), "{http}");
    }
}

#[tokio::test]
async fn a_bare_status_without_json_never_blames_the_token() {
    for (http, reason) in [
        (400, Reason::PayloadInvalid),
        (401, Reason::AuthFailed),
        (403, Reason::AuthFailed),
        (404, Reason::AuthFailed),
        (413, Reason::PayloadTooLarge),
        (418, Reason::Unclassified),
    ] {
        for body in
            ["", "<html>", "{\"error\":", "{\"error\":7}", "[]", "{\"error\":{\"status\":5,\"details\":{}}}"]
        {
            let (failure, _) = failure_of(Reply::status(http).body(body)).await;
            assert_eq!((failure.reason, failure.certainty), (reason, Certainty::Definite), "{http} {body}");
        }
    }
}

#[tokio::test]
async fn the_vendors_time_to_wait_is_kept_and_a_rate_limit_without_one_waits_a_minute() {
    let limited = || refusal(429, "RESOURCE_EXHAUSTED", Some("QUOTA_EXCEEDED"), None);
    let waits = |seconds| Hint::RetryAfter(Duration::from_secs(seconds));
    let (failure, _) = failure_of(limited()).await;
    assert_eq!(failure, plain(Reason::RateLimited, Scope::Channel).hint(waits(60)));
    let (failure, _) = failure_of(limited().header("retry-after", "7")).await;
    assert_eq!(failure.hint, waits(7));
    let (failure, _) = failure_of(limited().header("retry-after", "Tue, 14 Nov 2023 22:13:50 GMT")).await;
    assert_eq!(failure.hint, waits(30));
    let busy = refusal(503, "UNAVAILABLE", Some("UNAVAILABLE"), None).header("retry-after", "9");
    assert_eq!(failure_of(busy).await.0.hint, waits(9));
}

#[tokio::test]
async fn one_devices_rate_limit_does_not_slow_the_channel() {
    let error = json!({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "Quota exceeded", "details": [
        {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": "QUOTA_EXCEEDED"},
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [
            {"subject": "device:x", "description": "Message rate per device exceeded"}]}
    ]}});
    let (failure, _) = failure_of(Reply::status(429).body(error.to_string())).await;
    assert_eq!((failure.reason, failure.scope), (Reason::RateLimited, Scope::Target));
}

#[tokio::test]
async fn a_success_without_a_name_is_doubtful_and_never_accepted() {
    let deep = "[".repeat(100_000);
    let bomb: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xed, 0xc1];
    let bodies: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"{}".to_vec(),
        b"[]".to_vec(),
        b"null".to_vec(),
        b"<html>OK</html>".to_vec(),
        b"{\"name\":".to_vec(),
        b"{\"name\":\"\"}".to_vec(),
        b"{\"name\":null}".to_vec(),
        b"{\"name\":12}".to_vec(),
        b"{\"name\":{}}".to_vec(),
        b"\xff\xfe".to_vec(),
        deep.into_bytes(),
        bomb.to_vec(),
        vec![b' '; 2 * 1024 * 1024],
    ];
    for body in bodies {
        let shown = String::from_utf8_lossy(&body[..body.len().min(20)]).into_owned();
        let (failure, _) = failure_of(Reply::ok(body)).await;
        assert_eq!(failure, plain(Reason::ProtocolError, Scope::Channel).doubtful(), "{shown:?}");
    }
    for http in [201, 202, 204, 307] {
        let body = if http == 204 { String::new() } else { json!({"name": NAME}).to_string() };
        let (failure, _) = failure_of(Reply::status(http).body(body).header("location", "/token")).await;
        assert_eq!(failure, plain(Reason::ProtocolError, Scope::Channel).doubtful(), "{http}");
    }
}

#[tokio::test]
async fn an_accepted_message_carries_the_vendors_id() {
    let outcome = outcome_of(accepted().header("content-type", "application/json; charset=UTF-8")).await;
    assert_eq!((outcome.verdict, outcome.vendor.id.as_deref()), (Verdict::Accepted, Some(NAME)));
}

#[tokio::test]
async fn a_bare_refusal_of_a_long_request_is_a_payload_that_is_too_large() {
    let vendor = vendor(|_| refusal(400, "INVALID_ARGUMENT", None, None)).await;
    // What the vendor counts fits, the request as a whole does not.
    let content = json!({"notification": {"title": "x"}, "data": {"k": "v".repeat(3800)}});
    let content = serde_json::from_value(content).unwrap();
    let channel = channel(&vendor);
    let outcomes = assert_contract(&*channel, batch(content, &[TOKEN]), context(), &[]).await;
    assert_eq!(outcomes[0].verdict, Verdict::Failed(plain(Reason::PayloadTooLarge, Scope::Target)));
}
