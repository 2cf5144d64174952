//! What a category of the app may say to this vendor: a text of its own, an approved template, what the message is for.

use std::collections::BTreeMap;

use schemars::{Schema, json_schema};
use serde_json::Value;

use super::config::is_sid;
use crate::contract::{Category, ConfigError, Content};
use crate::kit::failure::Unsendable;
use crate::kit::settings::Fields;

/// What a message may be for (twilio-python 9.13).
pub(super) const INTENTS: [&str; 11] = [
    "otp",
    "notifications",
    "marketing",
    "fraud",
    "security",
    "customercare",
    "delivery",
    "education",
    "polling",
    "announcements",
    "events",
];

/// A category's settings, as far as they are there.
#[derive(Debug, Default)]
pub(super) struct Settings<'a> {
    pub(super) template: Option<&'a str>,
    pub(super) content_sid: Option<&'a str>,
    pub(super) content_variables: BTreeMap<&'a str, &'a str>,
    pub(super) message_intent: Option<&'a str>,
}

impl<'a> Settings<'a> {
    pub(super) fn of(category: Option<&'a Category>) -> Self {
        let Some(Category { settings, .. }) = category else { return Self::default() };
        let text = |name: &str| settings.get(name).and_then(Value::as_str);
        let variables = settings.get("content_variables").and_then(Value::as_object);
        Self {
            template: text("template"),
            content_sid: text("content_sid"),
            content_variables: variables
                .into_iter()
                .flatten()
                .filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
                .collect(),
            message_intent: text("message_intent"),
        }
    }
}

/// All mistakes of a category's settings at once.
pub(super) fn check(settings: &Value) -> Result<(), ConfigError> {
    let mut fields = Fields::new(settings, "");
    if let Some(Err(why)) = fields.optional_text("template").map(check_template) {
        fields.mistake::<()>("template", why);
    }
    let content_sid = fields.optional_text("content_sid");
    if content_sid.is_some_and(|sid| !is_sid(sid, "HX")) {
        fields.mistake::<()>("content_sid", "must be HX and 32 hexadecimal digits");
    }
    if let Some(variables) = fields.value("content_variables") {
        let wrong = match variables.as_object() {
            Some(variables) => variables.values().find_map(|value| {
                value.as_str().map_or(Some("must hold texts".to_owned()), |text| check_template(text).err())
            }),
            None => Some("must be an object: each variable's name with its text".to_owned()),
        };
        if let Some(why) = wrong {
            fields.mistake::<()>("content_variables", why);
        } else if content_sid.is_none() {
            fields.mistake::<()>("content_variables", "belongs to content_sid");
        }
    }
    fields.one_of("message_intent", &INTENTS);
    fields.finish()
}

/// `{{title}}`, `{{body}}`, `{{link}}` and `{{data.key}}` are replaced; everything else is text.
pub(super) fn fill(template: &str, content: &Content) -> Result<String, Unsendable> {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, behind)) = after.split_once("}}") else { break };
        text.push_str(before);
        let name = name.trim();
        let Some(value) = value(name, content) else {
            let why = format!("the category's template needs {name}, which the message does not have");
            return Err(Unsendable::invalid(why));
        };
        text.push_str(value);
        rest = behind;
    }
    text.push_str(rest);
    Ok(text)
}

fn value<'a>(name: &str, content: &'a Content) -> Option<&'a str> {
    let shown = content.notification.as_ref();
    match name {
        "title" => shown?.title.as_deref(),
        "body" => shown?.body.as_deref(),
        "link" => shown?.click.as_ref()?.value.as_deref(),
        _ => content.data.get(name.strip_prefix("data.")?).map(String::as_str),
    }
}

fn check_template(template: &str) -> Result<(), String> {
    let mut rest = template;
    while let Some((_, after)) = rest.split_once("{{") {
        let Some((name, behind)) = after.split_once("}}") else { return Err("has {{ without }}".to_owned()) };
        let name = name.trim();
        let known = matches!(name, "title" | "body" | "link")
            || name.strip_prefix("data.").is_some_and(|key| !key.is_empty());
        if !known {
            return Err("may name {{title}}, {{body}}, {{link}} and {{data.…}} only".to_owned());
        }
        rest = behind;
    }
    Ok(())
}

/// The same for people and forms.
pub(super) fn schema() -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "template": {
                "title": "Text",
                "description": "The text message, where it is not title and body. {{title}}, {{body}}, {{link}} and \
                                {{data.…}} stand for what the message says.",
                "type": "string",
                "examples": ["{{data.code}} is your code."]
            },
            "content_sid": {
                "title": "Content template",
                "description": "An approved template of the account (Content Template Builder), instead of a text.",
                "type": "string",
                "pattern": "^HX[0-9a-fA-F]{32}$",
                "examples": ["HX0123456789abcdef0123456789abcdef"]
            },
            "content_variables": {
                "title": "The template's variables",
                "description": "Each variable's name with its text; the same stand-ins as in the text.",
                "type": "object",
                "additionalProperties": {"type": "string"},
                "examples": [{"1": "{{data.code}}"}]
            },
            "message_intent": {
                "title": "Intent",
                "description": "What the message is for, as the vendor classifies it.",
                "enum": INTENTS,
                "examples": ["otp"]
            }
        }
    })
}
