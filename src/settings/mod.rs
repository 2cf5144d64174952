//! Configuration: `config/default.toml` (compiled in, explains every key), a file, the environment — in this order.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

/// Everything that can be configured.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the gateway listens.
    pub listen: SocketAddr,
    /// Where its data is.
    pub data_dir: PathBuf,
    /// Number of this node, 0–255.
    pub node: u8,
}
