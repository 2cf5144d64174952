//! What became of messages, for whoever asks: `/v1/trace/…`, and day by day `/v1/stats/message/counters`.
//!
//! `data` inside `data` is real, and so are rates as texts (two third-party clients read them so).

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use super::apps::CHINA_OFFSET_MS;

/// Messages that can be asked about; the oldest are forgotten first.
const MAX_TRACED: usize = 10_000;
/// The newest that one answer lists (D1559).
const MAX_LISTED: usize = 100;

/// One message's numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct Trace {
    pub(super) id: String,
    pub(super) package: String,
    pub(super) jobkey: Option<String>,
    pub(super) created_ms: u64,
    pub(super) ttl_ms: u64,
    pub(super) resolved: u64,
    pub(super) delivered: u64,
    pub(super) clicked: u64,
}

/// The newest messages of all apps.
#[derive(Default)]
pub(super) struct Traces(Mutex<VecDeque<Trace>>);

impl Traces {
    pub(super) fn add(&self, trace: Trace) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push_back(trace);
        if all.len() > MAX_TRACED {
            all.pop_front();
        }
    }

    /// Counts what phones did; a bit each for delivered (1) and clicked (2).
    pub(super) fn count(&self, id: &str, bits: u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trace) = all.iter_mut().rev().find(|trace| trace.id == id) {
            trace.delivered += bits & 1;
            trace.clicked += bits >> 1 & 1;
        }
    }

    /// One message, by its id or by its job key.
    pub(super) fn of(&self, package: &str, id: &str, jobkey: &str) -> Option<Value> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let named = |trace: &&Trace| {
            trace.package == package
                && ((!id.is_empty() && trace.id == id)
                    || (!jobkey.is_empty() && trace.jobkey.as_deref() == Some(jobkey)))
        };
        all.iter().rev().find(named).map(view)
    }

    /// The newest messages of a time.
    pub(super) fn between(&self, package: &str, begin_ms: u64, end_ms: u64) -> Vec<Value> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own =
            |trace: &&Trace| trace.package == package && (begin_ms..=end_ms).contains(&trace.created_ms);
        all.iter().rev().filter(own).take(MAX_LISTED).map(view).collect()
    }

    /// What an app sent on each day in China from the first to the last (`yyyyMMdd`), as far as it is remembered. Days
    /// without a message are left out (UNVERIFIED).
    pub(super) fn by_day(&self, package: &str, first: &str, last: &str) -> Vec<Value> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut days: BTreeMap<String, (u64, u64, u64)> = BTreeMap::new();
        for trace in all.iter().filter(|trace| trace.package == package) {
            let date = day(trace.created_ms);
            if (first..=last).contains(&date.as_str()) {
                let (sent, received, clicked) = days.entry(date).or_default();
                *sent += trace.resolved;
                *received += trace.delivered;
                *clicked += trace.clicked;
            }
        }
        days.into_iter()
            .map(|(date, (sent, received, clicked))| counters(&date, sent, received, clicked))
            .collect()
    }
}

/// A day in China, as the vendor writes it.
fn day(at_ms: u64) -> String {
    let local = crate::state::rfc3339(at_ms + CHINA_OFFSET_MS);
    local.chars().take(10).filter(char::is_ascii_digit).collect()
}

/// Only regids are played: everything was sent to those.
fn counters(date: &str, sent: u64, received: u64, clicked: u64) -> Value {
    json!({
        "date": date,
        "regid_recipients": sent,
        "alias_recipients": 0,
        "useraccount_recipients": 0,
        "broadcast_recipients": 0,
        "single_recipients": sent,
        "received": received,
        "click": clicked,
    })
}

fn view(trace: &Trace) -> Value {
    let rate = |part: u64, whole: u64| {
        let tenths = (part * 1000).checked_div(whole).unwrap_or_default();
        format!("{}.{}%", tenths / 10, tenths % 10)
    };
    json!({
        "id": trace.id,
        "msg_type": "regid",
        "create_time": crate::state::rfc3339(trace.created_ms),
        "create_timestamp": trace.created_ms,
        "time_to_live": trace.ttl_ms.to_string(),
        "resolved": trace.resolved,
        "delivered": trace.delivered,
        "click": trace.clicked,
        "delivery_rate": rate(trace.delivered, trace.resolved),
        "click_rate": rate(trace.clicked, trace.delivered),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_found_by_id_and_job_key_and_only_by_its_own_app() {
        let traces = Traces::default();
        for (id, created_ms) in [("a", 10), ("b", 20)] {
            let jobkey = Some(format!("job-{id}"));
            let (id, package) = (id.to_owned(), "p".to_owned());
            traces.add(Trace { id, package, jobkey, created_ms, resolved: 3, ..Trace::default() });
        }
        traces.count("a", 1);
        traces.count("a", 3);
        let found = traces.of("p", "a", "").unwrap();
        assert_eq!((&found["delivered"], &found["click"]), (&2.into(), &1.into()));
        assert_eq!((&found["delivery_rate"], &found["click_rate"]), (&"66.6%".into(), &"50.0%".into()));
        assert_eq!(traces.of("p", "", "job-b").unwrap()["id"], "b");
        assert_eq!((traces.of("q", "a", ""), traces.of("p", "", "")), (None, None));
        let listed = traces.between("p", 0, 20);
        assert_eq!(listed.iter().map(|trace| trace["id"].as_str().unwrap()).collect::<Vec<_>>(), ["b", "a"]);
        assert!(traces.between("p", 11, 19).is_empty());
    }

    #[test]
    fn a_days_counters_are_those_of_a_day_in_china_and_of_one_app() {
        let traces = Traces::default();
        // 2023-11-14T15:59:59.999Z, a millisecond before midnight in China, and midnight.
        for (id, created_ms) in [("a", 1_699_977_599_999), ("b", 1_699_977_600_000), ("c", 1_699_977_600_001)]
        {
            let (id, package) = (id.to_owned(), "p".to_owned());
            traces.add(Trace { id, package, created_ms, resolved: 2, ..Trace::default() });
        }
        traces.count("b", 3);
        let found = traces.by_day("p", "20231115", "20231116");
        assert_eq!(found.len(), 1);
        assert_eq!((&found[0]["date"], &found[0]["regid_recipients"]), (&"20231115".into(), &4.into()));
        assert_eq!((&found[0]["received"], &found[0]["click"]), (&1.into(), &1.into()));
        assert_eq!(traces.by_day("p", "20231114", "20231115").len(), 2);
        assert!(traces.by_day("q", "20231114", "20231115").is_empty());
    }
}
