//! Addresses in a channel's configuration: which of its members they are, who may set them, and whether the gateway calls
//! them.
//!
//! Only admin keys may say where a channel's requests go, except for the addresses that the provider's own schema names:
//! otherwise the key of an app could make the gateway call any host of its network. And whoever says it, the guard of
//! [`anypush_providers::kit::egress`] must let it pass.

use std::collections::{BTreeMap, BTreeSet};

use anypush_providers::kit::egress::Egress;
use serde_json::{Map, Value};
use url::Url;

/// The JSON pointer of a member that takes an admin key; `None`: any key may set all of it.
pub(crate) fn needs_admin(schema: &Value, config: &Map<String, Value>) -> Option<String> {
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

/// What the guard refuses, as it is written: JSON pointers into the configuration, and why.
pub(crate) fn refused(guard: &Egress, schema: &Value, config: &Map<String, Value>) -> Vec<(String, String)> {
    let refused = |(at, url): (String, Url)| guard.permits(&url).err().map(|why| (at, why.to_string()));
    addresses(schema, config).into_iter().filter_map(refused).collect()
}

/// The same, with what names resolve to now. Addresses that the schema names are the provider's own: they are looked at
/// when they are called.
pub(crate) async fn refused_now(
    guard: &Egress,
    schema: &Value,
    config: &Map<String, Value>,
) -> Vec<(String, String)> {
    let mut known = BTreeMap::new();
    collect(schema, &mut known);
    let own: BTreeSet<Url> = known.values().flatten().filter_map(|text| Url::parse(text).ok()).collect();
    let mut wrong = Vec::new();
    for (at, url) in addresses(schema, config) {
        let looked = if own.contains(&url) { guard.permits(&url) } else { guard.permits_now(&url).await };
        wrong.extend(looked.err().map(|why| (at, why.to_string())));
    }
    wrong
}

/// All addresses of a configuration, by JSON pointer. What is no URL is the adapter's to refuse.
fn addresses(schema: &Value, config: &Map<String, Value>) -> Vec<(String, Url)> {
    let mut known = BTreeMap::new();
    collect(schema, &mut known);
    let mut found = Vec::new();
    for (name, value) in config {
        let guarded = is_guarded(name);
        gather(&known, guarded, value, &format!("/{name}"), &mut found);
    }
    found
}

fn gather(
    known: &BTreeMap<String, BTreeSet<String>>,
    guarded: bool,
    value: &Value,
    at: &str,
    found: &mut Vec<(String, Url)>,
) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let guarded = guarded || (is_guarded(name) && known.contains_key(name));
                gather(known, guarded, value, &format!("{at}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                gather(known, guarded, item, &format!("{at}/{index}"), found);
            }
        }
        Value::String(text) if text.trim_start().starts_with('{') => {
            if let Ok(pasted @ Value::Object(_)) = serde_json::from_str(text) {
                gather(known, guarded, &pasted, at, found);
            }
        }
        Value::String(text) if guarded => {
            found.extend(Url::parse(text.trim()).ok().map(|url| (at.to_owned(), url)));
        }
        _ => {}
    }
}

fn is_guarded(name: &str) -> bool {
    let ends = ["_url", "_urls", "_uri", "_uris"];
    ends.iter().any(|end| name.ends_with(end)) || name == "ca_pem"
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

    /// A43: one address of several is an address.
    #[test]
    fn addresses_by_name_need_an_admin_too() {
        let schema = json!({"properties": {"base_urls": {"examples": [{"eu": "https://eu.example"}]}}});
        let config = json!({"base_urls": {"eu": "http://10.0.0.1"}});
        assert_eq!(needs_admin(&schema, config.as_object().unwrap()).unwrap(), "/config/base_urls");
    }

    #[test]
    fn every_address_of_a_configuration_is_found_wherever_it_stands() {
        let schema = json!({"properties": {"key": {"examples": [{"token_uri": "https://token.example"}]}}});
        let key = json!({"token_uri": "http://10.0.0.1/t", "client_x509_cert_url": "http://10.0.0.2/nobody-calls-it"});
        let config = json!({
            "base_url": "https://127.0.0.1", "base_urls": {"eu": "https://a.example", "in": "http://10.0.0.3"},
            "key": key.to_string(), "title": "http://10.0.0.4", "ca_pem": "PEM",
        });
        let wrong = refused(&Egress::default(), &schema, config.as_object().unwrap());
        let at: Vec<_> = wrong.iter().map(|(at, _)| at.as_str()).collect();
        assert_eq!(at, ["/base_url", "/base_urls/in", "/key/token_uri"]);
    }

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
