//! Messages, their deliveries and counters.

use anypush_providers::contract::Reason;

use super::samples::{NOW, app, count, event, events, id, message, work};
use crate::delivery::state::{State, View};
use crate::delivery::trail;
use crate::ids::{GIVEN_TARGETS, Id};
use crate::store::{
    AcceptAnswer, Changes, DeliveryFilter, MessageFilter, NewMessage, NewTarget, NewWork, Store, WorkKind,
};

pub(in crate::store) async fn an_accepted_message_is_there_with_its_targets_and_work(store: &dyn Store) {
    let shop = app(store, "shop").await.seq;
    let given = NewTarget { token: Some("t".into()), params: Some("{}".into()), ..NewTarget::default() };
    let changes = Changes {
        expanded: vec![(id(1), 3, None), (id(1), 4, Some(NOW))],
        targets: vec![(id(1), 0, given.clone()), (id(1), 1, NewTarget::default())],
        work: vec![work(9, id(1), 2, NOW)],
        events: vec![event(id(1), GIVEN_TARGETS, State::Failed, 1)],
        ..Changes::default()
    };
    assert_eq!(store.accept(message(shop, 1), changes).await.unwrap(), AcceptAnswer::Stored);
    let stored = store.message(id(1)).await.unwrap().unwrap();
    assert_eq!((stored.targeted, stored.expanded_at, stored.state), (7, Some(NOW), 0));
    assert_eq!((stored.spec, stored.deadline_at), (message(shop, 1).spec, NOW + 3_600_000));
    assert_eq!(store.given_targets(id(1), &[0, 7]).await.unwrap(), [(0, given)]);
    assert_eq!(store.backlog().await.unwrap(), [(WorkKind::Page, 2, 1)]);
    assert_eq!(count(&store.counters(id(1)).await.unwrap(), View::Now, State::Failed), 1);
    assert_eq!(store.message(id(2)).await.unwrap(), None);
}

fn keyed(app: i64, n: i64, key: u8, body: u8) -> NewMessage {
    NewMessage { idempotency: Some(([key; 32], [body; 32])), ..message(app, n) }
}

async fn accept(store: &dyn Store, message: NewMessage) -> AcceptAnswer {
    let changes = Changes { work: vec![work(message.id.0 & 0xff, message.id, 1, NOW)], ..Changes::default() };
    store.accept(message, changes).await.unwrap()
}

pub(in crate::store) async fn the_same_key_and_body_is_answered_with_the_first_message(store: &dyn Store) {
    let replayed = AcceptAnswer::Replayed { id: id(1), created_at: NOW };
    assert_eq!(accept(store, keyed(1, 1, 7, 1)).await, AcceptAnswer::Stored);
    assert_eq!(accept(store, keyed(1, 2, 7, 1)).await, replayed);
    assert_eq!(store.message(id(2)).await.unwrap(), None);
    assert_eq!(store.backlog().await.unwrap()[0].2, 1, "a replay brings no work");
    // At the same moment too: one of them is stored, the others are replays of it.
    let (a, b, c) = tokio::join!(
        accept(store, keyed(1, 3, 8, 1)),
        accept(store, keyed(1, 4, 8, 1)),
        accept(store, keyed(1, 5, 8, 1))
    );
    assert_eq!([a, b, c].iter().filter(|answer| **answer == AcceptAnswer::Stored).count(), 1);
    let mut alike = keyed(1, 6, 7, 2);
    alike.idempotency.as_mut().unwrap().0[31] += 1;
    assert_eq!(accept(store, alike.clone()).await, AcceptAnswer::Stored, "the last byte differs");
    let again = NewMessage { id: id(7), ..alike };
    assert_eq!(accept(store, again).await, AcceptAnswer::Replayed { id: id(6), created_at: NOW });
}

pub(in crate::store) async fn the_same_key_with_another_body_is_refused(store: &dyn Store) {
    let (a, b) = tokio::join!(accept(store, keyed(1, 1, 7, 1)), accept(store, keyed(1, 2, 7, 2)));
    assert_eq!([&a, &b].iter().filter(|answer| ***answer == AcceptAnswer::KeyReused).count(), 1);
    assert_eq!(accept(store, keyed(1, 3, 7, 3)).await, AcceptAnswer::KeyReused);
    assert_eq!(store.messages(1, &MessageFilter::default(), Id(i64::MAX), 10).await.unwrap().len(), 1);
}

