//! A channel's settings: a key or a certificate, the app's bundle id, and which of the vendor's two environments.

use serde_json::Value;
use url::Url;

use super::auth::ProviderKey;
use super::certificate::Facts;
use super::push::{DEVICE, KINDS};
use crate::contract::ConfigError;
use crate::kit::settings::Fields;
use crate::kit::tls::{self, Identity, IdentityError};

pub(super) const PRODUCTION_URL: &str = "https://api.push.apple.com";
pub(super) const SANDBOX_URL: &str = "https://api.sandbox.push.apple.com";

/// One of the vendor's two worlds. A token of the one is unknown in the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Production,
    Sandbox,
}

impl Stage {
    /// By the name that addresses and settings use.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "production" => Some(Self::Production),
            "sandbox" => Some(Self::Sandbox),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Sandbox => "sandbox",
        }
    }
}

/// How the vendor knows us.
#[derive(Debug)]
pub(super) enum Credential {
    Key(ProviderKey),
    Certificate { identity: Identity, facts: Facts },
}

/// A channel's settings, read and checked.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) credential: Credential,
    pub(super) bundle_id: String,
    /// What addresses mean that name no environment.
    pub(super) stage: Stage,
    /// Where each served environment is, the usual one first.
    pub(super) urls: Vec<(Stage, Url)>,
    pub(super) kinds: Vec<&'static str>,
    pub(super) ca_pem: Option<String>,
}

impl Config {
    /// Reads the settings and reports all mistakes at once.
    pub(super) fn read(value: &Value) -> Result<Self, ConfigError> {
        let mut fields = Fields::new(value, "");
        let credential = read_credential(&mut fields);
        let bundle_id = fields.text("bundle_id").map(ToOwned::to_owned);
        if bundle_id.as_deref().is_some_and(|id| !is_topic(id)) {
            fields.mistake::<()>("bundle_id", "must be the app's bundle id, as in com.example.app");
        }
        let (stage, both) = match fields.optional_text("environment") {
            None => (Stage::Production, false),
            Some("both") => (Stage::Production, true),
            Some(name) => {
                let stage = Stage::named(name);
                if stage.is_none() {
                    fields.mistake::<()>("environment", "must be production, sandbox or both");
                }
                (stage.unwrap_or(Stage::Production), false)
            }
        };
        let usual = if stage == Stage::Production { PRODUCTION_URL } else { SANDBOX_URL };
        let mut urls: Vec<_> = fields.url("base_url", usual).map(|url| (stage, url)).into_iter().collect();
        let has_second = fields.value("sandbox_base_url").is_some();
        if both {
            urls.extend(fields.url("sandbox_base_url", SANDBOX_URL).map(|url| (Stage::Sandbox, url)));
        } else if has_second {
            fields.mistake::<()>("sandbox_base_url", "belongs to the environment both; use base_url");
        }
        let kinds = read_kinds(&mut fields);
        let ca_pem = fields.optional_text("ca_pem");
        if let Some(Err(why)) = ca_pem.map(tls::certificates) {
            fields.mistake::<()>("ca_pem", why);
        }
        fields.finish()?;
        // What is missing here has been reported above.
        let incomplete = || ConfigError::at("", "is incomplete");
        Ok(Self {
            credential: credential.ok_or_else(incomplete)?,
            bundle_id: bundle_id.ok_or_else(incomplete)?,
            stage,
            urls,
            kinds,
            ca_pem: ca_pem.map(ToOwned::to_owned),
        })
    }
}

/// Either a key with its ids, or a certificate with its key.
fn read_credential(fields: &mut Fields<'_>) -> Option<Credential> {
    let by_certificate = fields.value("certificate").is_some() || fields.value("private_key").is_some();
    let by_key = ["key_p8", "key_id", "team_id"].map(|name| fields.value(name).is_some()).contains(&true);
    if by_certificate && by_key {
        return fields
            .mistake("certificate", "cannot stand beside key_p8, key_id or team_id: choose one way");
    }
    if by_certificate {
        return read_certificate(fields);
    }
    if !by_key {
        return fields
            .mistake("key_p8", "is required (with key_id and team_id), or certificate and private_key");
    }
    let p8 = fields.text("key_p8");
    let (key_id, team_id) = (read_id(fields, "key_id"), read_id(fields, "team_id"));
    // The key is looked at even where an id is missing: all mistakes at once.
    match p8.map(|p8| ProviderKey::new(p8, key_id.unwrap_or_default(), team_id.unwrap_or_default()))? {
        Ok(key) => (key_id.is_some() && team_id.is_some()).then_some(Credential::Key(key)),
        Err(why) => fields.mistake("key_p8", why),
    }
}

fn read_id<'a>(fields: &mut Fields<'a>, name: &'static str) -> Option<&'a str> {
    let id = fields.text(name)?;
    if id.len() == 10 && id.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()) {
        return Some(id);
    }
    fields.mistake(name, "must be 10 capital letters and digits")
}

fn read_certificate(fields: &mut Fields<'_>) -> Option<Credential> {
    let (chain, key) = (fields.text("certificate"), fields.text("private_key"));
    let identity = match Identity::from_pem(chain?, key?) {
        Ok(identity) => identity,
        Err(IdentityError::Certificate(why)) => return fields.mistake("certificate", why),
        Err(IdentityError::Key(why)) => return fields.mistake("private_key", why),
    };
    match Facts::read(identity.certificate()) {
        Ok(facts) => Some(Credential::Certificate { identity, facts }),
        Err(why) => fields.mistake("certificate", why),
    }
}

fn read_kinds(fields: &mut Fields<'_>) -> Vec<&'static str> {
    let Some(value) = fields.value("kinds") else { return vec![DEVICE] };
    let known = |name: &Value| KINDS.into_iter().find(|kind| name.as_str() == Some(kind));
    let kinds: Option<Vec<_>> =
        value.as_array().map(|names| names.iter().map(known).collect()).unwrap_or_default();
    match kinds {
        Some(kinds) if !kinds.is_empty() => kinds,
        _ => {
            let why = format!("must be a list of kinds of address: {}", KINDS.join(", "));
            fields.mistake::<()>("kinds", why);
            Vec::new()
        }
    }
}

/// It goes into a header.
pub(super) fn is_topic(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}
