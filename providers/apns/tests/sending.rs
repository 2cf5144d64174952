//! Provider tokens, headers on the wire, lost answers, many targets.

use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::contract::{Gate, Pass, Reason};

thread_local!(static MINUTES: Cell<u64> = const { Cell::new(0) });

/// Each test has its thread, so each has its own clock.
fn clock() -> SystemTime {
    now() + Duration::from_mins(MINUTES.get())
}

async fn send_at(channel: &dyn Provider, minutes: u64) -> Outcome {
    MINUTES.set(minutes);
    let context = SendContext { now: clock, ..context() };
    assert_contract(channel, batch(hello(), &[TOKEN]), context, &["eyJhbGci"]).await.remove(0)
}

fn tokens(vendor: &FakeVendor) -> Vec<String> {
    vendor.requests().iter().map(|seen| seen.header("authorization").to_owned()).collect()
}

pub(super) fn claims(authorization: &str) -> (Value, Value) {
    let token = authorization.strip_prefix("bearer ").unwrap();
    let mut parts = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap());
    let mut next = || serde_json::from_slice(&parts.next().unwrap()).unwrap();
    (next(), next())
}

#[tokio::test]
async fn a_request_is_as_the_vendor_describes_it() {
    let vendor = vendor(|_| accepted()).await;
    send_one(&*channel(&vendor)).await;
    let seen = vendor.requests().remove(0);
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", &*format!("/3/device/{TOKEN}")));
    for (name, value) in [
        ("apns-push-type", "alert"),
        ("apns-topic", "com.example.app"),
        ("apns-priority", "10"),
        ("apns-expiration", "1700086400"),
        ("apns-id", "00000000-0000-8000-8000-000000000001"),
        ("apns-collapse-id", "AAAAAAAAAAAAAAAAAAAAAQ"),
        ("user-agent", "anypush/test"),
    ] {
        assert_eq!(seen.header(name), value, "{name}");
    }
    let (header, claims) = claims(seen.header("authorization"));
    assert_eq!(header, json!({"alg": "ES256", "kid": "ABC123DEFG"}));
    assert_eq!(claims, json!({"iss": "DEF123GHIJ", "iat": 1_700_000_000}));
    assert_eq!(seen.json()["aps"]["alert"], json!({"title": "Hello", "body": "You"}));
}

#[tokio::test]
async fn all_channels_of_a_key_share_one_token_until_it_is_fifty_minutes_old() {
    let vendor = vendor(|_| accepted()).await;
    let settings = settings(&vendor.url(""), "SHARED0001");
    let one = build(&settings);
    let other = build(&with(settings.clone(), &json!({"bundle_id": "com.example.other"})));
    for (minutes, channel) in [(0, &one), (1, &other), (49, &one)] {
        send_at(&**channel, minutes).await;
    }
    // A channel that is configured anew does not mint anew.
    drop(one);
    send_at(&*build(&settings), 49).await;
    let before = tokens(&vendor);
    assert!(before.iter().all(|token| *token == before[0]));
    send_at(&*other, 50).await;
    let after = tokens(&vendor).pop().unwrap();
    assert_ne!(after, before[0]);
    assert_eq!(claims(&after).1["iat"], 1_700_000_000 + 50 * 60);

    let stranger = build(&with(settings, &json!({"team_id": "OTHERTEAM1"})));
    send_at(&*stranger, 50).await;
    assert_ne!(tokens(&vendor).pop().unwrap(), after, "a token of another team");
}

#[tokio::test]
async fn a_clock_that_is_set_back_makes_a_new_token() {
    let vendor = vendor(|_| accepted()).await;
    let channel = build(&settings(&vendor.url(""), "SETBACK001"));
    send_at(&*channel, 60).await;
    send_at(&*channel, 59).await;
    send_at(&*channel, 0).await;
    let tokens = tokens(&vendor);
    assert_eq!((tokens[0] == tokens[1], tokens[1] == tokens[2]), (true, false));
}

