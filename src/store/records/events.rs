//! The journal of events, and who is told of them.

use crate::events::Fact;

/// An event of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// Its number: grows in commit order, never given twice.
    pub number: u64,
    /// What happened.
    pub fact: Fact,
}

/// A part of the journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventPage {
    /// What fits, in order.
    pub rows: Vec<EventRow>,
    /// How far was read: the next page begins after it.
    pub read_to: u64,
}

/// Where the journal begins and ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventBounds {
    /// The newest number; 0 = none yet.
    pub last: u64,
    /// The newest number that was purged; 0 = none.
    pub purged_to: u64,
}

/// How an endpoint's requests are signed. The numbers are stored: never change one, append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Signature {
    /// `v1`: HMAC-SHA256 with a shared secret.
    Hmac = 0,
    /// `v1a`: ed25519; the receiver has the public key alone.
    Ed25519 = 1,
}

/// A webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookRecord {
    /// Its number; 0 = not stored yet. Never given twice.
    pub seq: i64,
    /// Its public id.
    pub public_id: String,
    /// The app.
    pub app: i64,
    /// Where it is.
    pub url: String,
    /// What it is for.
    pub description: String,
    /// Which kinds it is told of, as bits.
    pub kinds: u32,
    /// How its requests are signed.
    pub signature: Signature,
    /// Its secrets, sealed.
    pub secrets: Vec<u8>,
    /// Why it is disabled; `None`: it is enabled.
    pub disabled: Option<String>,
    /// Since when, in Unix milliseconds.
    pub disabled_at: Option<u64>,
    /// Since when every attempt fails, in Unix milliseconds.
    pub failing_since: Option<u64>,
    /// Unix milliseconds.
    pub created_at: u64,
    /// Unix milliseconds.
    pub updated_at: u64,
}

/// A try to tell a webhook of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookAttempt {
    /// Its number, in order; 0 = not stored yet.
    pub seq: u64,
    /// The event.
    pub event: u64,
    /// What it tells of, by number.
    pub kind: u8,
    /// Which try of it.
    pub attempt: u32,
    /// When it began, in Unix milliseconds.
    pub at: u64,
    /// How long it took.
    pub latency_ms: u64,
    /// The status of the answer; `None`: there was none.
    pub status: Option<u16>,
    /// Why it failed, in one word; `None`: it did not.
    pub error: Option<String>,
    /// When it is tried again, in Unix milliseconds.
    pub next_at: Option<u64>,
}

/// What became of a webhook, as a part of a set of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookChange {
    /// Which.
    pub webhook: i64,
    /// Since when every attempt fails; `None`: it does not.
    pub failing_since: Option<u64>,
    /// Disables it: why, in one word. Its work ends with it.
    pub disable: Option<String>,
    /// What was tried.
    pub attempts: Vec<WebhookAttempt>,
}
