//! Forgetting by age: whole messages that are over, whole days of counters, and nothing else.

use super::samples::{NOW, app, event, id, message, put_in_inbox, work};
use crate::audit::{Who, acting};
use crate::delivery::state::State;
use crate::ids::Id;
use crate::store::{
    Aged, AuditFilter, CategoryRecord, Changes, Counted, DeliveryFilter, Forgotten, NewMessage, NewTarget,
    QUARTER_MS, ReportAsk, Store,
};

const DAY: u64 = 24 * 3_600_000;
/// The samples' messages live for an hour.
const LATER: u64 = NOW + 2 * DAY;

/// A message with so many deliveries, which all ended.
async fn over(store: &dyn Store, app: i64, n: i64, targets: u64) {
    let changes = Changes {
        expanded: vec![(id(n), targets, Some(NOW))],
        events: (0..targets).map(|target| event(id(n), target, State::Failed, 1)).collect(),
        ..Changes::default()
    };
    store.accept(message(app, n), changes).await.unwrap();
}

/// Forgets until nothing is left to do: (what went, transactions).
async fn all(store: &dyn Store, what: Aged, before: u64, limit: usize) -> (Forgotten, usize) {
    let (mut sum, mut place) = (Forgotten::default(), 0);
    for n in 1.. {
        let gone = store.forget(what, before, place, limit).await.unwrap();
        sum.things += gone.things;
        sum.deliveries += gone.deliveries;
        assert!(gone.deliveries as usize <= limit, "{gone:?}");
        place = gone.place;
        if !gone.more {
            return (sum, n);
        }
    }
    unreachable!()
}

async fn rows_of(store: &dyn Store, message: Id) -> usize {
    store.deliveries(message, &DeliveryFilter::default(), None, 100_000).await.unwrap().len()
}

/// C44.
pub(in crate::store) async fn what_is_over_and_too_old_goes_whole_and_all_else_stays(store: &dyn Store) {
    let shop = app(store, "shop").await.seq;
    over(store, shop, 1, 3).await;
    // Two targets, and one of them is pending.
    let half = Changes {
        expanded: vec![(id(2), 2, Some(NOW))],
        events: vec![event(id(2), 1, State::Failed, 1)],
        ..Changes::default()
    };
    store.accept(message(shop, 2), half).await.unwrap();
    // Everything ended, and something must still be done.
    over(store, shop, 3, 1).await;
    store.commit(Changes { work: vec![work(99, id(3), 1, NOW)], ..Changes::default() }).await.unwrap();
    // Its audience is not whole yet.
    store.accept(message(shop, 4), Changes::default()).await.unwrap();
    // Its time to live ends later.
    let long = NewMessage { deadline_at: LATER + 1, ..message(shop, 5) };
    store
        .accept(long, Changes { expanded: vec![(id(5), 0, Some(NOW))], ..Changes::default() })
        .await
        .unwrap();
    // Cancelled before anybody got it.
    store
        .accept(message(shop, 6), Changes { expanded: vec![(id(6), 0, Some(NOW))], ..Changes::default() })
        .await
        .unwrap();
    store.cancel(id(6), "msg_6", NOW).await.unwrap();
    // Addresses given in the call.
    let given = NewTarget { given: Some("u-42".into()), ..NewTarget::default() };
    let changes = Changes {
        expanded: vec![(id(7), 1, Some(NOW))],
        targets: vec![(id(7), 0, given)],
        events: vec![event(id(7), 1 << 40, State::Suppressed, 1)],
        ..Changes::default()
    };
    store.accept(message(shop, 7), changes).await.unwrap();
    let young = NewMessage { id: Id::floor_at(LATER), created_at: LATER, ..message(shop, 8) };
    store
        .accept(
            young,
            Changes { expanded: vec![(Id::floor_at(LATER), 0, Some(LATER))], ..Changes::default() },
        )
        .await
        .unwrap();

    assert_eq!(all(store, Aged::Messages, NOW, 100).await.0, Forgotten::default(), "nothing is so old");
    let (gone, _) = all(store, Aged::Messages, LATER, 100).await;
    assert_eq!((gone.things, gone.deliveries), (3, 4));
    for n in [1, 6, 7] {
        assert!(store.message(id(n)).await.unwrap().is_none(), "{n}");
        assert!(store.counters(id(n)).await.unwrap().is_empty());
        assert_eq!(rows_of(store, id(n)).await, 0);
    }
    assert!(store.given_targets(id(7), &[0]).await.unwrap().is_empty());
    for n in [2, 3, 4, 5] {
        assert!(store.message(id(n)).await.unwrap().is_some(), "{n}");
    }
    assert_eq!((rows_of(store, id(2)).await, rows_of(store, id(3)).await), (1, 1));
    // What was kept goes once it is over.
    store.commit(Changes { work_done: vec![id(99)], ..Changes::default() }).await.unwrap();
    let last = Changes { events: vec![event(id(2), 0, State::Failed, 1)], ..Changes::default() };
    store.commit(last).await.unwrap();
    assert_eq!(all(store, Aged::Messages, LATER, 100).await.0.things, 2);
    // A word about what is gone leaves no trace.
    let late = Changes { events: vec![], inbox_done: vec![(1, id(1))], ..Changes::default() };
    store.commit(late).await.unwrap();
    assert_eq!(rows_of(store, id(1)).await, 0);
}

