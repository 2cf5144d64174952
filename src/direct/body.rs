//! What a message looks like on the wire.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use anypush_providers::contract::{Class, Content, Preview, Reason, Refusal};
use moka::future::Cache;
use serde::Serialize;

use super::auth::Phone;
use super::{DESCRIPTOR, cursor};
use crate::clock::rfc3339;
use crate::delivery::spec::Spec;
use crate::ids::{IdCodec, Kind};
use crate::store::InboxEntry;

/// Bytes of messages that are kept ready.
const KEPT_BYTES: u64 = 16 << 20;
/// Data keys that are the gateway's own.
const RESERVED: &str = "anypush_";

/// Messages in their wire form, without what differs from phone to phone: one message for 10,000 phones is parsed
/// once. Cloning shares it.
#[derive(Debug, Clone)]
pub(super) struct Bodies(Cache<(i64, u64), Arc<str>>);

impl Default for Bodies {
    fn default() -> Self {
        let weigh = |_: &(i64, u64), body: &Arc<str>| 64 + body.len() as u32;
        Self(Cache::builder().max_capacity(KEPT_BYTES).weigher(weigh).build())
    }
}

/// What all phones get of a message.
#[derive(Serialize)]
struct Shared<'a> {
    id: String,
    class: Class,
    #[serde(skip_serializing_if = "Option::is_none")]
    notification: Option<&'a anypush_providers::contract::Notification>,
    data: std::collections::BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    collapse_key: Option<&'a str>,
}

impl Bodies {
    /// The message as this phone gets it, a JSON object.
    pub(super) async fn message(&self, codec: &IdCodec, phone: &Phone, entry: &InboxEntry) -> String {
        // The hash keeps forms apart that differ for one message.
        let mut hash = DefaultHasher::new();
        entry.spec.hash(&mut hash);
        let key = (entry.message.0, hash.finish());
        let shared = self.0.get_with(key, async { shared(codec, entry) }).await;
        let cursor = cursor::encode(phone.device, phone.epoch, entry.pos);
        let expires_at = rfc3339(entry.expires_at);
        // Shared is an object: what is this phone's own goes in before its closing brace.
        let open = shared.strip_suffix('}').unwrap_or_default();
        format!(r#"{open},"pos":{},"cursor":"{cursor}","expires_at":"{expires_at}"}}"#, entry.pos)
    }
}

fn shared(codec: &IdCodec, entry: &InboxEntry) -> Arc<str> {
    let id = codec.encode(Kind::Message, entry.message);
    let spec = serde_json::from_str::<Spec>(&entry.spec).unwrap_or_else(|error| {
        // Handing out nothing would block all that comes after it.
        tracing::error!(message.id = id, %error, "a stored message cannot be read; phones get it empty");
        Spec::default()
    });
    text(id, entry.class, &spec.content).into()
}

/// What all phones get of a message, as JSON.
fn text(id: String, class: Class, content: &Content) -> String {
    let data = content.data.iter().filter(|(key, _)| !key.starts_with(RESERVED));
    let shared = Shared {
        id,
        class,
        notification: content.notification.as_ref(),
        data: data.map(|(key, value)| (key.as_str(), value.as_str())).collect(),
        collapse_key: content.collapse_key.as_deref(),
    };
    serde_json::to_string(&shared).unwrap_or_else(|_| "{}".to_owned())
}

/// What phones would get of a message of this size, which counts as the limit counts.
pub fn preview(id: &str, content: &Content, bytes: u32) -> Preview {
    let most = DESCRIPTOR.capabilities.max_payload_bytes;
    let refused = is_too_large(bytes).then(|| Refusal {
        reason: Reason::PayloadTooLarge,
        words: format!("the message has {bytes} bytes, {most} fit into an inbox"),
    });
    Preview {
        payload: serde_json::from_str(&text(id.to_owned(), content.class, content)).unwrap_or_default(),
        bytes,
        max_bytes: Some(most),
        refused,
        ..Preview::default()
    }
}

/// Whether a message of this size has no place in an inbox.
pub fn is_too_large(bytes: u32) -> bool {
    bytes > DESCRIPTOR.capabilities.max_payload_bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Id;

    #[tokio::test]
    async fn a_message_carries_its_content_and_the_phone_its_own_cursor() {
        let codec = IdCodec::new(&[1; 32]);
        let phone = Phone { device: 5, epoch: 2, ..Phone::default() };
        let spec = r#"{"content": {"notification": {"title": "\"Hi\"}"},
            "data": {"order": "42", "anypush_id": "x"}, "collapse_key": "k"}, "ttl_seconds": 60}"#;
        let entry = InboxEntry {
            pos: 9,
            message: Id(1 << 40),
            class: Class::Marketing,
            spec: spec.to_owned(),
            created_at: 0,
            expires_at: 1_767_225_600_000,
            variables: None,
        };
        let text = Bodies::default().message(&codec, &phone, &entry).await;
        let message: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = serde_json::json!({
            "id": codec.encode(Kind::Message, entry.message), "pos": 9, "class": "marketing",
            "cursor": cursor::encode(5, 2, 9), "notification": {"title": "\"Hi\"}"}, "data": {"order": "42"},
            "collapse_key": "k", "expires_at": "2026-01-01T00:00:00.000Z",
        });
        assert_eq!(message, expected);
    }
}
