//! A request as the twin saw it, without what may differ between two that mean the same.

use serde_json::Value;

/// A recorded request. Equal: the same bytes, but for credentials.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    method: String,
    path: String,
    headers: Value,
    pub(crate) body: String,
    /// Whether it asked for an access token.
    is_token: bool,
}

impl Seen {
    /// Reads an entry of the sandbox's recording, which leaves credentials out.
    pub(crate) fn of(entry: &Value) -> Self {
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let body = text("body");
        let is_token = body.contains("grant_type=");
        Self { method: text("method"), path: text("path"), headers: entry["headers"].clone(), body, is_token }
    }

    /// Whether it is about a message: neither for an access token nor a question.
    pub(crate) fn concerns_a_message(&self) -> bool {
        self.method == "POST" && !self.is_token
    }

    /// Whether this text is anywhere in it, as it is or as a form or URL would write it.
    pub(crate) fn carries(&self, text: &str) -> bool {
        let encoded: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
        // JSON inside a form or inside a JSON string is escaped once more.
        let all = format!("{} {} {}", self.path, self.headers, self.body);
        all.contains(text) || all.contains(&encoded)
    }
}
