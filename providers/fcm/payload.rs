//! Content → the vendor's message. Rendered once per batch; token and key are spliced in for each target.

use std::io;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::Value;

use super::category::Settings;
use super::overrides;
use super::wire::{
    Android, AndroidNotification, Apns, ApnsHeaders, ApnsPayload, Aps, FcmOptions, Message, Notification,
    Webpush, WebpushHeaders, WebpushOptions,
};
use crate::contract::{Address, Badge, Batch, ClickAction, Content, Priority};
use crate::kit::failure::Unsendable;
use crate::kit::merge::merge;

/// The vendor's limit (reference "Message"). What it counts is UNVERIFIED; see [`counted`].
pub(super) const MAX_BYTES: usize = 4096;

/// Data keys that anypush sets: every app finds them under the same names, whatever vendor brought them.
const ID_KEY: &str = "anypush_id";
const OPEN_KEY: &str = "anypush_open";
const OPEN_VALUE_KEY: &str = "anypush_open_value";

/// Length of a target's key in text, and of what stands for it until then.
const KEY_BYTES: usize = 22;

/// A message without its target: the text after the target's field, cut wherever the target's key belongs.
#[derive(Debug)]
pub(super) struct Rendered {
    pieces: Vec<String>,
    bytes: usize,
    /// As it counts against [`MAX_BYTES`].
    pub(super) counted: usize,
}

/// Renders the part of a batch that all its targets share.
pub(super) fn render(batch: &Batch, now: SystemTime) -> Result<Rendered, Unsendable> {
    let rendered = render_any(batch, now)?;
    rendered.fits().map(|()| rendered)
}

/// The same, however large it is.
pub(super) fn render_any(batch: &Batch, now: SystemTime) -> Result<Rendered, Unsendable> {
    let content = &*batch.content;
    check_data(content)?;
    let overrides = content.overrides.get("fcm");
    if let Some(overrides) = overrides {
        overrides::check(overrides).map_err(Unsendable::invalid)?;
    }
    // Stands for the key. Content that happens to contain it gets another one.
    for number in 0_u32..1000 {
        let marker = format!("~anypush-key-{number:09}");
        debug_assert_eq!(marker.len(), KEY_BYTES);
        let collapse = Collapse::of(content, &marker);
        let message = message(batch, &collapse, now);
        let (text, counted, expected) = match overrides {
            None => (to_text(&message)?, counted(&message), collapse.markers(content)),
            Some(overrides) => merged(&message, overrides, &marker)?,
        };
        let found = text.matches(&marker).count();
        if found != expected {
            continue;
        }
        // Without its opening brace: the target's field comes before.
        let rest = text.strip_prefix('{').unwrap_or(&text);
        let pieces = rest.split(marker.as_str()).map(ToOwned::to_owned).collect();
        return Ok(Rendered { pieces, bytes: text.len(), counted });
    }
    Err(Unsendable::invalid("the content imitates this adapter's markers".to_owned()))
}

impl Rendered {
    /// Whether the vendor takes as much.
    pub(super) fn fits(&self) -> Result<(), Unsendable> {
        if self.counted > MAX_BYTES { Err(Unsendable::too_large(self.counted, MAX_BYTES)) } else { Ok(()) }
    }

    /// The request's body for one target.
    pub(super) fn body(&self, address: &Address, key: u128, validate_only: bool) -> Vec<u8> {
        let token = address.token.expose();
        let mut body = Vec::with_capacity(self.bytes + token.len() + 64);
        body.extend_from_slice(if validate_only {
            b"{\"validate_only\":true,\"message\":{"
        } else {
            b"{\"message\":{"
        });
        // Firebase installation ids are taking the place of registration tokens; both still work.
        body.extend_from_slice(if address.kind == "fid" { b"\"fid\":" } else { b"\"token\":" });
        // Writing a string into a vector cannot fail.
        let _ = serde_json::to_writer(&mut body, token);
        body.push(b',');
        let key = key_text(key);
        for (index, piece) in self.pieces.iter().enumerate() {
            if index > 0 {
                body.extend_from_slice(key.as_bytes());
            }
            body.extend_from_slice(piece.as_bytes());
        }
        body.push(b'}');
        body
    }
}

