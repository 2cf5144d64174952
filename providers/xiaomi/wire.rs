//! The vendor's forms and replies as on the wire (dev.mi.com pId=1559 of 2024-10-21). Everything in a reply may be
//! missing; what has another type than it should is read as missing.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use url::form_urlencoded::Serializer;

/// Where messages to registration ids go. v2 would work too; v3 is the current one.
pub(super) const SEND_PATH: &str = "/v3/message/regid";

/// What became of one message.
pub(super) const TRACE_PATH: &str = "/v1/trace/message/status";

/// What an app sent, day by day.
pub(super) const COUNTERS_PATH: &str = "/v1/stats/message/counters";

/// The vendor's own clients name the charset.
pub(super) const FORM: &str = "application/x-www-form-urlencoded;charset=UTF-8";

/// The most registration ids of one request (pId=1559).
pub(super) const MAX_TARGETS: usize = 1000;

/// The fields of a form, in the order in which they are sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Form(Vec<(&'static str, String)>);

impl Form {
    /// Sets a field.
    pub(super) fn set<'a>(&mut self, name: &'static str, value: impl Into<Cow<'a, str>>) {
        let value = value.into().into_owned();
        match self.0.iter_mut().find(|(at, _)| *at == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(at, _)| *at == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// The request's body. Registration ids are base64: their `+` must be escaped, or it becomes a blank.
    pub(super) fn encode(&self, registration_ids: &[&str], more: &[(&'static str, &str)]) -> String {
        let mut form = Serializer::new(String::new());
        form.append_pair("registration_id", &registration_ids.join(","));
        form.extend_pairs(self.fields()).extend_pairs(more);
        form.finish()
    }
}

/// Any answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reply {
    /// `ok` or `error`.
    result: Value,
    /// 0: accepted.
    code: Value,
    reason: Value,
    description: Value,
    info: Value,
    pub(super) data: Value,
}

impl Reply {
    pub(super) fn code(&self) -> Option<i64> {
        self.code.as_i64()
    }

    pub(super) fn is_ok(&self) -> bool {
        self.code() == Some(0) && self.result == "ok"
    }

    /// The vendor's words: the reason where it says one.
    pub(super) fn words(&self) -> &str {
        let all = [&self.reason, &self.description, &self.info];
        all.into_iter().filter_map(Value::as_str).find(|text| !text.trim().is_empty()).unwrap_or_default()
    }

    /// The id of the message, where there is one.
    pub(super) fn message_id(&self) -> Option<&str> {
        self.data.get("id").and_then(Value::as_str).filter(|id| !id.trim().is_empty())
    }

    /// Registration ids that the vendor calls wrong. Some clients read `bad_regids`, others `bad_regIds`.
    pub(super) fn bad_regids(&self) -> Vec<&str> {
        listed(self.named("bad_regids"))
    }

    /// Notification channels whose quota is used up, while the code is 0.
    pub(super) fn exceeded_channels(&self) -> Vec<&str> {
        listed(self.named("channel_exceed_quota"))
    }

    fn named(&self, name: &str) -> Option<&Value> {
        let data = self.data.as_object()?;
        data.iter().find_map(|(at, value)| at.eq_ignore_ascii_case(name).then_some(value))
    }
}

/// A list as text with commas, as an array, or as the keys of an object.
fn listed(value: Option<&Value>) -> Vec<&str> {
    let names: Vec<&str> = match value {
        Some(Value::String(text)) => text.split(',').collect(),
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
        Some(Value::Object(fields)) => fields.keys().map(String::as_str).collect(),
        _ => Vec::new(),
    };
    names.into_iter().map(str::trim).filter(|name| !name.is_empty()).collect()
}
