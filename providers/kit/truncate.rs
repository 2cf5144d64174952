//! Cuts text at a grapheme: what remains never ends in half a letter or half an emoji.

use std::borrow::Cow;

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

/// What stands where a text was cut for people.
const ELLIPSIS: char = '…';

/// `text` as it is if it has at most `max_units` UTF-16 units (what Java and JavaScript call characters), else its
/// longest beginning that leaves room for an ellipsis, and the ellipsis.
pub fn ellipsize_utf16(text: &str, max_units: usize) -> Cow<'_, str> {
    let mut units = 0;
    let mut end = 0;
    for (start, grapheme) in text.grapheme_indices(true) {
        units += grapheme.encode_utf16().count();
        if units > max_units {
            let mut cut = text[..end].trim_end().to_owned();
            cut.push(ELLIPSIS);
            return Cow::Owned(cut);
        }
        if units < max_units {
            end = start + grapheme.len();
        }
    }
    Cow::Borrowed(text)
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

    #[test]
    fn a_text_for_people_shows_that_it_was_cut() {
        assert_eq!(ellipsize_utf16("订单已发货", 5), "订单已发货");
        assert_eq!(ellipsize_utf16("订单已发货", 4), "订单已…");
        // An emoji is two units.
        assert_eq!(ellipsize_utf16("ab😀c", 5), "ab😀c");
        assert_eq!(ellipsize_utf16("ab😀c", 4), "ab…");
        assert_eq!(ellipsize_utf16("one two three", 5), "one…");
    }

    proptest! {
        #[test]
        fn what_is_shown_fits_and_is_whole_or_ends_in_an_ellipsis(text in "\\PC{0,40}", max in 1_usize..60) {
            let shown = ellipsize_utf16(&text, max);
            prop_assert!(shown.encode_utf16().count() <= max);
            prop_assert!(shown == text || shown.ends_with(ELLIPSIS));
        }

        #[test]
        fn what_remains_is_a_beginning_that_fits(text in "\\PC{0,40}", max in 0_usize..60) {
            let cut = truncate(&text, max);
            prop_assert!(cut.len() <= max && text.starts_with(cut));
        }
    }
}
