//! The vendor's answer → what became of the targets of a request. One table by the vendor's code (dev.mi.com pId=1560 of
//! 2024-10-18; rows marked J stand in the vendor's own client only), else the HTTP status.
//!
//! A code is about the whole request: with many targets it says nothing about any one of them. Only `bad_regids` names
//! tokens, and only if others of the same request went through, so that a wrong region or package cannot retire a
//! user base.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use http::Response;

use super::wire::Reply;
use crate::contract::{Failure, Hint, Reason, Scope, VendorEcho, Verdict};
use crate::kit::retry_after::retry_after;
use crate::kit::{echo, json};

/// What an answer says about the targets of its request.
#[derive(Debug)]
pub(super) struct Reading {
    /// About all that are not in `bad`.
    pub(super) verdict: Verdict,
    pub(super) vendor: VendorEcho,
    /// Tokens that the vendor calls wrong, though it took the request.
    pub(super) bad: HashSet<String>,
}

/// What a code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ruling {
    Target(Reason),
    Class(Reason),
    Channel(Reason),
    /// About a token, if the request had but one: not sure then, and about nobody else.
    OneToken(Reason),
    /// As before, but only where the vendor's words say so.
    NoValidTarget,
}

/// A code's meaning. `None`: no table knows it.
fn by_code(code: i64) -> Option<Ruling> {
    use Reason::{
        AuthFailed, ContentRejected, DeviceUnavailable, InvalidToken, PayloadInvalid, PayloadTooLarge,
        QuotaExceeded, RateLimited, Unclassified, VendorUnavailable, WrongApp,
    };
    Some(match code {
        // Internal, remote and database errors; busy (10009 J); a push within the vendor that failed (22100 J).
        1 | 10001 | 10002 | 10003 | 10009 | 10011 | 20607 | 22100 | 22102 | 26003 | 65029 => {
            Ruling::Channel(VendorUnavailable)
        }
        // IP, user, app, feedback, statistics, broadcast too often (10004, 10022-10024, 10028, 22101 J; 200002 third
        // party only).
        10004
        | 10022..=10024
        | 10027
        | 10028
        | 10030
        | 10032
        | 10039
        | 22101
        | 26004
        | 26005
        | 65006
        | 200_002 => Ruling::Channel(RateLimited),
        // Forbidden, restricted, blacklisted (10005, 10006, 10014, 10026 J); auth and token (21301-21303); the app
        // itself (22001-22005, 22008, 22020, 22021 J); 22022: not the app's package.
        10005
        | 10006
        | 10014
        | 10026
        | 10031
        | 10033
        | 10036
        | 10038
        | 21301..=21303
        | 22000..=22008
        | 22020..=22022 => Ruling::Channel(AuthFailed),
        // Bad, missing or illegal parameter or API (100, 10007, 10020, 10021, 22103 J); callback (10025 J, 65036-65038);
        // topics, aliases, accounts, none of which we use; 27001: channel and template do not fit.
        100
        | 10007
        | 10008
        | 10012
        | 10016
        | 10017
        | 10020
        | 10021
        | 10025
        | 20209
        | 21305
        | 22103
        | 27001
        | 65007
        | 65008
        | 65010..=65013
        | 65016
        | 65017
        | 65030
        | 65035..=65038
        | 65041 => Ruling::Target(PayloadInvalid),
        10018 | 65009 | 65014 | 65015 => Ruling::Target(PayloadTooLarge),
        // Wants a review by people first.
        26006 => Ruling::Target(ContentRejected),
        // Job or request expired (10010 J); device not found, usually offline.
        10010 | 10037 | 65003 => Ruling::Target(DeviceUnavailable),
        // The app sent too many messages today.
        10034 => Ruling::Channel(QuotaExceeded),
        // The day's quota of this class of channels.
        200_001 => Ruling::Class(QuotaExceeded),
        20301 => Ruling::NoValidTarget,
        // The table ties it to register and unregister, not to sends.
        10029 => Ruling::OneToken(InvalidToken),
        // Third party only: the package is not that of the token's app.
        66108 => Ruling::OneToken(WrongApp),
        // Unknown; invalid user (J: never retire on it); no code of a send; (un)subscribe and alike; trace.
        -1 | 10013 | 10035 | 20215 | 20216 | 20315 | 65028 | 65040 => Ruling::Target(Unclassified),
        _ => return None,
    })
}

