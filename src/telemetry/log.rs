//! Where log lines go, and how they look.

use tracing_subscriber::EnvFilter;

use crate::settings::{Log, LogFormat};

/// Starts logging to standard error. A second call in one process changes nothing: tests run many gateways.
pub fn init(log: &Log) {
    let filter = EnvFilter::try_new(&log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    // A line that cannot be written, as on a full disk, is lost: to complain of it on the same stream would panic.
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    let _ = match log.format {
        LogFormat::Text => lines.with_ansi(false).with_target(false).try_init(),
        // Values are escaped by JSON itself: one event stays one line, whatever a title holds.
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).try_init(),
    };
}
