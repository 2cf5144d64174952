//! What a phone shows, and what waits for it.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::state::rfc3339;

/// Notifications that a screen holds.
const MAX_SHOWN: usize = 50;
/// Message ids that a direct phone remembers, to show nothing twice.
const MAX_SEEN: usize = 500;
/// Pushes that a vendor keeps for a phone that is offline.
const MAX_WAITING: usize = 100;
/// Collapse keys that may wait at a time (FCM v1 discovery rev 20261023).
const MAX_COLLAPSE_KEYS: usize = 4;

/// What a phone did with a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It is on the screen, or was handed to the app.
    Shown,
    /// A person tapped it.
    Tapped,
    /// It waited for the phone in vain: its time was over.
    Expired,
    /// It waited for the phone, and a newer one with its collapse key came.
    Replaced,
}

/// Who is told what a phone does with a push: a twin whose vendor reports it. It is called with the phones locked, so it
/// may neither wait nor ask them anything.
#[derive(Clone)]
pub(crate) struct Witness(Arc<dyn Fn(Seen) + Send + Sync>);

impl Witness {
    pub(crate) fn new(tell: impl Fn(Seen) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }
}

impl std::fmt::Debug for Witness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Witness")
    }
}

/// A push on its last way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Push {
    pub(crate) message_id: String,
    pub(crate) title: Option<String>,
    pub(crate) body: Option<String>,
    pub(crate) image: Option<String>,
    pub(crate) data: Map<String, Value>,
    pub(crate) collapse_key: Option<String>,
    pub(crate) expires_at_ms: u64,
    /// What is shown with the same key goes when this is shown.
    pub(crate) replaces: Option<String>,
    /// A phone shows only the first with the same.
    pub(crate) once: Option<String>,
    pub(crate) witness: Option<Witness>,
}

impl Push {
    fn tell(&self, seen: Seen) {
        tell(self.witness.as_ref(), seen);
    }
}

fn tell(witness: Option<&Witness>, seen: Seen) {
    if let Some(Witness(told)) = witness {
        told(seen);
    }
}

/// A notification on a screen; without title and body it was data for the app alone.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shown {
    /// The gateway's id of the message, empty where the push carried none.
    pub message_id: String,
    /// Its title.
    pub title: Option<String>,
    /// Its text.
    pub body: Option<String>,
    /// Its picture's URL.
    pub image: Option<String>,
    /// The app's data.
    pub data: Map<String, Value>,
    /// When it came, RFC 3339.
    pub received_at: String,
    /// When it was tapped, RFC 3339.
    pub tapped_at: Option<String>,
}

/// A notification with what is not for people's eyes.
struct OnScreen {
    shown: Shown,
    key: Option<String>,
    witness: Option<Witness>,
}

#[derive(Default)]
pub(super) struct Screen {
    shown: VecDeque<OnScreen>,
    seen: VecDeque<String>,
    waiting: VecDeque<Push>,
    repeated: u64,
}

impl Screen {
    /// Shows a push, also if it came before: only an app could tell, not the vendor's service.
    pub(super) fn show(&mut self, push: Push, now_ms: u64) {
        push.tell(Seen::Shown);
        if push.once.as_ref().is_some_and(|once| !self.is_first(once)) {
            return;
        }
        let shown = Shown {
            message_id: push.message_id,
            title: push.title,
            body: push.body,
            image: push.image,
            data: push.data,
            received_at: rfc3339(now_ms),
            tapped_at: None,
        };
        if push.replaces.is_some() {
            self.shown.retain(|before| before.key != push.replaces);
        }
        self.shown.push_front(OnScreen { shown, key: push.replaces, witness: push.witness });
        self.shown.truncate(MAX_SHOWN);
    }

    /// Shows a push unless its message was shown before; says whether it was new.
    pub(super) fn show_once(&mut self, push: Push, now_ms: u64) -> bool {
        let is_first = self.is_first(&push.message_id);
        if is_first {
            self.show(push, now_ms);
        }
        is_first
    }

