//! Which inboxes are known to be empty, so that a phone that comes by and asks, or connects again, costs no store read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::session::Load;
use crate::app::Gateway;
use crate::store::{self, InboxEntry};

/// Devices share a count of disturbances with others: a collision costs one read too many.
const COUNTS: usize = 4096;
/// More than so many are forgotten all at once, which costs one read for each.
const MOST: usize = 1 << 20;
/// How long a note is believed, should a disturbance ever get lost.
const BELIEVED_MS: u64 = 15 * 60 * 1000;

/// What is pending for a device. The store is not asked where it is known that nothing is.
pub(super) async fn pending(gateway: &Gateway, device: u64, load: Load) -> store::Result<Vec<InboxEntry>> {
    let (quiet, now_ms) = (gateway.hub.quiet(), gateway.clock.now_ms());
    let Some(look) = quiet.look(device, now_ms) else { return Ok(Vec::new()) };
    let entries = gateway.store.inbox(device, load.after, load.limit, now_ms).await?;
    if load.after == 0 && entries.is_empty() {
        quiet.note(device, look, now_ms);
    }
    Ok(entries)
}

/// Notes about empty inboxes. Cloning shares them.
#[derive(Debug, Clone)]
pub(super) struct Quiet(Arc<Mutex<Notes>>);

/// The notes themselves, locked for one or many devices.
#[derive(Debug)]
pub(super) struct Notes {
    until_ms: HashMap<u64, u64>,
    disturbed: Vec<u32>,
}

/// Taken before the inbox is read; a note made with it holds only if nothing has come in since.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look(u32);

impl Default for Quiet {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Notes { until_ms: HashMap::new(), disturbed: vec![0; COUNTS] })))
    }
}

impl Quiet {
    /// Locks the notes; never across an await.
    pub(super) fn lock(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the device's inbox is known to be empty; else the look with which to note so later.
    pub(super) fn look(&self, device: u64, now_ms: u64) -> Option<Look> {
        let notes = self.lock();
        let quiet = notes.until_ms.get(&device).is_some_and(|until| now_ms < *until);
        (!quiet).then(|| Look(notes.disturbed[slot(device)]))
    }

    /// Notes that the inbox was empty when it was read after `look`.
    pub(super) fn note(&self, device: u64, look: Look, now_ms: u64) {
        let mut notes = self.lock();
        if notes.disturbed[slot(device)] == look.0 {
            if notes.until_ms.len() >= MOST {
                notes.until_ms.clear();
            }
            notes.until_ms.insert(device, now_ms + BELIEVED_MS);
        }
    }
}

impl Notes {
    /// Something came into the device's inbox.
    pub(super) fn disturb(&mut self, device: u64) {
        let count = &mut self.disturbed[slot(device)];
        *count = count.wrapping_add(1);
        self.until_ms.remove(&device);
    }
}

fn slot(device: u64) -> usize {
    device as usize % COUNTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_does_not_survive_what_came_between_look_and_note() {
        let quiet = Quiet::default();
        let look = quiet.look(1, 0).unwrap();
        quiet.lock().disturb(1);
        quiet.note(1, look, 0);
        assert!(quiet.look(1, 0).is_some(), "the disturbance came after the look");
        let look = quiet.look(1, 0).unwrap();
        quiet.note(1, look, 0);
        assert!(quiet.look(1, 1).is_none());
        assert!(quiet.look(1, BELIEVED_MS).is_some(), "no note is believed for ever");
        quiet.lock().disturb(1);
        assert!(quiet.look(1, 1).is_some());
    }
}
