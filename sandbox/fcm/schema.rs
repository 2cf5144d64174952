//! The request's fields and types, and the reading of a JSON request by them.
//!
//! Google reads JSON by its proto mapping: both `collapse_key` and `collapseKey`, `null` as absent, whole numbers also as
//! text, and an unknown name or a wrong type is an error that lists every such place.

use serde_json::{Map, Value};

/// The type of a field.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Text,
    Bool,
    Int,
    Float,
    Texts,
    TextMap,
    /// `google.protobuf.Struct`.
    Free,
    Duration,
    Durations,
    Time,
    Enum(&'static str, &'static [&'static str]),
    Message(&'static str, &'static [(&'static str, Kind)]),
}

use Kind::{Bool, Duration, Durations, Enum, Float, Free, Int, Message, Text, TextMap, Texts, Time};

/// `projects.messages.send` of FCM v1 discovery rev 20261023.
const REQUEST: &[(&str, Kind)] = &[("message", Message("Message", MESSAGE)), ("validate_only", Bool)];

const MESSAGE: &[(&str, Kind)] = &[
    ("name", Text),
    ("data", TextMap),
    ("notification", Message("Notification", &[("title", Text), ("body", Text), ("image", Text)])),
    ("android", Message("AndroidConfig", ANDROID)),
    // New in rev 20261023; its inside is not played, only that it excludes `android`.
    ("android_v2", Free),
    ("webpush", Message("WebpushConfig", WEBPUSH)),
    ("apns", Message("ApnsConfig", APNS)),
    ("fcm_options", Message("FcmOptions", &[("analytics_label", Text)])),
    ("token", Text),
    ("fid", Text),
    ("topic", Text),
    ("condition", Text),
];

const ANDROID: &[(&str, Kind)] = &[
    ("collapse_key", Text),
    ("priority", Enum("AndroidMessagePriority", &["NORMAL", "HIGH"])),
    ("ttl", Duration),
    ("restricted_package_name", Text),
    ("data", TextMap),
    ("notification", Message("AndroidNotification", ANDROID_NOTIFICATION)),
    ("fcm_options", Message("AndroidFcmOptions", &[("analytics_label", Text)])),
    ("direct_boot_ok", Bool),
    ("bandwidth_constrained_ok", Bool),
    ("restricted_satellite_ok", Bool),
];

const ANDROID_NOTIFICATION: &[(&str, Kind)] = &[
    ("title", Text),
    ("body", Text),
    ("icon", Text),
    ("color", Text),
    ("sound", Text),
    ("tag", Text),
    ("click_action", Text),
    ("body_loc_key", Text),
    ("body_loc_args", Texts),
    ("title_loc_key", Text),
    ("title_loc_args", Texts),
    ("channel_id", Text),
    ("ticker", Text),
    ("sticky", Bool),
    ("event_time", Time),
    ("local_only", Bool),
    (
        "notification_priority",
        Enum(
            "NotificationPriority",
            &[
                "PRIORITY_UNSPECIFIED",
                "PRIORITY_MIN",
                "PRIORITY_LOW",
                "PRIORITY_DEFAULT",
                "PRIORITY_HIGH",
                "PRIORITY_MAX",
            ],
        ),
    ),
    ("default_sound", Bool),
    ("default_vibrate_timings", Bool),
    ("default_light_settings", Bool),
    ("vibrate_timings", Durations),
    ("visibility", Enum("Visibility", &["VISIBILITY_UNSPECIFIED", "PRIVATE", "PUBLIC", "SECRET"])),
    ("notification_count", Int),
    ("light_settings", Message("LightSettings", LIGHT)),
    ("image", Text),
    ("bypass_proxy_notification", Bool),
    ("proxy", Enum("Proxy", &["PROXY_UNSPECIFIED", "ALLOW", "DENY", "IF_PRIORITY_LOWERED"])),
];

const LIGHT: &[(&str, Kind)] = &[
    ("color", Message("Color", &[("red", Float), ("green", Float), ("blue", Float), ("alpha", Float)])),
    ("light_on_duration", Duration),
    ("light_off_duration", Duration),
];

const WEBPUSH: &[(&str, Kind)] = &[
    ("headers", TextMap),
    ("data", TextMap),
    ("notification", Free),
    ("fcm_options", Message("WebpushFcmOptions", &[("link", Text), ("analytics_label", Text)])),
];

const APNS: &[(&str, Kind)] = &[
    ("headers", TextMap),
    ("payload", Free),
    ("fcm_options", Message("ApnsFcmOptions", &[("analytics_label", Text), ("image", Text)])),
    ("live_activity_token", Text),
];

/// Reads a request: the same with names in snake_case and without nulls, or everything that is wrong with it as
/// (field, description).
pub(super) fn read(body: Value) -> Result<Map<String, Value>, Vec<(String, String)>> {
    let mut violations = Vec::new();
    let read = message(body, "SendMessageRequest", REQUEST, "", &mut violations);
    match read {
        Some(Value::Object(map)) if violations.is_empty() => Ok(map),
        _ => Err(violations),
    }
}

type Violations = Vec<(String, String)>;

fn message(
    value: Value,
    type_name: &str,
    fields: &'static [(&'static str, Kind)],
    path: &str,
    violations: &mut Violations,
) -> Option<Value> {
    let Value::Object(map) = value else {
        wrong(path, &format!("type.googleapis.com/google.firebase.fcm.v1.{type_name}"), &value, violations);
        return None;
    };
    let mut out = Map::new();
    for (key, value) in map {
        let Some((name, kind)) = fields.iter().find(|(name, _)| key == *name || is_camel_of(&key, name))
        else {
            let place = if path.is_empty() { String::new() } else { format!(" at '{path}'") };
            let text =
                format!("Invalid JSON payload received. Unknown name \"{key}\"{place}: Cannot find field.");
            violations.push((path.to_owned(), text));
            continue;
        };
        if value.is_null() {
            continue;
        }
        let inner = if path.is_empty() { (*name).to_owned() } else { format!("{path}.{name}") };
        if let Some(value) = field(value, *kind, &inner, violations)
            && out.insert((*name).to_owned(), value).is_some()
        {
            // Both spellings of one field.
            violations.push((inner.clone(), format!("Invalid value at '{inner}', field is already set.")));
        }
    }
    Some(Value::Object(out))
}

fn field(value: Value, kind: Kind, path: &str, violations: &mut Violations) -> Option<Value> {
    let expected = match kind {
        Text if value.is_string() => return Some(value),
        Bool if value.is_boolean() => return Some(value),
        Int if whole_number(&value) => return Some(value),
        Float if value.is_number() => return Some(value),
        Free if value.is_object() => return Some(value),
        Enum(_, names) if is_one_of(&value, names) => return Some(value),
        Duration if value.as_str().and_then(duration_ms).is_some() => return Some(value),
        Time if value.as_str().is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok()) => {
            return Some(value);
        }
        Message(name, fields) => return message(value, name, fields, path, violations),
        TextMap => return text_map(value, path, violations),
        Texts => return list(value, Text, path, violations),
        Durations => return list(value, Duration, path, violations),
        Text => "TYPE_STRING".to_owned(),
        Bool => "TYPE_BOOL".to_owned(),
        Int => "TYPE_INT32".to_owned(),
        Float => "TYPE_FLOAT".to_owned(),
        Free => "type.googleapis.com/google.protobuf.Struct".to_owned(),
        Duration => "type.googleapis.com/google.protobuf.Duration".to_owned(),
        Time => "type.googleapis.com/google.protobuf.Timestamp".to_owned(),
        Enum(name, _) => format!("type.googleapis.com/google.firebase.fcm.v1.{name}"),
    };
    wrong(path, &expected, &value, violations);
    None
}

/// Google names a map's entry by its place: `message.data[0].value`.
fn text_map(value: Value, path: &str, violations: &mut Violations) -> Option<Value> {
    let Value::Object(map) = value else {
        wrong(path, "Map", &value, violations);
        return None;
    };
    for (index, value) in map.values().enumerate() {
        if !value.is_string() {
            wrong(&format!("{path}[{index}].value"), "TYPE_STRING", value, violations);
        }
    }
    Some(Value::Object(map))
}

fn list(value: Value, kind: Kind, path: &str, violations: &mut Violations) -> Option<Value> {
    let Value::Array(items) = value else {
        // Proto's JSON reading takes a single value for a list of one.
        return field(value, kind, path, violations).map(|value| Value::Array(vec![value]));
    };
    let mut out = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        out.extend(field(item, kind, &format!("{path}[{index}]"), violations));
    }
    Some(Value::Array(out))
}

