//! What handlers take from a request, each refused with a problem document.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};

use super::auth::Caller;
use super::problem::{Answer, Problem};
use super::{cursor, json};
use crate::app::Gateway;

/// Longest time that a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);

/// A JSON body.
#[derive(Debug)]
pub(super) struct Body {
    /// Read.
    pub(super) value: Value,
    /// As it came: what an Idempotency-Key is bound to.
    pub(super) raw: Bytes,
}

impl FromRequest<Arc<Gateway>> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, gateway: &Arc<Gateway>) -> Answer<Self> {
        check_kind(request.headers(), "application/json")?;
        let most = gateway.settings.limits.body_bytes;
        let raw = read_body(request.into_body(), most).await?;
        let value = json::parse(&raw, gateway.settings.limits.json_depth)?;
        Ok(Self { value, raw })
    }
}

/// A whole body, bounded in size and time.
pub(super) async fn read_body(body: axum::body::Body, most: usize) -> Answer<Bytes> {
    match tokio::time::timeout(BODY_TIME, axum::body::to_bytes(body, most)).await {
        Ok(Ok(raw)) => Ok(raw),
        Ok(Err(error)) => Err(unread(&error, most)),
        Err(_) => {
            let why = "the body did not arrive within 10 seconds";
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", why))
        }
    }
}

/// Refuses a body that is not of this kind, or is encoded.
pub(super) fn check_kind(headers: &HeaderMap, wanted: &str) -> Answer<()> {
    let refused =
        |why: String| Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", why);
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?").trim());
    let encoded = text(header::CONTENT_ENCODING).is_some_and(|v| !v.eq_ignore_ascii_case("identity"));
    if encoded {
        return Err(refused("send the body without Content-Encoding".into()));
    }
    let kind = text(header::CONTENT_TYPE).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    Err(refused(format!("send JSON, with the header `Content-Type: {wanted}`")))
}

fn unread(error: &axum::Error, most: usize) -> Problem {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(inner) = cause {
        if inner.is::<http_body_util::LengthLimitError>() {
            let why = format!("the body is larger than {most} bytes; send less at once");
            return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", why);
        }
        cause = inner.source();
    }
    Problem::bad_request("malformed_body", "the body ended before it was whole")
}

/// Names in the path.
#[derive(Debug)]
pub(super) struct Names(BTreeMap<String, String>);

impl Names {
    /// A name in the path.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

impl FromRequestParts<Arc<Gateway>> for Names {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Answer<Self> {
        let params = RawPathParams::from_request_parts(parts, gateway)
            .await
            .map_err(|_| Problem::bad_request("malformed_path", "the path is no valid UTF-8"))?;
        Ok(Self(params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
    }
}

/// The part of the URL after the question mark. A name that nobody asked for is refused by [`Query::finish`].
#[derive(Debug)]
pub(super) struct Query(BTreeMap<String, String>);

impl FromRequestParts<Arc<Gateway>> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Gateway>) -> Answer<Self> {
        let mut all = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
            if value.chars().any(char::is_control) || value.contains('\u{fffd}') {
                return Err(parameter(&name, "has control characters or is no valid UTF-8"));
            }
            if all.insert(name.clone().into_owned(), value.into_owned()).is_some() {
                return Err(parameter(&name, "came more than once"));
            }
        }
        Ok(Self(all))
    }
}

impl Query {
    /// A text; where it is empty, it counts as left out.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        self.0.remove(name).filter(|value| !value.is_empty())
    }

    /// A parameter that is one of several words.
    pub(super) fn choice<T>(&mut self, name: &str, read: impl Fn(&str) -> Option<T>) -> Answer<Option<T>> {
        self.0
            .remove(name)
            .map(|text| read(&text).ok_or_else(|| parameter(name, "has a value that is not known here")))
            .transpose()
    }

    /// `true` or `false`; left out, `false`.
    pub(super) fn flag(&mut self, name: &str) -> Answer<bool> {
        let word = |text: &str| text.parse().ok();
        let flag = self.choice(name, word).map_err(|_| parameter(name, "must be true or false"))?;
        Ok(flag.unwrap_or(false))
    }

    /// A time in RFC 3339, as Unix milliseconds.
    pub(super) fn time(&mut self, name: &str) -> Answer<Option<u64>> {
        self.choice(name, |text| {
            let time: jiff::Timestamp = text.parse().ok()?;
            // Nothing is older than Unix time.
            Some(u64::try_from(time.as_millisecond()).unwrap_or(0))
        })
        .map_err(|_| parameter(name, "must be a time such as 2026-12-01T09:00:00Z"))
    }

    /// The page that is asked for. `list` names what the cursor is bound to, beside the parameters read so far.
    pub(super) fn page(mut self, gateway: &Gateway, list: String) -> Answer<Page> {
        let limit = match self.0.remove("limit") {
            None => 50,
            Some(text) => (text.parse().ok().filter(|n| (1..=Page::MAX).contains(n)))
                .ok_or_else(|| parameter("limit", "must be a whole number from 1 to 100"))?,
        };
        let place = self.text("cursor").map(|c| cursor::open(&gateway.vault, &list, &c)).transpose()?;
        self.finish()?;
        Ok(Page { list, limit, place })
    }

    /// Refuses what nobody asked for.
    pub(super) fn finish(self) -> Answer<()> {
        self.0.keys().next().map_or(Ok(()), |name| Err(parameter(name, "there is no such parameter here")))
    }
}

fn parameter(name: &str, why: &str) -> Problem {
    let name: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
    let detail = format!("the parameter `{name}`: {why}");
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameter", detail)
}

/// A page of a list.
#[derive(Debug)]
pub(super) struct Page {
    list: String,
    /// How many at the most.
    pub(super) limit: usize,
    /// Where to go on; absent at the beginning.
    pub(super) place: Option<String>,
}

impl Page {
    /// Most items of a page.
    pub(super) const MAX: usize = 100;

    /// The place as a number.
    pub(super) fn number(&self) -> Option<u64> {
        self.place.as_ref().and_then(|place| place.parse().ok())
    }

    /// Cuts what was found to one page of it, and tells where the next one begins: there is one where more was found than
    /// a page holds.
    pub(super) fn cut<T>(&self, found: &mut Vec<T>, place: impl FnOnce(&T) -> String) -> Option<String> {
        let more = found.len() > self.limit;
        found.truncate(self.limit);
        found.last().filter(|_| more).map(place)
    }

    /// The answer; `next` is where the next page begins.
    pub(super) fn answer(
        &self,
        gateway: &Gateway,
        data: &[Value],
        next: Option<String>,
    ) -> axum::Json<Value> {
        let next = next.map(|place| cursor::seal(&gateway.vault, &self.list, &place));
        axum::Json(json!({"data": data, "next_cursor": next}))
    }
}

impl FromRequestParts<Arc<Gateway>> for Caller {
    type Rejection = Problem;

    /// The guard of the route has put it there.
    async fn from_request_parts(parts: &mut Parts, _: &Arc<Gateway>) -> Answer<Self> {
        parts.extensions.get::<Self>().cloned().ok_or_else(Problem::internal)
    }
}
