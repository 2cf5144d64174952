//! Keys that secrets are encrypted with.

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