    /// Whether this name comes for the first time.
    fn is_first(&mut self, name: &str) -> bool {
        if self.seen.iter().any(|seen| seen == name) {
            self.repeated += 1;
            return false;
        }
        self.seen.push_back(name.to_owned());
        if self.seen.len() > MAX_SEEN {
            self.seen.pop_front();
        }
        true
    }

    /// Keeps a push until the phone is online; one with the same collapse key makes way for it.
    pub(super) fn keep(&mut self, push: Push, now_ms: u64) {
        if push.expires_at_ms <= now_ms {
            push.tell(Seen::Expired);
            return;
        }
        if push.collapse_key.is_some() {
            self.waiting.retain(|kept| {
                let stays = kept.collapse_key != push.collapse_key;
                if !stays {
                    kept.tell(Seen::Replaced);
                }
                stays
            });
            let collapsible = self.waiting.iter().filter(|kept| kept.collapse_key.is_some()).count();
            if collapsible >= MAX_COLLAPSE_KEYS
                && let Some(oldest) = self.waiting.iter().position(|kept| kept.collapse_key.is_some())
            {
                self.waiting.remove(oldest);
            }
        }
        self.waiting.push_back(push);
        if self.waiting.len() > MAX_WAITING {
            self.waiting.pop_front();
        }
    }

    /// Shows what waited and has not expired; says which messages those were.
    pub(super) fn show_waiting(&mut self, now_ms: u64) -> Vec<String> {
        let mut shown = Vec::new();
        for push in std::mem::take(&mut self.waiting) {
            if push.expires_at_ms > now_ms {
                shown.push(push.message_id.clone());
                self.show(push, now_ms);
            } else {
                push.tell(Seen::Expired);
            }
        }
        shown
    }

    /// Marks a notification as tapped; says whether it is there.
    pub(super) fn tap(&mut self, message_id: &str, now_ms: u64) -> bool {
        let Some(on_screen) =
            self.shown.iter_mut().find(|on_screen| on_screen.shown.message_id == message_id)
        else {
            return false;
        };
        on_screen.shown.tapped_at = Some(rfc3339(now_ms));
        tell(on_screen.witness.as_ref(), Seen::Tapped);
        true
    }

    /// Takes a message off, and never shows it again.
    pub(super) fn take_off(&mut self, message_id: &str) {
        self.shown.retain(|on_screen| on_screen.shown.message_id != message_id);
        if !self.seen.iter().any(|seen| seen == message_id) {
            self.seen.push_back(message_id.to_owned());
        }
    }

    pub(super) fn shown(&self) -> Vec<Shown> {
        self.shown.iter().map(|on_screen| on_screen.shown.clone()).collect()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn repeated(&self) -> u64 {
        self.repeated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(id: &str, collapse_key: Option<&str>, expires_at_ms: u64) -> Push {
        let collapse_key = collapse_key.map(str::to_owned);
        Push { message_id: id.to_owned(), collapse_key, expires_at_ms, ..Push::default() }
    }

    #[test]
    fn an_offline_phone_gets_the_newest_of_each_key_and_nothing_that_expired() {
        let mut screen = Screen::default();
        screen.keep(push("a", Some("k"), 100), 0);
        screen.keep(push("b", Some("k"), 100), 0);
        screen.keep(push("c", None, 10), 0);
        screen.keep(push("d", None, 100), 0);
        screen.keep(push("now or never", None, 0), 0);
        assert_eq!(screen.show_waiting(50), ["b", "d"]);
        assert_eq!(screen.shown().len(), 2);
        assert_eq!(screen.show_waiting(50).len(), 0);
    }

    #[test]
    fn a_direct_phone_shows_a_message_once() {
        let mut screen = Screen::default();
        assert!(screen.show_once(push("a", None, 1), 0));
        assert!(!screen.show_once(push("a", None, 1), 0));
        assert_eq!((screen.shown().len(), screen.repeated()), (1, 1));
    }

    #[test]
    fn what_is_recalled_leaves_the_screen_and_never_comes_back() {
        let mut screen = Screen::default();
        screen.show_once(push("a", None, 1), 0);
        screen.take_off("a");
        screen.take_off("b");
        assert!(!screen.show_once(push("a", None, 1), 0) && !screen.show_once(push("b", None, 1), 0));
        assert!(screen.shown().is_empty());
    }
}
