//! Content → the vendor's message. Built once per batch; tokens and tag are added for each request.

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Map, Value, json};

use super::category::Way;
use super::config::Config;
use super::overrides;
use super::wire::{Android, AndroidNotification, Badge, ClickAction, Message, Notification};
use crate::contract::{
    Badge as Number, Batch, Class, Click, ClickAction as Open, Content, Dropped, Notification as Shown,
};
use crate::kit::failure::Unsendable;
use crate::kit::merge::merge;

/// The whole body without its tokens (reference "https-send-api").
pub(super) const MAX_BYTES: usize = 4096;

/// Data keys that anypush sets: every app finds them under the same names, whatever vendor brought them.
const ID_KEY: &str = "anypush_id";
const OPEN_KEY: &str = "anypush_open";
const OPEN_VALUE_KEY: &str = "anypush_open_value";

/// A tag as long as those that the gateway makes, for measuring.
const LONGEST_TAG: &str = "--------------------------------";

/// What all requests of a batch share.
#[derive(Debug)]
pub(super) struct Rendered {
    message: Map<String, Value>,
    review: Option<Value>,
    pub(super) bytes: usize,
    pub(super) dropped: Vec<Dropped>,
}

/// Renders what all targets of a batch share.
pub(super) fn render(config: &Config, batch: &Batch) -> Result<Rendered, Unsendable> {
    let content = &*batch.content;
    let way = Way::of(content, batch.category.as_deref());
    let mut dropped = Vec::new();
    let notification = match &content.notification {
        Some(shown) => Some(notification(shown, &mut dropped)?),
        None => None,
    };
    let message = Message {
        data: data(batch),
        android: Android {
            category: way.category,
            urgency: content.notification.is_none().then(|| way.urgency.unwrap_or("NORMAL")),
            // "Illegal" below a second.
            ttl: format!("{}s", batch.ttl.as_secs().max(1)),
            // The vendor has a hundred groups for all messages of an app: a key of ours must not be hashed into
            // one, where it would throw away a stranger's message. The category says which group is meant.
            collapse_key: way.collapse_group.filter(|_| content.collapse_key.is_some()),
            receipt_id: way.receipt_id.or(config.receipt_id.as_deref()),
            target_user_type: config.test_messages.then_some(1),
            notification: content
                .notification
                .as_ref()
                .map(|shown| android(config, batch, shown, &way, &mut dropped))
                .transpose()?,
        },
        notification,
    };
    let Ok(Value::Object(mut message)) = serde_json::to_value(&message) else {
        return Err(Unsendable::invalid("the message is no JSON object"));
    };
    let mut review = None;
    if let Some(overrides) = content.overrides.get("huawei") {
        overrides::check(overrides).map_err(Unsendable::invalid)?;
        review = overrides.get("review").cloned();
        if let (Some(Value::Object(below)), Some(above)) =
            (message.get_mut("android"), overrides.get("android").and_then(Value::as_object))
        {
            merge(below, above);
        }
    }
    let mut rendered = Rendered { message, review, bytes: 0, dropped };
    rendered.bytes = rendered.body(&[], Some(LONGEST_TAG), false).to_string().len();
    if rendered.bytes > MAX_BYTES {
        return Err(Unsendable::too_large(rendered.bytes, MAX_BYTES));
    }
    Ok(rendered)
}

impl Rendered {
    /// The request's body. `tag` comes back in receipts.
    pub(super) fn body(&self, tokens: &[&str], tag: Option<&str>, validate_only: bool) -> Value {
        let mut message = self.message.clone();
        if let (Some(Value::Object(android)), Some(tag)) = (message.get_mut("android"), tag) {
            android.insert("bi_tag".to_owned(), json!(tag));
        }
        message.insert("token".to_owned(), json!(tokens));
        let mut body = json!({"validate_only": validate_only, "message": message});
        if let Some(review) = &self.review {
            body["review"] = review.clone();
        }
        body
    }
}

fn drop_note(field: &str, why: &str) -> Dropped {
    Dropped { field: field.to_owned(), why: why.to_owned() }
}

/// Both texts are required; one stands in for the other.
fn notification<'a>(shown: &'a Shown, dropped: &mut Vec<Dropped>) -> Result<Notification<'a>, Unsendable> {
    let said = |text: &'a Option<String>| text.as_deref().filter(|text| !text.trim().is_empty());
    let (title, body) = (said(&shown.title), said(&shown.body));
    let Some((title, body)) = title.or(body).zip(body.or(title)) else {
        return Err(Unsendable::invalid("Huawei shows nothing without a title and a text"));
    };
    let image = shown.image.as_deref().filter(|image| image.starts_with("https://"));
    if shown.image.is_some() && image.is_none() {
        dropped.push(drop_note("/notification/image", "Huawei takes https pictures only"));
    }
    if shown.actions_category.is_some() {
        dropped.push(drop_note("/notification/actions_category", "no field for a named set of buttons"));
    }
    Ok(Notification { title, body, image })
}

