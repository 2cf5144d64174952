//! Steps of a route, as messages and an app's rules give them.

use anypush_providers::contract::Tier;
use serde_json::Value;

use super::fields::{Fields, Mistakes, Text};
use crate::app::Gateway;
use crate::delivery::state::State;
use crate::direct;
use crate::routing::{IfBlind, RouteChannel, StepSpec};

/// Most steps of a route.
pub(super) const MOST: usize = 16;
/// Longest wait: as long as any message lives.
const MAX_WAIT: u64 = 2_419_200;
const UNTIL: [(&str, State); 4] = [
    ("accepted", State::Accepted),
    ("delivered", State::Delivered),
    ("displayed", State::Displayed),
    ("clicked", State::Clicked),
];

/// Reads steps; for each its JSON pointer, what it says, and whether it says `if_blind`.
pub(super) fn read(
    gateway: &Gateway,
    app: i64,
    items: Vec<(String, Value)>,
    wrong: &Mistakes,
) -> Vec<(String, StepSpec, bool)> {
    let mut steps = Vec::new();
    for (at, item) in items {
        let mut step = Fields::of(item, at.clone(), wrong);
        let uses = step.needed("use", Text::line(64));
        if !uses.is_empty() && !knows(gateway, app, &uses) {
            step.refuse("use", "names neither a channel of this app, nor a provider, nor a tier");
        }
        let wait_seconds = step.number("wait_seconds", 1..=MAX_WAIT).map(|n| n as u32);
        let until = step.choice("until", &UNTIL);
        let if_blind = step.choice("if_blind", &[("go", IfBlind::Go), ("stop", IfBlind::Stop)]);
        if wait_seconds.is_none() && until.is_some_and(|until| until != State::Accepted) {
            step.refuse("wait_seconds", "is required where `until` is more than `accepted`");
        }
        step.finish();
        let spec = StepSpec { uses, wait_seconds, until, if_blind: if_blind.unwrap_or_default() };
        steps.push((at, spec, if_blind.is_some()));
    }
    steps
}

/// Whether a route may name this.
fn knows(gateway: &Gateway, app: i64, word: &str) -> bool {
    is_general(word) || gateway.channels.by_name(app, word).is_some()
}

/// Whether a word means something in every app: a tier or a provider.
pub(super) fn is_general(word: &str) -> bool {
    Tier::ALL.iter().any(|tier| tier.as_str() == word)
        || word == direct::DESCRIPTOR.id
        || anypush_providers::find(word).is_some()
}

/// The channels that an app has now for a step.
pub(super) fn channels(gateway: &Gateway, app: i64, uses: &str) -> Vec<RouteChannel> {
    crate::routing::named(&gateway.channels.routes(app), uses).into_iter().cloned().collect()
}
