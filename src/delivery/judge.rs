//! What an outcome does: the one table from reason, scope and certainty to delivery, address and channel.
//!
//! No adapter decides any of this, and nothing else in the gateway does.

use std::time::Duration;

use anypush_providers::contract::{Certainty, DeliveryMode, Failure, Hint, Reason, Scope};

/// What happens to the delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The same channel again after this time.
    Retry(Duration),
    /// The same channel again at once: the vendor provably never processed the request.
    Again,
    /// The next channel of the route; where there is none it fails.
    Next,
    /// The next channel; where there is none the same again after this time.
    NextOrRetry(Duration),
    /// The outcome was never learned, and a repeat is not allowed.
    Unknown,
}

/// What happens to the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Address {
    /// Nothing.
    Keep,
    /// It is retired at once.
    Retire,
    /// It is kept and flagged.
    Flag,
}

/// What an outcome does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Judgement {
    pub(super) step: Step,
    pub(super) address: Address,
    /// The channel's credentials are refused.
    pub(super) channel_refused: bool,
}

/// First wait of a retry; doubled with each try, full jitter.
const BACKOFF_BASE: Duration = Duration::from_secs(1);
/// Longest wait between tries without a word from the vendor.
const BACKOFF_CAP: Duration = Duration::from_mins(10);
/// Longest Retry-After that is believed.
const RETRY_AFTER_CAP: Duration = Duration::from_hours(1);
/// How long a channel with refused credentials is left alone.
pub(super) const AUTH_WAIT: Duration = Duration::from_secs(30);
/// Tries after which a vendor that is down gives way to the next channel.
const PATIENCE: u32 = 5;

/// Judges the address by a failure that came later, by receipt: `Some(true)` retires it, `Some(false)` flags it.
pub fn judge_address(reason: Reason) -> Option<bool> {
    match judge(&Failure::target(reason), 1, DeliveryMode::AtLeastOnce, 0.0).address {
        Address::Keep => None,
        Address::Retire => Some(true),
        Address::Flag => Some(false),
    }
}

/// Judges a failure of the `attempt`-th try (1 = first). `chance` in 0..1 is the jitter.
pub(super) fn judge(failure: &Failure, attempt: u32, mode: DeliveryMode, chance: f64) -> Judgement {
    let base = Judgement { step: Step::Next, address: Address::Keep, channel_refused: false };
    if failure.hint == Hint::NotProcessed {
        return Judgement { step: Step::Again, ..base };
    }
    let lost = failure.certainty == Certainty::Doubtful
        && matches!(failure.reason, Reason::VendorUnavailable | Reason::ProtocolError);
    if lost && mode == DeliveryMode::AtMostOnce {
        return Judgement { step: Step::Unknown, ..base };
    }
    let wait = match failure.hint {
        Hint::RetryAfter(wait) => wait.clamp(BACKOFF_BASE, RETRY_AFTER_CAP),
        Hint::None | Hint::NotProcessed => backoff(attempt, chance),
    };
    match failure.reason {
        Reason::InvalidToken => {
            let definite = failure.certainty == Certainty::Definite;
            Judgement { address: if definite { Address::Retire } else { Address::Flag }, ..base }
        }
        Reason::WrongApp => Judgement { address: Address::Flag, ..base },
        Reason::AuthFailed if failure.scope == Scope::Channel => {
            // Somebody may be mending it: the first try waits, the later ones make way where they can.
            let step = if attempt <= 1 { Step::Retry(AUTH_WAIT) } else { Step::NextOrRetry(AUTH_WAIT) };
            Judgement { step, channel_refused: true, ..base }
        }
        Reason::RateLimited => Judgement { step: Step::Retry(wait), ..base },
        Reason::VendorUnavailable => {
            let step = if attempt < PATIENCE { Step::Retry(wait) } else { Step::NextOrRetry(wait) };
            Judgement { step, ..base }
        }
        // Nonsense may be a passing proxy's page; after some tries it is how this vendor answers this target.
        Reason::ProtocolError if attempt < PATIENCE => Judgement { step: Step::Retry(wait), ..base },
        _ => base,
    }
}

