//! Devices and their addresses.

use std::collections::BTreeMap;

use anypush_providers::contract::{Reason, Token};
use serde_json::Value;

/// A device as the backend sees it, to be made or replaced whole.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DevicePut {
    /// The caller's id.
    pub id: String,
    /// Whose it is.
    pub user_id: Option<String>,
    /// `android`, `ios`, …
    pub platform: Option<String>,
    /// Whether notifications are switched on.
    pub enabled: bool,
    /// Tags, sorted.
    pub tags: Vec<String>,
    /// Everything else that the API shows, as given.
    pub profile: BTreeMap<String, Value>,
    /// All its addresses: others of this device are deleted.
    pub addresses: Vec<NewAddress>,
}

/// What of a device changes; absent fields stay.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DevicePatch {
    /// `Some(None)` clears it.
    pub user_id: Option<Option<String>>,
    /// `Some(None)` clears it.
    pub platform: Option<Option<String>>,
    /// Whether notifications are switched on.
    pub enabled: Option<bool>,
    /// All its tags.
    pub tags: Option<Vec<String>>,
    /// Members to set; a null value removes one.
    pub profile: BTreeMap<String, Value>,
    /// All its addresses.
    pub addresses: Option<Vec<NewAddress>>,
}

/// An address as given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAddress {
    /// Which provider can use it, or `phone`.
    pub provider: String,
    /// The kind of token.
    pub kind: String,
    /// The token.
    pub token: String,
    /// What else the vendor needs.
    pub params: BTreeMap<String, String>,
}

/// A device as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceRecord {
    /// Its number: its target in deliveries.
    pub seq: u64,
    /// Its app.
    pub app: i64,
    /// The caller's id.
    pub id: String,
    /// Whose it is.
    pub user_id: Option<String>,
    /// `android`, `ios`, …
    pub platform: Option<String>,
    /// Whether notifications are switched on.
    pub enabled: bool,
    /// Tags, sorted.
    pub tags: Vec<String>,
    /// Everything else.
    pub profile: BTreeMap<String, Value>,
    /// Its addresses, retired ones too.
    pub addresses: Vec<StoredAddress>,
    /// Set once it may connect itself.
    pub username: Option<String>,
    /// MAC of its secret.
    pub secret_mac: Option<Vec<u8>>,
    /// Part of its inbox cursors.
    pub epoch: u32,
    /// Unix milliseconds.
    pub created_at: u64,
    /// Unix milliseconds.
    pub updated_at: u64,
}

/// A device that connects itself, as far as it matters for who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhoneRecord {
    /// Its user name.
    pub username: String,
    /// Its number.
    pub seq: u64,
    /// Its app.
    pub app: i64,
    /// The caller's id.
    pub id: String,
    /// Part of its inbox cursors.
    pub epoch: u32,
    /// MAC of its secret.
    pub secret_mac: Vec<u8>,
}

/// An address as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAddress {
    /// Which provider can use it.
    pub provider: String,
    /// Never reused within the device.
    pub version: u32,
    /// The kind of token.
    pub kind: String,
    /// The token.
    pub token: String,
    /// What else the vendor needs.
    pub params: BTreeMap<String, String>,
    /// Whether it is used: false once retired.
    pub active: bool,
    /// Why it was retired or flagged.
    pub reason: Option<Reason>,
}

/// Which devices to list; all conditions hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceFilter {
    /// The caller's id.
    pub id: Option<String>,
    /// All devices of this user.
    pub user_id: Option<String>,
    /// Devices with this tag.
    pub tag: Option<String>,
    /// Devices with an address in use of this provider.
    pub provider: Option<String>,
    /// The device with this (provider, token).
    pub token: Option<(String, String)>,
}

impl DeviceFilter {
    /// Whether the tag is all that is asked for.
    pub fn is_only_tag(&self) -> bool {
        *self == Self { tag: self.tag.clone(), ..Self::default() }
    }

    /// Whether the provider is all that is asked for.
    pub fn is_only_provider(&self) -> bool {
        *self == Self { provider: self.provider.clone(), ..Self::default() }
    }
}

/// A device as expansion sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetDevice {
    /// Its number.
    pub seq: u64,
    /// The caller's id.
    pub id: String,
    /// Whose it is.
    pub user_id: Option<String>,
    /// Whether notifications are switched on.
    pub enabled: bool,
    /// Whether it may connect itself.
    pub connects: bool,
    /// The number that reports have its platform under; 0 = none.
    pub platform: u8,
    /// Active addresses.
    pub addresses: Vec<TargetAddress>,
}

/// An address as expansion sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetAddress {
    /// Which provider can use it.
    pub provider: String,
    /// Which of the device's.
    pub version: u32,
    /// The kind of token.
    pub kind: String,
    /// What else the vendor needs.
    pub params: BTreeMap<String, String>,
    /// The token, of a device that was asked for by id: it may be sent to at once. A walk brings none.
    pub token: Option<Token>,
}

/// A part of an audience.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Round {
    /// Devices that fit, in order of number.
    pub devices: Vec<TargetDevice>,
    /// The number up to which that is all of them, where there may be more.
    pub next: Option<u64>,
}

/// An address as dispatch sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendAddress {
    /// Whose.
    pub device: u64,
    /// Which.
    pub version: u32,
    /// The kind of token.
    pub kind: String,
    /// The token.
    pub token: String,
    /// What else the vendor needs.
    pub params: BTreeMap<String, String>,
}

/// What a vendor says about an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressVerdict {
    /// The app.
    pub app: i64,
    /// The provider.
    pub provider: String,
    /// Whose.
    pub device: u64,
    /// Which: a verdict on an older version changes nothing.
    pub version: u32,
    /// Why.
    pub reason: Reason,
    /// Retire it; otherwise it is flagged and kept.
    pub retire: bool,
    /// Since when it is so by the vendor's word, in Unix milliseconds. Where the address was registered later, the word is
    /// doubtful.
    pub since: Option<u64>,
}
