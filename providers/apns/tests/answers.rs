//! Every row of the vendor's error table, and answers that no table has.

use super::*;
use crate::contract::{Certainty, Hint, Reason, Scope};

/// What one answer becomes for an address that a test may change.
async fn outcome_for(reply: Reply, change: impl Fn(&mut Target), more: Value) -> Outcome {
    let vendor = vendor(move |_| reply.clone()).await;
    let channel = build(&with(settings(&vendor.url(""), "ANSWERS001"), &more));
    let mut batch = batch(hello(), &[TOKEN]);
    change(&mut batch.targets[0]);
    assert_contract(&*channel, batch, context(), &["eyJhbGci"]).await.remove(0)
}

async fn outcome_of(reply: Reply) -> Outcome {
    outcome_for(reply, |_| {}, json!({})).await
}

fn plain(reason: Reason, scope: Scope) -> Failure {
    Failure { reason, scope, certainty: Certainty::Definite, hint: Hint::None, since: None }
}

#[tokio::test]
async fn every_row_of_the_vendors_table_becomes_its_reason() {
    use Reason::{
        AuthFailed, InvalidToken, PayloadInvalid, PayloadTooLarge, RateLimited, VendorUnavailable, WrongApp,
    };
    use Scope::{Channel, Target};
    let rows = [
        (400, "DeviceTokenNotForTopic", WrongApp, Target),
        (400, "BadTopic", AuthFailed, Channel),
        (400, "TopicDisallowed", AuthFailed, Channel),
        (400, "MissingTopic", PayloadInvalid, Target),
        (400, "MissingDeviceToken", PayloadInvalid, Target),
        (400, "BadCollapseId", PayloadInvalid, Target),
        (400, "BadExpirationDate", PayloadInvalid, Target),
        (400, "BadMessageId", PayloadInvalid, Target),
        (400, "BadPriority", PayloadInvalid, Target),
        (400, "DuplicateHeaders", PayloadInvalid, Target),
        (400, "InvalidPushType", PayloadInvalid, Target),
        (400, "PayloadEmpty", PayloadInvalid, Target),
        (400, "IdleTimeout", VendorUnavailable, Channel),
        (403, "BadCertificate", AuthFailed, Channel),
        (403, "BadCertificateEnvironment", AuthFailed, Channel),
        (403, "ExpiredProviderToken", AuthFailed, Channel),
        (403, "InvalidProviderToken", AuthFailed, Channel),
        (403, "MissingProviderToken", AuthFailed, Channel),
        (403, "UnrelatedKeyIdInToken", AuthFailed, Channel),
        (403, "BadEnvironmentKeyIdInToken", AuthFailed, Channel),
        (403, "BadEnvironmentKeyInToken", AuthFailed, Channel),
        (403, "Forbidden", AuthFailed, Channel),
        (404, "BadPath", PayloadInvalid, Target),
        (405, "MethodNotAllowed", PayloadInvalid, Target),
        (410, "Unregistered", InvalidToken, Target),
        (410, "ExpiredToken", InvalidToken, Target),
        (413, "PayloadTooLarge", PayloadTooLarge, Target),
        (429, "TooManyRequests", RateLimited, Target),
        (429, "TooManyProviderTokenUpdates", RateLimited, Channel),
        (500, "InternalServerError", VendorUnavailable, Channel),
        (503, "ServiceUnavailable", VendorUnavailable, Channel),
        (503, "Shutdown", VendorUnavailable, Channel),
    ];
    for (status, name, reason, scope) in rows {
        let outcome = outcome_of(refused(status, name)).await;
        assert_eq!(*failed(&outcome), plain(reason, scope), "{status} {name}");
        assert_eq!((outcome.vendor.status, outcome.vendor.code.as_deref()), (Some(status), Some(name)));
        assert_eq!(outcome.vendor.id.as_deref(), Some(APNS_ID));
    }
}

#[tokio::test]
async fn a_token_that_may_be_of_the_other_environment_needs_a_second_strike() {
    let outcome = outcome_of(refused(400, "BadDeviceToken")).await;
    assert_eq!(*failed(&outcome), plain(Reason::InvalidToken, Scope::Target).doubtful());
}

