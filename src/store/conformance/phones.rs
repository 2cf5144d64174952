//! The inbox and what phones say.

use anypush_providers::contract::{Class, Reason, Witness};

use super::samples::{NOW, app, count, device, event, events, id, inbox, message, put_in_inbox, work};
use crate::delivery::page::{Entry, Page};
use crate::delivery::state::{Delivery, State, View};
use crate::delivery::trail::{self, TrailEntry};
use crate::ids::Id;
use crate::store::{Ack, Changes, NewInbox, NewMessage, NewWork, PhoneEvent, Refusable, Store, WorkKind};

async fn row(store: &dyn Store, n: i64, device: u64) -> Delivery {
    store.deliveries_of(id(n), &[device]).await.unwrap().remove(0)
}

async fn waiting(store: &dyn Store, device: u64) -> Vec<Id> {
    store.inbox(device, 0, 5000, NOW).await.unwrap().into_iter().map(|entry| entry.message).collect()
}

pub(in crate::store) async fn an_entry_waits_in_order_until_it_is_acknowledged(store: &dyn Store) {
    for n in 1..=3 {
        put_in_inbox(store, 7, n, Class::Transactional).await;
    }
    put_in_inbox(store, 8, 4, Class::Transactional).await;
    let entries = store.inbox(7, 0, 2, NOW).await.unwrap();
    assert_eq!(entries.iter().map(|e| e.message).collect::<Vec<_>>(), [id(1), id(2)]);
    assert_eq!((&entries[0].spec, entries[0].created_at), (&message(1, 1).spec, NOW));
    assert!(entries[0].pos > 0 && entries[1].pos > entries[0].pos);
    assert_eq!(store.inbox(7, entries[1].pos, 9, NOW).await.unwrap()[0].message, id(3));
    assert_eq!(store.acknowledge(7, Ack::UpTo(entries[1].pos), NOW + 30).await.unwrap(), 2);
    assert_eq!(waiting(store, 7).await, [id(3)]);
    let row = row(store, 1, 7).await;
    assert_eq!((row.state, row.channel, row.reached_ms[1]), (State::Delivered, 1, Some(30)));
    let expected =
        TrailEntry::Received { at_ms: 30, channel: 1, state: State::Delivered, witness: Witness::Phone };
    assert_eq!(trail::decode(&row.trail).pop(), Some(expected));
    assert_eq!(count(&store.counters(id(1)).await.unwrap(), View::Now, State::Delivered), 1);
    assert_eq!(store.acknowledge(7, Ack::UpTo(entries[1].pos), NOW + 31).await.unwrap(), 0);
}

pub(in crate::store) async fn an_acknowledgement_ends_only_what_was_handed_out(store: &dyn Store) {
    put_in_inbox(store, 7, 1, Class::Transactional).await;
    let first = store.inbox(7, 0, 1, NOW).await.unwrap().remove(0);
    put_in_inbox(store, 7, 2, Class::Transactional).await;
    assert_eq!(store.acknowledge(7, Ack::UpTo(first.pos + 1_000_000), NOW).await.unwrap(), 1);
    assert_eq!(row(store, 2, 7).await.state, State::Accepted);
    assert_eq!(store.acknowledge(8, Ack::UpTo(i64::MAX), NOW).await.unwrap(), 0);
    assert_eq!(waiting(store, 7).await, [id(2)]);
}

pub(in crate::store) async fn an_entry_that_is_there_already_is_left_alone(store: &dyn Store) {
    put_in_inbox(store, 7, 1, Class::Transactional).await;
    let before = store.inbox(7, 0, 9, NOW).await.unwrap();
    let again = Changes { inbox: vec![inbox(7, id(1), Class::Transactional); 2], ..Changes::default() };
    store.commit(again).await.unwrap();
    assert_eq!(store.inbox(7, 0, 9, NOW).await.unwrap(), before);
}

