//! Are the credentials good, without sending to anybody: asks for the validation (`validate_only`) of a message to a
//! token that names nobody.

use std::sync::Arc;
use std::time::Duration;

use super::config::Proof;
use super::{Huawei, payload};
use crate::contract::{
    Batch, CheckReport, Content, Failure, MessageRef, Notification, Reason, SendContext, VendorEcho, Verdict,
};

/// A token that names no phone.
const CHECK_TOKEN: &str = "anypush-check-names-no-phone";

/// Tries the credentials and says what to mend.
pub(super) async fn check(channel: &Huawei, context: &SendContext) -> CheckReport {
    let report = |reason: Option<Reason>, detail: String| CheckReport {
        ok: reason.is_none(),
        detail,
        reason,
        warnings: warnings(channel),
    };
    let _pass = match context.gate.pass(1).await {
        Ok(pass) => pass,
        Err(reason) => return report(Some(reason), "the channel is stopped".to_owned()),
    };
    let rendered = match payload::render(&channel.config, &batch()) {
        Ok(rendered) => rendered,
        Err(unsendable) => return report(Some(unsendable.reason), unsendable.why),
    };
    let body = rendered.body(&[CHECK_TOKEN], None, true);
    channel.bearers.ask_anew().await;
    let reading = channel.deliver(&body, &[CHECK_TOKEN], context.now).await;
    let path = &channel.config.path;
    match reading.verdict {
        Verdict::Accepted => report(None, format!("{path} would take messages from these credentials")),
        Verdict::Failed(Failure { reason: Reason::InvalidToken, .. }) => {
            report(None, format!("{path} takes these credentials: only the made-up token was refused"))
        }
        Verdict::Failed(Failure { reason, .. }) => {
            let (remedy, said) = (remedy(reason, &channel.config.proof), describe(&reading.vendor));
            report(Some(reason), format!("{remedy}; {path} answered: {said}"))
        }
    }
}

fn batch() -> Batch {
    let text = Some("check".to_owned());
    let notification = Notification { title: text.clone(), body: text, ..Notification::default() };
    Batch {
        message: MessageRef { id: "check".to_owned(), page_key: 0, label: None },
        content: Arc::new(Content { notification: Some(notification), ..Content::default() }),
        category: None,
        ttl: Duration::from_secs(1),
        targets: Vec::new(),
        attempt: 1,
    }
}

fn warnings(channel: &Huawei) -> Vec<String> {
    let mut warnings = Vec::new();
    if channel.config.callback.is_none() {
        warnings.push(
            "receipts are not signed: enter a user name and a secret in the console and here".to_owned(),
        );
    }
    if channel.config.test_messages {
        warnings.push("test_messages is on: 500 a day and app".to_owned());
    }
    warnings
}

fn describe(vendor: &VendorEcho) -> String {
    let status = vendor.status.map(|status| format!("HTTP {status}"));
    let parts: Vec<&str> =
        [status.as_deref(), vendor.code.as_deref(), vendor.words.as_deref()].into_iter().flatten().collect();
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(" ") }
}

fn remedy(reason: Reason, proof: &Proof) -> &'static str {
    match (reason, proof) {
        (Reason::AuthFailed, Proof::Secret { .. }) => {
            "refused: see that app id and secret are those of App information, that Push Kit is enabled and that the \
             project id, if given, is the app's"
        }
        (Reason::AuthFailed, Proof::Account(_)) => {
            "refused: see that the key was not deleted, that it is of this project and that this machine's clock is right"
        }
        (Reason::VendorUnavailable, _) => {
            "not reached: see the base URL, the token URL and the way out of this network"
        }
        (Reason::RateLimited, _) => "not checked: too many requests at the moment",
        _ => "not checked: an answer that was not expected",
    }
}
