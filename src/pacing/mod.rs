//! Pace: who may send the next vendor request, and when. Plain state machines: no I/O, no tasks, no locks; the time is a
//! number that the caller hands in (microseconds of a clock that never goes back), and so is chance.
//!
//! All of it hangs on one *credential*, because that is what a vendor limits and what breaks:
//! - [`Limiter`]: how many requests may be in flight, by how the vendor bears them (AIMD).
//! - [`Rate`]: how many targets a second (GCRA), where ops set a limit.
//! - [`Breaker`]: nothing more is sent to a vendor that is down, but one probe from time to time.
//! - [`Lanes`]: transactional before marketing, with a tenth for marketing.
//! - [`Fair`]: within a lane the flows take turns, so that a campaign of a million holds what its turns give.
//! - [`RetryBudget`]: a vendor in trouble does not get twice the load.
//! - [`Silence`]: requests about which the vendor says nothing, and what they mean for the two above.
//! - [`Turnstile`]: these together, as one waiting line with a barrier.
//!
//! `delivery::gate` puts them behind the contract's `Gate`. Every file states its laws as property tests; a failing
//! seed is printed and can be replayed.

mod breaker;
mod crowd;
mod fair;
mod lanes;
mod limiter;
mod rate;
mod retry_budget;
mod silence;
mod turnstile;

pub use breaker::{Breaker, Circuit};
pub use fair::Fair;
pub use lanes::{Lane, Lanes};
pub use limiter::Limiter;
pub use rate::Rate;
pub use retry_budget::RetryBudget;
pub use silence::{Flying, Silence, Whose};
pub use turnstile::{Bounds, Seen, Ticket, Turn, Turnstile, Waiting};

/// Microseconds of a clock that never goes back.
pub type Micros = u64;

/// A second.
pub const SECOND: Micros = 1_000_000;

/// What an answer says about the vendor, whatever it says about the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// The vendor works: it took the message, or refused it for a reason of the message's own.
    Good,
    /// The vendor works and asks for less.
    SlowDown,
    /// The vendor does not work: no connection, a 5xx, nonsense.
    Bad,
    /// Nothing came for seconds. Whether the vendor is silent or the target, [`Silence`] says.
    Silent {
        /// It is no retry: who was silent once is likely to be so again, and proves nothing.
        first: bool,
    },
}
