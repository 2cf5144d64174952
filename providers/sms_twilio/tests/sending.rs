//! The request on the wire, lost answers, many targets, asking afterwards.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;

use super::*;
use crate::contract::{Gate, Pass, Reason, ReceiptEvent, Witness};

#[tokio::test]
async fn a_request_is_as_the_vendors_own_client_sends_it() {
    let vendor = vendor(|_| queued()).await;
    send_one(&*channel(&vendor)).await;
    let seen = vendor.requests().remove(0);
    assert_eq!(
        (seen.method.as_str(), seen.path),
        ("POST", format!("/2010-04-01/Accounts/{ACCOUNT}/Messages.json"))
    );
    for (name, value) in [
        ("content-type", "application/x-www-form-urlencoded"),
        ("accept", "application/json"),
        ("user-agent", "anypush/test"),
        // An API key logs in, the account stays in the path.
        ("authorization", "Basic U0tjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjYzpjYW5hcnktYXBpLXNlY3JldA=="),
    ] {
        assert_eq!(seen.headers.get(name).unwrap(), value, "{name}");
    }
    let expected = "To=%2B15551234567&From=%2B15557654321&Body=H%C3%A9llo+%E2%82%AC&ValidityPeriod=3600&StatusCallback=\
                    https%3A%2F%2Fpush.example.com%2Fv1%2Fcallbacks%2Fchn_1%2Fcanary-path-secret%3Fp%3Dparam-1";
    assert_eq!(seen.body, expected);
}

#[tokio::test]
async fn the_accounts_own_token_logs_in_where_there_is_no_key() {
    let vendor = vendor(|_| queued()).await;
    let config = without(settings(&vendor.url("")), &["api_key_sid", "api_key_secret"]);
    send_one(&*build(&with(config, &json!({"auth_token": "tok"})))).await;
    let expected = "Basic QUNhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYTp0b2s=";
    assert_eq!(vendor.requests()[0].header("authorization"), expected);
}

#[tokio::test]
async fn no_report_is_asked_for_that_could_not_be_verified_or_delivered() {
    let vendor = vendor(|_| queued()).await;
    let blind = build(&without(settings(&vendor.url("")), &["auth_token"]));
    send_one(&*blind).await;
    let seeing = channel(&vendor);
    for url in [None, Some("https://my_host.example/cb"), Some("nonsense")] {
        let context = SendContext { callback_url: url.map(Into::into), ..context() };
        assert_contract(&*seeing, batch(hello(), &[NUMBER]), context, &[]).await;
    }
    for seen in vendor.requests() {
        assert_eq!(seen.form().get("StatusCallback"), None);
    }
}

