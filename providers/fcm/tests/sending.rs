//! Access tokens, lost answers, many targets.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::contract::{Failure, Gate, Hint, Pass, Reason, Verdict};
use crate::kit::testing::raw_peer::{Does, peer};

fn failed(outcome: &Outcome) -> &Failure {
    match &outcome.verdict {
        Verdict::Failed(failure) => failure,
        Verdict::Accepted => panic!("accepted"),
    }
}

fn unauthenticated() -> Reply {
    let body = json!({"error": {"code": 401, "status": "UNAUTHENTICATED", "message": ACCESS_TOKEN}});
    Reply::status(401).body(body.to_string())
}

#[tokio::test]
async fn a_send_is_authenticated_by_an_assertion_with_the_smallest_scope() {
    let vendor = vendor(|_| accepted()).await;
    send_one(&*channel(&vendor)).await;

    let asked = vendor.requests_to("/token").remove(0);
    assert_eq!(asked.header("content-type"), "application/x-www-form-urlencoded");
    let form = String::from_utf8(asked.body.to_vec()).unwrap();
    let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
    let assertion = form.strip_prefix(grant).unwrap();
    let parts: Vec<Value> = assertion
        .split('.')
        .take(2)
        .map(|part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap())
        .collect();
    assert_eq!(parts[0], json!({"typ": "JWT", "alg": "RS256", "kid": "key-1"}));
    assert_eq!(
        parts[1],
        json!({
            "iss": "sender@demo-proj.iam.gserviceaccount.com",
            "aud": "https://oauth2.googleapis.com/token",
            "iat": 1_700_000_000,
            "exp": 1_700_003_600,
            "scope": "https://www.googleapis.com/auth/firebase.messaging"
        })
    );

    let sent = vendor.requests_to(":send").remove(0);
    assert_eq!(sent.method, http::Method::POST);
    assert_eq!(sent.header("authorization"), format!("Bearer {ACCESS_TOKEN}"));
    assert_eq!(sent.header("content-type"), "application/json");
    assert_eq!(sent.header("user-agent"), "anypush/test");
}

#[tokio::test]
async fn many_targets_share_one_access_token_and_each_gets_its_own_outcome() {
    let vendor = vendor(|seen| match seen.json()["message"]["token"].as_str() {
        Some("t7") => Reply::status(404).body(
            r#"{"error":{"status":"NOT_FOUND","details":[{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"UNREGISTERED"}]}}"#,
        ),
        _ => accepted(),
    })
    .await;
    let tokens: Vec<String> = (0..300).map(|n| format!("t{n}")).collect();
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let (sink, mut source) = crate::contract::Outcomes::channel();
    channel(&vendor).send(batch(hello(), &tokens), context(), sink).await;
    let mut outcomes = Vec::new();
    while let Some(outcome) = source.recv().await {
        outcomes.push(outcome);
    }
    outcomes.sort_by_key(|outcome| outcome.target);
    assert_eq!(outcomes.len(), 300);
    assert_eq!(vendor.requests_to("/token").len(), 1);
    assert_eq!(vendor.requests_to(":send").len(), 300);
    for outcome in &outcomes {
        assert_eq!(outcome.verdict == Verdict::Accepted, outcome.target != 7);
    }
    assert_eq!(failed(&outcomes[7]).reason, Reason::InvalidToken);
}

