//! The vendor's replies as on the wire (twilio-oai `twilio_api_v2010` of 2026-04-14, twilio-python 9.13). Requests are
//! forms, made in `payload.rs`.

use serde::Deserialize;
use serde_json::Value;

/// A message, as sending and fetching answer it.
#[derive(Debug, Deserialize)]
#[expect(clippy::struct_field_names, reason = "the vendor's names")]
pub(super) struct Message {
    pub(super) sid: String,
    #[serde(default)]
    pub(super) status: Option<String>,
    #[serde(default)]
    pub(super) error_code: Value,
    #[serde(default)]
    pub(super) error_message: Option<String>,
    #[serde(default)]
    pub(super) to: Option<String>,
    /// A number as a text; "0" until the vendor has counted.
    #[serde(default)]
    pub(super) num_segments: Option<String>,
    #[serde(default)]
    pub(super) price: Option<String>,
    #[serde(default)]
    pub(super) price_unit: Option<String>,
}

/// A refusal in either of its two shapes: the classic one has `message`, RFC 9457's has `title` and `detail`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Refused {
    #[serde(default)]
    pub(super) code: Value,
    #[serde(default)]
    pub(super) message: Option<String>,
    #[serde(default)]
    pub(super) title: Option<String>,
    #[serde(default)]
    pub(super) detail: Option<String>,
}

impl Refused {
    /// The vendor's words.
    pub(super) fn words(&self) -> &str {
        let said = [&self.detail, &self.message, &self.title];
        said.into_iter().flatten().find(|words| !words.is_empty()).map_or("", String::as_str)
    }
}

/// A code as a number, whether it came as one or as a text.
pub(super) fn code(value: &Value) -> Option<u32> {
    match value {
        Value::Number(number) => number.as_u64().and_then(|code| u32::try_from(code).ok()),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
    .filter(|code| *code != 0)
}
