//! What became of a target: one closed list of reasons for all vendors, the vendor's own words beside it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// What became of one target of a batch. Every target gets exactly one.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Index of the target in [`super::Batch::targets`].
    pub target: usize,
    /// Accepted or not.
    pub verdict: Verdict,
    /// The vendor's own answer, untouched.
    pub vendor: VendorEcho,
    /// From the request's first byte to the answer's last; zero where no request was made.
    pub latency: Duration,
}

/// Accepted or not.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The vendor has taken responsibility for it.
    Accepted,
    /// The vendor has not, or may not have.
    Failed(Failure),
}

/// Why a target was not accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// From the closed list.
    pub reason: Reason,
    /// What the reason is about.
    pub scope: Scope,
    /// How sure it is.
    pub certainty: Certainty,
    /// When and how to try again.
    pub hint: Hint,
    /// Since when it is so, where the vendor says that: a dead token may have been registered again since.
    pub since: Option<SystemTime>,
}

impl Failure {
    /// A definite failure about the target, with no hint.
    pub fn target(reason: Reason) -> Self {
        Self { reason, scope: Scope::Target, certainty: Certainty::Definite, hint: Hint::None, since: None }
    }

    /// A definite failure about the whole channel, with no hint.
    pub fn channel(reason: Reason) -> Self {
        Self { reason, scope: Scope::Channel, certainty: Certainty::Definite, hint: Hint::None, since: None }
    }

    /// The same, but not sure.
    #[must_use]
    pub fn doubtful(self) -> Self {
        Self { certainty: Certainty::Doubtful, ..self }
    }

    /// The same with the time since when it is so.
    #[must_use]
    pub fn since(self, since: Option<SystemTime>) -> Self {
        Self { since, ..self }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(self, hint: Hint) -> Self {
        Self { hint, ..self }
    }
}

/// The closed list of reasons. The numbers are stored: never change one, append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Reason {
    /// The token is dead: the address is retired.
    InvalidToken = 1,
    /// The token belongs to another app or project: address kept and flagged.
    WrongApp = 2,
    /// The vendor refuses the payload's form.
    PayloadInvalid = 3,
    /// The payload is over the vendor's limit.
    PayloadTooLarge = 4,
    /// The vendor refuses what it says.
    ContentRejected = 5,
    /// The channel's credentials are refused.
    AuthFailed = 6,
    /// Too fast: retried later.
    RateLimited = 7,
    /// The quota is used up until the vendor's reset.
    QuotaExceeded = 8,
    /// The phone cannot be reached by this vendor now.
    DeviceUnavailable = 9,
    /// The vendor is down, slow or overloaded.
    VendorUnavailable = 10,
    /// The vendor's answer makes no sense.
    ProtocolError = 11,
    /// The number cannot get messages.
    UnreachableRecipient = 12,
    /// The carrier refused.
    CarrierRejected = 13,
    /// The person does not want messages.
    OptedOut = 14,
    /// Ours: no channel can reach the target.
    NoRoute = 15,
    /// Ours: the id names nothing in this app.
    UnknownTarget = 16,
    /// Ours: another device of the audience has the same address.
    DuplicateAddress = 17,
    /// Ours: the user has had enough.
    FrequencyCapped = 18,
    /// Ours: a newer message with the same collapse key took its place.
    Superseded = 19,
    /// Ours: the phone's inbox has no room.
    InboxFull = 20,
    /// Ours: the TTL is over.
    Expired = 21,
    /// Ours: the backend cancelled it.
    Cancelled = 22,
    /// A vendor code that no table knows: counted by name so that the table can grow.
    Unclassified = 23,
    /// Ours: it was sent to a user, who has left the phone since.
    UserLeft = 24,
}

