//! `/v1/providers`: what this build can send through.

use anypush_providers::contract::{Descriptor, Registration};
use axum::Json;
use serde_json::{Map, Value, json};

use super::problem::Answer;
use crate::direct;

/// `GET /v1/providers`
pub(super) async fn list() -> Answer<Json<Value>> {
    let nothing = json!({"type": "object", "additionalProperties": false});
    let own = view(&direct::DESCRIPTOR, &nothing, &nothing);
    let of = |r: &&Registration| {
        view(&r.descriptor, (r.config_schema)().as_value(), (r.category.schema)().as_value())
    };
    let mut all = vec![own];
    all.extend(anypush_providers::catalogue().iter().map(of));
    Ok(Json(json!({"data": all, "next_cursor": null})))
}

fn view(descriptor: &Descriptor, schema: &Value, category: &Value) -> Value {
    let capabilities = serde_json::to_value(descriptor.capabilities).unwrap_or_default();
    json!({
        "id": descriptor.id,
        "name": descriptor.name,
        "tier": descriptor.tier,
        "capabilities": in_seconds(capabilities),
        "address": descriptor.address,
        "quotas": descriptor.quotas,
        "config_schema": schema,
        "category_schema": category,
    })
}

/// Durations as the API shows them: whole seconds, with the unit in the name.
fn in_seconds(capabilities: Value) -> Value {
    let Value::Object(members) = capabilities else { return capabilities };
    let one = |(name, value): (String, Value)| match value.get("secs") {
        Some(seconds) => (format!("{name}_seconds"), seconds.clone()),
        None => (name, value),
    };
    Value::Object(members.into_iter().map(one).collect::<Map<_, _>>())
}
