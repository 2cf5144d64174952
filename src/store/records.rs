//! What goes into the store and comes out of it.

use std::collections::BTreeMap;

use anypush_providers::contract::{Class, Reason};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::delivery::state::{Event, LateFailure, State, View};
use crate::ids::Id;
use crate::store::VendorReceipt;

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppRecord {
    /// Its number.
    pub seq: i64,
    /// `app_…`
    pub public_id: String,
    /// Its name, unique.
    pub name: String,
    /// Unix milliseconds.
    pub created_at: u64,
}

/// An API key without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// The eight characters of the key that name it.
    pub id: String,
    /// Its app; `None` for an admin key.
    pub app: Option<i64>,
    /// What it is for, in its owner's words.
    pub name: String,
    /// MAC of the secret.
    pub mac: Vec<u8>,
    /// Its scopes.
    pub scopes: Vec<String>,
    /// Unix milliseconds.
    pub created_at: u64,
    /// Unix milliseconds.
    pub expires_at: Option<u64>,
    /// Unix milliseconds.
    pub revoked_at: Option<u64>,
}

/// A configured provider instance.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelRecord {
    /// Its number; 0 when it is put for the first time.
    pub seq: i64,
    /// `chn_…`
    pub public_id: String,
    /// Its app.
    pub app: i64,
    /// Its name in the app.
    pub name: String,
    /// Its provider's id.
    pub provider: String,
    /// Configuration without secrets.
    pub config: Value,
    /// Sealed secrets; bound to (app, name).
    pub secrets: Option<Vec<u8>>,
    /// Limits that ops set.
    pub limits: Value,
    /// [`crate::routing::ChannelState`] as a number.
    pub state: u8,
    /// Why it is in that state.
    pub state_info: Option<String>,
    /// Grows with each put.
    pub version: i64,
    /// Part of the secret in its callback URL; the store's own.
    pub callback: i64,
    /// Unix milliseconds.
    pub created_at: u64,
    /// Unix milliseconds.
    pub updated_at: u64,
    /// Set when it was deleted.
    pub deleted_at: Option<u64>,
}

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
    /// The device with this (provider, token).
    pub token: Option<(String, String)>,
}

/// A device as expansion sees it: no tokens.
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
    /// Active addresses: (provider, version, kind, params).
    pub addresses: Vec<(String, u32, String, BTreeMap<String, String>)>,
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

/// A message to be stored.
#[derive(Debug, Clone)]
pub struct NewMessage {
    /// Its id, made by the caller.
    pub id: Id,
    /// Its app.
    pub app: i64,
    /// Its class.
    pub class: Class,
    /// [`crate::delivery::spec::Spec`] as JSON.
    pub spec: String,
    /// Report dimension.
    pub label: Option<String>,
    /// Unix milliseconds.
    pub created_at: u64,
    /// When every delivery has ended at the latest.
    pub deadline_at: u64,
    /// Hash of the Idempotency-Key and of the body.
    pub idempotency: Option<([u8; 32], [u8; 32])>,
}

/// What became of an accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AcceptAnswer {
    /// It is stored.
    Stored,
    /// The same call was stored before: its message.
    Replayed {
        /// The message.
        id: Id,
        /// Unix milliseconds.
        created_at: u64,
    },
    /// The key was used with another body.
    KeyReused,
}

/// A message as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageRecord {
    /// Its id.
    pub id: Id,
    /// Its app.
    pub app: i64,
    /// 0 sending, 1 scheduled, 2 cancelling, 3 cancelled.
    pub state: u8,
    /// Its class.
    pub class: Class,
    /// [`crate::delivery::spec::Spec`] as JSON.
    pub spec: String,
    /// Report dimension.
    pub label: Option<String>,
    /// Unix milliseconds.
    pub created_at: u64,
    /// Unix milliseconds.
    pub deadline_at: u64,
    /// Set when the whole audience is in pages.
    pub expanded_at: Option<u64>,
    /// Targets so far.
    pub targeted: u64,
    /// Raised by cancel and recall.
    pub generation: u32,
}

