//! Receipts as Xiaomi posts them: a form with one field `data`, JSON by message id, targets joined by commas.
//!
//! Shape: third parties' receivers (D1558 names the types only). There is no signature.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};

use super::message::Callback;

/// What happened, as bits of the mask that a sender asks with.
pub(super) const DELIVERED: u64 = 1;
pub(super) const CLICKED: u64 = 2;
/// Push is switched off on the device or in the app.
pub(super) const DISABLED: u64 = 32;
pub(super) const QUOTA: u64 = 128;
pub(super) const EXPIRED: u64 = 1024;

/// One target's news.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Event {
    pub(super) callback: Callback,
    pub(super) id: String,
    pub(super) target: String,
    /// One bit, or 3 for delivered and clicked together.
    pub(super) kind: u64,
    pub(super) at_ms: u64,
    /// Today's quota and what was delivered of it; goes with the quota's type.
    pub(super) quota: (u64, u64),
}

impl Event {
    /// Whether the sender asked for it.
    pub(super) fn is_wanted(&self) -> bool {
        self.kind & self.callback.types == self.kind
    }
}

/// The requests that tell this, each an address and a form. News of one message and kind share an entry; the object's
/// keys are message ids, so a message of which two kinds are told stands in two requests.
pub(super) fn requests(events: &[Event]) -> Vec<(String, String)> {
    let mut groups: Vec<(&Event, Vec<&str>)> = Vec::new();
    let mut places = HashMap::new();
    for event in events.iter().filter(|event| event.is_wanted()) {
        let place = *places.entry((&event.callback, &event.id, event.kind)).or_insert_with(|| {
            groups.push((event, Vec::new()));
            groups.len() - 1
        });
        groups[place].1.push(&event.target);
    }
    let mut requests: BTreeMap<(&str, usize), Map<String, Value>> = BTreeMap::new();
    let mut kinds: HashMap<(&str, &str), usize> = HashMap::new();
    for (event, targets) in groups {
        let url = event.callback.url.as_str();
        let kind = kinds.entry((url, &event.id)).or_default();
        requests.entry((url, *kind)).or_default().insert(event.id.clone(), entry(event, &targets));
        *kind += 1;
    }
    requests.into_iter().map(|((url, _), entries)| (url.to_owned(), form(&entries.into()))).collect()
}

fn entry(event: &Event, targets: &[&str]) -> Value {
    let mut entry = json!({
        "type": event.kind,
        "barStatus": if event.kind == DISABLED { "Disable" } else { "Enable" },
        "targets": targets.join(","),
        "timestamp": event.at_ms,
    });
    for (name, value) in [("param", &event.callback.param), ("jobkey", &event.callback.jobkey)] {
        if let Some(value) = value {
            entry[name] = value.as_str().into();
        }
    }
    if event.kind == QUOTA {
        let (quota, acked) = event.quota;
        entry["extra"] = json!({"ack": acked.to_string(), "quota": quota.to_string()});
    }
    entry
}

fn form(data: &Value) -> String {
    url::form_urlencoded::Serializer::new(String::new()).append_pair("data", &data.to_string()).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, target: &str, kind: u64) -> Event {
        let url = "http://127.0.0.1:9/r".to_owned();
        let callback = Callback { url, param: Some("m42".to_owned()), types: 1267, jobkey: None };
        let (id, target) = (id.to_owned(), target.to_owned());
        Event { callback, id, target, kind, at_ms: 1_767_225_600_123, quota: (100, 99) }
    }

    fn data(form: &str) -> Value {
        let (name, value) = url::form_urlencoded::parse(form.as_bytes()).next().unwrap();
        assert_eq!(name, "data");
        serde_json::from_str(&value).unwrap()
    }

    #[test]
    fn targets_of_one_message_share_an_entry_and_another_kind_takes_another_request() {
        let events = [
            event("a", "t+1", DELIVERED),
            event("b", "t3", 16),
            event("a", "t2", DELIVERED),
            event("a", "t4", 16),
            event("c", "t5", QUOTA),
        ];
        let told = requests(&events);
        assert_eq!(told.len(), 2);
        assert!(told[0].1.starts_with("data=%7B"), "{}", told[0].1);
        let first = data(&told[0].1);
        assert_eq!(
            first["a"],
            json!({"param": "m42", "type": 1, "barStatus": "Enable", "targets": "t+1,t2", "timestamp": 1_767_225_600_123_u64})
        );
        assert_eq!((&first["b"]["type"], &first["b"]["targets"]), (&16.into(), &"t3".into()));
        assert_eq!(first["c"]["extra"], json!({"ack": "99", "quota": "100"}));
        assert_eq!(data(&told[1].1)["a"]["targets"], "t4");
    }

    #[test]
    fn what_was_not_asked_for_is_not_told() {
        let mut unwanted = event("a", "t", EXPIRED);
        unwanted.callback.types = DELIVERED + CLICKED;
        assert!(requests(&[unwanted.clone()]).is_empty());
        unwanted.kind = 3;
        assert_eq!(requests(&[unwanted.clone()]).len(), 1);
        unwanted.callback.types = DELIVERED;
        assert!(requests(&[unwanted]).is_empty());
    }
}
