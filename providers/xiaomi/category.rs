//! The vendor's classification: which notification channel a message goes through, private or public, and by which
//! template.

use std::collections::BTreeMap;

use schemars::{Schema, json_schema};
use serde_json::{Map, Value};

use super::config::Config;
use crate::contract::{Category, Class, ConfigError, Content};
use crate::kit::failure::Unsendable;
use crate::kit::settings::Fields;

/// The vendor's two classes of channel. Their names are those of the quotas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChannelClass {
    /// Approved by the vendor for messages that a person waits for; not counted.
    Private,
    /// Everything else: few a day.
    Public,
}

impl ChannelClass {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Public => "public",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::Private, Self::Public].into_iter().find(|class| class.name() == name)
    }
}

/// Values of a template may have so many variables (dev.mi.com pId=2314, 2026-06-02).
const MAX_VARIABLES: usize = 9;

/// Longest value of a template's variable, in characters (the same page).
const MAX_VALUE: usize = 128;

/// Which way a message goes at the vendor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way<'a> {
    pub(super) class: ChannelClass,
    /// Absent: the vendor's own default channel, where the app still has one.
    pub(super) channel_id: Option<&'a str>,
    pub(super) template_id: Option<&'a str>,
    /// Texts with names in braces.
    pub(super) template_param: BTreeMap<&'a str, &'a str>,
}

impl<'a> Way<'a> {
    /// The category decides; where it is silent, the message's class and the channel's settings do.
    pub(super) fn of(config: &'a Config, content: &Content, category: Option<&'a Category>) -> Self {
        let settings = category.map(|category| &category.settings);
        let text = |name: &str| settings.and_then(|settings| settings.get(name)).and_then(Value::as_str);
        let by_message = match content.class {
            // A transactional message may go through a public channel; the other way round is against the rules.
            Class::Transactional if config.private_channel_id.is_some() => ChannelClass::Private,
            _ => ChannelClass::Public,
        };
        let class = text("class").and_then(ChannelClass::named).unwrap_or(by_message);
        let own = match class {
            ChannelClass::Private => config.private_channel_id.as_deref(),
            ChannelClass::Public => config.public_channel_id.as_deref(),
        };
        let template_param = settings.and_then(|settings| settings.get("template_param")?.as_object());
        Self {
            class,
            channel_id: text("channel_id").or(own),
            template_id: text("template_id"),
            template_param: template_param
                .into_iter()
                .flatten()
                .filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
                .collect(),
        }
    }

    /// The template's values as the vendor wants them: a JSON object in a string.
    pub(super) fn template_values(&self, content: &Content) -> Result<Option<String>, Unsendable> {
        if self.template_param.is_empty() {
            return Ok(None);
        }
        let mut values = Map::new();
        for (name, text) in &self.template_param {
            let value = fill(text, content).map_err(|missing| {
                Unsendable::invalid(format!("the template's {name} needs {missing}, which the message lacks"))
            })?;
            check_value(name, &value)?;
            values.insert((*name).to_owned(), Value::String(value));
        }
        Ok(Some(Value::Object(values).to_string()))
    }
}

fn check_value(name: &str, value: &str) -> Result<(), Unsendable> {
    let length = value.chars().count();
    if value.trim().is_empty() || length > MAX_VALUE {
        let why =
            format!("the template's {name} has {length} characters; 1 to {MAX_VALUE} that are not blank fit");
        return Err(Unsendable::invalid(why));
    }
    Ok(())
}

/// One part of a text with names in braces.
enum Part<'a> {
    Text(&'a str),
    Name(&'a str),
}

/// Splits `{data.order} is on its way`. A brace that nobody closes is text.
fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        let Some((name, after)) = behind.split_once('}') else { break };
        parts.extend([Part::Text(before), Part::Name(name)]);
        rest = after;
    }
    parts.push(Part::Text(rest));
    parts
}

