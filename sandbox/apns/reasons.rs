//! Every reason that APNs gives, with its status and the tokens that ask for it.

use axum::body::Body;
use axum::response::Response;
use http::HeaderValue;
use serde_json::{Value, json};

use crate::rules::Behaviour as B;
use crate::state::now_ms;
use crate::twin::{Pattern, coded, pattern};

macro_rules! reasons {
    ($($tokens:literal $status:literal $name:ident $help:literal,)*) => {
        /// The reasons, each a constant by its own name.
        #[expect(non_upper_case_globals, reason = "Apple's names, as they stand in its answers")]
        pub(super) mod reason {
            $(pub(in crate::apns) const $name: super::Reason = super::Reason { name: stringify!($name), status: $status };)*
        }

        const ALL: &[Reason] = &[$(reason::$name,)*];

        /// What a rule may name as `code`.
        pub(super) const CODES: &[(&str, &str)] = &[$((stringify!($name), $help),)*];

        /// Which tokens behave how.
        pub(super) const PATTERNS: &[Pattern] = &[
            pattern("01dead", B::Dead, "410 Unregistered, with a timestamp of 30 days ago"),
            pattern("dead", B::Dead, "410 Unregistered, with a timestamp of now"),
            pattern("00000000", B::Malformed, "400 BadDeviceToken: nobody has it"),
            pattern("bad0", B::Malformed, "400 BadDeviceToken"),
            pattern("babe", B::WrongApp, "400 DeviceTokenNotForTopic"),
            pattern("5100", B::Slow, "accepted after 3 s"),
            pattern("f1a0", B::Flaky, "503 ServiceUnavailable on the first try of each token and message, then accepted"),
            pattern("0429", B::Limited, "429 TooManyRequests on the first try of each token and message, then accepted"),
            pattern("0bad", B::Garbage, "answers that cannot be read; the next of five kinds on each try of the token"),
            pattern("c105", B::Reset, "the stream ends without an answer"),
            pattern("0408", B::Hang, "never answers"),
            pattern("1057", B::Lost, "accepted, but the answer to the first try is lost; then accepted again"),
            $(coded($tokens, B::Answer, stringify!($name), concat!(stringify!($status), " ", stringify!($name), ": ", $help)),)*
        ];
    };
}

reasons! {
    "c0de00" 400 BadDeviceToken "the token is none, or of the other environment",
    "c0de01" 400 BadCollapseId "apns-collapse-id is longer than 64 bytes",
    "c0de02" 400 BadExpirationDate "apns-expiration is no time in seconds",
    "c0de03" 400 BadMessageId "apns-id is no UUID",
    "c0de04" 400 BadPriority "apns-priority is neither 10, 5 nor 1, or not what the push type allows",
    "c0de05" 400 BadTopic "apns-topic is no topic, or not one of the push type",
    "c0de06" 400 DeviceTokenNotForTopic "the token belongs to another app",
    "c0de07" 400 DuplicateHeaders "a header came twice",
    "c0de08" 400 IdleTimeout "the connection was idle for too long",
    "c0de09" 400 InvalidPushType "apns-push-type is unknown",
    "c0de0a" 400 MissingDeviceToken "the path has no token",
    "c0de0b" 400 MissingTopic "apns-topic is absent",
    "c0de0c" 400 PayloadEmpty "there is no payload",
    "c0de0d" 400 TopicDisallowed "the key or certificate is not for this topic",
    "c0de10" 403 BadCertificate "the certificate is not one of ours",
    "c0de11" 403 BadCertificateEnvironment "the certificate is for the other environment",
    "c0de12" 403 ExpiredProviderToken "the JWT is older than an hour",
    "c0de13" 403 Forbidden "not allowed",
    "c0de14" 403 InvalidProviderToken "the JWT does not hold: signature, key, team",
    "c0de15" 403 MissingProviderToken "neither a certificate nor a JWT",
    "c0de16" 403 UnrelatedKeyIdInToken "the key is not the one that the connection began with",
    "c0de17" 403 BadEnvironmentKeyIdInToken "the key is for the other environment",
    "c0de20" 404 BadPath "there is no such path",
    "c0de21" 405 MethodNotAllowed "only POST",
    "c0de22" 410 ExpiredToken "the token has expired",
    "c0de23" 410 Unregistered "the app is gone",
    "c0de24" 413 PayloadTooLarge "more than 4096 bytes (voip: 5120)",
    "c0de25" 429 TooManyProviderTokenUpdates "another JWT on this connection too soon",
    "c0de26" 429 TooManyRequests "too many for this token",
    "c0de30" 500 InternalServerError "an error inside",
    "c0de31" 503 ServiceUnavailable "not now",
    "c0de32" 503 Shutdown "this server is going down",
}

/// Why a push was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reason {
    pub(super) name: &'static str,
    pub(super) status: u16,
}

impl Reason {
    /// By name; a name that Apple has never used gets 400, as most have.
    pub(super) fn of(name: Option<&str>) -> Self {
        let known = ALL.iter().copied().find(|reason| Some(reason.name) == name);
        known.unwrap_or(Self { name: "UnheardOf", status: 400 })
    }

    /// The answer. 410 says when the token was found dead, in milliseconds.
    pub(super) fn answer(self, apns_id: &str, dead_since_ms: Option<u64>) -> Response {
        let mut body = json!({"reason": self.name});
        if self.status == 410 {
            body["timestamp"] = dead_since_ms.unwrap_or_else(now_ms).into();
        }
        respond(self.status, apns_id, Body::from(body.to_string()))
    }
}

/// An answer of APNs: `apns-id`, and no content type (the sheet knows of none).
pub(super) fn respond(status: u16, apns_id: &str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    if let Ok(id) = HeaderValue::from_str(apns_id) {
        response.headers_mut().insert("apns-id", id);
    }
    response
}

/// Answers that no client can read, one kind after the other.
pub(super) fn garbage(turn: u32, apns_id: &str) -> (u16, Response) {
    let (status, body) = match turn % 5 {
        0 => (400, "<html><body>Bad Request</body></html>"),
        1 => (400, r#"{"reason":"BadDev"#),
        2 => (410, ""),
        3 => (503, r#"["ServiceUnavailable"]"#),
        _ => (400, r#"{"reason":400}"#),
    };
    (status, respond(status, apns_id, Body::from(body)))
}

/// Since when a dead token has been dead, as far as its digits say.
pub(super) fn dead_since_ms(token: &str) -> u64 {
    const DAYS_30_MS: u64 = 30 * 24 * 3600 * 1000;
    now_ms() - if token.starts_with("01dead") { DAYS_30_MS } else { 0 }
}

/// A reason as a JSON document, as a GOAWAY carries it.
pub(super) fn words(reason: &str) -> String {
    Value::to_string(&json!({"reason": reason}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_tokens_of_its_own_and_they_are_hex() {
        for row in PATTERNS {
            assert!(row.tokens.bytes().all(|digit| digit.is_ascii_hexdigit()), "{}", row.tokens);
        }
        for (index, row) in PATTERNS.iter().enumerate() {
            let earlier = PATTERNS[..index].iter().find(|other| row.tokens.starts_with(other.tokens));
            assert!(earlier.is_none(), "{} never gets its turn", row.tokens);
        }
        assert_eq!(Reason::of(Some("ExpiredToken")).status, 410);
    }
}
