//! Content → the vendor's headers and body. Neither depends on the target, but for its id and topic: both are made
//! once for each kind of address in a batch.

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::HeaderValue;
use serde_json::{Map, Value};

use super::category::Settings;
use super::overrides::{self, is_collapse_id};
use super::push::PushType;
use super::wire::{Alert, Aps, Payload};
use crate::contract::{Badge, Batch, ClickAction, Content, Dropped, Notification, Priority};
use crate::kit::failure::Unsendable;
use crate::kit::merge::merge;

/// Keys that anypush sets beside `aps`: every app finds them under the same names, whatever vendor brought them.
const ID_KEY: &str = "anypush_id";
const OPEN_KEY: &str = "anypush_open";
const OPEN_VALUE_KEY: &str = "anypush_open_value";
/// The picture's address, for the app's service extension: the vendor has no field for it.
const IMAGE_KEY: &str = "anypush_image";

/// What all targets of one kind share.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rendered {
    pub(super) push_type: PushType,
    pub(super) priority: HeaderValue,
    pub(super) expiration: HeaderValue,
    pub(super) collapse_id: Collapse,
    pub(super) body: Bytes,
}

/// Under which name a newer notification replaces an older one.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Collapse {
    /// Under none.
    Never,
    /// As the caller says.
    Given(HeaderValue),
    /// Under the delivery's own key, so that a repeat of this delivery replaces itself on the screen.
    Delivery,
}

/// Renders what the targets of one kind share.
pub(super) fn render(batch: &Batch, kind: &str, now: SystemTime) -> Result<Rendered, Unsendable> {
    let content = &*batch.content;
    let above = content.overrides.get("apns");
    if let Some(above) = above {
        overrides::check(above).map_err(Unsendable::invalid)?;
    }
    let header = |name: &str| above.and_then(|above| above["headers"][name].as_str());
    let shown = content.notification.as_ref();
    let push_type = header("apns-push-type")
        .and_then(PushType::named)
        .unwrap_or_else(|| PushType::of(kind, shown.is_some()));
    check_content(content, push_type)?;
    let usual = match (push_type, content.priority) {
        // The vendor takes these at 5 only.
        (PushType::Background, _) | (_, Priority::Normal) => "5",
        (_, Priority::High) => "10",
    };
    let priority = header("apns-priority").unwrap_or(usual);
    if push_type == PushType::Background && priority == "10" {
        return Err(Unsendable::invalid("a silent notification cannot have apns-priority 10".to_owned()));
    }
    let collapse_id = match (header("apns-collapse-id"), content.collapse_key.as_deref()) {
        (Some(given), _) => Collapse::Given(to_header(given)?),
        (None, Some(key)) if is_collapse_id(key) => Collapse::Given(to_header(key)?),
        (None, Some(key)) => {
            Collapse::Given(to_header(&URL_SAFE_NO_PAD.encode(digest(&SHA256, key.as_bytes())))?)
        }
        (None, None) if push_type == PushType::Alert => Collapse::Delivery,
        (None, None) => Collapse::Never,
    };
    Ok(Rendered {
        push_type,
        priority: to_header(priority)?,
        expiration: to_header(&expiration(batch.ttl, now))?,
        collapse_id,
        body: body(batch, push_type, above.and_then(|above| above["aps"].as_object()), now)?,
    })
}

