//! `/v1/callbacks/{channel_id}/{secret}`: what vendors report. [`crate::receipts`] says how, and in which order.

use std::sync::Arc;

use anypush_providers::contract::CallbackRequest;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::extract::{Names, read_body};
use super::problem::{Answer, Problem};
use crate::app::Gateway;
use crate::clock::at_unix_ms;
use crate::receipts::{MOST_BYTES, Refusal};

/// `POST` and `GET /v1/callbacks/{channel_id}/{secret}`
pub(super) async fn take(
    State(gateway): State<Arc<Gateway>>,
    names: Names,
    request: Request,
) -> Answer<Response> {
    let channel = gateway.receipts.channel(names.get("channel_id"), names.get("secret"));
    // Unknown, another app's, deleted, a wrong secret: they all look the same.
    let channel = channel.ok_or_else(nothing_here)?;
    let _place = gateway.receipts.enter(&channel).map_err(refused)?;
    let (parts, body) = request.into_parts();
    let body = read_body(body, MOST_BYTES).await?;
    let callback = CallbackRequest {
        method: parts.method,
        url: format!("{}{}", gateway.url(), parts.uri),
        headers: parts.headers,
        body,
        received_at: at_unix_ms(gateway.clock.now_ms()),
    };
    let reply = gateway.receipts.take(&channel, callback).await.map_err(refused)?;
    let json = matches!(reply.body.first(), Some(b'{' | b'['));
    let kind = if json { "application/json" } else { "text/plain; charset=utf-8" };
    let mut response = (reply.status, reply.body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

fn nothing_here() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "not_found",
        "there is nothing here; the channel shows its `callback_url`",
    )
}

fn refused(refusal: Refusal) -> Problem {
    let later = |code: &'static str, why: &'static str| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, why).retry_after(5)
    };
    match refusal {
        Refusal::NoCallbacks => nothing_here(),
        Refusal::Unusable => later("not_ready", "the channel cannot be used now; nothing was stored"),
        Refusal::Crowded => later("busy", "too many callbacks are under way; nothing was stored"),
        Refusal::TooFast => later("busy", "callbacks of this channel come too fast; nothing was stored"),
        Refusal::Store(error) => error.into(),
    }
}
