//! The vendor's answer → what became of the target. One table, in the vendor's own order of decision: the FcmError
//! detail, else the status name, else the HTTP status.
//!
//! Only an FcmError may blame a token. A bare `NOT_FOUND` or `PERMISSION_DENIED` is a wrong project id or a missing
//! role: the official SDKs disagree about them (Node blames the token, Python does not), and a typing mistake in a
//! channel must not retire a user base.

use std::time::{Duration, SystemTime};

use http::Response;
use serde_json::Value;

use super::wire::{Accepted, Refused};
use crate::contract::{Failure, Hint, Reason, VendorEcho, Verdict};
use crate::kit::retry_after::retry_after;
use crate::kit::{echo, json};

/// Without `Retry-After` a 429 is left alone this long (Firebase "scale-fcm" guide; UNVERIFIED in its reference).
const RATE_LIMIT_PAUSE: Duration = Duration::from_mins(1);

/// What the vendor counts as too long, for telling a bare INVALID_ARGUMENT apart.
const MAX_BYTES: usize = 4096;

/// What an answer says.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) verdict: Verdict,
    pub(super) vendor: VendorEcho,
    /// Our access token was refused: a new one may help.
    pub(super) token_refused: bool,
}

/// What a code says, before the details are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ruling {
    Target(Reason),
    Channel(Reason),
    /// The token or the payload is at fault: the violated field tells.
    Argument,
    Rate,
    /// Refused for now.
    Busy,
    /// Somebody between us and the service gave up waiting: it may have been accepted.
    Lost,
    /// Our access token.
    AccessToken,
}

/// `details[*].errorCode` of an FcmError (reference page "ErrorCode", read 2026-11-20).
fn by_fcm_error(code: &str) -> Ruling {
    match code {
        "UNREGISTERED" => Ruling::Target(Reason::InvalidToken),
        "INVALID_ARGUMENT" => Ruling::Argument,
        "SENDER_ID_MISMATCH" => Ruling::Target(Reason::WrongApp),
        // The APNs or web push key that is stored in Firebase: Android's tokens of the project still work, so this
        // target alone fails. APNS_AUTH_ERROR is the older name.
        "THIRD_PARTY_AUTH_ERROR" | "APNS_AUTH_ERROR" => Ruling::Target(Reason::AuthFailed),
        "QUOTA_EXCEEDED" => Ruling::Rate,
        "UNAVAILABLE" | "INTERNAL" => Ruling::Busy,
        _ => Ruling::Target(Reason::Unclassified),
    }
}

/// `error.status` where there is no FcmError. `None`: the name says nothing, the HTTP status decides.
fn by_status(status: &str) -> Option<Ruling> {
    Some(match status {
        "INVALID_ARGUMENT" => Ruling::Target(Reason::PayloadInvalid),
        "UNAUTHENTICATED" => Ruling::AccessToken,
        "PERMISSION_DENIED" | "NOT_FOUND" => Ruling::Channel(Reason::AuthFailed),
        "RESOURCE_EXHAUSTED" => Ruling::Rate,
        "UNAVAILABLE" | "INTERNAL" => Ruling::Busy,
        "DEADLINE_EXCEEDED" | "CANCELLED" => Ruling::Lost,
        _ => return None,
    })
}

/// The HTTP status alone: a gateway's page, or a status name that no table knows.
fn by_http(status: u16) -> Ruling {
    match status {
        400 => Ruling::Target(Reason::PayloadInvalid),
        401 => Ruling::AccessToken,
        403 | 404 => Ruling::Channel(Reason::AuthFailed),
        408 | 502 | 504 => Ruling::Lost,
        413 => Ruling::Target(Reason::PayloadTooLarge),
        429 => Ruling::Rate,
        500..=599 => Ruling::Busy,
        _ => Ruling::Target(Reason::Unclassified),
    }
}

/// Reads an answer to a request of `sent_bytes`. `secrets` are never repeated.
pub(super) fn read(
    answer: &Response<bytes::Bytes>,
    sent_bytes: usize,
    now: SystemTime,
    secrets: &[&str],
) -> Reading {
    let status = answer.status();
    if status.is_success() {
        return read_success(status.as_u16(), answer.body(), secrets);
    }
    let error = json::object::<Refused>(answer.body()).map_or(Value::Null, |refused| refused.error);
    if status.is_redirection() || status.is_informational() {
        // Not followed: it would carry the access token along.
        let failure = Failure::channel(Reason::ProtocolError).doubtful();
        return Reading::failed(failure, echo(status.as_u16(), &error, secrets));
    }
    let named = error["status"].as_str();
    let ruling = match fcm_error(&error) {
        Some(code) => by_fcm_error(code),
        None => named.and_then(by_status).unwrap_or_else(|| match (named, by_http(status.as_u16())) {
            // A name that no table knows, and no trouble of theirs: to be counted by that name.
            (Some(_), ruling) if ruling != Ruling::Busy && ruling != Ruling::Lost => {
                Ruling::Target(Reason::Unclassified)
            }
            (_, ruling) => ruling,
        }),
    };
    let wait = retry_after(answer.headers(), now);
    let mut reading =
        Reading::failed(failure(ruling, &error, sent_bytes, wait), echo(status.as_u16(), &error, secrets));
    reading.token_refused = ruling == Ruling::AccessToken;
    reading
}

