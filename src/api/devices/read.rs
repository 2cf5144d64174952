//! Devices as callers give them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::ID;
use crate::api::address;
use crate::api::fields::{Fields, Mistakes, Text};
use crate::api::problem::Answer;
use crate::store::{DevicePatch, DevicePut, FIELD, NewAddress};

const WORD: Text = Text::line(128);
/// Tags of a device.
const MOST_TAGS: usize = 100;
const TAG: Text = Text::line(64);
/// Addresses of a device.
const MOST_ADDRESSES: usize = 20;
const MOST_ATTRIBUTES: usize = 100;
/// Members that are kept as given.
const WORDS: [&str; 5] = ["manufacturer", "model", "os_version", "app_version", "language"];
const PLATFORMS: [(&str, &str); 5] =
    [("android", "android"), ("ios", "ios"), ("harmonyos", "harmonyos"), ("web", "web"), ("other", "other")];

/// A device whole.
pub(super) fn put(id: &str, body: Value) -> Answer<DevicePut> {
    let wrong = Mistakes::default();
    let mut fields = Fields::of(body, "", &wrong);
    let put = DevicePut {
        id: id.to_owned(),
        user_id: fields.text("user_id", ID),
        platform: fields.choice("platform", &PLATFORMS).map(str::to_owned),
        enabled: fields.flag("notifications_enabled").unwrap_or(true),
        tags: tags(&mut fields).unwrap_or_default(),
        addresses: addresses(&mut fields, &wrong).unwrap_or_default(),
        profile: profile(&mut fields, &wrong, false),
    };
    fields.finish();
    wrong.finish().map(|()| put)
}

/// What of a device changes. `null` clears a member.
pub(super) fn patch(body: Value) -> Answer<DevicePatch> {
    let wrong = Mistakes::default();
    let mut fields = Fields::of(body, "", &wrong);
    let patch = DevicePatch {
        user_id: if fields.cleared("user_id") { Some(None) } else { fields.text("user_id", ID).map(Some) },
        platform: if fields.cleared("platform") {
            Some(None)
        } else {
            fields.choice("platform", &PLATFORMS).map(|word| Some(word.to_owned()))
        },
        enabled: fields.flag("notifications_enabled"),
        tags: tags(&mut fields),
        addresses: addresses(&mut fields, &wrong),
        profile: profile(&mut fields, &wrong, true),
    };
    fields.finish();
    wrong.finish().map(|()| patch)
}

fn tags(fields: &mut Fields<'_>) -> Option<Vec<String>> {
    let mut tags = fields.texts("tags", MOST_TAGS, TAG)?;
    tags.sort();
    tags.dedup();
    Some(tags)
}

fn addresses(fields: &mut Fields<'_>, wrong: &Mistakes) -> Option<Vec<NewAddress>> {
    let items = fields.list("addresses", MOST_ADDRESSES)?;
    let mut all: Vec<NewAddress> = Vec::new();
    for (at, item) in items {
        let Some(address) = address::read(item, &at, wrong) else { continue };
        let same = |a: &NewAddress| {
            (&a.provider, &a.kind, &a.token) == (&address.provider, &address.kind, &address.token)
        };
        if all.iter().any(same) {
            wrong.add(at, "is the same address as one before it; leave it out");
        } else {
            all.push(address);
        }
    }
    Some(all)
}

fn profile(fields: &mut Fields<'_>, wrong: &Mistakes, clears: bool) -> BTreeMap<String, Value> {
    let mut profile = BTreeMap::new();
    let all = WORDS.iter().chain(&["timezone", "country", "location", "attributes"]);
    for name in all {
        if clears && fields.cleared(name) {
            profile.insert((*name).to_owned(), Value::Null);
            continue;
        }
        let value = match *name {
            "timezone" => timezone(fields).map(Value::from),
            "country" => country(fields).map(Value::from),
            "location" => location(fields),
            "attributes" => attributes(fields, wrong),
            word => fields.text(word, WORD).map(Value::from),
        };
        if let Some(value) = value {
            profile.insert((*name).to_owned(), value);
        }
    }
    profile
}

