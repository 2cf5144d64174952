//! A message as it is stored and carried out: what the API accepted, with every default filled in.

use std::collections::BTreeMap;
use std::sync::Arc;

use anypush_providers::contract::{Address, Class, Content, DeliveryMode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::delivery::expression::Expression;
use crate::routing::{Rule, StepSpec};

/// What `messages.spec` holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// What it says.
    pub content: Arc<Content>,
    /// The route that the backend asked for; empty = the app's rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepSpec>,
    /// The app's rules that may concern it, as they were when it was accepted; none where it names its own route.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// What happens where an answer is lost; `None`: as the channel does by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliveryMode>,
    /// When it is sent, in Unix milliseconds; `None`: at once. Its audience is looked up then, and its TTL counts from then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_at: Option<u64>,
    /// Time to live in whole seconds; 0 = only if reachable now.
    pub ttl_seconds: u32,
    /// The app's category as it was when the message was accepted: every repeat of a page says the same to the vendor,
    /// whatever becomes of the category meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<SpecCategory>,
    /// It tests a channel: what is refused is not tried again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub test: bool,
    /// It was sent to users: it goes to no phone that they have left since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub to_users: bool,
    /// Comes back in webhooks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// A category of the app, as a message carries it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SpecCategory {
    /// Its name.
    pub name: String,
    /// What it is for; `None`: it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// What it says to each provider.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub providers: BTreeMap<String, Map<String, Value>>,
}

/// Whom a message is for, as an expand work item carries it. Given lists are expanded in one transaction; an
/// expression is walked by device number, and `after` is saved with each round of pages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Audience {
    /// Devices by the backend's ids.
    Devices(Vec<String>),
    /// All devices of these users.
    Users(Vec<String>),
    /// Addresses given in the call.
    Addresses(Vec<GivenAddress>),
    /// Devices that fit an expression.
    Matching {
        /// The expression.
        expression: Expression,
        /// The last device number that is in a page.
        after: u64,
    },
}

/// An address given in the call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GivenAddress {
    /// Which provider can use it.
    pub provider: String,
    /// Where to find the phone.
    pub address: Address,
}
