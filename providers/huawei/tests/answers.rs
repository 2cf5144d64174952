//! Every row of the vendor's error table, and what a partial success says about single targets.

use super::*;
use crate::contract::{Certainty, Failure, Hint, Reason, Scope, Verdict};

async fn outcomes_of(reply: Reply, tokens: &[&str]) -> Vec<Outcome> {
    let vendor = vendor(move |_| reply.clone()).await;
    send_to(&*channel(&vendor), tokens).await
}

fn failed(outcome: &Outcome) -> &Failure {
    match &outcome.verdict {
        Verdict::Failed(failure) => failure,
        Verdict::Accepted => panic!("accepted: {outcome:?}"),
    }
}

/// The sheet's table, row by row.
const ROWS: [(&str, Reason, Scope, Certainty); 35] = {
    use Certainty::{Definite, Doubtful};
    use Reason::{
        AuthFailed, ContentRejected, InvalidToken, PayloadInvalid, PayloadTooLarge, RateLimited,
        Unclassified, VendorUnavailable,
    };
    use Scope::{Channel, Target};
    [
        ("80100001", PayloadInvalid, Target, Definite),
        ("80100002", PayloadInvalid, Target, Definite),
        ("80100003", PayloadInvalid, Target, Definite),
        ("80100004", PayloadInvalid, Target, Definite),
        ("80100013", PayloadInvalid, Target, Definite),
        ("80100016", ContentRejected, Target, Definite),
        ("80100017", RateLimited, Channel, Definite),
        ("80100018", PayloadInvalid, Target, Definite),
        ("80200001", AuthFailed, Channel, Definite),
        ("80200003", AuthFailed, Channel, Definite),
        ("80200005", AuthFailed, Channel, Definite),
        ("80300002", AuthFailed, Channel, Definite),
        ("80300007", InvalidToken, Target, Doubtful),
        ("80300008", PayloadTooLarge, Target, Definite),
        ("80300010", PayloadInvalid, Target, Definite),
        ("80300011", PayloadInvalid, Target, Definite),
        ("80300013", PayloadInvalid, Target, Definite),
        ("80300036", AuthFailed, Channel, Definite),
        ("80600003", VendorUnavailable, Channel, Definite),
        ("81000001", VendorUnavailable, Channel, Definite),
        ("82000001", PayloadInvalid, Target, Definite),
        ("82000002", PayloadInvalid, Target, Definite),
        ("82000003", PayloadInvalid, Target, Definite),
        ("82000004", PayloadInvalid, Target, Definite),
        ("82000005", PayloadInvalid, Target, Definite),
        ("82000006", PayloadInvalid, Target, Definite),
        ("82000007", PayloadInvalid, Target, Definite),
        ("82000008", PayloadInvalid, Target, Definite),
        ("82000009", PayloadInvalid, Target, Definite),
        ("82000010", Unclassified, Target, Definite),
        ("82000011", PayloadInvalid, Target, Definite),
        ("82000012", AuthFailed, Channel, Definite),
        ("82000013", AuthFailed, Channel, Definite),
        ("80000001", Unclassified, Target, Definite),
        ("99999999", Unclassified, Target, Definite),
    ]
};

#[tokio::test]
async fn every_row_of_the_vendors_table_becomes_its_reason() {
    for (code, reason, scope, certainty) in ROWS {
        let expected = Failure { reason, scope, certainty, hint: Hint::None, since: None };
        let reply = answer(code, &format!("about {TOKEN} and {ACCESS_TOKEN}"));
        for outcome in outcomes_of(reply, &[TOKEN, OTHER]).await {
            assert_eq!(*failed(&outcome), expected, "{code}");
            assert_eq!(outcome.vendor.code.as_deref(), Some(code));
            assert_eq!(outcome.vendor.words.as_deref(), Some("about [removed] and [removed]"));
            assert_eq!(outcome.vendor.id, None);
        }
    }
}