fn wrong(path: &str, expected: &str, value: &Value, violations: &mut Violations) {
    violations.push((path.to_owned(), format!("Invalid value at '{path}' ({expected}), {value}")));
}

fn whole_number(value: &Value) -> bool {
    let number = value.as_i64().or_else(|| value.as_str()?.parse().ok());
    number.is_some_and(|number| i32::try_from(number).is_ok())
}

/// Names in any case (the official SDKs send `priority` in lower case), or the number of one.
fn is_one_of(value: &Value, names: &[&str]) -> bool {
    match value {
        Value::String(text) => names.iter().any(|name| name.eq_ignore_ascii_case(text)),
        Value::Number(number) => number.as_u64().is_some_and(|number| (number as usize) < names.len()),
        _ => false,
    }
}

/// Whether `key` is the lowerCamelCase form of the snake_case `name`.
fn is_camel_of(key: &str, name: &str) -> bool {
    let mut key = key.bytes();
    let mut raise = false;
    for byte in name.bytes() {
        if byte == b'_' {
            raise = true;
            continue;
        }
        let expected = if raise { byte.to_ascii_uppercase() } else { byte };
        raise = false;
        if key.next() != Some(expected) {
            return false;
        }
    }
    key.next().is_none()
}

/// Milliseconds of a proto Duration in its JSON form: seconds, up to nine decimals, an `s`.
pub(super) fn duration_ms(text: &str) -> Option<i64> {
    let number = text.strip_suffix('s')?;
    let (negative, number) = number.strip_prefix('-').map_or((false, number), |rest| (true, rest));
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 9 || whole.len() > 12 {
        return None;
    }
    let whole: i64 = whole.parse().ok()?;
    let millis: i64 = format!("{decimals:0<3}")[..3].parse().ok()?;
    let total = whole * 1000 + millis;
    // A rest below a millisecond still makes a negative duration negative and a too long one too long.
    let rest = decimals.len() > 3 && decimals[3..].bytes().any(|byte| byte != b'0');
    let total = total + i64::from(rest);
    Some(if negative { -total } else { total })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_seconds_with_up_to_nine_decimals_and_an_s() {
        for (text, millis) in [
            ("3.500000000s", Some(3500)),
            ("60s", Some(60_000)),
            ("0s", Some(0)),
            ("-1s", Some(-1000)),
            ("0.0000000001s", None),
            ("60", None),
            ("s", None),
            ("1e3s", None),
            (" 1s", None),
        ] {
            assert_eq!(duration_ms(text), millis, "{text}");
        }
    }

    #[test]
    fn both_spellings_of_a_name_are_read() {
        assert!(is_camel_of("collapseKey", "collapse_key"));
        assert!(is_camel_of("androidV2", "android_v2"));
        assert!(is_camel_of("token", "token"));
        assert!(!is_camel_of("CollapseKey", "collapse_key"));
        assert!(!is_camel_of("collapseKeys", "collapse_key"));
    }
}
