//! Logs and metrics.

pub mod log;
mod metrics;

pub use metrics::{
    ForgottenLabels, LabelledGauge, Metrics, OutcomeLabels, RateLimitLabels, ReceiptLabels, RefusalLabels,
    VendorCode, WebhookLabels,
};
