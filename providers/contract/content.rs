//! What a message says: vendor-neutral content, exactly as `openapi.yaml` names it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The content of one message, the same for every target of a batch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// What the system shows. Absent: a silent data message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notification: Option<Notification>,
    /// What the app gets. Keys beginning `anypush_` are reserved.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, String>,
    /// A newer message with the same key replaces an older one, in transit or on screen, as the vendor can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collapse_key: Option<String>,
    /// How urgently the phone is woken.
    #[serde(default)]
    pub priority: Priority,
    /// Whether a person waits for it. Vendors map it to their own classification.
    #[serde(default)]
    pub class: Class,
    /// Raw vendor fields by provider id, merged last. Each adapter allow-lists what it takes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub overrides: BTreeMap<String, Value>,
}

/// A visible notification.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notification {
    /// First line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Text below the title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Picture, an https URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Sound name in the app, or `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sound: Option<String>,
    /// Number on the app's icon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub badge: Option<Badge>,
    /// Name of a set of buttons that the app has registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actions_category: Option<String>,
    /// What a tap does. Absent: opens the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub click: Option<Click>,
}

/// How the number on the icon changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Badge {
    /// The number becomes this; 0 clears it.
    Set(u32),
    /// The number grows by this.
    Add(u32),
}

/// What a tap on the notification does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Click {
    /// The kind of target.
    pub open: ClickAction,
    /// The link; required for `deep_link` and `url`, absent for `app`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// The kind of target that a tap opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClickAction {
    /// The app's start screen.
    App,
    /// A link that the app handles itself.
    DeepLink,
    /// A web page.
    Url,
}

/// How urgently the phone is woken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Now, waking the phone.
    #[default]
    High,
    /// When it costs the phone little.
    Normal,
}

/// Whether a person waits for the message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// A person waits for it: login codes, orders, chat.
    #[default]
    Transactional,
    /// Everything else.
    Marketing,
}
