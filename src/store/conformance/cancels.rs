//! What is taken back: messages, inbox entries, deliveries that fail late, addresses that were retired.

use anypush_providers::contract::{Class, Reason};

use super::samples::{NOW, address, app, count, device, event, events, id, message, put_in_inbox, work};
use crate::delivery::state::{LateFailure, State, View};
use crate::store::{AddressVerdict, Changes, Lease, NewMessage, NewWork, Store, WorkKind};

pub(in crate::store) async fn a_cancel_raises_the_generation_once_and_frees_its_work_at_any_time(
    store: &dyn Store,
) {
    app(store, "shop").await;
    let later = NewWork { kind: WorkKind::Escalate, ..work(3, id(1), 0, NOW + 9_000_000) };
    let changes = Changes { work: vec![work(2, id(1), 5, NOW + 60_000), later], ..Changes::default() };
    store.accept(message(1, 1), changes).await.unwrap();
    store.commit(Changes { work: vec![work(4, id(7), 5, NOW)], ..Changes::default() }).await.unwrap();
    assert_eq!(store.cancel(id(1), "msg_1", NOW).await.unwrap(), Some(1));
    assert_eq!(store.cancel(id(1), "msg_1", NOW).await.unwrap(), Some(1));
    assert_eq!(store.cancel(id(99), "msg_99", NOW).await.unwrap(), None);
    let stored = store.message(id(1)).await.unwrap().unwrap();
    assert_eq!((stored.state, stored.generation), (2, 1));
    assert_eq!(store.next_due(WorkKind::Escalate, 0).await.unwrap(), Some(NOW));
    let epoch = store.begin_epoch(1).await.unwrap();
    let (kind, until_ms) = (WorkKind::Page, NOW + 1000);
    let lease = Lease { kind, channel: 0, lane: None, node: 1, epoch, now_ms: NOW, until_ms, limit: 9 };
    let taken = store.lease_of(id(1), lease).await.unwrap();
    assert_eq!(taken.iter().map(|item| item.id).collect::<Vec<_>>(), [id(2), id(3)]);
    assert!(store.lease_of(id(1), lease).await.unwrap().is_empty());
}

pub(in crate::store) async fn what_no_phone_was_given_is_withdrawn_and_ends_cancelled(store: &dyn Store) {
    app(store, "shop").await;
    put_in_inbox(store, 7, 1, Class::Transactional).await;
    let second = Changes {
        expanded: vec![(id(1), 1, None)],
        events: vec![event(id(1), 8, State::Accepted, 0)],
        inbox: vec![super::samples::inbox(8, id(1), Class::Transactional)],
        ..Changes::default()
    };
    store.commit(second).await.unwrap();
    assert_eq!(store.inbox(7, 0, 9, NOW).await.unwrap().len(), 1, "handed out");
    assert_eq!(store.withdraw(id(1), NOW + 5).await.unwrap(), 1);
    assert_eq!(store.withdraw(id(1), NOW + 5).await.unwrap(), 0);
    assert!(store.inbox(8, 0, 9, NOW).await.unwrap().is_empty());
    let rows = store.deliveries_of(id(1), &[7, 8]).await.unwrap();
    assert_eq!((rows[0].state, rows[1].state), (State::Accepted, State::Cancelled));
    assert_eq!(rows[1].reason, Some(Reason::Cancelled));
    let counters = store.counters(id(1)).await.unwrap();
    assert_eq!(count(&counters, View::Now, State::Cancelled), 1);
    assert_eq!(count(&counters, View::Now, State::Accepted), 1);
}

