//! Content → the vendor's form. What all targets share is made once; recipient and report address are added for each.

use std::time::Duration;

use super::category::{Settings, fill};
use super::config::Config;
use super::overrides;
use crate::contract::{Batch, Content, Dropped, Reason, Target};
use crate::kit::failure::Unsendable;
use crate::kit::sms::{self, Segments};

/// Longest text, in characters (OpenAPI document).
pub(super) const MAX_CHARACTERS: usize = 1600;

/// How long a message may wait in the vendor's queue; fewer than five seconds are advised against.
pub(super) const MAX_VALIDITY: Duration = Duration::from_hours(10);
const MIN_VALIDITY: Duration = Duration::from_secs(5);

/// By which query parameter a callback finds its delivery.
pub(super) const PARAM: &str = "p";

/// What all targets share.
#[derive(Debug)]
pub(super) struct Rendered {
    fields: Vec<(&'static str, String)>,
    /// What the text costs; absent for a template, whose text the vendor makes.
    pub(super) segments: Option<Segments>,
}

/// Renders what all targets of a batch share.
pub(super) fn render(batch: &Batch, config: &Config) -> Result<Rendered, Unsendable> {
    let content = &*batch.content;
    let above = content.overrides.get("sms_twilio");
    if let Some(above) = above {
        overrides::check(above).map_err(Unsendable::invalid)?;
    }
    let settings = Settings::of(batch.category.as_deref());
    let mut fields = Vec::new();
    if let Some(from) = &config.sender.from {
        fields.push(("From", from.clone()));
    }
    if let Some(service) = &config.sender.service {
        fields.push(("MessagingServiceSid", service.clone()));
    }
    let mut segments = None;
    if let Some(sid) = settings.content_sid {
        fields.push(("ContentSid", sid.to_owned()));
        let variables = settings.content_variables.iter();
        let filled = variables.map(|(name, text)| Ok(((*name).to_owned(), fill(text, content)?.into())));
        let filled: serde_json::Map<String, serde_json::Value> = filled.collect::<Result<_, Unsendable>>()?;
        if !filled.is_empty() {
            fields.push(("ContentVariables", serde_json::Value::Object(filled).to_string()));
        }
    } else {
        let text = text(content, &settings)?;
        segments = Some(measure(&text, config)?);
        fields.push(("Body", text));
    }
    fields.push(("ValidityPeriod", batch.ttl.clamp(MIN_VALIDITY, MAX_VALIDITY).as_secs().to_string()));
    let said = |name: &str| above.and_then(|above| above[name].as_str()).map(ToOwned::to_owned);
    let smart = config.smart_encoded.then(|| "true".to_owned());
    let intent = settings.message_intent.map(ToOwned::to_owned);
    for (name, value) in [
        ("SmartEncoded", said("SmartEncoded").or(smart)),
        ("MessageIntent", said("MessageIntent").or(intent)),
        ("RiskCheck", said("RiskCheck")),
        ("ContentRetention", said("ContentRetention")),
        ("AddressRetention", said("AddressRetention")),
    ] {
        fields.extend(value.map(|value| (name, value)));
    }
    Ok(Rendered { fields, segments })
}

impl Rendered {
    /// The form for one target; or why it gets none.
    pub(super) fn form<'a>(
        &'a self,
        target: &'a Target,
        callback: Option<String>,
    ) -> Result<Vec<(&'static str, String)>, Unsendable> {
        let number = target.address.token.expose();
        if !is_e164(number) {
            let why = "the number is not in the form +15551234567";
            return Err(Unsendable::new(Reason::UnreachableRecipient, why));
        }
        if self.fields.iter().any(|(name, value)| *name == "From" && value == number) {
            return Err(Unsendable::invalid("sender and recipient are the same number"));
        }
        let mut form = Vec::with_capacity(self.fields.len() + 2);
        form.push(("To", number.to_owned()));
        form.extend(self.fields.iter().cloned());
        form.extend(callback.map(|url| ("StatusCallback", url)));
        Ok(form)
    }
}

