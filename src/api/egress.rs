//! Who may say where a channel's requests go: admin keys alone, except for the addresses that the provider's own schema
//! names. Otherwise the key of an app could make the gateway call any host of its network.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// The JSON pointer of a member that takes an admin key; `None`: any key may set all of it.
pub(super) fn needs_admin(schema: &Value, config: &Map<String, Value>) -> Option<String> {
    let mut known = BTreeMap::new();
    collect(schema, &mut known);
    config.iter().find_map(|(name, value)| {
        let at = format!("/config/{name}");
        if is_guarded(name) && !is_known(&known, name, value) {
            return Some(at);
        }
        inside(&known, value).map(|inner| format!("{at}{inner}"))
    })
}

fn is_guarded(name: &str) -> bool {
    name.ends_with("_url") || name.ends_with("_uri") || name == "ca_pem"
}

fn is_known(known: &BTreeMap<String, BTreeSet<String>>, name: &str, value: &Value) -> bool {
    name != "ca_pem"
        && value.as_str().is_some_and(|text| known.get(name).is_some_and(|all| all.contains(text)))
}

/// Deeper down only the names that the schema has: key files of vendors carry addresses that nobody calls.
fn inside(known: &BTreeMap<String, BTreeSet<String>>, value: &Value) -> Option<String> {
    match value {
        Value::Object(members) => members.iter().find_map(|(name, value)| {
            if is_guarded(name) && known.contains_key(name) && !is_known(known, name, value) {
                return Some(format!("/{name}"));
            }
            inside(known, value).map(|deeper| format!("/{name}{deeper}"))
        }),
        Value::Array(items) => items.iter().find_map(|item| inside(known, item)),
        // A key file may be pasted as text.
        Value::String(text) if text.trim_start().starts_with('{') => {
            let pasted: Value = serde_json::from_str(text).ok()?;
            inside(known, &pasted)
        }
        _ => None,
    }
}

/// Addresses in a schema, by the member that they are an example or the default of.
fn collect(schema: &Value, known: &mut BTreeMap<String, BTreeSet<String>>) {
    match schema {
        Value::Object(members) => {
            for (name, value) in members {
                if is_guarded(name) {
                    let own = known.entry(name.clone()).or_default();
                    own.extend(value.as_str().map(str::to_owned));
                    let shown = [value.get("default"), value.get("examples").and_then(|all| all.get(0))];
                    own.extend(shown.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
                }
                collect(value, known);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, known)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_addresses_that_the_schema_names_are_free() {
        let schema = json!({"properties": {
            "base_url": {"default": "https://api.example"},
            "key": {"examples": [{"token_uri": "https://token.example"}]},
            "ca_pem": {"examples": ["PEM"]},
        }});
        let needs = |config: Value| needs_admin(&schema, config.as_object().unwrap());
        assert_eq!(needs(json!({"base_url": "https://api.example", "project": "x"})), None);
        assert_eq!(needs(json!({"base_url": "http://10.0.0.1"})).unwrap(), "/config/base_url");
        assert_eq!(needs(json!({"ca_pem": "PEM"})).unwrap(), "/config/ca_pem");
        assert_eq!(needs(json!({"other_url": 1})).unwrap(), "/config/other_url");
        let key = json!({"token_uri": "https://token.example", "client_cert_url": "https://any.example"});
        assert_eq!(needs(json!({"key": key})), None);
        let bent = json!({"token_uri": "http://169.254.169.254/"});
        assert_eq!(needs(json!({"key": bent})).unwrap(), "/config/key/token_uri");
        assert_eq!(needs(json!({"key": bent.to_string()})).unwrap(), "/config/key/token_uri");
    }
}
