//! How often somebody may call: per key, per app, per phone; and per address who fails to show who they are.
//!
//! One rate for each (`pacing::Rate`, GCRA): a second's worth at once, then evenly. Sends are counted by the targets that they
//! list, everything else by calls and lines, so that reading takes nothing from sending. What a call was counted for stands
//! in its [`Meter`]; [`Meter::write`] tells it in the headers of the answer. A call that is refused has done nothing.
//!
//! Whoever shows a good key is never refused for what others behind the same address do. Whoever does not is counted for
//! the address, and beyond its rate no key is looked up that was not good within the last hour.

mod buckets;
mod client;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::Value;

use self::buckets::{Buckets, Left};
use self::client::{Proxies, counted};
use super::problem::{Answer, Problem};
use crate::clock::Clock;
use crate::pacing::{Micros, SECOND};
use crate::settings::Rates;
use crate::telemetry::{Metrics, RateLimitLabels};

static LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
static REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
static RESET: HeaderName = HeaderName::from_static("ratelimit-reset");
static POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Targets that messages list.
    Sends,
    /// All other calls, and lines of devices.
    Calls,
}

/// The rates of all callers of this node.
#[derive(Debug)]
pub struct CallLimits {
    clock: Clock,
    metrics: Arc<Metrics>,
    /// By [`Kind`].
    keys: [Option<Buckets>; 2],
    apps: [Option<Buckets>; 2],
    phones: Option<Buckets>,
    addresses: Option<Buckets>,
    proxies: Proxies,
}

/// What a request was counted for. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meter(Arc<Mutex<Vec<Left>>>);

/// Who calls with a key, and for which app.
#[derive(Debug, Clone, Copy)]
pub(super) struct Payer<'a> {
    pub(super) key: &'a str,
    pub(super) app: Option<i64>,
    pub(super) meter: &'a Meter,
}

impl CallLimits {
    /// Nobody has called yet.
    pub fn new(rates: &Rates, clock: Clock, metrics: Arc<Metrics>) -> Self {
        Self {
            clock,
            metrics,
            keys: [
                Buckets::new("key_sends", rates.key_sends_per_second),
                Buckets::new("key_calls", rates.key_calls_per_second),
            ],
            apps: [
                Buckets::new("app_sends", rates.app_sends_per_second),
                Buckets::new("app_calls", rates.app_calls_per_second),
            ],
            phones: Buckets::new("phone", rates.phone_calls_per_second),
            addresses: Buckets::new("address", rates.address_failures_per_second),
            proxies: Proxies::new(rates.trusted()),
        }
    }

