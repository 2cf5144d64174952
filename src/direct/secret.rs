//! Device secrets: `aps_<20 user name><32 chance><6 checksum>`.
//!
//! The user name is inside, so that one string is all a phone needs; it is also the name for protocols that ask for
//! one (20 characters of `[a-z2-7]`: MQTT 3.1 allows 23). Only a MAC of the secret is kept.

use crate::app::Gateway;
use crate::secrets::Vault;
use crate::secrets::token::{random_base62, random_of, with_checksum, without_checksum};
use crate::store::{DeviceFilter, DeviceRecord, PhoneRecord, Result, StoreError};

const PREFIX: &str = "aps_";
const USERNAME: usize = 20;
const CHANCE: usize = 32;
const LENGTH: usize = PREFIX.len() + USERNAME + CHANCE + 6;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Keeps MACs of device secrets apart from those of other keys.
const PURPOSE: &str = "device";

/// A secret that was just made: the only time that it is seen.
pub struct NewSecret {
    /// The device's user name.
    pub username: String,
    /// The secret.
    pub secret: String,
}

/// Makes a secret; for a device that has a user name already, under that name.
pub fn make(username: Option<&str>) -> NewSecret {
    let username = username.map_or_else(|| random_of(ALPHABET, USERNAME), str::to_owned);
    let secret = with_checksum(&format!("{PREFIX}{username}{}", random_base62(CHANCE)));
    NewSecret { username, secret }
}

/// The user name inside a secret, where form and checksum are right. Costs no store read.
pub fn username(secret: &str) -> Option<&str> {
    if secret.len() != LENGTH || !secret.starts_with(PREFIX) {
        return None;
    }
    let name = without_checksum(secret)?.get(PREFIX.len()..PREFIX.len() + USERNAME)?;
    name.bytes().all(|b| ALPHABET.contains(&b)).then_some(name)
}

/// What is kept of a secret.
pub fn mac(vault: &Vault, secret: &str) -> Vec<u8> {
    vault.mac(PURPOSE, secret)
}

/// Whether the secret is this device's, in constant time; an unknown device costs the same work.
pub fn verify(vault: &Vault, secret: &str, phone: Option<&PhoneRecord>) -> bool {
    let kept = phone.map(|phone| &*phone.secret_mac);
    let fits = vault.verify(PURPOSE, secret, kept.unwrap_or(&[0; 32]));
    fits && kept.is_some()
}

/// Makes a device's secret or makes it anew: the old one, its connection and its cursors end at once. `None` where
/// the app has no such device.
pub async fn issue(gateway: &Gateway, app: i64, device: &str) -> Result<Option<(DeviceRecord, String)>> {
    let filter = DeviceFilter { id: Some(device.to_owned()), ..DeviceFilter::default() };
    let found = gateway.store.devices(app, &filter, 0, 1).await?;
    let Some(mut record) = found.into_iter().next() else { return Ok(None) };
    // A second round is needed only where two first calls met: the store keeps the first user name.
    for _ in 0..3 {
        let new = make(record.username.as_deref());
        let kept = mac(&gateway.vault, &new.secret);
        match gateway.store.set_device_secret(app, device, &new.username, &kept).await? {
            None => return Ok(None),
            Some(stored) if stored.username.as_deref() == Some(&new.username) => {
                gateway.hub.revoke(stored.seq);
                return Ok(Some((stored, new.secret)));
            }
            Some(stored) => record = stored,
        }
    }
    Err(StoreError::Busy("the device's secret is being made by others".to_owned()))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    #[test]
    fn a_secret_names_its_user_and_fits_only_its_mac() {
        let vault = Vault::from_base64(&base64::engine::general_purpose::STANDARD.encode([1; 32])).unwrap();
        let new = make(None);
        assert_eq!(new.secret.len(), 62);
        assert_eq!(username(&new.secret), Some(new.username.as_str()));
        let kept = mac(&vault, &new.secret);
        assert!(vault.verify(PURPOSE, &new.secret, &kept));
        let again = make(Some(&new.username));
        assert_eq!(again.username, new.username);
        assert!(!vault.verify(PURPOSE, &again.secret, &kept));
        assert!(!verify(&vault, &new.secret, None));
    }

    #[test]
    fn what_is_no_secret_has_no_user_name() {
        let new = make(None).secret;
        assert_eq!(username(&new[..61]), None);
        assert_eq!(username(&new.replace("aps_", "apk_")), None);
        assert_eq!(username(&format!("{new}x")), None);
        assert_eq!(username(&new.replacen(&new[10..12], "éx", 1)), None);
        assert_eq!(username(&with_checksum(&format!("aps_{}", "A".repeat(52)))), None);
        assert_eq!(username(""), None);
    }
}
