//! The vendor's answer → what became of the targets of a request. One table by the vendor's code, which decides at any
//! HTTP status; else the status itself.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use http::Response;

use super::wire::{Partial, Reply};
use crate::contract::{Failure, Hint, Reason, VendorEcho, Verdict};
use crate::kit::retry_after::retry_after;
use crate::kit::{echo, json};

const SUCCESS: &str = "80000000";
const PARTIAL: &str = "80100000";

/// What an answer says about the targets of its request.
#[derive(Debug)]
pub(super) struct Reading {
    /// About all that are not in `illegal`.
    pub(super) verdict: Verdict,
    pub(super) vendor: VendorEcho,
    /// Tokens that the vendor calls illegal while others of the request went out.
    pub(super) illegal: HashSet<String>,
    /// Our bearer was refused: a new one may help.
    pub(super) token_refused: bool,
}

/// What a code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ruling {
    Target(Reason),
    Channel(Reason),
    /// A token, but not surely.
    Doubtful(Reason),
    /// Our bearer.
    Bearer,
}

/// A code's meaning. `None`: no table knows it.
fn by_code(code: &str) -> Option<Ruling> {
    use Reason::{
        AuthFailed, ContentRejected, InvalidToken, PayloadInvalid, PayloadTooLarge, RateLimited,
        Unclassified, VendorUnavailable,
    };
    Some(match code {
        // Parameters, structure, TTL, collapse key, review; token count; no right for HIGH; receipt configuration; groups
        // and topics, none of which we use.
        "80100001" | "80100002" | "80100003" | "80100004" | "80100013" | "80100018" | "80300010"
        | "80300011" | "80300013" | "82000001" | "82000002" | "82000003" | "82000004" | "82000005"
        | "82000006" | "82000007" | "82000008" | "82000009" | "82000011" => Ruling::Target(PayloadInvalid),
        "80100016" => Ruling::Target(ContentRejected),
        // More than 100 topic tasks at once.
        "80100017" => Ruling::Channel(RateLimited),
        // Refused, expired, our own token expired.
        "80200001" | "80200003" | "80200005" => Ruling::Bearer,
        // May not send; token of ours that lives too long; the project's data location.
        "80300002" | "80300036" | "82000012" | "82000013" => Ruling::Channel(AuthFailed),
        // All tokens invalid: malformed, or good ones under another app's credentials (the vendor's FAQ).
        "80300007" => Ruling::Doubtful(InvalidToken),
        "80300008" => Ruling::Target(PayloadTooLarge),
        // The vendor cannot reach its own OAuth service; internal.
        "80600003" | "81000001" => Ruling::Channel(VendorUnavailable),
        // Some token of a topic is wrong, and nobody knows which.
        "82000010" => Ruling::Target(Unclassified),
        _ => return None,
    })
}

/// The HTTP status alone: a gateway's page, or a code that no table knows.
fn by_http(status: u16) -> (Failure, bool) {
    let failure = match status {
        400 => Failure::target(Reason::PayloadInvalid),
        401 => return (Failure::channel(Reason::AuthFailed), true),
        // A wrong app id or project id is part of the path.
        403 | 404 => Failure::channel(Reason::AuthFailed),
        413 => Failure::target(Reason::PayloadTooLarge),
        // 503 is the vendor's flow control.
        429 | 503 => Failure::channel(Reason::RateLimited),
        // Somebody between us and the service gave up waiting: it may have been accepted.
        408 | 502 | 504 => Failure::channel(Reason::VendorUnavailable).doubtful(),
        500..=599 => Failure::channel(Reason::VendorUnavailable),
        // An answer that makes no sense, or a redirect, which is not followed: it would carry the bearer along.
        100..=399 => Failure::channel(Reason::ProtocolError).doubtful(),
        _ => Failure::target(Reason::Unclassified),
    };
    (failure, false)
}

