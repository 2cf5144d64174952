//! Who has left a phone: the part of [`Store`](super::Store) that keeps a message to a user from the phone's next one.

use async_trait::async_trait;

use super::Result;

/// Knows which devices users have left.
#[async_trait]
pub trait Users: Send + Sync {
    /// Those of these devices that a user has left after a time.
    async fn left_since(&self, devices: &[u64], since_ms: u64) -> Result<Vec<u64>>;
}
