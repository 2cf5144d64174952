//! `/v1/apps/{app}/keys`: the keys of an app. A key is shown once, when it is made.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::auth::{Caller, NewKey, SCOPES};
use super::extract::{Body, Names, Query};
use super::fields::{Fields, Mistakes, Text};
use super::problem::{Answer, Problem};
use crate::app::Gateway;
use crate::clock::rfc3339;
use crate::store::KeyRecord;

/// A key as the API and the command line show it: without its secret.
pub fn view(key: &KeyRecord) -> Value {
    json!({
        "id": key.id,
        "name": key.name,
        "admin": key.app.is_none(),
        "scopes": key.scopes,
        "created_at": rfc3339(key.created_at),
        "expires_at": key.expires_at.map(rfc3339),
        "revoked_at": key.revoked_at.map(rfc3339),
    })
}

/// `GET /v1/apps/{app}/keys`
pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    query: Query,
) -> Answer<Json<Value>> {
    let app = caller.app_seq()?;
    let page = query.page(&gateway, format!("keys {app}"))?;
    let mut keys = gateway.store.keys(Some(app)).await?;
    keys.sort_by(|a, b| a.id.cmp(&b.id));
    if let Some(after) = &page.place {
        keys.retain(|key| key.id > *after);
    }
    let next = page.cut(&mut keys, |key| key.id.clone());
    Ok(page.answer(&gateway, &keys.iter().map(view).collect::<Vec<_>>(), next))
}

/// `POST /v1/apps/{app}/keys`
pub(super) async fn create(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    body: Body,
) -> Answer<(StatusCode, Json<Value>)> {
    let new = read(body.value, caller.app_seq()?, gateway.clock.now_ms())?;
    let (record, key) = gateway.auth.create_key(new).await?;
    let mut answer = view(&record);
    answer["key"] = key.into();
    Ok((StatusCode::CREATED, Json(answer)))
}

fn read(body: Value, app: i64, now_ms: u64) -> Answer<NewKey> {
    let wrong = Mistakes::default();
    let mut fields = Fields::of(body, "", &wrong);
    let name = fields.needed("name", Text::line(128));
    if !fields.has("scopes") {
        fields.refuse("scopes", "is required: list what the key may do");
    }
    let mut scopes = fields.texts("scopes", SCOPES.len(), Text::line(32)).unwrap_or_default();
    for (i, scope) in scopes.iter().enumerate() {
        if !SCOPES.contains(&scope.as_str()) {
            let why = format!("there is no such scope; there are {}", SCOPES.join(", "));
            wrong.add(format!("/scopes/{i}"), why);
        }
    }
    scopes.sort();
    scopes.dedup();
    let expires_in = fields.number("expires_in_seconds", 60..=315_360_000);
    fields.finish();
    let expires_at = expires_in.map(|seconds| now_ms + seconds * 1000);
    wrong.finish().map(|()| NewKey { app: Some(app), name, scopes, expires_at })
}

/// `DELETE /v1/apps/{app}/keys/{id}`
pub(super) async fn revoke(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
) -> Answer<StatusCode> {
    if gateway.auth.revoke_key(Some(caller.app_seq()?), names.get("id")).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found("key"))
    }
}