/// A set of changes that is applied whole or not at all.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// What happened to deliveries; applied in order by [`crate::delivery::state::apply`], with their counters.
    pub events: Vec<Event>,
    /// (message, by how much its `targeted` grows, when its whole audience is in pages).
    pub expanded: Vec<(Id, u64, Option<u64>)>,
    /// Targets that are no devices.
    pub targets: Vec<(Id, u64, NewTarget)>,
    /// Work to add.
    pub work: Vec<NewWork>,
    /// Work to change; refused silently where the epoch is not the lease's (a stale owner).
    pub work_updates: Vec<WorkUpdate>,
    /// Work that is done.
    pub work_done: Vec<Id>,
    /// Inbox entries to add. One that the device has already for this message is left alone.
    pub inbox: Vec<NewInbox>,
    /// (device, message) pairs whose inbox entry ends without the phone.
    pub inbox_done: Vec<(u64, Id)>,
    /// What vendors say about addresses.
    pub addresses: Vec<AddressVerdict>,
    /// What vendors report of recorded deliveries; applied after the events. Of deliveries that are not recorded, and
    /// of what is known already, nothing is kept.
    pub receipts: Vec<VendorReceipt>,
    /// Rows of the journal whose receipts are among these, or came to nothing.
    pub journal_done: Vec<i64>,
    /// Failures after acceptance; applied after the events by [`crate::delivery::state::reenter`]. The set that has
    /// one has the work that decides again.
    pub late: Vec<LateFailure>,
}

impl Changes {
    /// Adds another set: it comes after this one.
    pub fn append(&mut self, later: Self) {
        self.events.extend(later.events);
        self.expanded.extend(later.expanded);
        self.targets.extend(later.targets);
        self.work.extend(later.work);
        self.work_updates.extend(later.work_updates);
        self.work_done.extend(later.work_done);
        self.inbox.extend(later.inbox);
        self.inbox_done.extend(later.inbox_done);
        self.addresses.extend(later.addresses);
        self.receipts.extend(later.receipts);
        self.journal_done.extend(later.journal_done);
        self.late.extend(later.late);
    }
}

/// A target that is no device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewTarget {
    /// Which provider can use it; `None` for an id that names nothing.
    pub provider: Option<String>,
    /// The kind of token.
    pub kind: Option<String>,
    /// The token.
    pub token: Option<String>,
    /// Params as JSON.
    pub params: Option<String>,
    /// What the call said, where it named nothing.
    pub given: Option<String>,
}

/// What a work item does. The numbers are stored: never change one, append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum WorkKind {
    /// Turn an audience into pages; payload: [`crate::delivery::spec::Audience`] as JSON.
    Expand = 0,
    /// Send a page; payload: [`crate::delivery::page::Page`].
    Page = 1,
    /// End what the phones of a page have not taken by the deadline; payload: a page.
    Expire = 2,
    /// Decide again about a page: the time of its step is over, or of its delay; payload: the page.
    Escalate = 3,
}

impl WorkKind {
    /// Reads a stored number.
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Expand, Self::Page, Self::Expire, Self::Escalate].get(usize::from(code)).copied()
    }
}

/// Work to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWork {
    /// Its id, made by the caller.
    pub id: Id,
    /// What to do.
    pub kind: WorkKind,
    /// Whose turn it waits for; 0 = the gateway's own.
    pub channel: i64,
    /// Which lane.
    pub lane: Class,
    /// The app.
    pub app: i64,
    /// The message.
    pub message: Id,
    /// Unix milliseconds.
    pub due_at: u64,
    /// Tries so far.
    pub attempt: u32,
    /// Leased to the writer at once: (node, epoch, until); `None` = free.
    pub leased: Option<(u8, u64, u64)>,
    /// What to do it with.
    pub payload: Vec<u8>,
}

