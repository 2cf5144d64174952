//! The trail of a delivery: all decisions, attempts and receipts in order, a few bytes each.
//!
//! Entries are postcard, each behind its length, so that a row's trail grows by appending bytes. Variants and fields
//! are only ever appended.

use anypush_providers::contract::{Reason, Witness};
use serde::{Deserialize, Serialize};

use crate::delivery::state::State;

/// One line of the story. Times are milliseconds since the message's creation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TrailEntry {
    /// The route was decided.
    Decided {
        /// When.
        at_ms: u64,
        /// Channels in the order in which they will be tried.
        channels: Vec<i64>,
        /// Channels that were left out, and why.
        skipped: Vec<Skip>,
        /// The app's rule that it was decided by.
        rule: Option<String>,
    },
    /// A channel was tried.
    Attempted {
        /// When the outcome was known.
        at_ms: u64,
        /// Which channel.
        channel: i64,
        /// 1 for the first try through this channel.
        attempt: u32,
        /// `None`: accepted.
        reason: Option<Reason>,
        /// From request to answer.
        latency_ms: u32,
        /// The vendor's HTTP status.
        status: Option<u16>,
        /// The vendor's code.
        code: Option<String>,
        /// The vendor's words.
        words: Option<String>,
        /// What happens next.
        next: Next,
    },
    /// Something came back.
    Received {
        /// When it was recorded.
        at_ms: u64,
        /// About which channel.
        channel: i64,
        /// What it says.
        state: State,
        /// Who saw it.
        witness: Witness,
    },
    /// The delivery ended by the gateway's own doing.
    Ended {
        /// When.
        at_ms: u64,
        /// Why.
        reason: Reason,
    },
    /// A person swiped it away: an event, no state.
    Dismissed {
        /// When it was recorded.
        at_ms: u64,
        /// About which channel.
        channel: i64,
        /// Who saw it.
        witness: Witness,
    },
    /// A channel that had accepted it reports that it failed.
    FailedLater {
        /// When it was recorded.
        at_ms: u64,
        /// Which channel.
        channel: i64,
        /// Why.
        reason: Reason,
        /// The vendor's code.
        code: Option<String>,
        /// The vendor's words.
        words: Option<String>,
    },
    /// A channel that had accepted was given time for a witness, and none came.
    Waited {
        /// When the time was over.
        at_ms: u64,
        /// Which channel.
        channel: i64,
        /// Until which state.
        until: State,
    },
    /// The backend recalled it.
    Recalled {
        /// When.
        at_ms: u64,
        /// Whether the phone was connected and told.
        told: bool,
    },
}

/// What follows an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Next {
    /// Nothing: accepted, or ended.
    Nothing,
    /// The same channel again after this many milliseconds.
    Retry(u64),
    /// The next channel of the route.
    Channel(i64),
}

/// A channel that a route left out.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Skip {
    /// Which channel.
    pub channel: i64,
    /// Why.
    pub why: SkipReason,
}

/// Why a route left a channel out. Append only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SkipReason {
    /// The device has no active address for its provider.
    NoAddress,
    /// The device's addresses belong to another account of the provider; in the provider's words.
    OtherAccount(String),
    /// The channel cannot carry what the message needs; the gaps' names.
    Lacks(String),
    /// The channel is paused.
    Paused,
    /// The channel's credentials are refused.
    AuthFailed,
    /// The channel's quota is used up.
    QuotaExhausted,
    /// The channel is down.
    Down,
    /// The phone is not connected, and another channel can reach it.
    NotConnected,
    /// It was tried already.
    Tried,
    /// It costs money, and the message did not ask for it.
    NotAskedFor,
    /// The device has for it only an address of this kind, which is for one thing alone, and the message does not name
    /// the channel.
    Special(String),
    /// The device does not connect itself.
    NoSecret,
}

/// Whether it tells this.
pub fn tells(trail: &[u8], entry: &TrailEntry) -> bool {
    decode(trail).contains(entry)
}

