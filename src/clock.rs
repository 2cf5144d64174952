//! Where time comes from, so that tests can turn it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A source of wall-clock time in Unix milliseconds. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<AtomicU64>>);

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands still until it is turned.
    pub fn fixed(unix_ms: u64) -> Self {
        Self(Some(Arc::new(AtomicU64::new(unix_ms))))
    }

    /// Now, in Unix milliseconds.
    pub fn now_ms(&self) -> u64 {
        match &self.0 {
            Some(fixed) => fixed.load(Ordering::Relaxed),
            #[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
            None => unix_ms(SystemTime::now()),
        }
    }

    /// Turns a fixed clock forward; the system's clock is left alone.
    pub fn advance(&self, by: Duration) {
        if let Some(fixed) = &self.0 {
            fixed.fetch_add(by.as_millis() as u64, Ordering::Relaxed);
        }
    }
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
