//! The vendor's message and reply as on the wire (HMSCore reference "https-send-api"; the vendor's Python demo 8ce3533).

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The most tokens of one request.
pub(super) const MAX_TARGETS: usize = 1000;

/// As the vendor's demo says it.
pub(super) const JSON: &str = "application/json;charset=utf-8";

/// A message without its tokens.
#[derive(Debug, Serialize)]
pub(super) struct Message<'a> {
    /// JSON in a text.
    pub(super) data: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) notification: Option<Notification<'a>>,
    pub(super) android: Android<'a>,
}

#[derive(Debug, Serialize)]
pub(super) struct Notification<'a> {
    pub(super) title: &'a str,
    pub(super) body: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) image: Option<&'a str>,
}

#[derive(Debug, Serialize)]
pub(super) struct Android<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) category: Option<&'a str>,
    /// Data messages only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) urgency: Option<&'a str>,
    /// Seconds and an `s`.
    pub(super) ttl: String,
    /// What waits for an offline phone: -1 everything, 0 the newest, 1 to 100 the newest of a group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) collapse_key: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) receipt_id: Option<&'a str>,
    /// 1: a test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) target_user_type: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) notification: Option<AndroidNotification<'a>>,
}

#[derive(Debug, Serialize)]
pub(super) struct AndroidNotification<'a> {
    pub(super) click_action: ClickAction,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) channel_id: Option<&'a str>,
    pub(super) importance: &'a str,
    /// A newer notification takes the place of an older one with the same number.
    pub(super) notify_id: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sound: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) default_sound: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) badge: Option<Badge<'a>>,
}

#[derive(Debug, Serialize, PartialEq, Eq)]
pub(super) struct ClickAction {
    /// 1: intent, 2: URL, 3: the app.
    #[serde(rename = "type")]
    pub(super) kind: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) intent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Badge<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) add_num: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) set_num: Option<u32>,
    pub(super) class: &'a str,
}

/// Any answer. What has another type than it should is read as missing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reply {
    code: Value,
    msg: Value,
    #[serde(rename = "requestId")]
    request_id: Value,
}

impl Reply {
    /// A text; a number is taken for one where it only makes things worse.
    pub(super) fn code(&self) -> Option<String> {
        match &self.code {
            Value::String(code) => Some(code.trim().to_owned()).filter(|code| !code.is_empty()),
            Value::Number(code) => Some(code.to_string()),
            _ => None,
        }
    }

    /// Whether the code is this, as the text that it should be.
    pub(super) fn says(&self, code: &str) -> bool {
        self.code == code
    }

    pub(super) fn words(&self) -> &str {
        self.msg.as_str().unwrap_or_default()
    }

    /// One for the whole request.
    pub(super) fn request_id(&self) -> Option<&str> {
        self.request_id.as_str().filter(|id| !id.trim().is_empty())
    }

    /// What a partial success says: JSON in a text.
    pub(super) fn partial(&self) -> Option<Partial> {
        serde_json::from_str(self.words()).ok()
    }
}

/// `{"success":3,"failure":1,"illegal_tokens":["…"]}`.
#[derive(Debug, Deserialize)]
pub(super) struct Partial {
    #[serde(default)]
    pub(super) success: Option<usize>,
    #[serde(default)]
    pub(super) failure: Option<usize>,
    pub(super) illegal_tokens: Vec<String>,
}

/// The token endpoint's HTTP 200.
#[derive(Deserialize)]
pub(super) struct AccessToken {
    pub(super) access_token: String,
    pub(super) expires_in: u64,
}

/// What the service account's key signs.
#[derive(Debug, Serialize)]
pub(super) struct Claims<'a> {
    pub(super) aud: &'static str,
    pub(super) iss: &'a str,
    pub(super) iat: u64,
    pub(super) exp: u64,
}
