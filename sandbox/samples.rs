//! A sample of every vendor: what a gateway needs to have a channel here, and phones worth looking at; and as many
//! tokens as a test wants.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::control::{Control, failed, problem};
use crate::twin::Place;

/// `GET /_sandbox/samples`
pub(crate) async fn samples(State(control): State<Control>, headers: HeaderMap, uri: Uri) -> Response {
    let place = Place::of(&headers, &uri);
    // Making a key may take a tenth of a second: not on a thread that serves others.
    let made = tokio::task::spawn_blocking(move || {
        control.twins.iter().map(|(_, twin)| twin.sample(&place)).collect::<anyhow::Result<Vec<Value>>>()
    });
    match made.await.map_err(anyhow::Error::from).and_then(|made| made) {
        Ok(samples) => Json(json!({"samples": samples})).into_response(),
        Err(error) => failed(&error),
    }
}

/// Tokens of one answer.
const MAX_TOKENS: usize = 1_000_000;

#[derive(Deserialize)]
pub(crate) struct TokensQuery {
    #[serde(default)]
    from: usize,
    #[serde(default = "one")]
    count: usize,
}

fn one() -> usize {
    1
}

/// `GET /_sandbox/tokens/{provider}?from=&count=`: tokens that the vendor takes, each time the same.
pub(crate) async fn tokens(
    State(control): State<Control>,
    Path(provider): Path<String>,
    Query(TokensQuery { from, count }): Query<TokensQuery>,
) -> Response {
    match control.twins.iter().find(|(registration, _)| registration.id == provider) {
        Some((_, twin)) => {
            let last = from.saturating_add(count.min(MAX_TOKENS));
            let tokens: Vec<String> = (from..last).map(|number| twin.token(number)).collect();
            Json(json!({"tokens": tokens})).into_response()
        }
        None => problem(StatusCode::NOT_FOUND, &format!("{provider} is not played here")),
    }
}