pub(in crate::store) async fn a_key_of_another_app_or_of_the_day_before_does_not_count(store: &dyn Store) {
    let day = 24 * 60 * 60 * 1000;
    assert_eq!(accept(store, keyed(1, 1, 7, 1)).await, AcceptAnswer::Stored);
    assert_eq!(accept(store, keyed(2, 2, 7, 2)).await, AcceptAnswer::Stored);
    let next_day = NewMessage { created_at: NOW + day, ..keyed(1, 3, 7, 2) };
    assert_eq!(accept(store, next_day).await, AcceptAnswer::Stored);
    let replay = NewMessage { created_at: NOW + day + 5, ..keyed(1, 4, 7, 2) };
    assert_eq!(accept(store, replay).await, AcceptAnswer::Replayed { id: id(3), created_at: NOW + day });
}

pub(in crate::store) async fn a_used_key_is_found_without_a_message_to_store(store: &dyn Store) {
    let day = 24 * 60 * 60 * 1000;
    let used = async |app, body, now| store.used_key(app, ([7; 32], [body; 32]), now).await.unwrap();
    assert_eq!(used(1, 1, NOW).await, None);
    assert_eq!(accept(store, keyed(1, 1, 7, 1)).await, AcceptAnswer::Stored);
    let replayed = AcceptAnswer::Replayed { id: id(1), created_at: NOW };
    assert_eq!(used(1, 1, NOW).await, Some(replayed.clone()));
    assert_eq!(used(1, 2, NOW).await, Some(AcceptAnswer::KeyReused));
    assert_eq!(used(2, 1, NOW).await, None, "another app's");
    assert_eq!(used(1, 1, NOW + day - 1).await, Some(replayed));
    assert_eq!(used(1, 1, NOW + day).await, None);
}

pub(in crate::store) async fn messages_are_listed_newest_first_by_app_and_label(store: &dyn Store) {
    for n in 1..=6 {
        let label = (n % 2 == 0).then(|| "even".to_owned());
        let stored = NewMessage { label, ..message(if n == 6 { 2 } else { 1 }, n) };
        store.accept(stored, Changes::default()).await.unwrap();
    }
    let list = async |label: Option<&str>, before: Id, limit: usize| -> Vec<Id> {
        let filter = MessageFilter { label: label.map(str::to_owned), ..MessageFilter::default() };
        store.messages(1, &filter, before, limit).await.unwrap().into_iter().map(|m| m.id).collect()
    };
    assert_eq!(list(None, Id(i64::MAX), 3).await, [id(5), id(4), id(3)]);
    assert_eq!(list(None, id(3), 9).await, [id(2), id(1)]);
    assert_eq!(list(Some("even"), Id(i64::MAX), 9).await, [id(4), id(2)]);
}

pub(in crate::store) async fn events_become_rows_and_counters(store: &dyn Store) {
    let changes = Changes {
        expanded: vec![(id(1), 2500, Some(NOW))],
        ..events((0..2500).map(|target| event(id(1), target, State::Accepted, 5)).collect())
    };
    store.accept(message(1, 1), changes).await.unwrap();
    store.commit(events((0..100).map(|t| event(id(1), t, State::Displayed, 9)).collect())).await.unwrap();
    let counters = store.counters(id(1)).await.unwrap();
    assert_eq!(count(&counters, View::Now, State::Accepted), 2400);
    assert_eq!(count(&counters, View::Now, State::Displayed), 100);
    assert_eq!(count(&counters, View::Reached, State::Accepted), 2500);
    assert_eq!(count(&counters, View::Reached, State::Delivered), 100);
    let row = store.deliveries_of(id(1), &[3]).await.unwrap().remove(0);
    assert_eq!((row.state, row.channel, row.vendor_id.as_deref()), (State::Displayed, 1, Some("v-3")));
    assert_eq!(row.reached_ms, [Some(5), Some(9), Some(9), None]);
    assert_eq!(trail::decode(&row.trail).len(), 2);
}

