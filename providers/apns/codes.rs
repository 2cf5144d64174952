//! The vendor's answer → what became of the target. One table by the answer's `reason`; where there is none, the HTTP
//! status says what it can and never blames a token.
//!
//! Source: "Handling notification responses from APNs", read 2026-11-20.

use std::time::SystemTime;

use bytes::Bytes;
use http::Response;
use serde_json::Value;

use super::wire::Refused;
use crate::contract::{Failure, Hint, Reason, VendorEcho, Verdict};
use crate::kit::failure::TransportError;
use crate::kit::retry_after::retry_after;
use crate::kit::{echo, json};

/// What an answer says.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) verdict: Verdict,
    pub(super) vendor: VendorEcho,
    pub(super) then: Then,
}

/// What the adapter does about it before it is an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Nothing.
    Nothing,
    /// Our token is too old: once more with a new one.
    RenewToken,
    /// This connection is of no more use: once more on another. The vendor did not process the request.
    Reconnect,
    /// This connection is of no more use, and no other would help now.
    Disconnect,
}

/// What a request was, as far as its answer is read by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    /// The topic is the channel's own, not made longer for a push type.
    pub(super) plain_topic: bool,
    /// The topic is one that the address named.
    pub(super) own_topic: bool,
    /// The channel serves both environments.
    pub(super) both_stages: bool,
}

/// What a reason says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ruling {
    Target(Reason),
    Channel(Reason),
    /// A malformed token, or a good one of the other environment: a channel set to the wrong one gets this for all.
    OddToken,
    /// The topic: the channel's own is a matter of the channel.
    Topic,
    /// A credential of the other environment.
    Stage,
    /// Somebody between us and the vendor gave up waiting: it may have been accepted.
    Lost,
}

fn by_reason(reason: &str) -> Option<(Ruling, Then)> {
    use Ruling::{Channel, OddToken, Stage, Target, Topic};
    let ruling = match reason {
        "BadDeviceToken" => OddToken,
        "Unregistered" | "ExpiredToken" => Target(Reason::InvalidToken),
        "DeviceTokenNotForTopic" => Target(Reason::WrongApp),
        "BadTopic" | "TopicDisallowed" => Topic,
        "MissingTopic" | "MissingDeviceToken" | "BadCollapseId" | "BadExpirationDate" | "BadMessageId"
        | "BadPriority" | "DuplicateHeaders" | "InvalidPushType" | "PayloadEmpty" | "BadPath"
        | "MethodNotAllowed" => Target(Reason::PayloadInvalid),
        "PayloadTooLarge" => Target(Reason::PayloadTooLarge),
        "BadCertificateEnvironment" | "BadEnvironmentKeyIdInToken" | "BadEnvironmentKeyInToken" => Stage,
        "BadCertificate" | "MissingProviderToken" | "Forbidden" => Channel(Reason::AuthFailed),
        // A key that was revoked or mended is looked at anew on a new connection only.
        "InvalidProviderToken" | "UnrelatedKeyIdInToken" => {
            return Some((Channel(Reason::AuthFailed), Then::Disconnect));
        }
        "ExpiredProviderToken" => return Some((Channel(Reason::AuthFailed), Then::RenewToken)),
        // Of one connection, and the credentials are good: the token stays.
        "TooManyProviderTokenUpdates" => return Some((Channel(Reason::RateLimited), Then::Reconnect)),
        // To one device.
        "TooManyRequests" => Target(Reason::RateLimited),
        "IdleTimeout" | "Shutdown" => return Some((Channel(Reason::VendorUnavailable), Then::Reconnect)),
        "InternalServerError" | "ServiceUnavailable" => Channel(Reason::VendorUnavailable),
        _ => return None,
    };
    Some((ruling, Then::Nothing))
}

/// The HTTP status alone: something on the way, or a reason that no table knows.
fn by_http(status: u16, named: bool) -> Ruling {
    match status {
        408 | 502 | 504 => Ruling::Lost,
        429 => Ruling::Channel(Reason::RateLimited),
        500..=599 => Ruling::Channel(Reason::VendorUnavailable),
        // A reason that no table knows: to be counted by its name.
        _ if named => Ruling::Target(Reason::Unclassified),
        400 => Ruling::Target(Reason::PayloadInvalid),
        401 | 403 | 404 | 405 => Ruling::Channel(Reason::AuthFailed),
        413 => Ruling::Target(Reason::PayloadTooLarge),
        _ => Ruling::Target(Reason::Unclassified),
    }
}

