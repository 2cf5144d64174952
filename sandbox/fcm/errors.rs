//! FCM's error answers: `google.rpc.Status` with an `FcmError` detail, or without one.
//!
//! Which rows carry an `FcmError` matters more than their texts: only that detail may blame a token. Statuses and codes:
//! FCM v1 discovery rev 20261023 and the ErrorCode reference; texts that no vendor document fixes are marked.

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use serde_json::{Value, json};

/// An answer of the twin together with its name in the ledger.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    /// Its name in the ledger.
    pub(super) verdict: &'static str,
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) body: String,
    pub(super) retry_after_seconds: Option<u64>,
}

/// Google's content type for JSON answers.
pub(super) const JSON: &str = "application/json; charset=UTF-8";

impl Answer {
    pub(super) fn json(verdict: &'static str, status: u16, body: &Value) -> Self {
        Self { verdict, status, content_type: JSON, body: body.to_string(), retry_after_seconds: None }
    }

    fn text(verdict: &'static str, status: u16, content_type: &'static str, body: &str) -> Self {
        Self { verdict, status, content_type, body: body.to_owned(), retry_after_seconds: None }
    }

    pub(super) fn retry_after(mut self, seconds: Option<u64>) -> Self {
        self.retry_after_seconds = seconds;
        self
    }

    pub(super) fn into_response(self) -> Response {
        let mut response = Response::builder().status(self.status);
        if !self.content_type.is_empty() {
            response = response.header(CONTENT_TYPE, self.content_type);
        }
        if let Some(seconds) = self.retry_after_seconds {
            response = response.header(RETRY_AFTER, seconds);
        }
        response.body(Body::from(self.body)).expect("status and headers are this module's constants")
    }
}

fn status(code: u16, status: &str, message: &str, details: Vec<Value>) -> Value {
    let mut error = json!({"code": code, "message": message, "status": status});
    if !details.is_empty() {
        error["details"] = Value::Array(details);
    }
    json!({"error": error})
}

