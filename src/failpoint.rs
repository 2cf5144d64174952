//! Named points at which a test ends the process, as a loss of power would: `ANYPUSH_FAILPOINT=name`, or `name:3` for
//! the third time that it is reached.
//!
//! Compiled with debug assertions only; a release has none of this. `tests/it/slow/crash_points.rs` goes through all.

/// Ends the process here where a test asked for it. A condition narrows it down.
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(debug_assertions)]
        $crate::failpoint::reach($name);
    };
    ($name:literal, $condition:expr) => {
        #[cfg(debug_assertions)]
        if $condition {
            $crate::failpoint::reach($name);
        }
    };
}
pub(crate) use failpoint;

/// Counts how often the armed point is reached, and ends the process when it is time.
#[cfg(debug_assertions)]
pub(crate) fn reach(name: &str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static ARMED: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
        let text = std::env::var("ANYPUSH_FAILPOINT").ok()?;
        let (name, nth) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), nth.parse().unwrap_or(1)))
    });
    static REACHED: AtomicU64 = AtomicU64::new(0);

    let Some((armed, nth)) = &*ARMED else { return };
    if armed == name && REACHED.fetch_add(1, Ordering::Relaxed) + 1 == *nth {
        tracing::error!("failpoint {name} reached, the process ends");
        std::process::abort();
    }
}
