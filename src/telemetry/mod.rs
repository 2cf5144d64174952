//! Logs and metrics.

pub mod log;
mod metrics;

pub use metrics::{
    ForgottenLabels, LabelledGauge, Metrics, RateLimitLabels, ReceiptLabels, RefusalLabels, VendorCode,
    WebhookLabels,
};
