//! Switches per provider: latency, outage, refused credentials, quota, receipts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    /// How it reports what became of pushes, where it does.
    pub receipts: Receipts,
}

impl Default for Switch {
    fn default() -> Self {
        Self {
            latency_ms: 0,
            outage: Outage::None,
            credentials: Credentials::Ok,
            access_token_seconds: 3600,
            quota: Quota::default(),
            receipts: Receipts::default(),
        }
    }
}

impl Switch {
    /// Reads a provider's switches; what is not said has that provider's default.
    pub(crate) fn read(provider: &str, text: &[u8]) -> anyhow::Result<Self> {
        let mut whole = serde_json::to_value(default_of(provider))?;
        let said: serde_json::Map<_, _> = serde_json::from_slice(text)?;
        for (name, value) in said {
            match (&mut whole[&name], value) {
                (Value::Object(inner), Value::Object(more)) => inner.extend(more),
                (whole, value) => *whole = value,
            }
        }
        Ok(serde_json::from_value(whole)?)
    }
}

fn default_of(provider: &str) -> Switch {
    crate::find(provider).map_or_else(Switch::default, |twin| (twin.switch)())
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quota {
    /// Requests a minute for one account or project.
    pub account_per_minute: Option<u64>,
    /// Requests a minute for one token.
    pub target_per_minute: Option<u64>,
}

/// How a provider's receipts come to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Receipts {
    /// Whether they come at all.
    pub on: bool,
    /// How much later than usual.
    pub late_ms: u64,
    /// Each comes twice.
    pub duplicate: bool,
    /// Those of one push come in the opposite order.
    pub out_of_order: bool,
    /// The first comes before the answer to the push that it is about.
    pub before_answer: bool,
    /// Their proof is made with a key that is not the vendor's.
    pub forged: bool,
}

impl Default for Receipts {
    fn default() -> Self {
        Self {
            on: true,
            late_ms: 0,
            duplicate: false,
            out_of_order: false,
            before_answer: false,
            forged: false,
        }
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
        self.all
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(provider)
            .copied()
            .unwrap_or_else(|| default_of(provider))
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
