//! `PATCH /v1/device`: what a phone may change about itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::ask::{self, Body};
use super::auth::{self, Caller};
use crate::api::problem::{Answer, Problem};
use crate::app::Gateway;
use crate::store::{DevicePatch, DeviceRecord, NewAddress};

/// What a phone knows best about itself.
const ATTRIBUTES: [&str; 4] = ["app_version", "os_version", "language", "timezone"];
/// What only the app's backend may say.
const BACKENDS: [&str; 7] = ["user_id", "tags", "attributes", "platform", "manufacturer", "model", "country"];
const LONGEST_ATTRIBUTE: usize = 64;
const MOST_ADDRESSES: usize = 16;
const LONGEST_TOKEN: usize = 4096;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    provider: String,
    kind: Option<String>,
    token: String,
    #[serde(default)]
    params: BTreeMap<String, String>,
}

/// Changes the phone's own addresses and a few attributes; never whose it is.
pub(super) async fn patch(
    State(gateway): State<Arc<Gateway>>,
    Caller(phone): Caller,
    Body(bytes): Body,
) -> Answer<StatusCode> {
    let members: Map<String, Value> = ask::body(&bytes)?;
    let mut patch = DevicePatch::default();
    let mut addresses = None;
    for (name, value) in members {
        let at = format!("/{name}");
        match name.as_str() {
            "addresses" => addresses = Some(given(value)?),
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
        let record = gateway.store.device_by_username(&phone.username).await?;
        own.extend(kept(&record.ok_or_else(auth::wrong)?));
        patch.addresses = Some(own);
    }
    let changed = gateway.store.patch_device(phone.app, &phone.id, patch, gateway.clock.now_ms()).await?;
    changed.map(|_| StatusCode::NO_CONTENT).ok_or_else(auth::wrong)
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

fn given(value: Value) -> Answer<Vec<NewAddress>> {
    let at = |problem: Problem| problem.at("/addresses");
    let given: Vec<Given> = serde_json::from_value(value).map_err(|error| at(wrong(error.to_string())))?;
    if given.len() > MOST_ADDRESSES {
        return Err(at(wrong("a phone has at most 16 addresses")));
    }
    given
        .into_iter()
        .enumerate()
        .map(|(i, given)| address(given).map_err(|p| p.at(format!("/addresses/{i}"))))
        .collect()
}

/// A phone may name tokens of push services, which only it can have. A phone number it could merely claim: whoever
/// claims somebody else's would get that person's login codes sent elsewhere.
fn address(given: Given) -> Answer<NewAddress> {
    if given.provider == "phone" {
        let why = "a phone number is set by the app's backend, which has checked it";
        return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", why));
    }
    let spec = anypush_providers::find(&given.provider)
        .map(|registration| registration.descriptor.address)
        .filter(|spec| spec.provider == given.provider)
        .ok_or_else(|| wrong("there is no such provider with tokens of its own"))?;
    let longest = LONGEST_TOKEN.min(spec.max_token_bytes as usize);
    if given.token.is_empty() || given.token.len() > longest || given.token.chars().any(char::is_control) {
        return Err(wrong(format!("`token` has 1 to {longest} bytes and no control characters")));
    }
    let kind = given.kind.or_else(|| spec.kinds.first().map(|kind| (*kind).to_owned())).unwrap_or_default();
    if !spec.kinds.contains(&kind.as_str()) {
        return Err(wrong(format!("`kind` is one of {}", spec.kinds.join(", "))));
    }
    if let Some(name) = given.params.keys().find(|name| !spec.params.contains(&name.as_str())) {
        return Err(wrong(format!("`params` has no `{name}`; it may have {}", spec.params.join(", "))));
    }
    Ok(NewAddress { provider: given.provider, kind, token: given.token, params: given.params })
}

/// What the backend has set stays.
fn kept(record: &DeviceRecord) -> impl Iterator<Item = NewAddress> {
    record.addresses.iter().filter(|a| a.active && a.provider == "phone").map(|a| NewAddress {
        provider: a.provider.clone(),
        kind: a.kind.clone(),
        token: a.token.clone(),
        params: a.params.clone(),
    })
}

fn wrong(detail: impl Into<String>) -> Problem {
    ask::refused("invalid_field", detail)
}