fn fcm_error(code: &str) -> Value {
    json!({"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code})
}

fn bad_request(violations: &[(String, String)]) -> Value {
    let violations: Vec<_> = violations
        .iter()
        .map(|(field, description)| {
            if field.is_empty() {
                json!({"description": description})
            } else {
                json!({"field": field, "description": description})
            }
        })
        .collect();
    json!({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations})
}

/// The request cannot be read: unknown fields, wrong types. A `BadRequest` detail only.
pub(super) fn unreadable(violations: &[(String, String)]) -> Answer {
    let message: Vec<_> = violations.iter().map(|(_, description)| description.as_str()).collect();
    let body = status(400, "INVALID_ARGUMENT", &message.join("\n"), vec![bad_request(violations)]);
    Answer::json("invalid_argument", 400, &body)
}

/// The body is no JSON.
pub(super) fn not_json(detail: &str) -> Answer {
    let text = format!("Invalid JSON payload received. {detail}");
    unreadable(&[(String::new(), text)])
}

/// The request can be read but a value is not allowed. `FcmError` and `BadRequest` details.
pub(super) fn invalid(verdict: &'static str, field: &str, description: &str) -> Answer {
    let violations = [(field.to_owned(), description.to_owned())];
    let details = vec![fcm_error("INVALID_ARGUMENT"), bad_request(&violations)];
    Answer::json(verdict, 400, &status(400, "INVALID_ARGUMENT", description, details))
}

pub(super) fn malformed_token() -> Answer {
    let text = "The registration token is not a valid FCM registration token";
    invalid("malformed_token", "message.token", text)
}

/// No details at all, and a message that says nothing (observed by third parties).
pub(super) fn too_big() -> Answer {
    let body = status(400, "INVALID_ARGUMENT", "Request contains an invalid argument.", Vec::new());
    Answer::json("too_big", 400, &body)
}

pub(super) fn unregistered() -> Answer {
    let body = status(404, "NOT_FOUND", "Requested entity was not found.", vec![fcm_error("UNREGISTERED")]);
    Answer::json("unregistered", 404, &body)
}

/// A project that does not exist: the same status as a dead token, without the detail that blames one.
pub(super) fn not_found() -> Answer {
    Answer::json("not_found", 404, &status(404, "NOT_FOUND", "Requested entity was not found.", Vec::new()))
}

pub(super) fn sender_id_mismatch() -> Answer {
    let body = status(403, "PERMISSION_DENIED", "SenderId mismatch", vec![fcm_error("SENDER_ID_MISMATCH")]);
    Answer::json("sender_id_mismatch", 403, &body)
}

/// The text is not documented.
pub(super) fn forbidden(project: &str) -> Answer {
    let text = format!(
        "Permission 'cloudmessaging.messages.create' denied on resource '//cloudresourcemanager.googleapis.com/projects/{project}' (or it may not exist)."
    );
    Answer::json("permission_denied", 403, &status(403, "PERMISSION_DENIED", &text, Vec::new()))
}

/// The text is not documented for FCM; other Google APIs answer so.
pub(super) fn unauthenticated() -> Answer {
    let text = "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.";
    Answer::json("unauthenticated", 401, &status(401, "UNAUTHENTICATED", text, Vec::new()))
}

pub(super) fn third_party_auth(code: &str) -> Answer {
    let text = "Auth error from APNS or Web Push Service";
    Answer::json("third_party_auth", 401, &status(401, "UNAUTHENTICATED", text, vec![fcm_error(code)]))
}

pub(super) fn quota_exceeded(verdict: &'static str, subject: &str, description: &str) -> Answer {
    let failure = json!({
        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [{"subject": subject, "description": description}]
    });
    let details = vec![fcm_error("QUOTA_EXCEEDED"), failure];
    Answer::json(verdict, 429, &status(429, "RESOURCE_EXHAUSTED", description, details))
}

pub(super) fn unavailable() -> Answer {
    let text = "The service is currently unavailable.";
    Answer::json("unavailable", 503, &status(503, "UNAVAILABLE", text, vec![fcm_error("UNAVAILABLE")]))
}

pub(super) fn internal() -> Answer {
    let text = "Internal error encountered.";
    Answer::json("internal", 500, &status(500, "INTERNAL", text, vec![fcm_error("INTERNAL")]))
}

pub(super) fn bad_gateway() -> Answer {
    Answer::text("bad_gateway", 502, "text/html; charset=UTF-8", &page(502, "Server Error"))
}

pub(super) fn gateway_timeout() -> Answer {
    Answer::text("gateway_timeout", 504, "text/html; charset=UTF-8", &page(504, "Gateway Timeout"))
}

pub(super) fn deadline() -> Answer {
    let text = "Deadline expired before operation could complete.";
    Answer::json("deadline", 504, &status(504, "DEADLINE_EXCEEDED", text, Vec::new()))
}

pub(super) fn cancelled() -> Answer {
    let text = "The operation was cancelled.";
    Answer::json("cancelled", 499, &status(499, "CANCELLED", text, Vec::new()))
}

pub(super) fn unspecified() -> Answer {
    let body = status(500, "UNKNOWN", "Unknown error.", vec![fcm_error("UNSPECIFIED_ERROR")]);
    Answer::json("unspecified", 500, &body)
}

/// A code that no table knows yet.
pub(super) fn unheard() -> Answer {
    let body = status(400, "FAILED_PRECONDITION", "Something new.", vec![fcm_error("NEVER_HEARD_OF")]);
    Answer::json("unheard", 400, &body)
}

/// The five kinds of answers that cannot be read, in turn.
pub(super) fn garbage(turn: u32, name: &str) -> Answer {
    let whole = json!({"name": name}).to_string();
    let verdict = "garbage";
    match turn % 5 {
        0 => Answer::text(verdict, 200, "text/html; charset=UTF-8", &page(200, "Welcome to the free Wi-Fi")),
        1 => Answer::text(verdict, 200, JSON, &whole[..whole.len() / 2]),
        2 => Answer::text(verdict, 200, JSON, ""),
        3 => Answer::text(verdict, 200, "application/octet-stream", "\u{0}\u{1}name"),
        _ => Answer::text(verdict, 200, JSON, r#"["name", 12, {"name": {"projects": null}}]"#),
    }
}

fn page(code: u16, title: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=en>\n<title>Error {code} ({title})</title>\n<p><b>{code}.</b> {title}</p>\n</html>\n"
    )
}