    /// Whose call this is, by the other end of its connection and what a trusted proxy says.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        self.proxies.client(peer, headers)
    }

    /// Counts something for a key and for its app.
    pub(super) fn take(&self, kind: Kind, payer: Payer<'_>, cost: u32) -> Answer<()> {
        let now = self.now();
        self.count(self.keys[kind as usize].as_ref(), payer.key, cost, now, payer.meter)?;
        let Some(app) = payer.app else { return Ok(()) };
        self.count(self.apps[kind as usize].as_ref(), app, cost, now, payer.meter)
    }

    /// Refuses whoever has nothing left, and counts nothing yet.
    pub(super) fn look(&self, kind: Kind, payer: Payer<'_>) -> Answer<()> {
        let now = self.now();
        let key = self.keys[kind as usize].as_ref().map(|buckets| buckets.look(payer.key, now));
        let app =
            self.apps[kind as usize].as_ref().zip(payer.app).map(|(buckets, app)| buckets.look(app, now));
        for left in key.into_iter().chain(app) {
            if left.remaining == 0 {
                payer.meter.note(left);
                return Err(self.refuse(left.name, left.wait()));
            }
        }
        Ok(())
    }

    /// Counts a call of a phone.
    pub(crate) fn phone(&self, device: u64, meter: &Meter) -> Answer<()> {
        self.count(self.phones.as_ref(), device, 1, self.now(), meter)
    }

    /// Counts a failure to show who calls.
    pub(super) fn failed(&self, client: IpAddr, meter: &Meter) -> Answer<()> {
        self.count(self.addresses.as_ref(), counted(client), 1, self.now(), meter)
    }

    /// Refuses where an address has failed too often. Only for those who have not shown that they are others.
    pub(super) fn strangers_may(&self, client: IpAddr) -> Answer<()> {
        let Some(buckets) = &self.addresses else { return Ok(()) };
        let left = buckets.look(counted(client), self.now());
        if left.remaining > 0 {
            return Ok(());
        }
        Err(self.refuse(left.name, left.wait()))
    }

    /// Tells the headers of an answer what the call was counted for; where it was for nothing, what the address has left.
    pub(super) fn tell(&self, meter: &Meter, client: Option<IpAddr>, headers: &mut HeaderMap) {
        if let (true, Some(buckets), Some(client)) = (meter.is_empty(), &self.addresses, client) {
            meter.note(buckets.look(counted(client), self.now()));
        }
        meter.write(headers);
    }

    fn count(
        &self,
        buckets: Option<&Buckets>,
        whose: impl std::hash::Hash,
        cost: u32,
        now: Micros,
        meter: &Meter,
    ) -> Answer<()> {
        let Some(buckets) = buckets else { return Ok(()) };
        let (taken, left) = buckets.take(whose, cost, now);
        meter.note(left);
        taken.map_err(|wait| self.refuse(left.name, wait))
    }

    fn refuse(&self, name: &'static str, wait: Micros) -> Problem {
        self.metrics.rate_limited.get_or_create(&RateLimitLabels { limit: name }).inc();
        let seconds = wait.div_ceil(SECOND).max(1);
        let what = match name {
            "key_sends" => "messages of this key list more targets a second than it may",
            "app_sends" => "messages of this app list more targets a second than it may",
            "key_calls" => "this key calls more often than it may",
            "app_calls" => "this app is called for more often than it may be",
            "phone" => "this phone calls more often than it may",
            _ => "too many calls without a good key or secret came from this address",
        };
        let why = format!("{what}; try again in {seconds} s, and more slowly");
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", why).retry_after(seconds)
    }

    fn now(&self) -> Micros {
        self.clock.now_ms() * 1000
    }
}

/// What a message is counted as: the targets that it lists, at least one. Read off before it is looked at closely, so that
/// one that is refused costs as much.
pub(super) fn cost(message: &Value) -> u32 {
    let lists = ["device_ids", "user_ids", "tokens", "phones"];
    let longest = lists.iter().filter_map(|list| message["to"][*list].as_array()).map(Vec::len).max();
    longest.map_or(1, |n| u32::try_from(n).unwrap_or(u32::MAX).max(1))
}

impl Meter {
    /// Whether the call was counted for nobody.
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn note(&self, left: Left) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.iter_mut().find(|known| known.name == left.name) {
            Some(known) => *known = left,
            None => all.push(left),
        }
    }

    /// All rates that hold for the call, and what is left of the one that is nearest to its end.
    fn write(&self, headers: &mut HeaderMap) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let share = |left: &&Left| u64::from(left.remaining) * 1_000_000 / u64::from(left.limit.max(1));
        let Some(nearest) = all.iter().min_by_key(share) else { return };
        headers.insert(LIMIT.clone(), nearest.limit.into());
        headers.insert(REMAINING.clone(), nearest.remaining.into());
        headers.insert(RESET.clone(), nearest.full_in.div_ceil(SECOND).into());
        let each = |left: &Left| format!("{};w=1;comment=\"{}\"", left.limit, left.name);
        let policy = all.iter().map(each).collect::<Vec<_>>().join(", ");
        if let Ok(policy) = HeaderValue::try_from(policy) {
            headers.insert(POLICY.clone(), policy);
        }
    }
}

#[cfg(test)]
mod tests;
