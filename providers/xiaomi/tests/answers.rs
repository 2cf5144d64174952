//! Every row of the vendor's error table, and what an acceptance says about single targets.

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

/// The sheet's table, row by row: codes, reason, scope.
const ROWS: [(&[i64], Reason, Scope); 24] = {
    use Reason::{
        AuthFailed, ContentRejected, DeviceUnavailable, PayloadInvalid, PayloadTooLarge, QuotaExceeded,
        RateLimited, Unclassified, VendorUnavailable,
    };
    use Scope::{Channel, Class, Target};
    [
        (&[-1], Unclassified, Target),
        (&[1, 10001, 10003, 10011, 20607, 65029], VendorUnavailable, Channel),
        (&[10002, 10009], VendorUnavailable, Channel),
        (&[10004], RateLimited, Channel),
        (&[10005, 10014, 10036, 10038, 21303, 10031, 10033, 10026], AuthFailed, Channel),
        (&[10006], AuthFailed, Channel),
        (
            &[10008, 10016, 10017, 10012, 21305, 65011, 100, 10007, 10020, 10021, 65030],
            PayloadInvalid,
            Target,
        ),
        (&[10010, 10037], DeviceUnavailable, Target),
        (&[10013], Unclassified, Target),
        (&[10018, 65009], PayloadTooLarge, Target),
        (&[10022, 10023, 10024, 10027, 10028, 10030, 10032, 10039, 22101, 26004], RateLimited, Channel),
        (&[10025, 65036, 65037, 65038], PayloadInvalid, Target),
        (&[10034], QuotaExceeded, Channel),
        (&[10035, 20215, 20216, 20315, 65040, 65028], Unclassified, Target),
        (&[20209, 65010, 65013, 65035], PayloadInvalid, Target),
        (&[21301, 21302], AuthFailed, Channel),
        (
            &[22000, 22001, 22002, 22003, 22004, 22005, 22006, 22007, 22008, 22020, 22021, 22022],
            AuthFailed,
            Channel,
        ),
        (&[22100, 22102, 26003], VendorUnavailable, Channel),
        (&[22103, 27001, 65007, 65008, 65012, 65016, 65017, 65041], PayloadInvalid, Target),
        (&[26005, 65006, 200_002], RateLimited, Channel),
        (&[26006], ContentRejected, Target),
        (&[65003], DeviceUnavailable, Target),
        (&[65014, 65015], PayloadTooLarge, Target),
        (&[200_001], QuotaExceeded, Class),
    ]
};

#[tokio::test]
async fn every_row_of_the_vendors_table_becomes_its_reason() {
    for (codes, reason, scope) in ROWS {
        for code in codes {
            let expected =
                Failure { reason, scope, certainty: Certainty::Definite, hint: Hint::None, since: None };
            let outcomes = outcomes_of(refused(*code, &format!("about {TOKEN}")), &[TOKEN, "tokQb"]).await;
            for outcome in &outcomes {
                assert_eq!(*failed(outcome), expected, "{code}");
                assert_eq!(outcome.vendor.code, Some(code.to_string()));
                assert_eq!(outcome.vendor.words.as_deref(), Some("about [removed]"));
            }
        }
    }
}

#[tokio::test]
async fn a_code_that_no_table_knows_is_counted_by_its_number() {
    let outcome = outcomes_of(refused(99999, "new"), &[TOKEN]).await.remove(0);
    assert_eq!(*failed(&outcome), Failure::target(Reason::Unclassified));
    assert_eq!(outcome.vendor.code.as_deref(), Some("99999"));
}

#[tokio::test]
async fn no_valid_target_is_doubtful_for_one_token_and_blames_none_of_many() {
    let none = || refused(20301, "No valid targets!");
    let one = outcomes_of(none(), &[TOKEN]).await;
    assert_eq!(*failed(&one[0]), Failure::target(Reason::InvalidToken).doubtful());
    for outcome in outcomes_of(none(), &[TOKEN, "tokQb"]).await {
        assert_eq!(*failed(&outcome), Failure::target(Reason::Unclassified));
    }
    // The code alone says only that it failed.
    let bare = outcomes_of(refused(20301, "send message failed"), &[TOKEN]).await;
    assert_eq!(*failed(&bare[0]), Failure::target(Reason::Unclassified));
}

