//! What sealed secrets withstand.

use super::*;

fn data(byte: u8) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &[byte; KEY])
}

fn vault(numbers: &[u8]) -> Vault {
    Vault::new(numbers.iter().map(|n| (u32::from(*n), data(*n))).collect(), data(0))
}

/// A58.
#[test]
fn a_secret_opens_only_in_its_place_and_under_its_key() {
    let sealed = vault(&[1]).seal("channels|secrets|1|fcm", b"private");
    assert!(!sealed.windows(7).any(|w| w == b"private"));
    assert_eq!(*vault(&[1]).open("channels|secrets|1|fcm", &sealed).unwrap(), b"private");
    for place in ["channels|secrets|2|fcm", "channels|secrets|1|apns", "webhooks|secrets|1|fcm"] {
        assert!(matches!(vault(&[1]).open(place, &sealed), Err(VaultError::Damaged)), "{place}");
    }
    assert!(matches!(vault(&[2]).open("channels|secrets|1|fcm", &sealed), Err(VaultError::OtherKey)));
}

/// A58: cut, bent, of an older version.
#[test]
fn damaged_and_cut_secrets_are_refused_without_panic() {
    let vault = vault(&[1]);
    let sealed = vault.seal("x", b"secret");
    for length in 0..sealed.len() {
        assert!(vault.open("x", &sealed[..length]).is_err());
    }
    for at in 0..sealed.len() {
        let mut bent = sealed.clone();
        bent[at] ^= 1;
        assert!(vault.open("x", &bent).is_err(), "byte {at}");
    }
    let mut older = sealed;
    older[0] = 1;
    assert!(matches!(vault.open("x", &older), Err(VaultError::Damaged)));
}

/// A59.
#[test]
fn the_newest_data_key_seals_and_all_of_them_open() {
    let old = vault(&[1]).seal("x", b"secret");
    let both = vault(&[1, 2]);
    assert_eq!(*both.open("x", &old).unwrap(), b"secret");
    let new = both.seal("x", b"secret");
    assert_eq!((number_of(&old), number_of(&new), number_of(b"")), (Some(1), Some(2), None));
    assert!(matches!(vault(&[1]).open("x", &new), Err(VaultError::OtherKey)));
}

#[test]
fn the_mac_of_a_key_is_none_of_a_device_secret() {
    let mac = vault(&[1]).mac("api key", "abc");
    assert!(vault(&[1]).verify("api key", "abc", &mac));
    // Data keys come and go, MACs stay.
    assert!(vault(&[1, 2]).verify("api key", "abc", &mac));
    assert!(!vault(&[1]).verify("device", "abc", &mac));
    let other = Vault::new(BTreeMap::from([(1, data(1))]), data(9));
    assert!(!other.verify("api key", "abc", &mac));
}