/// A target's key as tag and collapse id: 22 characters of `[A-Za-z0-9_-]`.
pub(super) fn key_text(key: u128) -> String {
    URL_SAFE_NO_PAD.encode(key.to_be_bytes())
}

/// Under which name a newer message replaces an older one, for each of the vendor's four places.
struct Collapse<'a> {
    /// In transit to Android, where at most four names may wait per device: only what the caller gave.
    android: Option<&'a str>,
    /// On Android's screen.
    tag: &'a str,
    /// At Apple, 64 bytes at most, in a header.
    apns: std::borrow::Cow<'a, str>,
    /// At a web push service, 32 characters of `[A-Za-z0-9_-]` at most (RFC 8030 §5.4).
    topic: std::borrow::Cow<'a, str>,
}

impl<'a> Collapse<'a> {
    /// Without a collapse key the target's own key is taken, so that a repeat of this delivery replaces itself.
    fn of(content: &'a Content, marker: &'a str) -> Self {
        let Some(given) = content.collapse_key.as_deref() else {
            return Self { android: None, tag: marker, apns: marker.into(), topic: marker.into() };
        };
        let plain = given.bytes().all(|byte| byte.is_ascii_graphic());
        let word = given.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        let hash = || URL_SAFE_NO_PAD.encode(digest(&SHA256, given.as_bytes()));
        Self {
            android: Some(given),
            tag: given,
            apns: if plain && given.len() <= 64 { given.into() } else { hash().into() },
            topic: if word && given.len() <= 32 { given.into() } else { hash()[..32].to_owned().into() },
        }
    }

    /// In how many places the marker stands.
    fn markers(&self, content: &Content) -> usize {
        match (self.android, &content.notification) {
            (Some(_), _) => 0,
            (None, Some(_)) => 3,
            (None, None) => 2,
        }
    }
}

fn message<'a>(batch: &'a Batch, collapse: &'a Collapse<'a>, now: SystemTime) -> Message<'a> {
    let content = &*batch.content;
    let shown = content.notification.as_ref();
    let high = content.priority == Priority::High;
    let badge = match shown.and_then(|shown| shown.badge) {
        Some(Badge::Set(number)) => Some(number),
        // No field adds to a number: routing says so as a gap.
        Some(Badge::Add(_)) | None => None,
    };
    let mut data: std::collections::BTreeMap<&str, &str> =
        content.data.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    data.insert(ID_KEY, &batch.message.id);
    let mut link = None;
    if let Some(click) = shown.and_then(|shown| shown.click.as_ref()) {
        data.insert(OPEN_KEY, open_name(click.open));
        if let Some(value) = click.value.as_deref() {
            data.insert(OPEN_VALUE_KEY, value);
            link = is_web_link(value).then_some(value);
        }
    }
    let ttl = batch.ttl.as_secs();
    let settings = Settings::of(batch.category.as_deref());
    Message {
        notification: shown.map(|shown| Notification {
            title: shown.title.as_deref(),
            body: shown.body.as_deref(),
            image: shown.image.as_deref(),
        }),
        data,
        android: Android {
            collapse_key: collapse.android,
            priority: if high { "HIGH" } else { "NORMAL" },
            ttl: format!("{ttl}s"),
            notification: shown.map(|shown| AndroidNotification {
                channel_id: settings.channel_id,
                sound: shown.sound.as_deref().or(settings.sound),
                tag: collapse.tag,
                notification_count: badge,
            }),
        },
        apns: Apns {
            headers: apns_headers(content, &collapse.apns, expiration(batch.ttl, now)),
            payload: apns_payload(content, badge, &settings),
        },
        webpush: Webpush {
            headers: WebpushHeaders {
                ttl: ttl.to_string(),
                topic: &collapse.topic,
                urgency: if high { "high" } else { "normal" },
            },
            fcm_options: link.map(|link| WebpushOptions { link }),
        },
        fcm_options: batch
            .message
            .label
            .as_deref()
            .filter(|label| is_label(label))
            .map(|analytics_label| FcmOptions { analytics_label }),
    }
}

fn apns_headers<'a>(content: &Content, collapse_id: &'a str, expiration: String) -> ApnsHeaders<'a> {
    let silent = content.notification.is_none();
    let high = content.priority == Priority::High && !silent;
    ApnsHeaders {
        apns_collapse_id: collapse_id,
        apns_expiration: expiration,
        apns_priority: if high { "10" } else { "5" },
        apns_push_type: silent.then_some("background"),
    }
}

