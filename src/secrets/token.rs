//! Secrets that people and phones carry: a prefix that scanners know, chance, and a checksum that tells a typing
//! mistake from a wrong secret without a look at the store.

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Characters that a checksum takes.
pub const CHECKSUM: usize = 6;

/// So many characters of chance, each of 62.
pub fn random_base62(length: usize) -> String {
    random_of(BASE62, length)
}

/// So many characters of chance out of an alphabet of at most 256.
pub fn random_of(alphabet: &[u8], length: usize) -> String {
    // Bytes at or above the largest multiple of the alphabet would favour its first letters.
    let fair = 256 - 256 % alphabet.len();
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let mut bytes = [0u8; 64];
        aws_lc_rs::rand::fill(&mut bytes).expect("the system's source of chance works");
        let fair = bytes.iter().map(|b| usize::from(*b)).filter(|b| *b < fair);
        text.extend(fair.take(length - text.len()).map(|b| char::from(alphabet[b % alphabet.len()])));
    }
    text
}

/// The text with its checksum: CRC-32 of all that precedes, six characters of base62.
pub fn with_checksum(text: &str) -> String {
    format!("{text}{}", base62(crc32(text.as_bytes())))
}

/// What precedes the checksum; `None` where it does not fit.
pub fn without_checksum(text: &str) -> Option<&str> {
    let (body, sum) = text.split_at_checked(text.len().checked_sub(CHECKSUM)?)?;
    (base62(crc32(body.as_bytes())) == sum).then_some(body)
}

/// CRC-32 as in zip and Ethernet.
pub fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

fn base62(mut value: u32) -> String {
    let mut text = [b'0'; CHECKSUM];
    for place in text.iter_mut().rev() {
        *place = BASE62[(value % 62) as usize];
        value /= 62;
    }
    text.iter().map(|b| char::from(*b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_well_known_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_changed_character_does_not_pass() {
        let token = with_checksum(&format!("x_{}", random_base62(32)));
        assert!(without_checksum(&token).is_some());
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'a' { b'b' } else { b'a' };
            assert_eq!(without_checksum(std::str::from_utf8(&changed).unwrap()), None, "at {at}");
        }
        for length in 0..token.len() {
            assert_eq!(without_checksum(&token[..length]), None);
        }
        assert_eq!(without_checksum("ééé"), None);
    }

    #[test]
    fn chance_stays_in_its_alphabet_and_does_not_repeat() {
        assert_eq!(random_of(b"a", 3), "aaa");
        assert_ne!(random_base62(32), random_base62(32));
        assert!(random_of(b"xyz", 1000).bytes().all(|b| b"xyz".contains(&b)));
    }
}