/// The HTTP status alone: a gateway's page, or a code that no table knows.
fn by_http(status: u16, wait: Option<Duration>) -> Failure {
    let hint = wait.map_or(Hint::None, Hint::RetryAfter);
    match status {
        400 => Failure::target(Reason::PayloadInvalid),
        // Whether a wrong secret is a 401 or a code is UNVERIFIED.
        401 | 403 | 404 => Failure::channel(Reason::AuthFailed),
        413 => Failure::target(Reason::PayloadTooLarge),
        429 => Failure::channel(Reason::RateLimited).hint(hint),
        // Somebody between us and the service gave up waiting: it may have been accepted.
        408 | 502 | 504 => Failure::channel(Reason::VendorUnavailable).doubtful().hint(hint),
        500..=599 => Failure::channel(Reason::VendorUnavailable).hint(hint),
        // An answer that makes no sense, or a redirect, which is not followed: it would carry the secret along.
        100..=399 => Failure::channel(Reason::ProtocolError).doubtful(),
        _ => Failure::target(Reason::Unclassified),
    }
}

/// What was asked, as far as the answer's meaning depends on it.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    /// The request's tokens, each once.
    pub(super) tokens: &'a [&'a str],
    pub(super) channel_id: Option<&'a str>,
    pub(super) app_secret: &'a str,
}

/// Reads the answer to a send.
pub(super) fn read(answer: &Response<bytes::Bytes>, asked: &Asked<'_>, now: SystemTime) -> Reading {
    let reply = json::object::<Reply>(answer.body()).unwrap_or_default();
    let status = answer.status().as_u16();
    let mut secrets = vec![asked.app_secret];
    secrets.extend(asked.tokens);
    if status == 200
        && reply.is_ok()
        && let Some(id) = reply.message_id()
    {
        return read_success(&reply, id, asked);
    }
    let code = reply.code().filter(|code| *code != 0);
    let failure = failure(status, code, &reply, asked.tokens.len(), retry_after(answer.headers(), now));
    let words = match reply.words() {
        // A success that is none, or somebody's page.
        "" => String::from_utf8_lossy(answer.body()),
        words => words.into(),
    };
    let words = echo::words(&words, &secrets);
    let vendor = VendorEcho {
        id: None,
        status: Some(status),
        code: code.map(|code| code.to_string()),
        words: words.or_else(|| Some("an empty answer".to_owned())),
    };
    Reading { verdict: Verdict::Failed(failure), vendor, bad: HashSet::new() }
}

fn read_success(reply: &Reply, id: &str, asked: &Asked<'_>) -> Reading {
    let vendor = VendorEcho {
        id: echo::words(id, &[asked.app_secret]),
        status: Some(200),
        code: Some("0".to_owned()),
        words: None,
    };
    let exceeded = reply.exceeded_channels();
    let is_ours = |name: &&str| asked.channel_id.is_none_or(|ours| ours == *name);
    if exceeded.iter().any(is_ours) {
        let failure = Failure { scope: Scope::Class, ..Failure::channel(Reason::QuotaExceeded) };
        let words = Some("listed under channel_exceed_quota".to_owned());
        return Reading {
            verdict: Verdict::Failed(failure),
            vendor: VendorEcho { words, ..vendor },
            bad: HashSet::new(),
        };
    }
    // Tokens that we did not send are none of ours.
    let sent: HashSet<&str> = asked.tokens.iter().copied().collect();
    let bad =
        reply.bad_regids().into_iter().filter(|bad| sent.contains(bad)).map(ToOwned::to_owned).collect();
    Reading { verdict: Verdict::Accepted, vendor, bad }
}

/// What a failing answer means, by its code first.
pub(super) fn failure(
    status: u16,
    code: Option<i64>,
    reply: &Reply,
    targets: usize,
    wait: Option<Duration>,
) -> Failure {
    let Some(code) = code else { return by_http(status, wait) };
    let ruling = match by_code(code) {
        Some(ruling) => ruling,
        // Trouble on the way says more than a number that nobody knows.
        None if status >= 400 => return by_http(status, wait),
        None => Ruling::Target(Reason::Unclassified),
    };
    let one_token = |reason| match targets {
        1 => Failure::target(reason).doubtful(),
        _ => Failure::target(Reason::Unclassified),
    };
    let hint = wait.map_or(Hint::None, Hint::RetryAfter);
    match ruling {
        Ruling::Target(reason) => Failure::target(reason),
        Ruling::Class(reason) => Failure { scope: Scope::Class, ..Failure::channel(reason) },
        Ruling::Channel(reason @ (Reason::RateLimited | Reason::VendorUnavailable)) => {
            Failure::channel(reason).hint(hint)
        }
        Ruling::Channel(reason) => Failure::channel(reason),
        Ruling::OneToken(reason) => one_token(reason),
        // Also what a wrong region or package ends in, as far as is known.
        Ruling::NoValidTarget if says_no_valid_target(reply.words()) => one_token(Reason::InvalidToken),
        Ruling::NoValidTarget => Failure::target(Reason::Unclassified),
    }
}

/// "No valid targets!" is third party's wording.
fn says_no_valid_target(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    words.contains("no valid target") || words.contains("invalid target")
}