#[tokio::test]
async fn a_code_about_a_device_or_a_package_blames_a_token_only_if_it_was_alone() {
    for (code, reason) in [(10029, Reason::InvalidToken), (66108, Reason::WrongApp)] {
        let one = outcomes_of(refused(code, "x"), &[TOKEN]).await;
        assert_eq!(*failed(&one[0]), Failure::target(reason).doubtful());
        for outcome in outcomes_of(refused(code, "x"), &[TOKEN, "tokQb"]).await {
            assert_eq!(*failed(&outcome), Failure::target(Reason::Unclassified), "{code}");
        }
    }
}

#[tokio::test]
async fn an_acceptance_carries_the_vendors_id() {
    let outcome = outcomes_of(accepted(), &[TOKEN]).await.remove(0);
    assert_eq!((outcome.verdict, outcome.vendor.id.as_deref()), (Verdict::Accepted, Some("sdm001")));
}

#[tokio::test]
async fn tokens_that_the_vendor_names_are_dead_and_the_others_went_out() {
    // Each client of the vendor reads another spelling.
    for name in ["bad_regids", "bad_regIds", "BAD_REGIDS"] {
        let reply = accepted_with(json!({name: "bad2, stranger,bad4"}));
        let outcomes = outcomes_of(reply, &["tokQa", "bad2", TOKEN, "bad4"]).await;
        for index in [0, 2] {
            assert_eq!(outcomes[index].verdict, Verdict::Accepted, "{name}");
        }
        for index in [1, 3] {
            assert_eq!(*failed(&outcomes[index]), Failure::target(Reason::InvalidToken), "{name}");
            assert_eq!(outcomes[index].vendor.id, None);
        }
    }
}

#[tokio::test]
async fn tokens_are_not_retired_where_nobody_went_through() {
    // It may as well be the wrong region or package.
    let outcomes =
        outcomes_of(accepted_with(json!({"bad_regids": "tokQa,tokQb"})), &["tokQa", "tokQb"]).await;
    for outcome in &outcomes {
        assert_eq!(*failed(outcome), Failure::target(Reason::InvalidToken).doubtful());
    }
}

#[tokio::test]
async fn an_odd_list_of_bad_tokens_costs_nobody_anything() {
    for odd in [json!(null), json!(7), json!(""), json!(","), json!({"x": 1}), json!([1])] {
        let outcomes = outcomes_of(accepted_with(json!({"bad_regids": odd})), &["tokQa", "tokQb"]).await;
        assert!(outcomes.iter().all(|outcome| outcome.verdict == Verdict::Accepted));
    }
}

#[tokio::test]
async fn a_channel_whose_quota_is_used_up_took_nothing_though_the_code_is_0() {
    for listed in [json!("1,118442"), json!(["118442"]), json!({"118442": 1})] {
        let outcome = outcomes_of(accepted_with(json!({"channel_exceed_quota": listed})), &[TOKEN]).await;
        let expected = Failure { scope: Scope::Class, ..Failure::channel(Reason::QuotaExceeded) };
        assert_eq!(*failed(&outcome[0]), expected);
    }
    // Another channel's is none of ours.
    let other = outcomes_of(accepted_with(json!({"channel_exceed_quota": "1"})), &[TOKEN]).await;
    assert_eq!(other[0].verdict, Verdict::Accepted);
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
        (503, Reason::VendorUnavailable, Certainty::Definite),
        (502, Reason::VendorUnavailable, Certainty::Doubtful),
        (504, Reason::VendorUnavailable, Certainty::Doubtful),
    ] {
        for body in ["", "<html>", "{\"code\":", "{\"code\":\"x\"}", "[]", "{\"code\":0,\"result\":\"ok\"}"] {
            let outcome = outcomes_of(Reply::status(status).body(body), &[TOKEN]).await.remove(0);
            let failure = failed(&outcome);
            assert_eq!((failure.reason, failure.certainty), (reason, certainty), "{status} {body}");
        }
    }
}

#[tokio::test]
async fn the_code_decides_at_any_status() {
    let body = json!({"result": "error", "code": 21301, "reason": "auth failed"}).to_string();
    for status in [200, 400, 401, 403, 500] {
        let outcome = outcomes_of(Reply::status(status).body(body.clone()), &[TOKEN]).await.remove(0);
        assert_eq!(*failed(&outcome), Failure::channel(Reason::AuthFailed), "{status}");
    }
}

#[tokio::test]
async fn the_vendors_time_to_wait_is_kept() {
    let limited = Reply::status(429).header("retry-after", "7");
    let outcome = outcomes_of(limited, &[TOKEN]).await.remove(0);
    let wait = Hint::RetryAfter(Duration::from_secs(7));
    assert_eq!(*failed(&outcome), Failure::channel(Reason::RateLimited).hint(wait));
}
