//! Recalls that an earlier life began, over more deliveries than one transaction covers.

use anypush_providers::contract::Class;

use super::{APP, NOW, Rig};
use crate::delivery::state::{Event, State, View};
use crate::delivery::trail::{self, TrailEntry};
use crate::ids::Id;
use crate::store::{Changes, NewInbox, NewMessage, NewWork, Store as _, WorkKind, WorkLane};

/// Devices that have it in their inbox.
const DEVICES: u64 = 2300;

fn message() -> Id {
    Id(Id::floor_at(NOW).0 + 1)
}

#[tokio::test]
async fn a_recall_that_a_crash_interrupted_goes_on_where_it_was_and_empties_every_inbox() {
    let rig = Rig::new().await;
    let direct = rig.channels.of_app(APP).iter().find(|channel| channel.is_direct()).unwrap().record.seq;
    let event = |target, state, channel| Event::new((message(), target), state, channel, 1);
    let entry = |device| NewInbox {
        device,
        message: message(),
        class: Class::Transactional,
        size: 10,
        expires_at: NOW + 3_600_000,
        variables: None,
    };
    let mut events: Vec<_> = (1..=DEVICES).map(|device| event(device, State::Accepted, direct)).collect();
    // One has it on its screen, one has it from a vendor.
    events.push(event(DEVICES + 1, State::Displayed, direct));
    events.push(event(DEVICES + 2, State::Accepted, rig.channel.record.seq));
    let new = NewMessage {
        id: message(),
        app: APP,
        class: Class::Transactional,
        spec: r#"{"content": {}, "ttl_seconds": 3600}"#.into(),
        collapse: None,
        label: None,
        created_at: NOW,
        deadline_at: NOW + 3_600_000,
        send_at: None,
        idempotency: None,
    };
    let changes = Changes {
        expanded: vec![(message(), DEVICES + 2, Some(NOW))],
        events,
        inbox: (1..=DEVICES).map(entry).collect(),
        ..Changes::default()
    };
    rig.store.accept(new, changes).await.unwrap();
    // It was given out, so a cancel would leave it.
    assert_eq!(rig.store.inbox(1900, 0, 9, NOW).await.unwrap().len(), 1);
    // An earlier life came as far as the thousandth.
    let work = NewWork {
        id: Id(message().0 + 1),
        kind: WorkKind::Recall,
        channel: 0,
        lane: WorkLane::Transactional,
        app: APP,
        message: message(),
        due_at: NOW,
        attempt: 0,
        leased: None,
        payload: 1001u64.to_be_bytes().to_vec(),
    };
    rig.store.commit(Changes { work: vec![work], ..Changes::default() }).await.unwrap();
    for _ in 0..3000 {
        if rig.store.backlog().await.unwrap().is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(rig.store.backlog().await.unwrap(), []);
    let counters = rig.store.counters(message()).await.unwrap();
    let now = |state| -> u64 {
        counters.iter().filter(|c| c.view == View::Now && c.state == state).map(|c| c.n).sum()
    };
    assert_eq!(
        (now(State::Cancelled), now(State::Accepted), now(State::Displayed)),
        (DEVICES - 1000, 1001, 1)
    );
    assert_eq!(rig.store.inbox(1900, 0, 9, NOW).await.unwrap().len(), 0);
    assert_eq!(rig.store.inbox(1000, 0, 9, NOW).await.unwrap().len(), 1, "that was before its place");
    let rows = rig.store.deliveries_of(message(), &[1900, DEVICES + 2]).await.unwrap();
    assert_eq!(trail::decode(&rows[0].trail), [TrailEntry::Recalled { at_ms: 0, told: false }]);
    assert_eq!(rows[1].state, State::Accepted, "what a vendor has stays there");
}
