//! Messages, what they aim at, and how their deliveries are counted and listed.

use anypush_providers::contract::{Class, Reason};

use crate::delivery::state::{State, View};
use crate::ids::Id;

/// A message to be stored.
#[derive(Debug, Clone)]
pub struct NewMessage {
    /// Its id, made by the caller.
    pub id: Id,
    /// Its app.
    pub app: i64,
    /// Its class.
    pub class: Class,
    /// [`crate::delivery::spec::Spec`] as JSON.
    pub spec: String,
    /// Report dimension.
    pub label: Option<String>,
    /// Its collapse key, as a number; `None` = it has none.
    pub collapse: Option<i64>,
    /// Unix milliseconds.
    pub created_at: u64,
    /// When every delivery has ended at the latest.
    pub deadline_at: u64,
    /// When it is sent, in Unix milliseconds: until then it is scheduled. `None`: at once.
    pub send_at: Option<u64>,
    /// Hash of the Idempotency-Key and of the body.
    pub idempotency: Option<([u8; 32], [u8; 32])>,
}

/// What became of an accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AcceptAnswer {
    /// It is stored.
    Stored,
    /// The same call was stored before: its message.
    Replayed {
        /// The message.
        id: Id,
        /// Unix milliseconds.
        created_at: u64,
    },
    /// The key was used with another body.
    KeyReused,
}

/// A message as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageRecord {
    /// Its id.
    pub id: Id,
    /// Its app.
    pub app: i64,
    /// 0 sending, 1 scheduled, 2 cancelling, 3 cancelled.
    pub state: u8,
    /// Its class.
    pub class: Class,
    /// [`crate::delivery::spec::Spec`] as JSON.
    pub spec: String,
    /// Report dimension.
    pub label: Option<String>,
    /// Unix milliseconds.
    pub created_at: u64,
    /// Unix milliseconds.
    pub deadline_at: u64,
    /// When it was to be sent, in Unix milliseconds; `None`: at once.
    pub send_at: Option<u64>,
    /// Set when the whole audience is in pages.
    pub expanded_at: Option<u64>,
    /// Targets so far.
    pub targeted: u64,
    /// Raised by cancel and recall.
    pub generation: u32,
}

/// A target that is no device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewTarget {
    /// Which provider can use it; `None` for an id that names nothing.
    pub provider: Option<String>,
    /// The kind of token.
    pub kind: Option<String>,
    /// The token.
    pub token: Option<String>,
    /// Params as JSON.
    pub params: Option<String>,
    /// What the call said, where it named nothing.
    pub given: Option<String>,
}

/// A counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    /// The channel; 0 = none.
    pub channel: i64,
    /// Which view.
    pub view: View,
    /// The state.
    pub state: State,
    /// The reason, in view `Now`.
    pub reason: Option<Reason>,
    /// How many.
    pub n: u64,
}

/// Which messages to list; all conditions hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageFilter {
    /// With this label.
    pub label: Option<String>,
    /// Those that wait for their time alone.
    pub scheduled: bool,
}

/// Which deliveries to list; all conditions hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// In this state.
    pub state: Option<State>,
    /// Through this channel.
    pub channel: Option<i64>,
    /// For this reason.
    pub reason: Option<Reason>,
}