#[tokio::test]
async fn a_token_that_is_too_old_for_the_vendor_is_replaced_once_and_nobody_notices() {
    let first = Arc::new(Mutex::new(None::<String>));
    let seen_first = first.clone();
    let vendor = vendor(move |seen| {
        let token = seen.header("authorization").to_owned();
        let mut first = seen_first.lock().unwrap();
        if *first.get_or_insert_with(|| token.clone()) == token && MINUTES.get() >= 25 {
            return refused(403, "ExpiredProviderToken");
        }
        accepted()
    })
    .await;
    let channel = build(&settings(&vendor.url(""), "EXPIRED001"));
    send_at(&*channel, 0).await;
    MINUTES.set(25);
    let context = SendContext { now: clock, ..context() };
    let many: Vec<String> = (0..40).map(|n| format!("{n:064x}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let outcomes = assert_contract(&*channel, batch(hello(), &many), context, &["eyJhbGci"]).await;
    assert!(outcomes.iter().all(|outcome| outcome.verdict == Verdict::Accepted));
    let mut tokens = tokens(&vendor);
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), 2, "forty refusals made one new token");
}

#[tokio::test]
async fn a_token_is_never_replaced_within_twenty_minutes_whatever_the_vendor_says() {
    let vendor = vendor(|_| refused(403, "ExpiredProviderToken")).await;
    let channel = build(&settings(&vendor.url(""), "YOUNG00001"));
    for minutes in [0, 10, 19] {
        let outcome = send_at(&*channel, minutes).await;
        assert_eq!(*failed(&outcome), Failure::channel(Reason::AuthFailed));
        assert!(outcome.vendor.words.unwrap().contains("clock"));
    }
    assert_eq!(vendor.requests().len(), 3);
    assert!(tokens(&vendor).windows(2).all(|pair| pair[0] == pair[1]));
    // From then on once, and one repeat.
    send_at(&*channel, 20).await;
    assert_eq!(vendor.requests().len(), 5);
}

#[tokio::test]
async fn a_vendor_that_complains_of_too_many_tokens_gets_the_same_one_again() {
    let vendor = vendor(|_| refused(429, "TooManyProviderTokenUpdates")).await;
    let channel = build(&settings(&vendor.url(""), "TOOMANY001"));
    let outcome = send_at(&*channel, 30).await;
    assert_eq!(*failed(&outcome), Failure::channel(Reason::RateLimited));
    let tokens = tokens(&vendor);
    assert_eq!((tokens.len(), &tokens[0]), (2, &tokens[1]), "once on this connection, once on another");
}

#[tokio::test]
async fn many_targets_each_get_their_own_outcome() {
    let dead = format!("{:064x}", 7);
    let vendor = vendor(
        move |seen| {
            if seen.path.ends_with(&dead) { refused(410, "Unregistered") } else { accepted() }
        },
    )
    .await;
    let tokens: Vec<String> = (0..300).map(|n| format!("{n:064X}")).collect();
    let mut tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    tokens.push("../../secret");
    let channel = channel(&vendor);
    let outcomes = assert_contract(&*channel, batch(hello(), &tokens), context(), &[]).await;
    for outcome in &outcomes[..300] {
        assert_eq!(outcome.verdict == Verdict::Accepted, outcome.target != 7);
    }
    assert_eq!(*failed(&outcomes[7]), Failure::target(Reason::InvalidToken));
    // What no token can be is not asked for.
    assert_eq!(
        (failed(&outcomes[300]).reason, outcomes[300].latency),
        (Reason::InvalidToken, Duration::ZERO)
    );
    assert_eq!(vendor.requests().len(), 300);
    assert!(vendor.requests().iter().all(|seen| seen.path == seen.path.to_lowercase()));
}

#[tokio::test]
async fn targets_of_several_kinds_in_one_batch_get_each_their_own_type_and_topic() {
    let vendor = vendor(|_| accepted()).await;
    let mut batch = batch(json!({"data": {"a": "b"}}), &["aaaaa1", "aaaaa2", "aaaaa3"]);
    batch.targets[1].address.kind = "voip".to_owned();
    batch.targets[2].address.kind = "liveactivity".to_owned();
    let outcomes = assert_contract(&*channel(&vendor), batch, context(), &[]).await;
    assert_eq!(failed(&outcomes[2]).reason, Reason::PayloadInvalid);
    let mut seen: Vec<_> = vendor
        .requests()
        .iter()
        .map(|seen| format!("{} {}", seen.header("apns-push-type"), seen.header("apns-topic")))
        .collect();
    seen.sort();
    assert_eq!(seen, ["background com.example.app", "voip com.example.app.voip"]);
}

