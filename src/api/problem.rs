//! Errors as users see them: RFC 9457 problem documents with a stable code. All are made here.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::store::StoreError;

/// An error answer. A 5xx never shows inner text.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    /// Stable, listed in `openapi.yaml`.
    pub code: &'static str,
    /// HTTP status.
    #[serde(serialize_with = "as_number")]
    pub status: StatusCode,
    /// What is wrong, in a few words; the same for every occurrence of the code.
    pub title: String,
    /// What is wrong here, and how to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// JSON pointer of the offending field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// All mistakes, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Seconds after which to try again; also as the header Retry-After.
    #[serde(skip)]
    pub retry_after: Option<u64>,
}

/// One mistake of several.
#[derive(Debug, Clone, Serialize)]
pub struct FieldError {
    /// JSON pointer.
    pub pointer: String,
    /// What kind of mistake: `unknown_field`, `invalid_field`, …
    pub code: &'static str,
    /// What is wrong, and how to mend it.
    pub detail: String,
}

/// The result of a handler.
pub type Answer<T> = Result<T, Problem>;

impl Problem {
    /// A problem with a code and a sentence that says how to mend it.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let title = code.replace('_', " ");
        let detail = Some(detail.into());
        Self { code, status, title, detail, pointer: None, errors: Vec::new(), retry_after: None }
    }

    /// The same, about one field.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }

    /// 422 with all mistakes; the first one gives the code and the pointer.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let Some(first) = errors.first().cloned() else { return Self::internal() };
        let mut problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, first.code, first.detail);
        problem.pointer = Some(first.pointer);
        problem.errors = errors;
        problem
    }

    /// 403: the key is good, but not for this.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// 400: the request itself is malformed.
    pub fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// The same, with a time to wait.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// 404: absent, or of another app — the two look the same.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("there is no such {what} in this app"))
    }

    /// 500, with nothing of what went wrong inside.
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "something went wrong inside; the log has it under this Request-Id",
        )
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        match error {
            StoreError::Full => {
                Self::new(unavailable, "storage_full", "the gateway's disk is full; nothing was stored")
                    .retry_after(30)
            }
            StoreError::Busy(_) => {
                Self::new(unavailable, "busy", "the gateway's database is busy; nothing was stored")
                    .retry_after(2)
            }
            StoreError::Exists(what) => {
                Self::new(StatusCode::CONFLICT, "already_exists", format!("{what} exists already"))
            }
            StoreError::Broken(cause) => {
                tracing::error!("the database failed: {cause}");
                Self::internal()
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, retry_after) = (self.status, self.retry_after);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}
