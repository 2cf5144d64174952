//! Addresses that are known before a page asks for them: a small audience is looked up, or given, when its message is
//! accepted, and sent to a moment later. To read them again would be a way to another thread and back for each message.

use anypush_providers::contract::Address;

use crate::delivery::spec::GivenAddress;
use crate::store::{TargetAddress, TargetDevice};

/// How long addresses are used without being read again: as long as an accept may take, and not as long as a queue.
const FRESH_MS: u64 = 250;

/// The addresses of an audience.
#[derive(Debug)]
pub(super) struct Ahead {
    /// Unix milliseconds.
    known_at: u64,
    audience: Known,
}

/// Whose addresses are known.
#[derive(Debug)]
pub(super) enum Known {
    /// Devices, with their tokens, in order of number.
    Devices(Vec<TargetDevice>),
    /// What the call gave, in its order.
    Given(Vec<GivenAddress>),
}

impl Ahead {
    /// What was looked up or given at this time.
    pub(super) fn new(audience: Known, known_at: u64) -> Self {
        Self { known_at, audience }
    }

    /// Whether it may still be used: later a token may have been renewed.
    pub(super) fn is_fresh(&self, now_ms: u64) -> bool {
        now_ms.checked_sub(self.known_at).is_some_and(|age| age < FRESH_MS)
    }

    /// The addresses of a device for one provider, by version.
    pub(super) fn of_device(&self, device: u64, provider: &str) -> Vec<(u32, Address)> {
        let Known::Devices(devices) = &self.audience else { return Vec::new() };
        let Ok(at) = devices.binary_search_by_key(&device, |device| device.seq) else { return Vec::new() };
        let ours = devices[at].addresses.iter().filter(|address| address.provider == provider);
        let address = |address: &TargetAddress| {
            let token = address.token.clone()?;
            let (kind, params) = (address.kind.clone(), address.params.clone());
            Some((address.version, Address { kind, token, params }))
        };
        ours.filter_map(address).collect()
    }

    /// An address that the call gave, by index.
    pub(super) fn given(&self, index: u64) -> Option<Address> {
        let Known::Given(given) = &self.audience else { return None };
        given.get(usize::try_from(index).ok()?).map(|given| given.address.clone())
    }
}
