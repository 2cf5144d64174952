//! Forgetting what is too old: the part of [`Store`](super::Store) that only the background task uses.

use async_trait::async_trait;

use super::{Aged, Forgotten, Result};

/// Forgets by age.
#[async_trait]
pub trait Retention: Send + Sync {
    /// Forgets some of what is older than a time, in one transaction of about `limit` rows. Messages that are not over stay,
    /// whatever their age; those after `place` are looked at. What was begun is ended by the next call, whoever makes it and
    /// whenever: nobody sees half of a message.
    async fn forget(&self, what: Aged, before_ms: u64, place: i64, limit: usize) -> Result<Forgotten>;
}
