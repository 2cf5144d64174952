//! Handing accepted messages to phones, and telling senders what phones did, about every second.

use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::message::{Callback, Message};
use super::receipts::{CLICKED, DELIVERED, EXPIRED, Event, QUOTA, requests};
use super::{XIAOMI, Xiaomi};
use crate::callbacks::{Manners, Report};
use crate::phones::{Push, Seen, Witness};
use crate::state::now_ms;

/// News wait so long for others.
const PAUSE: Duration = Duration::from_secs(1);

/// An older document says that news are dropped after the call, whatever was answered: nothing is repeated. Which
/// answers content Xiaomi is not known; 406 is said to end all calls.
const MANNERS: Manners = Manners {
    provider: XIAOMI,
    timeout: Duration::from_secs(5),
    retries: &[],
    is_good: |status, _| status == StatusCode::OK,
};

/// A message that was accepted for a target.
pub(super) struct Accepted<'a> {
    pub(super) id: &'a str,
    pub(super) token: &'a str,
    pub(super) message_id: &'a str,
    pub(super) message: &'a Message,
    /// The types that are reported whatever a phone does; `None`: what a phone does.
    pub(super) fixed: Option<Vec<u64>>,
    /// Today's quota and what went of it.
    pub(super) quota: (u64, u64),
}

impl Xiaomi {
    /// Gives a message to its phone, if one is played, and says what is to be told at once.
    pub(super) fn hand_over(self: &Arc<Self>, accepted: &Accepted<'_>) -> Vec<Event> {
        let Accepted { id, token, message_id, message, fixed, quota } = accepted;
        let callback = message.callback();
        let event = |kind: u64| {
            callback.clone().map(|callback| {
                let (id, target) = ((*id).to_owned(), (*token).to_owned());
                Event { callback, id, target, kind, at_ms: now_ms(), quota: *quota }
            })
        };
        if let Some(kinds) = fixed {
            return kinds.iter().filter_map(|kind| event(*kind)).collect();
        }
        if !message.is_shown() {
            return Vec::new();
        }
        let witness = self.witness(callback.clone(), id, token);
        let is_played = self.sandbox.phones.push(XIAOMI, token, || Push {
            message_id: (*message_id).to_owned(),
            title: Some(message.title.clone()),
            body: Some(message.description.clone()),
            data: message.data(),
            replaces: Some(message.notify_id.clone()),
            once: message.extra.get("jobkey").cloned(),
            expires_at_ms: now_ms() + message.ttl_ms,
            witness: Some(witness),
            ..Push::default()
        });
        if is_played {
            return Vec::new();
        }
        self.traces.count(id, DELIVERED);
        event(DELIVERED).into_iter().collect()
    }

    /// Whoever sees what the phone does. It knows the twin weakly: the twin holds the phones that hold it.
    fn witness(self: &Arc<Self>, callback: Option<Callback>, id: &str, token: &str) -> Witness {
        let (twin, id, token): (Weak<Self>, _, _) = (Arc::downgrade(self), id.to_owned(), token.to_owned());
        Witness::new(move |seen| {
            let Some(twin) = twin.upgrade() else { return };
            let kind = match seen {
                Seen::Shown => DELIVERED,
                Seen::Tapped => CLICKED,
                Seen::Expired => EXPIRED,
                Seen::Replaced => return,
            };
            twin.traces.count(&id, kind);
            if let Some(callback) = callback.clone() {
                let (id, target) = (id.clone(), token.clone());
                twin.tell(vec![Event { callback, id, target, kind, at_ms: now_ms(), quota: (0, 0) }]);
            }
        })
    }

    /// Puts news with those that wait.
    pub(super) fn tell(self: &Arc<Self>, events: Vec<Event>) {
        let events: Vec<_> = events.into_iter().filter(Event::is_wanted).collect();
        if events.is_empty() {
            return;
        }
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = pending.is_empty();
        pending.extend(events);
        drop(pending);
        if is_first {
            let twin = self.clone();
            self.sandbox.callbacks.after(PAUSE, async move { twin.flush().await });
        }
    }

    /// Posts what waits.
    pub(super) async fn flush(&self) {
        let events = std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        self.post(&events).await;
    }

    /// Posts news; there is no signature that could be forged, so forged ones are about a message that never was.
    pub(super) async fn post(&self, events: &[Event]) {
        let forged = self.sandbox.switches.of(XIAOMI).receipts.forged;
        let mut events = events.to_vec();
        if forged {
            for event in &mut events {
                event.id = super::new_id("sdm");
                event.callback.param =
                    event.callback.param.as_ref().map(|param| param.chars().rev().collect());
            }
        }
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded; charset=UTF-8"),
        );
        let reports = requests(&events).into_iter().map(|(url, body)| Report {
            after: Duration::ZERO,
            url,
            headers: headers.clone(),
            body: body.into_bytes(),
        });
        let reports: Vec<_> = reports.collect();
        self.sandbox.callbacks.report(MANNERS, "", "", reports).await;
    }
}

/// The types that a rule asks for: a failure alone, or a click with its delivery.
pub(super) fn fixed(code: &str) -> Vec<u64> {
    match code.parse() {
        Ok(CLICKED) => vec![DELIVERED, CLICKED],
        Ok(kind) => vec![kind],
        Err(_) => vec![16],
    }
}

/// Today's quota is used up.
pub(super) fn over_quota() -> Vec<u64> {
    vec![QUOTA]
}
