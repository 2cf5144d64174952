//! `/v1/apps`: tenants.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::auth::Caller;
use super::extract::{Body, Query};
use super::fields::{Fields, Mistakes, Text};
use super::problem::Answer;
use crate::app::Gateway;
use crate::clock::rfc3339;
use crate::store::AppRecord;

/// Names of apps and channels: they stand in paths.
pub(super) fn is_name(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    let begins = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    begins && text.len() <= 64 && text.bytes().all(inner)
}

/// How to mend a wrong name.
pub(super) const NAME_FORM: &str =
    "must be 1 to 64 of a-z, 0-9, hyphen and underscore, and begin with a letter or digit";

fn view(app: &AppRecord) -> Value {
    json!({"id": app.public_id, "name": app.name, "created_at": rfc3339(app.created_at)})
}

/// `GET /v1/apps`
pub(super) async fn list(State(gateway): State<Arc<Gateway>>, query: Query) -> Answer<Json<Value>> {
    let page = query.page(&gateway, "apps".into())?;
    let after = page.number().unwrap_or(0) as i64;
    let mut apps = gateway.store.apps().await?;
    apps.retain(|app| app.seq > after);
    let next = page.cut(&mut apps, |app| app.seq.to_string());
    Ok(page.answer(&gateway, &apps.iter().map(view).collect::<Vec<_>>(), next))
}

/// `POST /v1/apps`
pub(super) async fn create(
    State(gateway): State<Arc<Gateway>>,
    body: Body,
) -> Answer<(StatusCode, Json<Value>)> {
    let name = read(body.value)?;
    let now = gateway.clock.now_ms();
    let ids = (gateway.ids.next(now), gateway.ids.next(now));
    let app = gateway.auth.create_app(&name, &gateway.codec, ids).await?;
    gateway.channels.reload().await?;
    Ok((StatusCode::CREATED, Json(view(&app))))
}

fn read(body: Value) -> Answer<String> {
    let wrong = Mistakes::default();
    let mut fields = Fields::of(body, "", &wrong);
    let name = fields.needed("name", Text::line(64));
    // A name that looks like an id would hide the app with that id.
    if !name.is_empty() && (!is_name(&name) || name.starts_with("app_")) {
        fields.refuse("name", format!("{NAME_FORM}; it must not begin with `app_`"));
    }
    fields.finish();
    wrong.finish().map(|()| name)
}

/// `GET /v1/apps/{app}`
pub(super) async fn get(caller: Caller) -> Answer<Json<Value>> {
    Ok(Json(view(caller.app()?)))
}
