//! What a provider declares about itself.

use std::fmt;
use std::sync::Arc;

use schemars::Schema;
use serde::Serialize;
use serde_json::Value;

use super::capability::Capabilities;
use super::provider::{ConfigError, Environment, Provider};

/// A provider's entry in the catalogue: what it is, and how to make one from a channel's configuration.
pub struct Registration {
    /// What it is.
    pub descriptor: Descriptor,
    /// Builds an instance from a channel's configuration (secrets included). Checks everything that can be
    /// checked without the network and reports all mistakes at once.
    pub build: Build,
    /// The JSON Schema of the configuration. Every property has a title, a description and an example; secret
    /// ones are `writeOnly`. It validates the API and draws the ops form.
    pub config_schema: fn() -> Schema,
    /// Checks a message's `overrides.<id>` against the adapter's allow-list; the error names the field.
    pub check_overrides: fn(overrides: &Value) -> Result<(), String>,
    /// What a category of the app may say to this provider.
    pub category: CategorySpec,
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("id", &self.descriptor.id).finish_non_exhaustive()
    }
}

/// What a category may say to a provider.
#[derive(Clone, Copy)]
pub struct CategorySpec {
    /// The JSON Schema of the settings, in the manner of [`Registration::config_schema`].
    pub schema: fn() -> Schema,
    /// Checks settings; all mistakes at once.
    pub check: fn(settings: &Value) -> Result<(), ConfigError>,
}

impl CategorySpec {
    /// For vendors without any classification: whatever is said is a mistake.
    pub const NONE: Self = Self {
        schema: || schemars::json_schema!({"type": "object", "additionalProperties": false}),
        check: |settings| match settings.as_object() {
            Some(settings) if settings.is_empty() => Ok(()),
            _ => Err(ConfigError::at("", "this provider knows no categories; leave its part out")),
        },
    };
}

/// See [`Registration::build`].
pub type Build = fn(config: &Value, environment: &Environment) -> Result<Arc<dyn Provider>, ConfigError>;

/// What a provider is.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Descriptor {
    /// `[a-z][a-z0-9_]*`; the same in folder, API, metrics, tables, sandbox path and docs.
    pub id: &'static str,
    /// The name that people know.
    pub name: &'static str,
    /// Its place in the default order.
    pub tier: Tier,
    /// What it can do.
    pub capabilities: Capabilities,
    /// What its addresses look like.
    pub address: AddressSpec,
    /// Quotas that the vendor states, as data.
    pub quotas: &'static [Quota],
}

/// A provider's place in the default order of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// The gateway's own connection.
    Direct,
    /// The phone maker's service.
    Maker,
    /// A service for all phones of a platform.
    Global,
    /// A push platform.
    Platform,
    /// Somebody else's broker.
    Broker,
    /// Text message. Never by default.
    Sms,
}

impl Tier {
    /// All tiers in default order.
    pub const ALL: [Self; 6] =
        [Self::Direct, Self::Maker, Self::Global, Self::Platform, Self::Broker, Self::Sms];

    /// The name that users see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Maker => "maker",
            Self::Global => "global",
            Self::Platform => "platform",
            Self::Broker => "broker",
            Self::Sms => "sms",
        }
    }
}

/// What addresses a provider sends to.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct AddressSpec {
    /// Which address serves this provider: its own id, or `phone` for every SMS provider.
    pub provider: &'static str,
    /// The kinds of token it takes; the first is the default.
    pub kinds: &'static [&'static str],
    /// Those of the kinds that are for one thing alone (calls, widgets, device management): an ordinary message must not
    /// go there, so no route takes them unless the message names the channel, or the address itself.
    pub special: &'static [&'static str],
    /// Longest token in bytes.
    pub max_token_bytes: u32,
    /// Names of the `params` that it understands.
    pub params: &'static [&'static str],
}

/// One quota as the vendor states it. What depends on the account stands here with the value of a new account; a
/// channel's `limits.quotas.<name>` says what this one has.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Quota {
    /// Unique within the provider, `[a-z][a-z0-9_]*`.
    pub name: &'static str,
    /// What is counted.
    pub scope: QuotaScope,
    /// The class of [`super::Provider::quota_class`] that it counts; empty: everything.
    pub class: &'static str,
    /// How many targets.
    pub limit: u64,
    /// In which time.
    pub period: QuotaPeriod,
    /// The IANA name of the zone in which the vendor's day begins; `UTC` for shorter periods.
    pub time_zone: &'static str,
    /// Whether the gateway asks before it sends. `false`: the vendor's own answer is soon enough, or the number is hearsay.
    pub enforced: bool,
    /// Where the vendor says so, with the date it was read.
    pub source: &'static str,
}

/// What a quota is counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum QuotaScope {
    /// All that the credential sends.
    Channel,
    /// What one device gets.
    Device,
}

/// The time that a quota counts over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum QuotaPeriod {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day in the vendor's time zone.
    Day,
}