fn apns_payload<'a>(
    content: &'a Content,
    badge: Option<u32>,
    settings: &Settings<'a>,
) -> Option<ApnsPayload<'a>> {
    let aps = match &content.notification {
        // Apple takes a silent message at priority 5 only, and only with this flag.
        None => Aps { content_available: Some(1), ..Aps::default() },
        Some(shown) => Aps {
            badge,
            sound: shown.sound.as_deref().or(settings.sound),
            category: shown.actions_category.as_deref().or(settings.actions_category),
            thread_id: settings.thread_id,
            interruption_level: settings.interruption_level,
            content_available: None,
            // Lets the app's extension fetch the picture.
            mutable_content: shown.image.as_ref().map(|_| 1),
        },
    };
    (aps != Aps::default()).then_some(ApnsPayload { aps })
}

/// Apple wants a point in time; 0 means: now or never.
fn expiration(ttl: Duration, now: SystemTime) -> String {
    if ttl.as_secs() == 0 {
        return "0".to_owned();
    }
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    (now.as_secs() + ttl.as_secs()).to_string()
}

fn open_name(action: ClickAction) -> &'static str {
    match action {
        ClickAction::App => "app",
        ClickAction::DeepLink => "deep_link",
        ClickAction::Url => "url",
    }
}

/// Links that the vendor takes for browsers (reference "WebpushFcmOptions").
pub(super) fn is_web_link(link: &str) -> bool {
    link.starts_with("https://")
}

/// `[a-zA-Z0-9-_.~%]{1,50}` (reference "FcmOptions"); another label is left out rather than refused.
pub(super) fn is_label(label: &str) -> bool {
    (1..=50).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~%".contains(&byte))
}

/// Keys that the vendor refuses (reference "Message.data").
fn check_data(content: &Content) -> Result<(), Unsendable> {
    let reserved = |key: &str| {
        matches!(key, "from" | "message_type")
            || key.starts_with("google.")
            || key.starts_with("gcm.notification.")
    };
    match content.data.keys().find(|key| reserved(key)) {
        Some(key) => Err(Unsendable::invalid(format!("the data key {key} is reserved by FCM"))),
        None => Ok(()),
    }
}

/// The text, counted bytes and number of markers of a message with overrides laid over it.
fn merged(
    message: &Message<'_>,
    overrides: &Value,
    marker: &str,
) -> Result<(String, usize, usize), Unsendable> {
    let mut value = serde_json::to_value(message).map_err(|error| Unsendable::invalid(error.to_string()))?;
    if let (Some(below), Some(above)) = (value.as_object_mut(), overrides.as_object()) {
        merge(below, above);
    }
    let places = ["/android/notification/tag", "/apns/headers/apns-collapse-id", "/webpush/headers/Topic"];
    let markers =
        places.iter().filter(|place| value.pointer(place).and_then(Value::as_str) == Some(marker)).count();
    let platforms = [&value["android"], &value["apns"]["payload"], &value["webpush"]];
    let sizes = platforms.map(bytes_of);
    let counted =
        bytes_of(&value["notification"]) + bytes_of(&value["data"]) + sizes.into_iter().max().unwrap_or(0);
    Ok((to_text(&value)?, counted, markers))
}

/// What is held against [`MAX_BYTES`]: notification and data, and the largest of what the platforms get beside
/// them, as JSON; not the token, not Apple's headers. The vendor does not say what it counts: this is meant to be a
/// little more, so that it refuses before the vendor does. UNVERIFIED.
fn counted(message: &Message<'_>) -> usize {
    let platforms = [bytes_of(&message.android), bytes_of(&message.apns.payload), bytes_of(&message.webpush)];
    let largest = platforms.into_iter().max().unwrap_or(0);
    bytes_of(&message.notification) + bytes_of(&message.data) + largest
}

/// The length of `part` as JSON; nothing for what is absent.
fn bytes_of(part: &impl Serialize) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // A counter takes everything.
    let _ = serde_json::to_writer(&mut count, part);
    if count.0 == "null".len() { 0 } else { count.0 }
}

fn to_text(message: &impl Serialize) -> Result<String, Unsendable> {
    serde_json::to_string(message).map_err(|error| Unsendable::invalid(error.to_string()))
}
