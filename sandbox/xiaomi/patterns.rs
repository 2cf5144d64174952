//! What each token prefix means at Xiaomi.

use crate::rules::Behaviour as B;
use crate::twin::{Pattern, prefixed};

pub(super) const PATTERNS: &[Pattern] = &[
    prefixed(B::Ok, "accepted"),
    prefixed(B::Dead, "stands in data.bad_regids; alone: 20301 No valid targets!"),
    prefixed(B::Malformed, "the same"),
    prefixed(B::WrongApp, "alone: 66108; among others: in data.bad_regids"),
    prefixed(B::Slow, "accepted after 3 s (delay_ms)"),
    prefixed(B::Flaky, "10002 on the first try of each token and message (times), then accepted"),
    prefixed(B::Limited, "200002 on the first try (times), then accepted"),
    prefixed(B::Quota, "200001 with quota and count, always"),
    prefixed(B::DeviceQuota, "accepted; receipt 128"),
    prefixed(B::Garbage, "an answer that cannot be read; the next of five kinds on each try"),
    prefixed(B::Reset, "connection or stream ends without an answer"),
    prefixed(B::Hang, "never answers"),
    prefixed(B::Lost, "accepted and the answer lost on the first try (times); then accepted again"),
    prefixed(B::Answer, "answer-<code>-…: that code for the whole request"),
    prefixed(B::Fails, "fails-<type>-…: accepted, and a receipt of that type (16, 32, 64, 128, 1024; 2, 3)"),
    prefixed(B::Silent, "accepted, and never reported"),
    prefixed(B::ThirdParty, "10003"),
    prefixed(B::ApnsAuth, "22102"),
    prefixed(B::Unauthenticated, "HTTP 401 with code 21301"),
    prefixed(B::Forbidden, "21303"),
    prefixed(B::NotFound, "22000"),
    prefixed(B::Payload, "10017"),
    prefixed(B::TooBig, "10018"),
    prefixed(B::Unavailable, "10002, always"),
    prefixed(B::Internal, "10001"),
    prefixed(B::BadGateway, "HTTP 502 with an HTML page"),
    prefixed(B::GatewayTimeout, "HTTP 504 with an HTML page"),
    prefixed(B::Deadline, "10010"),
    prefixed(B::Cancelled, "10011"),
    prefixed(B::Unspecified, "-1"),
    prefixed(B::Unheard, "99999"),
];
