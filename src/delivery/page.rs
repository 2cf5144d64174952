//! A page: up to 1000 targets of one message that go to one channel, inside one work item.
//!
//! Stored sorted by target, target numbers as differences: eight or nine bytes a target that has no past.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::delivery::state::{Delivery, KnownPlatform, State};
use crate::delivery::trail::{self, Skip};
use crate::routing::Wait;

/// Targets of one message for one channel, sorted by target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Which language or variant of the content; `None` = the only one.
    pub variant: Option<String>,
    /// The decisions that put its entries here; entries name them by index, because many share one.
    pub decisions: Vec<Decided>,
    /// The targets.
    pub entries: Vec<Entry>,
    /// What this step of their route waits for, beside its outcome.
    pub wait: Option<Wait>,
    /// When the step began, in milliseconds since the message's creation.
    pub began_ms: u64,
    /// An earlier step was accepted and has waited in vain for this state: those that reached it meanwhile are left
    /// out, and a failure of this step takes nothing away.
    pub held: Option<State>,
    /// At most once: targets whose request may be under way. Written before it is.
    pub intent: Vec<u64>,
}

/// A decision as the trail will tell it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// Milliseconds since the message's creation.
    pub at_ms: u64,
    /// Channels in the order in which they will be tried.
    pub channels: Vec<i64>,
    /// Channels that were left out, and why.
    pub skipped: Vec<Skip>,
    /// The app's rule that it was decided by.
    pub rule: Option<String>,
}

/// One target of a page.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Device number, or [`crate::ids::GIVEN_TARGETS`] + index. Stored as the difference to the one before.
    pub target: u64,
    /// What it is counted under.
    pub platform: KnownPlatform,
    /// The address as it was when the route was decided; 0 for targets given in the call.
    pub address_version: u32,
    /// Which step of the route this is.
    pub step: u8,
    /// Index of the decision that the trail does not tell yet; `None` once it does.
    pub decision: Option<u16>,
    /// Channels that have been tried and given up for this delivery.
    pub tried: Vec<i64>,
    /// Values for this target alone.
    pub variables: Option<BTreeMap<String, String>>,
    /// When it was counted against its channel's quotas, in milliseconds since the message's creation.
    pub counted: Option<u64>,
}

/// First byte of every stored page: the version of its form.
const FORM: u8 = 2;

impl Page {
    /// Most targets of a page.
    pub const MAX: usize = 1000;

    /// The decision that put an entry here, where the trail of its delivery does not tell it yet.
    pub fn untold(&self, entry: &Entry, row: Option<&Delivery>) -> Option<&Decided> {
        let decided = entry.decision.and_then(|index| self.decisions.get(usize::from(index)))?;
        let is_told = row.is_some_and(|row| trail::tells(&row.trail, &decided.clone().into()));
        (!is_told).then_some(decided)
    }

    /// Other targets in the same step of their route, their decisions told.
    #[must_use]
    pub fn with(&self, entries: Vec<Entry>) -> Self {
        Self { entries, decisions: Vec::new(), intent: Vec::new(), ..self.clone() }
    }

    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut page = self.clone();
        page.entries.sort_by_key(|entry| entry.target);
        let mut last = 0;
        for entry in &mut page.entries {
            let target = entry.target;
            entry.target -= last;
            last = target;
        }
        let mut bytes = vec![FORM];
        bytes.extend(postcard::to_allocvec(&page).expect("plain data always serialises into memory"));
        bytes
    }

    /// Reads the stored form; `None` where it is damaged or newer than this program.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&FORM, rest) = bytes.split_first()? else { return None };
        let mut page: Self = postcard::from_bytes(rest).ok()?;
        let mut last = 0u64;
        for entry in &mut page.entries {
            last = last.checked_add(entry.target)?;
            entry.target = last;
        }
        Some(page)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_page_reads_back_sorted(targets in prop::collection::btree_set(0u64..(1 << 41), 0..50)) {
            let mut entries: Vec<_> = targets.iter().rev()
                .map(|&target| Entry { target, address_version: 3, ..Entry::default() }).collect();
            let page = Page { entries: entries.clone(), ..Page::default() };
            let back = Page::decode(&page.encode()).unwrap();
            entries.reverse();
            prop_assert_eq!(back.entries, entries);
        }

        #[test]
        fn damaged_pages_are_refused_without_panic(bytes: Vec<u8>) {
            let _ = Page::decode(&bytes);
        }
    }

    #[test]
    fn a_page_of_a_thousand_neighbours_takes_at_most_eight_bytes_a_target() {
        let entries =
            (0..1000).map(|i| Entry { target: 500_000 + i * 3, address_version: 1, ..Entry::default() });
        let page = Page { entries: entries.collect(), ..Page::default() };
        assert!(page.encode().len() <= 8_000 + 16, "{}", page.encode().len());
    }
}
