//! What is stored of an event: numbers. Names, counts and metadata are looked up when it is told.

use anypush_providers::contract::Reason;
use serde::{Deserialize, Serialize};

use crate::delivery::state::State;
use crate::events::EventKind;
use crate::ids::Id;
use crate::routing::ChannelState;

/// The form of a row; a reader refuses another one.
const VERSION: u8 = 1;

/// Something that happened, as it is stored. Variants and fields are only ever appended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fact {
    /// A delivery reached a state.
    Delivery {
        /// The message.
        message: i64,
        /// The target.
        target: u64,
        /// [`State`] by number.
        state: u8,
        /// [`Reason`] by number; 0 = none.
        reason: u8,
        /// The channel; 0 = none.
        channel: i64,
        /// Milliseconds since the message's creation.
        at_ms: u64,
    },
    /// Nothing of a message is pending any more.
    MessageDone {
        /// The message.
        message: i64,
        /// Unix milliseconds.
        at: u64,
    },
    /// An address was retired.
    AddressRetired {
        /// The device's number.
        device: u64,
        /// Whose address it was.
        provider: String,
        /// [`Reason`] by number.
        reason: u8,
        /// Unix milliseconds.
        at: u64,
    },
    /// A channel changed its state.
    Channel {
        /// Its number.
        channel: i64,
        /// [`EventKind`] by number.
        kind: u8,
        /// [`ChannelState`] by number.
        state: u8,
        /// Why, in words.
        info: Option<String>,
        /// Unix milliseconds.
        at: u64,
    },
    /// A webhook was disabled by the gateway.
    WebhookDisabled {
        /// Its number.
        webhook: i64,
        /// Its public id: it may be deleted when this is told.
        id: String,
        /// Why, in one word.
        reason: String,
        /// Unix milliseconds.
        at: u64,
    },
    /// A sample.
    Test {
        /// Unix milliseconds.
        at: u64,
    },
}

impl Fact {
    /// A delivery's.
    pub fn delivery(
        (message, target): (Id, u64),
        state: State,
        reason: Option<Reason>,
        channel: i64,
        at_ms: u64,
    ) -> Self {
        let (state, reason) = (state.code(), reason.map_or(0, Reason::code));
        Self::Delivery { message: message.0, target, state, reason, channel, at_ms }
    }

    /// A channel's; `None` where this change is nothing to tell.
    pub fn channel(seq: i64, before: u8, after: u8, info: Option<&str>, at: u64) -> Option<Self> {
        let [before, new] = [before, after].map(ChannelState::from_code);
        let kind = EventKind::of_channel(before?, new?)? as u8;
        Some(Self::Channel { channel: seq, kind, state: after, info: info.map(str::to_owned), at })
    }

    /// What it tells of; `None` where a newer version wrote it.
    pub fn kind(&self) -> Option<EventKind> {
        match self {
            Self::Delivery { state, .. } => State::from_code(*state).and_then(EventKind::of_state),
            Self::MessageDone { .. } => Some(EventKind::MessageDone),
            Self::AddressRetired { .. } => Some(EventKind::AddressRetired),
            Self::Channel { kind, .. } => EventKind::ALL.get(usize::from(*kind)).copied(),
            Self::WebhookDisabled { .. } => Some(EventKind::WebhookDisabled),
            Self::Test { .. } => Some(EventKind::WebhookTest),
        }
    }

    /// Its bit; 0 where a newer version wrote it.
    pub fn bit(&self) -> u32 {
        self.kind().map_or(0, EventKind::bit)
    }

    /// The message that it is about.
    pub fn message(&self) -> Option<Id> {
        match self {
            Self::Delivery { message, .. } | Self::MessageDone { message, .. } => Some(Id(*message)),
            _ => None,
        }
    }
}

/// The facts of a row.
pub fn encode(facts: &[&Fact]) -> Vec<u8> {
    postcard::to_extend(facts, vec![VERSION]).expect("memory is all that writing into a Vec needs")
}

/// The facts of a row; none where a newer version wrote it.
pub fn decode(bytes: &[u8]) -> Vec<Fact> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => postcard::from_bytes(rest).unwrap_or_default(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_costs_a_few_bytes_and_reads_as_it_was_written() {
        let facts: Vec<_> = (0..1000)
            .map(|target| {
                Fact::delivery((Id(1 << 58), target), State::Failed, Some(Reason::NoRoute), 3, 90_000)
            })
            .collect();
        let bytes = encode(&facts.iter().collect::<Vec<_>>());
        assert!(bytes.len() < 25_000, "{}", bytes.len());
        assert_eq!(decode(&bytes), facts);
        assert!(decode(&[9, 1, 2]).is_empty() && decode(&[]).is_empty());
    }
}
