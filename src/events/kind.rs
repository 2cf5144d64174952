//! The closed list of what is told.

use serde::{Deserialize, Serialize};

use crate::delivery::state::State;
use crate::routing::ChannelState;

/// What an event tells of. The numbers are stored (as bits): never change one, append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum EventKind {
    /// Nothing of a message is pending any more.
    MessageDone = 0,
    /// A vendor or the inbox has it.
    DeliveryAccepted = 1,
    /// The phone has it.
    DeliveryDelivered = 2,
    /// It was shown.
    DeliveryDisplayed = 3,
    /// A person tapped it.
    DeliveryClicked = 4,
    /// No channel took it, or it failed later.
    DeliveryFailed = 5,
    /// At most once, and the outcome was never learned.
    DeliveryUnknown = 6,
    /// The TTL was over first.
    DeliveryExpired = 7,
    /// The backend cancelled it.
    DeliveryCancelled = 8,
    /// Never meant to be sent.
    DeliverySuppressed = 9,
    /// A vendor calls an address of a device dead; it is not used any more.
    AddressRetired = 10,
    /// A vendor refuses the channel's credentials.
    ChannelAuthFailed = 11,
    /// The channel's quota is used up.
    ChannelQuotaExhausted = 12,
    /// The channel's vendor does not answer.
    ChannelDown = 13,
    /// The channel works again.
    ChannelRecovered = 14,
    /// A webhook was disabled, because it went on failing or was gone.
    WebhookDisabled = 15,
    /// Somebody tries a webhook.
    WebhookTest = 16,
}

impl EventKind {
    /// All kinds, in stored order.
    pub const ALL: [Self; 17] = [
        Self::MessageDone,
        Self::DeliveryAccepted,
        Self::DeliveryDelivered,
        Self::DeliveryDisplayed,
        Self::DeliveryClicked,
        Self::DeliveryFailed,
        Self::DeliveryUnknown,
        Self::DeliveryExpired,
        Self::DeliveryCancelled,
        Self::DeliverySuppressed,
        Self::AddressRetired,
        Self::ChannelAuthFailed,
        Self::ChannelQuotaExhausted,
        Self::ChannelDown,
        Self::ChannelRecovered,
        Self::WebhookDisabled,
        Self::WebhookTest,
    ];

    /// The name that users see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MessageDone => "message.done",
            Self::DeliveryAccepted => "delivery.accepted",
            Self::DeliveryDelivered => "delivery.delivered",
            Self::DeliveryDisplayed => "delivery.displayed",
            Self::DeliveryClicked => "delivery.clicked",
            Self::DeliveryFailed => "delivery.failed",
            Self::DeliveryUnknown => "delivery.unknown",
            Self::DeliveryExpired => "delivery.expired",
            Self::DeliveryCancelled => "delivery.cancelled",
            Self::DeliverySuppressed => "delivery.suppressed",
            Self::AddressRetired => "device.address_retired",
            Self::ChannelAuthFailed => "channel.auth_failed",
            Self::ChannelQuotaExhausted => "channel.quota_exhausted",
            Self::ChannelDown => "channel.down",
            Self::ChannelRecovered => "channel.recovered",
            Self::WebhookDisabled => "webhook.disabled",
            Self::WebhookTest => "webhook.test",
        }
    }

    /// By the name that users see.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Its bit in a set of kinds.
    pub fn bit(self) -> u32 {
        1 << (self as u8)
    }

    /// Every kind that happens by itself: all but the test.
    pub fn every() -> u32 {
        Self::ALL.iter().fold(0, |all, kind| all | kind.bit()) & !Self::WebhookTest.bit()
    }

    /// What is told of a delivery that came to this; `None` where nothing is.
    pub fn of_state(state: State) -> Option<Self> {
        Some(match state {
            State::Pending => return None,
            State::Accepted => Self::DeliveryAccepted,
            State::Delivered => Self::DeliveryDelivered,
            State::Displayed => Self::DeliveryDisplayed,
            State::Clicked => Self::DeliveryClicked,
            State::Failed => Self::DeliveryFailed,
            State::Unknown => Self::DeliveryUnknown,
            State::Expired => Self::DeliveryExpired,
            State::Cancelled => Self::DeliveryCancelled,
            State::Suppressed => Self::DeliverySuppressed,
        })
    }

    /// What is told of a channel that goes from one state to another. What an operator does is none of it.
    pub fn of_channel(before: ChannelState, after: ChannelState) -> Option<Self> {
        let troubled = |state| {
            matches!(state, ChannelState::AuthFailed | ChannelState::QuotaExhausted | ChannelState::Down)
        };
        match after {
            _ if before == after => None,
            ChannelState::AuthFailed => Some(Self::ChannelAuthFailed),
            ChannelState::QuotaExhausted => Some(Self::ChannelQuotaExhausted),
            ChannelState::Down => Some(Self::ChannelDown),
            ChannelState::Ok => troubled(before).then_some(Self::ChannelRecovered),
            ChannelState::Paused => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_bits_are_each_kinds_own() {
        for (at, kind) in EventKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, at);
            assert_eq!(EventKind::named(kind.as_str()), Some(kind));
        }
        assert_eq!(EventKind::every().count_ones() as usize, EventKind::ALL.len() - 1);
        assert_eq!(EventKind::named("delivery.pending"), None);
    }

    #[test]
    fn a_channel_recovers_only_from_trouble() {
        use ChannelState::{AuthFailed, Down, Ok, Paused};
        let told = EventKind::of_channel;
        assert_eq!(told(Ok, AuthFailed), Some(EventKind::ChannelAuthFailed));
        assert_eq!(told(Down, Ok), Some(EventKind::ChannelRecovered));
        for (before, after) in [(Ok, Ok), (Paused, Ok), (Ok, Paused), (Down, Down)] {
            assert_eq!(told(before, after), None);
        }
    }
}
