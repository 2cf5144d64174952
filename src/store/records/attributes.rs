//! What audiences compare: the attributes of a device, and some of its fields.

use std::collections::BTreeMap;

use serde_json::{Number, Value};

use crate::delivery::expression::Scalar;

/// What stands before the name of a field where it is compared like an attribute. No attribute's name begins so.
pub const FIELD: &str = "device.";

/// The fields that can be compared: name, the letter that it is stored under, and whether it is a version.
const FIELDS: [(&str, char, bool); 8] = [
    ("platform", 'p', false),
    ("manufacturer", 'm', false),
    ("model", 'o', false),
    ("os_version", 's', true),
    ("app_version", 'a', true),
    ("language", 'l', false),
    ("timezone", 't', false),
    ("country", 'c', false),
];

/// A value in the form in which values are ordered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Key {
    /// `true` or `false`.
    Flag(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Real(f64),
    /// A text.
    Text(String),
    /// A version: bytes that are in the order of versions.
    Version(Vec<u8>),
}

/// The names of all fields that can be compared.
pub fn field_names() -> impl Iterator<Item = &'static str> {
    FIELDS.iter().map(|(name, ..)| *name)
}

/// Whether a name stands for a version.
pub fn is_version(name: &str) -> bool {
    field(name).is_some_and(|(.., version)| version)
}

/// Whether a name stands for a field that cannot be compared, or that there is not.
pub fn is_unknown_field(name: &str) -> bool {
    name.starts_with(FIELD) && field(name).is_none()
}

fn field(name: &str) -> Option<(&'static str, char, bool)> {
    let name = name.strip_prefix(FIELD)?;
    FIELDS.into_iter().find(|(field, ..)| *field == name)
}

/// The name that values are stored under. Attributes have no control characters in theirs.
pub(crate) fn stored_name(name: &str) -> String {
    field(name).map_or_else(|| name.to_owned(), |(_, letter, _)| format!("\u{1}{letter}"))
}

/// A value of this name, in the form that is stored and compared.
pub(crate) fn key(name: &str, value: &Scalar) -> Key {
    match value {
        Scalar::Text(text) if is_version(name) => Key::Version(version(text)),
        Scalar::Text(text) => Key::Text(text.clone()),
        Scalar::Flag(flag) => Key::Flag(*flag),
        Scalar::Number(number) => number_key(number),
    }
}

fn number_key(number: &Number) -> Key {
    number.as_i64().map_or_else(|| Key::Real(number.as_f64().unwrap_or_default()), Key::Int)
}

/// All that can be compared of a device, by stored name.
pub(crate) fn keys(platform: Option<&str>, profile: &BTreeMap<String, Value>) -> BTreeMap<String, Key> {
    let mut keys = BTreeMap::new();
    for (name, letter, is_version) in FIELDS {
        let text = if name == "platform" { platform } else { profile.get(name).and_then(Value::as_str) };
        if let Some(text) = text {
            let key = if is_version { Key::Version(version(text)) } else { Key::Text(text.to_owned()) };
            keys.insert(format!("\u{1}{letter}"), key);
        }
    }
    for (name, value) in profile.get("attributes").and_then(Value::as_object).into_iter().flatten() {
        let key = match value {
            Value::Bool(flag) => Key::Flag(*flag),
            Value::Number(number) => number_key(number),
            Value::String(text) => Key::Text(text.clone()),
            _ => continue,
        };
        keys.insert(name.clone(), key);
    }
    keys
}

/// The point that a device was last at.
pub(crate) fn place(profile: &BTreeMap<String, Value>) -> Option<(f64, f64)> {
    let location = profile.get("location")?;
    Some((location["lat"].as_f64()?, location["lon"].as_f64()?))
}

