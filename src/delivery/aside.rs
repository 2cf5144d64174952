//! Work that cannot be read: damaged, or written by a newer version.
//!
//! It is tried a few times and then set aside: its lease is kept, so nobody takes it up again before the next start,
//! which frees it like all that an earlier life held. So a version that can read it goes on with it, and nothing is
//! lost. Where at least the page and its message's times can be read, the lease ends at the deadline, and what nobody
//! has by then ends as it would have.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anypush_providers::contract::Reason;

use crate::delivery::page::Page;
use crate::delivery::pipeline::Inner;
use crate::delivery::state::State;
use crate::delivery::{cancel, job};
use crate::ids::{Id, Kind};
use crate::store::{Changes, MessageRecord, StoreError, WorkItem, WorkKind, WorkUpdate};

/// How often an item is tried in one life.
const TRIES: u32 = 3;
/// How long it waits between tries.
const AGAIN_MS: u64 = 1000;

/// What cannot be read in this life: tries, and until when it is set aside.
#[derive(Debug, Default)]
pub(super) struct Aside(Mutex<HashMap<Id, Unread>>);

#[derive(Debug, Clone, Copy, Default)]
struct Unread {
    tries: u32,
    /// Of a page: (its channel, when its lease ends).
    until: Option<(i64, u64)>,
}

impl Aside {
    fn all(&self) -> MutexGuard<'_, HashMap<Id, Unread>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a try; how many there were.
    fn tried(&self, id: Id) -> u32 {
        let mut all = self.all();
        let unread = all.entry(id).or_default();
        unread.tries += 1;
        unread.tries
    }

    /// How many items are set aside.
    pub(super) fn count(&self) -> u64 {
        self.all().values().filter(|unread| unread.tries >= TRIES).count() as u64
    }

    /// Channels whose desks have a page to end: its deadline has come.
    pub(super) fn over(&self, now_ms: u64) -> Vec<i64> {
        let is_over = |unread: &Unread| unread.until.filter(|(_, until)| *until <= now_ms);
        self.all().values().filter_map(is_over).map(|(channel, _)| channel).collect()
    }
}

/// What becomes of a leased item that cannot be read, or whose message cannot. Afterwards it has ended, waits, or is
/// set aside.
pub(super) async fn unreadable(inner: &Arc<Inner>, item: &WorkItem) -> Result<(), StoreError> {
    let message = inner.parts.store.message(item.message).await?;
    let page = (item.kind != WorkKind::Expand).then(|| Page::decode(&item.payload)).flatten();
    let known = message.as_ref().zip(page.as_ref());
    if let Some((message, page)) = known
        && let Some(end) = end_of(message, inner.now_ms())
    {
        let at_ms = inner.now_ms().saturating_sub(message.created_at);
        cancel::end_open(inner, (message.id, at_ms), item, page, end).await?;
        inner.aside.all().remove(&item.id);
        return Ok(());
    }
    let tries = inner.aside.tried(item.id);
    let mut update = WorkUpdate {
        id: item.id,
        epoch: item.epoch,
        due_at: item.due_at,
        attempt: item.attempt,
        payload: None,
        lease_until: i64::MAX as u64,
    };
    if tries < TRIES {
        (update.due_at, update.lease_until) = (inner.now_ms() + AGAIN_MS, 0);
    } else if let Some((message, _)) = known {
        update.lease_until = job::ends_at(message);
        // Who takes up other kinds looks every few seconds; a desk is told.
        let until = (item.kind == WorkKind::Page).then_some((item.channel, update.lease_until));
        inner.aside.all().insert(item.id, Unread { tries, until });
    }
    if tries == TRIES {
        tell(inner, item, message.is_some(), page.is_some());
    }
    let due_at = update.due_at;
    let changes = Changes { work_updates: vec![update], ..Changes::default() };
    if inner.recorders.rest.push_and_wait(changes, true).await && tries < TRIES && item.kind == WorkKind::Page
    {
        inner.desk(item.channel).nudge(due_at);
    }
    Ok(())
}

/// How an item ends whose time is over.
fn end_of(message: &MessageRecord, now_ms: u64) -> Option<(State, Reason)> {
    if message.state >= 2 {
        return Some((State::Cancelled, Reason::Cancelled));
    }
    (now_ms >= job::ends_at(message)).then_some((State::Expired, Reason::Expired))
}

fn tell(inner: &Inner, item: &WorkItem, has_message: bool, has_page: bool) {
    let what = match (has_message, has_page || item.kind == WorkKind::Expand) {
        (false, _) => "its message is gone",
        (true, false) => "the work itself",
        (true, true) => "its message or audience",
    };
    tracing::error!(
        message.id = inner.parts.codec.encode(Kind::Message, item.message),
        work.id = item.id.0,
        work.kind = ?item.kind,
        what,
        "work cannot be read and is set aside until the next start: if a newer version of the gateway wrote it, start \
         that one again; if not, the database is damaged, and a backup has it"
    );
}
