//! A sample of every vendor: what a gateway needs to have a channel here, and phones worth looking at.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, Uri};
use serde_json::{Value, json};

use crate::control::{Control, failed};
use crate::twin::Place;

/// `GET /_sandbox/samples`
pub(crate) async fn samples(State(control): State<Control>, headers: HeaderMap, uri: Uri) -> Response {
    let place = Place::of(&headers, &uri, control.sandbox.ca_pem.clone());
    // Making a key may take a tenth of a second: not on a thread that serves others.
    let made = tokio::task::spawn_blocking(move || {
        control.twins.iter().map(|(_, twin)| twin.sample(&place)).collect::<anyhow::Result<Vec<Value>>>()
    });
    match made.await.map_err(anyhow::Error::from).and_then(|made| made) {
        Ok(samples) => Json(json!({"samples": samples})).into_response(),
        Err(error) => failed(&error),
    }
}