#[tokio::test]
async fn a_refused_access_token_is_replaced_once_and_nobody_notices() {
    let minted = Arc::new(AtomicU32::new(0));
    let count = minted.clone();
    let vendor = FakeVendor::start(move |seen| match seen.path.as_str() {
        "/token" => {
            let number = count.fetch_add(1, Ordering::SeqCst);
            Reply::ok(json!({"access_token": format!("token-{number}"), "expires_in": 3599}).to_string())
        }
        _ if seen.header("authorization") == "Bearer token-0" => unauthenticated(),
        _ => accepted(),
    })
    .await;
    let tokens: Vec<String> = (0..50).map(|n| format!("device-{n}")).collect();
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let outcomes =
        assert_contract(&*channel(&vendor), batch(hello(), &tokens), context(), &["token-1"]).await;
    assert!(outcomes.iter().all(|outcome| outcome.verdict == Verdict::Accepted));
    assert_eq!(minted.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn credentials_that_stay_refused_stop_the_channel_after_one_new_token() {
    let vendor = vendor(|_| unauthenticated()).await;
    let outcome = send_one(&*channel(&vendor)).await;
    assert_eq!(*failed(&outcome), Failure::channel(Reason::AuthFailed));
    assert_eq!((vendor.requests_to("/token").len(), vendor.requests_to(":send").len()), (2, 2));
    assert_eq!(outcome.vendor.words.as_deref(), Some("[removed]"));
}

#[tokio::test]
async fn a_refused_apple_key_renews_nothing_and_leaves_the_channel_alone() {
    let vendor = vendor(|_| {
        Reply::status(401).body(
            r#"{"error":{"status":"UNAUTHENTICATED","details":[{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"THIRD_PARTY_AUTH_ERROR"}]}}"#,
        )
    })
    .await;
    let outcome = send_one(&*channel(&vendor)).await;
    assert_eq!(*failed(&outcome), Failure::target(Reason::AuthFailed));
    assert_eq!((vendor.requests_to("/token").len(), vendor.requests_to(":send").len()), (1, 1));
}

/// What a target gets when the token endpoint answers so; nothing is sent.
async fn without_access_token(reply: Reply) -> Outcome {
    let vendor = FakeVendor::start(move |_| reply.clone()).await;
    let outcome = send_one(&*channel(&vendor)).await;
    assert!(vendor.requests_to(":send").is_empty());
    outcome
}

#[tokio::test]
async fn a_refused_key_is_an_authentication_failure_with_the_vendors_words() {
    let refused = Reply::status(400)
        .body(json!({"error": "invalid_grant", "error_description": "Invalid JWT Signature."}).to_string());
    let outcome = without_access_token(refused).await;
    assert_eq!(*failed(&outcome), Failure::channel(Reason::AuthFailed));
    assert_eq!(outcome.vendor.code.as_deref(), Some("invalid_grant"));
    assert_eq!(outcome.vendor.words.as_deref(), Some("Invalid JWT Signature."));
    let outcome = without_access_token(Reply::status(401).body("<html>")).await;
    assert_eq!(failed(&outcome).reason, Reason::AuthFailed);
}

#[tokio::test]
async fn a_token_endpoint_in_trouble_is_the_vendors_trouble_and_nothing_was_sent() {
    let outcome = without_access_token(Reply::status(503).header("retry-after", "3")).await;
    let wait = Hint::RetryAfter(Duration::from_secs(3));
    assert_eq!(*failed(&outcome), Failure::channel(Reason::VendorUnavailable).hint(wait));

    for garbage in ["", "<html>", "{}", r#"{"access_token":"","expires_in":1}"#, r#"{"access_token":"a"}"#] {
        let outcome = without_access_token(Reply::ok(garbage)).await;
        assert_eq!(*failed(&outcome), Failure::channel(Reason::ProtocolError), "{garbage}");
    }

    let silent = without_access_token(Reply::ok("").after(Duration::from_secs(5))).await;
    assert_eq!(*failed(&silent), Failure::channel(Reason::VendorUnavailable));

    let base = FakeVendor::start(|_| accepted()).await.shut().await;
    let config =
        json!({"service_account": account(), "base_url": base, "token_url": format!("{base}/token")});
    let outcome = send_one(&*build(&config)).await;
    assert_eq!(*failed(&outcome), Failure::channel(Reason::VendorUnavailable));
}

#[tokio::test]
async fn a_lost_answer_is_doubtful_and_an_unreachable_vendor_is_not() {
    let silent = vendor(|_| accepted().after(Duration::from_secs(5))).await;
    let outcome = send_one(&*channel(&silent)).await;
    assert_eq!(*failed(&outcome), Failure::channel(Reason::VendorUnavailable).doubtful());
    assert!(outcome.latency >= Duration::from_secs(1));

    let tokens = vendor(|_| accepted()).await;
    let gone = FakeVendor::start(|_| accepted()).await.shut().await;
    let config = json!({"service_account": account(), "base_url": gone, "token_url": tokens.url("/token")});
    let outcome = send_one(&*build(&config)).await;
    assert_eq!(*failed(&outcome), Failure::channel(Reason::VendorUnavailable));
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
    let vendor = vendor(|_| accepted().after(Duration::from_millis(30))).await;
    let (inside, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let gate = CountingGate { left: Mutex::new(3), inside: inside.clone(), most: most.clone() };
    let context = SendContext { gate: Arc::new(gate), now, callback_url: None };
    let tokens = ["dev-a", "dev-b", "dev-c", "dev-d", "dev-e"];
    let outcomes = assert_contract(&*channel(&vendor), batch(hello(), &tokens), context, &[]).await;
    let stopped = outcomes
        .iter()
        .filter(|outcome| outcome.verdict == Verdict::Failed(Failure::channel(Reason::Cancelled)));
    assert_eq!(stopped.count(), 2);
    assert_eq!(vendor.requests_to(":send").len(), 3);
    assert_eq!((inside.load(Ordering::SeqCst), most.load(Ordering::SeqCst)), (0, 3), "held until answered");
}

#[tokio::test]
async fn a_check_sends_to_nobody_and_says_what_to_mend() {
    let asked = vendor(|_| accepted()).await;
    let found = channel(&asked).check(context()).await;
    assert!(found.ok && found.reason.is_none(), "{found:?}");
    let request = asked.requests_to(":send").remove(0).json();
    assert_eq!(request["validate_only"], true);
    assert_eq!(request["message"]["token"], "anypush-check-names-no-installation");

    let body = r#"{"error":{"status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"INVALID_ARGUMENT"},{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"field":"message.token"}]}]}}"#;
    let strict = vendor(move |_| Reply::status(400).body(body)).await;
    assert!(channel(&strict).check(context()).await.ok, "only the made-up token was refused");

    let denied =
        vendor(|_| Reply::status(403).body(r#"{"error":{"status":"PERMISSION_DENIED","message":"no"}}"#))
            .await;
    let found = channel(&denied).check(context()).await;
    assert_eq!((found.ok, found.reason), (false, Some(Reason::AuthFailed)));
    assert!(found.detail.contains("API is enabled") && found.detail.contains("HTTP 403"), "{found:?}");
}

#[tokio::test]
async fn a_check_tells_what_is_so_and_not_what_was_refused_a_moment_ago() {
    let refusal = Reply::status(400).body(json!({"error": "invalid_grant"}).to_string());
    let vendor = FakeVendor::refusing_once("/token", refusal, |seen| match seen.path.as_str() {
        "/token" => token_reply(),
        _ => accepted(),
    })
    .await;
    let channel = channel(&vendor);
    assert_eq!(failed(&send_one(&*channel).await).reason, Reason::AuthFailed);
    let found = channel.check(context()).await;
    assert!(found.ok, "{found:?}");
}

/// What a target gets from a peer that does this with every request.
async fn outcome_from(does: fn(u32, u32) -> Does) -> Outcome {
    let tokens = vendor(|_| accepted()).await;
    let peer = peer(100, does).await;
    let config = json!({
        "service_account": account(),
        "base_url": peer.base,
        "token_url": tokens.url("/token"),
    });
    send_one(&*build(&config)).await
}

#[tokio::test]
async fn a_request_that_was_not_processed_is_repeated_at_once() {
    let outcome = outcome_from(|_, _| Does::Refuse).await;
    let expected = Failure::channel(Reason::VendorUnavailable).hint(Hint::NotProcessed);
    assert_eq!(*failed(&outcome), expected);
}

#[tokio::test]
async fn a_connection_that_breaks_during_a_request_leaves_doubt() {
    for does in [|_, _| Does::HangUp, |_, _| Does::HeadOnly] {
        let outcome = outcome_from(does).await;
        assert_eq!(*failed(&outcome), Failure::channel(Reason::VendorUnavailable).doubtful());
    }
}
