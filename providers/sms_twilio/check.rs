//! Are the credentials good, without sending to anybody.
//!
//! Asks for a message that does not exist. "Not found" proves that the account takes the login; that the sender is the
//! account's own shows at the first send only. (The account itself is not asked for: a standard API key may not read it.)

use http::Method;

use super::{SmsTwilio, codes, wire};
use crate::contract::{CheckReport, Failure, Reason, SendContext, VendorEcho, Verdict};
use crate::kit::{echo, json};

/// A message that no account has.
const NOBODYS: &str = "SM00000000000000000000000000000000";

/// What the vendor says of a message that is not there.
const NOT_FOUND: u32 = 20404;

/// Tries the credentials and says what to mend.
pub(super) async fn check(channel: &SmsTwilio, context: &SendContext) -> CheckReport {
    let _pass = match context.gate.pass(1).await {
        Ok(pass) => pass,
        Err(reason) => return report(channel, Some(reason), "the channel is stopped".to_owned()),
    };
    let account = &channel.config.account_sid;
    let answer = match channel.call(Method::GET, &format!("Messages/{NOBODYS}.json"), None).await {
        Ok(answer) => answer,
        Err(error) => {
            let said = echo::words(&error.detail, &[&channel.config.login.secret]).unwrap_or_default();
            let reason = error.to_failure().reason;
            return report(channel, Some(reason), format!("{}: {said}", remedy(reason)));
        }
    };
    let refused: wire::Refused = json::object(answer.body()).unwrap_or_default();
    let found = answer.status().is_success() && codes::is_message(answer.body());
    if found || (answer.status() == 404 && wire::code(&refused.code) == Some(NOT_FOUND)) {
        return report(
            channel,
            None,
            format!("account {account} takes this login; the sender shows at the first send"),
        );
    }
    let reading = codes::read(&answer, (context.now)(), &[&channel.config.login.secret]);
    let reason = match reading.verdict {
        Verdict::Failed(Failure { reason, .. }) => reason,
        Verdict::Accepted => Reason::ProtocolError,
    };
    let said = describe(&reading.vendor);
    report(channel, Some(reason), format!("{}; account {account} answered: {said}", remedy(reason)))
}

fn report(channel: &SmsTwilio, reason: Option<Reason>, detail: String) -> CheckReport {
    let mut warnings = Vec::new();
    if !channel.config.verifies_callbacks() {
        warnings.push(
            "without auth_token (or webhook_shared_keys) receipts cannot be verified, so none are asked for"
                .to_owned(),
        );
    }
    CheckReport { ok: reason.is_none(), detail, reason, warnings }
}

fn describe(vendor: &VendorEcho) -> String {
    let status = vendor.status.map(|status| format!("HTTP {status}"));
    let parts: Vec<&str> =
        [status.as_deref(), vendor.code.as_deref(), vendor.words.as_deref()].into_iter().flatten().collect();
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(" ") }
}

fn remedy(reason: Reason) -> &'static str {
    match reason {
        Reason::AuthFailed => {
            "refused: see account SID, key and secret, that the key is not deleted, and that it is of this region"
        }
        Reason::QuotaExceeded => "the account is not active",
        Reason::VendorUnavailable => "not reached: see the base URL and the way out of this network",
        Reason::RateLimited => "not checked: too many requests at the moment",
        _ => "not checked: an answer that was not expected",
    }
}