#[tokio::test]
async fn a_dead_token_says_since_when() {
    let body = r#"{"reason":"Unregistered","timestamp":1700000000123}"#;
    let outcome = outcome_of(Reply::status(410).header("apns-id", APNS_ID).body(body)).await;
    let since = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
    assert_eq!(*failed(&outcome), plain(Reason::InvalidToken, Scope::Target).since(Some(since)));
    assert_eq!(outcome.vendor.words.as_deref(), Some("no longer valid since 2023-11-14T22:13:20.123Z"));
    for timestamp in ["null", "\"x\"", "-1e300", "99999999999999999"] {
        let body = format!(r#"{{"reason":"Unregistered","timestamp":{timestamp}}}"#);
        let outcome = outcome_of(Reply::status(410).body(body)).await;
        assert_eq!(
            (failed(&outcome).reason, failed(&outcome).since),
            (Reason::InvalidToken, None),
            "{timestamp}"
        );
    }
}

#[tokio::test]
async fn a_topic_is_the_channels_fault_only_if_it_is_the_channels_own() {
    let bad = || refused(400, "BadTopic");
    let mut clip = BTreeMap::new();
    clip.insert("topic".to_owned(), "com.example.app.Clip".to_owned());
    let own = outcome_for(bad(), |target| target.address.params = clip.clone(), json!({})).await;
    assert_eq!(*failed(&own), plain(Reason::WrongApp, Scope::Target));

    let vendor = vendor(move |_| bad()).await;
    let channel = build(&with(settings(&vendor.url(""), "ANSWERS002"), &json!({"kinds": ["voip"]})));
    let mut batch = batch(json!({"data": {"call": "1"}}), &[TOKEN]);
    batch.targets[0].address.kind = "voip".to_owned();
    let longer = assert_contract(&*channel, batch, context(), &[]).await.remove(0);
    assert_eq!(*failed(&longer), plain(Reason::PayloadInvalid, Scope::Target));
    assert_eq!(vendor.requests()[0].header("apns-topic"), "com.example.app.voip");
}

#[tokio::test]
async fn a_key_of_one_environment_does_not_stop_a_channel_of_both() {
    let both = json!({"environment": "both"});
    let outcome = outcome_for(refused(403, "BadEnvironmentKeyIdInToken"), |_| {}, both).await;
    assert_eq!(*failed(&outcome), plain(Reason::AuthFailed, Scope::Target));
}

#[tokio::test]
async fn a_bare_status_never_blames_the_token() {
    for (status, reason, scope, certainty) in [
        (400, Reason::PayloadInvalid, Scope::Target, Certainty::Definite),
        (401, Reason::AuthFailed, Scope::Channel, Certainty::Definite),
        (403, Reason::AuthFailed, Scope::Channel, Certainty::Definite),
        (404, Reason::AuthFailed, Scope::Channel, Certainty::Definite),
        (410, Reason::Unclassified, Scope::Target, Certainty::Definite),
        (413, Reason::PayloadTooLarge, Scope::Target, Certainty::Definite),
        (418, Reason::Unclassified, Scope::Target, Certainty::Definite),
        (429, Reason::RateLimited, Scope::Channel, Certainty::Definite),
        (500, Reason::VendorUnavailable, Scope::Channel, Certainty::Definite),
        (503, Reason::VendorUnavailable, Scope::Channel, Certainty::Definite),
        (408, Reason::VendorUnavailable, Scope::Channel, Certainty::Doubtful),
        (502, Reason::VendorUnavailable, Scope::Channel, Certainty::Doubtful),
        (504, Reason::VendorUnavailable, Scope::Channel, Certainty::Doubtful),
    ] {
        for body in ["", "<html>", "{\"reason\":", "{\"reason\":7}", "[]", "{\"reason\":\"\"}"] {
            let outcome = outcome_of(Reply::status(status).body(body)).await;
            let expected = Failure { reason, scope, certainty, hint: Hint::None, since: None };
            assert_eq!(*failed(&outcome), expected, "{status} {body}");
        }
    }
}

#[tokio::test]
async fn a_reason_that_no_table_knows_is_counted_by_its_name() {
    let outcome = outcome_of(refused(400, "NeverHeardOf")).await;
    assert_eq!(*failed(&outcome), plain(Reason::Unclassified, Scope::Target));
    assert_eq!(outcome.vendor.code.as_deref(), Some("NeverHeardOf"));
    let trouble = outcome_of(refused(503, "NeverHeardOf")).await;
    assert_eq!(*failed(&trouble), plain(Reason::VendorUnavailable, Scope::Channel));
}

#[tokio::test]
async fn a_time_to_wait_is_kept_if_the_vendor_ever_names_one() {
    let waits = Hint::RetryAfter(Duration::from_secs(7));
    for (status, name) in [(429, "TooManyRequests"), (503, "ServiceUnavailable")] {
        let outcome = outcome_of(refused(status, name).header("retry-after", "7")).await;
        assert_eq!(failed(&outcome).hint, waits, "{name}");
    }
}

#[tokio::test]
async fn a_success_without_the_vendors_id_is_doubtful_and_never_accepted() {
    let deep = "[".repeat(100_000);
    for body in ["", "{}", "<html>OK</html>", "\u{1}", &deep] {
        let outcome = outcome_of(Reply::ok(body.to_owned())).await;
        let expected = plain(Reason::ProtocolError, Scope::Channel).doubtful();
        assert_eq!(*failed(&outcome), expected, "{:?}", &body[..body.len().min(9)]);
    }
    for status in [201, 204, 307] {
        let outcome = outcome_of(Reply::status(status).header("apns-id", APNS_ID)).await;
        assert_eq!(failed(&outcome).reason, Reason::ProtocolError, "{status}");
    }
    let huge = outcome_of(Reply::status(400).body(vec![b' '; 2 * 1024 * 1024])).await;
    assert_eq!(*failed(&huge), plain(Reason::ProtocolError, Scope::Channel).doubtful());
}

#[tokio::test]
async fn an_accepted_notification_carries_the_vendors_id() {
    let outcome = outcome_of(accepted()).await;
    assert_eq!((outcome.verdict, outcome.vendor.id.as_deref()), (Verdict::Accepted, Some(APNS_ID)));
}

#[tokio::test]
async fn a_vendor_that_repeats_the_token_does_not_get_it_into_the_trail() {
    let said = refused(400, &format!("about {TOKEN}"));
    assert_eq!(outcome_of(said).await.vendor.code.as_deref(), Some("about [removed]"));
    let bare = outcome_of(Reply::status(400).body(TOKEN)).await;
    assert_eq!(bare.vendor.words.as_deref(), Some("[removed]"));
}