pub(in crate::store) async fn exact_acknowledgements_end_only_what_they_name(store: &dyn Store) {
    for n in 1..=3 {
        put_in_inbox(store, 7, n, Class::Transactional).await;
    }
    let named = Ack::Messages(vec![id(2), id(99)]);
    assert_eq!(store.acknowledge(7, named.clone(), NOW).await.unwrap(), 0, "nobody has handed it out");
    waiting(store, 7).await;
    assert_eq!(store.acknowledge(8, named.clone(), NOW).await.unwrap(), 0);
    assert_eq!(store.acknowledge(7, named, NOW).await.unwrap(), 1);
    assert_eq!(waiting(store, 7).await, [id(1), id(3)]);
}

pub(in crate::store) async fn expired_entries_are_not_handed_out(store: &dyn Store) {
    put_in_inbox(store, 7, 1, Class::Transactional).await;
    assert!(store.inbox(7, 0, 9, NOW + 60_000).await.unwrap().is_empty());
    assert_eq!(store.inbox(7, 0, 9, NOW + 59_999).await.unwrap().len(), 1);
}

pub(in crate::store) async fn an_entry_that_ends_without_the_phone_is_gone(store: &dyn Store) {
    put_in_inbox(store, 7, 1, Class::Transactional).await;
    put_in_inbox(store, 7, 2, Class::Transactional).await;
    store.commit(Changes { inbox_done: vec![(7, id(1)), (8, id(2))], ..Changes::default() }).await.unwrap();
    assert_eq!(waiting(store, 7).await, [id(2)]);
    app(store, "shop").await;
    let seq = store.put_devices(1, vec![device("a", vec![])], NOW).await.unwrap()[0].seq;
    put_in_inbox(store, seq, 3, Class::Transactional).await;
    store.delete_device(1, "a").await.unwrap();
    assert!(waiting(store, seq).await.is_empty());
}

pub(in crate::store) async fn positions_grow_in_commit_order_even_through_an_empty_inbox(store: &dyn Store) {
    let mut last = 0;
    for n in 1..=20 {
        put_in_inbox(store, 7, n, Class::Transactional).await;
        let entry = store.inbox(7, last, 9, NOW).await.unwrap().remove(0);
        assert!(entry.pos > last);
        last = entry.pos;
        store.acknowledge(7, Ack::UpTo(last), NOW).await.unwrap();
    }
}

/// Fills an inbox with a thousand entries of a class, numbered from `first`.
async fn fill(store: &dyn Store, class: Class, first: i64) {
    let numbers = first..first + 1000;
    let each = |n: i64| NewInbox { size: 10, ..inbox(7, id(n), class) };
    for n in numbers.clone() {
        store.accept(NewMessage { class, ..message(1, n) }, Changes::default()).await.unwrap();
    }
    let changes = Changes {
        inbox: numbers.clone().map(each).collect(),
        ..events(numbers.map(|n| event(id(n), 7, State::Accepted, 0)).collect())
    };
    store.commit(changes).await.unwrap();
}

pub(in crate::store) async fn the_oldest_marketing_gives_way_in_a_full_inbox(store: &dyn Store) {
    fill(store, Class::Marketing, 1000).await;
    put_in_inbox(store, 7, 1, Class::Transactional).await;
    put_in_inbox(store, 7, 2, Class::Marketing).await;
    let entries = waiting(store, 7).await;
    assert_eq!((entries.len(), entries[0]), (1000, id(1002)));
    assert_eq!(entries[998..], [id(1), id(2)]);
    for n in [1000, 1001] {
        let row = row(store, n, 7).await;
        assert_eq!((row.state, row.reason, row.channel), (State::Expired, Some(Reason::InboxFull), 1));
        assert_eq!(count(&store.counters(id(n)).await.unwrap(), View::Now, State::Expired), 1);
    }
    // By bytes too: a big one takes the place of several.
    let big = NewInbox { size: 1024 * 1024 - 500, ..inbox(7, id(3), Class::Transactional) };
    store.accept(message(1, 3), Changes { inbox: vec![big], ..Changes::default() }).await.unwrap();
    let left = waiting(store, 7).await;
    assert!(left.len() < 60 && left.contains(&id(3)) && left.contains(&id(1)), "{}", left.len());
}

