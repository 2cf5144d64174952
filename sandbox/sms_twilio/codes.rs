//! Twilio's error codes: their words, their HTTP status, and the numbers that ask for them.

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde_json::json;

use crate::rules::Behaviour as B;
use crate::twin::{Pattern, coded, pattern};

/// The codes that this twin knows.
pub(super) const CODES: &[(&str, &str)] = &[
    ("10001", "Account is not active"),
    ("20001", "Invalid parameter"),
    ("20003", "Authenticate"),
    ("20404", "The requested resource was not found"),
    ("20429", "Too Many Requests"),
    ("20500", "Internal Server Error"),
    ("20503", "Service Unavailable"),
    ("21211", "Invalid 'To' Phone Number"),
    ("21401", "Invalid Phone Number"),
    ("21408", "Permission to send an SMS has not been enabled for the region indicated by the 'To' number"),
    ("21602", "Message body is required"),
    ("21603", "A 'From' phone number is required"),
    ("21604", "A 'To' phone number is required"),
    ("21606", "The 'From' phone number is not a valid, message-capable Twilio phone number"),
    ("21608", "The number is unverified. Trial accounts cannot send messages to unverified numbers"),
    ("21609", "Invalid 'StatusCallback' URL"),
    ("21610", "Attempt to send to unsubscribed recipient"),
    ("21611", "This 'From' number has exceeded the maximum number of queued messages"),
    ("21612", "The 'To' phone number is not currently reachable using the 'From' phone number"),
    ("21614", "'To' number is not a valid mobile number"),
    ("21617", "The concatenated message body exceeds the 1600 character limit"),
    ("21656", "The ContentVariables Parameter is invalid"),
    ("21669", "The number and the Messaging Service are in different regions"),
    ("30001", "Queue overflow"),
    ("30002", "Account suspended"),
    ("30003", "Unreachable destination handset"),
    ("30004", "Message blocked"),
    ("30005", "Unknown destination handset"),
    ("30006", "Landline or unreachable carrier"),
    ("30007", "Message filtered"),
    ("30008", "Unknown error"),
    ("30034", "US A2P 10DLC - Message from an Unregistered Number"),
];

/// Which numbers behave how.
pub(super) const PATTERNS: &[Pattern] = &[
    pattern("*0001", B::Dead, "accepted, then undelivered with 30005: no such handset any more"),
    pattern("*0002", B::Malformed, "400, 21211: no valid number"),
    coded("*0003", B::Answer, "21614", "400, 21614: not a mobile number"),
    coded("*0004", B::Answer, "21610", "400, 21610: opted out"),
    pattern("*0005", B::Flaky, "503 on the first try of each number and callback URL, then accepted"),
    pattern(
        "*0006",
        B::Limited,
        "429, 20429 on the first try of each number and callback URL, then accepted",
    ),
    pattern("*0007", B::Slow, "accepted after 3 s"),
    pattern("*0008", B::Lost, "accepted, but the answer to the first try is lost; then accepted again"),
    pattern("*0009", B::Hang, "never answers"),
    pattern("*0010", B::Reset, "the connection or stream ends without an answer"),
    pattern(
        "*0011",
        B::Garbage,
        "answers that cannot be read; the next of five kinds on each try of the number",
    ),
    pattern("*0012", B::Silent, "accepted and sent; nobody ever hears more"),
    coded("*0013", B::Fails, "30003", "accepted, then undelivered with 30003: handset unreachable"),
    coded("*0014", B::Fails, "30004", "accepted, then undelivered with 30004: blocked"),
    coded(
        "*0015",
        B::Fails,
        "30006",
        "accepted, then undelivered with 30006: landline or unreachable carrier",
    ),
    coded("*0016", B::Fails, "30007", "accepted, then undelivered with 30007: filtered"),
    coded("*0017", B::Fails, "30008", "accepted, then undelivered with 30008: unknown"),
    coded("*0018", B::Fails, "30034", "accepted, then undelivered with 30034: sender not registered"),
    coded("*0019", B::Answer, "21408", "400, 21408: the region is not enabled"),
    coded("*0020", B::Answer, "21612", "400, 21612: not reachable from this sender"),
    coded("*0021", B::Answer, "21606", "400, 21606: the sender cannot send there"),
    coded("*0022", B::Answer, "21608", "400, 21608: a trial account, and the number is not verified"),
    coded("*0023", B::Answer, "21611", "400, 21611: the sender's queue is full"),
    coded("*0024", B::Answer, "20500", "500, 20500"),
    coded("*0025", B::Answer, "20003", "401, 20003"),
    coded("*0026", B::Answer, "10001", "403, 10001: the account is not active"),
    coded("*0027", B::Answer, "30002", "403, 30002: the account is suspended"),
    coded("*0028", B::Fails, "30001", "accepted, then failed with 30001: queue overflow"),
];

/// A refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: u32,
    /// As the ledger calls it.
    pub(super) verdict: &'static str,
}

impl Refusal {
    /// By code; one that nobody has seen before is Twilio's to invent.
    pub(super) fn of(code: &str) -> Self {
        let verdict = CODES.iter().find(|(known, _)| *known == code).map_or("unheard", |(known, _)| *known);
        Self { code: code.parse().unwrap_or(29_999), verdict }
    }

    /// The HTTP status that goes with a code.
    pub(super) fn status(self) -> u16 {
        match self.code {
            20003 => 401,
            10001 | 30002 => 403,
            20404 => 404,
            20429 => 429,
            20500 => 500,
            20503 => 503,
            _ => 400,
        }
    }

    /// The answer, in one of the two shapes that Twilio's clients know.
    pub(super) fn answer(self, shape: Shape) -> Response {
        let (code, status) = (self.code, self.status());
        let more_info = format!("https://www.twilio.com/docs/errors/{code}");
        let words = words(code);
        let mut response = match shape {
            Shape::Classic => {
                Json(json!({"code": code, "message": words, "more_info": more_info, "status": status}))
                    .into_response()
            }
            Shape::Rfc9457 => {
                let body = json!({"type": more_info, "title": words, "status": status, "code": code, "detail": words});
                let mut response = Json(body).into_response();
                let problem = HeaderValue::from_static("application/problem+json");
                response.headers_mut().insert(CONTENT_TYPE, problem);
                response
            }
        };
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
        if code == 20429 {
            // More than the hundred at a time that are said to be allowed.
            response.headers_mut().insert("twilio-concurrent-requests", HeaderValue::from_static("101"));
        }
        response
    }
}

/// What Twilio says to a code.
pub(super) fn words(code: u32) -> &'static str {
    let code = code.to_string();
    CODES
        .iter()
        .find(|(known, _)| *known == code)
        .map_or("An error nobody has seen before", |(_, words)| *words)
}

/// The two shapes of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Shape {
    /// `code`, `message`, `more_info`, `status`.
    Classic,
    /// `type`, `title`, `status`, `code`, `detail`.
    Rfc9457,
}

/// Answers that no client can read, one kind after the other.
pub(super) fn garbage(turn: u32) -> (u16, Response) {
    let (status, kind, body) = match turn % 5 {
        0 => (200, "text/html", "<html><body>Welcome</body></html>"),
        1 => (201, "application/json", r#"{"sid":"SM"#),
        2 => (201, "application/json", ""),
        3 => (502, "text/html", "<html><body>502 Bad Gateway</body></html>"),
        _ => (201, "application/json", "[]"),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    (status, response)
}
