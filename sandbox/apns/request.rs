//! What a request to send must be: headers and payload.

use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value};

use super::reasons::{Reason, reason};

/// Headers that may come once.
const HEADERS: [&str; 7] = [
    "authorization",
    "apns-id",
    "apns-topic",
    "apns-push-type",
    "apns-priority",
    "apns-expiration",
    "apns-collapse-id",
];
/// Push types with what their topics end in.
const PUSH_TYPES: [(&str, &str); 11] = [
    ("alert", ""),
    ("background", ""),
    ("location", ".location-query"),
    ("voip", ".voip"),
    ("complication", ".complication"),
    ("fileprovider", ".pushkit.fileprovider"),
    ("mdm", ""),
    ("liveactivity", ".push-type.liveactivity"),
    ("pushtotalk", ".voip-ptt"),
    ("widgets", ".push-type.widgets"),
    ("controls", ".push-type.controls"),
];
const MAX_COLLAPSE_ID: usize = 64;
const MAX_PAYLOAD: usize = 4096;
const MAX_VOIP_PAYLOAD: usize = 5120;
/// APNs stores a push for at most 30 days when no time was named.
const DEFAULT_STORAGE_MS: u64 = 30 * 24 * 3600 * 1000;

/// A request that was read.
#[derive(Debug)]
pub(super) struct Push {
    /// The bundle id: the topic without what its push type adds.
    pub(super) bundle: String,
    pub(super) kind: Option<&'static str>,
    pub(super) collapse_id: Option<String>,
    /// Until when it is kept for a phone that is away.
    pub(super) expires_at_ms: u64,
    pub(super) payload: Map<String, Value>,
}

/// The one value of a header; `Err` where it is no text.
fn text<'headers>(headers: &'headers HeaderMap, name: &str) -> Result<Option<&'headers str>, ()> {
    headers.get(name).map(HeaderValue::to_str).transpose().map_err(|_| ())
}

/// `apns-id` where it is a UUID, as text.
pub(super) fn message_id(headers: &HeaderMap) -> Result<Option<&str>, Reason> {
    let id = text(headers, "apns-id").map_err(|()| reason::BadMessageId)?;
    match id {
        Some(id) if !is_uuid(id) => Err(reason::BadMessageId),
        id => Ok(id),
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Reads and checks everything but who sent it. `topic` is what a certificate stands for where no header says it.
pub(super) fn read(
    headers: &HeaderMap,
    body: &[u8],
    topic: Option<&str>,
    now_ms: u64,
) -> Result<Push, Reason> {
    if HEADERS.iter().any(|name| headers.get_all(*name).iter().count() > 1) {
        return Err(reason::DuplicateHeaders);
    }
    let push_type = push_type(headers)?;
    let topic = text(headers, "apns-topic").map_err(|()| reason::BadTopic)?.or(topic);
    let topic = topic.filter(|topic| !topic.is_empty()).ok_or(reason::MissingTopic)?;
    let bundle = bundle(topic, push_type)?;
    priority(headers, push_type)?;
    let expires_at_ms = expiration(headers, now_ms)?;
    let collapse_id = text(headers, "apns-collapse-id").map_err(|()| reason::BadCollapseId)?;
    if collapse_id.is_some_and(|id| id.len() > MAX_COLLAPSE_ID) {
        return Err(reason::BadCollapseId);
    }
    Ok(Push {
        bundle: bundle.to_owned(),
        kind: push_type,
        collapse_id: collapse_id.map(str::to_owned),
        expires_at_ms,
        payload: payload(body, push_type)?,
    })
}

fn push_type(headers: &HeaderMap) -> Result<Option<&'static str>, Reason> {
    let Some(named) = text(headers, "apns-push-type").map_err(|()| reason::InvalidPushType)? else {
        return Ok(None);
    };
    let known = PUSH_TYPES.iter().find(|(known, _)| *known == named);
    known.map(|(known, _)| Some(*known)).ok_or(reason::InvalidPushType)
}

/// The bundle id of a topic.
fn bundle<'topic>(topic: &'topic str, push_type: Option<&str>) -> Result<&'topic str, Reason> {
    let is_topic = topic.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    let suffix =
        PUSH_TYPES.iter().find(|(known, _)| Some(*known) == push_type).map_or("", |(_, suffix)| *suffix);
    match topic.strip_suffix(suffix) {
        Some(bundle) if is_topic && !bundle.is_empty() => Ok(bundle),
        _ => Err(reason::BadTopic),
    }
}

