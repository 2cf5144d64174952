//! A channel's settings: the account, what proves that it is ours, who sends, and what a message may cost.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use secrecy::SecretString;
use serde_json::Value;
use url::Url;

use super::price::Price;
use crate::contract::ConfigError;
use crate::kit::settings::Fields;
use crate::kit::tls;

/// Where messages go unless the channel says otherwise.
pub(super) const DEFAULT_BASE_URL: &str = "https://api.twilio.com";

/// A channel's settings, read and checked.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) account_sid: String,
    pub(super) login: Login,
    /// What verifies callbacks: the account's own token, and keys made for that.
    pub(super) auth_token: Option<SecretString>,
    pub(super) shared_keys: BTreeMap<String, SecretString>,
    pub(super) sender: Sender,
    pub(super) smart_encoded: bool,
    pub(super) max_segments: Option<u32>,
    pub(super) price: Option<Price>,
    pub(super) base_url: Url,
    pub(super) ca_pem: Option<String>,
}

/// HTTP Basic, ready for the header.
pub(super) struct Login {
    pub(super) header: HeaderValue,
    /// For scrubbing it from a vendor's words.
    pub(super) secret: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login(…)")
    }
}

impl Login {
    fn new(user: &str, secret: &str) -> Option<Self> {
        let text = format!("Basic {}", STANDARD.encode(format!("{user}:{secret}")));
        let mut header = HeaderValue::try_from(text).ok()?;
        header.set_sensitive(true);
        Some(Self { header, secret: secret.to_owned() })
    }
}

/// Who sends: a number, a short code or a name; a pool of them; or one of a pool.
#[derive(Debug, Clone, Default)]
pub(super) struct Sender {
    pub(super) from: Option<String>,
    pub(super) service: Option<String>,
}

impl Config {
    /// Reads the settings and reports all mistakes at once.
    pub(super) fn read(value: &Value) -> Result<Self, ConfigError> {
        let mut fields = Fields::new(value, "");
        let account_sid = read_sid(&mut fields, "account_sid", "AC", true);
        let key_sid = read_sid(&mut fields, "api_key_sid", "SK", false);
        let key_secret = fields.optional_text("api_key_secret");
        let auth_token = fields.optional_text("auth_token");
        let login = match (key_sid, key_secret, auth_token) {
            (Some(user), Some(secret), _) => Login::new(user, secret),
            (Some(_), None, _) => fields.mistake("api_key_secret", "is required beside api_key_sid"),
            (None, Some(_), _) => fields.mistake("api_key_sid", "is required beside api_key_secret"),
            (None, None, Some(token)) => account_sid.and_then(|user| Login::new(user, token)),
            (None, None, None) => {
                fields.mistake("api_key_sid", "is required (with api_key_secret), or auth_token")
            }
        };
        let shared_keys = read_shared_keys(&mut fields);
        let sender = read_sender(&mut fields);
        let smart_encoded = read_flag(&mut fields, "smart_encoded");
        let max_segments = read_max_segments(&mut fields);
        let price = read_price(&mut fields);
        let base_url = fields.url("base_url", DEFAULT_BASE_URL);
        let ca_pem = fields.optional_text("ca_pem");
        if let Some(Err(why)) = ca_pem.map(tls::certificates) {
            fields.mistake::<()>("ca_pem", why);
        }
        fields.finish()?;
        // What is missing here has been reported above.
        let incomplete = || ConfigError::at("", "is incomplete");
        Ok(Self {
            account_sid: account_sid.ok_or_else(incomplete)?.to_owned(),
            login: login.ok_or_else(incomplete)?,
            auth_token: auth_token.map(SecretString::from),
            shared_keys,
            sender,
            smart_encoded,
            max_segments,
            price,
            base_url: base_url.ok_or_else(incomplete)?,
            ca_pem: ca_pem.map(ToOwned::to_owned),
        })
    }

    /// Whether a callback could be verified.
    pub(super) fn verifies_callbacks(&self) -> bool {
        self.auth_token.is_some() || !self.shared_keys.is_empty()
    }
}

fn read_sid<'a>(
    fields: &mut Fields<'a>,
    name: &'static str,
    prefix: &str,
    required: bool,
) -> Option<&'a str> {
    let sid = if required { fields.text(name)? } else { fields.optional_text(name)? };
    if is_sid(sid, prefix) {
        return Some(sid);
    }
    fields.mistake(name, format!("must be {prefix} and 32 hexadecimal digits"))
}

/// It becomes part of a path or names something of the account's.
pub(super) fn is_sid(text: &str, prefix: &str) -> bool {
    let digits = text.strip_prefix(prefix).unwrap_or_default();
    digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn read_shared_keys(fields: &mut Fields<'_>) -> BTreeMap<String, SecretString> {
    const NAME: &str = "webhook_shared_keys";
    let Some(value) = fields.value(NAME) else { return BTreeMap::new() };
    let keys: Option<BTreeMap<_, _>> = value.as_object().and_then(|keys| {
        let read = |(id, secret): (&String, &Value)| {
            let secret = secret.as_str().filter(|secret| !secret.is_empty())?;
            Some((id.clone(), SecretString::from(secret)))
        };
        keys.iter().map(read).collect()
    });
    keys.unwrap_or_else(|| {
        fields.mistake::<()>(NAME, "must be an object: each key's id with its secret");
        BTreeMap::new()
    })
}

fn read_sender(fields: &mut Fields<'_>) -> Sender {
    let from = fields.optional_text("from");
    if from.is_some_and(|from| !is_sender(from)) {
        let why =
            "must be a number such as +15557654321, a short code, or a name of up to 11 letters and digits";
        fields.mistake::<()>("from", why);
    }
    let service = read_sid(fields, "messaging_service_sid", "MG", false);
    if from.is_none() && fields.value("messaging_service_sid").is_none() {
        fields.mistake::<()>("from", "is required, or messaging_service_sid");
    }
    Sender { from: from.map(ToOwned::to_owned), service: service.map(ToOwned::to_owned) }
}

fn is_sender(text: &str) -> bool {
    let name =
        text.len() <= 11 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" &+-_".contains(&byte));
    super::payload::is_e164(text) || name
}

fn read_flag(fields: &mut Fields<'_>, name: &'static str) -> bool {
    match fields.value(name) {
        None => false,
        Some(Value::Bool(flag)) => *flag,
        Some(_) => fields.mistake(name, "must be true or false").unwrap_or_default(),
    }
}

fn read_max_segments(fields: &mut Fields<'_>) -> Option<u32> {
    let most = fields.value("max_segments")?;
    match most.as_u64() {
        Some(most @ 1..=30) => Some(most as u32),
        _ => fields.mistake("max_segments", "must be a number from 1 to 30"),
    }
}

fn read_price(fields: &mut Fields<'_>) -> Option<Price> {
    let (amount, currency) = (fields.optional_text("price_per_segment"), fields.optional_text("currency"));
    match (amount, currency) {
        (None, None) => None,
        (Some(_), None) => fields.mistake("currency", "is required beside price_per_segment"),
        (None, Some(_)) => fields.mistake("price_per_segment", "is required beside currency"),
        (Some(amount), Some(currency)) => {
            if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
                return fields.mistake("currency", "must be three capital letters, as in USD");
            }
            match Price::read(amount, currency) {
                Some(price) => Some(price),
                None => fields.mistake("price_per_segment", "must be a decimal number, as in 0.0079"),
            }
        }
    }
}
