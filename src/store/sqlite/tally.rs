//! Counters of reports as they are stored: all that stand under one app, period, class and label are one value.
//!
//! A report over a year reads every counter of that year. As rows of their own they cost SQLite a microsecond each; packed
//! they cost a few nanoseconds, and a twentieth of the place. Counters are (channel, platform, view and state, reason, n),
//! one behind the other, so that values may be joined end to end.

use std::collections::{BTreeMap, HashMap};

use anypush_providers::contract::Reason;
use data_encoding::HEXUPPER;
use rustc_hash::FxBuildHasher;

use super::rows::odd;
use crate::delivery::state::CounterKey;

/// What a counter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Counter {
    /// The channel; 0 = none.
    pub channel: i64,
    /// The platform's number.
    pub platform: u8,
    /// 0 `now`, 1 `reached`, 2 targets.
    pub kind: u8,
    /// The state's number.
    pub code: u8,
    /// The reason's number; 0 = none.
    pub reason: u8,
}

impl Counter {
    /// Targets, whatever became of them.
    pub const TARGETED: Self = Self { channel: 0, platform: 0, kind: 2, code: 0, reason: 0 };

    /// What counts deliveries on this platform as a message's counter does.
    pub fn of(key: &CounterKey, platform: u8) -> Self {
        let reason = key.reason.map_or(0, Reason::code);
        Self { channel: key.channel, platform, kind: key.view as u8, code: key.state.code(), reason }
    }
}

/// Counters and their numbers.
pub type Tally = BTreeMap<Counter, i64>;

/// One counter on the disk: channel, platform, kind and code in one byte, reason, number.
type Stored = (i64, u8, u8, u8, i64);

/// The value that is stored. What is zero is left out.
pub fn encode(tally: &Tally) -> Vec<u8> {
    let mut out = Vec::with_capacity(tally.len() * 6);
    for (counter, n) in tally.iter().filter(|(_, n)| **n != 0) {
        let Counter { channel, platform, kind, code, reason } = *counter;
        let stored: Stored = (channel, platform, (kind << 4) | code, reason, *n);
        // Serialising numbers into memory cannot fail.
        if let Ok(bytes) = postcard::to_allocvec(&stored) {
            out.extend(bytes);
        }
    }
    out
}

/// Reads what was stored, one counter after the other.
pub fn decode(mut bytes: &[u8], mut each: impl FnMut(Counter, i64)) -> Result<(), sqlx::Error> {
    while !bytes.is_empty() {
        let (stored, rest): (Stored, _) =
            postcard::take_from_bytes(bytes).map_err(|error| odd("counter of reports", error))?;
        let (channel, platform, kind_and_code, reason, n) = stored;
        let (kind, code) = (kind_and_code >> 4, kind_and_code & 15);
        each(Counter { channel, platform, kind, code, reason }, n);
        bytes = rest;
    }
    Ok(())
}

/// Reads values as a statement hands them out, in hexadecimal: so they may be joined, and stand in JSON.
pub(super) fn decode_hex(text: &[u8], each: impl FnMut(Counter, i64)) -> Result<(), sqlx::Error> {
    let bytes = HEXUPPER.decode(text).map_err(|error| odd("counters of reports", error))?;
    decode(&bytes, each)
}

/// What many values add up to. Counters are numbers of the gateway's own, and a report adds up half a million: hashed fast.
pub(super) type Sums = HashMap<Counter, i64, FxBuildHasher>;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Tally, sqlx::Error> {
        let mut tally = Tally::new();
        decode(bytes, |counter, n| *tally.entry(counter).or_insert(0) += n)?;
        Ok(tally)
    }

    fn counters() -> impl Strategy<Value = Vec<(Counter, i64)>> {
        let counter = (0i64..1 << 40, 0u8..6, 0u8..3, 0u8..10, 0u8..30);
        let counter = counter.prop_map(|(channel, platform, kind, code, reason)| Counter {
            channel,
            platform,
            kind,
            code,
            reason,
        });
        prop::collection::vec((counter, -5i64..1 << 40), 0..50)
    }

    proptest! {
        #[test]
        fn what_is_stored_is_read_again_and_values_may_be_joined(some in counters(), more in counters()) {
            let sum = |all: &[&[(Counter, i64)]]| {
                let mut tally = Tally::new();
                all.concat().into_iter().for_each(|(counter, n)| *tally.entry(counter).or_insert(0) += n);
                tally.retain(|_, n| *n != 0);
                tally
            };
            let bytes = encode(&sum(&[&some]));
            prop_assert_eq!(read(&bytes).unwrap(), sum(&[&some]));
            let mut sums = Sums::default();
            let add = |counter, n| *sums.entry(counter).or_insert(0) += n;
            decode(&[bytes, encode(&sum(&[&more]))].concat(), add).unwrap();
            sums.retain(|_, n| *n != 0);
            prop_assert_eq!(sums.into_iter().collect::<Tally>(), sum(&[&some, &more]));
        }
    }

    #[test]
    fn a_damaged_value_is_an_error_and_no_wrong_number() {
        let one = Counter { channel: 1, platform: 1, kind: 0, code: 1, reason: 0 };
        let bytes = encode(&Tally::from([(one, 1000)]));
        assert!(read(&bytes[..bytes.len() - 1]).is_err());
    }
}