#[tokio::test]
async fn many_targets_each_get_their_own_outcome() {
    let vendor = vendor(|seen| {
        if seen.form()["To"].ends_with("0007") {
            return Reply::status(400).body(r#"{"code":21610,"message":"STOP","status":400}"#);
        }
        queued()
    })
    .await;
    let numbers: Vec<String> = (0..150).map(|n| format!("+1555000{n:04}")).collect();
    let mut numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
    numbers.extend(["15559990000", "+0555123456", "+1555 999 0000", "+15557654321"]);
    let outcomes = assert_contract(&*channel(&vendor), batch(hello(), &numbers), context(), &[SECRET]).await;
    for outcome in &outcomes[..150] {
        assert_eq!(outcome.verdict == Verdict::Accepted, outcome.target != 7);
    }
    assert_eq!(failed(&outcomes[7]).reason, Reason::OptedOut);
    // What is no number is not sent to, nor is the sender itself.
    for outcome in &outcomes[150..153] {
        assert_eq!((failed(outcome).reason, outcome.latency), (Reason::UnreachableRecipient, Duration::ZERO));
    }
    assert_eq!(failed(&outcomes[153]).reason, Reason::PayloadInvalid);
    assert_eq!(vendor.requests().len(), 150);
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_once_only_and_an_unreachable_vendor_is_certain() {
    let silent = vendor(|_| queued().after(Duration::from_secs(5))).await;
    let outcome = send_one(&*channel(&silent)).await;
    assert_eq!(*failed(&outcome), Failure::channel(Reason::VendorUnavailable).doubtful());
    assert!(outcome.latency >= Duration::from_secs(1));

    let gone = vendor(|_| queued()).await.shut().await;
    let outcome = send_one(&*build(&settings(&gone))).await;
    assert_eq!(*failed(&outcome), Failure::channel(Reason::VendorUnavailable));
}

#[tokio::test]
async fn nothing_is_ever_sent_twice_by_the_adapter() {
    for status in [401, 429, 500, 503] {
        let vendor = vendor(move |_| Reply::status(status)).await;
        send_one(&*channel(&vendor)).await;
        assert_eq!(vendor.requests().len(), 1, "{status}");
    }
}

/// Counts who is inside; closes after a number of passes.
struct CountingGate {
    left: Mutex<u32>,
    inside: Arc<AtomicU32>,
    most: Arc<AtomicU32>,
}

struct Inside(Arc<AtomicU32>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Gate for CountingGate {
    async fn pass(&self, targets: usize) -> Result<Pass, Reason> {
        assert_eq!(targets, 1, "one request carries one target");
        let mut left = self.left.lock().unwrap();
        *left = left.checked_sub(1).ok_or(Reason::Cancelled)?;
        self.most.fetch_max(self.inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        Ok(Pass::new(Inside(self.inside.clone())))
    }
}

#[tokio::test]
async fn the_gate_is_asked_before_each_request_and_its_no_is_an_outcome() {
    let vendor = vendor(|_| queued().after(Duration::from_millis(30))).await;
    let (inside, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let gate = CountingGate { left: Mutex::new(3), inside: inside.clone(), most: most.clone() };
    let context = SendContext { gate: Arc::new(gate), ..context() };
    let numbers = ["+15550000001", "+15550000002", "+15550000003", "+15550000004", "+15550000005"];
    let outcomes = assert_contract(&*channel(&vendor), batch(hello(), &numbers), context, &[]).await;
    let stopped = outcomes
        .iter()
        .filter(|outcome| outcome.verdict == Verdict::Failed(Failure::channel(Reason::Cancelled)));
    assert_eq!((stopped.count(), vendor.requests().len()), (2, 3));
    assert_eq!((inside.load(Ordering::SeqCst), most.load(Ordering::SeqCst)), (0, 3), "held until answered");
}

fn not_found() -> Reply {
    Reply::status(404).body(r#"{"code":20404,"message":"not found","status":404}"#)
}

#[tokio::test]
async fn a_check_sends_to_nobody_and_says_what_to_mend() {
    let asked = vendor(|_| not_found()).await;
    let found = channel(&asked).check(context()).await;
    assert!(found.ok && found.reason.is_none() && found.warnings.is_empty(), "{found:?}");
    let seen = asked.requests().remove(0);
    assert_eq!(
        (seen.method.as_str(), seen.path.ends_with("/Messages/SM00000000000000000000000000000000.json")),
        ("GET", true)
    );
    let blind = build(&without(settings(&asked.url("")), &["auth_token"])).check(context()).await;
    assert!(blind.ok && blind.warnings[0].contains("auth_token"), "{blind:?}");

    for (reply, reason) in [
        (
            Reply::status(401).body(r#"{"code":20003,"message":"Authenticate","status":401}"#),
            Reason::AuthFailed,
        ),
        (
            Reply::status(403).body(r#"{"code":10001,"message":"not active","status":403}"#),
            Reason::QuotaExceeded,
        ),
        // Somebody else's page.
        (Reply::status(404).body("<html>"), Reason::AuthFailed),
        (Reply::ok("<html>"), Reason::ProtocolError),
    ] {
        let vendor = vendor(move |_| reply.clone()).await;
        let found = channel(&vendor).check(context()).await;
        assert_eq!((found.ok, found.reason), (false, Some(reason)), "{found:?}");
        assert!(!format!("{found:?}").contains("canary"));
    }
    let gone = vendor(|_| queued()).await.shut().await;
    let found = build(&settings(&gone)).check(context()).await;
    assert_eq!((found.ok, found.reason), (false, Some(Reason::VendorUnavailable)));
}

#[tokio::test]
async fn what_became_of_a_text_can_be_asked_for() {
    let sid = |letter: &str| format!("SM{}", letter.repeat(32));
    let vendor = vendor(|seen| {
        let sid = seen.path.rsplit('/').next().unwrap().trim_end_matches(".json").to_owned();
        let told = match &sid[2..3] {
            "a" => json!({"status": "delivered", "num_segments": "2", "price": "-0.0158"}),
            "b" => json!({"status": "undelivered", "error_code": 30007, "error_message": "Filtered"}),
            "c" => json!({"status": "sent"}),
            _ => return not_found(),
        };
        Reply::ok(with(message("queued"), &with(told, &json!({"sid": sid}))).to_string())
    })
    .await;
    let ids = [sid("a"), sid("b"), sid("c"), sid("d"), "../../evil".to_owned()];
    let mut found = channel(&vendor).poll_receipts(&ids, context()).await.unwrap();
    found.sort_by_key(|receipt| receipt.vendor_id.clone());
    assert_eq!((found.len(), vendor.requests().len()), (2, 4));
    assert_eq!((found[0].event, found[0].witness), (ReceiptEvent::Delivered, Witness::Vendor));
    assert_eq!((found[0].extra["segments"].as_str(), found[0].extra["price"].as_str()), ("2", "-0.0158"));
    assert_eq!(found[1].event, ReceiptEvent::failed(Reason::CarrierRejected));
    assert_eq!((found[1].vendor.code.as_deref(), found[1].token.as_deref()), (Some("30007"), Some(NUMBER)));

    let denied = self::vendor(|_| Reply::status(401)).await;
    let failure = channel(&denied).poll_receipts(&ids, context()).await.unwrap_err();
    assert_eq!(failure, Failure::channel(Reason::AuthFailed));
    let odd = self::vendor(|_| Reply::ok("<html>")).await;
    let failure = channel(&odd).poll_receipts(&ids, context()).await.unwrap_err();
    assert_eq!(failure.reason, Reason::ProtocolError);
}
