//! A validated request becomes durable.

use anypush_providers::contract::Class;

use crate::delivery::Pipeline;
use crate::delivery::spec::{Audience, Spec};
use crate::ids::Id;
use crate::store::StoreError;

/// What a backend asked for, validated.
#[derive(Debug, Clone)]
pub struct SendRequest {
    /// Its app.
    pub app: i64,
    /// What to send and how.
    pub spec: Spec,
    /// To whom.
    pub audience: Audience,
    /// Report dimension.
    pub label: Option<String>,
    /// Hashes of the Idempotency-Key and of the body.
    pub idempotency: Option<([u8; 32], [u8; 32])>,
}

/// A message that is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Its id.
    pub id: Id,
    /// Unix milliseconds.
    pub created_at: u64,
    /// It was stored by an earlier call with the same key.
    pub replayed: bool,
}

/// Why a message was not accepted; nothing is stored then.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The Idempotency-Key was used with another body.
    #[error("this Idempotency-Key was used with another body")]
    KeyReused,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Pipeline {
    /// Stores a message and starts it. When this returns, it survives the loss of power.
    pub async fn accept(&self, request: SendRequest) -> Result<Accepted, AcceptError> {
        let _ = (&self.inner, request, Class::Marketing);
        Err(AcceptError::KeyReused)
    }
}