#[tokio::test]
async fn a_repeat_of_a_batch_makes_the_same_requests() {
    let vendor = vendor(|_| accepted()).await;
    let channel = channel(&vendor);
    for _ in 0..2 {
        send_one(&*channel).await;
    }
    let requests = vendor.requests();
    assert_eq!((&requests[0].headers, &requests[0].body), (&requests[1].headers, &requests[1].body));
}

#[tokio::test]
async fn each_environment_has_its_own_address() {
    let (production, sandbox) = (vendor(|_| accepted()).await, vendor(|_| accepted()).await);
    let both = json!({"environment": "both", "sandbox_base_url": sandbox.url("/")});
    let channel = build(&with(settings(&production.url(""), "STAGES0001"), &both));
    let mut batch = batch(hello(), &["aaaaa1", "aaaaa2", "aaaaa3"]);
    for (target, stage) in batch.targets.iter_mut().zip(["production", "sandbox"]) {
        target.address.params.insert("environment".to_owned(), stage.to_owned());
        assert_eq!(channel.serves(&target.address), Ok(()));
    }
    assert_contract(&*channel, batch, context(), &[]).await;
    let paths = |vendor: &FakeVendor| {
        let mut paths: Vec<_> = vendor.requests().iter().map(|seen| seen.path.clone()).collect();
        paths.sort();
        paths
    };
    assert_eq!(paths(&production), ["/3/device/aaaaa1", "/3/device/aaaaa3"]);
    assert_eq!(paths(&sandbox), ["/3/device/aaaaa2"]);
}

#[tokio::test]
async fn a_lost_answer_is_doubtful_and_an_unreachable_vendor_is_not() {
    let silent = vendor(|_| accepted().after(Duration::from_secs(5))).await;
    let outcome = send_one(&*channel(&silent)).await;
    assert_eq!(*failed(&outcome), Failure::channel(Reason::VendorUnavailable).doubtful());
    assert!(outcome.latency >= Duration::from_secs(1));

    let gone = vendor(|_| accepted()).await.shut().await;
    let outcome = send_one(&*build(&settings(&gone, "GONE000001"))).await;
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
    let outcomes = assert_contract(
        &*channel(&vendor),
        batch(hello(), &["aaaaa0", "aaaaa1", "aaaaa2", "aaaaa3", "aaaaa4"]),
        context,
        &[],
    )
    .await;
    let stopped = outcomes
        .iter()
        .filter(|outcome| outcome.verdict == Verdict::Failed(Failure::channel(Reason::Cancelled)));
    assert_eq!(stopped.count(), 2);
    assert_eq!(vendor.requests().len(), 3);
    assert_eq!((inside.load(Ordering::SeqCst), most.load(Ordering::SeqCst)), (0, 3), "held until answered");
}

#[tokio::test]
async fn a_check_sends_to_nobody_and_says_what_to_mend() {
    let asked = vendor(|_| refused(400, "BadDeviceToken")).await;
    let found = channel(&asked).check(context()).await;
    assert!(found.ok && found.reason.is_none() && found.warnings.is_empty(), "{found:?}");
    let request = asked.requests().remove(0);
    assert_eq!(request.path, format!("/3/device/{}", "0".repeat(64)));
    assert_eq!((request.header("apns-push-type"), request.header("apns-expiration")), ("background", "0"));

    for (status, name) in [(403, "InvalidProviderToken"), (400, "TopicDisallowed"), (403, "Forbidden")] {
        let denied = vendor(move |_| refused(status, name)).await;
        let found = channel(&denied).check(context()).await;
        assert_eq!((found.ok, found.reason), (false, Some(Reason::AuthFailed)));
        assert!(found.detail.contains("bundle id") && found.detail.contains(name), "{found:?}");
    }
    let gone = vendor(|_| accepted()).await.shut().await;
    let found = build(&settings(&gone, "GONE000002")).check(context()).await;
    assert_eq!((found.ok, found.reason), (false, Some(Reason::VendorUnavailable)));
}