/// Reads an answer. `secrets` are never repeated.
pub(super) fn read(answer: &Response<Bytes>, asked: Asked, now: SystemTime, secrets: &[&str]) -> Reading {
    let status = answer.status();
    let id = answer.headers().get("apns-id").and_then(|id| id.to_str().ok());
    let id = id.and_then(|id| echo::words(id, secrets));
    if status == 200 && id.is_some() {
        let vendor = VendorEcho { id, status: Some(200), ..VendorEcho::default() };
        return Reading { verdict: Verdict::Accepted, vendor, then: Then::Nothing };
    }
    if !(status.is_client_error() || status.is_server_error()) {
        // A success without an id is not the vendor's; a redirection would carry the token along.
        let said = echo::words(&String::from_utf8_lossy(answer.body()), secrets);
        let words = Some(said.unwrap_or_else(|| "an answer without apns-id".to_owned()));
        let vendor = VendorEcho { id, status: Some(status.as_u16()), code: None, words };
        return Reading::failed(Failure::channel(Reason::ProtocolError).doubtful(), vendor);
    }
    let (reason, timestamp) = refused(answer.body());
    let (ruling, then) = reason
        .as_deref()
        .and_then(by_reason)
        .unwrap_or_else(|| (by_http(status.as_u16(), reason.is_some()), Then::Nothing));
    let hint = retry_after(answer.headers(), now).map_or(Hint::None, Hint::RetryAfter);
    let words = match timestamp {
        Some(since) => Some(format!("no longer valid since {since}")),
        None if reason.is_none() => echo::words(&String::from_utf8_lossy(answer.body()), secrets),
        None => None,
    };
    let code = reason.and_then(|reason| echo::words(&reason, secrets));
    let vendor = VendorEcho { id, status: Some(status.as_u16()), code, words };
    let since = timestamp.map(SystemTime::from);
    Reading { then, ..Reading::failed(failure(ruling, asked, hint).since(since), vendor) }
}

/// What a broken exchange says: a vendor that closes a connection may say why.
pub(super) fn read_error(error: &TransportError, asked: Asked) -> Reading {
    let said = error.farewell.as_deref().map(str::as_bytes).map(refused);
    let code = said.and_then(|(reason, _)| reason);
    let vendor = VendorEcho {
        code: code.as_deref().and_then(|code| echo::words(code, &[])),
        words: echo::words(&error.detail, &[]),
        ..VendorEcho::default()
    };
    // Only what speaks of the credentials changes anything: the others mean a connection that ends, which the
    // transport's own word tells exactly (processed, not processed, maybe).
    let failure = match code.as_deref().and_then(by_reason) {
        Some((ruling @ (Ruling::Stage | Ruling::Channel(Reason::AuthFailed)), _)) => {
            failure(ruling, asked, Hint::None)
        }
        _ => error.to_failure(),
    };
    Reading::failed(failure, vendor)
}

impl Reading {
    pub(super) fn failed(failure: Failure, vendor: VendorEcho) -> Self {
        Self { verdict: Verdict::Failed(failure), vendor, then: Then::Nothing }
    }
}

fn failure(ruling: Ruling, asked: Asked, hint: Hint) -> Failure {
    match ruling {
        Ruling::Target(reason @ Reason::RateLimited) => Failure::target(reason).hint(hint),
        Ruling::Target(reason) => Failure::target(reason),
        Ruling::Channel(reason @ (Reason::RateLimited | Reason::VendorUnavailable)) => {
            Failure::channel(reason).hint(hint)
        }
        Ruling::Channel(reason) => Failure::channel(reason),
        Ruling::OddToken => Failure::target(Reason::InvalidToken).doubtful(),
        Ruling::Topic if asked.own_topic => Failure::target(Reason::WrongApp),
        Ruling::Topic if !asked.plain_topic => Failure::target(Reason::PayloadInvalid),
        // One environment's refusal must not stop the other's addresses.
        Ruling::Stage if asked.both_stages => Failure::target(Reason::AuthFailed),
        Ruling::Topic | Ruling::Stage => Failure::channel(Reason::AuthFailed),
        Ruling::Lost => Failure::channel(Reason::VendorUnavailable).doubtful().hint(hint),
    }
}

/// The reason, and since when a token is dead.
fn refused(body: &[u8]) -> (Option<String>, Option<jiff::Timestamp>) {
    let Some(Refused { reason: Value::String(reason), timestamp }) = json::object(body) else {
        return (None, None);
    };
    let since = timestamp.as_i64().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    ((!reason.is_empty()).then_some(reason), since)
}

/// Whether an answer proves that the vendor has taken our credentials, so that it lets a connection carry more.
pub(super) fn proves_credentials(answer: &Response<Bytes>) -> bool {
    matches!(answer.status().as_u16(), 200 | 400 | 410 | 413)
}

/// A token that is refused as too old, and too young to be replaced.
pub(super) const CLOCK_WORDS: &str =
    "the vendor calls a token too old that was made a moment ago: see this machine's clock";
