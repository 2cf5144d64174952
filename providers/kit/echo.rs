//! A vendor's own words, fit for the trail: no secret, no control characters, at most 300 bytes.

use crate::kit::truncate::truncate;

/// How much of a vendor's words is kept.
pub const MAX_WORDS_BYTES: usize = 300;

/// What stands where a secret stood.
const REMOVED: &str = "[removed]";

/// `words` without any of `secrets` (tokens, credentials: vendors do echo them), cut, in one printable line.
/// `None` when nothing is left to say.
pub fn words(words: &str, secrets: &[&str]) -> Option<String> {
    // Bounds the work: a hostile answer may have a mebibyte of words. A secret that this cut tears apart would no
    // longer be found whole; it lies far behind what is kept.
    let mut text = truncate(words, 16 * 1024).to_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        if text.contains(secret) {
            text = text.replace(secret, REMOVED);
        }
    }
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = truncate(line.trim(), MAX_WORDS_BYTES);
    (!line.is_empty()).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echoed_token_never_reaches_the_trail() {
        let said = words("token abc:DEF is gone", &["abc:DEF", ""]);
        assert_eq!(said.as_deref(), Some("token [removed] is gone"));
    }

    #[test]
    fn a_line_break_cannot_forge_a_log_line() {
        assert_eq!(words("a\nb\u{1b}[31m", &[]).as_deref(), Some("a b [31m"));
    }

    #[test]
    fn long_words_are_cut_and_empty_ones_are_none() {
        assert_eq!(words(&"é".repeat(1000), &[]).unwrap().len(), MAX_WORDS_BYTES);
        assert_eq!(words(" \n ", &[]), None);
    }
}