pub(in crate::store) async fn an_inbox_full_of_what_people_wait_for_refuses(store: &dyn Store) {
    fill(store, Class::Transactional, 1000).await;
    put_in_inbox(store, 7, 1, Class::Marketing).await;
    put_in_inbox(store, 7, 2, Class::Transactional).await;
    store.accept(message(1, 3), Changes::default()).await.unwrap();
    let silent = Changes { inbox: vec![inbox(7, id(3), Class::Transactional)], ..Changes::default() };
    store.commit(silent).await.unwrap();
    for n in 1..=3 {
        let row = row(store, n, 7).await;
        assert_eq!((row.state, row.reason), (State::Failed, Some(Reason::InboxFull)));
        let counters = store.counters(id(n)).await.unwrap();
        assert_eq!(count(&counters, View::Now, State::Failed), 1);
        assert_eq!(count(&counters, View::Reached, State::Accepted), 0, "it was never in the inbox");
    }
    assert_eq!(waiting(store, 7).await.len(), 1000);
}

pub(in crate::store) async fn who_finds_no_room_goes_on_where_there_is_work_for_that(store: &dyn Store) {
    fill(store, Class::Transactional, 1000).await;
    store.accept(message(1, 1), Changes::default()).await.unwrap();
    store.accept(message(1, 2), Changes::default()).await.unwrap();
    let entry = |target| Entry { target, tried: vec![1], ..Entry::default() };
    let page = Page { entries: vec![entry(6), entry(7), entry(8)], ..Page::default() };
    let escalate = |n, message| NewWork { kind: WorkKind::Escalate, ..work(n, message, 0, NOW) };
    let refusable = Refusable { work: escalate(50, id(1)), page: page.clone() };
    let all_fit = Page { entries: vec![entry(6), entry(8)], ..Page::default() };
    let unused = Refusable { work: escalate(51, id(2)), page: all_fit };
    let each = |message: Id| [6, 7, 8].map(|device| inbox(device, message, Class::Transactional));
    let accepted = |message: Id| [6, 7, 8].map(|device| event(message, device, State::Accepted, 5));
    let changes = Changes {
        inbox: each(id(1)).into_iter().chain(each(id(2)).into_iter().filter(|e| e.device != 7)).collect(),
        events: accepted(id(1))
            .into_iter()
            .chain(accepted(id(2)).into_iter().filter(|e| e.target != 7))
            .collect(),
        refusable: vec![refusable, unused],
        ..Changes::default()
    };
    store.commit(changes).await.unwrap();
    let row = row(store, 1, 7).await;
    assert_eq!((row.state, row.reason, row.reached_ms), (State::Pending, Some(Reason::InboxFull), [None; 4]));
    assert_eq!(count(&store.counters(id(1)).await.unwrap(), View::Now, State::Accepted), 2);
    assert_eq!(count(&store.counters(id(1)).await.unwrap(), View::Now, State::Failed), 0);
    assert_eq!(store.backlog().await.unwrap(), [(WorkKind::Escalate, 0, 1)]);
    let left = Page { entries: vec![entry(7)], ..Page::default() };
    assert_eq!(store.pending_pages(id(1), 9).await.unwrap(), [left]);
    assert!(store.pending_pages(id(2), 9).await.unwrap().is_empty());
}

fn says(n: i64, state: State) -> PhoneEvent {
    PhoneEvent { message: id(n), state: Some(state) }
}

