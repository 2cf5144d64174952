//! Receipts: what vendors report of deliveries that they have accepted.
//!
//! What comes in: callbacks, through a channel's own URL, whose last part is a secret. What goes out: changes of
//! deliveries with their counters. The way of a callback:
//!
//! 1. [`intake`]: the secret in the path is checked, before a byte of the body is read: guessing costs us one MAC.
//! 2. The adapter reads it: pure computing, which authenticates it and says what the vendor wants to hear. What is not
//!    authentic is answered and forgotten; so a flood of forgeries never reaches the disk.
//! 3. What is authentic and reports something is appended to the journal as it came, and only then answered: a vendor
//!    that hears 200 never repeats it.
//! 4. [`merge`]: reads the journal in order; [`resolve`] finds the delivery of each receipt; what was found is merged
//!    with its counters, and its journal row deleted, in one transaction. The merge is idempotent, so a crash between
//!    any two of these steps at most repeats it.
//!
//! [`poll`] asks vendors that do not call, or have not called yet; the answers are merged the same way.
//!
//! What it must never do: answer before the journal is on disk, believe an id that was not made for this channel, log
//! a URL, a header or a body.

mod intake;
mod merge;
mod poll;
mod resolve;
mod urls;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

pub use intake::{MOST_BYTES, Refusal, path};
pub use urls::CallbackUrls;

use crate::channels::{Channel, Channels};
use crate::clock::Clock;
use crate::delivery::Pipeline;
use crate::ids::IdCodec;
use crate::pacing::Rate;
use crate::secrets::Vault;
use crate::store::{Store, StoreError};
use crate::tasks::Tasks;
use crate::telemetry::{Metrics, ReceiptLabels};

/// What receipts work with.
#[derive(Clone)]
pub struct Parts {
    /// Time.
    pub clock: Clock,
    /// Opens the parameters that vendors echo.
    pub codec: Arc<IdCodec>,
    /// Makes the secrets of URLs, seals what callbacks carry.
    pub vault: Arc<Vault>,
    /// Everything that lasts.
    pub store: Arc<dyn Store>,
    /// Live channels.
    pub channels: Channels,
    /// Takes back what a channel failed late.
    pub pipeline: Pipeline,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What shutdown waits for.
    pub tasks: Tasks,
}

/// The way of a receipt. Cloning shares it.
#[derive(Clone)]
pub struct Receipts {
    inner: Arc<Inner>,
}

struct Inner {
    parts: Parts,
    /// Rung when the journal has grown.
    bell: Notify,
    /// Rows of the journal.
    rows: AtomicU64,
    /// When the oldest callback came that nobody has read yet; 0 = all are read.
    behind_since: AtomicU64,
    /// Callbacks in hand, by channel.
    in_hand: Mutex<HashMap<i64, usize>>,
    /// How fast callbacks may come, by channel.
    rates: Mutex<HashMap<i64, Rate>>,
}

impl Receipts {
    /// Goes on with what an earlier life left in the journal.
    pub async fn start(parts: Parts) -> Result<Self, StoreError> {
        let receipts = Self::new(parts).await?;
        receipts.inner.parts.tasks.spawn("receipts", merge::run(Arc::clone(&receipts.inner)));
        receipts.inner.parts.tasks.spawn("asks", poll::run(Arc::clone(&receipts.inner)));
        Ok(receipts)
    }

    async fn new(parts: Parts) -> Result<Self, StoreError> {
        let rows = parts.store.journal_rows().await?;
        let inner = Inner {
            parts,
            bell: Notify::new(),
            rows: AtomicU64::new(rows),
            behind_since: AtomicU64::new(0),
            in_hand: Mutex::default(),
            rates: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Callbacks that are durable and not yet merged whole.
    pub fn journal_rows(&self) -> u64 {
        self.inner.rows.load(Ordering::Relaxed)
    }

    /// How old the oldest callback is that nobody has read yet.
    pub fn lag_seconds(&self) -> u64 {
        match self.inner.behind_since.load(Ordering::Relaxed) {
            0 => 0,
            since => self.inner.parts.clock.now_ms().saturating_sub(since) / 1000,
        }
    }
}

impl Inner {
    fn count(&self, channel: &Channel, result: &'static str, by: usize) {
        if by > 0 {
            let labels = ReceiptLabels { provider: channel.record.provider.clone(), result };
            self.parts.metrics.receipts.get_or_create(&labels).inc_by(by as u64);
        }
    }
}
