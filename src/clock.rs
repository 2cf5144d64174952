//! Where time comes from, so that tests can turn it, and so that a wall clock that jumps does no harm.
//!
//! The gateway's time begins as the wall clock's and then goes by the machine's steady clock. Where the two differ it
//! moves towards the wall clock, by at most a twentieth of the time that passes: it never goes back and never jumps.
//! So a wall clock that is set an hour wrong (or right) ends no message before its time, makes nothing wait for ever,
//! and is followed all the same. A new start takes the wall clock as it is.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds of an hour.
pub const HOUR_MS: u64 = 60 * 60 * 1000;
/// Milliseconds of a day.
pub const DAY_MS: u64 = 24 * HOUR_MS;
/// At most one part of so many of the time that passes goes into following the wall clock.
const FOLLOW: i64 = 20;
/// A difference that somebody should know of, in nanoseconds.
const MUCH: i64 = 10_000_000_000;
/// One that is over.
const LITTLE: i64 = 1_000_000_000;

/// A source of time in Unix milliseconds. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    Steady(Arc<Steady>),
    Fixed(Arc<AtomicU64>),
}

/// What moves, and by how much the wall clock is ahead of it.
#[derive(Debug)]
struct Steady {
    moved: Mutex<(Instant, Pace)>,
    ahead_ns: AtomicI64,
}

/// A time that follows another, in Unix nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Pace {
    now: i64,
    /// Somebody was told that the two differ.
    told: bool,
}

/// What is worth a line in the log.
#[derive(Debug, PartialEq, Eq)]
enum News {
    Differs,
    Agrees,
}

impl Pace {
    /// Moves on by the time that passed, and a little more or less where the wall clock says something else. Answers
    /// by how much that is still ahead.
    fn on(&mut self, passed: i64, wall: i64) -> (i64, Option<News>) {
        let ahead = wall.saturating_sub(self.now + passed);
        let most = passed / FOLLOW;
        let followed = ahead.clamp(-most, most);
        self.now += passed + followed;
        let left = ahead.saturating_sub(followed);
        let news = match left.saturating_abs() {
            MUCH.. if !self.told => Some(News::Differs),
            ..LITTLE if self.told => Some(News::Agrees),
            _ => None,
        };
        self.told ^= news.is_some();
        (left, news)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl Clock {
    /// The system's clock, without its jumps.
    pub fn system() -> Self {
        let pace = Pace { now: unix_ns(wall()), told: false };
        let steady = Steady { moved: Mutex::new((Instant::now(), pace)), ahead_ns: AtomicI64::new(0) };
        Self(Source::Steady(Arc::new(steady)))
    }

    /// A clock that stands still until it is turned.
    pub fn fixed(unix_ms: u64) -> Self {
        Self(Source::Fixed(Arc::new(AtomicU64::new(unix_ms))))
    }

    /// Now, in Unix milliseconds.
    pub fn now_ms(&self) -> u64 {
        match &self.0 {
            Source::Fixed(fixed) => fixed.load(Ordering::Relaxed),
            Source::Steady(steady) => steady.now_ms(),
        }
    }

    /// Turns a fixed clock forward; the system's clock is left alone.
    pub fn advance(&self, by: Duration) {
        if let Source::Fixed(fixed) = &self.0 {
            fixed.fetch_add(by.as_millis() as u64, Ordering::Relaxed);
        }
    }

    /// By how many seconds the wall clock was ahead when the time was last asked for.
    pub fn wall_ahead_seconds(&self) -> i64 {
        match &self.0 {
            Source::Fixed(_) => 0,
            Source::Steady(steady) => steady.ahead_ns.load(Ordering::Relaxed) / 1_000_000_000,
        }
    }
}

impl Steady {
    fn now_ms(&self) -> u64 {
        let wall = unix_ns(wall());
        let (now, ahead, news) = {
            let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
            let at = Instant::now();
            let passed = at.saturating_duration_since(moved.0).as_nanos() as i64;
            moved.0 = at;
            let (ahead, news) = moved.1.on(passed, wall);
            (moved.1.now, ahead, news)
        };
        self.ahead_ns.store(ahead, Ordering::Relaxed);
        let seconds = ahead / 1_000_000_000;
        match news {
            Some(News::Differs) => tracing::warn!(
                wall.ahead_seconds = seconds,
                "the wall clock jumped; the gateway's time follows it by one second in {FOLLOW}. If the new time is \
                 right, a restart takes it at once"
            ),
            Some(News::Agrees) => tracing::info!("the gateway's time is the wall clock's again"),
            None => {}
        }
        (now / 1_000_000) as u64
    }
}

/// The wall clock, jumps and all: what vendors compare signatures with.
#[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
pub fn wall() -> SystemTime {
    let now = SystemTime::now();
    #[cfg(debug_assertions)]
    let now = turned::turn(now);
    now
}

/// In debug builds a test may set the wall clock: `ANYPUSH_WALL_CLOCK` names a file that holds the seconds by which it
/// is wrong.
#[cfg(debug_assertions)]
mod turned {
    use std::path::PathBuf;
    use std::sync::LazyLock;
    use std::time::{Duration, SystemTime};

    static FILE: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("ANYPUSH_WALL_CLOCK").map(PathBuf::from));

    pub(super) fn turn(now: SystemTime) -> SystemTime {
        let Some(file) = &*FILE else { return now };
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let seconds: i64 = text.trim().parse().unwrap_or(0);
        let by = Duration::from_secs(seconds.unsigned_abs());
        if seconds < 0 { now - by } else { now + by }
    }
}

fn unix_ns(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}

/// A point in time in Unix milliseconds; 0 for what lies before 1970.
pub fn unix_ms(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// A point in time out of Unix milliseconds.
pub fn at_unix_ms(unix_ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(unix_ms)
}

/// RFC 3339 in UTC with milliseconds, the form of every time that users see.
pub fn rfc3339(unix_ms: u64) -> String {
    jiff::Timestamp::from_millisecond(unix_ms as i64).map_or_else(|_| String::new(), |t| format!("{t:.3}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const NOW: i64 = 1_800_000_000 * SECOND;

    #[test]
    fn a_jump_of_an_hour_is_told_once_and_followed_slowly() {
        let mut pace = Pace { now: NOW, told: false };
        assert_eq!(pace.on(SECOND, NOW + 3601 * SECOND).1, Some(News::Differs));
        assert_eq!(pace.now, NOW + SECOND + SECOND / 20);
        let mut told = Vec::new();
        for second in 2..=(21 * 3600) {
            told.extend(pace.on(SECOND, NOW + (3600 + second) * SECOND).1);
        }
        assert_eq!(told, [News::Agrees]);
        assert_eq!(pace.now, NOW + 3600 * SECOND + 21 * 3600 * SECOND, "after 20 hours the two are one");
    }

    proptest! {
        /// Whatever the wall clock does, the time neither goes back nor runs away.
        #[test]
        fn time_passes_at_its_pace(steps in prop::collection::vec((0i64..10 * SECOND, -i64::MAX / 4..i64::MAX / 4), 1..100)) {
            let mut pace = Pace { now: NOW, told: false };
            for (passed, wall) in steps {
                let before = pace.now;
                pace.on(passed, wall);
                let moved = pace.now - before;
                prop_assert!(moved >= passed - passed / FOLLOW && moved <= passed + passed / FOLLOW);
            }
        }
    }
}
