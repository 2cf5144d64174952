//! Every row of the vendor's error table, in both shapes of its errors, and answers that no table has.

use super::*;
use crate::contract::{Certainty, Hint, Reason, Scope};

async fn outcome_of(reply: Reply) -> Outcome {
    let vendor = vendor(move |_| reply.clone()).await;
    send_one(&*channel(&vendor)).await
}

fn classic(status: u16, code: u32) -> Reply {
    let body = json!({
        "code": code, "message": format!("about {NUMBER}"), "more_info": "https://www.example.com/errors", "status": status
    });
    Reply::status(status).body(body.to_string())
}

fn rfc9457(status: u16, code: u32) -> Reply {
    let body = json!({
        "type": "https://www.example.com/errors", "title": "Bad", "status": status, "code": code,
        "detail": format!("about {NUMBER}"), "errors": [{"detail": "x", "pointer": "#/To"}]
    });
    Reply::status(status).body(body.to_string())
}

fn plain(reason: Reason, scope: Scope) -> Failure {
    Failure { reason, scope, certainty: Certainty::Definite, hint: Hint::None, since: None }
}

#[tokio::test]
async fn every_row_of_the_vendors_table_becomes_its_reason() {
    use Reason::{
        AuthFailed, CarrierRejected, DeviceUnavailable, OptedOut, PayloadInvalid, PayloadTooLarge,
        QuotaExceeded, RateLimited, Unclassified, UnreachableRecipient,
    };
    use Scope::{Channel, Target};
    let sure = |reason, scope| plain(reason, scope);
    let strike = plain(UnreachableRecipient, Target).doubtful();
    let rows = [
        (401, 20003, sure(AuthFailed, Channel)),
        (404, 20404, sure(AuthFailed, Channel)),
        (400, 10001, sure(QuotaExceeded, Channel)),
        (400, 30002, sure(QuotaExceeded, Channel)),
        (429, 20429, sure(RateLimited, Channel)),
        (400, 21211, strike.clone()),
        (400, 21614, strike.clone()),
        (400, 21401, sure(PayloadInvalid, Target)),
        (400, 21606, sure(PayloadInvalid, Target)),
        (400, 21608, sure(PayloadInvalid, Target)),
        (400, 21408, sure(CarrierRejected, Target)),
        (400, 21610, sure(OptedOut, Target)),
        (400, 21612, sure(CarrierRejected, Target)),
        (400, 21602, sure(PayloadInvalid, Target)),
        (400, 21617, sure(PayloadTooLarge, Target)),
        (400, 21611, sure(RateLimited, Channel)),
        (400, 30001, sure(RateLimited, Channel)),
        (400, 21669, sure(PayloadInvalid, Target)),
        (400, 30003, sure(DeviceUnavailable, Target)),
        (400, 30004, sure(CarrierRejected, Target)),
        (400, 30005, strike.clone()),
        (400, 30006, strike),
        (400, 30007, sure(CarrierRejected, Target)),
        (400, 30008, sure(Unclassified, Target)),
        (400, 30034, sure(CarrierRejected, Target)),
        // Split or new codes of a known range.
        (400, 21199, sure(PayloadInvalid, Target)),
        (400, 21699, sure(PayloadInvalid, Target)),
        (400, 30999, sure(CarrierRejected, Target)),
        // What no table knows.
        (400, 63_016, sure(Unclassified, Target)),
    ];
    for (status, code, expected) in rows {
        for reply in [classic(status, code), rfc9457(status, code)] {
            let outcome = outcome_of(reply).await;
            assert_eq!(*failed(&outcome), expected, "{status} {code}");
            assert_eq!((outcome.vendor.status, outcome.vendor.code), (Some(status), Some(code.to_string())));
            assert_eq!(outcome.vendor.words.as_deref(), Some("about [removed]"));
        }
    }
}

#[tokio::test]
async fn an_outcome_that_may_be_a_sent_message_is_doubtful_so_that_nobody_pays_twice() {
    for status in [408, 500, 502, 504] {
        for body in ["", "<html>", r#"{"code":0}"#] {
            let outcome = outcome_of(Reply::status(status).body(body)).await;
            assert_eq!(
                *failed(&outcome),
                plain(Reason::VendorUnavailable, Scope::Channel).doubtful(),
                "{status}"
            );
        }
    }
    // Refused for now: certainly not taken.
    let refused = outcome_of(Reply::status(503)).await;
    assert_eq!(*failed(&refused), plain(Reason::VendorUnavailable, Scope::Channel));
}

#[tokio::test]
async fn a_bare_status_is_read_as_what_it_can_mean() {
    for (status, reason, scope) in [
        (400, Reason::PayloadInvalid, Scope::Target),
        (401, Reason::AuthFailed, Scope::Channel),
        (403, Reason::AuthFailed, Scope::Channel),
        (404, Reason::AuthFailed, Scope::Channel),
        (418, Reason::PayloadInvalid, Scope::Target),
        (429, Reason::RateLimited, Scope::Channel),
    ] {
        for body in ["", "<html>", "{\"code\":", "{\"code\":{}}", "[]"] {
            let outcome = outcome_of(Reply::status(status).body(body)).await;
            assert_eq!(*failed(&outcome), plain(reason, scope), "{status} {body}");
        }
    }
}

#[tokio::test]
async fn a_time_to_wait_is_kept_if_the_vendor_ever_names_one() {
    let outcome = outcome_of(classic(429, 20429).header("retry-after", "7")).await;
    assert_eq!(failed(&outcome).hint, Hint::RetryAfter(Duration::from_secs(7)));
}

#[tokio::test]
async fn a_success_without_an_id_is_doubtful_and_never_accepted() {
    let deep = "[".repeat(100_000);
    let evil = json!({"sid": "../../../evil"}).to_string();
    for body in ["", "{}", "null", "<html>OK</html>", "{\"sid\":", "{\"sid\":7}", &deep, &evil] {
        let outcome = outcome_of(Reply::status(201).body(body.to_owned())).await;
        assert_eq!(*failed(&outcome), plain(Reason::ProtocolError, Scope::Channel).doubtful());
    }
    for status in [202, 204, 302] {
        let outcome = outcome_of(Reply::status(status).header("location", "/elsewhere")).await;
        assert_eq!(*failed(&outcome), plain(Reason::ProtocolError, Scope::Channel).doubtful(), "{status}");
    }
    let huge = outcome_of(Reply::status(201).body(vec![b' '; 2 * 1024 * 1024])).await;
    assert_eq!(*failed(&huge), plain(Reason::ProtocolError, Scope::Channel).doubtful());
}

#[tokio::test]
async fn an_accepted_text_carries_the_vendors_id() {
    for status in ["queued", "accepted", "sending", "sent", "never heard of"] {
        let outcome = outcome_of(Reply::status(201).body(message(status).to_string())).await;
        assert_eq!(
            (outcome.verdict, outcome.vendor.id.as_deref()),
            (Verdict::Accepted, Some(SID)),
            "{status}"
        );
    }
    let dead = with(message("failed"), &json!({"error_code": 30006, "error_message": "Landline"}));
    let outcome = outcome_of(Reply::status(201).body(dead.to_string())).await;
    assert_eq!(*failed(&outcome), plain(Reason::UnreachableRecipient, Scope::Target).doubtful());
}
