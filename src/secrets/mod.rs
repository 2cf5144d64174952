//! Secrets at rest, in two steps: data keys encrypt (AES-256-GCM), master keys encrypt data keys.
//!
//! The form of a sealed secret is `version (1) | data key (4) | nonce (12) | ciphertext | tag (16)`. Each place
//! (`table|column|app|row`) has a key of its own, made from the data key and the place, and the place is associated data
//! as well: a ciphertext that was moved to another row or app does not open. MACs of API keys, device secrets, cursors and
//! callback paths hang on a key that is never exchanged. What is opened is wiped when it is dropped.

pub mod masters;
mod rotate;
pub mod token;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

pub use self::masters::MasterKeys;
pub use self::rotate::{Rewrapped, rewrap, unlock};

/// Bytes of a key.
const KEY: usize = 32;
const VERSION: u8 = 2;
const NAME: usize = 1 + 4;
const HEADER: usize = NAME + 12;

/// What data keys are for; the numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Purpose {
    Seal = 0,
    Mac = 1,
}

/// Seals and opens secrets, and makes the MACs under which keys are kept.
pub struct Vault {
    /// By number; the last one seals.
    data: BTreeMap<u32, hmac::Key>,
    pepper: hmac::Key,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault")
    }
}

/// What can go wrong with secrets.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// A master key is not 32 bytes of base64.
    #[error(
        "a master key is 32 bytes in base64 (make one with `openssl rand -base64 32`); several, newest first, are \
         separated by commas or line breaks"
    )]
    BadKey,
    /// The key file could not be read or made.
    #[error("the master key file {path}: {cause}")]
    File {
        /// Which file.
        path: String,
        /// What the system said.
        cause: String,
    },
    /// Others than its owner may read the key file.
    #[error("the master key file {path} has mode {mode:o}: others may read it; run `chmod 600 {path}`")]
    Mode {
        /// Which file.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// Sealed under a key that was not given.
    #[error("this secret was sealed under another master key")]
    OtherKey,
    /// Damaged, or moved from another place.
    #[error("this secret is damaged or does not belong here")]
    Damaged,
}

impl Vault {
    /// A vault over these keys; `data` is not empty.
    fn new(data: BTreeMap<u32, hmac::Key>, pepper: hmac::Key) -> Self {
        Self { data, pepper }
    }

    /// Seals a secret for this place.
    pub fn seal(&self, place: &str, secret: &[u8]) -> Vec<u8> {
        let (number, key) = self.data.last_key_value().expect("a vault has a data key");
        let mut body = Vec::with_capacity(secret.len() + 16);
        body.extend_from_slice(secret);
        let name = [&[VERSION][..], &number.to_be_bytes()].concat();
        let nonce = key_of(key, place)
            .seal_in_place_append_tag(associated(&name, place), &mut body)
            .expect("sealing fails only over 64 GiB");
        [&name[..], nonce.as_ref(), &body].concat()
    }

    /// Opens what was sealed for this place.
    pub fn open(&self, place: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let (header, body) = sealed.split_at_checked(HEADER).ok_or(VaultError::Damaged)?;
        let (name, nonce) = header.split_at(NAME);
        let key = match number_of(sealed) {
            Some(number) => self.data.get(&number).ok_or(VaultError::OtherKey)?,
            None => return Err(VaultError::Damaged),
        };
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| VaultError::Damaged)?;
        let mut body = Zeroizing::new(body.to_vec());
        let open = key_of(key, place).open_in_place(nonce, associated(name, place), &mut body);
        let length = open.map_err(|_| VaultError::Damaged)?.len();
        body.truncate(length);
        Ok(body)
    }

    /// The number of the data key that seals.
    fn newest(&self) -> u32 {
        self.data.last_key_value().map_or(0, |(number, _)| *number)
    }

    /// The MAC under which a key's or device's secret is kept; `purpose` keeps the two apart.
    pub fn mac(&self, purpose: &str, secret: &str) -> Vec<u8> {
        hmac::sign(&self.pepper, format!("{purpose}\0{secret}").as_bytes()).as_ref().to_vec()
    }

    /// Whether a secret belongs to a kept MAC, in constant time.
    pub fn verify(&self, purpose: &str, secret: &str, mac: &[u8]) -> bool {
        hmac::verify(&self.pepper, format!("{purpose}\0{secret}").as_bytes(), mac).is_ok()
    }
}

/// The number of the data key under which this was sealed; `None` where it is damaged or of another version.
fn number_of(sealed: &[u8]) -> Option<u32> {
    let name = sealed.get(..NAME).filter(|name| name[0] == VERSION)?;
    Some(u32::from_be_bytes([name[1], name[2], name[3], name[4]]))
}

fn key_of(data: &hmac::Key, place: &str) -> RandomizedNonceKey {
    let key = hmac::sign(data, place.as_bytes());
    RandomizedNonceKey::new(&AES_256_GCM, key.as_ref()).expect("HMAC-SHA-256 gives 32 bytes")
}

fn associated(name: &[u8], place: &str) -> Aad<Vec<u8>> {
    Aad::from([name, place.as_bytes()].concat())
}

/// Writes a file that only its owner can read, whole or not at all.
pub fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let parts = path.with_extension("new");
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&parts)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(parts, path)
}

#[cfg(test)]
impl Vault {
    /// A vault whose only data key this is (32 bytes, base64), beside no store.
    pub(crate) fn from_base64(key: &str) -> Result<Self, VaultError> {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::STANDARD.decode(key).map_err(|_| VaultError::BadKey)?;
        let key = || hmac::Key::new(hmac::HMAC_SHA256, &bytes);
        Ok(Self::new(BTreeMap::from([(1, key())]), key()))
    }
}

#[cfg(test)]
mod tests;