pub(in crate::store) async fn many_messages_go_a_few_at_a_time_and_those_that_stay_are_passed_once(
    store: &dyn Store,
) {
    let shop = app(store, "shop").await.seq;
    for n in 0..40 {
        if n % 4 == 0 {
            store.accept(message(shop, n), Changes::default()).await.unwrap();
        } else {
            over(store, shop, n, 3).await;
        }
    }
    let (gone, transactions) = all(store, Aged::Messages, LATER, 20).await;
    assert_eq!((gone.things, gone.deliveries), (30, 90));
    // A message counts with its deliveries: four rows.
    assert_eq!(transactions, 6);
    assert_eq!(
        all(store, Aged::Messages, LATER, 20).await,
        (Forgotten { place: 0, ..Forgotten::default() }, 1)
    );
}

/// C44.
pub(in crate::store) async fn a_large_message_goes_in_parts_and_nobody_sees_half_of_it(store: &dyn Store) {
    let shop = app(store, "shop").await.seq;
    over(store, shop, 1, 250).await;
    over(store, shop, 2, 2).await;
    let first = store.forget(Aged::Messages, LATER, 0, 100).await.unwrap();
    assert_eq!((first.things, first.deliveries, first.more), (1, 100, true));
    assert!(store.message(id(1)).await.unwrap().is_none() && store.counters(id(1)).await.unwrap().is_empty());
    assert!(store.message(id(2)).await.unwrap().is_some());
    assert_eq!(rows_of(store, id(1)).await, 150);
    assert!(
        store.deliveries_to(249, Id(i64::MAX), 9).await.unwrap().is_empty(),
        "its last target is told nothing of it"
    );
    // Another life knows nothing of the first one's place.
    let (rest, _) = all(store, Aged::Messages, LATER, 100).await;
    assert_eq!((rest.things, rest.deliveries), (1, 152));
    assert_eq!(rows_of(store, id(1)).await + rows_of(store, id(2)).await, 0);
}

pub(in crate::store) async fn what_waits_in_an_inbox_goes_with_its_message(store: &dyn Store) {
    app(store, "shop").await;
    put_in_inbox(store, 7, 1, anypush_providers::contract::Class::Transactional).await;
    // Nothing must be done about it any more, and its time was over long ago.
    assert_eq!(all(store, Aged::Messages, LATER, 100).await.0.things, 1);
    put_in_inbox(store, 7, 1, anypush_providers::contract::Class::Transactional).await;
    assert_eq!(store.inbox(7, 0, 10, NOW).await.unwrap().len(), 1, "only the new one");
}

