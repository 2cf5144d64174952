//! What is used of vendors' quotas.

use crate::delivery::page::Page;
use crate::store::WorkItem;

/// A question before a page is sent: for which of its targets is there room?
#[derive(Debug, Clone)]
pub struct QuotaAsk {
    /// The page's work item, held by the one who asks.
    pub item: WorkItem,
    /// The page. Those for whom there is room come back marked as counted, and so it is stored.
    pub page: Page,
    /// What they are marked with: the moment, in milliseconds since the message's creation.
    pub at_ms: u64,
    /// All that each of them needs one of.
    pub quotas: Vec<QuotaLimit>,
    /// Whom it asks for: place in the page, number of the device.
    pub targets: Vec<(usize, i64)>,
}

/// A quota in its present period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaLimit {
    /// Its number.
    pub quota: i64,
    /// When the period began, in Unix milliseconds.
    pub began_at: u64,
    /// How many.
    pub limit: u64,
    /// Each device has its own.
    pub per_device: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct QuotaAnswer {
    /// The page with its marks.
    pub page: Page,
    /// Those for whom there is no room: place in the page, place in the quotas of the one that is used up.
    pub refused: Vec<(usize, usize)>,
}

/// A use that is given back: it was counted and not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuotaBack {
    /// The quota's number.
    pub quota: i64,
    /// When its period began, in Unix milliseconds.
    pub began_at: u64,
    /// Number of the device; 0 = counted for all devices together.
    pub device: i64,
}
