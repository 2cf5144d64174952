//! What is forgotten with age.

/// A kind of rows that are too old at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aged {
    /// Messages that are over, with their deliveries, targets and counters. Their age counts from the end of their TTL.
    Messages,
    /// Keys of calls that may not be repeated any more.
    IdempotencyKeys,
    /// Registration tokens that were used and have expired.
    Nonces,
    /// What became of requests to webhooks.
    WebhookAttempts,
    /// Counters of reports, with the labels that they tell apart.
    Reports,
    /// How tries through channels went.
    ChannelStats,
    /// The oldest rows of the audit log.
    Audit,
}

impl Aged {
    /// What metrics and the log call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::IdempotencyKeys => "idempotency_keys",
            Self::Nonces => "registration_nonces",
            Self::WebhookAttempts => "webhook_attempts",
            Self::Reports => "report_counters",
            Self::ChannelStats => "channel_counters",
            Self::Audit => "audit_rows",
        }
    }
}

/// What one transaction forgot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// How many things of the kind: messages, or rows.
    pub things: u64,
    /// Of messages: how many deliveries went with them.
    pub deliveries: u64,
    /// Where the next one goes on; kinds other than messages always begin at their oldest.
    pub place: i64,
    /// More is too old.
    pub more: bool,
}
