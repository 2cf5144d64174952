//! What a category of the app may say to this vendor. What a message says itself goes first.

use schemars::{Schema, json_schema};
use serde_json::{Map, Value};

use crate::contract::{Category, ConfigError};
use crate::kit::settings::Fields;

const LEVELS: [&str; 4] = ["passive", "active", "time-sensitive", "critical"];

/// The settings, as far as they are there.
#[derive(Debug, Default)]
pub(super) struct Settings<'a> {
    pub(super) interruption_level: Option<&'a str>,
    pub(super) relevance_score: Option<f64>,
    pub(super) thread_id: Option<&'a str>,
    pub(super) sound: Option<&'a str>,
    pub(super) actions_category: Option<&'a str>,
}

impl<'a> Settings<'a> {
    pub(super) fn of(category: Option<&'a Category>) -> Self {
        let Some(Category { settings, .. }) = category else { return Self::default() };
        let text = |name: &str| settings.get(name).and_then(Value::as_str);
        Self {
            interruption_level: text("interruption_level"),
            relevance_score: settings.get("relevance_score").and_then(Value::as_f64),
            thread_id: text("thread_id"),
            sound: text("sound"),
            actions_category: text("actions_category"),
        }
    }
}

/// All mistakes of a category's settings at once.
pub(super) fn check(settings: &Value) -> Result<(), ConfigError> {
    let mut fields = Fields::new(settings, "");
    fields.one_of("interruption_level", &LEVELS);
    if let Some(score) = fields.value("relevance_score")
        && !score.as_f64().is_some_and(|score| (0.0..=1.0).contains(&score))
    {
        fields.mistake::<()>("relevance_score", "must be a number from 0 to 1");
    }
    for name in ["thread_id", "sound", "actions_category"] {
        fields.optional_text(name);
    }
    fields.finish()
}

/// The same for people and forms.
pub(super) fn schema() -> Schema {
    let text = |title: &str, description: &str, example: &str| serde_json::json!({"title": title, "description": description, "type": "string", "examples": [example]});
    let mut properties = Map::new();
    properties.insert(
        "interruption_level".to_owned(),
        serde_json::json!({
            "title": "Interruption level",
            "description": "How much a notification may disturb. time-sensitive and critical need the app's \
                            entitlement.",
            "enum": LEVELS,
            "examples": ["time-sensitive"]
        }),
    );
    properties.insert(
        "relevance_score".to_owned(),
        serde_json::json!({
            "title": "Relevance",
            "description": "Which of the app's notifications stands first in a summary.",
            "type": "number", "minimum": 0, "maximum": 1, "examples": [0.8]
        }),
    );
    properties.insert(
        "thread_id".to_owned(),
        text("Thread", "Notifications with one thread are grouped.", "orders"),
    );
    properties.insert("sound".to_owned(), text("Sound", "A sound file of the app, or default.", "order.caf"));
    properties.insert(
        "actions_category".to_owned(),
        text("Buttons", "A set of buttons that the app has registered.", "ORDER"),
    );
    json_schema!({"type": "object", "additionalProperties": false, "properties": properties})
}
