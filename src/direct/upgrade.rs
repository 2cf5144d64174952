//! `GET /v1/device/socket`: from a request to a WebSocket.

use std::sync::Arc;

use axum::extract::ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection};
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};

use super::auth::Caller;
use super::tuning::MOST_BYTES;
use super::{origin, socket};
use crate::api::problem::{Answer, Problem};
use crate::app::Gateway;

/// The one dialect; echoed only if it was offered.
const PROTOCOL: &str = "anypush.v1";

/// A request that may become a socket. Taken before [`Caller`], so that a page of a foreign origin learns nothing and
/// uses up no ticket.
pub(super) struct Upgrade(WebSocketUpgrade);

impl FromRequestParts<Arc<Gateway>> for Upgrade {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Answer<Self> {
        origin::admit(parts, gateway)?;
        WebSocketUpgrade::from_request_parts(parts, gateway).await.map(Self).map_err(|error| refused(&error))
    }
}

/// Turns the request into a socket.
pub(super) async fn open(
    State(gateway): State<Arc<Gateway>>,
    Upgrade(upgrade): Upgrade,
    Caller(phone): Caller,
) -> Response {
    upgrade
        .protocols([PROTOCOL])
        // The library's defaults keep 128 KiB for each connection, however idle.
        .read_buffer_size(1024)
        .write_buffer_size(0)
        .max_write_buffer_size(64 << 10)
        .max_message_size(MOST_BYTES)
        .max_frame_size(MOST_BYTES)
        .on_upgrade(move |socket| socket::serve(socket, gateway, phone))
        .into_response()
}

fn refused(error: &WebSocketUpgradeRejection) -> Problem {
    Problem::new(
        StatusCode::UPGRADE_REQUIRED,
        "upgrade_required",
        format!("this is a WebSocket endpoint: {}", error.body_text()),
    )
}
