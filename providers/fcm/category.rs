//! What a category of the app may say to this vendor: Android's notification channel, and what iPhones know of a
//! notification. What a message says itself goes first.

use schemars::{Schema, json_schema};
use serde_json::{Value, json};

use crate::contract::{Category, ConfigError};
use crate::kit::settings::Fields;

/// Apple's words ("Generating a remote notification").
const LEVELS: [&str; 4] = ["passive", "active", "time-sensitive", "critical"];

/// The settings, as far as they are there.
#[derive(Debug, Default)]
pub(super) struct Settings<'a> {
    pub(super) channel_id: Option<&'a str>,
    pub(super) sound: Option<&'a str>,
    pub(super) actions_category: Option<&'a str>,
    pub(super) thread_id: Option<&'a str>,
    pub(super) interruption_level: Option<&'a str>,
}

impl<'a> Settings<'a> {
    pub(super) fn of(category: Option<&'a Category>) -> Self {
        let Some(Category { settings, .. }) = category else { return Self::default() };
        let text = |name: &str| settings.get(name).and_then(Value::as_str);
        Self {
            channel_id: text("channel_id"),
            sound: text("sound"),
            actions_category: text("actions_category"),
            thread_id: text("thread_id"),
            interruption_level: text("interruption_level"),
        }
    }
}

/// All mistakes of a category's settings at once.
pub(super) fn check(settings: &Value) -> Result<(), ConfigError> {
    let mut fields = Fields::new(settings, "");
    fields.one_of("interruption_level", &LEVELS);
    for name in ["channel_id", "sound", "actions_category", "thread_id"] {
        fields.optional_text(name);
    }
    fields.finish()
}

/// The same for people and forms.
pub(super) fn schema() -> Schema {
    let text = |title: &str, description: &str, example: &str| json!({"title": title, "description": description, "type": "string", "examples": [example]});
    json_schema!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "channel_id": text(
                "Android channel",
                "The notification channel that the app has made; without such a one the app's default is used.",
                "orders"
            ),
            "sound": text("Sound", "A sound file of the app, or default.", "default"),
            "actions_category": text("Buttons on iPhones", "A set of buttons that the app has registered.", "ORDER"),
            "thread_id": text("Thread on iPhones", "Notifications with one thread are grouped.", "orders"),
            "interruption_level": {
                "title": "Interruption level on iPhones",
                "description": "How much a notification may disturb. time-sensitive and critical need the app's \
                                entitlement.",
                "enum": LEVELS,
                "examples": ["time-sensitive"]
            }
        }
    })
}
