//! Logs and metrics.

pub mod log;
mod metrics;

pub use metrics::{Metrics, OutcomeLabels, VendorCode};