fn backoff(attempt: u32, chance: f64) -> Duration {
    let ceiling = BACKOFF_BASE.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(BACKOFF_CAP);
    jitter(ceiling, chance)
}

fn jitter(ceiling: Duration, chance: f64) -> Duration {
    ceiling.mul_f64(chance.clamp(0.0, 1.0)).max(Duration::from_millis(100))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask(failure: &Failure, attempt: u32) -> Judgement {
        judge(failure, attempt, DeliveryMode::AtLeastOnce, 1.0)
    }

    #[test]
    fn only_a_definite_dead_token_retires_its_address() {
        let dead = Failure::target(Reason::InvalidToken);
        assert_eq!(ask(&dead, 1).address, Address::Retire);
        assert_eq!(ask(&dead.doubtful(), 1).address, Address::Flag);
        for reason in Reason::ALL.into_iter().filter(|r| *r != Reason::InvalidToken) {
            assert_ne!(ask(&Failure::channel(reason), 1).address, Address::Retire, "{reason:?}");
        }
    }

    #[test]
    fn refused_credentials_wait_half_a_minute_and_then_make_way() {
        let refused = Failure::channel(Reason::AuthFailed);
        assert_eq!(ask(&refused, 1).step, Step::Retry(AUTH_WAIT));
        assert_eq!(ask(&refused, 2).step, Step::NextOrRetry(AUTH_WAIT));
        assert!(ask(&refused, 1).channel_refused);
        let platform = Failure::target(Reason::AuthFailed);
        assert!(!ask(&platform, 1).channel_refused);
        assert_eq!(ask(&platform, 1).step, Step::Next);
    }

    #[test]
    fn a_vendors_retry_after_is_honoured_within_bounds() {
        let limited = |seconds| {
            Failure::channel(Reason::RateLimited).hint(Hint::RetryAfter(Duration::from_secs(seconds)))
        };
        assert_eq!(ask(&limited(7), 1).step, Step::Retry(Duration::from_secs(7)));
        assert_eq!(ask(&limited(0), 1).step, Step::Retry(BACKOFF_BASE));
        assert_eq!(ask(&limited(999_999), 1).step, Step::Retry(RETRY_AFTER_CAP));
    }

    #[test]
    fn an_answer_that_was_lost_is_never_repeated_where_a_send_costs_money() {
        let lost = Failure::channel(Reason::VendorUnavailable).doubtful();
        assert_eq!(judge(&lost, 1, DeliveryMode::AtMostOnce, 0.5).step, Step::Unknown);
        let refused = Failure::channel(Reason::VendorUnavailable);
        assert_ne!(judge(&refused, 1, DeliveryMode::AtMostOnce, 0.5).step, Step::Unknown);
    }

    #[test]
    fn a_request_that_was_never_processed_is_no_try() {
        let refused = Failure::channel(Reason::VendorUnavailable).hint(Hint::NotProcessed);
        assert_eq!(ask(&refused, 1).step, Step::Again);
    }

    #[test]
    fn nonsense_is_tried_a_few_times_only() {
        let nonsense = Failure::channel(Reason::ProtocolError).doubtful();
        assert!(matches!(ask(&nonsense, 1).step, Step::Retry(_)));
        assert_eq!(ask(&nonsense, PATIENCE).step, Step::Next);
    }

    proptest! {
        #[test]
        fn waits_stay_between_a_tenth_of_a_second_and_the_cap(attempt in 0u32..100, chance in -1.0f64..2.0) {
            let wait = backoff(attempt, chance);
            prop_assert!(wait >= Duration::from_millis(100) && wait <= BACKOFF_CAP);
        }
    }
}
