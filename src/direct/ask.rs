//! What phones' requests have in common: parameters, bodies and answers.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, Query, Request};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use super::auth::Phone;
use super::cursor;
use super::tuning::MOST_BYTES;
use crate::api::json;
use crate::api::problem::{Answer, Problem};

/// The parameters of a URL.
pub(super) fn parameters<T: DeserializeOwned>(uri: &Uri) -> Answer<T> {
    let asked =
        Query::<T>::try_from_uri(uri).map_err(|error| refused("invalid_parameter", error.body_text()))?;
    Ok(asked.0)
}

/// Longest time that a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);

/// How deep their JSON may be nested.
const DEPTH: usize = 8;

/// A body, whole and not too large.
pub(super) struct Body(pub(super) Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Answer<Self> {
        match tokio::time::timeout(BODY_TIME, Bytes::from_request(request, state)).await {
            Ok(Ok(bytes)) => Ok(Self(bytes)),
            Ok(Err(error)) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                let why = format!("the body is larger than {MOST_BYTES} bytes");
                Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", why))
            }
            Ok(Err(_)) => Err(refused("malformed_body", "the body ended before it was whole")),
            Err(_) => {
                let why = "the body did not arrive within 10 seconds";
                Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", why))
            }
        }
    }
}

/// Reads a JSON body.
pub(super) fn body<T: DeserializeOwned>(bytes: &[u8]) -> Answer<T> {
    let value = json::parse(bytes, DEPTH)?;
    serde_json::from_value(value).map_err(|error| {
        let text = error.to_string();
        let code = if text.starts_with("unknown field") { "unknown_field" } else { "invalid_field" };
        refused(code, text)
    })
}

/// For members that may be left out: `null` is not the same, and is refused.
pub(super) fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// A cursor that a phone sends; `None` where it is of an older epoch.
pub(super) fn cursor(phone: &Phone, text: &str) -> Answer<Option<i64>> {
    cursor::decode(phone.device, phone.epoch, text).map_err(|error| {
        refused("invalid_cursor", format!("{error}; leave it out to get everything that is pending"))
    })
}

/// An answer that nobody keeps.
pub(super) fn fresh(value: impl Serialize) -> Response {
    ([(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(value)).into_response()
}

pub(super) fn refused(code: &'static str, detail: impl Into<String>) -> Problem {
    let status = match code {
        "invalid_field" | "unknown_field" | "invalid_parameter" => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::BAD_REQUEST,
    };
    Problem::new(status, code, detail)
}
