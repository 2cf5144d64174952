//! What the gateway hands to a provider.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::content::Content;

/// Targets of one content. The batch is a function of the stored page, so a repeat after a crash rebuilds the same
/// requests.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Which message it is.
    pub message: MessageRef,
    /// What it says.
    pub content: Arc<Content>,
    /// What the app's category says to this provider; absent where the message names none, or it says nothing here.
    pub category: Option<Arc<Category>>,
    /// What is left of the TTL, already capped and rounded to the vendor's unit. Zero: only if reachable now.
    pub ttl: Duration,
    /// Whom it goes to, at least one. For one-token-a-request vendors this may be many requests' worth.
    pub targets: Vec<Target>,
    /// 1 for the first try.
    pub attempt: u32,
}

/// One row of the app's categories, as far as it concerns one provider: the vendor's channel id, classification,
/// template, signature.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Category {
    /// The name that the backend uses.
    pub name: String,
    /// What [`super::CategorySpec::check`] has let pass.
    pub settings: Map<String, Value>,
}

/// Which message a batch belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRef {
    /// Public id, `msg_…`. Put into every payload as data key `anypush_id`.
    pub id: String,
    /// The same where this batch is repeated after a crash, another one for every other: where a vendor dedupes a batch
    /// call, this is the key.
    pub page_key: u128,
    /// The backend's report label.
    pub label: Option<String>,
}

/// One target.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where to find it.
    pub address: Address,
    /// The same for every repeat of this delivery: where a vendor dedupes or replaces per target, this is the key.
    pub key: u128,
    /// What a vendor may echo in a receipt: self-authenticating, at most 32 characters of `[A-Za-z0-9_-]`. Where receipts
    /// are found by their token ([`super::ReceiptKey::Token`]) it names the message, and all of a batch have the same; where
    /// they are found by the vendor's id, or there are none, there is none.
    pub receipt_param: Option<Arc<str>>,
    /// Values for this target alone, by name.
    pub variables: Option<Arc<BTreeMap<String, String>>>,
}

/// Where a provider can find a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The kind of token, one of the descriptor's.
    pub kind: String,
    /// The token.
    pub token: Token,
    /// What else the vendor needs: environment, region, keys.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
}

/// A push token or phone number. `Debug` and logs show only its first characters.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// Wraps a token.
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    /// The token itself, for the wire only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Six characters tell tokens apart in a trail and are of no use to a thief.
        let shown: String = self.0.chars().take(6).collect();
        write!(f, "{shown}…({} bytes)", self.0.len())
    }
}
