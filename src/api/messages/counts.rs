//! The two views of counts: how many ever reached a state, and how many are in it now.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::delivery::state::{State, View};
use crate::store::Counter;

const REACHED: [State; 4] = [State::Accepted, State::Delivered, State::Displayed, State::Clicked];

/// What a message's answer holds.
pub(crate) struct Counts {
    pub(crate) total: Value,
    pub(crate) by_channel: BTreeMap<String, Value>,
    pub(crate) reasons: BTreeMap<&'static str, u64>,
    pub(crate) pending: u64,
}

impl Counts {
    /// `name` tells a channel's name by its number.
    pub(crate) fn new(targeted: u64, counters: &[Counter], name: impl Fn(i64) -> Option<String>) -> Self {
        let all: Vec<_> = counters.iter().collect();
        let others: u64 = all.iter().filter(|c| c.view == View::Now).map(|c| c.n).sum();
        // Pending is never counted itself, so that a target costs no write before it has an outcome.
        let pending = targeted.saturating_sub(others);
        let mut now = now(&all);
        now.insert("pending".into(), pending.into());
        let total = json!({"targeted": targeted, "reached": reached(&all), "now": now});

        let mut groups: BTreeMap<i64, Vec<&Counter>> = BTreeMap::new();
        for counter in &all {
            groups.entry(counter.channel).or_default().push(counter);
        }
        // What no channel ever had is in the totals alone.
        groups.remove(&0);
        let mut by_channel = BTreeMap::new();
        for (channel, group) in groups {
            let mut name = name(channel).unwrap_or_else(|| format!("channel {channel}"));
            if by_channel.contains_key(&name) {
                // A deleted channel and its successor of the same name.
                name = format!("{name} ({channel})");
            }
            by_channel.insert(name, json!({"reached": reached(&group), "now": self::now(&group)}));
        }
        let mut reasons = BTreeMap::new();
        for counter in all.iter().filter(|c| c.view == View::Now) {
            if let Some(reason) = counter.reason {
                *reasons.entry(reason.as_str()).or_insert(0) += counter.n;
            }
        }
        reasons.retain(|_, n| *n > 0);
        Self { total, by_channel, reasons, pending }
    }
}

fn sum(counters: &[&Counter], view: View, state: State) -> u64 {
    counters.iter().filter(|c| c.view == view && c.state == state).map(|c| c.n).sum()
}

fn now(counters: &[&Counter]) -> Map<String, Value> {
    let pair = |state: &State| (state.as_str().to_owned(), sum(counters, View::Now, *state).into());
    State::ALL.iter().map(pair).collect()
}

fn reached(counters: &[&Counter]) -> Map<String, Value> {
    let pair = |state: &State| (state.as_str().to_owned(), sum(counters, View::Reached, *state).into());
    REACHED.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use anypush_providers::contract::Reason;

    use super::*;

    #[test]
    fn now_adds_up_to_targeted() {
        let counter = |channel, view, state, reason, n| Counter { channel, view, state, reason, n };
        let counters = [
            counter(1, View::Now, State::Accepted, None, 5),
            counter(1, View::Now, State::Failed, Some(Reason::InvalidToken), 2),
            counter(2, View::Now, State::Delivered, None, 1),
            counter(0, View::Now, State::Suppressed, Some(Reason::UnknownTarget), 1),
            counter(1, View::Reached, State::Accepted, None, 5),
            counter(2, View::Reached, State::Accepted, None, 1),
            counter(2, View::Reached, State::Delivered, None, 1),
        ];
        let counts = Counts::new(10, &counters, |seq| Some(format!("c{seq}")));
        assert_eq!(counts.pending, 1);
        let now = counts.total["now"].as_object().unwrap();
        assert_eq!(now.len(), 10);
        assert_eq!(now.values().filter_map(Value::as_u64).sum::<u64>(), 10);
        assert_eq!(counts.total["reached"]["accepted"], 6);
        assert_eq!(counts.by_channel.keys().collect::<Vec<_>>(), ["c1", "c2"]);
        assert_eq!(counts.by_channel["c1"]["now"]["failed"], 2);
        assert_eq!(counts.reasons, BTreeMap::from([("invalid_token", 2), ("unknown_target", 1)]));
    }
}