/// Puts the message's own words in place of names. The error is the name that nothing answers to.
fn fill(text: &str, content: &Content) -> Result<String, String> {
    let shown = content.notification.as_ref();
    parts(text).into_iter().try_fold(String::new(), |filled, part| {
        let piece = match part {
            Part::Text(text) => Some(text),
            Part::Name("title") => shown.and_then(|shown| shown.title.as_deref()),
            Part::Name("body") => shown.and_then(|shown| shown.body.as_deref()),
            Part::Name(name) => {
                let value = name.strip_prefix("data.").and_then(|key| content.data.get(key));
                Some(value.ok_or_else(|| name.to_owned())?.as_str())
            }
        };
        Ok(filled + piece.unwrap_or_default())
    })
}

fn is_known_name(name: &str) -> bool {
    matches!(name, "title" | "body") || name.strip_prefix("data.").is_some_and(|key| !key.is_empty())
}

/// Checks a category's settings; all mistakes at once.
pub(super) fn check(settings: &Value) -> Result<(), ConfigError> {
    let mut fields = Fields::new(settings, "");
    let channel_id = fields.optional_text("channel_id");
    let class = fields.optional_text("class");
    if class.is_some_and(|class| ChannelClass::named(class).is_none()) {
        fields.mistake::<()>("class", "must be private or public");
    }
    if channel_id.is_some() && class.is_none() {
        fields.mistake::<()>("class", "is required with channel_id: is that channel private or public?");
    }
    let template_id = fields.optional_text("template_id");
    if let Some(value) = fields.value("template_param") {
        if template_id.is_none() {
            fields.mistake::<()>("template_id", "is required with template_param");
        }
        check_template_param(&mut fields, value);
    }
    fields.finish()
}

fn check_template_param(fields: &mut Fields<'_>, value: &Value) {
    const NAME: &str = "template_param";
    let Some(param) = value.as_object() else {
        fields.mistake::<()>(NAME, "must be an object, variable to text");
        return;
    };
    if param.len() > MAX_VARIABLES {
        fields.mistake::<()>(NAME, format!("may have {MAX_VARIABLES} variables at most"));
    }
    for (variable, text) in param {
        let at = format!("{NAME}/{variable}");
        let Some(text) = text.as_str().filter(|text| !text.trim().is_empty()) else {
            fields.mistake::<()>(&at, "must be a text that is not blank");
            continue;
        };
        for part in parts(text) {
            if let Part::Name(name) = part
                && !is_known_name(name)
            {
                fields.mistake::<()>(&at, "may name {title}, {body} and {data.KEY} in braces, nothing else");
            }
        }
    }
}

/// The JSON Schema of a category's settings.
pub(super) fn schema() -> Schema {
    json_schema!({
        "title": "Xiaomi",
        "type": "object",
        "additionalProperties": false,
        "dependentRequired": {"channel_id": ["class"], "template_param": ["template_id"]},
        "properties": {
            "channel_id": {
                "title": "Channel id",
                "description": "The notification channel as approved on Xiaomi's developer site. Left out: the channel's \
                                own private or public one.",
                "type": "string",
                "minLength": 1,
                "examples": ["118442"]
            },
            "class": {
                "title": "Class of that channel",
                "description": "Private channels are approved for messages that a person waits for and have no daily cap; \
                                public ones reach a phone a few times a day. Left out: by the message's class.",
                "type": "string",
                "enum": ["private", "public"],
                "examples": ["private"]
            },
            "template_id": {
                "title": "Template id",
                "description": "Since June 2026 each message of a private channel needs one.",
                "type": "string",
                "minLength": 1,
                "examples": ["P10293"]
            },
            "template_param": {
                "title": "The template's variables",
                "description": "Variable to text. {title}, {body} and {data.KEY} stand for the message's own words.",
                "type": "object",
                "maxProperties": MAX_VARIABLES,
                "additionalProperties": {"type": "string", "minLength": 1},
                "examples": [{"order": "{data.order}"}]
            }
        }
    })
}
