//! What each token prefix means at FCM.

use crate::rules::Behaviour as B;
use crate::twin::{Pattern, prefixed};

pub(super) const PATTERNS: &[Pattern] = &[
    prefixed(B::Ok, "accepted (as every token that no rule names)"),
    prefixed(B::Dead, "404 UNREGISTERED"),
    prefixed(B::Malformed, "400 INVALID_ARGUMENT on message.token"),
    prefixed(B::WrongApp, "403 SENDER_ID_MISMATCH"),
    prefixed(B::Slow, "accepted after 3 s"),
    prefixed(B::Flaky, "503 on the first try of each token and message, then accepted"),
    prefixed(B::Limited, "429 with Retry-After: 1 on the first try of each token and message, then accepted"),
    prefixed(B::Quota, "429 QUOTA_EXCEEDED, always"),
    prefixed(B::DeviceQuota, "429 QUOTA_EXCEEDED, subject device, always"),
    prefixed(B::Garbage, "200 that cannot be read; the next of five kinds on each try of the token"),
    prefixed(B::Reset, "the connection or stream ends without an answer"),
    prefixed(B::Hang, "never answers"),
    prefixed(B::Lost, "accepted, but the answer to the first try is lost; then accepted again"),
    prefixed(B::ThirdParty, "401 THIRD_PARTY_AUTH_ERROR"),
    prefixed(B::ApnsAuth, "401 APNS_AUTH_ERROR"),
    prefixed(B::Unauthenticated, "401 without an FcmError"),
    prefixed(B::Forbidden, "403 without an FcmError"),
    prefixed(B::NotFound, "404 without an FcmError"),
    prefixed(B::Payload, "400 INVALID_ARGUMENT on message.notification.image"),
    prefixed(B::TooBig, "400 without details"),
    prefixed(B::Unavailable, "503 UNAVAILABLE"),
    prefixed(B::Internal, "500 INTERNAL"),
    prefixed(B::BadGateway, "502 with an HTML page"),
    prefixed(B::GatewayTimeout, "504 with an HTML page"),
    prefixed(B::Deadline, "504 DEADLINE_EXCEEDED"),
    prefixed(B::Cancelled, "499 CANCELLED"),
    prefixed(B::Unspecified, "500 UNSPECIFIED_ERROR"),
    prefixed(B::Unheard, "400 with an error code that nobody has seen before"),
];
