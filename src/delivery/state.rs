//! States of a delivery, and the one rule that moves them: a receipt or outcome never lowers the rank.

use std::sync::Arc;

use anypush_providers::contract::Reason;
use serde::{Deserialize, Serialize};

use crate::delivery::trail::{self, TrailEntry};
use crate::ids::Id;

/// Where a delivery is. Exactly one at any time. The numbers are stored: never change one, append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum State {
    /// Not yet handed to a vendor, or between tries.
    Pending = 0,
    /// The vendor or the inbox has it.
    Accepted = 1,
    /// The phone has it.
    Delivered = 2,
    /// It was shown.
    Displayed = 3,
    /// A person tapped it.
    Clicked = 4,
    /// No channel took it, or it failed later.
    Failed = 5,
    /// At most once, and the outcome was never learned.
    Unknown = 6,
    /// The TTL was over first.
    Expired = 7,
    /// The backend cancelled it.
    Cancelled = 8,
    /// Not meant to be sent, or not any more: no route, unknown target, duplicate, a newer message.
    Suppressed = 9,
}

impl State {
    /// All states, in stored order.
    pub const ALL: [Self; 10] = [
        Self::Pending,
        Self::Accepted,
        Self::Delivered,
        Self::Displayed,
        Self::Clicked,
        Self::Failed,
        Self::Unknown,
        Self::Expired,
        Self::Cancelled,
        Self::Suppressed,
    ];

    /// The number that is stored.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Reads a stored number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// The name that users see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Accepted => "accepted",
            Self::Delivered => "delivered",
            Self::Displayed => "displayed",
            Self::Clicked => "clicked",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Suppressed => "suppressed",
        }
    }

    /// `pending < accepted < failed | unknown | expired | cancelled | suppressed < delivered < displayed < clicked`.
    pub fn rank(self) -> u8 {
        match self {
            Self::Pending => 0,
            Self::Accepted => 1,
            Self::Failed | Self::Unknown | Self::Expired | Self::Cancelled | Self::Suppressed => 2,
            Self::Delivered => 3,
            Self::Displayed => 4,
            Self::Clicked => 5,
        }
    }
}

/// A delivery as it is stored. Times ending in `_ms` count from the message's creation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The message.
    pub message: Id,
    /// Device number, or [`crate::ids::GIVEN_TARGETS`] + index.
    pub target: u64,
    /// Where it is.
    pub state: State,
    /// Why, where the state is not a success.
    pub reason: Option<Reason>,
    /// The channel that last had it; 0 = none.
    pub channel: i64,
    /// The vendor's message id.
    pub vendor_id: Option<String>,
    /// When the row last changed.
    pub updated_ms: u64,
    /// When it first reached each of accepted, delivered, displayed, clicked.
    pub reached_ms: [Option<u64>; 4],
    /// Encoded by [`trail::encode`]: appended, never rewritten.
    pub trail: Vec<u8>,
}

/// Something that happened to a delivery.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The message.
    pub message: Id,
    /// The target.
    pub target: u64,
    /// The state that this event speaks for.
    pub state: State,
    /// Why, where it is not a success.
    pub reason: Option<Reason>,
    /// Through which channel; 0 = none.
    pub channel: i64,
    /// The vendor's message id, where this event brings one.
    pub vendor_id: Option<String>,
    /// Milliseconds since the message's creation.
    pub at_ms: u64,
    /// What a new delivery is counted under.
    pub platform: KnownPlatform,
    /// What the trail gets first: the decision, encoded once for all of a page that share it.
    pub decided: Option<Arc<[u8]>>,
    /// What the trail gets behind it, in order.
    pub trail: Vec<TrailEntry>,
}

impl Event {
    /// A delivery gets to a state through a channel (0 = none), `at_ms` after its message's creation; nothing is told of it
    /// yet.
    pub fn new((message, target): (Id, u64), state: State, channel: i64, at_ms: u64) -> Self {
        Self {
            message,
            target,
            state,
            reason: None,
            channel,
            vendor_id: None,
            at_ms,
            platform: KnownPlatform::default(),
            decided: None,
            trail: Vec::new(),
        }
    }
}

/// Which platform a device is of, as it was when its route was decided: whoever records need not look it up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownPlatform(u8);

