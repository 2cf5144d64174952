//! The vendor's answer → what became of the target. One table by the error code, which comes with a refusal, with a callback or
//! with a fetched message; where there is none, the HTTP status.
//!
//! The vendor says that codes are refined over time (July 2024 split some), so ranges follow the table. No number is ever
//! retired: what the vendor calls invalid needs a second strike.

use std::time::SystemTime;

use bytes::Bytes;
use http::Response;

use super::wire::{self, Message, Refused};
use crate::contract::{Failure, Hint, Reason, VendorEcho, Verdict};
use crate::kit::retry_after::retry_after;
use crate::kit::{echo, json};

/// What an answer says.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) verdict: Verdict,
    pub(super) vendor: VendorEcho,
}

impl Reading {
    pub(super) fn failed(failure: Failure, vendor: VendorEcho) -> Self {
        Self { verdict: Verdict::Failed(failure), vendor }
    }
}

/// By the vendor's code. `None`: no table knows it.
pub(super) fn by_code(code: u32) -> Option<Failure> {
    let target = Failure::target;
    Some(match code {
        // Credentials, permissions, region; wrong account in the path.
        20003 | 20404 => Failure::channel(Reason::AuthFailed),
        // The account is not active, or suspended.
        10001 | 30002 => Failure::channel(Reason::QuotaExceeded),
        // Too many requests at once: not processed. The sender's queue is full.
        20429 | 21611 | 30001 => Failure::channel(Reason::RateLimited),
        // Not a number that can get messages: landline, unknown, no longer in use. Relayed from carriers, so not sure.
        21211 | 21614 | 30005 | 30006 => target(Reason::UnreachableRecipient).doubtful(),
        21610 => target(Reason::OptedOut),
        // A country that is switched off; sender and recipient do not go together; blocked; filtered; US sender not registered.
        21408 | 21612 | 30004 | 30007 | 30034 => target(Reason::CarrierRejected),
        21617 => target(Reason::PayloadTooLarge),
        // Often temporary: the phone is off.
        30003 => target(Reason::DeviceUnavailable),
        30008 => target(Reason::Unclassified),
        // Among them 21401, 21606, 21608, 21669: the sender, or what it may do.
        21_000..=21_999 => target(Reason::PayloadInvalid),
        30_000..=30_999 => target(Reason::CarrierRejected),
        _ => return None,
    })
}

/// By the HTTP status alone. `named`: with a code that no table knows.
fn by_http(status: u16, named: bool) -> Failure {
    match status {
        429 => Failure::channel(Reason::RateLimited),
        401 => Failure::channel(Reason::AuthFailed),
        // The vendor refused to take it; whatever else fails over there may have taken it before.
        503 => Failure::channel(Reason::VendorUnavailable),
        408 | 500..=599 => Failure::channel(Reason::VendorUnavailable).doubtful(),
        // To be counted by its name.
        _ if named => Failure::target(Reason::Unclassified),
        403..=405 => Failure::channel(Reason::AuthFailed),
        400..=499 => Failure::target(Reason::PayloadInvalid),
        // A redirection would carry the credentials along.
        _ => Failure::channel(Reason::ProtocolError).doubtful(),
    }
}

/// Reads an answer to a send. `secrets` are never repeated.
pub(super) fn read(answer: &Response<Bytes>, now: SystemTime, secrets: &[&str]) -> Reading {
    let status = answer.status().as_u16();
    if answer.status().is_success() {
        return read_success(status, answer.body(), secrets);
    }
    let refused: Refused = json::object(answer.body()).unwrap_or_default();
    let code = wire::code(&refused.code);
    let mut failure = code.and_then(by_code).unwrap_or_else(|| by_http(status, code.is_some()));
    // The account's own trouble is told by status even where the code is another.
    if status == 401 {
        failure = Failure::channel(Reason::AuthFailed);
    }
    if matches!(failure.reason, Reason::RateLimited | Reason::VendorUnavailable)
        && let Some(wait) = retry_after(answer.headers(), now)
    {
        failure = failure.hint(Hint::RetryAfter(wait));
    }
    let vendor = VendorEcho {
        id: None,
        status: Some(status),
        code: code.map(|code| code.to_string()),
        words: echo::words(refused.words(), secrets),
    };
    Reading::failed(failure, vendor)
}

/// Only a message with an id has been taken. Anything else under a 2xx is doubtful: it may have been.
fn read_success(status: u16, body: &[u8], secrets: &[&str]) -> Reading {
    let message = json::object::<Message>(body).filter(|message| is_sid(&message.sid));
    let Some(message) = message.filter(|_| status == 201 || status == 200) else {
        let said = echo::words(&String::from_utf8_lossy(body), secrets);
        let words = Some(said.unwrap_or_else(|| "an empty answer".to_owned()));
        let vendor = VendorEcho { id: None, status: Some(status), code: None, words };
        return Reading::failed(Failure::channel(Reason::ProtocolError).doubtful(), vendor);
    };
    let code = wire::code(&message.error_code);
    let vendor = VendorEcho {
        id: Some(message.sid),
        status: Some(status),
        code: code.map(|code| code.to_string()),
        words: message.error_message.as_deref().and_then(|words| echo::words(words, secrets)),
    };
    match message.status.as_deref() {
        Some("failed" | "undelivered" | "canceled") => {
            let failure = code.and_then(by_code).unwrap_or(Failure::target(Reason::Unclassified));
            Reading::failed(failure, vendor)
        }
        _ => Reading { verdict: Verdict::Accepted, vendor },
    }
}

/// `SM…` or `MM…`: 34 characters. It becomes part of a path.
pub(super) fn is_sid(text: &str) -> bool {
    text.len() == 34 && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Whether a body is a message of the vendor's.
pub(super) fn is_message(body: &[u8]) -> bool {
    json::object::<Message>(body).is_some_and(|message| is_sid(&message.sid))
}
