//! The route of one delivery: a pure function of message, device, channels and connectedness.
//!
//! What `dry_run` and the trail explain is what [`decide`] returned, not a second computation. Nothing here reads a
//! clock, a store or a socket.

mod decide;
mod rules;

use std::collections::BTreeMap;

use anypush_providers::contract::{Capabilities, Needs, Reason, Tier};
use serde::{Deserialize, Serialize};

use crate::delivery::state::State;
use crate::delivery::trail::Skip;

pub use decide::{decide, named};
pub use rules::{Match, Rule, Traits, concerning};

/// What to do with a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Try these channels in this order.
    Send(Vec<Step>),
    /// Ask again at this time (quiet hours, a channel that comes back).
    Defer {
        /// Unix milliseconds.
        until_ms: u64,
    },
    /// Do not send.
    Suppress(Reason),
}

/// One channel of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which channel.
    pub channel: i64,
    /// Which of the device's addresses; 0 for targets given in the call and for the own connection.
    pub address_version: u32,
    /// How long to wait for a witness before the next step; `None`: the step ends with its outcome.
    pub wait: Option<Wait>,
}

/// When a step that was accepted still counts as not enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Wait {
    /// How long to wait.
    pub seconds: u32,
    /// For which state.
    pub until: State,
}

/// A route and why it is so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What to do.
    pub route: Route,
    /// Channels that were left out.
    pub skipped: Vec<Skip>,
    /// The app's rule that it was decided by.
    pub rule: Option<String>,
}

/// One step that a backend asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepSpec {
    /// A channel name, a provider id, or a tier.
    #[serde(rename = "use")]
    pub uses: String,
    /// How long it may take until the next step begins; `None`: until it has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<u32>,
    /// What ends the route here; `None`: accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<State>,
    /// What happens where the channel cannot witness that.
    #[serde(default)]
    pub if_blind: IfBlind,
}

/// What a step does whose channel cannot witness its `until`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IfBlind {
    /// It waits all the same (the phone itself may report) and goes on when the time is over.
    #[default]
    Go,
    /// Accepted is enough: the route ends there.
    Stop,
}

/// Everything that a decision depends on.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// What the message asks of a channel.
    pub needs: &'a Needs,
    /// The route that the backend asked for; empty = by the rules.
    pub steps: &'a [StepSpec],
    /// The app's rules that concern the message; where none fits the device, the default order.
    pub rules: &'a [Rule],
    /// Whom it is for.
    pub device: &'a RouteDevice,
    /// The app's channels, in order of name.
    pub channels: &'a [RouteChannel],
    /// Channels that were tried and given up.
    pub tried: &'a [i64],
    /// How long the own connection is waited for before vendors are asked too, where the message says nothing;
    /// 0 = vendors are asked only where it fails.
    pub own_wait_seconds: u32,
}

/// A device (or a given address) as routing sees it.
#[derive(Debug, Clone, Default)]
pub struct RouteDevice {
    /// Whether it may connect itself.
    pub connects: bool,
    /// Whether it is connected now.
    pub connected: bool,
    /// Whether notifications are switched on.
    pub enabled: bool,
    /// Active addresses.
    pub addresses: Vec<RouteAddress>,
    /// What rules ask of it.
    pub traits: Traits,
}

/// An address as routing sees it.
#[derive(Debug, Clone)]
pub struct RouteAddress {
    /// Which provider can use it, or `phone`.
    pub provider: String,
    /// Its version; 0 for targets given in the call.
    pub version: u32,
    /// Kind and params: which account it belongs to.
    pub kind: String,
    /// Params.
    pub params: BTreeMap<String, String>,
}

/// A channel as routing sees it.
#[derive(Clone)]
pub struct RouteChannel {
    /// Its number.
    pub seq: i64,
    /// Its name in the app.
    pub name: String,
    /// Its provider's id.
    pub provider: String,
    /// Which addresses serve it: the provider's id, or `phone`; empty for the own connection.
    pub address_provider: &'static str,
    /// The kinds of address to which it sends only where the message names it ([`anypush_providers::contract::AddressSpec::special`]).
    pub special: &'static [&'static str],
    /// Its provider's tier.
    pub tier: Tier,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Whether it can be used now.
    pub state: ChannelState,
    /// Whether it serves an address; the error says why not.
    pub serves: Serves,
}

/// Whether a channel serves an address; the error says why not, in words for the trail.
pub type Serves = std::sync::Arc<dyn Fn(&RouteAddress) -> Result<(), String> + Send + Sync>;

impl RouteChannel {
    /// Whether it never reports this state.
    pub fn is_blind_to(&self, state: State) -> bool {
        match state {
            State::Delivered => !self.capabilities.witnesses_delivered,
            State::Displayed => !self.capabilities.witnesses_displayed,
            State::Clicked => !self.capabilities.witnesses_clicked,
            _ => false,
        }
    }
}

impl std::fmt::Debug for RouteChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouteChannel")
            .field("name", &self.name)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// Whether a channel can be used. The numbers are stored: never change one, append only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum ChannelState {
    /// It can.
    #[default]
    Ok = 0,
    /// Ops stopped it.
    Paused = 1,
    /// Its credentials are refused.
    AuthFailed = 2,
    /// Its quota is used up.
    QuotaExhausted = 3,
    /// The vendor does not answer.
    Down = 4,
}

impl ChannelState {
    /// Reads a stored number.
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Ok, Self::Paused, Self::AuthFailed, Self::QuotaExhausted, Self::Down]
            .get(usize::from(code))
            .copied()
    }
}
