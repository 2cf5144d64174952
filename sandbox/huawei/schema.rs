//! The fields of a request and their JSON types (HMSCore "https-send-api"; types of the Python demo 8ce3533).
//!
//! A field that stands in no table is refused here, though Huawei may well ignore it: a sender that misspells a field
//! should learn it from a twin.

use serde_json::{Map, Value};

use super::codes::Refusal;

/// What a field holds.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Text,
    Flag,
    Number,
    Texts,
    Object(&'static [Field]),
    Objects(&'static [Field]),
    /// An object whose inside is not checked.
    Anything,
}

use Kind::{Anything, Flag, Number, Object, Objects, Text, Texts};

type Field = (&'static str, Kind);

/// The whole request.
pub(super) const REQUEST: &[Field] =
    &[("validate_only", Flag), ("message", Object(MESSAGE)), ("review", Objects(REVIEW))];

const REVIEW: &[Field] = &[("reviewer", Text), ("type", Number), ("result", Number)];

const MESSAGE: &[Field] = &[
    ("data", Text),
    ("notification", Object(&[("title", Text), ("body", Text), ("image", Text)])),
    ("android", Object(ANDROID)),
    ("apns", Anything),
    ("webpush", Anything),
    ("token", Texts),
    ("topic", Text),
    ("condition", Text),
];

const ANDROID: &[Field] = &[
    ("collapse_key", Number),
    ("category", Text),
    ("urgency", Text),
    ("ttl", Text),
    ("bi_tag", Text),
    ("receipt_id", Text),
    ("target_user_type", Number),
    ("fast_app_target", Number),
    ("data", Text),
    ("notification", Object(NOTIFICATION)),
];

const NOTIFICATION: &[Field] = &[
    ("title", Text),
    ("body", Text),
    ("icon", Text),
    ("color", Text),
    ("sound", Text),
    ("default_sound", Flag),
    ("tag", Text),
    ("click_action", Object(CLICK_ACTION)),
    ("body_loc_key", Text),
    ("body_loc_args", Texts),
    ("title_loc_key", Text),
    ("title_loc_args", Texts),
    ("multi_lang_key", Anything),
    ("channel_id", Text),
    ("notify_summary", Text),
    ("image", Text),
    ("style", Number),
    ("big_title", Text),
    ("big_body", Text),
    ("auto_clear", Number),
    ("auto_cancel", Flag),
    ("notify_id", Number),
    ("group", Text),
    ("badge", Object(&[("add_num", Number), ("set_num", Number), ("class", Text)])),
    ("ticker", Text),
    ("when", Text),
    ("importance", Text),
    ("use_default_vibrate", Flag),
    ("use_default_light", Flag),
    ("vibrate_config", Texts),
    ("visibility", Text),
    ("light_settings", Anything),
    ("foreground_show", Flag),
    ("profile_id", Text),
    ("inbox_content", Texts),
    ("buttons", Objects(BUTTON)),
];

const CLICK_ACTION: &[Field] =
    &[("type", Number), ("intent", Text), ("action", Text), ("url", Text), ("rich_resource", Text)];

const BUTTON: &[Field] =
    &[("name", Text), ("action_type", Number), ("intent_type", Number), ("intent", Text), ("data", Text)];

/// Checks an object against its table; the error names the field.
pub(super) fn check(object: &Map<String, Value>, fields: &[Field], path: &str) -> Result<(), Refusal> {
    for (name, value) in object.iter().filter(|(_, value)| !value.is_null()) {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let Some((_, kind)) = fields.iter().find(|(known, _)| known == name) else {
            return Err(wrong(&path, "is not known"));
        };
        let fits = match kind {
            Text => value.is_string(),
            Flag => value.is_boolean(),
            Number => value.is_i64(),
            Texts => value.as_array().is_some_and(|all| all.iter().all(Value::is_string)),
            Anything => value.is_object(),
            Object(inner) => match value.as_object() {
                Some(value) => {
                    check(value, inner, &path)?;
                    true
                }
                None => false,
            },
            Objects(inner) => match value.as_array() {
                Some(all) => {
                    for value in all.iter().filter_map(Value::as_object) {
                        check(value, inner, &path)?;
                    }
                    all.iter().all(Value::is_object)
                }
                None => false,
            },
        };
        if !fits {
            return Err(wrong(&path, "has the wrong type"));
        }
    }
    Ok(())
}

fn wrong(path: &str, what: &str) -> Refusal {
    Refusal::because("80100003", format!("Illegal payload, {path} {what}"))
}
