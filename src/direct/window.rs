//! The session of a connection on which the phone itself can say nothing: what it says by single requests counts here.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::session::{Session, WINDOW};
use crate::store::Ack;

/// A session that the hub shares with the requests of its phone.
#[derive(Debug)]
pub(super) struct Window {
    session: Mutex<Session>,
    /// The requests tell, the connection listens.
    moved: Notify,
}

impl Window {
    /// A window of this length, until the phone acknowledges by itself for the first time.
    pub(super) fn new(mut session: Session, most: usize) -> Self {
        session.widen(most);
        Self { session: Mutex::new(session), moved: Notify::new() }
    }

    /// Looks at the session or changes it.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Session) -> T) -> T {
        act(&mut self.session.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The phone has this, and the store knows. A phone that says so is given no more than it keeps up with.
    pub(super) fn acknowledged(&self, ack: &Ack) {
        self.with(|session| {
            session.widen(WINDOW);
            match ack {
                Ack::UpTo(pos) => session.ack_up_to(*pos),
                Ack::Messages(messages) => messages.iter().for_each(|message| session.ack(*message)),
            }
            drop(session.take_due());
        });
        self.moved.notify_one();
    }

    /// Until something was acknowledged since the last time.
    pub(super) async fn moved(&self) {
        self.moved.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use anypush_providers::contract::Class;

    use super::*;
    use crate::ids::Id;
    use crate::store::InboxEntry;

    #[tokio::test]
    async fn what_a_phone_acknowledges_makes_room_and_is_not_stored_twice() {
        let window = Window::new(Session::new(1000, 0), 3);
        let load = window.with(|session| session.wants()).unwrap();
        assert_eq!((load.after, load.limit), (0, 3));
        let entry = |pos| InboxEntry {
            pos,
            message: Id(pos),
            class: Class::Marketing,
            spec: String::new(),
            created_at: 0,
            expires_at: 0,
            variables: None,
        };
        window.with(|session| session.loaded(load, (1..=3).map(entry).collect(), 0));
        assert_eq!(window.with(|session| session.wants()), None, "it is full");
        window.acknowledged(&Ack::UpTo(2));
        window.moved().await;
        assert_eq!(window.with(|session| session.handed()), 1);
        window.acknowledged(&Ack::Messages(vec![Id(3), Id(99)]));
        let (due, wants) = window.with(|session| (session.take_due().len(), session.wants()));
        assert_eq!((due, wants.map(|load| load.limit)), (0, Some(WINDOW)));
    }
}
