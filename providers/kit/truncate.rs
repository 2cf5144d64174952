//! Cuts text by bytes, at a grapheme: what remains never ends in half a letter or half an emoji.

use unicode_segmentation::UnicodeSegmentation;

/// The longest beginning of `text` that fits into `max_bytes` and ends at a grapheme.
pub fn truncate(text: &str, max_bytes: usize) -> &str {
    if text.len() <= max_bytes {
        return text;
    }
    let end = text
        .grapheme_indices(true)
        .map(|(start, grapheme)| start + grapheme.len())
        .take_while(|end| *end <= max_bytes)
        .last()
        .unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_that_fits_stays_whole() {
        assert_eq!(truncate("abc", 3), "abc");
    }

    #[test]
    fn a_family_emoji_is_kept_whole_or_left_out() {
        let family = "👨‍👩‍👧";
        assert_eq!(truncate(&format!("a{family}b"), 10), "a");
        assert_eq!(truncate(&format!("a{family}b"), 1 + family.len()), format!("a{family}"));
    }

    proptest! {
        #[test]
        fn what_remains_is_a_beginning_that_fits(text in "\\PC{0,40}", max in 0_usize..60) {
            let cut = truncate(&text, max);
            prop_assert!(cut.len() <= max && text.starts_with(cut));
        }
    }
}
