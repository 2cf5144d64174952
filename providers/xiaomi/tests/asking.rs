//! Checks and polls: what is asked, and what the answers mean.

use super::*;
use crate::contract::{Failure, Reason, ReceiptEvent};

async fn counters(reply: Reply) -> FakeVendor {
    FakeVendor::start(move |_| reply.clone()).await
}

#[tokio::test]
async fn a_check_sends_to_nobody_and_asks_for_the_vendors_today() {
    let vendor = counters(Reply::ok(r#"{"result":"ok","code":0,"data":{"data":[]}}"#)).await;
    let report = channel(&vendor).check(context()).await;
    assert!(report.ok && report.reason.is_none(), "{report:?}");
    assert!(report.warnings.is_empty());
    let seen = vendor.requests().remove(0);
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("GET", "/v1/stats/message/counters"));
    // In China it is the next day already.
    assert_eq!(seen.query, "start_date=20231115&end_date=20231115&restricted_package_name=com.example.app");
    assert_eq!(seen.header("authorization"), "key=AbCdSecret");
}

#[tokio::test]
async fn a_check_says_what_to_mend_and_never_the_secret() {
    let refused_as = |status: u16, code: i64| {
        let body = json!({"result": "error", "code": code, "reason": format!("bad key {SECRET}")});
        Reply::status(status).body(body.to_string())
    };
    for (reply, reason, says) in [
        (refused_as(200, 21301), Reason::AuthFailed, "AppSecret"),
        (refused_as(200, 22022), Reason::AuthFailed, "package name"),
        (refused_as(401, 0), Reason::AuthFailed, "HTTP 401"),
        (refused_as(200, 10039), Reason::RateLimited, "too many requests"),
        (Reply::status(503), Reason::VendorUnavailable, "HTTP 503"),
        (Reply::ok("<html>"), Reason::ProtocolError, "not expected"),
    ] {
        let report = channel(&counters(reply).await).check(context()).await;
        assert_eq!((report.ok, report.reason), (false, Some(reason)), "{report:?}");
        assert!(report.detail.contains(says) && !report.detail.contains(SECRET), "{}", report.detail);
    }
    let gone = FakeVendor::start(|_| accepted()).await.shut().await;
    let report = build(&config(&gone)).check(context()).await;
    assert_eq!(report.reason, Some(Reason::VendorUnavailable));
}

#[tokio::test]
async fn a_check_warns_of_a_channel_that_is_missing() {
    let vendor = counters(Reply::ok(r#"{"result":"ok","code":0}"#)).await;
    let bare = json!({"app_secret": SECRET, "package_name": "a.b", "base_url": vendor.url("")});
    let report = build(&bare).check(context()).await;
    assert!(report.ok);
    assert_eq!(report.warnings.len(), 2);
}

/// A trace as the vendor's clients read it: `data` within `data`, rates as texts.
fn trace(resolved: u64, delivered: u64, click: u64) -> Reply {
    let counted = json!({
        "id": "sdm1", "msg_type": "notification", "create_time": "2026-11-20 10:00:00",
        "create_timestamp": 1_700_000_000_000_u64, "time_to_live": "1 days", "resolved": resolved,
        "delivered": delivered, "click": click, "delivery_rate": "100.00%", "click_rate": "0.00%"
    });
    Reply::ok(json!({"result": "ok", "code": 0, "data": {"data": counted}}).to_string())
}

async fn polled(
    reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
) -> Result<Vec<(String, ReceiptEvent)>, Failure> {
    let vendor = FakeVendor::start(reply).await;
    let ids = ["sdm1".to_owned(), "sdm 2&x".to_owned()];
    let receipts = channel(&vendor).poll_receipts(&ids, context()).await?;
    Ok(receipts.into_iter().map(|receipt| (receipt.vendor_id.unwrap(), receipt.event)).collect())
}

#[tokio::test]
async fn a_poll_tells_of_messages_that_went_to_one_phone() {
    let found = polled(|seen| match seen.query.as_str() {
        "msg_id=sdm1" => trace(1, 1, 1),
        "msg_id=sdm+2%26x" => trace(1, 0, 0),
        _ => Reply::status(418),
    })
    .await
    .unwrap();
    assert_eq!(
        found,
        [("sdm1".to_owned(), ReceiptEvent::Delivered), ("sdm1".to_owned(), ReceiptEvent::Clicked)]
    );
}

#[tokio::test]
async fn counters_of_many_phones_blame_and_praise_none() {
    assert_eq!(polled(|_| trace(3, 2, 1)).await.unwrap(), []);
}

#[tokio::test]
async fn a_message_that_the_vendor_does_not_know_is_left_out() {
    assert_eq!(polled(|_| refused(65028, "not found")).await.unwrap(), []);
}

#[tokio::test]
async fn a_poll_that_fails_says_why_and_keeps_what_was_learned_before() {
    assert_eq!(polled(|_| refused(10039, "too often")).await, Err(Failure::channel(Reason::RateLimited)));
    assert_eq!(
        polled(|_| Reply::ok("<html>")).await,
        Err(Failure::channel(Reason::ProtocolError).doubtful())
    );
    let found =
        polled(|seen| if seen.query == "msg_id=sdm1" { trace(1, 1, 0) } else { refused(10039, "") }).await;
    assert_eq!(found.unwrap(), [("sdm1".to_owned(), ReceiptEvent::Delivered)]);
}