fn priority(headers: &HeaderMap, push_type: Option<&str>) -> Result<(), Reason> {
    match text(headers, "apns-priority").map_err(|()| reason::BadPriority)? {
        None | Some("5") => Ok(()),
        Some("10" | "1") if push_type != Some("background") => Ok(()),
        Some(_) => Err(reason::BadPriority),
    }
}

fn expiration(headers: &HeaderMap, now_ms: u64) -> Result<u64, Reason> {
    match text(headers, "apns-expiration").map_err(|()| reason::BadExpirationDate)? {
        None => Ok(now_ms + DEFAULT_STORAGE_MS),
        // 0, and any time that is over: one attempt, nothing is stored.
        Some(seconds) => {
            let seconds: u64 = seconds.parse().map_err(|_| reason::BadExpirationDate)?;
            Ok(seconds.saturating_mul(1000))
        }
    }
}

fn payload(body: &[u8], push_type: Option<&str>) -> Result<Map<String, Value>, Reason> {
    let limit = if push_type == Some("voip") { MAX_VOIP_PAYLOAD } else { MAX_PAYLOAD };
    if body.is_empty() {
        return Err(reason::PayloadEmpty);
    }
    if body.len() > limit {
        return Err(reason::PayloadTooLarge);
    }
    serde_json::from_slice(body).map_err(|_| reason::PayloadEmpty)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(headers: &[(&'static str, &str)], body: &[u8]) -> Result<Push, Reason> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        read(&map, body, None, 1_000_000)
    }

    #[test]
    fn headers_and_payload_are_held_to_apples_rules() {
        let long = "x".repeat(65);
        let body = br#"{"aps":{}}"#;
        let topic = ("apns-topic", "com.example.app");
        for (headers, expected) in [
            (vec![], reason::MissingTopic),
            (vec![("apns-topic", "no topic")], reason::BadTopic),
            (vec![topic, topic], reason::DuplicateHeaders),
            (vec![topic, ("apns-push-type", "loud")], reason::InvalidPushType),
            (vec![topic, ("apns-push-type", "voip")], reason::BadTopic),
            (vec![topic, ("apns-priority", "7")], reason::BadPriority),
            (vec![topic, ("apns-push-type", "background"), ("apns-priority", "10")], reason::BadPriority),
            (vec![topic, ("apns-expiration", "soon")], reason::BadExpirationDate),
            (vec![topic, ("apns-collapse-id", long.as_str())], reason::BadCollapseId),
        ] {
            assert_eq!(verdict(&headers, body).unwrap_err(), expected, "{headers:?}");
        }
        assert_eq!(verdict(&[topic], b"").unwrap_err(), reason::PayloadEmpty);
        let payload = |bytes: usize| format!(r#"{{"x":"{}"}}"#, "a".repeat(bytes - 8)).into_bytes();
        assert!(verdict(&[topic], &payload(4096)).is_ok());
        assert_eq!(verdict(&[topic], &payload(4097)).unwrap_err(), reason::PayloadTooLarge);
        let voip = [("apns-topic", "com.example.app.voip"), ("apns-push-type", "voip")];
        let read = verdict(&voip, &payload(5120)).unwrap();
        assert_eq!(
            (read.bundle.as_str(), read.expires_at_ms),
            ("com.example.app", 1_000_000 + DEFAULT_STORAGE_MS)
        );
        assert_eq!(verdict(&voip, &payload(5121)).unwrap_err(), reason::PayloadTooLarge);
    }
}
