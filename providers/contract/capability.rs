//! What a provider can do: one flat struct that routing, dispatch, the API and the tests all read.

use std::time::Duration;

use serde::Serialize;

use super::content::{Badge, Content, Priority};

/// What a provider can carry and witness. Adapters write what is true and close with
/// `..Capabilities::NONE`; each limit names its source in a comment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "a flat list of abilities reads best as one")]
pub struct Capabilities {
    /// Shows a notification without the app running.
    pub notification: bool,
    /// Hands a data message to the app without showing anything.
    pub data: bool,
    /// Shows a picture.
    pub image: bool,
    /// Plays a named sound.
    pub sound: bool,
    /// Sets the icon's number.
    pub badge_set: bool,
    /// Adds to the icon's number.
    pub badge_add: bool,
    /// Shows action buttons.
    pub actions: bool,
    /// Replaces an older message by collapse key.
    pub collapse: bool,
    /// Can withdraw a message.
    pub recall: bool,
    /// The vendor drops a repeated request by key, so that a repeat is never seen twice.
    pub dedupe: bool,
    /// Takes `overrides`.
    pub overrides: bool,
    /// Targets that fit into one vendor request; 1 for one-token-a-request vendors.
    pub max_targets: u32,
    /// Vendor requests that one credential may have in flight at most.
    pub max_in_flight: u32,
    /// Largest payload in bytes, measured as the adapter measures it; 0 = no limit known.
    pub max_payload_bytes: u32,
    /// Longest time the vendor keeps a message for an offline phone.
    pub max_ttl: Duration,
    /// Smallest unit of the vendor's TTL; what is left is rounded down to it.
    pub ttl_unit: Duration,
    /// How receipts come.
    pub receipts: Receipts,
    /// How a receipt finds its delivery.
    pub receipt_key: ReceiptKey,
    /// Can be asked what became of a message, by its own id ([`super::Provider::poll_receipts`]).
    pub polls_receipts: bool,
    /// Can witness that the phone got it.
    pub witnesses_delivered: bool,
    /// Can witness that it was shown.
    pub witnesses_displayed: bool,
    /// Can witness a tap.
    pub witnesses_clicked: bool,
    /// What a send costs.
    pub cost: Cost,
    /// What happens by default when an outcome is never learned.
    pub default_delivery: DeliveryMode,
}

impl Capabilities {
    /// Nothing: the base that every adapter builds on.
    pub const NONE: Self = Self {
        notification: false,
        data: false,
        image: false,
        sound: false,
        badge_set: false,
        badge_add: false,
        actions: false,
        collapse: false,
        recall: false,
        dedupe: false,
        overrides: false,
        max_targets: 1,
        max_in_flight: 100,
        max_payload_bytes: 0,
        max_ttl: Duration::from_hours(28 * 24),
        ttl_unit: Duration::from_secs(1),
        receipts: Receipts::None,
        receipt_key: ReceiptKey::None,
        polls_receipts: false,
        witnesses_delivered: false,
        witnesses_displayed: false,
        witnesses_clicked: false,
        cost: Cost::Free,
        default_delivery: DeliveryMode::AtLeastOnce,
    };

    /// What the message needs and this provider lacks; empty = fit. Routing decides by the blocking ones and
    /// explains with all of them.
    pub fn gaps(&self, needs: &Needs) -> Vec<Gap> {
        let wants = [
            (needs.notification && !self.notification, Gap::Notification),
            (needs.data_only && !self.data, Gap::Data),
            (needs.image && !self.image, Gap::Image),
            (needs.sound && !self.sound, Gap::Sound),
            (needs.badge_set && !self.badge_set, Gap::Badge),
            (needs.badge_add && !self.badge_add, Gap::Badge),
            (needs.actions && !self.actions, Gap::Actions),
            (needs.collapse && !self.collapse, Gap::Collapse),
        ];
        wants.into_iter().filter_map(|(missing, gap)| missing.then_some(gap)).collect()
    }
}

/// What a message asks of a channel, computed once per message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the mirror of `Capabilities`")]
pub struct Needs {
    /// Has something to show.
    pub notification: bool,
    /// Has only data.
    pub data_only: bool,
    /// Has a picture.
    pub image: bool,
    /// Names a sound.
    pub sound: bool,
    /// Sets the badge.
    pub badge_set: bool,
    /// Adds to the badge.
    pub badge_add: bool,
    /// Names a set of buttons.
    pub actions: bool,
    /// Has a collapse key.
    pub collapse: bool,
    /// Wants the phone woken.
    pub high_priority: bool,
}

impl Needs {
    /// Reads the needs off a content.
    pub fn of(content: &Content) -> Self {
        let shown = content.notification.as_ref();
        let badge = shown.and_then(|n| n.badge);
        Self {
            notification: shown.is_some(),
            data_only: shown.is_none(),
            image: shown.is_some_and(|n| n.image.is_some()),
            sound: shown.is_some_and(|n| n.sound.is_some()),
            badge_set: matches!(badge, Some(Badge::Set(_))),
            badge_add: matches!(badge, Some(Badge::Add(_))),
            actions: shown.is_some_and(|n| n.actions_category.is_some()),
            collapse: content.collapse_key.is_some(),
            high_priority: content.priority == Priority::High,
        }
    }
}

/// One thing that a message needs and a channel lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Gap {
    /// Cannot show a notification: blocking.
    Notification,
    /// Cannot carry a silent data message: blocking.
    Data,
    /// The picture is left out.
    Image,
    /// The sound is left out.
    Sound,
    /// The badge is left out.
    Badge,
    /// The buttons are left out.
    Actions,
    /// Two messages may both show.
    Collapse,
}

impl Gap {
    /// Whether a channel with this gap cannot carry the message at all.
    pub fn blocks(self) -> bool {
        matches!(self, Self::Notification | Self::Data)
    }

    /// The name that users see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Notification => "notification",
            Self::Data => "data",
            Self::Image => "image",
            Self::Sound => "sound",
            Self::Badge => "badge",
            Self::Actions => "actions",
            Self::Collapse => "collapse",
        }
    }
}

/// How receipts come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Receipts {
    /// Never: the channel is blind after `accepted`.
    None,
    /// The vendor calls us.
    Callback,
    /// We ask the vendor, and that is the only way.
    Poll,
}

/// How a receipt finds its delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptKey {
    /// There are no receipts.
    None,
    /// The vendor echoes a parameter that we send.
    Param,
    /// The vendor's own message id.
    VendorId,
    /// The token, looked up among the app's addresses (retired ones included).
    Token,
}

/// What a send costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cost {
    /// Nothing.
    Free,
    /// Money for each target.
    PerTarget,
}

/// What happens when the outcome of a request is never learned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryMode {
    /// It is repeated with the same vendor key: a phone may see it twice.
    #[default]
    AtLeastOnce,
    /// It is never repeated: the delivery ends `unknown`.
    AtMostOnce,
}
