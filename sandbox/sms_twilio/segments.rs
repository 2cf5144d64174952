//! How many segments a text takes: GSM 03.38 where all characters are in it, else UCS-2.

/// GSM 03.38's basic set beside ASCII letters and digits.
const BASIC: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./:;<=>?¡ÄÖÑÜ§¿äöñüà";
/// Its extension: each takes two places.
const EXTENSION: &str = "\u{c}^{}\\[~]|€";
/// What smart encoding puts in the place of look-alikes.
const LOOK_ALIKES: &[(char, &str)] = &[
    ('\u{2018}', "'"),
    ('\u{2019}', "'"),
    ('\u{201c}', "\""),
    ('\u{201d}', "\""),
    ('\u{2013}', "-"),
    ('\u{2014}', "-"),
    ('\u{2026}', "..."),
    ('\u{a0}', " "),
    ('«', "\""),
    ('»', "\""),
];

/// The text with look-alikes in the place of characters that GSM 03.38 lacks.
pub(super) fn smart(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match LOOK_ALIKES.iter().find(|(odd, _)| *odd == character) {
            Some((_, plain)) => out.push_str(plain),
            None => out.push(character),
        }
    }
    out
}

/// The number of segments; an empty text takes one.
pub(super) fn count(text: &str) -> usize {
    let place = |character: char| {
        let is_basic = character.is_ascii_alphanumeric() || BASIC.contains(character);
        if is_basic { Some(1) } else { EXTENSION.contains(character).then_some(2) }
    };
    let gsm = text.chars().try_fold(0, |sum, character| Some(sum + place(character)?));
    let (length, one, each) = match gsm {
        Some(septets) => (septets, 160, 153),
        None => (text.encode_utf16().count(), 70, 67),
    };
    if length <= one { 1 } else { length.div_ceil(each) }
}

#[cfg(test)]
mod tests {
    use super::{count, smart};

    #[test]
    fn segments_are_160_or_70_and_shorter_when_there_are_several() {
        for (text, expected) in [
            ("a".repeat(160), 1),
            ("a".repeat(161), 2),
            ("a".repeat(306), 2),
            ("a".repeat(307), 3),
            ("€".repeat(80), 1),
            ("€".repeat(81), 2),
            ("中".repeat(70), 1),
            ("中".repeat(71), 2),
            ("😀".repeat(35), 1),
            ("😀".repeat(36), 2),
        ] {
            assert_eq!(count(&text), expected, "{text}");
        }
        assert_eq!(count(&smart(&"’".repeat(160))), 1);
    }
}
