//! How the hub wakes one connection. A `watch` channel would do as well, but has room for many listeners: it is several
//! times as large, for each idle phone.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::Notify;

/// What a connection is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Signal {
    /// Look into the inbox.
    Inbox = 0,
    /// A newer connection of the same device has taken over.
    Superseded = 1,
    /// The device or its secret is no longer valid.
    Revoked = 2,
}

/// Between the hub, which rings, and one connection, which listens.
#[derive(Debug, Default)]
pub(super) struct Bell {
    /// The largest signal so far: who was sent away is not called back.
    says: AtomicU8,
    rung: Notify,
}

impl Bell {
    /// Wakes the connection, now or when it listens.
    pub(super) fn ring(&self, signal: Signal) {
        self.says.fetch_max(signal as u8, Ordering::Release);
        self.rung.notify_one();
    }

    /// What it was told last.
    pub(super) fn says(&self) -> Signal {
        match self.says.load(Ordering::Acquire) {
            0 => Signal::Inbox,
            1 => Signal::Superseded,
            _ => Signal::Revoked,
        }
    }

    /// Waits until it rings, or has rung since the last time that this returned.
    pub(super) async fn rung(&self) {
        self.rung.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn who_did_not_listen_hears_it_later_and_once() {
        let bell = Bell::default();
        assert_eq!((bell.rung().now_or_never(), bell.says()), (None, Signal::Inbox));
        bell.ring(Signal::Inbox);
        bell.ring(Signal::Superseded);
        bell.ring(Signal::Inbox);
        assert_eq!(bell.says(), Signal::Superseded);
        assert_eq!((bell.rung().now_or_never(), bell.rung().now_or_never()), (Some(()), None));
    }
}
