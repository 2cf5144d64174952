//! Keys that secrets are encrypted with, and where such secrets stand.

/// A data key as it is kept: encrypted under a master key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataKeyRecord {
    /// Its number; secrets name it.
    pub id: u32,
    /// What it is for.
    pub purpose: u8,
    /// Which master key opens it.
    pub master: [u8; 4],
    /// The key, encrypted.
    pub wrapped: Vec<u8>,
    /// Unix milliseconds.
    pub created_at: u64,
}

/// Where a sealed secret stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretHome {
    /// The configuration of a channel, deleted ones too.
    Channel,
    /// What a webhook's events are signed with.
    Webhook,
    /// What tokens of phones that register themselves are signed with; public keys are not sealed.
    RegistrationKey,
}

/// A secret as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSecret {
    /// Where.
    pub home: SecretHome,
    /// The app.
    pub app: i64,
    /// The channel's name, the webhook's public id, the key's id.
    pub name: String,
    /// The row, as the store names it.
    pub row: String,
    /// The secret, encrypted.
    pub sealed: Vec<u8>,
}