fn timezone(fields: &mut Fields<'_>) -> Option<String> {
    let name = fields.text("timezone", Text::line(64))?;
    if jiff::tz::TimeZone::get(&name).is_err() {
        fields.refuse("timezone", "must be a name of the IANA database, such as Asia/Shanghai");
    }
    Some(name)
}

fn country(fields: &mut Fields<'_>) -> Option<String> {
    let code = fields.text("country", Text::line(64))?;
    if code.len() != 2 || !code.bytes().all(|b| b.is_ascii_uppercase()) {
        fields.refuse("country", "must be two capital letters (ISO 3166-1), such as CN");
    }
    Some(code)
}

fn location(fields: &mut Fields<'_>) -> Option<Value> {
    let mut inner = fields.object("location")?;
    let mut degrees = |name: &str, most: f64| {
        let value = inner.take(name).and_then(|v| v.as_f64()).filter(|v| v.abs() <= most);
        if value.is_none() {
            inner.refuse(name, format!("must be a number from -{most} to {most}"));
        }
        value
    };
    let (lat, lon) = (degrees("lat", 90.0), degrees("lon", 180.0));
    inner.finish();
    Some(json!({"lat": lat?, "lon": lon?}))
}

/// Values that rules compare: strings, numbers, booleans.
fn attributes(fields: &mut Fields<'_>, wrong: &Mistakes) -> Option<Value> {
    let mut inner = fields.object("attributes")?;
    let members = inner.rest();
    if members.len() > MOST_ATTRIBUTES {
        fields.refuse("attributes", format!("has more than {MOST_ATTRIBUTES} members"));
        return None;
    }
    let mut kept = Map::new();
    for (name, value) in members {
        let at = inner.at(&name);
        let mistake = Text::line(64).wrong(&name).or_else(|| match &value {
            Value::String(text) => Text::prose(512).wrong(text),
            Value::Number(_) | Value::Bool(_) => None,
            _ => Some("must be a string, a number, true or false".into()),
        });
        let reserved =
            || name.starts_with(FIELD).then(|| format!("`{FIELD}` is reserved for fields of devices"));
        let mistake = mistake.or_else(reserved);
        match mistake {
            Some(why) => wrong.add(at, why),
            None => {
                kept.insert(name, value);
            }
        }
    }
    Some(Value::Object(kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_reads_whole() {
        let body = json!({
            "user_id": "u-42", "platform": "android", "manufacturer": "M", "language": "zh-CN",
            "timezone": "Asia/Shanghai", "country": "CN", "location": {"lat": 31.2, "lon": 121.5},
            "notifications_enabled": false, "tags": ["vip", "a", "vip"], "attributes": {"level": 7},
            "addresses": [{"provider": "phone", "token": "+8613800000000"}],
        });
        let device = put("d-1", body).unwrap();
        assert_eq!(device.tags, ["a", "vip"]);
        assert!(!device.enabled);
        assert_eq!(device.profile.len(), 6);
        assert_eq!(device.addresses[0].kind, "phone");
    }

    #[test]
    fn a_patch_tells_absent_from_cleared() {
        let change = patch(json!({"user_id": null, "model": null, "platform": "ios"})).unwrap();
        assert_eq!(change.user_id, Some(None));
        assert_eq!(change.platform, Some(Some("ios".into())));
        assert_eq!(change.profile.get("model"), Some(&Value::Null));
        assert_eq!((change.enabled, change.tags), (None, None));
    }

    #[test]
    fn what_is_not_the_callers_to_set_is_unknown() {
        for name in ["id", "app_id", "state", "direct", "created_at", "connected"] {
            assert_eq!(put("d", json!({name: "x"})).unwrap_err().code, "unknown_field");
            assert_eq!(patch(json!({name: "x"})).unwrap_err().code, "unknown_field");
        }
        for bad in [
            json!([]),
            json!({"tags": "vip"}),
            json!({"location": {"lat": 91, "lon": 0}}),
            json!({"user_id": ""}),
        ] {
            assert_eq!(put("d", bad).unwrap_err().code, "invalid_field");
        }
    }
}
