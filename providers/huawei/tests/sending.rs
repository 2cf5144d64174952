//! Requests on the wire: paths, batches, repeats, checks.

use super::*;
use crate::contract::{Failure, Gate, Pass, Reason, Verdict};

#[tokio::test]
async fn a_send_goes_by_app_or_by_project() {
    let vendor = vendor(|_| accepted()).await;
    let mut by_project = config(&vendor.url(""));
    by_project["project_id"] = json!("736430079244623000");
    send_one(&*channel(&vendor)).await;
    send_one(&*build(&by_project)).await;
    let sent = vendor.requests_to(":send");
    assert_eq!(sent[0].path, "/v1/100000001/messages:send");
    assert_eq!(sent[1].path, "/v2/736430079244623000/messages:send");
    assert_eq!(sent[0].method, http::Method::POST);
    assert_eq!(sent[0].header("content-type"), "application/json;charset=utf-8");
    assert_eq!(sent[0].header("user-agent"), "anypush/test");
}

#[tokio::test]
async fn a_repeat_is_the_same_request_byte_for_byte() {
    let vendor = vendor(|_| accepted()).await;
    let channel = channel(&vendor);
    for _ in 0..2 {
        send_to(&*channel, &[TOKEN, OTHER]).await;
    }
    let sent = vendor.requests_to(":send");
    assert_eq!(sent[0].body, sent[1].body);
}

#[tokio::test]
async fn a_thousand_targets_are_one_request_each_named_by_its_first_target() {
    let vendor = vendor(|_| accepted()).await;
    let tokens: Vec<String> = (0..1001).map(|n| format!("device-token-{n:04}")).collect();
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let outcomes = send_to(&*channel(&vendor), &tokens).await;
    assert!(outcomes.iter().all(|outcome| outcome.verdict == Verdict::Accepted));
    let mut sizes: Vec<(usize, String)> = vendor
        .requests_to(":send")
        .iter()
        .map(|seen| {
            let message = seen.json()["message"].take();
            (
                message["token"].as_array().unwrap().len(),
                message["android"]["bi_tag"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    sizes.sort();
    assert_eq!(sizes, [(1, "param-1001".to_owned()), (1000, "param-1".to_owned())]);
}

#[tokio::test]
async fn a_token_that_stands_twice_is_sent_once_and_both_get_their_outcome() {
    let vendor = vendor(|_| accepted()).await;
    let outcomes = send_to(&*channel(&vendor), &[TOKEN, OTHER, TOKEN]).await;
    assert!(outcomes.iter().all(|outcome| outcome.verdict == Verdict::Accepted));
    assert_eq!(vendor.requests_to(":send").remove(0).json()["message"]["token"], json!([TOKEN, OTHER]));
}

#[test]
fn an_address_of_another_app_is_not_served() {
    let channel = build(&config("http://x.invalid"));
    let mut address = target(TOKEN, 1).address;
    assert!(channel.serves(&address).is_ok());
    address.params.insert("app_id".to_owned(), "100000001".to_owned());
    assert!(channel.serves(&address).is_ok());
    address.params.insert("app_id".to_owned(), "2".to_owned());
    assert!(channel.serves(&address).unwrap_err().contains("app 2"));
}

struct ClosedGate;

#[async_trait::async_trait]
impl Gate for ClosedGate {
    async fn pass(&self, targets: usize) -> Result<Pass, Reason> {
        assert_eq!(targets, 2);
        Err(Reason::Cancelled)
    }
}

#[tokio::test]
async fn the_gate_is_asked_with_the_number_of_targets_and_its_no_is_their_outcome() {
    let vendor = vendor(|_| accepted()).await;
    let context = SendContext { gate: Arc::new(ClosedGate), ..context() };
    for outcome in assert_contract(&*channel(&vendor), batch(hello(), &[TOKEN, OTHER]), context, &[]).await {
        assert_eq!(outcome.verdict, Verdict::Failed(Failure::channel(Reason::Cancelled)));
        assert_eq!(outcome.latency, Duration::ZERO);
    }
    assert!(vendor.requests().is_empty());
}

#[tokio::test]
async fn a_check_validates_a_message_to_nobody() {
    for (reply, says) in [
        (accepted(), "would take messages"),
        (answer("80300007", "all tokens are invalid"), "only the made-up token was refused"),
    ] {
        let vendor = vendor(move |_| reply.clone()).await;
        let report = channel(&vendor).check(context()).await;
        assert!(report.ok && report.reason.is_none() && report.detail.contains(says), "{report:?}");
        assert_eq!(report.warnings.len(), 1, "receipts are not signed");
        let sent = vendor.requests_to(":send").remove(0).json();
        assert_eq!(sent["validate_only"], true);
        assert_eq!(sent["message"]["token"], json!(["anypush-check-names-no-phone"]));
    }
}

#[tokio::test]
async fn a_check_says_what_to_mend_and_never_a_secret() {
    for (reply, reason, says) in [
        (answer("80200001", ACCESS_TOKEN), Reason::AuthFailed, "Push Kit is enabled"),
        (answer("80300002", "no permission"), Reason::AuthFailed, "no permission"),
        (Reply::status(503), Reason::RateLimited, "too many requests"),
        (Reply::status(500), Reason::VendorUnavailable, "HTTP 500"),
        (Reply::ok("<html>"), Reason::ProtocolError, "not expected"),
    ] {
        let vendor = vendor(move |_| reply.clone()).await;
        let report = channel(&vendor).check(context()).await;
        assert_eq!((report.ok, report.reason), (false, Some(reason)), "{report:?}");
        assert!(report.detail.contains(says), "{}", report.detail);
        assert!(!report.detail.contains(ACCESS_TOKEN) && !report.detail.contains(SECRET));
    }
}
