//! An access token in a header, and why there is none.

use std::fmt;

use http::HeaderValue;

use crate::contract::{Failure, Reason, VendorEcho};
use crate::kit::echo;

/// An access token, ready for the header.
pub struct Bearer {
    /// Not marked sensitive: HPACK then keeps it in its table, and each request carries one byte instead of some
    /// thousand. The connection is ours alone, so nobody can probe that table.
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
        let header = HeaderValue::try_from(format!("Bearer {secret}")).ok()?;
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