fn android<'a>(
    config: &'a Config,
    batch: &Batch,
    shown: &Shown,
    way: &Way<'a>,
    dropped: &mut Vec<Dropped>,
) -> Result<AndroidNotification<'a>, Unsendable> {
    let sound = shown.sound.as_deref().filter(|sound| *sound != "default");
    let badge = match (shown.badge, config.badge_class.as_deref()) {
        (None, _) => None,
        (Some(_), None) => {
            dropped.push(drop_note("/notification/badge", "the channel's badge_class is not set"));
            None
        }
        (Some(Number::Set(number)), Some(class)) => {
            Some(Badge { add_num: None, set_num: Some(number.min(99)), class })
        }
        (Some(Number::Add(number)), Some(class)) => {
            Some(Badge { add_num: Some(number.clamp(1, 99)), set_num: None, class })
        }
    };
    Ok(AndroidNotification {
        click_action: click(shown.click.as_ref(), dropped)?,
        channel_id: way.channel_id,
        importance: way.importance,
        // The message's own where no key is given: a repeat replaces itself.
        notify_id: notify_id(batch.content.collapse_key.as_deref().unwrap_or(&batch.message.id)),
        sound: sound.map(raw_resource),
        default_sound: sound.map(|_| false),
        badge,
    })
}

/// What the app gets: a JSON object of texts.
fn data(batch: &Batch) -> String {
    let content = &batch.content;
    let mut data: Map<String, Value> =
        content.data.iter().map(|(key, value)| (key.clone(), Value::String(value.clone()))).collect();
    let mut set = |key: &str, value: &str| data.insert(key.to_owned(), Value::String(value.to_owned()));
    set(ID_KEY, &batch.message.id);
    if let Some(click) = content.notification.as_ref().and_then(|shown| shown.click.as_ref()) {
        set(
            OPEN_KEY,
            match click.open {
                Open::App => "app",
                Open::DeepLink => "deep_link",
                Open::Url => "url",
            },
        );
        if let Some(value) = click.value.as_deref() {
            set(OPEN_VALUE_KEY, value);
        }
    }
    Value::Object(data).to_string()
}

/// Required in each notification.
fn click(click: Option<&Click>, dropped: &mut Vec<Dropped>) -> Result<ClickAction, Unsendable> {
    let app = ClickAction { kind: 3, intent: None, url: None };
    let Some(click) = click else { return Ok(app) };
    let value = click.value.as_deref().unwrap_or_default();
    match click.open {
        Open::App => Ok(app),
        Open::DeepLink => {
            let intent = intent(value)
                .ok_or_else(|| Unsendable::invalid("the tap has nowhere to go: click.value is no link"))?;
            Ok(ClickAction { kind: 1, intent: Some(intent), url: None })
        }
        Open::Url if value.starts_with("https://") => {
            Ok(ClickAction { kind: 2, intent: None, url: Some(value.to_owned()) })
        }
        Open::Url => {
            let why =
                "Huawei opens https pages only: the tap opens the app, which finds the link in its data";
            dropped.push(drop_note("/notification/click", why));
            Ok(app)
        }
    }
}

/// A deep link as an intent, in the form of the vendor's guide; an intent stays as it is.
fn intent(link: &str) -> Option<String> {
    if link.starts_with("intent:") {
        return Some(link.to_owned());
    }
    let (scheme, rest) = link.split_once(':')?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    is_scheme.then(|| format!("intent:{rest}#Intent;scheme={scheme};launchFlags=0x4000000;end"))
}

/// A sound is a raw resource of the app: its file's name without the extension.
fn raw_resource(sound: &str) -> String {
    if sound.starts_with('/') {
        return sound.to_owned();
    }
    format!("/raw/{}", sound.rsplit_once('.').map_or(sound, |(name, _)| name))
}

/// 1 to 2147483647, the same for the same name.
pub(super) fn notify_id(name: &str) -> u32 {
    let hash = digest(&SHA256, name.as_bytes());
    let number = hash.as_ref().iter().take(4).fold(0_u32, |number, byte| (number << 8) | u32::from(*byte));
    (number & 0x7fff_ffff).max(1)
}

/// A word about this content's class and the way it goes, for people.
pub(super) fn lint(config: &Config, content: &Content, way: &Way<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |text: &str| warnings.push(text.to_owned());
    match (content.class, way.class()) {
        (Class::Transactional, "marketing") => {
            warn(
                "a transactional message in category MARKETING shows silently and counts towards the phone's two a day",
            );
        }
        (Class::Marketing, "classified") => {
            warn(
                "marketing in a category for something else breaks Huawei's rules: the app's right may be taken away",
            );
        }
        (_, "unclassified") => {
            warn(
                "no category: Huawei counts it as marketing, two a day and phone, unless its own guess says otherwise",
            );
        }
        _ => {}
    }
    if content.notification.is_none() && way.urgency == Some("HIGH") {
        warn("urgency HIGH needs a right of the app; without it Huawei refuses the message (80300011)");
    }
    if content.notification.as_ref().is_some_and(|shown| shown.title.is_none()) {
        warn("there is no title: the text stands in its place");
    }
    if config.test_messages {
        warn("the channel sends test messages: 500 a day and app");
    }
    warnings
}
