//! A page's targets with their addresses as they are now.

use std::collections::HashMap;

use anypush_providers::contract::{Address, Token};

use crate::channels::Channel;
use crate::delivery::ahead::Ahead;
use crate::delivery::dispatch::InHand;
use crate::delivery::job::Job;
use crate::delivery::page::Entry;
use crate::ids::GIVEN_TARGETS;
use crate::store::{NewTarget, Store, StoreError};

/// The targets of a page with their addresses as they are now.
pub(super) struct Targets {
    found: Vec<(Entry, Address)>,
    /// Their address is gone since the route was decided.
    pub(super) without_address: Vec<Entry>,
}

impl Targets {
    /// Finds the addresses of a page's targets.
    pub(super) async fn find(hand: &InHand<'_>, channel: &Channel) -> Result<Self, StoreError> {
        if let Some(ahead) = hand.ahead.filter(|ahead| ahead.is_fresh(hand.inner.now_ms())) {
            return Ok(Self::known(ahead, &hand.job, channel, &hand.page.entries));
        }
        let indexes: Vec<_> =
            hand.page.entries.iter().filter_map(|entry| entry.target.checked_sub(GIVEN_TARGETS)).collect();
        let given = match indexes.as_slice() {
            [] => Vec::new(),
            indexes => hand.inner.parts.store.given_targets(hand.job.id, indexes).await?,
        };
        Self::among(&*hand.inner.parts.store, &hand.job, channel, &hand.page.entries, given).await
    }

    /// Finds the addresses of targets; those that were given in the call are handed in, by index.
    pub(super) async fn among(
        store: &dyn Store,
        job: &Job,
        channel: &Channel,
        entries: &[Entry],
        given: Vec<(u64, NewTarget)>,
    ) -> Result<Self, StoreError> {
        let devices: Vec<_> =
            entries.iter().map(|entry| entry.target).filter(|target| *target < GIVEN_TARGETS).collect();
        let mut by_device: HashMap<u64, Vec<(u32, Address)>> = HashMap::new();
        if !devices.is_empty() {
            let provider = channel.descriptor.address.provider;
            for found in store.send_addresses(job.record.app, provider, &devices).await? {
                let address =
                    Address { kind: found.kind, token: Token::new(found.token), params: found.params };
                by_device.entry(found.device).or_default().push((found.version, address));
            }
        }
        let mut by_index: HashMap<u64, NewTarget> = given.into_iter().collect();
        Ok(Self::each(entries, |entry| match entry.target.checked_sub(GIVEN_TARGETS) {
            Some(index) => by_index.remove(&index).and_then(given_address),
            None => by_device.remove(&entry.target).and_then(|found| pick(found, entry, channel, job)),
        }))
    }

    /// Takes the addresses of targets from what is known of them.
    fn known(ahead: &Ahead, job: &Job, channel: &Channel, entries: &[Entry]) -> Self {
        let provider = channel.descriptor.address.provider;
        Self::each(entries, |entry| match entry.target.checked_sub(GIVEN_TARGETS) {
            Some(index) => ahead.given(index).map(|address| (0, address)),
            None => pick(ahead.of_device(entry.target, provider), entry, channel, job),
        })
    }

    /// Each target with its address.
    fn each(entries: &[Entry], mut address: impl FnMut(&Entry) -> Option<(u32, Address)>) -> Self {
        let mut targets = Self { found: Vec::with_capacity(entries.len()), without_address: Vec::new() };
        for entry in entries {
            match address(entry) {
                Some((version, address)) => {
                    targets.found.push((Entry { address_version: version, ..entry.clone() }, address));
                }
                None => targets.without_address.push(entry.clone()),
            }
        }
        targets
    }

    /// Targets with their addresses.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(Entry, Address)> {
        self.found.iter()
    }

    /// Takes out those for whom `is` holds.
    pub(super) fn take_out(&mut self, is: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let (out, found): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.found).into_iter().partition(|(entry, _)| is(entry));
        self.found = found;
        out.into_iter().map(|(entry, _)| entry).collect()
    }

    /// Says of each when it was counted against quotas.
    pub(super) fn mark(&mut self, marks: &HashMap<u64, Option<u64>>) {
        for (entry, _) in &mut self.found {
            entry.counted = marks.get(&entry.target).copied().flatten();
        }
    }

    /// What goes to the provider.
    pub(super) fn into_found(self) -> Vec<(Entry, Address)> {
        self.found
    }
}

/// The address that the route chose; where it is gone, the newest that this channel serves: the token was renewed. Which
/// kinds are special is as routing has it.
fn pick(
    mut found: Vec<(u32, Address)>,
    entry: &Entry,
    channel: &Channel,
    job: &Job,
) -> Option<(u32, Address)> {
    if let Some(at) = found.iter().position(|(version, _)| *version == entry.address_version) {
        return Some(found.swap_remove(at));
    }
    found.retain(|(_, address)| {
        channel.provider.as_ref().is_none_or(|provider| provider.serves(address).is_ok())
    });
    let is_special = |address: &Address| channel.descriptor.address.special.contains(&address.kind.as_str());
    found.retain(|(_, address)| !job.spec.steps.is_empty() || !is_special(address));
    found.into_iter().max_by_key(|(version, address)| (!is_special(address), *version))
}

fn given_address(given: NewTarget) -> Option<(u32, Address)> {
    let params = given.params.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default();
    Some((0, Address { kind: given.kind?, token: Token::new(given.token?), params }))
}
