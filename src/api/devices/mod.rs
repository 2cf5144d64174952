//! `/v1/devices`: installations of the app, named by the caller's own ids.

mod import;
mod read;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

pub(super) use self::import::import;
use super::address;
use super::auth::Caller;
use super::deliveries;
use super::extract::{Body, Names, Query};
use super::fields::Text;
use super::problem::{Answer, FieldError, Problem};
use crate::app::Gateway;
use crate::clock::rfc3339;
use crate::direct::{self, secret};
use crate::ids::Id;
use crate::store::{DeviceFilter, DeviceRecord};

/// Ids of devices and users are the caller's.
pub(super) const ID: Text = Text::line(128);

pub(super) fn view(gateway: &Gateway, device: &DeviceRecord) -> Value {
    let addresses: Vec<_> = device.addresses.iter().map(address::view).collect();
    let mut shown = json!({
        "id": device.id,
        "user_id": device.user_id,
        "platform": device.platform,
        "notifications_enabled": device.enabled,
        "tags": device.tags,
        "addresses": addresses,
        "direct": device.username.as_ref().map(|name| direct::access(gateway, name)),
        "connected": gateway.hub.is_connected(device.seq),
        "created_at": rfc3339(device.created_at),
        "updated_at": rfc3339(device.updated_at),
    });
    for (name, value) in &device.profile {
        shown[name] = value.clone();
    }
    shown
}

fn absent() -> Problem {
    Problem::not_found("device")
}

/// The id in the path, in the form that ids have.
fn id(names: &Names) -> Answer<&str> {
    let id = names.get("id");
    match ID.wrong(id) {
        None => Ok(id),
        Some(why) => Err(Problem::invalid(vec![FieldError {
            pointer: String::new(),
            code: "invalid_field",
            detail: format!("the device id in the path {why}"),
        }])),
    }
}

async fn find(gateway: &Gateway, app: i64, id: &str) -> Answer<DeviceRecord> {
    let filter = DeviceFilter { id: Some(id.to_owned()), ..DeviceFilter::default() };
    gateway.store.devices(app, &filter, 0, 1).await?.into_iter().next().ok_or_else(absent)
}

/// `PUT /v1/devices/{id}`
pub(super) async fn put(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
    body: Body,
) -> Answer<Json<Value>> {
    let put = read::put(id(&names)?, body.value)?;
    let now = gateway.clock.now_ms();
    let stored = gateway.store.put_devices(caller.app_seq()?, vec![put], now).await?;
    let device = stored.first().ok_or_else(Problem::internal)?;
    Ok(Json(view(&gateway, device)))
}

/// `GET /v1/devices/{id}`
pub(super) async fn get(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
) -> Answer<Json<Value>> {
    let device = find(&gateway, caller.app_seq()?, id(&names)?).await?;
    Ok(Json(view(&gateway, &device)))
}

/// `PATCH /v1/devices/{id}`
pub(super) async fn patch(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
    body: Body,
) -> Answer<Json<Value>> {
    let patch = read::patch(body.value)?;
    let (app, now) = (caller.app_seq()?, gateway.clock.now_ms());
    let device = gateway.store.patch_device(app, id(&names)?, patch, now).await?;
    Ok(Json(view(&gateway, &device.ok_or_else(absent)?)))
}

/// `DELETE /v1/devices/{id}`
pub(super) async fn delete(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
) -> Answer<StatusCode> {
    let (app, id) = (caller.app_seq()?, id(&names)?);
    let device = find(&gateway, app, id).await?;
    if !gateway.store.delete_device(app, id).await? {
        return Err(absent());
    }
    // After the deletion: a phone that comes back at once finds nobody.
    gateway.hub.revoke(device.seq);
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /v1/devices`
pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    mut query: Query,
) -> Answer<Json<Value>> {
    let app = caller.app_seq()?;
    let (user_id, tag) = (query.text("user_id"), query.text("tag"));
    let (provider, token) = match (query.text("provider"), query.text("token")) {
        (Some(provider), Some(token)) => (None, Some((provider, token))),
        (None, Some(_)) => {
            let why = "a `token` is one provider's: name it with the parameter `provider`";
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameter", why));
        }
        (provider, None) => (provider, None),
    };
    let filter = DeviceFilter { id: None, user_id, tag, provider, token };
    let page = query.page(&gateway, format!("devices {app} {filter:?}"))?;
    let after = page.number().unwrap_or(0);
    let mut devices = gateway.store.devices(app, &filter, after, page.limit + 1).await?;
    let next = page.cut(&mut devices, |device| device.seq.to_string());
    Ok(page.answer(&gateway, &devices.iter().map(|d| view(&gateway, d)).collect::<Vec<_>>(), next))
}

/// `POST /v1/devices/{id}/secret`
pub(super) async fn make_secret(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
) -> Answer<Json<Value>> {
    let (device, secret) =
        secret::issue(&gateway, caller.app_seq()?, id(&names)?).await?.ok_or_else(absent)?;
    let username = device.username.unwrap_or_default();
    Ok(Json(json!({"secret": secret, "username": username, "direct": direct::access(&gateway, &username)})))
}

/// `GET /v1/devices/{id}/deliveries`
pub(super) async fn list_deliveries(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
    query: Query,
) -> Answer<Json<Value>> {
    let app = caller.app_seq()?;
    let device = find(&gateway, app, id(&names)?).await?;
    let page = query.page(&gateway, format!("device deliveries {app} {}", device.seq))?;
    let before = page.number().map_or(Id(i64::MAX), |n| Id(n as i64));
    let mut found = gateway.store.deliveries_to(device.seq, before, page.limit + 1).await?;
    let next = page.cut(&mut found, |delivery| delivery.message.0.to_string());
    let shown = found.iter().map(|d| deliveries::view(&gateway, d, json!({"device_id": device.id})));
    Ok(page.answer(&gateway, &shown.collect::<Vec<_>>(), next))
}