pub(in crate::store) async fn what_is_recorded_is_found_however_much_of_it_lies_between_what_is_new(
    store: &dyn Store,
) {
    for (message_id, between) in [0, 1, 62, 63, 64, 65, 200].into_iter().enumerate() {
        let message_id = message_id as i64 + 1;
        store.accept(message(1, message_id), Changes::default()).await.unwrap();
        let recorded: Vec<u64> = (1..=between).map(|n| n * 2).collect();
        let at_first = recorded.iter().map(|target| event(id(message_id), *target, State::Accepted, 5));
        store.commit(events(at_first.collect())).await.unwrap();
        // Every third number: some have a row, and some of the rows between are not among them.
        let shown: Vec<u64> = (0..150).map(|n| n * 3).collect();
        let then = shown.iter().map(|target| event(id(message_id), *target, State::Displayed, 9));
        store.commit(events(then.collect())).await.unwrap();
        let counters = store.counters(id(message_id)).await.unwrap();
        let left = recorded.iter().filter(|target| !shown.contains(target)).count() as u64;
        assert_eq!(count(&counters, View::Now, State::Displayed), 150, "{between} between");
        assert_eq!(count(&counters, View::Now, State::Accepted), left, "{between} between");
        assert_eq!(count(&counters, View::Reached, State::Accepted), 150 + left, "{between} between");
        for row in store.deliveries_of(id(message_id), &shown).await.unwrap() {
            let times = 1 + usize::from(recorded.contains(&row.target));
            assert_eq!(trail::decode(&row.trail).len(), times);
        }
    }
}

pub(in crate::store) async fn a_receipt_never_lowers_the_rank_and_its_trail_grows(store: &dyn Store) {
    store.accept(message(1, 1), Changes::default()).await.unwrap();
    for state in [State::Clicked, State::Accepted, State::Failed, State::Delivered] {
        store.commit(events(vec![event(id(1), 7, state, 5)])).await.unwrap();
    }
    let row = store.deliveries_of(id(1), &[7]).await.unwrap().remove(0);
    assert_eq!((row.state, row.reason, trail::decode(&row.trail).len()), (State::Clicked, None, 4));
    let counters = store.counters(id(1)).await.unwrap();
    assert_eq!(count(&counters, View::Now, State::Clicked), 1);
    assert_eq!(counters.iter().filter(|c| c.view == View::Now).count(), 1);
}

pub(in crate::store) async fn several_events_of_one_delivery_in_one_set_are_applied_in_order(
    store: &dyn Store,
) {
    let order = [State::Pending, State::Failed, State::Delivered];
    let first = events(order.iter().map(|state| event(id(1), 7, *state, 1)).collect());
    store.accept(message(1, 1), first).await.unwrap();
    let row = store.deliveries_of(id(1), &[7]).await.unwrap().remove(0);
    assert_eq!((row.state, trail::decode(&row.trail).len()), (State::Delivered, 3));
    let counters = store.counters(id(1)).await.unwrap();
    assert_eq!(counters.iter().filter(|c| c.view == View::Now).map(|c| c.n).sum::<u64>(), 1);
}

pub(in crate::store) async fn deliveries_are_listed_by_filter_and_by_target(store: &dyn Store) {
    for n in 1..=3 {
        let states = [State::Accepted, State::Failed, State::Pending];
        let all = states.iter().zip(0..).map(|(state, target)| event(id(n), target, *state, 1));
        store.accept(message(1, n), events(all.collect())).await.unwrap();
    }
    let list = async |f: DeliveryFilter, after: Option<u64>, limit: usize| -> Vec<u64> {
        store.deliveries(id(2), &f, after, limit).await.unwrap().into_iter().map(|d| d.target).collect()
    };
    let any = DeliveryFilter::default;
    assert_eq!(list(any(), None, 9).await, [0, 1, 2]);
    assert_eq!(list(any(), Some(0), 1).await, [1]);
    assert_eq!(list(DeliveryFilter { state: Some(State::Pending), ..any() }, None, 9).await, [2]);
    assert_eq!(list(DeliveryFilter { reason: Some(Reason::VendorUnavailable), ..any() }, None, 9).await, [1]);
    assert!(list(DeliveryFilter { channel: Some(2), ..any() }, None, 9).await.is_empty());
    let got = store.deliveries_to(1, id(3), 9).await.unwrap();
    assert_eq!(got.iter().map(|d| d.message).collect::<Vec<_>>(), [id(2), id(1)]);
}