impl NewWork {
    /// The item as its writer holds it when it leased it to itself.
    pub fn as_item(&self, epoch: u64) -> WorkItem {
        WorkItem {
            id: self.id,
            kind: self.kind,
            channel: self.channel,
            lane: self.lane,
            app: self.app,
            message: self.message,
            due_at: self.due_at,
            attempt: self.attempt,
            epoch,
            resumed: false,
            payload: self.payload.clone(),
        }
    }
}

/// A change of a work item that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkUpdate {
    /// Which.
    pub id: Id,
    /// The epoch of the lease under which it was done.
    pub epoch: u64,
    /// When it is due next.
    pub due_at: u64,
    /// Tries so far.
    pub attempt: u32,
    /// The new payload; `None` = as it is.
    pub payload: Option<Vec<u8>>,
    /// Keeps the lease until this time; 0 = free.
    pub lease_until: u64,
}

/// A leased work item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkItem {
    /// Its id.
    pub id: Id,
    /// What to do.
    pub kind: WorkKind,
    /// The channel; 0 = the gateway's own.
    pub channel: i64,
    /// Which lane.
    pub lane: Class,
    /// The app.
    pub app: i64,
    /// The message.
    pub message: Id,
    /// Unix milliseconds.
    pub due_at: u64,
    /// Tries so far.
    pub attempt: u32,
    /// The fencing token.
    pub epoch: u64,
    /// Whether somebody held it before: some of its targets may be recorded already.
    pub resumed: bool,
    /// What to do it with.
    pub payload: Vec<u8>,
}

/// Which work to lease.
#[derive(Debug, Clone, Copy)]
pub struct Lease {
    /// The kind.
    pub kind: WorkKind,
    /// Of which channel (pages), else 0.
    pub channel: i64,
    /// Of which lane; `None` = any.
    pub lane: Option<Class>,
    /// Who takes it.
    pub node: u8,
    /// The epoch of this life of the node.
    pub epoch: u64,
    /// Now, in Unix milliseconds: what is due.
    pub now_ms: u64,
    /// Until when, in Unix milliseconds.
    pub until_ms: u64,
    /// How many at the most.
    pub limit: usize,
}

/// An inbox entry to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewInbox {
    /// For which device.
    pub device: u64,
    /// Which message.
    pub message: Id,
    /// Its class.
    pub class: Class,
    /// Its size in bytes, against the inbox's limit.
    pub size: u32,
    /// Unix milliseconds.
    pub expires_at: u64,
    /// Values for this device alone, as JSON.
    pub variables: Option<String>,
}

/// An inbox entry as handed out.
#[derive(Debug, Clone, PartialEq)]
pub struct InboxEntry {
    /// Its position.
    pub pos: i64,
    /// The message.
    pub message: Id,
    /// Its class.
    pub class: Class,
    /// [`crate::delivery::spec::Spec`] as JSON.
    pub spec: String,
    /// Unix milliseconds.
    pub created_at: u64,
    /// Unix milliseconds.
    pub expires_at: u64,
    /// Values for this device alone, as JSON.
    pub variables: Option<String>,
}

/// What a phone acknowledges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ack {
    /// Everything handed out up to this position.
    UpTo(i64),
    /// Exactly these messages.
    Messages(Vec<Id>),
}

/// What a phone reports about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhoneEvent {
    /// Which message.
    pub message: Id,
    /// Delivered, displayed or clicked; `None` = dismissed, an event without a state.
    pub state: Option<State>,
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
}

/// A counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    /// The channel; 0 = none.
    pub channel: i64,
    /// Which view.
    pub view: View,
    /// The state.
    pub state: State,
    /// The reason, in view `Now`.
    pub reason: Option<Reason>,
    /// How many.
    pub n: u64,
}

/// Which deliveries to list; all conditions hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// In this state.
    pub state: Option<State>,
    /// Through this channel.
    pub channel: Option<i64>,
    /// For this reason.
    pub reason: Option<Reason>,
}