/// A version as bytes in the order of versions: parts between dots as numbers, zeros at the end mean nothing, what is
/// behind the numbers (`-beta.2`, `rc1`) makes it an earlier version than without, and comes in the order of Semantic
/// Versioning; what is behind a `+` does not count. Texts that do not begin with a number come before all versions.
pub(crate) fn version(text: &str) -> Vec<u8> {
    let text = text.split('+').next().unwrap_or_default().trim();
    let numbered = |text: &&str| text.starts_with(|c: char| c.is_ascii_digit());
    let mut rest = text.strip_prefix(['v', 'V']).filter(numbered).unwrap_or(text);
    let is_version = numbered(&rest);
    let mut parts: Vec<&str> = Vec::new();
    loop {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            break;
        }
        parts.push(rest[..digits].trim_start_matches('0'));
        rest = &rest[digits..];
        let Some(more) = rest.strip_prefix('.').filter(numbered) else { break };
        rest = more;
    }
    while parts.last().is_some_and(|part| part.is_empty()) {
        parts.pop();
    }
    let mut key = Vec::with_capacity(text.len() + 4);
    if !is_version {
        key.push(0);
    }
    for part in parts {
        number(&mut key, 3, part);
    }
    let rest = rest.trim_start_matches(['-', '.', ' ', '_']);
    if rest.is_empty() {
        key.push(2);
        return key;
    }
    key.push(1);
    for part in rest.split('.') {
        if !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) {
            number(&mut key, 1, part.trim_start_matches('0'));
        } else {
            key.push(2);
            key.extend(part.bytes().map(|b| b.max(1)));
            key.push(0);
        }
    }
    key.push(0);
    key
}

/// A number of any length: how long it is comes first.
fn number(key: &mut Vec<u8>, kind: u8, digits: &str) {
    key.push(kind);
    key.extend([(digits.len() >> 8) as u8, digits.len() as u8]);
    key.extend(digits.bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_the_order_in_which_they_come_out() {
        let ordered = [
            "beta",
            "0.9",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.0.1",
            "1.2",
            "1.9.9",
            "1.10",
            "2.0rc1",
            "2.0",
            "15",
            "15.0.1",
            "2024.11.3",
            "18446744073709551616.1",
        ];
        for pair in ordered.windows(2) {
            assert!(version(pair[0]) < version(pair[1]), "{} comes before {}", pair[0], pair[1]);
        }
        for (one, same) in
            [("3.2", "3.2.0"), ("v3.2", "3.2"), ("03.2", "3.2"), ("1.0+build5", "1"), ("0", "0.0")]
        {
            assert_eq!(version(one), version(same), "{one} is {same}");
        }
        assert_ne!(version("beta"), version("alpha"));
    }

    #[test]
    fn any_text_is_some_version() {
        for text in
            ["", "v", ".", "-", "1.", "1..2", "15 (API 35)", "HarmonyOS 5.0", "\u{4e2d}\u{6587}", "+", "1-+"]
        {
            assert!(version(text) < vec![0xff], "{text}");
        }
    }

    #[test]
    fn a_device_is_compared_by_its_attributes_and_its_fields() {
        let profile = BTreeMap::from([
            ("country".to_owned(), Value::from("CN")),
            ("app_version".to_owned(), Value::from("3.10")),
            ("location".to_owned(), serde_json::json!({"lat": 1, "lon": -2.5})),
            ("attributes".to_owned(), serde_json::json!({"level": 7, "paid": true, "x": 0.5, "name": "ann"})),
        ]);
        let keys = keys(Some("ios"), &profile);
        assert_eq!(keys.len(), 7);
        assert_eq!(keys[&stored_name("device.country")], Key::Text("CN".into()));
        assert_eq!(keys[&stored_name("device.app_version")], Key::Version(version("3.10.0")));
        assert_eq!(
            (&keys["level"], &keys["paid"], &keys["x"]),
            (&Key::Int(7), &Key::Flag(true), &Key::Real(0.5))
        );
        assert_eq!(place(&profile), Some((1.0, -2.5)));
        assert!(is_unknown_field("device.secret") && !is_unknown_field("level"));
    }
}
