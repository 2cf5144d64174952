//! A sample of every vendor: what a gateway needs to have a channel here, and phones worth looking at.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, Uri};
use serde_json::json;

use crate::state::Sandbox;

/// `GET /_sandbox/samples`
pub(crate) async fn samples(State(sandbox): State<Arc<Sandbox>>, headers: HeaderMap, uri: Uri) -> Response {
    let base_url = format!("http://{}", crate::fcm::authority(&headers, &uri));
    // Making a key takes a tenth of a second: not on a thread that serves others.
    let made = tokio::task::spawn_blocking(move || crate::fcm::sample(&sandbox, &base_url)).await;
    match made.map_err(anyhow::Error::from).and_then(|made| made) {
        Ok(sample) => Json(json!({"samples": [sample]})).into_response(),
        Err(error) => crate::control::failed(&error),
    }
}
