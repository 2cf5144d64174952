//! How many messages a text becomes on its way to a phone: 3GPP TS 23.038 (alphabets) and 23.040 (concatenation).
//!
//! A text that the 7-bit alphabet can write has 160 places in one message, or 153 in each part of a long one; any other text is
//! written in UTF-16, with 70 and 67. What needs two places is never torn apart. The alphabet is a table of its own: the
//! published crates encode for a modem, without counting parts, or are a single release.

use serde::Serialize;

/// The basic alphabet (23.038 §6.2.1), without the escape.
const BASIC: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";

/// Its extension (§6.2.1.1): an escape and a letter, two places.
const EXTENSION: &str = "\u{c}^{}\\[~]|€";

/// How a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// The 7-bit alphabet.
    Gsm7,
    /// UTF-16.
    Ucs2,
}

/// What a text costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Segments {
    /// How it is written.
    pub encoding: Encoding,
    /// Places that it takes: septets or UTF-16 units.
    pub units: u32,
    /// Messages that it becomes; an empty text is one.
    pub count: u32,
}

/// Counts a text.
pub fn segments(text: &str) -> Segments {
    let septets: Option<Vec<u32>> = text.chars().map(septets).collect();
    match septets {
        Some(places) => count(Encoding::Gsm7, places.into_iter(), 160, 153),
        None => count(Encoding::Ucs2, text.chars().map(|letter| letter.len_utf16() as u32), 70, 67),
    }
}

/// Places of a letter in the 7-bit alphabet; `None`: it is not in it.
fn septets(letter: char) -> Option<u32> {
    if BASIC.contains(letter) {
        return Some(1);
    }
    EXTENSION.contains(letter).then_some(2)
}

fn count(encoding: Encoding, letters: impl Iterator<Item = u32> + Clone, alone: u32, part: u32) -> Segments {
    let units = letters.clone().sum();
    if units <= alone {
        return Segments { encoding, units, count: 1 };
    }
    let (mut count, mut used) = (1, 0);
    for places in letters {
        if used + places > part {
            count += 1;
            used = 0;
        }
        used += places;
    }
    Segments { encoding, units, count }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counted(text: &str) -> (Encoding, u32, u32) {
        let Segments { encoding, units, count } = segments(text);
        (encoding, units, count)
    }

    #[test]
    fn the_alphabet_has_127_letters_and_ten_more_by_an_escape() {
        assert_eq!((BASIC.chars().count(), EXTENSION.chars().count()), (127, 10));
        let mut all: Vec<char> = BASIC.chars().chain(EXTENSION.chars()).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 137, "no letter twice");
    }

    #[test]
    fn a_text_has_as_many_places_as_the_standard_says() {
        use Encoding::{Gsm7, Ucs2};
        for (text, expected) in [
            (String::new(), (Gsm7, 0, 1)),
            ("a".repeat(160), (Gsm7, 160, 1)),
            ("a".repeat(161), (Gsm7, 161, 2)),
            ("a".repeat(306), (Gsm7, 306, 2)),
            ("a".repeat(307), (Gsm7, 307, 3)),
            ("€".repeat(80), (Gsm7, 160, 1)),
            // An escape and its letter stay together: 152 places of 153 are used in each part.
            ("€".repeat(81), (Gsm7, 162, 2)),
            ("€".repeat(153), (Gsm7, 306, 3)),
            ("中".repeat(70), (Ucs2, 70, 1)),
            ("中".repeat(71), (Ucs2, 71, 2)),
            ("中".repeat(134), (Ucs2, 134, 2)),
            ("中".repeat(135), (Ucs2, 135, 3)),
            ("😀".repeat(35), (Ucs2, 70, 1)),
            // The same for the two halves of an emoji: 66 of 67.
            ("😀".repeat(36), (Ucs2, 72, 2)),
            ("😀".repeat(67), (Ucs2, 134, 3)),
            ("Héllo €".to_owned(), (Gsm7, 8, 1)),
            // Not in the alphabet, though much like it: the small c with a cedilla, the backtick, the curly quote.
            ("ç".to_owned(), (Ucs2, 1, 1)),
            ("`".to_owned(), (Ucs2, 1, 1)),
            ("it’s".to_owned(), (Ucs2, 4, 1)),
        ] {
            assert_eq!(counted(&text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_parts_hold_the_whole_text_and_no_more_than_are_needed(text in "[a-z€{}😀中]{0,700}") {
            let Segments { encoding, units, count } = segments(&text);
            let (alone, part) = if encoding == Encoding::Gsm7 { (160, 153) } else { (70, 67) };
            if units <= alone {
                prop_assert_eq!(count, 1);
            } else {
                prop_assert!(units <= count * part);
                // At most one place of each part is lost to what must stay together.
                prop_assert!(units > (count - 1) * (part - 1));
            }
        }

        #[test]
        fn a_longer_text_never_costs_less(text in "\\PC{0,300}", more in "\\PC{0,20}") {
            let longer = format!("{text}{more}");
            prop_assert!(segments(&text).count <= segments(&longer).count);
        }
    }
}