impl Reason {
    /// All reasons, in stored order.
    pub const ALL: [Self; 24] = [
        Self::InvalidToken,
        Self::WrongApp,
        Self::PayloadInvalid,
        Self::PayloadTooLarge,
        Self::ContentRejected,
        Self::AuthFailed,
        Self::RateLimited,
        Self::QuotaExceeded,
        Self::DeviceUnavailable,
        Self::VendorUnavailable,
        Self::ProtocolError,
        Self::UnreachableRecipient,
        Self::CarrierRejected,
        Self::OptedOut,
        Self::NoRoute,
        Self::UnknownTarget,
        Self::DuplicateAddress,
        Self::FrequencyCapped,
        Self::Superseded,
        Self::InboxFull,
        Self::Expired,
        Self::Cancelled,
        Self::Unclassified,
        Self::UserLeft,
    ];

    /// The number that is stored.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Reads a stored number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }

    /// The name that users see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidToken => "invalid_token",
            Self::WrongApp => "wrong_app",
            Self::PayloadInvalid => "payload_invalid",
            Self::PayloadTooLarge => "payload_too_large",
            Self::ContentRejected => "content_rejected",
            Self::AuthFailed => "auth_failed",
            Self::RateLimited => "rate_limited",
            Self::QuotaExceeded => "quota_exceeded",
            Self::DeviceUnavailable => "device_unavailable",
            Self::VendorUnavailable => "vendor_unavailable",
            Self::ProtocolError => "protocol_error",
            Self::UnreachableRecipient => "unreachable_recipient",
            Self::CarrierRejected => "carrier_rejected",
            Self::OptedOut => "opted_out",
            Self::NoRoute => "no_route",
            Self::UnknownTarget => "unknown_target",
            Self::DuplicateAddress => "duplicate_address",
            Self::FrequencyCapped => "frequency_capped",
            Self::Superseded => "superseded",
            Self::InboxFull => "inbox_full",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Unclassified => "unclassified",
            Self::UserLeft => "user_left",
        }
    }
}

/// What a reason is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// This target alone.
    Target,
    /// All messages of this class or category.
    Class,
    /// The whole channel.
    Channel,
}

/// How sure an outcome is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// The vendor said so; or the request provably never reached it.
    Definite,
    /// For a token: needs a second strike. For a lost answer: the vendor may have accepted it, so a repeat may be
    /// seen twice and `at_most_once` ends `unknown`.
    Doubtful,
}

/// When and how to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// The gateway's table decides.
    None,
    /// The vendor named a time to wait.
    RetryAfter(Duration),
    /// The request was never processed (HTTP/2 REFUSED_STREAM, GOAWAY): repeat at once, it counts as no attempt.
    NotProcessed,
}

/// The vendor's own answer, untouched, for the trail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VendorEcho {
    /// The vendor's message id.
    pub id: Option<String>,
    /// HTTP status, where there was one.
    pub status: Option<u16>,
    /// The vendor's code.
    pub code: Option<String>,
    /// The vendor's words, cut to 300 bytes, never a token or credential.
    pub words: Option<String>,
}

/// Where a provider pushes outcomes as they become known. Cloning shares the sink.
#[derive(Clone)]
pub struct Outcomes {
    way: mpsc::UnboundedSender<Outcome>,
    watcher: Option<Watcher>,
}

/// Sees outcomes at the moment at which they are pushed.
type Watcher = Arc<dyn Fn(&Outcome) + Send + Sync>;

impl fmt::Debug for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outcomes").finish_non_exhaustive()
    }
}

impl Outcomes {
    /// A sink and its reading end. Bounded by the batch: one outcome per target.
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Outcome>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { way: sender, watcher: None }, receiver)
    }

    /// The same with somebody who sees each outcome at once, also while the reader is busy.
    #[must_use]
    pub fn watched(self, watcher: impl Fn(&Outcome) + Send + Sync + 'static) -> Self {
        Self { watcher: Some(Arc::new(watcher)), ..self }
    }

    /// Pushes one outcome. When nobody listens any more the process is stopping: the outcome is lost as in a crash,
    /// and the target is sent again.
    pub fn push(&self, outcome: Outcome) {
        if let Some(watcher) = &self.watcher {
            watcher(&outcome);
        }
        let _ = self.way.send(outcome);
    }
}
