//! What reached the played vendors.
//!
//! Counts cover every request since the last `DELETE`; the newest requests are also kept whole. "Accepted" means that
//! the vendor took the push, whether or not its answer arrived, so `duplicates` is what a phone owner would notice.
//! With a data directory each request is one line of a journal before it is answered: a restart, also after a
//! kill, goes on with the same counts.

mod journal;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tracing::warn;

use crate::state::now_ms;
use journal::{Journal, Line};

/// The verdict of a push that the vendor took.
pub const ACCEPTED: &str = "accepted";
/// The verdict of a request whose sender went away before it had an answer.
pub const ABANDONED: &str = "abandoned";
/// The operation that counts as a request in the sums; others (`token`) are counted by verdict only.
pub const SEND: &str = "send";

/// One request as the ledger keeps it.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// Position in the ledger; grows by one with each request.
    pub seq: u64,
    /// When it was answered, RFC 3339.
    #[serde(serialize_with = "as_rfc3339")]
    pub at: u64,
    /// Which vendor was asked.
    pub provider: &'static str,
    /// What was asked of it: `send`, `token`, ….
    pub operation: &'static str,
    /// The vendor's account or project.
    pub account: Box<str>,
    /// Whom it was for: a token, or a topic or condition.
    pub token: Box<str>,
    /// The gateway's message id (`data.anypush_id`), empty where there was none.
    pub message: Box<str>,
    /// What became of it.
    pub verdict: &'static str,
    /// HTTP status of the answer, 0 where there was none.
    pub status: u16,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn as_rfc3339<S: serde::Serializer>(at_ms: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&crate::state::rfc3339(*at_ms))
}

/// Sums over requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// Requests to send.
    pub requests: u64,
    /// Pushes taken.
    pub accepted: u64,
    /// Different (provider, token, message) among those. A push without a message id counts as different each time.
    pub accepted_distinct: u64,
    /// `accepted - accepted_distinct`.
    pub duplicates: u64,
}

/// Sums of one provider.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ProviderSums {
    /// Its sums.
    #[serde(flatten)]
    pub sums: Sums,
    /// Requests to send by verdict.
    pub verdicts: BTreeMap<Cow<'static, str>, u64>,
    /// Other requests (access tokens, …) by operation and verdict, as `token/granted`.
    pub other: BTreeMap<Cow<'static, str>, u64>,
}

/// All sums.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Over all providers.
    #[serde(flatten)]
    pub sums: Sums,
    /// By provider.
    pub by_provider: BTreeMap<Cow<'static, str>, ProviderSums>,
}

/// Which entries to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only entries after this `seq`.
    pub after: u64,
    /// At most so many.
    pub limit: usize,
    /// Only this token.
    pub token: Option<String>,
    /// Only this message id.
    pub message: Option<String>,
}

/// The book of requests.
pub struct Ledger {
    inner: Mutex<Inner>,
    keep: usize,
}

#[derive(Default)]
struct Inner {
    next_seq: u64,
    entries: VecDeque<Entry>,
    totals: Totals,
    journal: Option<Journal>,
}

/// What is exact however many entries were dropped. Grows by about 100 bytes for each distinct accepted push.
#[derive(Default)]
struct Totals {
    summary: Summary,
    by_message: HashMap<u128, Sums>,
    accepted: HashSet<u128>,
}

impl Totals {
    fn count(&mut self, line: &Line<'_>) {
        let provider = entry(&mut self.summary.by_provider, line.provider);
        if line.operation != SEND {
            // Rare beside sends, so the text made here costs nothing.
            *entry(&mut provider.other, &format!("{}/{}", line.operation, line.verdict)) += 1;
            return;
        }
        *entry(&mut provider.verdicts, line.verdict) += 1;
        let accepted = line.verdict == ACCEPTED;
        let distinct = accepted && (line.message == 0 || self.accepted.insert(line.pair));
        let mut targets = vec![&mut self.summary.sums, &mut provider.sums];
        if line.message != 0 {
            targets.push(self.by_message.entry(line.message).or_default());
        }
        for sums in targets {
            sums.requests += 1;
            sums.accepted += u64::from(accepted);
            sums.accepted_distinct += u64::from(distinct);
            sums.duplicates = sums.accepted - sums.accepted_distinct;
        }
    }
}