pub(in crate::store) async fn counters_of_reports_outlive_their_messages_and_go_by_whole_days(
    store: &dyn Store,
) {
    let shop = app(store, "shop").await.seq;
    let begin = NOW / DAY * DAY;
    for day in 0..3 {
        for quarter in [0, 50, 95] {
            let at = begin + day * DAY + quarter * QUARTER_MS;
            let label = Some(format!("label {quarter}"));
            let new = NewMessage { id: Id::floor_at(at), created_at: at, label, ..message(shop, 0) };
            let changes = Changes {
                expanded: vec![(new.id, 1, Some(at))],
                events: vec![event(new.id, 1, State::Failed, 1)],
                ..Changes::default()
            };
            store.accept(new, changes).await.unwrap();
        }
    }
    let report = async |from: u64, to: u64| -> i64 {
        let spans = vec![((begin + from * DAY) / QUARTER_MS, (begin + to * DAY) / QUARTER_MS)];
        let rows = store.report(&ReportAsk { app: shop, spans, ..ReportAsk::default() }).await.unwrap();
        rows.iter().filter(|row| row.counted == Counted::Targeted).map(|row| row.n).sum()
    };
    assert_eq!(all(store, Aged::Messages, begin + 9 * DAY, 100).await.0.things, 9);
    assert_eq!(report(0, 3).await, 9, "what was counted stays counted");
    // One row at a time: never less than a day.
    let gone = store.forget(Aged::Reports, begin + 2 * DAY + DAY / 2, 0, 1).await.unwrap();
    assert!(gone.things >= 3 && gone.more, "{gone:?}");
    assert_eq!((report(0, 1).await, report(1, 2).await, report(2, 3).await), (0, 3, 3));
    all(store, Aged::Reports, begin + 2 * DAY + DAY / 2, 1).await;
    assert_eq!(
        (report(1, 2).await, report(2, 3).await),
        (0, 3),
        "a day that is not over its age stays whole"
    );
    let hours = (0, u64::from(u32::MAX));
    assert_eq!(store.channel_stats(&[1], hours).await.unwrap().len(), 1);
}

pub(in crate::store) async fn the_oldest_rows_of_the_audit_log_go_and_a_new_row_says_so(store: &dyn Store) {
    let shop = app(store, "shop").await.seq;
    let put = |name: &str| CategoryRecord { app: shop, name: name.into(), ..CategoryRecord::default() };
    for n in 0..5 {
        acting(Who::CommandLine.into(), store.put_category(put(&format!("c{n}")))).await.unwrap();
    }
    let log = async || store.audit(&AuditFilter::default(), None, 100).await.unwrap();
    let old = log().await;
    assert_eq!(store.forget(Aged::Audit, 1, 0, 100).await.unwrap().things, 0, "nothing is so old");
    let far = old[0].at + DAY;
    let gone = store.forget(Aged::Audit, far, 0, 4).await.unwrap();
    assert_eq!((gone.things, gone.more), (4, true));
    let left = log().await;
    assert_eq!(left.iter().map(|row| row.seq).collect::<Vec<_>>(), [7, 6, 5]);
    let told = &left[0];
    assert_eq!((&*told.actor, &*told.action, told.app), ("gateway", "audit.forget", None));
    let details: serde_json::Value = serde_json::from_str(told.details.as_deref().unwrap()).unwrap();
    assert_eq!((&details["up_to"], &details["rows"]), (&4.into(), &4.into()));
    all(store, Aged::Audit, far, 100).await;
    // Where nothing is old but that rows went, nothing goes.
    let left = log().await;
    assert_eq!(left.iter().map(|row| &*row.action).collect::<Vec<_>>(), ["audit.forget"]);
    assert_eq!(store.forget(Aged::Audit, far + DAY, 0, 100).await.unwrap().things, 0);
    store.put_category(put("after")).await.unwrap();
    assert_eq!(log().await[0].seq, left[0].seq + 1, "numbers go on");
}