/// Where the vendor shall report about one target. It signs this URL as it stands here.
pub(super) fn callback(base: &str, param: Option<&str>) -> Option<String> {
    // The vendor refuses a host with an underscore; without a report the message still goes.
    let url = url::Url::parse(base).ok()?;
    if url.host_str().is_none_or(|host| host.contains('_')) || url.fragment().is_some() {
        return None;
    }
    let Some(param) = param else { return Some(base.to_owned()) };
    let sign = if url.query().is_some() { '&' } else { '?' };
    Some(format!("{base}{sign}{PARAM}={param}"))
}

/// What the message says and the text does not.
pub(super) fn dropped(content: &Content) -> Vec<Dropped> {
    let Some(shown) = &content.notification else { return Vec::new() };
    let left_out = [
        ("/notification/image", shown.image.is_some()),
        ("/notification/sound", shown.sound.is_some()),
        ("/notification/badge", shown.badge.is_some()),
        ("/notification/actions_category", shown.actions_category.is_some()),
        ("/notification/click", shown.click.is_some()),
        ("/data", !content.data.is_empty()),
        ("/collapse_key", content.collapse_key.is_some()),
    ];
    let why = "a text message has no place for it, unless the category's template names it";
    left_out
        .into_iter()
        .filter(|(_, said)| *said)
        .map(|(field, _)| Dropped { field: field.to_owned(), why: why.to_owned() })
        .collect()
}

/// The category's text, else title and body, one below the other.
fn text(content: &Content, settings: &Settings<'_>) -> Result<String, Unsendable> {
    let text = if let Some(template) = settings.template {
        fill(template, content)?
    } else {
        let shown = content.notification.as_ref();
        let parts = shown.map(|shown| [shown.title.as_deref(), shown.body.as_deref()]);
        let parts: Vec<&str> =
            parts.into_iter().flatten().flatten().filter(|part| !part.is_empty()).collect();
        parts.join("\n")
    };
    if text.trim().is_empty() {
        return Err(Unsendable::invalid("there is no text to send"));
    }
    Ok(text)
}

/// What a text costs, if it may be sent.
fn measure(text: &str, config: &Config) -> Result<Segments, Unsendable> {
    let characters = text.chars().count();
    if characters > MAX_CHARACTERS {
        let why = format!("the text has {characters} characters, {MAX_CHARACTERS} fit");
        let refused = Unsendable::new(Reason::PayloadTooLarge, why);
        return Err(Unsendable { bytes: characters as u32, ..refused });
    }
    let segments = if config.smart_encoded { sms::segments(&plain(text)) } else { sms::segments(text) };
    if let Some(most) = config.max_segments.filter(|most| segments.count > *most) {
        let why = format!("the text takes {} messages, the channel allows {most}", segments.count);
        let refused = Unsendable::new(Reason::PayloadTooLarge, why);
        return Err(Unsendable { bytes: characters as u32, ..refused });
    }
    Ok(segments)
}

/// The text as the vendor's smart encoding makes it, as far as that is known: the usual look-alikes. For counting only.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '‘' | '’' | '‚' | '‛' | '′' | '`' => plain.push('\''),
            '“' | '”' | '„' | '«' | '»' | '″' => plain.push('"'),
            '‐' | '‑' | '‒' | '–' | '—' | '―' | '−' => plain.push('-'),
            '…' => plain.push_str("..."),
            '\u{a0}' | '\u{2002}' | '\u{2003}' | '\u{2009}' | '\u{202f}' => plain.push(' '),
            '\u{200b}' | '\u{feff}' => {}
            other => plain.push(other),
        }
    }
    plain
}

/// A number with its country: `+` and 7 to 15 digits.
pub(super) fn is_e164(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or_default();
    (7..=15).contains(&digits.len())
        && !digits.starts_with('0')
        && digits.bytes().all(|byte| byte.is_ascii_digit())
}