pub(in crate::store) async fn an_audience_grows_until_it_is_whole(store: &dyn Store) {
    store
        .accept(message(1, 1), Changes { expanded: vec![(id(1), 1, None)], ..Changes::default() })
        .await
        .unwrap();
    let grow = |by, at| Changes { expanded: vec![(id(1), by, at)], ..Changes::default() };
    store.commit(grow(1000, None)).await.unwrap();
    assert_eq!(store.message(id(1)).await.unwrap().unwrap().expanded_at, None);
    let (a, b) = tokio::join!(store.commit(grow(1000, Some(NOW + 3))), store.commit(grow(0, None)));
    a.and(b).unwrap();
    let stored = store.message(id(1)).await.unwrap().unwrap();
    assert_eq!((stored.targeted, stored.expanded_at), (2001, Some(NOW + 3)));
}

pub(in crate::store) async fn newer_messages_of_a_key_are_found_by_device_once_a_channel_was_asked(
    store: &dyn Store,
) {
    let keyed = |app, n, collapse| NewMessage { collapse, ..message(app, n) };
    for new in [
        keyed(1, 1, Some(7)),
        keyed(1, 2, Some(7)),
        keyed(1, 3, Some(8)),
        keyed(1, 4, None),
        keyed(2, 5, Some(7)),
    ] {
        store.accept(new, Changes::default()).await.unwrap();
    }
    let newer = async |than| {
        let mut found = store.newer_of_key(1, 7, id(than), &[10, 11, 12, 13, 14, 15]).await.unwrap();
        found.sort_unstable();
        found
    };
    for other in [3, 4, 5] {
        store.commit(events(vec![event(id(other), 10, State::Accepted, 1)])).await.unwrap();
    }
    assert!(newer(1).await.is_empty(), "another key, none, another app");
    let states = [State::Pending, State::Accepted, State::Unknown, State::Failed, State::Cancelled];
    for (target, state) in (10..).zip(states) {
        store.commit(events(vec![event(id(2), target, state, 1)])).await.unwrap();
    }
    store.commit(events(vec![event(id(2), 16, State::Accepted, 1)])).await.unwrap();
    assert_eq!(newer(1).await, [10, 11, 12]);
    store.commit(events(vec![event(id(2), 11, State::Expired, 2)])).await.unwrap();
    assert_eq!(newer(1).await, [10, 11, 12], "it was handed over, whatever became of it");
    assert!(newer(2).await.is_empty());
}

pub(in crate::store) async fn a_scheduled_message_is_listed_until_its_audience_is_looked_up(
    store: &dyn Store,
) {
    let at = Some(NOW + 60_000);
    let expand = NewWork { kind: WorkKind::Expand, ..work(9, id(2), 0, NOW + 60_000) };
    store.accept(message(1, 1), Changes::default()).await.unwrap();
    let later = NewMessage { send_at: at, ..message(1, 2) };
    store.accept(later, Changes { work: vec![expand], ..Changes::default() }).await.unwrap();
    let filter = MessageFilter { scheduled: true, ..MessageFilter::default() };
    let listed = async || store.messages(1, &filter, Id(i64::MAX), 9).await.unwrap();
    let found = listed().await;
    assert_eq!(found.iter().map(|m| (m.id, m.state, m.send_at)).collect::<Vec<_>>(), [(id(2), 1, at)]);
    assert_eq!(store.next_due(WorkKind::Expand, 0).await.unwrap(), at);
    let grown = Changes { expanded: vec![(id(2), 3, None)], ..Changes::default() };
    store.commit(grown).await.unwrap();
    assert_eq!(listed().await, []);
    assert_eq!(store.message(id(2)).await.unwrap().unwrap().state, 0);
}
