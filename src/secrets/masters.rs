//! Master keys: they wrap data keys and nothing else. The newest stands first and writes; the others only read, so that
//! one can be exchanged for another.

use std::fmt;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{KEY, VaultError};

const NONCE: usize = 12;

/// Names a master key and says nothing about it: the beginning of its SHA-256.
pub type MasterId = [u8; 4];

/// A master key's name as people see it.
pub fn shown(id: MasterId) -> String {
    format!("{:08x}", u32::from_be_bytes(id))
}

struct MasterKey {
    id: MasterId,
    sealing: RandomizedNonceKey,
}

/// The master keys that were given, newest first; at least one.
pub struct MasterKeys(Vec<MasterKey>);

impl fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| shown(key.id))).finish()
    }
}

impl MasterKeys {
    /// Keys of 32 bytes in base64, newest first, separated by commas or line breaks.
    pub fn from_text(text: &str) -> Result<Self, VaultError> {
        let texts = text.split([',', '\n', '\r']).map(str::trim).filter(|key| !key.is_empty());
        let keys = texts.map(MasterKey::read).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(VaultError::BadKey) } else { Ok(Self(keys)) }
    }

    /// The keys in this file; where there is none it is made with a fresh key, for its owner only. A file that others may
    /// read is refused.
    pub fn from_file(path: &Path) -> Result<Self, VaultError> {
        use std::os::unix::fs::PermissionsExt as _;
        let failed = |cause: std::io::Error| VaultError::File {
            path: path.display().to_string(),
            cause: cause.to_string(),
        };
        if !path.exists() {
            let mut key = Zeroizing::new([0u8; KEY]);
            aws_lc_rs::rand::fill(key.as_mut()).map_err(|_| VaultError::BadKey)?;
            let text = Zeroizing::new(STANDARD.encode(*key));
            super::write_private(path, text.as_bytes()).map_err(failed)?;
        }
        let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(VaultError::Mode { path: path.display().to_string(), mode });
        }
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(failed)?);
        Self::from_text(&text)
    }

    /// The key that writes.
    pub fn newest(&self) -> MasterId {
        self.0[0].id
    }

    /// Wraps a data key under the newest.
    pub(super) fn wrap(&self, name: &str, key: &[u8]) -> Vec<u8> {
        let mut body = key.to_vec();
        let sealing = &self.0[0].sealing;
        let nonce = sealing
            .seal_in_place_append_tag(Aad::from(name.as_bytes()), &mut body)
            .expect("sealing fails only over 64 GiB");
        [&nonce.as_ref()[..], &body].concat()
    }

    /// Opens a data key that was wrapped under this one of them.
    pub(super) fn unwrap(
        &self,
        master: MasterId,
        name: &str,
        wrapped: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let key = self.0.iter().find(|key| key.id == master).ok_or(VaultError::OtherKey)?;
        let (nonce, body) = wrapped.split_at_checked(NONCE).ok_or(VaultError::Damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| VaultError::Damaged)?;
        let mut body = Zeroizing::new(body.to_vec());
        let opened = key.sealing.open_in_place(nonce, Aad::from(name.as_bytes()), &mut body);
        let length = opened.map_err(|_| VaultError::Damaged)?.len();
        body.truncate(length);
        Ok(body)
    }
}

impl MasterKey {
    fn read(text: &str) -> Result<Self, VaultError> {
        let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| VaultError::BadKey)?);
        let sealing = RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| VaultError::BadKey)?;
        let hash = digest::digest(&digest::SHA256, &bytes);
        let id = [hash.as_ref()[0], hash.as_ref()[1], hash.as_ref()[2], hash.as_ref()[3]];
        Ok(Self { id, sealing })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn text(byte: u8) -> String {
        STANDARD.encode([byte; KEY])
    }

    #[test]
    fn the_key_file_is_made_once_and_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        let first = MasterKeys::from_file(&path).unwrap().newest();
        assert_eq!(MasterKeys::from_file(&path).unwrap().newest(), first);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    /// A61.
    #[test]
    fn a_key_file_that_others_may_read_is_refused_with_the_command_that_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        MasterKeys::from_file(&path).unwrap();
        for mode in [0o644, 0o640, 0o604, 0o602] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let said = MasterKeys::from_file(&path).unwrap_err().to_string();
            assert!(said.contains("chmod 600") && said.contains(&format!("{mode:o}")), "{said}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        assert!(MasterKeys::from_file(&path).is_ok());
    }

    #[test]
    fn several_keys_are_read_and_the_first_writes() {
        let both = MasterKeys::from_text(&format!(" {}\n\n{}\n", text(2), text(1))).unwrap();
        let (old, new) = (MasterKeys::from_text(&text(1)).unwrap(), MasterKeys::from_text(&text(2)).unwrap());
        assert_eq!(both.newest(), new.newest());
        let wrapped = old.wrap("a", b"data key");
        assert_eq!(*both.unwrap(old.newest(), "a", &wrapped).unwrap(), b"data key");
        assert!(matches!(new.unwrap(old.newest(), "a", &wrapped), Err(VaultError::OtherKey)));
        assert!(matches!(both.unwrap(old.newest(), "b", &wrapped), Err(VaultError::Damaged)));
        assert!(matches!(both.unwrap(new.newest(), "a", &wrapped), Err(VaultError::Damaged)));
        for bad in ["", " , ", "x", &text(1)[1..], &format!("{},x", text(1))] {
            assert!(MasterKeys::from_text(bad).is_err(), "{bad}");
        }
        assert!(!format!("{both:?}").contains(&text(1)));
    }
}
