//! A page's targets with their addresses as they are now.

use std::collections::HashMap;

use anypush_providers::contract::{Address, Token};

use crate::channels::Channel;
use crate::delivery::dispatch::InHand;
use crate::delivery::page::Entry;
use crate::ids::GIVEN_TARGETS;
use crate::store::{NewTarget, StoreError};

/// The targets of a page with their addresses as they are now.
pub(super) struct Targets {
    found: Vec<(Entry, Address)>,
    /// Their address is gone since the route was decided.
    pub(super) without_address: Vec<Entry>,
}

impl Targets {
    pub(super) async fn find(hand: &InHand<'_>, channel: &Channel) -> Result<Self, StoreError> {
        let store = &hand.inner.parts.store;
        let (given, devices): (Vec<_>, Vec<_>) =
            hand.page.entries.iter().map(|entry| entry.target).partition(|target| *target >= GIVEN_TARGETS);
        let mut by_device: HashMap<u64, Vec<(u32, Address)>> = HashMap::new();
        if !devices.is_empty() {
            let provider = channel.descriptor.address.provider;
            for found in store.send_addresses(hand.job.record.app, provider, &devices).await? {
                let address =
                    Address { kind: found.kind, token: Token::new(found.token), params: found.params };
                by_device.entry(found.device).or_default().push((found.version, address));
            }
        }
        let mut by_index = HashMap::new();
        if !given.is_empty() {
            let indexes: Vec<_> = given.iter().map(|target| target - GIVEN_TARGETS).collect();
            by_index.extend(store.given_targets(hand.job.id, &indexes).await?);
        }
        let mut targets =
            Self { found: Vec::with_capacity(hand.page.entries.len()), without_address: Vec::new() };
        for entry in &hand.page.entries {
            let address = match entry.target.checked_sub(GIVEN_TARGETS) {
                Some(index) => by_index.remove(&index).and_then(given_address),
                None => by_device.remove(&entry.target).and_then(|found| pick(found, entry, channel)),
            };
            match address {
                Some((version, address)) => {
                    targets.found.push((Entry { address_version: version, ..entry.clone() }, address));
                }
                None => targets.without_address.push(entry.clone()),
            }
        }
        Ok(targets)
    }

    /// What goes to the provider at once: at most `max_targets`, where that is more than one.
    pub(super) fn chunks(
        &self,
        max_targets: u32,
        one_by_one: usize,
    ) -> impl Iterator<Item = &[(Entry, Address)]> {
        let size = if max_targets <= 1 { one_by_one } else { max_targets as usize };
        self.found.chunks(size)
    }
}

/// The address that the route chose; where it is gone, the newest that this channel serves: the token was renewed.
fn pick(mut found: Vec<(u32, Address)>, entry: &Entry, channel: &Channel) -> Option<(u32, Address)> {
    if let Some(at) = found.iter().position(|(version, _)| *version == entry.address_version) {
        return Some(found.swap_remove(at));
    }
    found.retain(|(_, address)| {
        channel.provider.as_ref().is_none_or(|provider| provider.serves(address).is_ok())
    });
    found.into_iter().max_by_key(|(version, _)| *version)
}

fn given_address(given: NewTarget) -> Option<(u32, Address)> {
    let params = given.params.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default();
    Some((0, Address { kind: given.kind?, token: Token::new(given.token?), params }))
}
