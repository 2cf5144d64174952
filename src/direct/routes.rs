//! Which path is whose.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, patch, post};

use super::tuning::MOST_BYTES;
use super::{own, poll, register, report, stream, upgrade};
use crate::app::Gateway;

/// The endpoints of phones. All take a device secret or a ticket, one a token of their backend, none a backend's key.
pub fn routes() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/v1/device", patch(own::patch))
        .route("/v1/device/ack", post(report::ack))
        .route("/v1/device/events", get(stream::open))
        .route("/v1/device/messages", get(poll::messages))
        .route("/v1/device/register", post(register::register))
        .route("/v1/device/receipts", post(report::receipts))
        .route("/v1/device/socket", get(upgrade::open))
        .route("/v1/device/ticket", post(report::ticket))
        .layer(DefaultBodyLimit::max(MOST_BYTES))
}
