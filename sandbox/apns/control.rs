//! What can be asked of the twin under `/_sandbox/apns`.

use std::sync::{Arc, PoisonError};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::reasons::words;
use super::teams::{is_bundle, is_team_id};
use super::{APNS, Apns};
use crate::connection::FirstStreams;
use crate::control::{failed, problem};

pub(super) const HELP: &[(&str, &str, &str)] = &[
    (
        "GET",
        "/_sandbox/apns/{team}/key?bundle=",
        "a key that works here; with a bundle, the team may send to no others",
    ),
    ("GET", "/_sandbox/apns/{team}/certificate?bundle=", "a push certificate for one bundle"),
    ("POST", "/_sandbox/apns/{team}/revoke", "its keys and certificates are bad from now on"),
    ("GET", "/_sandbox/apns/settings", "PUT {first_streams: tls|always|never, token_update_seconds}"),
    ("POST", "/_sandbox/apns/goaway", "{reason}: ends all connections with GOAWAY and this reason"),
];

/// What is Apple's business and no other vendor's.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    /// Which connections begin with one stream.
    pub(super) first_streams: FirstStreams,
    /// How long a connection must keep a provider token.
    pub(super) token_update_seconds: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { first_streams: FirstStreams::Tls, token_update_seconds: 20 * 60 }
    }
}

#[derive(Deserialize)]
pub(super) struct Wanted {
    bundle: Option<String>,
}

impl Wanted {
    fn problem(&self, team: &str) -> Option<Response> {
        if !is_team_id(team) {
            let text = "a team id has ten upper-case letters and digits";
            return Some(problem(StatusCode::BAD_REQUEST, text));
        }
        if self.bundle.as_deref().is_some_and(|bundle| !is_bundle(bundle)) {
            return Some(problem(StatusCode::BAD_REQUEST, "this is no bundle id"));
        }
        None
    }
}

pub(super) async fn key(
    State(apns): State<Arc<Apns>>,
    Path(team): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Response {
    if let Some(refusal) = wanted.problem(&team) {
        return refusal;
    }
    match apns.teams.key(&team, wanted.bundle.as_deref()) {
        Ok(key) => Json(key).into_response(),
        Err(error) => failed(&error),
    }
}

pub(super) async fn certificate(
    State(apns): State<Arc<Apns>>,
    Path(team): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Response {
    if let Some(refusal) = wanted.problem(&team) {
        return refusal;
    }
    let Some(bundle) = wanted.bundle else {
        return problem(StatusCode::BAD_REQUEST, "a certificate is for one bundle: ?bundle=com.example.app");
    };
    match apns.teams.certificate(&apns.sandbox.authority, &team, &bundle) {
        Ok(certificate) => Json(certificate).into_response(),
        Err(error) => failed(&error),
    }
}

pub(super) async fn revoke(State(apns): State<Arc<Apns>>, Path(team): Path<String>) -> Response {
    match apns.teams.revoke(&team) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => failed(&error),
    }
}

pub(super) async fn settings(State(apns): State<Arc<Apns>>) -> Json<Settings> {
    Json(apns.settings())
}

/// What is not said returns to its default.
pub(super) async fn put_settings(State(apns): State<Arc<Apns>>, body: Bytes) -> Response {
    let settings: Settings = match serde_json::from_slice(&body) {
        Ok(settings) => settings,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("reading the settings: {error}")),
    };
    apns.sandbox.first_streams.set(settings.first_streams);
    *apns.settings.lock().unwrap_or_else(PoisonError::into_inner) = settings;
    StatusCode::NO_CONTENT.into_response()
}

#[derive(Deserialize)]
struct Goaway {
    reason: String,
}

pub(super) async fn goaway(State(apns): State<Arc<Apns>>, body: Bytes) -> Response {
    let Goaway { reason } = match serde_json::from_slice(&body) {
        Ok(goaway) => goaway,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("reading the reason: {error}")),
    };
    let all = std::mem::take(&mut *apns.connections.lock().unwrap_or_else(PoisonError::into_inner));
    for connection in all.iter().filter_map(std::sync::Weak::upgrade) {
        tracing::debug!(provider = APNS, reason, "ending a connection");
        connection.frames.say(&words(&reason));
        connection.close();
    }
    StatusCode::NO_CONTENT.into_response()
}
