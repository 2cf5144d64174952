//! Vendors' quotas: which of them are counted, when each begins anew, and under which numbers they are kept.
//!
//! Pure: what is used of them lies in the store, and `delivery` asks before it sends. A quota hangs on the credential,
//! as the vendor's own count does: two channels with one credential share it.

mod period;

use anypush_providers::contract::{Address, Quota, QuotaPeriod, QuotaScope};
use aws_lc_rs::digest::{SHA256, digest};

pub use period::{Period, period};

use crate::channels::Channel;

/// A quota that is asked before something is sent.
#[derive(Debug, Clone, Copy)]
pub struct Counted {
    /// As the vendor states it.
    pub quota: &'static Quota,
    /// As it is here: the vendor's number, or what ops say that this account has.
    pub limit: u64,
    /// Its number in the store.
    pub number: i64,
}

impl Counted {
    /// Whether each device has its own.
    pub fn is_per_device(&self) -> bool {
        self.quota.scope == QuotaScope::Device
    }
}

/// Whether a quota can be counted. Shorter ones are a matter of pace (`limits.per_second`): their time is over before
/// another channel was asked.
pub fn can_be_counted(quota: &Quota) -> bool {
    matches!(quota.period, QuotaPeriod::Hour | QuotaPeriod::Day)
}

/// The quotas of a channel that are asked before it sends: those that the vendor's adapter calls enforced, and those
/// for which ops have said a number.
pub fn counted(channel: &Channel) -> Vec<Counted> {
    let stated = channel.descriptor.quotas.iter().filter(|quota| can_be_counted(quota));
    let one = |quota: &'static Quota| {
        let said = channel.limits.quotas.get(quota.name).copied();
        let limit = said.or(quota.enforced.then_some(quota.limit))?;
        Some(Counted { quota, limit, number: number(&[&credential(channel), quota.name]) })
    };
    stated.filter_map(one).collect()
}

/// The number under which the store keeps until when a vendor calls its quota of a class used up; the class is empty
/// where it means everything.
pub fn closed_number(channel: &Channel, class: &str) -> i64 {
    number(&[&credential(channel), "closed", class])
}

/// The number by which a device's own count is kept. By its address, which is what vendors count by: the same phone
/// given in a call and registered as a device is one.
pub fn device_number(address: &Address) -> i64 {
    number(&["device", &address.kind, address.token.expose()])
}

/// What rate, concurrency, breaker and quota hang on.
fn credential(channel: &Channel) -> String {
    let credential = channel.provider.as_ref().map_or_else(String::new, |provider| provider.credential());
    format!("{}/{credential}", channel.record.provider)
}

/// 63 bits of a hash, never 0.
fn number(parts: &[&str]) -> i64 {
    let hash = digest(&SHA256, parts.join("\n").as_bytes());
    let bits = hash.as_ref().iter().take(8).fold(0_u64, |bits, byte| (bits << 8) | u64::from(*byte));
    ((bits >> 1) as i64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_quota_of_the_catalogue_has_a_name_of_its_own_and_a_zone_that_exists() {
        for registration in anypush_providers::catalogue() {
            let quotas = registration.descriptor.quotas;
            for (place, quota) in quotas.iter().enumerate() {
                let id = registration.descriptor.id;
                assert!(quotas[..place].iter().all(|other| other.name != quota.name), "{id}: {}", quota.name);
                let zone = jiff::tz::TimeZone::get(quota.time_zone);
                assert!(zone.is_ok(), "{id}: {} has the zone {}", quota.name, quota.time_zone);
            }
        }
    }

    #[test]
    fn numbers_differ_by_every_part() {
        let all = [number(&["a", "b"]), number(&["a", "c"]), number(&["b", "a"]), number(&["ab"])];
        for (place, one) in all.iter().enumerate() {
            assert!(*one > 0 && !all[..place].contains(one));
        }
    }
}
