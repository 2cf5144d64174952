//! What waits for phones, and what phones say.

use anypush_providers::contract::Class;

use crate::delivery::state::State;
use crate::ids::Id;

/// An inbox entry to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewInbox {
    /// For which device.
    pub device: u64,
    /// Which message.
    pub message: Id,
    /// Its class.
    pub class: Class,
    /// Its size in bytes, against the inbox's limit.
    pub size: u32,
    /// Unix milliseconds.
    pub expires_at: u64,
    /// Values for this device alone, as JSON.
    pub variables: Option<String>,
}

/// An inbox entry as handed out.
#[derive(Debug, Clone, PartialEq)]
pub struct InboxEntry {
    /// Its position.
    pub pos: i64,
    /// The message.
    pub message: Id,
    /// Its class.
    pub class: Class,
    /// [`crate::delivery::spec::Spec`] as JSON.
    pub spec: String,
    /// Unix milliseconds.
    pub created_at: u64,
    /// Unix milliseconds.
    pub expires_at: u64,
    /// Values for this device alone, as JSON.
    pub variables: Option<String>,
}

/// What a phone acknowledges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ack {
    /// Everything handed out up to this position.
    UpTo(i64),
    /// Exactly these messages.
    Messages(Vec<Id>),
}

/// What a phone reports about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhoneEvent {
    /// Which message.
    pub message: Id,
    /// Delivered, displayed or clicked; `None` = dismissed, an event without a state.
    pub state: Option<State>,
}
