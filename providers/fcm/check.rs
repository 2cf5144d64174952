//! Are the credentials good, without sending to anybody.
//!
//! Asks for the validation (`validate_only`) of a message to a token that names nobody. The caller's permission
//! is checked before the token, so a complaint about the token proves key, project and role (the order is
//! UNVERIFIED; if it were the other way round, a missing role would show at the first send). A topic would be
//! accepted outright, but if something on the way ignored `validate_only`, its subscribers would get the message.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Fcm, payload};
use crate::contract::{
    Address, Batch, CheckReport, Failure, MessageRef, Reason, SendContext, Target, Token, VendorEcho, Verdict,
};

/// A token that names no installation.
const CHECK_TOKEN: &str = "anypush-check-names-no-installation";

/// Tries the credentials and says what to mend.
pub(super) async fn check(channel: &Fcm, context: &SendContext) -> CheckReport {
    let _pass = match context.gate.pass(1).await {
        Ok(pass) => pass,
        Err(reason) => return report(Some(reason), "the channel is stopped".to_owned()),
    };
    let target = nobody();
    let body = match payload::render(&batch(&target), (context.now)()) {
        Ok(rendered) => rendered.body(&target.address, target.key, true),
        Err(unsendable) => return report(Some(unsendable.reason), unsendable.why),
    };
    channel.tokens.ask_anew().await;
    let reading = channel.deliver(body.into(), "", context.now).await;
    let project = &channel.config.project_id;
    match reading.verdict {
        Verdict::Accepted => report(None, format!("project {project} would take messages from this key")),
        Verdict::Failed(Failure { reason: Reason::InvalidToken | Reason::WrongApp, .. }) => {
            report(None, format!("project {project} takes this key: only the made-up token was refused"))
        }
        Verdict::Failed(Failure { reason, .. }) => {
            let (remedy, said) = (remedy(reason), describe(&reading.vendor));
            report(Some(reason), format!("{remedy}; project {project} answered: {said}"))
        }
    }
}

fn nobody() -> Target {
    let address =
        Address { kind: "token".to_owned(), token: Token::new(CHECK_TOKEN), params: BTreeMap::new() };
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

fn report(reason: Option<Reason>, detail: String) -> CheckReport {
    CheckReport { ok: reason.is_none(), detail, reason, warnings: Vec::new() }
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
            "refused: see that the key is not revoked, that the project id is right, that the Firebase Cloud \
             Messaging API is enabled and that the key's account may create messages"
        }
        Reason::VendorUnavailable => {
            "not reached: see the base URL, the token URL and the way out of this network"
        }
        Reason::RateLimited => "not checked: too many requests at the moment",
        _ => "not checked: an answer that was not expected",
    }
}
