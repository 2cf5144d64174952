//! What went wrong between us and the vendor, and what that means for a target.

use std::fmt;

use std::time::Duration;

use crate::contract::{Failure, Hint, Outcome, Reason, Refusal, VendorEcho, Verdict};
use crate::kit::echo;

/// Why a content, or a target, cannot be sent through a vendor: found before any call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsendable {
    /// From the closed list.
    pub reason: Reason,
    /// For people; never a token.
    pub why: String,
    /// How large the payload is, counted as the vendor's limit counts; 0 where its size is not what is wrong.
    pub bytes: u32,
}

impl Unsendable {
    /// For this reason.
    pub fn new(reason: Reason, why: impl Into<String>) -> Self {
        Self { reason, why: why.into(), bytes: 0 }
    }

    /// The payload's form is wrong.
    pub fn invalid(why: impl Into<String>) -> Self {
        Self::new(Reason::PayloadInvalid, why)
    }

    /// The payload is over the limit.
    pub fn too_large(bytes: usize, max_bytes: usize) -> Self {
        let why = format!("the payload has {bytes} bytes, {max_bytes} fit");
        Self { bytes: bytes as u32, ..Self::new(Reason::PayloadTooLarge, why) }
    }

    /// The outcome of a target: definite, and no request was made.
    pub fn outcome(&self, target: usize) -> Outcome {
        let words = echo::words(&format!("not sent: {}", self.why), &[]);
        let vendor = VendorEcho { words, ..VendorEcho::default() };
        let verdict = Verdict::Failed(Failure::target(self.reason));
        Outcome { target, verdict, vendor, latency: Duration::ZERO }
    }

    /// The same for a preview.
    pub fn refusal(&self) -> Refusal {
        Refusal { reason: self.reason, words: self.why.clone() }
    }
}

/// Why there is no usable answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct TransportError {
    /// How far the request came.
    pub kind: TransportErrorKind,
    /// A sentence for the trail; never a secret.
    pub detail: String,
    /// What the peer said when it closed the connection (HTTP/2 GOAWAY's debug data), where it said something.
    pub farewell: Option<String>,
}

/// How far a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportErrorKind {
    /// Not a byte of it left: no connection, no free stream in time.
    NotSent,
    /// The peer says that it did not look at it (HTTP/2 REFUSED_STREAM, GOAWAY): repeat at once.
    NotProcessed,
    /// It left and no answer came: the vendor may have acted on it.
    MaybeSent,
    /// An answer came that cannot be read: over the body cap, broken framing.
    BadAnswer,
    /// The peer does not take our certificate; nothing was processed.
    CertificateRefused,
}

impl TransportError {
    /// An error of this kind.
    pub fn new(kind: TransportErrorKind, detail: impl fmt::Display) -> Self {
        Self { kind, detail: detail.to_string(), farewell: None }
    }

    /// The same with the peer's last words.
    #[must_use]
    pub fn farewell(self, farewell: Option<String>) -> Self {
        Self { farewell, ..self }
    }

    /// What it means for the target of a send.
    pub fn to_failure(&self) -> Failure {
        match self.kind {
            TransportErrorKind::NotSent => Failure::channel(Reason::VendorUnavailable),
            TransportErrorKind::NotProcessed => {
                Failure::channel(Reason::VendorUnavailable).hint(Hint::NotProcessed)
            }
            TransportErrorKind::MaybeSent => Failure::channel(Reason::VendorUnavailable).doubtful(),
            TransportErrorKind::BadAnswer => Failure::channel(Reason::ProtocolError).doubtful(),
            TransportErrorKind::CertificateRefused => Failure::channel(Reason::AuthFailed),
        }
    }
}

/// The error and its causes in one sentence. Causes that the text before already quotes are left out.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Certainty;

    #[test]
    fn only_a_request_that_may_have_arrived_is_doubtful() {
        let certainty = |kind| TransportError::new(kind, "x").to_failure().certainty == Certainty::Doubtful;
        assert!(!certainty(TransportErrorKind::NotSent) && !certainty(TransportErrorKind::NotProcessed));
        assert!(certainty(TransportErrorKind::MaybeSent) && certainty(TransportErrorKind::BadAnswer));
    }

    #[test]
    fn a_request_that_was_not_processed_is_repeated_at_once() {
        let failure = TransportError::new(TransportErrorKind::NotProcessed, "x").to_failure();
        assert_eq!((failure.reason, failure.hint), (Reason::VendorUnavailable, Hint::NotProcessed));
    }
}
