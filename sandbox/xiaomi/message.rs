//! What Xiaomi allows in a message (D1559, read 2024-10-21, unless said otherwise).

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::apps::{App, Class};
use super::codes::Refusal;
use super::form::Form;

/// Targets of one request.
pub(super) const MAX_TARGETS: usize = 1000;
/// "Less than 50 characters", "less than 128 characters", "less than 4 KB".
const TITLE_CHARACTERS: usize = 50;
const DESCRIPTION_CHARACTERS: usize = 128;
const PAYLOAD_BYTES: usize = 4096;
/// Pairs of the sender's own, and characters of their keys and values.
const MAX_OWN_EXTRAS: usize = 10;
const MAX_OWN_EXTRA_CHARACTERS: usize = 1024;
const MAX_JOBKEY: usize = 20;
const MAX_CALLBACK: usize = 128;
const MAX_CALLBACK_PARAM: usize = 256;
const MAX_TEMPLATE_VARIABLES: usize = 9;
const MAX_TEMPLATE_VALUE: usize = 128;
const DAY_MS: u64 = 86_400_000;
const MAX_SCHEDULE_MS: u64 = 7 * DAY_MS;
/// What is delivered and clicked is reported where a sender names no types.
const DEFAULT_CALLBACK_TYPES: u64 = 3;
/// Every type that exists. Another bit in the mask turns receipts off without a word (CSDN, Xiaomi's support).
const CALLBACK_TYPES: u64 = 1 + 2 + 16 + 32 + 64 + 128 + 1024;

/// Extras that mean something to Xiaomi; all others are the app's own.
const KNOWN_EXTRAS: [&str; 21] = [
    "channel_id",
    "channel_name",
    "channel_description",
    "template_id",
    "template_param",
    "notify_effect",
    "intent_uri",
    "web_uri",
    "notify_foreground",
    "sound_uri",
    "sound_url",
    "ticker",
    "flow_control",
    "connpt",
    "jobkey",
    "only_send_once",
    "instant_notify",
    "callback",
    "callback.param",
    "callback.type",
    "class_name",
];
/// Families of such extras.
const KNOWN_PREFIXES: [&str; 4] = ["locale", "model", "app_version", "notification_"];

/// A message that may be sent.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Message {
    pub(super) title: String,
    pub(super) description: String,
    pub(super) payload: String,
    /// Two notifications with the same id stand on a screen as one, and without an id it is 0.
    pub(super) notify_id: String,
    pub(super) ttl_ms: u64,
    pub(super) extra: BTreeMap<String, String>,
    pub(super) class: Option<Class>,
}

/// Whom to tell what becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Callback {
    pub(super) url: String,
    pub(super) param: Option<String>,
    pub(super) types: u64,
    pub(super) jobkey: Option<String>,
}

/// The fields of a message before they are judged: from a form, or an element of `multi_messages`.
pub(super) struct Draft {
    fields: BTreeMap<String, String>,
    extra: BTreeMap<String, String>,
}

impl Draft {
    pub(super) fn of_form(form: &Form) -> Self {
        Self { fields: form.below(""), extra: form.below("extra.") }
    }

    /// In JSON extras are an object of their own, with plain keys.
    pub(super) fn of_json(message: &Map<String, Value>) -> Self {
        let texts = |object: &Map<String, Value>| {
            let texts = object.iter().filter_map(|(name, value)| {
                let text = match value {
                    Value::String(text) => text.clone(),
                    Value::Null | Value::Object(_) | Value::Array(_) => return None,
                    other => other.to_string(),
                };
                (!text.is_empty()).then(|| (name.clone(), text))
            });
            texts.collect()
        };
        let extra = message.get("extra").and_then(Value::as_object).map(texts).unwrap_or_default();
        Self { fields: texts(message), extra }
    }

    /// The gateway's id of the message: a value of the payload, or of the app's own extras.
    pub(super) fn message_id(&self) -> String {
        let payload: Value = serde_json::from_str(self.field("payload")).unwrap_or_default();
        let places = [&payload["anypush_id"], &payload["data"]["anypush_id"]];
        let found = places.into_iter().find_map(Value::as_str).or_else(|| self.extra("anypush_id"));
        found.unwrap_or_default().to_owned()
    }

    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    fn extra(&self, name: &str) -> Option<&str> {
        self.extra.get(name).map(String::as_str)
    }