impl KnownPlatform {
    /// The number that reports have it under; 0 = it says none.
    pub fn new(code: u8) -> Self {
        Self(code.saturating_add(1))
    }

    /// The number; `None` where it must be looked up.
    pub fn code(self) -> Option<u8> {
        self.0.checked_sub(1)
    }
}

/// A failure that comes after a channel had accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct LateFailure {
    /// The message.
    pub message: Id,
    /// The target.
    pub target: u64,
    /// Which channel says so.
    pub channel: i64,
    /// Why.
    pub reason: Reason,
    /// Milliseconds since the message's creation.
    pub at_ms: u64,
    /// What the trail gets, in order.
    pub trail: Vec<TrailEntry>,
}

/// How a counter moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CounterKey {
    /// The message.
    pub message: Id,
    /// The channel; 0 = none.
    pub channel: i64,
    /// `Now` or `Reached`.
    pub view: View,
    /// The state.
    pub state: State,
    /// The reason, in view `Now` only.
    pub reason: Option<Reason>,
}

/// The two views of counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum View {
    /// How many are in each state.
    Now = 0,
    /// How many ever reached accepted, delivered, displayed, clicked.
    Reached = 1,
}

/// Bytes of a trail from which on tries that lead to another try are left out.
const LONG_TRAIL: usize = 16 * 1024;
/// Bytes that an entry of a trail takes, where nothing unusual is told.
const USUAL_ENTRY: usize = 16;

/// Applies an event to a delivery (absent = never recorded) and says how the counters move.
///
/// Pending is never counted: it is `targeted` minus all others. A state at or below the present rank leaves the
/// state alone, but its times and trail are kept. One exception moves the channel alone: where a further step of the
/// route is accepted too, the delivery is that channel's from then on. `reached` stays with the channel that came
/// first: a delivery reaches a state once. And an end through a channel that does not have the delivery moves nothing
/// while another one has accepted it: so whether an earlier step of a route still has it is settled here, in the
/// transaction, and not by whoever sent the further one.
pub fn apply(row: Option<Delivery>, event: &Event) -> (Delivery, Vec<(CounterKey, i64)>) {
    let mut moves = Vec::new();
    let before = row.as_ref().map(|r| (r.state, r.reason, r.channel));
    let mut row = row.unwrap_or_else(|| Delivery {
        message: event.message,
        target: event.target,
        state: State::Pending,
        reason: None,
        channel: event.channel,
        vendor_id: None,
        updated_ms: event.at_ms,
        reached_ms: [None; 4],
        trail: Vec::new(),
    });
    // What ends one channel's try takes nothing from another channel that has the delivery.
    let ends = event.state.rank() == State::Failed.rank();
    let spared = ends && row.state == State::Accepted && event.channel != 0 && event.channel != row.channel;
    let rises = event.state.rank() > row.state.rank() && !spared;
    let again = event.state == row.state && matches!(row.state, State::Pending | State::Accepted);
    if rises || again {
        row.state = event.state;
        row.reason = event.reason;
        row.channel = event.channel;
    }
    if event.vendor_id.is_some() {
        row.vendor_id.clone_from(&event.vendor_id);
    }
    row.updated_ms = row.updated_ms.max(event.at_ms);
    // A vendor that says "later" every second for weeks: the story tells its beginning and its end.
    if event.state != State::Pending || row.trail.len() < LONG_TRAIL {
        let lost = ends && !rises && !spared;
        // What had ended, or was seen, before: this did not end it.
        let told = event.trail.iter().filter(|entry| !lost || !matches!(entry, TrailEntry::Ended { .. }));
        let decided = event.decided.as_deref().unwrap_or_default();
        row.trail.reserve(decided.len() + event.trail.len() * USUAL_ENTRY);
        row.trail.extend_from_slice(decided);
        trail::append(&mut row.trail, told);
    }
    for step in reached_by(event.state) {
        let slot = &mut row.reached_ms[usize::from(step.code()) - 1];
        if slot.is_none() {
            *slot = Some(event.at_ms);
            let channel = if rises { event.channel } else { row.channel };
            moves.push((counter(event.message, channel, View::Reached, *step, None), 1));
        }
    }
    let after = (row.state, row.reason, row.channel);
    if before != Some(after) {
        if let Some((state, reason, channel)) = before.filter(|(state, ..)| *state != State::Pending) {
            moves.push((counter(event.message, channel, View::Now, state, reason), -1));
        }
        if row.state != State::Pending {
            moves.push((counter(event.message, row.channel, View::Now, row.state, row.reason), 1));
        }
    }
    (row, moves)
}

