//! Holds vendor requests to rate and concurrency. Limits hang on the credential: two channels with one share them.
//!
//! The place of the adaptive limiter and the breaker: they go behind [`Gate::pass`], and no adapter changes.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use anypush_providers::contract::{Gate, Pass, Reason};
use async_trait::async_trait;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::Semaphore;

use crate::channels::Channel;
use crate::tasks::Tasks;

/// All gates, by credential.
#[derive(Default)]
pub(super) struct Gates(Mutex<HashMap<String, Arc<CredentialGate>>>);

/// The gate of one credential.
pub(super) struct CredentialGate {
    limits: (u32, Option<u32>),
    in_flight: Arc<Semaphore>,
    rate: Option<DefaultDirectRateLimiter>,
    tasks: Tasks,
}

impl Gates {
    /// The gate of a channel. Changed limits make a new one; requests under the old one keep their passes.
    pub(super) fn of(&self, channel: &Channel, tasks: &Tasks) -> Arc<CredentialGate> {
        let most = channel.descriptor.capabilities.max_in_flight.max(1);
        let in_flight = channel.limits.max_in_flight.unwrap_or(most).clamp(1, most);
        let limits = (in_flight, channel.limits.per_second);
        let credential = channel.provider.as_ref().map_or_else(String::new, |provider| provider.credential());
        let key = format!("{}/{credential}", channel.record.provider);
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gate = gates.entry(key).or_insert_with(|| Arc::new(CredentialGate::new(limits, tasks)));
        if gate.limits != limits {
            *gate = Arc::new(CredentialGate::new(limits, tasks));
        }
        Arc::clone(gate)
    }
}

impl CredentialGate {
    fn new(limits: (u32, Option<u32>), tasks: &Tasks) -> Self {
        let rate = limits.1.and_then(NonZeroU32::new).map(|n| RateLimiter::direct(Quota::per_second(n)));
        let in_flight = Arc::new(Semaphore::new(limits.0 as usize));
        Self { limits, in_flight, rate, tasks: tasks.clone() }
    }

    async fn wait(&self, targets: usize) -> Option<Pass> {
        let permit = Arc::clone(&self.in_flight).acquire_owned().await.ok()?;
        if let (Some(rate), Some(limit)) = (&self.rate, self.limits.1) {
            // A batch larger than a second's allowance takes several seconds' worth.
            let mut left = targets as u32;
            while let Some(n) = NonZeroU32::new(left.min(limit)) {
                rate.until_n_ready(n).await.ok()?;
                left -= n.get();
            }
        }
        Some(Pass::new(permit))
    }
}

#[async_trait]
impl Gate for CredentialGate {
    async fn pass(&self, targets: usize) -> Result<Pass, Reason> {
        tokio::select! {
            biased;
            () = self.tasks.stopped() => Err(Reason::VendorUnavailable),
            pass = self.wait(targets) => pass.ok_or(Reason::VendorUnavailable),
        }
    }
}
