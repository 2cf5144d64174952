//! Are the credentials good, without sending to anybody.
//!
//! Posts an empty silent notification to a token of 64 zeros, which no device has. The vendor looks at credentials and
//! topic before the token (the order is UNVERIFIED; if it were the other way round, a bad topic would show at the first
//! send), so a complaint about the token proves them good.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::config::Credential;
use super::push::DEVICE;
use super::{Apns, payload};
use crate::contract::{
    Address, Batch, CheckReport, Failure, MessageRef, Reason, SendContext, Target, Token, VendorEcho, Verdict,
};

/// A token that no device has.
const NOBODY: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Tries the credentials in each environment that the channel serves, and says what to mend.
pub(super) async fn check(channel: &Apns, context: &SendContext) -> CheckReport {
    let now = (context.now)();
    let (config, mut warnings) = (&channel.config, Vec::new());
    if let Credential::Certificate { facts, .. } = &config.credential {
        warnings = facts.warnings(now, &config.bundle_id, config.stage);
    }
    let mut good = Vec::new();
    for origin in &channel.origins {
        let name = origin.stage.name();
        let target = nobody(name);
        let batch = batch(&target);
        let rendered = payload::render(&batch, DEVICE, now);
        let request = match rendered.as_ref().map_err(Clone::clone).and_then(|r| channel.request(r, &target))
        {
            Ok(request) => request,
            Err(unsendable) => return report(Some(unsendable.reason), unsendable.why, warnings),
        };
        let _pass = match context.gate.pass(1).await {
            Ok(pass) => pass,
            Err(reason) => return report(Some(reason), "the channel is stopped".to_owned(), warnings),
        };
        let reading = channel.deliver(&request, context.now).await;
        match reading.verdict {
            // Wrong app: the vendor knows app and token, and that they do not belong together.
            Verdict::Accepted
            | Verdict::Failed(Failure { reason: Reason::InvalidToken | Reason::WrongApp, .. }) => {
                good.push(name);
            }
            Verdict::Failed(Failure { reason, .. }) => {
                let said = describe(&reading.vendor);
                let detail = format!("{}; {name} answered: {said}", remedy(reason));
                return report(Some(reason), detail, warnings);
            }
        }
    }
    let detail = format!(
        "{} takes these credentials for {}: only the made-up token was refused",
        good.join(" and "),
        config.bundle_id
    );
    report(None, detail, warnings)
}

fn nobody(stage: &str) -> Target {
    let params = BTreeMap::from([("environment".to_owned(), stage.to_owned())]);
    let address = Address { kind: DEVICE.to_owned(), token: Token::new(NOBODY), params };
    Target { address, key: 0, receipt_param: None, variables: None }
}

fn batch(target: &Target) -> Batch {
    Batch {
        message: MessageRef { id: "check".to_owned(), page_key: 0, label: None },
        content: Arc::default(),
        category: None,
        ttl: Duration::ZERO,
        targets: vec![target.clone()],
        attempt: 1,
    }
}

fn report(reason: Option<Reason>, detail: String, warnings: Vec<String>) -> CheckReport {
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
            "refused: see that key id, team id and bundle id are right, that the key is not revoked, is made for \
             this environment and may send for this app, and that the certificate has not ended"
        }
        Reason::VendorUnavailable => {
            "not reached: see the base URL and the way out of this network (TCP 443)"
        }
        Reason::RateLimited => "not checked: too many requests at the moment",
        _ => "not checked: an answer that was not expected",
    }
}
