//! Small things to store.

use std::collections::BTreeMap;

use anypush_providers::contract::{Class, Reason};

use crate::delivery::state::{Event, State, View};
use crate::delivery::trail::{Next, TrailEntry};
use crate::ids::Id;
use crate::store::{
    AppRecord, Changes, Counter, DevicePut, NewAddress, NewInbox, NewMessage, NewWork, Store, WorkKind,
    WorkLane,
};

/// When the samples happen.
pub(in crate::store) const NOW: u64 = 1_800_000_000_000;

pub(in crate::store) async fn app(store: &dyn Store, name: &str) -> AppRecord {
    store.create_app(name, (format!("app_{name}"), format!("chn_{name}")), NOW).await.unwrap()
}

/// The n-th id of the samples' time.
pub(in crate::store) fn id(n: i64) -> Id {
    Id(Id::floor_at(NOW).0 + n)
}

pub(in crate::store) fn message(app: i64, n: i64) -> NewMessage {
    NewMessage {
        id: id(n),
        app,
        class: Class::Transactional,
        spec: format!(r#"{{"content":{n}}}"#),
        collapse: None,
        label: None,
        created_at: NOW,
        deadline_at: NOW + 3_600_000,
        send_at: None,
        idempotency: None,
    }
}

pub(in crate::store) fn address(provider: &str, token: &str) -> NewAddress {
    NewAddress {
        provider: provider.into(),
        kind: "token".into(),
        token: token.into(),
        params: BTreeMap::from([("topic".into(), "org.example".into())]),
    }
}

pub(in crate::store) fn device(id: &str, addresses: Vec<NewAddress>) -> DevicePut {
    DevicePut { id: id.into(), enabled: true, addresses, ..DevicePut::default() }
}

pub(in crate::store) fn event(message: Id, target: u64, state: State, at_ms: u64) -> Event {
    let reason = (state.rank() == 2).then_some(Reason::VendorUnavailable);
    let entry = TrailEntry::Attempted {
        at_ms,
        channel: 1,
        attempt: 1,
        reason,
        latency_ms: 3,
        status: Some(200),
        code: None,
        words: None,
        next: Next::Nothing,
    };
    Event {
        reason,
        vendor_id: Some(format!("v-{target}")),
        trail: vec![entry],
        ..Event::new((message, target), state, 1, at_ms)
    }
}

pub(in crate::store) fn events(events: Vec<Event>) -> Changes {
    Changes { events, ..Changes::default() }
}

pub(in crate::store) fn work(n: i64, message: Id, channel: i64, due_at: u64) -> NewWork {
    NewWork {
        id: id(n),
        kind: WorkKind::Page,
        channel,
        lane: WorkLane::Transactional,
        app: 1,
        message,
        due_at,
        attempt: 0,
        leased: None,
        payload: vec![1, 2, 3],
    }
}

pub(in crate::store) fn inbox(device: u64, message: Id, class: Class) -> NewInbox {
    NewInbox { device, message, class, size: 100, expires_at: NOW + 60_000, variables: None }
}

/// Accepts a message, puts it into a device's inbox and records that.
pub(in crate::store) async fn put_in_inbox(store: &dyn Store, device: u64, n: i64, class: Class) {
    let message = NewMessage { class, ..message(1, n) };
    let changes = Changes {
        expanded: vec![(message.id, 1, Some(NOW))],
        events: vec![event(message.id, device, State::Accepted, 0)],
        inbox: vec![inbox(device, message.id, class)],
        ..Changes::default()
    };
    store.accept(message, changes).await.unwrap();
}

/// How many a counter says.
pub(in crate::store) fn count(counters: &[Counter], view: View, state: State) -> u64 {
    counters.iter().filter(|c| c.view == view && c.state == state).map(|c| c.n).sum()
}
