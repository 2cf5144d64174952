//! An access token in a header, and why there is none.

use std::fmt;

use http::HeaderValue;

use crate::contract::{Failure, Reason, VendorEcho};
use crate::kit::echo;

/// An access token, ready for the header.
pub struct Bearer {
    /// Marked sensitive, so that no `Debug` shows it. That costs nothing on the wire: `h2` never puts this header into
    /// HPACK's table, and each request carries it in full, marked or not.
    pub header: HeaderValue,
    /// For scrubbing it from a vendor's words.
    pub secret: String,
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(…)")
    }
}

/// Why there is no access token; what it means for every target that needed one.
#[derive(Debug, Clone)]
pub struct AuthError {
    /// Definite: no message has been sent.
    pub failure: Failure,
    /// The vendor's own words.
    pub vendor: VendorEcho,
}

impl Bearer {
    /// `None`: no header can hold it.
    pub fn new(secret: String) -> Option<Self> {
        let mut header = HeaderValue::try_from(format!("Bearer {secret}")).ok()?;
        header.set_sensitive(true);
        Some(Self { header, secret })
    }
}

impl AuthError {
    /// A failure of the channel with words of ours. `secrets` are never repeated.
    pub fn channel(reason: Reason, why: &str, secrets: &[&str]) -> Self {
        let vendor = VendorEcho { words: echo::words(why, secrets), ..VendorEcho::default() };
        Self { failure: Failure::channel(reason), vendor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_the_token_nor_its_header_is_shown_by_debug() {
        let bearer = Bearer::new("canary".to_owned()).unwrap();
        assert_eq!(bearer.header, "Bearer canary");
        assert!(!format!("{bearer:?} {:?}", bearer.header).contains("canary"));
    }
}
