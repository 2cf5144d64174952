//! Raw vendor fields of a message: what may be set.

use serde_json::Value;

/// The blocks that may be set. What says whom it goes to (`token`, `fid`, `topic`, `condition`, `name`) and what
/// the message itself says (`notification`, `data`) may not.
const BLOCKS: [&str; 4] = ["android", "apns", "webpush", "fcm_options"];

/// Fields within blocks that would change the target or drop what the gateway has put in.
const REFUSED: [(&str, &str, &str); 3] = [
    ("android", "data", "it would replace the message's data: use data"),
    ("webpush", "data", "it would replace the message's data: use data"),
    ("apns", "live_activity_token", "it would change the target"),
];

/// Headers that web push takes from a message; in this spelling.
const WEBPUSH_HEADERS: [&str; 3] = ["TTL", "Topic", "Urgency"];

/// Refuses what is not on the list, by its name.
pub(super) fn check(overrides: &Value) -> Result<(), String> {
    let blocks = overrides.as_object().ok_or("fcm must be an object")?;
    for (name, block) in blocks {
        if !BLOCKS.contains(&name.as_str()) {
            return Err(format!("fcm.{name} cannot be set; {} can", BLOCKS.join(", ")));
        }
        let Some(block) = block.as_object() else { return Err(format!("fcm.{name} must be an object")) };
        let refused = REFUSED.iter().find(|(at, field, _)| at == name && block.contains_key(*field));
        if let Some((_, field, why)) = refused {
            return Err(format!("fcm.{name}.{field} cannot be set: {why}"));
        }
        if let Some(headers) = block.get("headers") {
            check_headers(name, headers)?;
        }
    }
    Ok(())
}

fn check_headers(block: &str, headers: &Value) -> Result<(), String> {
    let at = format!("fcm.{block}.headers");
    let Some(headers) = headers.as_object() else { return Err(format!("{at} must be an object")) };
    for (name, value) in headers {
        let known = match block {
            "apns" => is_apns_header(name),
            "webpush" => WEBPUSH_HEADERS.contains(&name.as_str()),
            _ => false,
        };
        if !known {
            return Err(format!("{at}.{name} cannot be set"));
        }
        if !value.is_string() {
            return Err(format!("{at}.{name} must be a string"));
        }
    }
    Ok(())
}

fn is_apns_header(name: &str) -> bool {
    name.strip_prefix("apns-").is_some_and(|rest| {
        !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_names_a_target_or_a_credential_is_refused_by_name() {
        for (overrides, named) in [
            (json!({"token": "x"}), "fcm.token"),
            (json!({"fid": "x"}), "fcm.fid"),
            (json!({"topic": "x"}), "fcm.topic"),
            (json!({"condition": "x"}), "fcm.condition"),
            (json!({"name": "x"}), "fcm.name"),
            (json!({"notification": {}}), "fcm.notification"),
            (json!({"data": {}}), "fcm.data"),
            (json!({"androidV2": {}}), "fcm.androidV2"),
            (json!({"android": "x"}), "fcm.android"),
            (json!({"android": {"data": {}}}), "fcm.android.data"),
            (json!({"webpush": {"data": {}}}), "fcm.webpush.data"),
            (json!({"apns": {"live_activity_token": "x"}}), "fcm.apns.live_activity_token"),
            (json!({"apns": {"headers": {"authorization": "x"}}}), "fcm.apns.headers.authorization"),
            (json!({"apns": {"headers": {"apns-": "x"}}}), "fcm.apns.headers.apns-"),
            (json!({"apns": {"headers": {"apns-priority": 5}}}), "fcm.apns.headers.apns-priority"),
            (json!({"webpush": {"headers": {"Authorization": "x"}}}), "fcm.webpush.headers.Authorization"),
            (json!({"webpush": {"headers": []}}), "fcm.webpush.headers"),
            (json!({"android": {"headers": {"a": "x"}}}), "fcm.android.headers.a"),
            (json!([]), "fcm"),
        ] {
            let error = check(&overrides).unwrap_err();
            assert!(error.starts_with(named), "{overrides}: {error}");
        }
    }

    #[test]
    fn vendor_fields_of_each_platform_are_taken() {
        let overrides = json!({
            "android": {"notification": {"channel_id": "orders"}, "direct_boot_ok": true},
            "apns": {"headers": {"apns-topic": "a.b"}, "payload": {"aps": {"interruption-level": "active"}}},
            "webpush": {"headers": {"Urgency": "low"}, "notification": {"renotify": true}},
            "fcm_options": {"analytics_label": "x"}
        });
        assert_eq!(check(&overrides), Ok(()));
    }
}
