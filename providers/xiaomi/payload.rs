//! Content → the vendor's form. Built once per batch; registration ids and the callback's parameter are added for
//! each request.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::time::Duration;

use super::category::{ChannelClass, Way};
use super::config::Config;
use super::overrides;
use super::wire::Form;
use crate::contract::{Batch, Click, ClickAction, Content, Dropped, Notification};
use crate::kit::failure::Unsendable;
use crate::kit::truncate::ellipsize_utf16;

/// "Less than 4 KB" (dev.mi.com pId=1559).
pub(super) const MAX_PAYLOAD_BYTES: usize = 4095;

/// "Less than 50" and "less than 128 characters, each counts 1" (pId=1559). Counted as Java does.
const MAX_TITLE: usize = 49;
const MAX_DESCRIPTION: usize = 127;

/// The longest that the vendor keeps a message of a public channel (pId=1854, since 2024-09-03).
const MAX_PUBLIC_TTL: Duration = Duration::from_hours(24);

/// Length of a job key (pId=1559).
const JOB_KEY_BYTES: usize = 20;

/// Data keys that anypush sets: every app finds them under the same names, whatever vendor brought them.
const ID_KEY: &str = "anypush_id";
const OPEN_KEY: &str = "anypush_open";
const OPEN_VALUE_KEY: &str = "anypush_open_value";

/// What all requests of a batch share.
#[derive(Debug)]
pub(super) struct Rendered {
    pub(super) form: Form,
    pub(super) payload_bytes: usize,
    pub(super) dropped: Vec<Dropped>,
}

/// Renders what all targets of a batch share.
pub(super) fn render(config: &Config, batch: &Batch) -> Result<Rendered, Unsendable> {
    let content = &*batch.content;
    let Some(shown) = &content.notification else {
        let why = "Xiaomi delivers no silent messages since 2022-09-12; say what to show";
        return Err(Unsendable::invalid(why));
    };
    let way = Way::of(config, content, batch.category.as_deref());
    let mut dropped = ignored(shown);
    let mut form = Form::default();
    form.set("restricted_package_name", config.package_name.as_str());
    form.set("pass_through", "0");
    texts(config, shown, &mut form, &mut dropped)?;
    let payload = payload(batch, shown);
    if payload.len() > MAX_PAYLOAD_BYTES {
        return Err(Unsendable::too_large(payload.len(), MAX_PAYLOAD_BYTES));
    }
    let payload_bytes = payload.len();
    form.set("payload", payload);
    // Sound, vibration and light: as the channel and the person allow.
    form.set("notify_type", "-1");
    // Without an id of its own a notification replaces the one before. The message's: a repeat replaces itself.
    form.set("notify_id", notify_id(content.collapse_key.as_deref().unwrap_or(&batch.message.id)));
    time_to_live(batch, way.class, &mut form, &mut dropped);
    if let Some(channel_id) = way.channel_id {
        form.set("extra.channel_id", channel_id);
    }
    if let Some(template_id) = way.template_id {
        form.set("extra.template_id", template_id);
    }
    if let Some(values) = way.template_values(content)? {
        form.set("extra.template_param", values);
    }
    click(shown.click.as_ref(), &mut form)?;
    if let Some(sound) = shown.sound.as_deref().and_then(|sound| sound_uri(config, sound)) {
        form.set("extra.sound_uri", sound);
    }
    // A phone shows the first message of a job key and drops the others: a repeat is not seen twice.
    form.set("extra.jobkey", job_key(&batch.message.id));
    if let Some(overrides) = content.overrides.get("xiaomi") {
        overrides::apply(overrides, &mut form)?;
    }
    Ok(Rendered { form, payload_bytes, dropped })
}

/// Both texts are required, and neither may be blank.
fn texts(
    config: &Config,
    shown: &Notification,
    form: &mut Form,
    dropped: &mut Vec<Dropped>,
) -> Result<(), Unsendable> {
    let said = |text: &'_ Option<String>| {
        text.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(ToOwned::to_owned)
    };
    let (title, body) = (said(&shown.title), said(&shown.body));
    let substitute = config.default_title.clone().or_else(|| body.clone());
    let Some((title, body)) = title.clone().or(substitute).zip(body.or(title)) else {
        return Err(Unsendable::invalid("Xiaomi shows nothing without a title and a text"));
    };
    for (name, pointer, text, max) in [
        ("title", "/notification/title", &title, MAX_TITLE),
        ("description", "/notification/body", &body, MAX_DESCRIPTION),
    ] {
        let cut = ellipsize_utf16(text, max);
        if let Cow::Owned(_) = cut {
            dropped.push(drop_note(pointer, format!("cut to {max} characters: Xiaomi takes no more")));
        }
        form.set(name, cut);
    }
    Ok(())
}

/// What a notification says and the vendor has no field for.
fn ignored(shown: &Notification) -> Vec<Dropped> {
    [
        (
            shown.image.is_some(),
            "/notification/image",
            "Xiaomi ignores pictures of single messages since August 2023",
        ),
        (shown.badge.is_some(), "/notification/badge", "no field for it: the phone counts by itself"),
        (
            shown.actions_category.is_some(),
            "/notification/actions_category",
            "no field for a named set of buttons",
        ),
    ]
    .into_iter()
    .filter(|(is_said, _, _)| *is_said)
    .map(|(_, field, why)| drop_note(field, why.to_owned()))
    .collect()
}

