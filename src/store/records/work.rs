//! Work items and their leases.

use anypush_providers::contract::Class;
use serde::{Deserialize, Serialize};

use crate::ids::Id;

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
    /// Ask a channel's vendor what became of what it has accepted; payload: a page of those.
    Ask = 4,
    /// Take a message back from phones; payload: one behind the last target that was, as eight bytes.
    Recall = 5,
    /// Tell a webhook; payload: `webhooks::work::Task`. The channel is the webhook's number.
    Webhook = 6,
}

impl WorkKind {
    /// Reads a stored number.
    pub fn from_code(code: u8) -> Option<Self> {
        let all =
            [Self::Expand, Self::Page, Self::Expire, Self::Escalate, Self::Ask, Self::Recall, Self::Webhook];
        all.into_iter().find(|kind| *kind as u8 == code)
    }
}

/// Whose turn it is in: short transactional pages, which somebody waits for, stand behind neither campaigns nor long pages of
/// their own class. A page stays in the lane that it began in. The numbers are stored: never change one, append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum WorkLane {
    /// Long transactional pages, and what the gateway does by itself.
    Transactional = 0,
    /// Marketing's pages.
    Marketing = 1,
    /// Short transactional pages.
    Short = 2,
}

/// A page of about as many targets as have a turn at the gate; a login code is far below.
const SHORT_BYTES: usize = 2048;

impl WorkLane {
    /// All, those first for whom somebody waits.
    pub const ALL: [Self; 3] = [Self::Short, Self::Transactional, Self::Marketing];

    /// The lane of a page.
    pub fn of(class: Class, payload_bytes: usize) -> Self {
        match class {
            Class::Transactional if payload_bytes <= SHORT_BYTES => Self::Short,
            Class::Transactional => Self::Transactional,
            Class::Marketing => Self::Marketing,
        }
    }

    /// Reads a stored number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| *lane as u8 == code)
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
    pub lane: WorkLane,
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
    pub lane: WorkLane,
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
    pub lane: Option<WorkLane>,
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
