//! Raw vendor fields of a message: what may be set.

use serde_json::{Map, Value};

use super::push::PushType;

/// What the system reads ("Generating a remote notification" and the pages on live activities and widgets).
const APS: [&str; 22] = [
    "alert",
    "attributes",
    "attributes-type",
    "badge",
    "category",
    "content-available",
    "content-changed",
    "content-state",
    "dismissal-date",
    "event",
    "filter-criteria",
    "input-push-channel",
    "input-push-token",
    "interruption-level",
    "mutable-content",
    "relevance-score",
    "sound",
    "stale-date",
    "target-content-id",
    "thread-id",
    "timestamp",
    "url-args",
];

/// Headers that a message may set. Not among them: the topic (it would change the app), the id (it finds the delivery
/// again), the expiration (it is the TTL), the authorization.
const HEADERS: [&str; 3] = ["apns-collapse-id", "apns-priority", "apns-push-type"];

/// Longest `apns-collapse-id`.
pub(super) const MAX_COLLAPSE_ID: usize = 64;

/// Refuses what is not on the list, by its name.
pub(super) fn check(overrides: &Value) -> Result<(), String> {
    let blocks = overrides.as_object().ok_or("apns must be an object")?;
    for (name, block) in blocks {
        let Some(block) = block.as_object() else { return Err(format!("apns.{name} must be an object")) };
        match name.as_str() {
            "aps" => check_aps(block)?,
            "headers" => check_headers(block)?,
            _ => return Err(format!("apns.{name} cannot be set; aps and headers can")),
        }
    }
    Ok(())
}

fn check_aps(aps: &Map<String, Value>) -> Result<(), String> {
    match aps.keys().find(|name| !APS.contains(&name.as_str())) {
        Some(name) => Err(format!("apns.aps.{name} cannot be set; what the app shall get belongs into data")),
        None => Ok(()),
    }
}

fn check_headers(headers: &Map<String, Value>) -> Result<(), String> {
    for (name, value) in headers {
        let at = format!("apns.headers.{name}");
        if !HEADERS.contains(&name.as_str()) {
            return Err(format!("{at} cannot be set; {} can", HEADERS.join(", ")));
        }
        let Some(text) = value.as_str() else { return Err(format!("{at} must be a string")) };
        match name.as_str() {
            "apns-priority" if !matches!(text, "1" | "5" | "10") => {
                return Err(format!("{at} must be 1, 5 or 10"));
            }
            "apns-push-type" if PushType::named(text).is_none() => {
                return Err(format!("{at} is no push type"));
            }
            "apns-collapse-id" if !is_collapse_id(text) => {
                return Err(format!("{at} must be 1 to {MAX_COLLAPSE_ID} printable ASCII characters"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// What goes into the header as it is.
pub(super) fn is_collapse_id(text: &str) -> bool {
    (1..=MAX_COLLAPSE_ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_names_a_target_or_a_credential_is_refused_by_name() {
        for (overrides, named) in [
            (json!({"headers": {"authorization": "x"}}), "apns.headers.authorization"),
            (json!({"headers": {"apns-topic": "other.app"}}), "apns.headers.apns-topic"),
            (json!({"headers": {"apns-id": "x"}}), "apns.headers.apns-id"),
            (json!({"headers": {"apns-expiration": "0"}}), "apns.headers.apns-expiration"),
            (json!({"headers": {"apns-channel-id": "x"}}), "apns.headers.apns-channel-id"),
            (json!({"headers": {"apns-priority": "7"}}), "apns.headers.apns-priority"),
            (json!({"headers": {"apns-priority": 5}}), "apns.headers.apns-priority"),
            (json!({"headers": {"apns-push-type": "sms"}}), "apns.headers.apns-push-type"),
            (json!({"headers": {"apns-collapse-id": ""}}), "apns.headers.apns-collapse-id"),
            (json!({"headers": {"apns-collapse-id": "x".repeat(65)}}), "apns.headers.apns-collapse-id"),
            (json!({"headers": {"apns-collapse-id": "a\r\nb: c"}}), "apns.headers.apns-collapse-id"),
            (json!({"headers": []}), "apns.headers"),
            (json!({"aps": {"orderId": "x"}}), "apns.aps.orderId"),
            (json!({"aps": 1}), "apns.aps"),
            (json!({"payload": {}}), "apns.payload"),
            (json!({"token": "x"}), "apns.token"),
            (json!([]), "apns"),
        ] {
            let error = check(&overrides).unwrap_err();
            assert!(error.starts_with(named), "{overrides}: {error}");
        }
    }

    #[test]
    fn vendor_fields_are_taken() {
        let overrides = json!({
            "aps": {"interruption-level": "time-sensitive", "sound": {"critical": 1, "name": "a", "volume": 1.0}},
            "headers": {"apns-priority": "1", "apns-collapse-id": "mine", "apns-push-type": "liveactivity"}
        });
        assert_eq!(check(&overrides), Ok(()));
    }
}
