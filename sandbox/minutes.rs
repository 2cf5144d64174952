//! Requests a minute.
//!
//! FCM's project quota is a bucket that is filled whole every minute, and requests that fail use it up too
//! (firebase.google.com "throttling-and-quotas"). The minute starts with its first request: it is not bound to the clock.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Keys that are watched at a time; beyond it, minutes that are over make room.
const MAX_KEYS: usize = 100_000;
const MINUTE_MS: u64 = 60_000;

/// Counters of the minute that runs, by name.
#[derive(Default)]
pub(crate) struct Minutes(Mutex<HashMap<String, Minute>>);

struct Minute {
    began_at_ms: u64,
    used: u64,
}

impl Minutes {
    /// Begins new minutes for all.
    pub(crate) fn begin_anew(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Uses one request up; `Err` says in how many seconds there will be more.
    pub(crate) fn take(&self, name: &str, limit: u64, now_ms: u64) -> Result<(), u64> {
        let mut minutes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !minutes.contains_key(name) {
            if minutes.len() >= MAX_KEYS {
                minutes.retain(|_, minute| now_ms < minute.began_at_ms + MINUTE_MS);
            }
            minutes.insert(name.to_owned(), Minute { began_at_ms: now_ms, used: 0 });
        }
        let minute = minutes.get_mut(name).expect("it was just put there");
        if now_ms >= minute.began_at_ms + MINUTE_MS {
            *minute = Minute { began_at_ms: now_ms, used: 0 };
        }
        minute.used += 1;
        if minute.used <= limit {
            return Ok(());
        }
        Err((minute.began_at_ms + MINUTE_MS - now_ms).div_ceil(1000).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::Minutes;

    #[test]
    fn a_minute_is_filled_again_as_a_whole() {
        let minutes = Minutes::default();
        assert_eq!(minutes.take("p", 2, 1000), Ok(()));
        assert_eq!(minutes.take("p", 2, 2000), Ok(()));
        assert_eq!(minutes.take("p", 2, 31_000), Err(30));
        assert_eq!(minutes.take("q", 2, 31_000), Ok(()));
        assert_eq!(minutes.take("p", 2, 61_000), Ok(()));
    }
}
