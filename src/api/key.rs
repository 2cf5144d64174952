//! The form of API keys: `apk_<environment>_<8 id><32 chance><6 checksum>`.

use crate::secrets::token::{random_base62, with_checksum, without_checksum};

const ID: usize = 8;
const CHANCE: usize = 32;

/// Makes a key: (its id, the whole key).
pub(super) fn make(environment: &str) -> (String, String) {
    let id = random_base62(ID);
    let key = with_checksum(&format!("apk_{environment}_{id}{}", random_base62(CHANCE)));
    (id, key)
}

/// The id inside a key, where form and checksum are right. Costs no store read.
pub(super) fn id(key: &str) -> Option<&str> {
    let (environment, rest) = without_checksum(key)?.strip_prefix("apk_")?.split_once('_')?;
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
    (rest.len() == ID + CHANCE && plain(environment) && plain(rest)).then(|| &rest[..ID])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_reads_back() {
        let (made, key) = make("live");
        assert_eq!(key.len(), "apk_live_".len() + 46);
        assert_eq!(id(&key), Some(made.as_str()));
        for foreign in ["", "apk_", "apk__", "aps_live_x", "Bearer x"] {
            assert_eq!(id(foreign), None);
            assert_eq!(id(&with_checksum(foreign)), None);
        }
    }

    proptest! {
        #[test]
        fn anything_is_read_without_panic(text in any::<String>()) {
            let _ = id(&text);
        }
    }
}