#[tokio::test]
async fn the_code_decides_at_any_status() {
    for status in [200, 400, 401, 403, 500, 503] {
        let body = json!({"code": "80300008", "msg": "too big", "requestId": REQUEST_ID}).to_string();
        let outcome = outcomes_of(Reply::status(status).body(body), &[TOKEN]).await.remove(0);
        assert_eq!(*failed(&outcome), Failure::target(Reason::PayloadTooLarge), "{status}");
        assert_eq!(outcome.vendor.status, Some(status));
    }
    // A code as a number, where it makes things worse.
    let outcome = outcomes_of(Reply::ok(r#"{"code":80100003,"msg":"x"}"#), &[TOKEN]).await.remove(0);
    assert_eq!(*failed(&outcome), Failure::target(Reason::PayloadInvalid));
}

#[tokio::test]
async fn an_acceptance_carries_the_id_of_the_request() {
    for outcome in outcomes_of(accepted(), &[TOKEN, OTHER]).await {
        assert_eq!((outcome.verdict, outcome.vendor.id.as_deref()), (Verdict::Accepted, Some(REQUEST_ID)));
    }
}

#[tokio::test]
async fn tokens_that_the_vendor_names_are_dead_and_the_others_went_out() {
    let reply = partial(&json!({"success": 1, "failure": 1, "illegal_tokens": [OTHER, "a-stranger", OTHER]}));
    let outcomes = outcomes_of(reply, &[TOKEN, OTHER, TOKEN, OTHER]).await;
    for index in [0, 2] {
        assert_eq!(outcomes[index].verdict, Verdict::Accepted);
        assert_eq!(outcomes[index].vendor.id.as_deref(), Some(REQUEST_ID));
    }
    for index in [1, 3] {
        assert_eq!(*failed(&outcomes[index]), Failure::target(Reason::InvalidToken));
    }
    // Without the numbers the list is enough.
    let outcomes = outcomes_of(partial(&json!({"illegal_tokens": [OTHER]})), &[TOKEN, OTHER]).await;
    assert_eq!(outcomes[0].verdict, Verdict::Accepted);
}

#[tokio::test]
async fn a_partial_success_whose_numbers_do_not_agree_accepts_nobody() {
    let doubt = Failure::channel(Reason::ProtocolError).doubtful();
    for msg in [
        json!({"success": 0, "failure": 2, "illegal_tokens": [OTHER]}),
        json!({"success": 5, "failure": 1, "illegal_tokens": [OTHER]}),
        json!({"success": 1, "failure": 1, "illegal_tokens": ["a-stranger"]}),
    ] {
        let outcomes = outcomes_of(partial(&msg), &[TOKEN, OTHER]).await;
        assert_eq!(*failed(&outcomes[0]), doubt, "{msg}");
    }
    for msg in [json!({"success": 1, "failure": 1}), json!("x"), json!({"illegal_tokens": "x"}), json!([])] {
        for outcome in outcomes_of(partial(&msg), &[TOKEN, OTHER]).await {
            assert_eq!(*failed(&outcome), doubt, "{msg}");
        }
    }
}

#[tokio::test]
async fn tokens_are_not_retired_where_nobody_went_through() {
    // It may as well be another app's credentials.
    let reply = partial(&json!({"success": 0, "failure": 2, "illegal_tokens": [TOKEN, OTHER]}));
    for outcome in outcomes_of(reply, &[TOKEN, OTHER]).await {
        assert_eq!(*failed(&outcome), Failure::target(Reason::InvalidToken).doubtful());
    }
}

#[tokio::test]
async fn a_status_without_a_code_never_blames_the_token() {
    for (status, reason, certainty) in [
        (400, Reason::PayloadInvalid, Certainty::Definite),
        (401, Reason::AuthFailed, Certainty::Definite),
        (403, Reason::AuthFailed, Certainty::Definite),
        (404, Reason::AuthFailed, Certainty::Definite),
        (413, Reason::PayloadTooLarge, Certainty::Definite),
        (418, Reason::Unclassified, Certainty::Definite),
        (500, Reason::VendorUnavailable, Certainty::Definite),
        (503, Reason::RateLimited, Certainty::Definite),
        (502, Reason::VendorUnavailable, Certainty::Doubtful),
        (504, Reason::VendorUnavailable, Certainty::Doubtful),
    ] {
        for body in
            ["", "<html>", "{\"code\":", "{\"code\":{}}", "[]", "{\"code\":\"80000000\",\"requestId\":\"1\"}"]
        {
            let outcome = outcomes_of(Reply::status(status).body(body), &[TOKEN]).await.remove(0);
            let failure = failed(&outcome);
            assert_eq!((failure.reason, failure.certainty), (reason, certainty), "{status} {body}");
        }
    }
}

#[tokio::test]
async fn the_vendors_flow_control_concerns_the_channel_and_its_time_is_kept() {
    let limited = Reply::status(503).header("retry-after", "7");
    let outcome = outcomes_of(limited, &[TOKEN]).await.remove(0);
    let wait = Hint::RetryAfter(Duration::from_secs(7));
    assert_eq!(*failed(&outcome), Failure::channel(Reason::RateLimited).hint(wait));
}
