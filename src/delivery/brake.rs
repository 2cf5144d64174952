//! The removal brake: where a channel suddenly finds too many of its addresses dead, none of them is retired.
//!
//! A vendor's hiccup or a wrong project must not erase the user base. The deliveries end as they would; only the
//! addresses stay, and people are told.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::channels::Channel;
use crate::delivery::pipeline::Inner;

/// The time that is looked at, in minutes.
const MINUTES: u64 = 10;
/// Removals up to here are never too many.
const FLOOR: u64 = 100;
/// One in so many sends may be a removal.
const SHARE: u64 = 20;

/// The brakes of all channels.
#[derive(Debug, Default)]
pub(super) struct Brakes(Mutex<HashMap<i64, Window>>);

/// What a verdict comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Brake {
    /// Addresses may be retired.
    Open,
    /// They may again, from now on.
    Released,
    /// They may not, from now on.
    Pulled,
    /// They may not.
    On,
}

impl Brake {
    /// Whether addresses may be retired.
    pub(super) fn is_open(self) -> bool {
        matches!(self, Self::Open | Self::Released)
    }
}

/// What one channel sent lately.
#[derive(Debug, Default)]
struct Window {
    /// (minute, sends, removals that were asked for), oldest first.
    minutes: Vec<(u64, u64, u64)>,
    on: bool,
}

impl Brakes {
    /// Counts outcomes, and for how many of them the vendor calls the address dead.
    pub(super) fn count(&self, channel: i64, sends: u64, removals: u64, now_ms: u64) -> Brake {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(channel).or_default().count(sends, removals, now_ms / 60_000)
    }
}

impl Window {
    fn count(&mut self, sends: u64, removals: u64, minute: u64) -> Brake {
        match self.minutes.last_mut() {
            Some(last) if last.0 >= minute => {
                last.1 += sends;
                last.2 += removals;
            }
            _ => {
                self.minutes.push((minute, sends, removals));
                self.minutes.retain(|(then, ..)| then + MINUTES > minute);
            }
        }
        let (sends, removals) =
            self.minutes.iter().fold((0, 0), |(sends, removals), m| (sends + m.1, removals + m.2));
        let on = removals > FLOOR && removals * SHARE > sends;
        let was = std::mem::replace(&mut self.on, on);
        match (was, on) {
            (false, false) => Brake::Open,
            (true, false) => Brake::Released,
            (false, true) => Brake::Pulled,
            (true, true) => Brake::On,
        }
    }
}

impl Inner {
    /// Counts outcomes of a channel, and how many of them found an address dead, towards its brake, and tells people where
    /// that turns it; whether addresses may be retired.
    pub(super) async fn brake(&self, channel: &Channel, sends: u64, removals: u64) -> bool {
        let seq = channel.record.seq;
        let brake = self.brakes.count(seq, sends, removals, self.now_ms());
        let info = match brake {
            Brake::Open | Brake::On => return brake.is_open(),
            Brake::Pulled => {
                let why = "the vendor calls unusually many addresses dead; none is retired until that ends";
                tracing::error!(channel.name = %channel.record.name, "{why}");
                Some(why.to_owned())
            }
            Brake::Released => {
                tracing::info!(channel.name = %channel.record.name, "dead addresses are retired again");
                None
            }
        };
        // The channel works; only what it says about addresses is doubted.
        if let Err(error) = self.parts.channels.hold_removals(seq, info).await {
            tracing::warn!("a channel's state could not be kept: {error}");
        }
        brake.is_open()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    fn send(brakes: &Brakes, n: u64, removal: bool, at: u64) -> Brake {
        (0..n).map(|_| brakes.count(1, 1, u64::from(removal), at)).last().unwrap()
    }

    #[test]
    fn a_few_dead_addresses_are_no_reason_to_brake_whatever_their_share() {
        assert_eq!(send(&Brakes::default(), FLOOR, true, 0), Brake::Open);
    }

    #[test]
    fn a_usual_share_of_dead_addresses_is_no_reason_either() {
        let brakes = Brakes::default();
        send(&brakes, 10_000, false, 0);
        assert_eq!(send(&brakes, 500, true, MINUTE), Brake::Open);
    }

    #[test]
    fn too_many_pull_the_brake_once_and_time_releases_it() {
        let brakes = Brakes::default();
        assert_eq!(send(&brakes, FLOOR + 1, true, 0), Brake::Pulled);
        assert_eq!(send(&brakes, 1, true, MINUTE), Brake::On);
        assert!(brakes.count(2, 1, 1, MINUTE).is_open(), "the other channels'");
        assert_eq!(send(&brakes, 1, false, 11 * MINUTE), Brake::Released);
        assert_eq!(send(&brakes, 1, true, 11 * MINUTE), Brake::Open);
    }
}
