//! `PATCH /v1/device`: what a phone may change about itself.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Map, Value};

use super::ask::{self, Body};
use super::auth::{self, Caller};
use crate::api::address;
use crate::api::fields::Mistakes;
use crate::api::problem::{Answer, Problem};
use crate::app::Gateway;
use crate::audit::{self, Who};
use crate::store::{DeviceFilter, DevicePatch, DeviceRecord, NewAddress};

/// What a phone knows best about itself.
const ATTRIBUTES: [&str; 4] = ["app_version", "os_version", "language", "timezone"];
/// What only the app's backend may say.
const BACKENDS: [&str; 7] = ["user_id", "tags", "attributes", "platform", "manufacturer", "model", "country"];
const LONGEST_ATTRIBUTE: usize = 64;
const MOST_ADDRESSES: usize = 16;
/// The address that stands for text messages.
const PHONE_NUMBER: &str = "phone";

/// Changes the phone's own addresses and a few attributes; never whose it is.
pub(super) async fn patch(
    State(gateway): State<Arc<Gateway>>,
    Caller(phone): Caller,
    Body(bytes): Body,
) -> Answer<StatusCode> {
    let members: Map<String, Value> = ask::body(&bytes)?;
    let record = async || {
        let filter = DeviceFilter { id: Some(phone.id.clone()), ..DeviceFilter::default() };
        let found = gateway.store.devices(phone.app, &filter, 0, 1).await?.pop();
        found.filter(|device| device.seq == phone.device).map(Some).ok_or_else(auth::wrong)
    };
    let patch = read(members, "", record).await?;
    let change = gateway.store.patch_device(phone.app, &phone.id, patch, gateway.clock.now_ms());
    let changed = audit::acting_as(Who::Device(phone.id.clone()), change).await?;
    changed.map(|_| StatusCode::NO_CONTENT).ok_or_else(auth::wrong)
}

/// What a phone says of itself, at this place of its request. `record` is the device as it is, asked for where it matters.
pub(super) async fn read(
    members: Map<String, Value>,
    place: &str,
    record: impl AsyncFnOnce() -> Answer<Option<DeviceRecord>>,
) -> Answer<DevicePatch> {
    let mut patch = DevicePatch::default();
    let mut addresses = None;
    for (name, value) in members {
        let at = format!("{place}/{name}");
        match name.as_str() {
            "addresses" => addresses = Some(given(value, &at)?),
            "notifications_enabled" => {
                let enabled = value.as_bool().ok_or_else(|| wrong("say true or false").at(at))?;
                patch.enabled = Some(enabled);
            }
            name if ATTRIBUTES.contains(&name) => {
                attribute(&value).map_err(|problem| problem.at(at))?;
                patch.profile.insert(name.to_owned(), value);
            }
            name if BACKENDS.contains(&name) => {
                let why = "only the app's backend may change this, with PATCH /v1/devices/{id}";
                return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", why).at(at));
            }
            _ => return Err(ask::refused("unknown_field", "there is no such field here").at(at)),
        }
    }
    if let Some(mut own) = addresses {
        own.extend(record().await?.iter().flat_map(kept));
        patch.addresses = Some(own);
    }
    Ok(patch)
}

fn attribute(value: &Value) -> Answer<()> {
    match value {
        Value::Null => Ok(()),
        Value::String(text) if text.len() <= LONGEST_ATTRIBUTE && !text.chars().any(char::is_control) => {
            Ok(())
        }
        _ => Err(wrong("give a text of at most 64 bytes, or null to remove it")),
    }
}

/// A phone may name tokens of push services, which only it can have. A phone number it could merely claim: whoever
/// claims somebody else's would get that person's login codes sent elsewhere.
fn given(value: Value, place: &str) -> Answer<Vec<NewAddress>> {
    let Value::Array(given) = value else { return Err(wrong("give a list of addresses").at(place)) };
    if given.len() > MOST_ADDRESSES {
        return Err(wrong("a phone has at most 16 addresses").at(place));
    }
    if let Some(at) = given.iter().position(|given| given["provider"] == PHONE_NUMBER) {
        let why = "a phone number is set by the app's backend, which has checked it";
        return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", why).at(format!("{place}/{at}")));
    }
    let mistakes = Mistakes::default();
    let read = |(at, given)| address::read(given, &format!("{place}/{at}"), &mistakes);
    let addresses = given.into_iter().enumerate().filter_map(read).collect();
    mistakes.finish()?;
    Ok(addresses)
}

/// What the backend has set stays.
fn kept(record: &DeviceRecord) -> impl Iterator<Item = NewAddress> {
    record.addresses.iter().filter(|a| a.active && a.provider == PHONE_NUMBER).map(|a| NewAddress {
        provider: a.provider.clone(),
        kind: a.kind.clone(),
        token: a.token.clone(),
        params: a.params.clone(),
    })
}

fn wrong(detail: impl Into<String>) -> Problem {
    ask::refused("invalid_field", detail)
}
