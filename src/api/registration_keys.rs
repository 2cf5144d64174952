//! `/v1/apps/{app}/registration_keys`: keys that the app's backend signs tokens with, by which phones register
//! themselves.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::auth::Caller;
use super::extract::{Body, Names, Query};
use super::fields::{Fields, Mistakes, Text};
use super::problem::{Answer, Problem};
use crate::app::Gateway;
use crate::clock::rfc3339;
use crate::direct::registration::{Algorithm, is_public_key, new_id, new_secret, seal};
use crate::store::RegistrationKeyRecord;

/// Keys of an app that are good: enough to change them, few enough to know them.
const MOST: usize = 10;

fn view(key: &RegistrationKeyRecord) -> Value {
    let algorithm = Algorithm::from_code(key.algorithm);
    let public = algorithm.filter(|algorithm| *algorithm == Algorithm::EdDsa);
    json!({
        "id": key.id,
        "name": key.name,
        "algorithm": algorithm.map(Algorithm::as_str),
        "public_key": public.map(|_| String::from_utf8_lossy(&key.key)),
        "created_at": rfc3339(key.created_at),
        "revoked_at": key.revoked_at.map(rfc3339),
    })
}

/// `GET /v1/apps/{app}/registration_keys`
pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    query: Query,
) -> Answer<Json<Value>> {
    let app = caller.app_seq()?;
    let page = query.page(&gateway, format!("registration keys {app}"))?;
    let mut keys = gateway.store.registration_keys(app).await?;
    keys.retain(|key| page.place.as_ref().is_none_or(|after| key.id > *after));
    let next = page.cut(&mut keys, |key| key.id.clone());
    Ok(page.answer(&gateway, &keys.iter().map(view).collect::<Vec<_>>(), next))
}

/// `POST /v1/apps/{app}/registration_keys`
pub(super) async fn create(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    body: Body,
) -> Answer<(StatusCode, Json<Value>)> {
    let app = caller.app_seq()?;
    let (name, algorithm, public) = read(body.value)?;
    let good = gateway.store.registration_keys(app).await?.iter().filter(|k| k.revoked_at.is_none()).count();
    if good >= MOST {
        let why =
            format!("an app has at most {MOST} registration keys; revoke one that is not used any more");
        return Err(Problem::new(StatusCode::CONFLICT, "too_many_keys", why));
    }
    let id = new_id();
    let secret = (algorithm == Algorithm::Hs256).then(new_secret);
    let key = match (&secret, public) {
        (Some(secret), _) => seal(&gateway.vault, &id, secret),
        (None, Some(pem)) => pem.into_bytes(),
        (None, None) => return Err(Problem::internal()),
    };
    let record = RegistrationKeyRecord {
        id,
        app,
        name,
        algorithm: algorithm as u8,
        key,
        created_at: gateway.clock.now_ms(),
        revoked_at: None,
    };
    gateway.store.put_registration_key(record.clone()).await?;
    let mut shown = view(&record);
    if let Some(secret) = secret {
        shown["secret"] = secret.into();
    }
    Ok((StatusCode::CREATED, Json(shown)))
}

fn read(body: Value) -> Answer<(String, Algorithm, Option<String>)> {
    let wrong = Mistakes::default();
    let mut fields = Fields::of(body, "", &wrong);
    let name = fields.needed("name", Text::line(128));
    if !fields.has("algorithm") {
        fields.refuse("algorithm", "is required: `EdDSA` or `HS256`");
    }
    let algorithm = fields.choice("algorithm", &[("EdDSA", Algorithm::EdDsa), ("HS256", Algorithm::Hs256)]);
    let public = fields.text("public_key", Text::prose(2048));
    match (algorithm, &public) {
        (Some(Algorithm::EdDsa), None) => {
            fields.refuse("public_key", "is required: an Ed25519 public key in PEM form");
        }
        (Some(Algorithm::EdDsa), Some(pem)) if !is_public_key(pem) => {
            let how = "must be an Ed25519 public key in PEM form (`openssl pkey -in key.pem -pubout`)";
            fields.refuse("public_key", how);
        }
        (Some(Algorithm::Hs256), Some(_)) => {
            fields.refuse("public_key", "has no meaning with `HS256`: the gateway makes the secret");
        }
        _ => {}
    }
    fields.finish();
    wrong.finish()?;
    Ok((name, algorithm.ok_or_else(Problem::internal)?, public))
}

/// `DELETE /v1/apps/{app}/registration_keys/{id}`
pub(super) async fn revoke(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
) -> Answer<StatusCode> {
    let (app, now) = (caller.app_seq()?, gateway.clock.now_ms());
    let found = gateway.store.revoke_registration_key(app, names.get("id"), now).await?;
    if found { Ok(StatusCode::NO_CONTENT) } else { Err(Problem::not_found("registration key")) }
}