/// The entry of a map by name, without making a name that is already there.
fn entry<'map, V: Default>(map: &'map mut BTreeMap<Cow<'static, str>, V>, name: &str) -> &'map mut V {
    if !map.contains_key(name) {
        map.insert(Cow::Owned(name.to_owned()), V::default());
    }
    map.get_mut(name).expect("it was just put there")
}

impl Ledger {
    /// Opens the journal in `dir` and counts what it holds.
    pub(crate) fn open(dir: Option<PathBuf>, keep: usize) -> anyhow::Result<Self> {
        let mut inner = Inner { next_seq: 1, ..Inner::default() };
        if let Some(dir) = dir {
            inner.journal = Some(Journal::open(dir, |line| inner.totals.count(&line))?);
        }
        Ok(Self { inner: Mutex::new(inner), keep })
    }

    /// Begins a request; it is booked when the call is finished or dropped.
    pub(crate) fn call(
        self: &Arc<Self>,
        provider: &'static str,
        operation: &'static str,
        account: &str,
    ) -> Call {
        Call {
            ledger: self.clone(),
            entry: Some(Entry {
                seq: 0,
                at: 0,
                provider,
                operation,
                account: account.into(),
                token: "".into(),
                message: "".into(),
                verdict: ABANDONED,
                status: 0,
            }),
        }
    }

    fn book(&self, mut entry: Entry) {
        let message = if entry.message.is_empty() { 0 } else { fingerprint(&[&entry.message]) };
        let line = Line {
            provider: entry.provider,
            operation: entry.operation,
            verdict: entry.verdict,
            pair: fingerprint(&[entry.provider, &entry.token, &entry.message]),
            message,
        };
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(journal) = &mut inner.journal
            && let Err(error) = journal.append(&line)
        {
            warn!(%error, "the sandbox's ledger could not be written; counts will be lost at its end");
        }
        inner.totals.count(&line);
        entry.seq = inner.next_seq;
        entry.at = now_ms();
        inner.next_seq += 1;
        inner.entries.push_back(entry);
        if inner.entries.len() > self.keep {
            inner.entries.pop_front();
        }
    }

    /// The newest entries that fit, oldest first.
    pub fn list(&self, filter: &Filter) -> Vec<Entry> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let first = inner.next_seq - inner.entries.len() as u64;
        let skip = (filter.after + 1).saturating_sub(first) as usize;
        let fits = |entry: &&Entry| {
            filter.token.as_deref().is_none_or(|token| *entry.token == *token)
                && filter.message.as_deref().is_none_or(|message| *entry.message == *message)
        };
        inner.entries.iter().skip(skip).filter(fits).take(filter.limit).cloned().collect()
    }

    /// All sums.
    pub fn summary(&self) -> Summary {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).totals.summary.clone()
    }

    /// The sums of one message.
    pub fn sums_of(&self, message: &str) -> Sums {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.totals.by_message.get(&fingerprint(&[message])).copied().unwrap_or_default()
    }

    /// Forgets everything; `seq` goes on.
    pub fn clear(&self) -> anyhow::Result<()> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.entries = VecDeque::new();
        inner.totals = Totals::default();
        inner.journal.as_mut().map_or(Ok(()), Journal::clear)
    }
}

/// A request that has no verdict yet.
pub(crate) struct Call {
    ledger: Arc<Ledger>,
    entry: Option<Entry>,
}

