//! `/v1/users`: what an app has of a person, over all devices; and its erasure.
//!
//! A user is the `user_id` of devices, nothing more: one without devices is not there.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::auth::Caller;
use super::extract::{Names, Query};
use super::problem::{Answer, FieldError, Problem};
use super::{deliveries, devices};
use crate::app::Gateway;
use crate::ids::Id;
use crate::store::DeviceFilter;

/// Devices that one transaction erases.
const AT_ONCE: usize = 100;

fn absent() -> Problem {
    Problem::not_found("user")
}

/// The id in the path, in the form that ids have.
fn id(names: &Names) -> Answer<String> {
    let id = names.get("id");
    match devices::ID.wrong(id) {
        None => Ok(id.to_owned()),
        Some(why) => Err(Problem::invalid(vec![FieldError {
            pointer: String::new(),
            code: "invalid_field",
            detail: format!("the user id in the path {why}"),
        }])),
    }
}

/// `GET /v1/users/{id}`
pub(super) async fn get(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
    query: Query,
) -> Answer<Json<Value>> {
    let (app, user) = (caller.app_seq()?, id(&names)?);
    let page = query.page(&gateway, format!("user {app} {user:?}"))?;
    let filter = DeviceFilter { user_id: Some(user.clone()), ..DeviceFilter::default() };
    let after = page.number().unwrap_or(0);
    let mut found = gateway.store.devices(app, &filter, after, page.limit + 1).await?;
    if found.is_empty() && page.place.is_none() {
        return Err(absent());
    }
    let next = page.cut(&mut found, |device| device.seq.to_string());
    let shown: Vec<_> = found.iter().map(|device| devices::view(&gateway, device)).collect();
    let mut answer = page.answer(&gateway, &shown, next);
    answer["id"] = json!(user);
    Ok(answer)
}

/// `DELETE /v1/users/{id}`
pub(super) async fn delete(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
) -> Answer<StatusCode> {
    let (app, user) = (caller.app_seq()?, id(&names)?);
    let mut erased = 0;
    loop {
        let some = gateway.store.delete_devices_of(app, &user, AT_ONCE).await?;
        for (device, _) in &some {
            // After the deletion: a phone that comes back at once finds nobody.
            gateway.hub.revoke(*device);
        }
        erased += some.len();
        if some.len() < AT_ONCE {
            break;
        }
    }
    if erased == 0 { Err(absent()) } else { Ok(StatusCode::NO_CONTENT) }
}

/// `GET /v1/users/{id}/deliveries`
pub(super) async fn list_deliveries(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
    query: Query,
) -> Answer<Json<Value>> {
    let (app, user) = (caller.app_seq()?, id(&names)?);
    let page = query.page(&gateway, format!("user deliveries {app} {user:?}"))?;
    let place = page.place.as_ref().and_then(|place| place.split_once('.'));
    let before = match place {
        None => (Id(i64::MAX), u64::MAX),
        Some((message, target)) => {
            (Id(message.parse().unwrap_or_default()), target.parse().unwrap_or_default())
        }
    };
    if gateway.store.known_users(app, std::slice::from_ref(&user)).await?.is_empty() {
        return Err(absent());
    }
    let mut found = gateway.store.deliveries_to_user(app, &user, before, page.limit + 1).await?;
    let next = page.cut(&mut found, |d| format!("{}.{}", d.message.0, d.target));
    let targets: Vec<u64> = found.iter().map(|delivery| delivery.target).collect();
    let ids: HashMap<u64, String> = gateway.store.device_ids(&targets).await?.into_iter().collect();
    let shown = found.iter().map(|d| deliveries::view(&gateway, d, json!({"device_id": ids.get(&d.target)})));
    Ok(page.answer(&gateway, &shown.collect::<Vec<_>>(), next))
}