pub(in crate::store) async fn a_late_failure_takes_back_only_what_its_channel_still_has(store: &dyn Store) {
    app(store, "shop").await;
    store.accept(message(1, 1), Changes::default()).await.unwrap();
    let both = [event(id(1), 1, State::Accepted, 1), event(id(1), 2, State::Delivered, 2)];
    store.commit(events(both.to_vec())).await.unwrap();
    let late = |target, channel| LateFailure {
        message: id(1),
        target,
        channel,
        reason: Reason::DeviceUnavailable,
        at_ms: 9,
        trail: vec![],
    };
    let changes = Changes { late: vec![late(1, 2), late(2, 1), late(3, 1)], ..Changes::default() };
    store.commit(changes).await.unwrap();
    let states =
        |rows: Vec<crate::delivery::state::Delivery>| rows.iter().map(|r| r.state).collect::<Vec<_>>();
    let rows = store.deliveries_of(id(1), &[1, 2, 3]).await.unwrap();
    assert_eq!(states(rows), [State::Accepted, State::Delivered]);
    store.commit(Changes { late: vec![late(1, 1)], ..Changes::default() }).await.unwrap();
    let rows = store.deliveries_of(id(1), &[1, 2]).await.unwrap();
    assert_eq!(rows[0].reason, Some(Reason::DeviceUnavailable));
    assert_eq!(states(rows), [State::Pending, State::Delivered]);
    let counters = store.counters(id(1)).await.unwrap();
    assert_eq!(count(&counters, View::Now, State::Accepted), 0);
    assert_eq!(count(&counters, View::Reached, State::Accepted), 2, "it was accepted once");
    store.commit(events(vec![event(id(1), 1, State::Accepted, 20)])).await.unwrap();
    let counters = store.counters(id(1)).await.unwrap();
    assert_eq!(count(&counters, View::Now, State::Accepted), 1);
    assert_eq!(count(&counters, View::Reached, State::Accepted), 2);
}

pub(in crate::store) async fn retired_addresses_come_back_for_one_provider_and_since_a_time(
    store: &dyn Store,
) {
    app(store, "shop").await;
    let phone = device("a", vec![address("fcm", "t"), address("apns", "u")]);
    let phone = store.put_devices(1, vec![phone], NOW).await.unwrap().remove(0);
    let verdict = |provider: &str, version| AddressVerdict {
        app: 1,
        provider: provider.into(),
        device: phone.seq,
        version,
        reason: Reason::InvalidToken,
        retire: true,
        since: None,
    };
    let (fcm, apns) = (&phone.addresses[1], &phone.addresses[0]);
    let addresses = vec![verdict("fcm", fcm.version), verdict("apns", apns.version)];
    store.commit(Changes { addresses, ..Changes::default() }).await.unwrap();
    assert_eq!(store.restore_addresses(1, ("main", "fcm"), u64::MAX >> 1, NOW).await.unwrap(), 0);
    assert_eq!(store.restore_addresses(1, ("main", "fcm"), 0, NOW).await.unwrap(), 1);
    let found = store.send_addresses(1, "fcm", &[phone.seq]).await.unwrap();
    assert_eq!((found.len(), found[0].version), (1, fcm.version));
    assert!(store.send_addresses(1, "apns", &[phone.seq]).await.unwrap().is_empty());
}

pub(in crate::store) async fn a_cancelled_message_that_was_scheduled_ends_without_targets(store: &dyn Store) {
    let scheduled = |n| {
        let due = NOW + 60_000;
        let expand = NewWork { kind: WorkKind::Expand, ..work(n + 10, id(n), 0, due) };
        let changes = Changes { work: vec![expand], ..Changes::default() };
        (NewMessage { send_at: Some(due), ..message(1, n) }, changes)
    };
    for n in [1, 2] {
        let (message, changes) = scheduled(n);
        store.accept(message, changes).await.unwrap();
    }
    assert_eq!(store.cancel(id(1), "msg_x", NOW + 5).await.unwrap(), Some(1));
    let stored = store.message(id(1)).await.unwrap().unwrap();
    assert_eq!((stored.state, stored.expanded_at, stored.targeted), (2, Some(NOW + 5), 0));
    assert_eq!(store.backlog().await.unwrap(), [(WorkKind::Expand, 0, 1)]);
    // The other one is in somebody's hands: what that finds is ended page by page.
    let epoch = store.begin_epoch(1).await.unwrap();
    let (kind, now_ms) = (WorkKind::Expand, NOW + 60_000);
    let until_ms = now_ms + 1000;
    let lease = Lease { kind, channel: 0, lane: None, node: 1, epoch, now_ms, until_ms, limit: 9 };
    assert_eq!(store.lease(lease).await.unwrap().len(), 1);
    store.cancel(id(2), "msg_x", now_ms).await.unwrap();
    let grown = Changes { expanded: vec![(id(2), 3, Some(now_ms))], ..Changes::default() };
    store.commit(grown).await.unwrap();
    let stored = store.message(id(2)).await.unwrap().unwrap();
    assert_eq!((stored.state, stored.expanded_at, stored.targeted), (2, Some(now_ms), 3));
}
