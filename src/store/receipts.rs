//! What vendors report, as it came and as it is merged: the part of [`Store`](super::Store) that only receipts use.

use anypush_providers::contract::{ReceiptEvent, VendorEcho, Witness};
use async_trait::async_trait;
use bytes::Bytes;

use super::Result;
use crate::delivery::state::Delivery;
use crate::ids::Id;

/// Keeps callbacks until they are merged, and knows what they may be about.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Appends callbacks to the journal. Shares its commit with others that wait.
    async fn journal_receipts(&self, receipts: Vec<RawReceipt>) -> Result<()>;
    /// The journal after a row, in order: as many rows as `limit` and a few megabytes allow.
    async fn journal_after(&self, seq: i64, limit: usize) -> Result<Vec<RawReceipt>>;
    /// How many rows the journal has.
    async fn journal_rows(&self) -> Result<u64>;
    /// The recorded deliveries among these (message, target).
    async fn recorded(&self, pairs: &[(Id, u64)]) -> Result<Vec<Delivery>>;
    /// Those of these (message, target) that are not recorded: mostly none.
    async fn unrecorded(&self, pairs: &[(Id, u64)]) -> Result<Vec<(Id, u64)>>;
}

/// A vendor's callback as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawReceipt {
    /// Its place in the journal; the store gives it.
    pub seq: i64,
    /// To which channel.
    pub channel: i64,
    /// Unix milliseconds.
    pub received_at: u64,
    /// HTTP method.
    pub method: String,
    /// URL and headers, sealed; so is the body.
    pub envelope: Vec<u8>,
    /// The body.
    pub body: Bytes,
}

/// What a vendor reports of a delivery, once it is known of which.
#[derive(Debug, Clone, PartialEq)]
pub struct VendorReceipt {
    /// The message.
    pub message: Id,
    /// The target.
    pub target: u64,
    /// The channel that reports.
    pub channel: i64,
    /// What happened.
    pub event: ReceiptEvent,
    /// Who saw it.
    pub witness: Witness,
    /// When it arrived, in Unix milliseconds.
    pub received_at: u64,
    /// The vendor's own words.
    pub vendor: VendorEcho,
}
