//! Messages that were taken: what `GET` shows of them, now and later.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::codes::words;
use super::form::Wanted;
use crate::state::now_ms;

/// Messages that are remembered; the oldest go first.
const MAX_MESSAGES: usize = 100_000;

/// What became of a message, from a moment on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) at_ms: u64,
    pub(super) status: &'static str,
    pub(super) error: Option<u32>,
}

/// A message that was taken.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) sid: String,
    pub(super) account: String,
    pub(super) wanted: Wanted,
    created_at_ms: u64,
    segments: usize,
    steps: Vec<Step>,
}

impl Message {
    fn now(&self, now_ms: u64) -> Step {
        let passed = self.steps.iter().filter(|step| step.at_ms <= now_ms);
        // What is final stays, however late another word comes.
        let last = passed.reduce(|best, step| if is_final(best.status) { best } else { step });
        last.copied().unwrap_or(Step { at_ms: self.created_at_ms, status: "queued", error: None })
    }

    /// The resource as JSON.
    pub(super) fn show(&self, now_ms: u64) -> Value {
        let step = self.now(now_ms);
        let was_sent = !matches!(step.status, "accepted" | "queued" | "scheduled" | "canceled");
        // Counted late where a Messaging Service chooses the sender.
        let segments = if self.wanted.service.is_some() && !was_sent { 0 } else { self.segments };
        let path = format!("/2010-04-01/Accounts/{}/Messages/{}", self.account, self.sid);
        let from = if was_sent { Some(self.sender()) } else { self.wanted.from.clone() };
        json!({
            "account_sid": self.account, "api_version": "2010-04-01", "body": self.wanted.body,
            "date_created": rfc2822(self.created_at_ms), "date_updated": rfc2822(step.at_ms),
            "date_sent": was_sent.then(|| rfc2822(self.created_at_ms)), "direction": "outbound-api",
            "error_code": step.error, "error_message": step.error.map(words), "from": from,
            "messaging_service_sid": self.wanted.service, "num_media": "0", "num_segments": segments.to_string(),
            "price": was_sent.then(|| format!("-{:.5}", 0.0079 * self.segments as f64)), "price_unit": "USD",
            "sid": self.sid, "status": step.status, "subresource_uris": {"media": format!("{path}/Media.json")},
            "to": self.wanted.to, "uri": format!("{path}.json"),
        })
    }

    /// Who it came from in the end.
    pub(super) fn sender(&self) -> String {
        self.wanted.from.clone().unwrap_or_else(|| "+15557654321".into())
    }
}

fn is_final(status: &str) -> bool {
    matches!(status, "delivered" | "undelivered" | "failed" | "canceled" | "read")
}

fn rfc2822(at_ms: u64) -> String {
    let at = jiff::Timestamp::from_millisecond(at_ms as i64).unwrap_or_default();
    at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// All messages, by SID.
#[derive(Default)]
pub(super) struct Messages(Mutex<Book>);

#[derive(Default)]
struct Book {
    by_sid: HashMap<String, Message>,
    order: VecDeque<String>,
}

impl Messages {
    /// Takes a message.
    pub(super) fn add(&self, account: &str, wanted: Wanted) -> Arc<str> {
        let sid = super::accounts::new_sid("SM");
        let now = now_ms();
        let status = match (&wanted.service, wanted.is_scheduled) {
            (_, true) => "scheduled",
            (Some(_), _) => "accepted",
            (None, _) => "queued",
        };
        let segments = super::segments::count(&wanted.body);
        let steps = vec![Step { at_ms: now, status, error: None }];
        let account = account.to_owned();
        let message = Message { sid: sid.clone(), account, wanted, created_at_ms: now, segments, steps };
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.by_sid.insert(sid.clone(), message);
        book.order.push_back(sid.clone());
        if book.order.len() > MAX_MESSAGES {
            let oldest = book.order.pop_front();
            oldest.map(|oldest| book.by_sid.remove(&oldest));
        }
        sid.into()
    }

    /// Looks at one, or changes it, if it is the account's.
    pub(super) fn with<T>(&self, account: &str, sid: &str, see: impl FnOnce(&mut Message) -> T) -> Option<T> {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.by_sid.get_mut(sid).filter(|message| message.account == account).map(see)
    }

    /// Says what becomes of one, now or later.
    pub(super) fn step(&self, account: &str, sid: &str, step: Step) {
        self.with(account, sid, |message| message.steps.push(step));
    }

    /// Cancels one that is only scheduled; says whether it was.
    pub(super) fn cancel(&self, account: &str, sid: &str) -> Option<bool> {
        let now = now_ms();
        self.with(account, sid, |message| {
            let is_waiting = message.now(now).status == "scheduled";
            if is_waiting {
                message.steps.push(Step { at_ms: now, status: "canceled", error: None });
            }
            is_waiting
        })
    }

    /// Takes one away; says whether it was there.
    pub(super) fn remove(&self, account: &str, sid: &str) -> bool {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_there = book.by_sid.get(sid).is_some_and(|message| message.account == account);
        if is_there {
            book.by_sid.remove(sid);
            book.order.retain(|known| known != sid);
        }
        is_there
    }

    /// The newest of an account, newest first.
    pub(super) fn list(&self, account: &str, to: Option<&str>, limit: usize) -> Vec<Value> {
        let now = now_ms();
        let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits =
            |message: &&Message| message.account == account && to.is_none_or(|to| message.wanted.to == to);
        let newest = book.order.iter().rev().filter_map(|sid| book.by_sid.get(sid));
        newest.filter(fits).take(limit).map(|message| message.show(now)).collect()
    }
}
