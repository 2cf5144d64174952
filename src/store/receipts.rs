//! What vendors report, as it came and as it is merged.

use anypush_providers::contract::{ReceiptEvent, VendorEcho, Witness};
use bytes::Bytes;

use crate::ids::Id;

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
