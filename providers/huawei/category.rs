//! The vendor's classification: what kind of message it is, and where and how loudly it shows.

use schemars::{Schema, json_schema};
use serde_json::{Value, json};

use crate::contract::{Category, Class, ConfigError, Content};
use crate::kit::settings::Fields;

/// The one category that needs no right.
pub(super) const MARKETING: &str = "MARKETING";

/// All that the vendor knows (HMSCore reference "AndroidConfig.category"). Each but MARKETING needs a granted right.
const CATEGORIES: [&str; 14] = [
    "IM",
    "VOIP",
    "SUBSCRIPTION",
    "TRAVEL",
    "HEALTH",
    "WORK",
    "ACCOUNT",
    "EXPRESS",
    "FINANCE",
    "DEVICE_REMINDER",
    "SYSTEM_REMINDER",
    "MAIL",
    "PLAY_VOICE",
    MARKETING,
];

/// What the vendor makes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way<'a> {
    /// Absent: the vendor's own guess decides, which is marketing until it has learned otherwise.
    pub(super) category: Option<&'a str>,
    pub(super) channel_id: Option<&'a str>,
    pub(super) importance: &'a str,
    pub(super) urgency: Option<&'a str>,
    pub(super) receipt_id: Option<&'a str>,
    pub(super) collapse_group: Option<i64>,
}

impl<'a> Way<'a> {
    /// The category decides; where it is silent, the message's class does.
    pub(super) fn of(content: &Content, category: Option<&'a Category>) -> Self {
        let settings = category.map(|category| &category.settings);
        let text = |name: &str| settings.and_then(|settings| settings.get(name)).and_then(Value::as_str);
        let category = text("category").or((content.class == Class::Marketing).then_some(MARKETING));
        let quiet = category == Some(MARKETING);
        Self {
            category,
            channel_id: text("channel_id"),
            importance: text("importance").unwrap_or(if quiet { "LOW" } else { "NORMAL" }),
            urgency: text("urgency"),
            receipt_id: text("receipt_id"),
            collapse_group: settings
                .and_then(|settings| settings.get("collapse_group"))
                .and_then(Value::as_i64),
        }
    }

    /// As the vendor's quotas name it.
    pub(super) fn class(&self) -> &'static str {
        match self.category {
            Some(MARKETING) => "marketing",
            Some(_) => "classified",
            None => "unclassified",
        }
    }
}

/// Checks a category's settings; all mistakes at once.
pub(super) fn check(settings: &Value) -> Result<(), ConfigError> {
    let mut fields = Fields::new(settings, "");
    fields.one_of("category", &CATEGORIES);
    fields.optional_text("channel_id");
    fields.one_of("importance", &["LOW", "NORMAL"]);
    fields.one_of("urgency", &["HIGH", "NORMAL"]);
    fields.optional_text("receipt_id");
    if let Some(group) = fields.value("collapse_group")
        && !group.as_i64().is_some_and(|group| (0..=100).contains(&group))
    {
        fields.mistake::<()>("collapse_group", "must be a number from 0 to 100");
    }
    fields.finish()
}

/// The JSON Schema of a category's settings.
pub(super) fn schema() -> Schema {
    let text = |title: &str, description: &str, example: &str| json!({"title": title, "description": description, "type": "string", "minLength": 1, "examples": [example]});
    json_schema!({
        "title": "Huawei",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "category": {
                "title": "Category",
                "description": "The kind of message, as granted in AppGallery Connect → Push Kit → Settings → \
                                self-classification. Left out: marketing for marketing, else Huawei's own guess.",
                "type": "string",
                "enum": CATEGORIES,
                "examples": ["EXPRESS"]
            },
            "channel_id": text("Channel id", "The notification channel that the app has made.", "orders"),
            "importance": {
                "title": "Importance",
                "description": "LOW shows silently, NORMAL with sound. Left out: LOW for marketing, else NORMAL.",
                "type": "string",
                "enum": ["LOW", "NORMAL"],
                "examples": ["NORMAL"]
            },
            "urgency": {
                "title": "Urgency of data messages",
                "description": "HIGH needs a right; without it the message is refused.",
                "type": "string",
                "enum": ["HIGH", "NORMAL"],
                "examples": ["NORMAL"]
            },
            "receipt_id": text(
                "Receipt configuration",
                "Which of the console's receipt configurations reports, if not the channel's.",
                "RCP1A2B3C"
            ),
            "collapse_group": {
                "title": "Collapse group",
                "description": "While a phone is offline only the newest message of a group waits for it (0: of all \
                                messages). For messages with a collapse key.",
                "type": "integer",
                "minimum": 0,
                "maximum": 100,
                "examples": [1]
            }
        }
    })
}
