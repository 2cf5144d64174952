//! What a connected phone has been handed and what comes next: a state machine without sockets, store or clock.
//!
//! What goes in: that something is new, what the inbox gave, what the phone said, what time it is (milliseconds of any
//! clock that only goes forward). What comes out: what to read ([`Session::wants`]), what to send
//! ([`Session::loaded`]), what to store ([`Session::take_due`]), when to ping or close ([`Session::on_time`]).
//!
//! Positions may become visible out of order: 7 after 8. Reading on after the last position would lose 7, so each time
//! that the phone has acknowledged everything the inbox is read from its beginning, if anything happened since the
//! last such reading.

use crate::ids::Id;
use crate::store::{Ack, InboxEntry, PhoneEvent};

/// Messages that may be on their way unacknowledged.
pub(super) const WINDOW: usize = 20;
/// How late an acknowledgement may be before the phone is asked whether it is there.
pub(super) const ACK_LATE_MS: u64 = 30_000;
/// How long it may take to answer.
pub(super) const PONG_LATE_MS: u64 = 10_000;

/// A connection's state.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Handed out and not acknowledged, in the order of handing out.
    window: Vec<Handed>,
    /// Something may be in the inbox that a reading from the beginning would find.
    dirty: bool,
    /// Something may be in the inbox behind the last of the window.
    ahead: bool,
    /// The highest position that the phone has acknowledged here.
    acknowledged: i64,
    due: Due,
    /// How long the window may be.
    most: usize,
    silence_ms: u64,
    heard_at: u64,
    pinged_at: u64,
    waits_for_pong: bool,
}

#[derive(Debug, Clone, Copy)]
struct Handed {
    pos: i64,
    message: Id,
    at: u64,
}

/// What to ask the inbox for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Load {
    /// Exclusive.
    pub(super) after: i64,
    /// How many at the most.
    pub(super) limit: usize,
}

/// What the phone said and the store does not know yet.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    up_to: Option<i64>,
    messages: Vec<Id>,
    /// Reports about messages.
    pub(super) events: Vec<PhoneEvent>,
}

/// What time asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Come again then.
    Wait(u64),
    /// Ask the phone whether it is there.
    Ping,
    /// It is not there.
    Close,
}

impl Session {
    /// A session that counts as dead after so much silence.
    pub(super) fn new(silence_ms: u64, now: u64) -> Self {
        Self { dirty: true, most: WINDOW, silence_ms, heard_at: now, ..Self::default() }
    }

    /// Another length of the window.
    pub(super) fn widen(&mut self, most: usize) {
        self.most = most;
    }

    /// How many are on their way unacknowledged.
    pub(super) fn handed(&self) -> usize {
        self.window.len()
    }

    /// Something may be new in the inbox.
    pub(super) fn woken(&mut self) {
        self.dirty = true;
        self.ahead = true;
    }

    /// What to read from the inbox now, if anything. What is due must be stored before, or it comes again.
    pub(super) fn wants(&self) -> Option<Load> {
        let limit = self.most.saturating_sub(self.window.len());
        let after = self.window.iter().map(|h| h.pos).max();
        match after {
            None if self.dirty => Some(Load { after: 0, limit }),
            Some(after) if self.ahead && limit > 0 => Some(Load { after, limit }),
            _ => None,
        }
    }

    /// Takes what the inbox gave; returns what to send, in order.
    pub(super) fn loaded(&mut self, load: Load, entries: Vec<InboxEntry>, now: u64) -> Vec<InboxEntry> {
        let all = entries.len() < load.limit;
        self.ahead = !all;
        if load.after == 0 && all {
            self.dirty = false;
        }
        let mut fresh = entries;
        fresh.truncate(load.limit);
        fresh.retain(|entry| self.window.iter().all(|h| h.pos != entry.pos));
        self.window.extend(fresh.iter().map(|e| Handed { pos: e.pos, message: e.message, at: now }));
        fresh
    }

    /// The phone has everything up to a position.
    ///
    /// Where something with a smaller position was handed out after the one that is named, the phone may not have it
    /// yet: then only what was handed out until then ends.
    pub(super) fn ack_up_to(&mut self, pos: i64) {
        let named = self.window.iter().position(|h| h.pos == pos);
        let overtaken = named.is_some_and(|at| self.window[at..].iter().any(|h| h.pos < pos));
        match named {
            Some(at) if overtaken => {
                let done = self.window[..=at].iter().filter(|h| h.pos <= pos);
                self.due.messages.extend(done.map(|h| h.message));
                let rest = self.window.split_off(at + 1);
                self.window.retain(|h| h.pos > pos);
                self.window.extend(rest);
            }
            None if pos <= self.acknowledged => return,
            _ => {
                self.due.up_to = self.due.up_to.max(Some(pos));
                self.window.retain(|h| h.pos > pos);
            }
        }
        self.acknowledged = self.acknowledged.max(pos);
    }

    /// The phone has this message.
    pub(super) fn ack(&mut self, message: Id) {
        if let Some(at) = self.window.iter().position(|h| h.message == message) {
            let handed = self.window.remove(at);
            self.acknowledged = self.acknowledged.max(handed.pos);
        }
        self.due.messages.push(message);
    }

    /// A message was taken back: nobody waits for its acknowledgement.
    pub(super) fn recall(&mut self, message: Id) {
        self.window.retain(|h| h.message != message);
    }

    /// The phone reports about a message; so it has it.
    pub(super) fn report(&mut self, event: PhoneEvent) {
        if self.window.iter().any(|h| h.message == event.message) {
            self.ack(event.message);
        }
        self.due.events.push(event);
    }

    /// What is to be stored, once.
    pub(super) fn take_due(&mut self) -> Due {
        std::mem::take(&mut self.due)
    }

    /// Something came from the phone.
    pub(super) fn heard(&mut self, now: u64) {
        self.heard_at = now;
        self.waits_for_pong = false;
    }

    /// Whether an acknowledgement is late.
    pub(super) fn is_doubtful(&self, now: u64) -> bool {
        self.oldest().is_some_and(|at| now >= at + ACK_LATE_MS)
    }

    /// The phone may be silent for longer.
    pub(super) fn allow_silence(&mut self, silence_ms: u64) {
        self.silence_ms = silence_ms;
    }

    /// What time asks for now.
    pub(super) fn on_time(&mut self, now: u64) -> Verdict {
        let silent_at = self.heard_at + self.silence_ms;
        let pong_late_at = self.pinged_at + PONG_LATE_MS;
        if now >= silent_at || (self.waits_for_pong && now >= pong_late_at) {
            return Verdict::Close;
        }
        let next = match self.oldest() {
            _ if self.waits_for_pong => pong_late_at,
            None => silent_at,
            Some(at) => at.max(self.pinged_at) + ACK_LATE_MS,
        };
        if now < next {
            return Verdict::Wait(next.min(silent_at));
        }
        self.pinged_at = now;
        self.waits_for_pong = true;
        Verdict::Ping
    }

    fn oldest(&self) -> Option<u64> {
        self.window.first().map(|h| h.at)
    }
}

impl Due {
    /// The acknowledgements, as the store takes them.
    pub(super) fn acks(&mut self) -> impl Iterator<Item = Ack> + use<> {
        let exact = std::mem::take(&mut self.messages);
        let exact = (!exact.is_empty()).then_some(Ack::Messages(exact));
        self.up_to.take().map(Ack::UpTo).into_iter().chain(exact)
    }

    /// How much there is.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        usize::from(self.up_to.is_some()) + self.messages.len() + self.events.len()
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
