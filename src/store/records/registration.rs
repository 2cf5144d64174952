//! Keys that an app's backend signs registration tokens with, and phones that come with one.

use crate::store::{DevicePatch, DeviceRecord};

/// A registration key. The numbers of algorithms are stored: never change one, append only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrationKeyRecord {
    /// What tokens name as `kid`; over all apps.
    pub id: String,
    /// Its app.
    pub app: i64,
    /// What it is for, in its owner's words.
    pub name: String,
    /// 0 Ed25519, 1 HMAC-SHA-256.
    pub algorithm: u8,
    /// A public key in PEM, or a secret, sealed.
    pub key: Vec<u8>,
    /// Unix milliseconds.
    pub created_at: u64,
    /// Unix milliseconds.
    pub revoked_at: Option<u64>,
}

/// A phone that registers itself.
#[derive(Debug, Clone)]
pub struct Registration {
    /// Its app.
    pub app: i64,
    /// The key of its token.
    pub key: String,
    /// Hash of the token's nonce.
    pub nonce: [u8; 32],
    /// Until when the nonce must be remembered, in Unix milliseconds.
    pub until: u64,
    /// The caller's id of the device.
    pub device: String,
    /// What it says of itself, and whose it is.
    pub patch: DevicePatch,
    /// Its user name.
    pub username: String,
    /// MAC of its new secret.
    pub mac: Vec<u8>,
}

/// What became of a registration.
#[derive(Debug, Clone, PartialEq)]
pub enum Registered {
    /// The device as it is now.
    Done(Box<DeviceRecord>),
    /// The nonce was used before: nothing is changed.
    Replayed,
    /// The device has this user name already, and a secret names it: nothing is changed.
    Named(String),
}