    fn number<N: std::str::FromStr>(&self, name: &str, absent: N, code: i64) -> Result<N, Refusal> {
        match self.field(name) {
            "" => Ok(absent),
            text => text.parse().map_err(|_| Refusal::because(code, format!("{name} is invalid"))),
        }
    }

    /// Judges everything but the targets.
    pub(super) fn check(self, app: &App, several_packages: bool, now_ms: u64) -> Result<Message, Refusal> {
        self.check_package(app, several_packages)?;
        self.check_texts()?;
        // Transparent messages ended on 2022-09-12 (D1529). What is answered to one today is not known.
        if !matches!(self.field("pass_through"), "" | "0") {
            return Err(invalid("pass_through is not supported"));
        }
        if !(-1..=7).contains(&self.number("notify_type", -1_i64, 10_017)?) {
            return Err(invalid("notify_type is invalid"));
        }
        // Ids beyond 32 bits are sent by clients in use, so they are taken.
        if self.number("notify_id", 0_i64, 22_103)? < 0 {
            return Err(Refusal::new(22_103));
        }
        let at = self.number("time_to_send", 0, 10_017)?;
        if at > now_ms + MAX_SCHEDULE_MS {
            return Err(invalid("time_to_send is more than 7 days ahead"));
        }
        let class = self.check_channel(app)?;
        self.check_click()?;
        self.check_callback()?;
        self.check_own_extras()?;
        if let Some(jobkey) = self.extra("jobkey") {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
            if jobkey.len() > MAX_JOBKEY || jobkey.starts_with('_') || !jobkey.bytes().all(allowed) {
                return Err(invalid("jobkey is invalid"));
            }
        }
        // D1854: since 2024-09-03 public messages are kept a day at most, private ones ten.
        let most = if class == Some(Class::Private) { 10 * DAY_MS } else { DAY_MS };
        let ttl_ms = self.number("time_to_live", most, 10_017)?.min(most);
        let once = self.extra("only_send_once") == Some("1");
        let notify_id = self.field("notify_id");
        Ok(Message {
            title: self.field("title").to_owned(),
            description: self.field("description").to_owned(),
            payload: self.field("payload").to_owned(),
            notify_id: if notify_id.is_empty() { "0" } else { notify_id }.to_owned(),
            ttl_ms: if once { 0 } else { ttl_ms },
            class,
            extra: self.extra,
        })
    }

    fn check_package(&self, app: &App, several: bool) -> Result<(), Refusal> {
        let packages = self.field("restricted_package_name");
        if packages.is_empty() {
            return Err(Refusal::because(10_016, "restricted_package_name is required"));
        }
        let mut packages = packages.split(',').map(str::trim);
        let known = if several {
            packages.all(|package| app.has_package(package))
        } else {
            packages.next().is_some_and(|package| app.has_package(package)) && packages.next().is_none()
        };
        if known { Ok(()) } else { Err(Refusal::new(22_022)) }
    }

    fn check_texts(&self) -> Result<(), Refusal> {
        for (name, limit) in [("title", TITLE_CHARACTERS), ("description", DESCRIPTION_CHARACTERS)] {
            let text = self.field(name);
            if text.trim().is_empty() {
                return Err(Refusal::because(10_016, format!("{name} is required")));
            }
            if text.chars().count() >= limit {
                return Err(invalid(&format!("{name} is too long")));
            }
        }
        if self.field("payload").len() >= PAYLOAD_BYTES {
            return Err(Refusal::because(65_009, "payload is too long"));
        }
        Ok(())
    }

    fn check_channel(&self, app: &App) -> Result<Option<Class>, Refusal> {
        let Some(channel) = self.extra("channel_id") else {
            return if app.channel_required { Err(Refusal::new(27_001)) } else { Ok(None) };
        };
        let class = *app.channels.get(channel).ok_or_else(|| Refusal::new(27_001))?;
        match self.extra("template_id") {
            Some(template) => self.check_template(app, template)?,
            // D2314; the code is not known.
            None if class == Class::Private && app.template_required => {
                return Err(Refusal::because(10_016, "template_id is required"));
            }
            None => {}
        }
        Ok(Some(class))
    }

