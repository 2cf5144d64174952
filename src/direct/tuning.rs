//! The numbers that phones are told and held to.

use std::time::Duration;

use serde::Serialize;

use crate::settings::Settings;

/// How long a single write may be blocked before the phone counts as gone.
pub(super) const WRITE_BLOCKED: Duration = Duration::from_mins(1);
/// Largest message from a phone, and largest body on its endpoints.
pub(super) const MOST_BYTES: usize = 64 << 10;
/// Phones that are sent away at a shutdown come back spread over so many milliseconds.
pub(super) const DRAIN_MS: std::ops::Range<u64> = 1_000..30_000;

/// What a phone is told about heartbeats, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Heartbeat {
    /// What to begin with.
    pub(super) interval: u64,
    /// The longest that a phone may find out for itself.
    pub(super) max: u64,
    /// How late one may be.
    pub(super) grace: u64,
}

impl Heartbeat {
    /// What the configuration says.
    pub(super) fn of(settings: &Settings) -> Self {
        let device = &settings.device;
        Self {
            interval: device.heartbeat_seconds,
            max: device.heartbeat_max_seconds,
            grace: device.heartbeat_grace_seconds,
        }
    }

    /// Silence after which a connection is dead, in milliseconds.
    pub(super) fn silence_ms(self) -> u64 {
        (self.interval + self.grace.max(self.interval / 4)) * 1000
    }

    /// The same for a phone that finds out its own interval.
    pub(super) fn longest_silence_ms(self) -> u64 {
        (self.max + self.grace) * 1000
    }
}

/// Seconds until a phone should ask again: the app's interval; soon where there is more, or where an acknowledgement
/// of something urgent is awaited. Spread by a tenth, so that phones do not march in step.
pub(super) fn next_poll_seconds(settings: &Settings, more: bool, urgent: bool) -> u64 {
    let base = settings.device.poll_seconds;
    let soon = match (more, urgent) {
        (true, _) => return 1,
        (_, true) => base.min(15),
        _ => base,
    };
    let tenth = soon / 10;
    rand::random_range(soon - tenth..=soon + tenth)
}