/// Whether a channel is said to have failed it after all.
pub fn is_failed_later(trail: &[u8], by: i64) -> bool {
    decode(trail)
        .iter()
        .any(|entry| matches!(entry, TrailEntry::FailedLater { channel, .. } if *channel == by))
}

/// Whether a person is said to have swiped it away.
pub fn is_dismissed(trail: &[u8]) -> bool {
    decode(trail).iter().any(|entry| matches!(entry, TrailEntry::Dismissed { .. }))
}

/// Encodes entries, to be appended to a row's trail.
pub fn encode<'a>(entries: impl IntoIterator<Item = &'a TrailEntry>) -> Vec<u8> {
    let mut out = Vec::new();
    append(&mut out, entries);
    out
}

/// Appends entries to a row's trail.
pub fn append<'a>(trail: &mut Vec<u8>, entries: impl IntoIterator<Item = &'a TrailEntry>) {
    for entry in entries {
        // Nearly all are a few bytes: those need no memory of their own.
        let mut few = [0; 64];
        if let Ok(bytes) = postcard::to_slice(entry, &mut few) {
            put(trail, bytes);
        } else if let Ok(bytes) = postcard::to_allocvec(entry) {
            // Serialising plain data into memory cannot fail; a trail without one entry is better than no record.
            put(trail, &bytes);
        }
    }
}

fn put(trail: &mut Vec<u8>, entry: &[u8]) {
    let mut length = entry.len();
    while length >= 0x80 {
        trail.push((length as u8 & 0x7f) | 0x80);
        length >>= 7;
    }
    trail.push(length as u8);
    trail.extend_from_slice(entry);
}

/// Reads a trail. Stops at the first entry that it does not understand: a newer version wrote it.
pub fn decode(mut bytes: &[u8]) -> Vec<TrailEntry> {
    let mut entries = Vec::new();
    while let Some((length, rest)) = read_length(bytes) {
        let Some((entry, rest)) = rest.split_at_checked(length) else { break };
        let Ok(entry) = postcard::from_bytes(entry) else { break };
        entries.push(entry);
        bytes = rest;
    }
    entries
}

fn read_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut length = 0usize;
    for (i, byte) in bytes.iter().enumerate().take(4) {
        length |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((length, &bytes[i + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trail_grows_by_appending_and_reads_back_in_order() {
        let decided = TrailEntry::Decided {
            at_ms: 1,
            channels: vec![2],
            skipped: vec![Skip { channel: 3, why: SkipReason::Lacks("data".into()) }],
            rule: Some("codes".into()),
        };
        let attempted = TrailEntry::Attempted {
            at_ms: 40,
            channel: 2,
            attempt: 1,
            reason: Some(Reason::VendorUnavailable),
            latency_ms: 12,
            status: Some(503),
            code: Some("UNAVAILABLE".into()),
            words: Some("x".repeat(200)),
            next: Next::Retry(1000),
        };
        let mut bytes = encode(std::slice::from_ref(&decided));
        bytes.extend(encode(std::slice::from_ref(&attempted)));
        assert_eq!(decode(&bytes), [decided, attempted]);
    }

    #[test]
    fn the_trail_of_a_plain_success_is_small() {
        let bytes = encode(&[
            TrailEntry::Decided { at_ms: 3, channels: vec![2], skipped: vec![], rule: None },
            TrailEntry::Attempted {
                at_ms: 40,
                channel: 2,
                attempt: 1,
                reason: None,
                latency_ms: 12,
                status: Some(200),
                code: None,
                words: None,
                next: Next::Nothing,
            },
        ]);
        assert!(bytes.len() <= 24, "{} bytes", bytes.len());
    }

    #[test]
    fn a_damaged_trail_keeps_what_comes_before() {
        let mut bytes = encode(&[TrailEntry::Ended { at_ms: 1, reason: Reason::Expired }]);
        bytes.extend([9, 255, 255]);
        assert_eq!(decode(&bytes).len(), 1);
    }
}