impl Call {
    /// Says whom the request is for.
    pub(crate) fn target(&mut self, token: &str, message: &str) {
        if let Some(entry) = &mut self.entry {
            entry.token = token.into();
            entry.message = message.into();
        }
    }

    /// Says whose account it is, where that is known late.
    pub(crate) fn account(&mut self, account: &str) {
        if let Some(entry) = &mut self.entry {
            entry.account = account.into();
        }
    }

    /// Books the verdict.
    pub(crate) fn finish(mut self, verdict: &'static str, status: u16) {
        if let Some(mut entry) = self.entry.take() {
            entry.verdict = verdict;
            entry.status = status;
            self.ledger.book(entry);
        }
    }
}

impl Drop for Call {
    /// hyper drops a handler whose client went away: that is a verdict too.
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.ledger.book(entry);
        }
    }
}

/// The first 128 bits of a SHA-256 over the parts: the same in every run, and never zero in practice.
pub(crate) fn fingerprint(parts: &[&str]) -> u128 {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in parts {
        // The length keeps ("ab", "c") apart from ("a", "bc").
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part.as_bytes());
    }
    let digest = context.finish();
    let mut first = [0; 16];
    first.copy_from_slice(&digest.as_ref()[..16]);
    u128::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(ledger: &Arc<Ledger>, token: &str, message: &str, verdict: &'static str) {
        let mut call = ledger.call("fcm", SEND, "p");
        call.target(token, message);
        call.finish(verdict, 200);
    }

    #[test]
    fn sums_stay_exact_when_old_entries_are_dropped() {
        let ledger = Arc::new(Ledger::open(None, 3).unwrap());
        for message in ["m1", "m1", "m2", "m3", ""] {
            send(&ledger, "t", message, ACCEPTED);
        }
        send(&ledger, "", "", ACCEPTED);
        send(&ledger, "t", "m1", "unavailable");
        let sums = ledger.summary().sums;
        assert_eq!(sums, Sums { requests: 7, accepted: 6, accepted_distinct: 5, duplicates: 1 });
        let one = ledger.sums_of("m1");
        assert_eq!(one, Sums { requests: 3, accepted: 2, accepted_distinct: 1, duplicates: 1 });
        let seqs = |filter: Filter| ledger.list(&filter).iter().map(|entry| entry.seq).collect::<Vec<_>>();
        assert_eq!(seqs(Filter { limit: 10, ..Filter::default() }), [5, 6, 7]);
        assert_eq!(seqs(Filter { after: 5, limit: 1, ..Filter::default() }), [6]);
        assert_eq!(seqs(Filter { limit: 9, message: Some("m1".into()), ..Filter::default() }), [7]);
    }

    #[test]
    fn a_restart_goes_on_with_the_same_sums_and_ignores_half_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let before = {
            let ledger = Arc::new(Ledger::open(Some(dir.path().into()), 10).unwrap());
            send(&ledger, "t", "m1", ACCEPTED);
            send(&ledger, "t", "m2", "unregistered");
            drop(ledger.call("fcm", SEND, "p"));
            ledger.call("fcm", "token", "p").finish("granted", 200);
            ledger.summary()
        };
        let file = dir.path().join("fcm.log");
        let mut text = std::fs::read(&file).unwrap();
        text.extend_from_slice(b"send accepted 00");
        std::fs::write(&file, text).unwrap();
        let ledger = Arc::new(Ledger::open(Some(dir.path().into()), 10).unwrap());
        assert_eq!(ledger.summary(), before);
        send(&ledger, "t", "m1", ACCEPTED);
        drop(ledger);
        let ledger = Arc::new(Ledger::open(Some(dir.path().into()), 10).unwrap());
        assert_eq!(ledger.summary().sums.duplicates, 1);
        ledger.clear().unwrap();
        drop(ledger);
        let ledger = Ledger::open(Some(dir.path().into()), 10).unwrap();
        assert_eq!(ledger.summary().sums, Sums::default());
    }
}
