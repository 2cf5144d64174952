//! Logs and metrics.

pub mod log;
mod metrics;

pub use metrics::{
    LabelledGauge, Metrics, OutcomeLabels, ReceiptLabels, RefusalLabels, VendorCode, WebhookLabels,
};
