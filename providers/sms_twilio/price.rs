//! What a text message costs, in exact decimals.

use crate::contract::Money;

/// A price for one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Price {
    /// Without its point.
    digits: u64,
    /// Digits behind the point.
    decimals: usize,
    currency: String,
}

impl Price {
    /// Reads a decimal number of up to nine digits on either side of its point.
    pub(super) fn read(amount: &str, currency: &str) -> Option<Self> {
        let (whole, fraction) = amount.split_once('.').unwrap_or((amount, ""));
        let plain = |part: &str| part.len() <= 9 && part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !plain(whole) || !plain(fraction) || amount.ends_with('.') {
            return None;
        }
        let digits = format!("{whole}{fraction}").parse().ok()?;
        Some(Self { digits, decimals: fraction.len(), currency: currency.to_owned() })
    }

    /// The price of so many.
    pub(super) fn times(&self, segments: u32) -> Money {
        let total = u128::from(self.digits) * u128::from(segments);
        let text = format!("{total:0width$}", width = self.decimals + 1);
        let (whole, fraction) = text.split_at(text.len() - self.decimals);
        let amount = if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") };
        Money { amount, currency: self.currency.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_multiplied_to_the_last_digit() {
        for (amount, segments, total) in [
            ("0.0079", 1, "0.0079"),
            ("0.0079", 3, "0.0237"),
            ("0.05", 20, "1.00"),
            ("2", 3, "6"),
            ("0", 3, "0"),
            ("999999999.999999999", 30, "29999999999.999999970"),
        ] {
            assert_eq!(Price::read(amount, "USD").unwrap().times(segments).amount, total, "{amount}");
        }
        for bad in ["", ".5", "1.", "-1", "1e3", "1,5", "1234567890"] {
            assert_eq!(Price::read(bad, "USD"), None, "{bad}");
        }
    }
}