fn drop_note(field: &str, why: String) -> Dropped {
    Dropped { field: field.to_owned(), why }
}

/// What the app gets: a JSON object of texts.
fn payload(batch: &Batch, shown: &Notification) -> String {
    let mut data: Map<String, Value> =
        batch.content.data.iter().map(|(key, value)| (key.clone(), Value::String(value.clone()))).collect();
    let mut set = |key: &str, value: &str| data.insert(key.to_owned(), Value::String(value.to_owned()));
    set(ID_KEY, &batch.message.id);
    if let Some(click) = &shown.click {
        set(OPEN_KEY, open_name(click.open));
        if let Some(value) = click.value.as_deref() {
            set(OPEN_VALUE_KEY, value);
        }
    }
    Value::Object(data).to_string()
}

fn open_name(action: ClickAction) -> &'static str {
    match action {
        ClickAction::App => "app",
        ClickAction::DeepLink => "deep_link",
        ClickAction::Url => "url",
    }
}

/// Milliseconds; 0: only to phones that are connected now.
fn time_to_live(batch: &Batch, class: ChannelClass, form: &mut Form, dropped: &mut Vec<Dropped>) {
    if batch.ttl.is_zero() {
        form.set("extra.only_send_once", "1");
        return;
    }
    let mut ttl = batch.ttl;
    if class == ChannelClass::Public && ttl > MAX_PUBLIC_TTL {
        ttl = MAX_PUBLIC_TTL;
        let why = "Xiaomi keeps messages of public channels for a day at most";
        dropped.push(drop_note("/ttl_seconds", why.to_owned()));
    }
    form.set("time_to_live", ttl.as_millis().to_string());
}

/// Without an effect nothing is shown since 2024-09-30 (pId=1856).
fn click(click: Option<&Click>, form: &mut Form) -> Result<(), Unsendable> {
    let link = |click: &Click| {
        let value = click.value.clone().filter(|value| !value.is_empty());
        value.ok_or_else(|| Unsendable::invalid("the tap has nowhere to go: click.value is missing"))
    };
    match click.map(|click| (click, click.open)) {
        None | Some((_, ClickAction::App)) => form.set("extra.notify_effect", "1"),
        Some((click, ClickAction::DeepLink)) => {
            form.set("extra.notify_effect", "2");
            form.set("extra.intent_uri", link(click)?);
        }
        Some((click, ClickAction::Url)) => {
            form.set("extra.notify_effect", "3");
            form.set("extra.web_uri", link(click)?);
        }
    }
    Ok(())
}

/// A sound is a raw resource of the app: its file's name without the extension.
fn sound_uri(config: &Config, sound: &str) -> Option<String> {
    if sound == "default" {
        return None;
    }
    if sound.contains("://") {
        return Some(sound.to_owned());
    }
    let name = sound.rsplit_once('.').map_or(sound, |(name, _)| name);
    Some(format!("android.resource://{}/raw/{name}", config.package_name))
}

/// 1 to 2147483647, the same for the same name.
pub(super) fn notify_id(name: &str) -> String {
    let hash = digest(&SHA256, name.as_bytes());
    let number = hash.as_ref().iter().take(4).fold(0_u32, |number, byte| (number << 8) | u32::from(*byte));
    ((number & 0x7fff_ffff).max(1)).to_string()
}

/// 20 characters of `[0-9A-Za-z_-]`, the first a letter (the vendor refuses a leading `_`).
pub(super) fn job_key(message: &str) -> String {
    let mut key = String::from("m");
    key.push_str(&URL_SAFE_NO_PAD.encode(digest(&SHA256, message.as_bytes())));
    key.truncate(JOB_KEY_BYTES);
    key
}

/// A word about this content's class and the way it goes, for people.
pub(super) fn lint(config: &Config, content: &Content, way: &Way<'_>) -> Vec<String> {
    use crate::contract::Class::{Marketing, Transactional};
    let mut warnings = Vec::new();
    let mut warn = |text: &str| warnings.push(text.to_owned());
    match (content.class, way.class) {
        (Marketing, ChannelClass::Private) => {
            warn(
                "marketing in a private channel breaks Xiaomi's rules: the channel, or the app's right to push, may be taken away",
            );
        }
        (Transactional, ChannelClass::Public) => {
            warn(
                "a transactional message in a public channel counts towards the phone's five a day and may not be shown; name a private channel",
            );
        }
        _ => {}
    }
    if way.channel_id.is_none() {
        warn(
            "no notification channel: Xiaomi requires one, and shows one message a day and phone without it",
        );
    }
    if way.class == ChannelClass::Private && way.template_id.is_none() {
        warn(
            "since June 2026 Xiaomi wants a template for each message of a private channel; the category names none",
        );
    }
    if content.notification.as_ref().is_some_and(|shown| shown.title.is_none())
        && config.default_title.is_none()
    {
        warn("there is no title: the text stands in its place");
    }
    warnings
}
