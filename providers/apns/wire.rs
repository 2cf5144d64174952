//! The vendor's payload and reply as on the wire ("Generating a remote notification", "Handling notification responses
//! from APNs", read 2026-11-20).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The part of a payload that the system reads.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Aps<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) alert: Option<Alert<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) badge: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sound: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) category: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) thread_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) interruption_level: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) relevance_score: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mutable_content: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_available: Option<u8>,
    /// Widgets and controls: load anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_changed: Option<bool>,
    /// Live activities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timestamp: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) event: Option<&'static str>,
}

#[derive(Debug, Serialize)]
pub(super) struct Alert<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) body: Option<&'a str>,
}

/// The whole body: what the app gets stands beside `aps`.
#[derive(Debug, Serialize)]
pub(super) struct Payload {
    /// Absent for device management, which has no app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) aps: Option<Value>,
    #[serde(flatten)]
    pub(super) data: Map<String, Value>,
}

/// Any status but 200, and the debug data of a GOAWAY. What has another type than it should is read as missing.
#[derive(Debug, Deserialize)]
pub(super) struct Refused {
    pub(super) reason: Value,
    /// With 410: when the token was found dead, in milliseconds.
    #[serde(default)]
    pub(super) timestamp: Value,
}

/// What a provider token claims.
#[derive(Debug, Serialize)]
pub(super) struct Claims<'a> {
    pub(super) iss: &'a str,
    pub(super) iat: u64,
}