/// A delivery's key as its id: a UUID of version 8. The key is random enough to spare six bits.
pub(super) fn apns_id(key: u128) -> String {
    let key = key & !(0xf000_u128 << 64) & !(0xc000_u128 << 48) | (0x8000_u128 << 64) | (0x8000_u128 << 48);
    let hex = format!("{key:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// A delivery's key as its collapse id.
pub(super) fn key_text(key: u128) -> String {
    URL_SAFE_NO_PAD.encode(key.to_be_bytes())
}

/// What the message says and the body does not.
pub(super) fn dropped(content: &Content) -> Vec<Dropped> {
    let badge = content.notification.as_ref().and_then(|shown| shown.badge);
    let adds = matches!(badge, Some(Badge::Add(_)));
    let dropped = adds.then(|| Dropped {
        field: "/notification/badge".to_owned(),
        why: "no field adds to a number: it stays as it is".to_owned(),
    });
    dropped.into_iter().collect()
}

/// What each push type needs and refuses.
fn check_content(content: &Content, push_type: PushType) -> Result<(), Unsendable> {
    if content.data.contains_key("aps") {
        return Err(Unsendable::invalid("the data key aps is the vendor's".to_owned()));
    }
    if content.notification.is_some() && !push_type.shows() {
        let name = push_type.name();
        return Err(Unsendable::invalid(format!(
            "a notification cannot go as {name}, which takes data only"
        )));
    }
    if push_type == PushType::Mdm && !content.data.contains_key("mdm") {
        return Err(Unsendable::invalid("device management needs the data key mdm".to_owned()));
    }
    Ok(())
}

fn body(
    batch: &Batch,
    push_type: PushType,
    above: Option<&Map<String, Value>>,
    now: SystemTime,
) -> Result<Bytes, Unsendable> {
    let content = &*batch.content;
    let settings = Settings::of(batch.category.as_deref());
    let aps = match push_type {
        PushType::Mdm => None,
        _ => Some(aps(content.notification.as_ref(), &settings, push_type, now)),
    };
    let mut aps =
        aps.map(serde_json::to_value).transpose().map_err(|error| Unsendable::invalid(error.to_string()))?;
    if let (Some(Value::Object(below)), Some(above)) = (aps.as_mut(), above) {
        merge(below, above);
    }
    if push_type == PushType::LiveActivity {
        check_activity(aps.as_ref().unwrap_or(&Value::Null))?;
    }
    let payload = Payload { aps, data: data(batch, push_type) };
    let body = serde_json::to_vec(&payload).map_err(|error| Unsendable::invalid(error.to_string()))?;
    let max = push_type.max_bytes();
    if body.len() > max {
        return Err(Unsendable::too_large(body.len(), max));
    }
    Ok(body.into())
}

fn aps<'a>(
    shown: Option<&'a Notification>,
    settings: &Settings<'a>,
    push_type: PushType,
    now: SystemTime,
) -> Aps<'a> {
    let mut aps = match shown {
        Some(shown) => Aps {
            alert: (shown.title.is_some() || shown.body.is_some())
                .then_some(Alert { title: shown.title.as_deref(), body: shown.body.as_deref() }),
            badge: match shown.badge {
                Some(Badge::Set(number)) => Some(number),
                // No field adds to a number: routing says so as a gap.
                Some(Badge::Add(_)) | None => None,
            },
            sound: shown.sound.as_deref().or(settings.sound),
            category: shown.actions_category.as_deref().or(settings.actions_category),
            thread_id: settings.thread_id,
            interruption_level: settings.interruption_level,
            relevance_score: settings.relevance_score,
            // Lets the app's service extension fetch the picture.
            mutable_content: shown.image.as_ref().map(|_| 1),
            ..Aps::default()
        },
        None => Aps::default(),
    };
    match push_type {
        PushType::Background => aps.content_available = Some(1),
        PushType::Widgets | PushType::Controls => aps.content_changed = Some(true),
        PushType::LiveActivity => {
            aps.timestamp = Some(seconds(now));
            aps.event = Some("update");
        }
        _ => {}
    }
    aps
}

/// What a live activity shows is the app's own type: nothing of a message can stand for it.
fn check_activity(aps: &Value) -> Result<(), Unsendable> {
    let ends = aps["event"] == "end";
    if ends || aps["content-state"].is_object() {
        return Ok(());
    }
    Err(Unsendable::invalid("a live activity needs overrides.apns.aps.content-state".to_owned()))
}

fn data(batch: &Batch, push_type: PushType) -> Map<String, Value> {
    let content = &*batch.content;
    let mut data: Map<String, Value> =
        content.data.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
    if push_type == PushType::Mdm {
        // The system reads it, and no app: nothing of ours belongs there.
        return data;
    }
    data.insert(ID_KEY.to_owned(), batch.message.id.clone().into());
    if let Some(image) = content.notification.as_ref().and_then(|shown| shown.image.as_ref()) {
        data.insert(IMAGE_KEY.to_owned(), image.clone().into());
    }
    if let Some(click) = content.notification.as_ref().and_then(|shown| shown.click.as_ref()) {
        let open = match click.open {
            ClickAction::App => "app",
            ClickAction::DeepLink => "deep_link",
            ClickAction::Url => "url",
        };
        data.insert(OPEN_KEY.to_owned(), open.into());
        if let Some(value) = &click.value {
            data.insert(OPEN_VALUE_KEY.to_owned(), value.clone().into());
        }
    }
    data
}

/// The vendor wants a point in time; 0 means: now or never.
fn expiration(ttl: Duration, now: SystemTime) -> String {
    if ttl.as_secs() == 0 {
        return "0".to_owned();
    }
    (seconds(now) + ttl.as_secs()).to_string()
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn to_header(text: &str) -> Result<HeaderValue, Unsendable> {
    HeaderValue::try_from(text).map_err(|_| Unsendable::invalid("a header cannot carry this text".to_owned()))
}