impl Reading {
    pub(super) fn failed(failure: Failure, vendor: VendorEcho) -> Self {
        Self { verdict: Verdict::Failed(failure), vendor, token_refused: false }
    }
}

/// Only a name says that the message was taken. Anything else under a 200 is doubtful: it may have been.
fn read_success(status: u16, body: &[u8], secrets: &[&str]) -> Reading {
    let accepted = json::object::<Accepted>(body).filter(|accepted| !accepted.name.is_empty());
    if let Some(Accepted { name }) = accepted.filter(|_| status == 200) {
        let vendor =
            VendorEcho { id: echo::words(&name, secrets), status: Some(status), ..VendorEcho::default() };
        return Reading { verdict: Verdict::Accepted, vendor, token_refused: false };
    }
    let said = echo::words(&String::from_utf8_lossy(body), secrets);
    let words = Some(said.unwrap_or_else(|| "an empty answer".to_owned()));
    let vendor = VendorEcho { id: None, status: Some(status), code: None, words };
    Reading::failed(Failure::channel(Reason::ProtocolError).doubtful(), vendor)
}

fn failure(ruling: Ruling, error: &Value, sent_bytes: usize, wait: Option<Duration>) -> Failure {
    let hint = wait.map_or(Hint::None, Hint::RetryAfter);
    match ruling {
        // An oversize payload has no code of its own, and sometimes no details at all.
        Ruling::Argument | Ruling::Target(Reason::PayloadInvalid)
            if sent_bytes > MAX_BYTES && violations(error).next().is_none() && !blames_token(error) =>
        {
            Failure::target(Reason::PayloadTooLarge)
        }
        Ruling::Argument if blames_token(error) => Failure::target(Reason::InvalidToken),
        Ruling::Argument => Failure::target(Reason::PayloadInvalid),
        Ruling::Target(reason) => Failure::target(reason),
        Ruling::Channel(reason) => Failure::channel(reason),
        Ruling::AccessToken => Failure::channel(Reason::AuthFailed),
        Ruling::Rate => {
            let hint = Hint::RetryAfter(wait.unwrap_or(RATE_LIMIT_PAUSE));
            let about_one = concerns_one_target(error);
            let failure = if about_one { Failure::target } else { Failure::channel };
            failure(Reason::RateLimited).hint(hint)
        }
        Ruling::Busy => Failure::channel(Reason::VendorUnavailable).hint(hint),
        Ruling::Lost => Failure::channel(Reason::VendorUnavailable).doubtful().hint(hint),
    }
}

fn details(error: &Value) -> impl Iterator<Item = &Value> {
    error["details"].as_array().into_iter().flatten()
}

fn is_type(detail: &Value, name: &str) -> bool {
    detail["@type"].as_str().is_some_and(|text| text.ends_with(name))
}

fn fcm_error(error: &Value) -> Option<&str> {
    details(error)
        .filter(|detail| is_type(detail, "google.firebase.fcm.v1.FcmError"))
        .find_map(|detail| detail["errorCode"].as_str())
}

/// `(field, description)` of each BadRequest violation.
fn violations(error: &Value) -> impl Iterator<Item = (&str, &str)> {
    details(error)
        .filter(|detail| is_type(detail, "google.rpc.BadRequest"))
        .flat_map(|detail| detail["fieldViolations"].as_array().into_iter().flatten())
        .map(|violation| {
            (violation["field"].as_str().unwrap_or(""), violation["description"].as_str().unwrap_or(""))
        })
}

/// Whether an INVALID_ARGUMENT is about the token: by field, or by the words that the vendor has for it.
fn blames_token(error: &Value) -> bool {
    let message = error["message"].as_str().unwrap_or("");
    violations(error).any(|(field, _)| field == "message.token" || field == "message.fid")
        || message.contains("not a valid FCM registration token")
}

/// Whether a 429 is about one device or one topic: the channel must not be slowed for it. The vendor's words for it
/// are UNVERIFIED; without a word about a device it is the project's rate.
fn concerns_one_target(error: &Value) -> bool {
    let quota = details(error)
        .filter(|detail| is_type(detail, "google.rpc.QuotaFailure"))
        .flat_map(|detail| detail["violations"].as_array().into_iter().flatten())
        .flat_map(|violation| [violation["subject"].as_str(), violation["description"].as_str()])
        .flatten();
    quota.chain(error["message"].as_str()).any(|text| {
        let text = text.to_ascii_lowercase();
        text.contains("device") || text.contains("topic")
    })
}

fn echo(status: u16, error: &Value, secrets: &[&str]) -> VendorEcho {
    let code = fcm_error(error).or_else(|| error["status"].as_str());
    let message = error["message"].as_str().unwrap_or("");
    let mut said = message.to_owned();
    // What the message does not say already: which field.
    for (field, description) in violations(error).filter(|(_, text)| !message.contains(text)).take(3) {
        said.extend([" (", field, ": ", description, ")"]);
    }
    VendorEcho {
        id: None,
        status: Some(status),
        code: code.and_then(|code| echo::words(code, secrets)),
        words: echo::words(&said, secrets),
    }
}