/// Reads the answer to a send of these tokens, each once. `bearer` is never repeated.
pub(super) fn read(
    answer: &Response<bytes::Bytes>,
    tokens: &[&str],
    bearer: &str,
    now: SystemTime,
) -> Reading {
    let reply = json::object::<Reply>(answer.body()).unwrap_or_default();
    let status = answer.status().as_u16();
    let secrets: Vec<&str> = tokens.iter().copied().chain([bearer]).collect();
    let code = reply.code();
    let words =
        if reply.words().is_empty() { String::from_utf8_lossy(answer.body()) } else { reply.words().into() };
    let mut vendor = VendorEcho {
        id: reply.request_id().and_then(|id| echo::words(id, &secrets)),
        status: Some(status),
        code: code.as_deref().and_then(|code| echo::words(code, &secrets)),
        words: None,
    };
    if status == 200 && reply.says(SUCCESS) && reply.request_id().is_some() {
        return Reading::of(Verdict::Accepted, vendor);
    }
    vendor.words = echo::words(&words, &secrets).or_else(|| Some("an empty answer".to_owned()));
    if status == 200 && reply.says(PARTIAL) && reply.request_id().is_some() {
        return read_partial(reply.partial(), tokens, vendor);
    }
    let wait = retry_after(answer.headers(), now);
    let (failure, token_refused) = failure(status, code.as_deref(), wait);
    // An id without a success names nothing that anybody could ask for.
    Reading { token_refused, ..Reading::of(Verdict::Failed(failure), VendorEcho { id: None, ..vendor }) }
}

/// Some went out. Which did not must be said token by token, and the numbers must agree.
fn read_partial(partial: Option<Partial>, tokens: &[&str], vendor: VendorEcho) -> Reading {
    let doubt = Verdict::Failed(Failure::channel(Reason::ProtocolError).doubtful());
    let Some(partial) = partial else { return Reading::of(doubt, VendorEcho { id: None, ..vendor }) };
    let sent: HashSet<&str> = tokens.iter().copied().collect();
    // Tokens that we did not send are none of ours.
    let illegal: HashSet<String> =
        partial.illegal_tokens.into_iter().filter(|token| sent.contains(token.as_str())).collect();
    if illegal.len() == sent.len() {
        // Nobody went through: it may as well be another app's credentials.
        let failure = Failure::target(Reason::InvalidToken).doubtful();
        return Reading::of(Verdict::Failed(failure), VendorEcho { id: None, ..vendor });
    }
    let agrees = partial.failure.is_none_or(|failure| failure == illegal.len())
        && partial.success.is_none_or(|success| success == sent.len() - illegal.len());
    let others = if agrees { Verdict::Accepted } else { doubt };
    // Words of a success are none; those of doubt stay.
    let words = if agrees { None } else { vendor.words };
    Reading { illegal, ..Reading::of(others, VendorEcho { words, ..vendor }) }
}

/// What a failing answer means, by its code first.
fn failure(status: u16, code: Option<&str>, wait: Option<Duration>) -> (Failure, bool) {
    let ruling = match code.map(|code| (code, by_code(code))) {
        Some((_, Some(ruling))) => ruling,
        // A success that is none.
        Some((SUCCESS | PARTIAL, None)) | None => return hinted(by_http(status), wait),
        // Trouble on the way says more than a number that nobody knows.
        Some((_, None)) if status >= 400 => return hinted(by_http(status), wait),
        Some((_, None)) => Ruling::Target(Reason::Unclassified),
    };
    let plain = match ruling {
        Ruling::Target(reason) => (Failure::target(reason), false),
        Ruling::Channel(reason) => (Failure::channel(reason), false),
        Ruling::Doubtful(reason) => (Failure::target(reason).doubtful(), false),
        Ruling::Bearer => (Failure::channel(Reason::AuthFailed), true),
    };
    hinted(plain, wait)
}

/// Only trouble that passes is worth waiting for.
fn hinted((failure, refused): (Failure, bool), wait: Option<Duration>) -> (Failure, bool) {
    match (failure.reason, wait) {
        (Reason::RateLimited | Reason::VendorUnavailable, Some(wait)) => {
            (failure.hint(Hint::RetryAfter(wait)), refused)
        }
        _ => (failure, refused),
    }
}

impl Reading {
    pub(super) fn of(verdict: Verdict, vendor: VendorEcho) -> Self {
        Self { verdict, vendor, illegal: HashSet::new(), token_refused: false }
    }
}
