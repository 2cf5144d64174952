//! What is kept for how long: one task that forgets what is too old, a little at a time.
//!
//! What comes in: ages, from the settings. What goes out: smaller tables, a metric, and a line in the log for each round that
//! removed something. It takes at most a fifth of the writer's time, so that nobody who sends feels it, and holds nothing
//! open between two transactions: a crash leaves a whole number of them behind, and the next round goes on.
//!
//! What it must never do: remove a message that is not over, or trust a clock that has just leapt ahead.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::{Clock, DAY_MS, HOUR_MS};
use crate::failpoint::failpoint;
use crate::settings;
use crate::store::{Aged, Forgotten, Store, StoreError};
use crate::tasks::Tasks;
use crate::telemetry::{ForgottenLabels, Metrics};

/// Rows of one transaction.
const ROWS: usize = 5000;
/// From the end of one round to the next.
const EVERY: Duration = Duration::from_mins(10);
/// Of the time, what is left to others: four parts of five, and at least so much after each transaction.
const SHARE: u32 = 4;
const BREATH: Duration = Duration::from_millis(50);
/// By so much the clock may be ahead of the newest message before a start waits with forgetting.
const LEAP_MS: u64 = 7 * DAY_MS;
/// By so many seconds the wall clock and the gateway's time may differ.
const OFF_SECONDS: u64 = 3600;
/// How long an Idempotency-Key counts; longer than a clock is wrong.
const KEYS_MS: u64 = 25 * HOUR_MS;

/// What it works with.
#[derive(Clone)]
pub struct Parts {
    /// Time.
    pub clock: Clock,
    /// Everything that lasts, and what does not.
    pub store: Arc<dyn Store>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What shutdown waits for.
    pub tasks: Tasks,
    /// How long messages, counters and the audit log are kept.
    pub ages: settings::Retention,
    /// How long attempts of webhooks are kept: as long as the events that they tried to tell.
    pub webhook_hours: u64,
}

/// Forgets from time to time, until the process stops. Begins before anybody can send: the newest message is an earlier
/// life's.
pub async fn start(parts: Parts) -> Result<(), StoreError> {
    let days = parts.leap().await?;
    if days > 0 {
        tracing::warn!(
            "the clock is {days} days ahead of the newest message: what is too old by it is removed in an hour. Stop the \
             gateway and set the clock if it is wrong"
        );
    }
    let wait = if days > 0 { Duration::from_hours(1) } else { Duration::ZERO };
    let tasks = parts.tasks.clone();
    tasks.spawn("retention", run(parts, wait));
    Ok(())
}

async fn run(parts: Parts, mut wait: Duration) {
    loop {
        tokio::select! {
            () = parts.tasks.stopped() => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = EVERY;
        if parts.clock.wall_ahead_seconds().unsigned_abs() > OFF_SECONDS {
            tracing::warn!(
                "nothing is removed for its age while the wall clock differs from the gateway's time"
            );
            continue;
        }
        if let Err(error) = parts.round().await {
            tracing::warn!("what is too old waits to be removed: {error}");
            wait = Duration::from_mins(1);
        }
    }
}

impl Parts {
    /// By how many days the clock is suspiciously ahead; 0 = it is not.
    async fn leap(&self) -> Result<u64, StoreError> {
        let newest = self.store.last_id().await?.unix_ms();
        let ahead = self.clock.now_ms().saturating_sub(newest);
        // Without a message there is nothing to lose but counters, and no way to tell.
        Ok(if ahead > LEAP_MS && newest > crate::ids::Id(0).unix_ms() { ahead / DAY_MS } else { 0 })
    }

    /// From which time on each kind is kept; `None`: for ever.
    fn kept_since(&self, what: Aged) -> Option<u64> {
        let age = match what {
            Aged::Messages => self.ages.messages_days * DAY_MS,
            Aged::IdempotencyKeys => KEYS_MS,
            Aged::Nonces => 0,
            Aged::WebhookAttempts => self.webhook_hours * HOUR_MS,
            Aged::Reports | Aged::ChannelStats => self.ages.reports_days * DAY_MS,
            Aged::Audit if self.ages.audit_days == 0 => return None,
            Aged::Audit => self.ages.audit_days * DAY_MS,
        };
        Some(self.clock.now_ms().saturating_sub(age))
    }

    /// Forgets everything that is too old now; ends early where the process is to stop.
    async fn round(&self) -> Result<(), StoreError> {
        let mut gone: BTreeMap<&'static str, u64> = BTreeMap::new();
        let outcome = self.forget_all(&mut gone).await;
        let told: Vec<_> = gone.iter().map(|(what, n)| format!("{n} {what}")).collect();
        if !told.is_empty() {
            tracing::info!("removed because of its age: {}", told.join(", "));
        }
        outcome
    }

    async fn forget_all(&self, gone: &mut BTreeMap<&'static str, u64>) -> Result<(), StoreError> {
        for what in [
            Aged::Messages,
            Aged::IdempotencyKeys,
            Aged::Nonces,
            Aged::WebhookAttempts,
            Aged::Reports,
            Aged::ChannelStats,
            Aged::Audit,
        ] {
            let Some(before) = self.kept_since(what) else { continue };
            let mut place = 0;
            loop {
                let began = Instant::now();
                let forgotten = self.store.forget(what, before, place, ROWS).await?;
                failpoint!("purge.between_transactions", forgotten.deliveries > 0);
                self.count(what, &forgotten, gone);
                if !forgotten.more || self.tasks.is_stopping() {
                    break;
                }
                place = forgotten.place;
                tokio::select! {
                    () = self.tasks.stopped() => return Ok(()),
                    () = tokio::time::sleep(BREATH.max(began.elapsed() * SHARE)) => {}
                }
            }
        }
        Ok(())
    }

    fn count(&self, what: Aged, forgotten: &Forgotten, gone: &mut BTreeMap<&'static str, u64>) {
        for (what, n) in [(what.as_str(), forgotten.things), ("deliveries", forgotten.deliveries)] {
            if n > 0 {
                self.metrics.forgotten.get_or_create(&ForgottenLabels { what }).inc_by(n);
                *gone.entry(what).or_default() += n;
            }
        }
    }
}
