//! Switches per provider: latency, outage, refused credentials, quota.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// How one provider behaves as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Switch {
    /// Added before every answer.
    pub latency_ms: u64,
    /// Whether and how the provider is down.
    pub outage: Outage,
    /// Whether it takes credentials that are right.
    pub credentials: Credentials,
    /// How long an access token lives that is minted from now on.
    pub access_token_seconds: u64,
    /// What may be sent.
    pub quota: Quota,
}

impl Default for Switch {
    fn default() -> Self {
        Self {
            latency_ms: 0,
            outage: Outage::None,
            credentials: Credentials::Ok,
            // What Google's token endpoint says for its hour.
            access_token_seconds: 3599,
            quota: Quota::default(),
        }
    }
}

/// A provider's outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outage {
    /// It answers.
    None,
    /// It answers 503 to everything.
    #[serde(rename = "http_503")]
    Http503,
    /// It ends every connection or stream without an answer. (All providers share a port, which stays open.)
    Refuse,
    /// It never answers.
    Hang,
}

/// Whether a provider takes credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credentials {
    /// Those that are right.
    Ok,
    /// None.
    Refused,
}

/// A provider's limits; `null` lifts one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quota {
    /// Requests a minute for one account or project.
    pub account_per_minute: Option<u64>,
    /// Requests a minute for one token.
    pub target_per_minute: Option<u64>,
}

impl Default for Quota {
    fn default() -> Self {
        // FCM: 600,000 messages a minute and project by default (firebase.google.com "throttling-and-quotas").
        // Its limit per device is known from third parties only, so it is off unless asked for.
        Self { account_per_minute: Some(600_000), target_per_minute: None }
    }
}

/// The switches of all providers.
pub struct Switches {
    all: RwLock<BTreeMap<String, Switch>>,
    path: Option<PathBuf>,
}

impl Switches {
    pub(crate) fn open(path: Option<PathBuf>) -> anyhow::Result<Self> {
        let all = match path.as_deref().filter(|path| path.exists()) {
            Some(path) => {
                let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
                serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))?
            }
            None => BTreeMap::new(),
        };
        Ok(Self { all: RwLock::new(all), path })
    }

    /// The switch of one provider; untouched providers have the default.
    pub fn of(&self, provider: &str) -> Switch {
        self.all.read().unwrap_or_else(PoisonError::into_inner).get(provider).copied().unwrap_or_default()
    }

    /// All switches that were ever set.
    pub fn all(&self) -> BTreeMap<String, Switch> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the switch of one provider, whole: what is not said returns to its default.
    pub fn set(&self, provider: &str, switch: Switch) -> anyhow::Result<()> {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(provider.to_owned(), switch);
        match &self.path {
            Some(path) => crate::state::write_whole(path, &serde_json::to_vec_pretty(&*all)?),
            None => Ok(()),
        }
    }
}