/// A channel that had accepted a delivery says later that it failed after all: the delivery goes back on its route.
///
/// The only way down. No event takes it, so receipts in any order cannot; it is refused (`None`) where the delivery
/// has moved on meanwhile or is another channel's by now.
pub fn reenter(row: &Delivery, failure: &LateFailure) -> Option<(Delivery, Vec<(CounterKey, i64)>)> {
    if row.state != State::Accepted || row.channel != failure.channel {
        return None;
    }
    let mut back = row.clone();
    back.state = State::Pending;
    back.reason = Some(failure.reason);
    back.updated_ms = row.updated_ms.max(failure.at_ms);
    back.trail.extend(trail::encode(&failure.trail));
    Some((back, vec![(counter(row.message, row.channel, View::Now, row.state, row.reason), -1)]))
}

/// What a state implies: a displayed message was delivered, a delivered one accepted.
fn reached_by(state: State) -> &'static [State] {
    match state {
        State::Accepted => &[State::Accepted],
        State::Delivered => &[State::Accepted, State::Delivered],
        State::Displayed => &[State::Accepted, State::Delivered, State::Displayed],
        State::Clicked => &[State::Accepted, State::Delivered, State::Displayed, State::Clicked],
        _ => &[],
    }
}

fn counter(message: Id, channel: i64, view: View, state: State, reason: Option<Reason>) -> CounterKey {
    CounterKey { message, channel, view, state, reason }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn event(state: State, at_ms: u64) -> Event {
        let reason = (state.rank() == 2).then_some(Reason::Expired);
        Event { reason, ..Event::new((Id(1), 2), state, 3, at_ms) }
    }

    fn count(counters: &mut BTreeMap<CounterKey, i64>, moves: Vec<(CounterKey, i64)>) {
        for (key, n) in moves {
            *counters.entry(key).or_insert(0) += n;
        }
    }

    fn replay(states: &[State]) -> (Option<Delivery>, BTreeMap<CounterKey, i64>) {
        let mut row = None;
        let mut counters = BTreeMap::new();
        for (at, state) in states.iter().enumerate() {
            let (next, moves) = apply(row, &event(*state, at as u64));
            row = Some(next);
            for (key, n) in moves {
                *counters.entry(key).or_insert(0) += n;
            }
        }
        counters.retain(|_, n| *n != 0);
        (row, counters)
    }

    fn receipts() -> impl Strategy<Value = Vec<State>> {
        let any = prop::sample::select(vec![
            State::Pending,
            State::Accepted,
            State::Delivered,
            State::Displayed,
            State::Clicked,
        ]);
        prop::collection::vec(any, 1..12)
    }

    proptest! {
        #[test]
        fn receipts_in_any_order_and_number_give_one_final_state(states in receipts(), seed: u64) {
            let (row, counters) = replay(&states);
            let mut shuffled = states.clone();
            let len = shuffled.len();
            for i in 0..len {
                shuffled.swap(i, (seed.rotate_left(i as u32) % len as u64) as usize);
            }
            shuffled.extend(states.iter().copied());
            let (again, same) = replay(&shuffled);
            prop_assert_eq!(row.unwrap().state, again.unwrap().state);
            prop_assert_eq!(counters, same);
        }

        #[test]
        fn a_trail_ends_growing_and_still_tells_the_end(tries in 1000usize..3000) {
            let told = |state| Event {
                trail: vec![trail::TrailEntry::Ended { at_ms: 1_000_000, reason: Reason::RateLimited }; 20],
                ..event(state, 7)
            };
            let mut row = None;
            for _ in 0..tries {
                row = Some(apply(row, &told(State::Pending)).0);
            }
            let before = row.as_ref().unwrap().trail.len();
            prop_assert!(before < LONG_TRAIL + 500, "{}", before);
            let (row, _) = apply(row, &told(State::Expired));
            prop_assert!(row.trail.len() > before);
        }

        #[test]
        fn a_delivery_that_two_channels_accept_is_counted_once_and_is_the_later_ones(channels in prop::collection::vec(1i64..4, 1..6)) {
            let mut counters = BTreeMap::new();
            let mut row = None;
            for channel in &channels {
                let (next, moves) = apply(row, &Event { channel: *channel, ..event(State::Accepted, 1) });
                count(&mut counters, moves);
                row = Some(next);
            }
            counters.retain(|_, n| *n != 0);
            let at = |channel, view| counter(Id(1), channel, view, State::Accepted, None);
            let (first, last) = (channels[0], *channels.last().unwrap());
            prop_assert_eq!(counters, BTreeMap::from([(at(first, View::Reached), 1), (at(last, View::Now), 1)]));
        }

        #[test]
        fn what_comes_too_late_to_end_a_delivery_does_not_say_so(seen in 2u8..5, end in 5u8..10) {
            let told = |state| {
                let trail = vec![trail::TrailEntry::Ended { at_ms: 5, reason: Reason::Expired }];
                Event { trail, ..event(state, 5) }
            };
            let (row, _) = apply(None, &event(State::from_code(seen).unwrap(), 1));
            let (row, moves) = apply(Some(row), &told(State::from_code(end).unwrap()));
            prop_assert!(moves.is_empty() && trail::decode(&row.trail).is_empty());
            let (row, _) = apply(None, &event(State::Accepted, 1));
            let (row, _) = apply(Some(row), &told(State::from_code(end).unwrap()));
            prop_assert_eq!(trail::decode(&row.trail).len(), 1);
        }

        #[test]
        fn what_ends_one_channels_try_takes_nothing_from_another_that_accepted(end in 5u8..10) {
            let end = event(State::from_code(end).unwrap(), 5);
            let (row, _) = apply(None, &event(State::Accepted, 1));
            let (row, moves) = apply(Some(row), &Event { channel: 4, ..end.clone() });
            prop_assert!(moves.is_empty());
            prop_assert_eq!((row.state, row.channel), (State::Accepted, 3));
            prop_assert_eq!(apply(Some(row), &end).0.state, end.state);
        }

        #[test]
        fn the_rank_never_falls(codes in prop::collection::vec(0u8..10, 1..20)) {
            let mut row = None;
            let mut rank = 0;
            for code in codes {
                let (next, _) = apply(row, &event(State::from_code(code).unwrap(), 0));
                prop_assert!(next.state.rank() >= rank);
                rank = next.state.rank();
                row = Some(next);
            }
        }

        #[test]
        fn only_what_its_own_channel_had_accepted_goes_back_and_the_counters_follow(
            codes in prop::collection::vec(0u8..10, 1..12), after in prop::collection::vec(0u8..10, 0..12),
            channel in 2i64..4,
        ) {
            let states: Vec<_> = codes.into_iter().filter_map(State::from_code).collect();
            let (row, mut counters) = replay(&states);
            let row = row.unwrap();
            let (message, target) = (row.message, row.target);
            let late =
                LateFailure { message, target, channel, reason: Reason::Unclassified, at_ms: 9, trail: vec![] };
            let back = reenter(&row, &late);
            prop_assert_eq!(back.is_some(), row.state == State::Accepted && row.channel == channel);
            let mut row = back.map_or(row, |(back, moves)| {
                count(&mut counters, moves);
                back
            });
            for state in after.into_iter().filter_map(State::from_code) {
                let (next, moves) = apply(Some(row), &Event { channel: 5, ..event(state, 10) });
                count(&mut counters, moves);
                row = next;
            }
            prop_assert!(counters.values().all(|n| (0..=1).contains(n)));
            let sum = |view| counters.iter().filter(|(k, _)| k.view == view).map(|(_, n)| *n).sum::<i64>();
            prop_assert_eq!(sum(View::Now), i64::from(row.state != State::Pending));
            prop_assert_eq!(sum(View::Reached), row.reached_ms.iter().flatten().count() as i64);
        }

        #[test]
        fn each_recorded_delivery_counts_once_in_now(codes in prop::collection::vec(0u8..10, 1..20)) {
            let states: Vec<_> = codes.into_iter().filter_map(State::from_code).collect();
            let (row, counters) = replay(&states);
            let now: i64 = counters.iter().filter(|(k, _)| k.view == View::Now).map(|(_, n)| n).sum();
            prop_assert_eq!(now, i64::from(row.unwrap().state != State::Pending));
        }
    }
}
