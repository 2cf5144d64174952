//! What each token prefix means at Huawei.

use crate::rules::Behaviour as B;
use crate::twin::{Pattern, prefixed};

pub(super) const PATTERNS: &[Pattern] = &[
    prefixed(B::Ok, "accepted"),
    prefixed(B::Dead, "stands in illegal_tokens of 80100000; where all are such: 80300007"),
    prefixed(B::Malformed, "the same"),
    prefixed(B::WrongApp, "the same: Huawei does not tell them apart"),
    prefixed(B::Slow, "accepted after 3 s (delay_ms)"),
    prefixed(B::Flaky, "81000001 on the first try of each token and message (times), then accepted"),
    prefixed(B::Limited, "HTTP 503 on the first try (times), then accepted"),
    prefixed(B::Quota, "accepted; receipt 256"),
    prefixed(B::DeviceQuota, "accepted; receipt 102"),
    prefixed(B::Garbage, "an answer that cannot be read; the next of five kinds on each try"),
    prefixed(B::Reset, "connection or stream ends without an answer"),
    prefixed(B::Hang, "never answers"),
    prefixed(B::Lost, "accepted and the answer lost on the first try (times); then accepted again"),
    prefixed(B::Answer, "answer-<code>-…: that code for the whole request"),
    prefixed(B::Fails, "fails-<status>-…: accepted, and a receipt of that status (2, 5, 6, 10, 201, …)"),
    prefixed(B::Silent, "accepted, and never reported"),
    prefixed(B::ThirdParty, "80300013"),
    prefixed(B::ApnsAuth, "80300011"),
    prefixed(B::Unauthenticated, "HTTP 401 with 80200001"),
    prefixed(B::Forbidden, "80300002"),
    prefixed(B::NotFound, "HTTP 404 without a code"),
    prefixed(B::Payload, "HTTP 400 with 80100003"),
    prefixed(B::TooBig, "80300008"),
    prefixed(B::Unavailable, "80600003, always"),
    prefixed(B::Internal, "HTTP 500 without a code"),
    prefixed(B::BadGateway, "HTTP 502 with an HTML page"),
    prefixed(B::GatewayTimeout, "HTTP 504 with an HTML page"),
    prefixed(B::Deadline, "80100004"),
    prefixed(B::Cancelled, "80100017"),
    prefixed(B::Unspecified, "HTTP 400 without a code"),
    prefixed(B::Unheard, "80999999"),
];
