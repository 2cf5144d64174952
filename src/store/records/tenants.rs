//! Tenants, their keys, their channels, their categories.

use std::collections::BTreeMap;

use anypush_providers::contract::Class;
use serde_json::{Map, Value};

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppRecord {
    /// Its number.
    pub seq: i64,
    /// `app_…`
    pub public_id: String,
    /// Its name, unique.
    pub name: String,
    /// Unix milliseconds.
    pub created_at: u64,
}

/// An API key without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// The eight characters of the key that name it.
    pub id: String,
    /// Its app; `None` for an admin key.
    pub app: Option<i64>,
    /// What it is for, in its owner's words.
    pub name: String,
    /// MAC of the secret.
    pub mac: Vec<u8>,
    /// Its scopes.
    pub scopes: Vec<String>,
    /// Unix milliseconds.
    pub created_at: u64,
    /// Unix milliseconds.
    pub expires_at: Option<u64>,
    /// Unix milliseconds.
    pub revoked_at: Option<u64>,
}

/// A configured provider instance.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelRecord {
    /// Its number; 0 when it is put for the first time.
    pub seq: i64,
    /// `chn_…`
    pub public_id: String,
    /// Its app.
    pub app: i64,
    /// Its name in the app.
    pub name: String,
    /// Its provider's id.
    pub provider: String,
    /// Configuration without secrets.
    pub config: Value,
    /// Sealed secrets; bound to (app, name).
    pub secrets: Option<Vec<u8>>,
    /// Limits that ops set.
    pub limits: Value,
    /// [`crate::routing::ChannelState`] as a number.
    pub state: u8,
    /// Why it is in that state.
    pub state_info: Option<String>,
    /// Grows with each put.
    pub version: i64,
    /// Part of the secret in its callback URL; the store's own.
    pub callback: i64,
    /// Unix milliseconds.
    pub created_at: u64,
    /// Unix milliseconds.
    pub updated_at: u64,
    /// Set when it was deleted.
    pub deleted_at: Option<u64>,
}

/// What messages are about, and what each provider is told of that.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CategoryRecord {
    /// Its app.
    pub app: i64,
    /// Its name in the app.
    pub name: String,
    /// Whether a person waits for such messages; `None`: it does not say.
    pub class: Option<Class>,
    /// By provider.
    pub providers: BTreeMap<String, Map<String, Value>>,
    /// Unix milliseconds.
    pub created_at: u64,
    /// Unix milliseconds.
    pub updated_at: u64,
}
