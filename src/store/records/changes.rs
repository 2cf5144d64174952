//! What is applied whole or not at all.

use crate::delivery::page::Page;
use crate::delivery::state::{Event, LateFailure};
use crate::ids::Id;
use crate::store::VendorReceipt;
use crate::store::records::{
    AddressVerdict, NewInbox, NewTarget, NewWork, QuotaBack, WebhookChange, WorkUpdate,
};

/// What is to be done with the targets of a page that find no room in their inbox: in the same transaction their
/// deliveries are left pending, and the work is added for them alone. Where all find room there is none of it.
#[derive(Debug, Clone)]
pub struct Refusable {
    /// The work; its payload is made of the page.
    pub work: NewWork,
    /// The whole page.
    pub page: Page,
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
    /// Work for those of `inbox` that find no room.
    pub refusable: Vec<Refusable>,
    /// (device, message) pairs whose inbox entry ends without the phone.
    pub inbox_done: Vec<(u64, Id)>,
    /// What vendors say about addresses.
    pub addresses: Vec<AddressVerdict>,
    /// What vendors report of recorded deliveries; applied after the events. Of deliveries that are not recorded, and
    /// of what is known already, nothing is kept.
    pub receipts: Vec<VendorReceipt>,
    /// Rows of the journal whose receipts are among these, or came to nothing.
    pub journal_done: Vec<i64>,
    /// Uses of quotas that are given back.
    pub quota_back: Vec<QuotaBack>,
    /// Failures after acceptance; applied after the events by [`crate::delivery::state::reenter`]. The set that has
    /// one has the work that decides again.
    pub late: Vec<LateFailure>,
    /// What became of webhooks.
    pub webhooks: Vec<WebhookChange>,
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
        self.refusable.extend(later.refusable);
        self.inbox_done.extend(later.inbox_done);
        self.addresses.extend(later.addresses);
        self.receipts.extend(later.receipts);
        self.journal_done.extend(later.journal_done);
        self.quota_back.extend(later.quota_back);
        self.late.extend(later.late);
        self.webhooks.extend(later.webhooks);
    }
}
