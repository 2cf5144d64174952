//! Logs and metrics.

pub mod log;
mod metrics;

pub use metrics::{
    ForgottenLabels, LabelledGauge, Metrics, OutcomeLabels, ReceiptLabels, RefusalLabels, VendorCode,
    WebhookLabels,
};
