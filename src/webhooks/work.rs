//! What a webhook's work items hold.

use serde::{Deserialize, Serialize};

/// What is to be told. JSON: a later version may add what this one does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Task {
    /// Everything that happens after an event. Each enabled endpoint has one.
    Follow {
        /// The last event that was read.
        after: u64,
    },
    /// What happened after one event and up to another, once more.
    Replay {
        /// The last event that was read.
        after: u64,
        /// The last event of all.
        until: u64,
    },
    /// These events, which failed so often.
    Again {
        /// Which.
        events: Vec<u64>,
        /// Tries so far.
        attempt: u32,
    },
}

impl Task {
    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers always serialise")
    }

    /// `None`: a newer version wrote it.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}
