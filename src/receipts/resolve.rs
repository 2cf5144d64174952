//! Which delivery a receipt is about.
//!
//! Our own parameter, where the vendor echoes it, says so and proves it: it was made for this channel and no other, so
//! a forged or foreign one ends here without a look into the store. A batch has one parameter for many targets: then
//! the token says which. Without a parameter only a token together with the vendor's own id leads to a delivery: that
//! of its device, through this channel, under that id.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anypush_providers::contract::{Receipt, ReceiptEvent, ReceiptKey};

use super::Parts;
use crate::channels::Channel;
use crate::ids::{GIVEN_TARGETS, Id, NOBODY};
use crate::store::{StoreError, VendorReceipt};

/// How many of a device's latest deliveries are looked through for a vendor's id.
const LATEST: usize = 50;

/// A receipt of a channel's callback.
pub(super) struct Item {
    /// The callback's row in the journal.
    pub(super) row: i64,
    /// When it came, in Unix milliseconds.
    pub(super) received_at: u64,
    /// What it says.
    pub(super) receipt: Receipt,
}

/// A receipt whose delivery is known.
pub(super) struct Found {
    pub(super) row: i64,
    pub(super) receipt: VendorReceipt,
    /// The version of the target's address, where the receipt names its token.
    pub(super) version: Option<u32>,
}

impl Found {
    /// The delivery.
    pub(super) fn pair(&self) -> (Id, u64) {
        (self.receipt.message, self.receipt.target)
    }

    /// Whether it reports that the delivery failed after all.
    pub(super) fn is_failure(&self) -> bool {
        matches!(self.receipt.event, ReceiptEvent::Failed { .. })
    }
}

/// What became of a channel's receipts.
#[derive(Default)]
pub(super) struct Resolved {
    pub(super) found: Vec<Found>,
    /// Rows of those whose parameter was not made for this channel.
    pub(super) forged: Vec<i64>,
    /// Rows of those that lead nowhere.
    pub(super) unresolved: Vec<i64>,
}

/// Whose a token is: (device, version).
pub(super) type Owners = HashMap<String, (u64, u32)>;

/// Finds the deliveries of a channel's receipts.
pub(super) async fn resolve(
    parts: &Parts,
    channel: &Channel,
    items: Vec<Item>,
) -> Result<Resolved, StoreError> {
    let owners = owners(parts, channel, items.iter().map(|item| &item.receipt)).await?;
    let by_token = channel.descriptor.capabilities.receipt_key == ReceiptKey::Token;
    let mut resolved = Resolved::default();
    // Tokens that no device has: the call itself may have given them.
    let mut given: BTreeMap<Id, Vec<Item>> = BTreeMap::new();
    for item in items {
        let owner = item.receipt.token.as_ref().and_then(|token| owners.get(token)).copied();
        let Some(param) = &item.receipt.param else {
            match without_param(parts, channel, &item, owner).await? {
                Some(pair) => resolved.add(channel, item, pair, owner),
                None => resolved.unresolved.push(item.row),
            }
            continue;
        };
        match (parts.codec.open_receipt_param(channel.record.seq, param), owner) {
            (None, _) => resolved.forged.push(item.row),
            (Some((message, _)), Some((device, _))) if by_token => {
                resolved.add(channel, item, (message, device), owner);
            }
            (Some((message, _)), None) if by_token && item.receipt.token.is_some() => {
                given.entry(message).or_default().push(item);
            }
            (Some((_, NOBODY)), _) => resolved.unresolved.push(item.row),
            (Some(pair), _) => resolved.add(channel, item, pair, owner),
        }
    }
    for (message, items) in given {
        let tokens: BTreeSet<_> = items.iter().filter_map(|item| item.receipt.token.clone()).collect();
        let tokens: Vec<_> = tokens.into_iter().collect();
        let found: HashMap<_, _> = parts.store.given_tokens(message, &tokens).await?.into_iter().collect();
        for item in items {
            match item.receipt.token.as_ref().and_then(|token| found.get(token)) {
                Some(index) => resolved.add(channel, item, (message, GIVEN_TARGETS + index), None),
                None => resolved.unresolved.push(item.row),
            }
        }
    }
    Ok(resolved)
}

impl Resolved {
    fn add(&mut self, channel: &Channel, item: Item, pair: (Id, u64), owner: Option<(u64, u32)>) {
        let Item { row, received_at, receipt } = item;
        let receipt = VendorReceipt {
            message: pair.0,
            target: pair.1,
            channel: channel.record.seq,
            event: receipt.event,
            witness: receipt.witness,
            received_at,
            vendor: receipt.vendor,
        };
        // Only the delivery's own address is judged by it.
        let version = owner.filter(|(device, _)| *device == pair.1).map(|(_, version)| version);
        self.found.push(Found { row, receipt, version });
    }
}

/// The devices behind the tokens, in one read.
pub(super) async fn owners(
    parts: &Parts,
    channel: &Channel,
    receipts: impl Iterator<Item = &Receipt>,
) -> Result<Owners, StoreError> {
    let tokens: BTreeSet<_> = receipts.filter_map(|receipt| receipt.token.clone()).collect();
    if tokens.is_empty() {
        return Ok(Owners::new());
    }
    let tokens: Vec<_> = tokens.into_iter().collect();
    let address = &channel.descriptor.address;
    let store = &parts.store;
    let found = store.token_devices(channel.record.app, address.provider, address.kinds, &tokens).await?;
    Ok(found.into_iter().map(|(token, device, version)| (token, (device, version))).collect())
}

/// The delivery of a token's device that this channel has under the vendor's id.
async fn without_param(
    parts: &Parts,
    channel: &Channel,
    item: &Item,
    owner: Option<(u64, u32)>,
) -> Result<Option<(Id, u64)>, StoreError> {
    let (Some((device, _)), Some(vendor_id)) = (owner, &item.receipt.vendor_id) else { return Ok(None) };
    let latest = parts.store.deliveries_to(device, Id(i64::MAX), LATEST).await?;
    let fits = latest.iter().find(|delivery| {
        delivery.channel == channel.record.seq && delivery.vendor_id.as_ref() == Some(vendor_id)
    });
    Ok(fits.map(|delivery| (delivery.message, device)))
}
