//! Secrets at rest: AES-256-GCM under a master key, each ciphertext bound to its place.
//!
//! The form is `version (1) | key id (4) | nonce (12) | ciphertext | tag (16)`. The key id lets a later master key
//! live beside this one. The place (`table|column|app|row`) is associated data: a ciphertext that was moved to another
//! row does not open.

pub mod token;

use std::fmt;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const VERSION: u8 = 1;
const HEADER: usize = 1 + 4 + 12;

/// Seals and opens secrets, and makes the MACs under which keys are kept.
pub struct Vault {
    key: RandomizedNonceKey,
    pepper: hmac::Key,
    id: [u8; 4],
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault")
    }
}

/// What can go wrong with secrets.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The master key is not 32 bytes of base64.
    #[error("the master key must be 32 bytes in base64; make one with `openssl rand -base64 32`")]
    BadKey,
    /// The key file could not be read or made.
    #[error("the master key file {path}: {cause}")]
    File {
        /// Which file.
        path: String,
        /// What the system said.
        cause: String,
    },
    /// Sealed under another master key.
    #[error("this secret was sealed under another master key")]
    OtherKey,
    /// Damaged, or moved from another place.
    #[error("this secret is damaged or does not belong here")]
    Damaged,
}

impl Vault {
    /// A vault under this key (32 bytes, base64).
    pub fn from_base64(key: &str) -> Result<Self, VaultError> {
        let bytes = STANDARD.decode(key.trim()).map_err(|_| VaultError::BadKey)?;
        let sealing = RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| VaultError::BadKey)?;
        let pepper = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &bytes), b"anypush key pepper");
        let hash = digest::digest(&digest::SHA256, &bytes);
        let id = [hash.as_ref()[0], hash.as_ref()[1], hash.as_ref()[2], hash.as_ref()[3]];
        Ok(Self { key: sealing, pepper: hmac::Key::new(hmac::HMAC_SHA256, pepper.as_ref()), id })
    }

    /// A vault under the key in this file; the file is made (mode 0600) where there is none.
    pub fn from_file(path: &Path) -> Result<Self, VaultError> {
        let failed = |cause: std::io::Error| VaultError::File {
            path: path.display().to_string(),
            cause: cause.to_string(),
        };
        if !path.exists() {
            let mut key = [0u8; 32];
            aws_lc_rs::rand::fill(&mut key).map_err(|_| VaultError::BadKey)?;
            write_private(path, STANDARD.encode(key).as_bytes()).map_err(failed)?;
        }
        Self::from_base64(&std::fs::read_to_string(path).map_err(failed)?)
    }

    /// Seals a secret for this place.
    pub fn seal(&self, place: &str, secret: &[u8]) -> Vec<u8> {
        let mut body = secret.to_vec();
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(place.as_bytes()), &mut body)
            .expect("sealing fails only over 64 GiB");
        [&[VERSION][..], &self.id, nonce.as_ref(), &body].concat()
    }

    /// Opens what was sealed for this place.
    pub fn open(&self, place: &str, sealed: &[u8]) -> Result<Vec<u8>, VaultError> {
        let (header, body) = sealed.split_at_checked(HEADER).ok_or(VaultError::Damaged)?;
        if header[0] != VERSION {
            return Err(VaultError::Damaged);
        }
        if header[1..5] != self.id {
            return Err(VaultError::OtherKey);
        }
        let nonce = Nonce::try_assume_unique_for_key(&header[5..]).map_err(|_| VaultError::Damaged)?;
        let mut body = body.to_vec();
        let open = self.key.open_in_place(nonce, Aad::from(place.as_bytes()), &mut body);
        let length = open.map_err(|_| VaultError::Damaged)?.len();
        body.truncate(length);
        Ok(body)
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
mod tests {
    use super::*;

    fn vault(byte: u8) -> Vault {
        Vault::from_base64(&STANDARD.encode([byte; 32])).unwrap()
    }

    #[test]
    fn a_secret_opens_only_in_its_place_and_under_its_key() {
        let sealed = vault(1).seal("channels|secrets|1|fcm", b"private");
        assert!(!sealed.windows(7).any(|w| w == b"private"));
        assert_eq!(vault(1).open("channels|secrets|1|fcm", &sealed).unwrap(), b"private");
        assert!(matches!(vault(1).open("channels|secrets|2|fcm", &sealed), Err(VaultError::Damaged)));
        assert!(matches!(vault(2).open("channels|secrets|1|fcm", &sealed), Err(VaultError::OtherKey)));
    }

    #[test]
    fn damaged_and_cut_secrets_are_refused_without_panic() {
        let sealed = vault(1).seal("x", b"secret");
        for length in 0..sealed.len() {
            assert!(vault(1).open("x", &sealed[..length]).is_err());
        }
    }

    #[test]
    fn the_key_file_is_made_once_and_only_its_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        let sealed = Vault::from_file(&path).unwrap().seal("x", b"secret");
        assert_eq!(Vault::from_file(&path).unwrap().open("x", &sealed).unwrap(), b"secret");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_mac_of_a_key_is_none_of_a_device_secret() {
        let mac = vault(1).mac("api key", "abc");
        assert!(vault(1).verify("api key", "abc", &mac));
        assert!(!vault(1).verify("device", "abc", &mac));
        assert!(!vault(2).verify("api key", "abc", &mac));
    }
}