pub(in crate::store) async fn a_phone_speaks_only_for_its_own_deliveries(store: &dyn Store) {
    put_in_inbox(store, 7, 1, Class::Transactional).await;
    store.accept(message(1, 2), events(vec![event(id(2), 8, State::Accepted, 0)])).await.unwrap();
    let reports = vec![says(1, State::Displayed), says(2, State::Clicked), says(3, State::Clicked)];
    assert_eq!(store.phone_events(7, reports, NOW + 40).await.unwrap(), 1);
    let shown = row(store, 1, 7).await;
    assert_eq!((shown.state, shown.channel, shown.reached_ms[2]), (State::Displayed, 1, Some(40)));
    assert_eq!(row(store, 2, 8).await.state, State::Accepted);
    assert!(store.deliveries_of(id(2), &[7]).await.unwrap().is_empty());
    assert!(waiting(store, 7).await.is_empty(), "what was shown need not wait any more");
}

pub(in crate::store) async fn a_repeated_report_changes_nothing(store: &dyn Store) {
    put_in_inbox(store, 7, 1, Class::Transactional).await;
    assert_eq!(store.phone_events(7, vec![says(1, State::Clicked); 3], NOW + 5).await.unwrap(), 1);
    let before = row(store, 1, 7).await;
    let repeats = vec![says(1, State::Clicked), says(1, State::Delivered), says(1, State::Failed)];
    assert_eq!(store.phone_events(7, repeats, NOW + 9).await.unwrap(), 0);
    assert_eq!(row(store, 1, 7).await, before);
}

pub(in crate::store) async fn a_dismissal_is_told_once_and_ends_the_inbox_entry(store: &dyn Store) {
    put_in_inbox(store, 7, 1, Class::Transactional).await;
    let dismissed = PhoneEvent { message: id(1), state: None };
    assert_eq!(store.phone_events(7, vec![dismissed.clone(); 2], NOW + 5).await.unwrap(), 1);
    let told = row(store, 1, 7).await;
    assert_eq!((told.state, told.channel), (State::Accepted, 1), "an event, no state");
    assert!(waiting(store, 7).await.is_empty());
    assert_eq!(store.phone_events(7, vec![dismissed], NOW + 9).await.unwrap(), 0);
    assert_eq!(row(store, 1, 7).await, told);
    let said = TrailEntry::Dismissed { at_ms: 5, channel: 1, witness: Witness::Phone };
    assert_eq!(trail::decode(&told.trail).last(), Some(&said));
    let foreign = PhoneEvent { message: id(2), state: None };
    assert_eq!(store.phone_events(7, vec![foreign], NOW + 9).await.unwrap(), 0);
}

pub(in crate::store) async fn reports_and_acknowledgements_in_any_order_end_in_one_state(store: &dyn Store) {
    let dismissed = PhoneEvent { message: id(0), state: None };
    let words = [says(0, State::Delivered), says(0, State::Displayed), says(0, State::Clicked), dismissed];
    for turn in 0..8_usize {
        let n = turn as i64 + 1;
        put_in_inbox(store, 7, n, Class::Transactional).await;
        let mut said: Vec<_> =
            words.iter().map(|word| PhoneEvent { message: id(n), ..word.clone() }).collect();
        said.rotate_left(turn % 4);
        if turn >= 4 {
            said.reverse();
        }
        for (at, word) in said.into_iter().enumerate() {
            if at == turn % 3 {
                store.acknowledge(7, Ack::Messages(vec![id(n)]), NOW + 2).await.unwrap();
            }
            store.phone_events(7, vec![word.clone(), word], NOW + 3).await.unwrap();
        }
        assert_eq!(row(store, n, 7).await.state, State::Clicked, "turn {turn}");
        let counters = store.counters(id(n)).await.unwrap();
        assert_eq!(count(&counters, View::Now, State::Clicked), 1);
        for state in [State::Accepted, State::Delivered, State::Displayed, State::Clicked] {
            assert_eq!(count(&counters, View::Reached, state), 1, "turn {turn}");
        }
    }
    assert!(waiting(store, 7).await.is_empty());
}