    /// D2314. Its refusals have codes of their own that could not be found.
    fn check_template(&self, app: &App, template: &str) -> Result<(), Refusal> {
        let wanted = *app.templates.get(template).ok_or_else(|| invalid("template_id is invalid"))?;
        let values: BTreeMap<String, String> = match self.extra("template_param") {
            Some(text) => serde_json::from_str(text).map_err(|_| invalid("template_param is invalid"))?,
            None => BTreeMap::new(),
        };
        let fits = |value: &String| {
            !value.trim().is_empty()
                && value.chars().count() <= MAX_TEMPLATE_VALUE
                && !value.chars().any(is_pictograph)
        };
        if values.len() != wanted || values.len() > MAX_TEMPLATE_VARIABLES || !values.values().all(fits) {
            return Err(invalid("template_param does not fit the template"));
        }
        Ok(())
    }

    fn check_click(&self) -> Result<(), Refusal> {
        let needs = match self.extra("notify_effect") {
            None | Some("1") => None,
            Some("2") => Some(["intent_uri", "class_name"]),
            Some("3") => Some(["web_uri", "web_uri"]),
            Some(_) => return Err(invalid("notify_effect is invalid")),
        };
        if needs.is_some_and(|names| names.iter().all(|name| self.extra(name).is_none())) {
            return Err(Refusal::because(10_016, "notify_effect lacks its target"));
        }
        if !matches!(self.extra("notify_foreground"), None | Some("0" | "1")) {
            return Err(invalid("notify_foreground is invalid"));
        }
        Ok(())
    }

    fn check_callback(&self) -> Result<(), Refusal> {
        if self.extra("callback.param").is_some_and(|param| param.len() > MAX_CALLBACK_PARAM) {
            return Err(Refusal::new(65_037));
        }
        if self.extra("callback.type").is_some_and(|types| types.parse::<u64>().is_err()) {
            return Err(Refusal::new(10_025));
        }
        match self.extra("callback") {
            Some(url) if url.len() > MAX_CALLBACK => Err(Refusal::new(65_036)),
            Some(url) if !url.starts_with("http://") && !url.starts_with("https://") => {
                Err(Refusal::new(65_038))
            }
            _ => Ok(()),
        }
    }

    fn check_own_extras(&self) -> Result<(), Refusal> {
        let known = |name: &str| {
            KNOWN_EXTRAS.contains(&name) || KNOWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        };
        let own = || self.extra.iter().filter(|(name, _)| !known(name));
        if own().count() > MAX_OWN_EXTRAS {
            return Err(Refusal::new(65_014));
        }
        let characters: usize = own().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
        if characters > MAX_OWN_EXTRA_CHARACTERS { Err(Refusal::new(65_015)) } else { Ok(()) }
    }
}

impl Message {
    /// Whom to tell, if anybody.
    pub(super) fn callback(&self) -> Option<Callback> {
        let extra = |name: &str| self.extra.get(name).cloned();
        let types = extra("callback.type").and_then(|types| types.parse().ok());
        let types = types.unwrap_or(DEFAULT_CALLBACK_TYPES);
        if types & !CALLBACK_TYPES != 0 {
            return None;
        }
        Some(Callback {
            url: extra("callback")?,
            param: extra("callback.param"),
            types,
            jobkey: extra("jobkey"),
        })
    }

    /// Whether phones show it: since 2024-09-30 only with a predefined click (D1856).
    pub(super) fn is_shown(&self) -> bool {
        self.extra.contains_key("notify_effect")
    }

    /// The app's own data: what the payload holds, if that is an object, and its own extras.
    pub(super) fn data(&self) -> Map<String, Value> {
        let mut data = match serde_json::from_str(&self.payload) {
            Ok(Value::Object(object)) => object,
            _ if self.payload.is_empty() => Map::new(),
            _ => Map::from_iter([("payload".to_owned(), Value::from(self.payload.as_str()))]),
        };
        for (name, value) in &self.extra {
            let known = KNOWN_EXTRAS.contains(&name.as_str());
            if !known && !KNOWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
                data.insert(name.clone(), value.as_str().into());
            }
        }
        data
    }
}

fn invalid(reason: &str) -> Refusal {
    Refusal::because(10_017, reason)
}

/// Emoji and symbol pictures, which no template value may have.
fn is_pictograph(c: char) -> bool {
    matches!(u32::from(c), 0x2190..=0x21ff | 0x2300..=0x27bf | 0x2b00..=0x2bff | 0xfe0f | 0x20e3 | 0x1_f000..=0x1_faff)
}
