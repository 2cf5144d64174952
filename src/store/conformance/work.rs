//! Work items and leases.

use super::samples::{NOW, id, message, work};
use crate::delivery::page::{Entry, Page};
use crate::ids::Id;
use crate::store::{Changes, Lease, NewWork, Store, WorkItem, WorkKind, WorkLane, WorkUpdate};

async fn add(store: &dyn Store, work: Vec<NewWork>) {
    store.commit(Changes { work, ..Changes::default() }).await.unwrap();
}

fn ask(epoch: u64, now_ms: u64) -> Lease {
    let until_ms = now_ms + 30_000;
    Lease { kind: WorkKind::Page, channel: 5, lane: None, node: 1, epoch, now_ms, until_ms, limit: 10 }
}

fn ids(items: &[WorkItem]) -> Vec<Id> {
    items.iter().map(|item| item.id).collect()
}

pub(in crate::store) async fn due_work_is_leased_once_oldest_first(store: &dyn Store) {
    let marketing = NewWork { lane: WorkLane::Marketing, ..work(3, id(1), 5, NOW - 5) };
    let later = work(4, id(1), 5, NOW + 100);
    let expand = NewWork { kind: WorkKind::Expand, ..work(5, id(1), 0, NOW) };
    let elsewhere = work(6, id(1), 6, NOW - 50);
    add(store, vec![work(1, id(1), 5, NOW), work(2, id(1), 5, NOW - 9), marketing, later, expand, elsewhere])
        .await;
    let epoch = store.begin_epoch(1).await.unwrap();
    assert_eq!(store.next_due(WorkKind::Page, 5).await.unwrap(), Some(NOW - 9));
    let one = Lease { lane: Some(WorkLane::Transactional), limit: 1, ..ask(epoch, NOW) };
    let first = store.lease(one).await.unwrap();
    assert_eq!((ids(&first), first[0].epoch, first[0].resumed), (vec![id(2)], epoch, false));
    assert_eq!(first[0].payload, [1, 2, 3]);
    assert_eq!(store.next_due(WorkKind::Page, 5).await.unwrap(), Some(NOW - 5));
    assert_eq!(ids(&store.lease(ask(epoch, NOW)).await.unwrap()), [id(3), id(1)]);
    assert!(store.lease(ask(epoch, NOW)).await.unwrap().is_empty());
    assert_eq!(store.next_due(WorkKind::Page, 5).await.unwrap(), Some(NOW + 100));
    assert_eq!(store.next_due(WorkKind::Page, 7).await.unwrap(), None);
    let after_the_leases = store.lease(ask(epoch, NOW + 31_000)).await.unwrap();
    assert_eq!(after_the_leases.iter().filter(|item| item.resumed).count(), 3);
    let backlog = store.backlog().await.unwrap();
    assert_eq!(backlog, [(WorkKind::Expand, 0, 1), (WorkKind::Page, 5, 4), (WorkKind::Page, 6, 1)]);
}

pub(in crate::store) async fn a_new_epoch_frees_what_the_old_one_held_and_says_so(store: &dyn Store) {
    let old = store.begin_epoch(1).await.unwrap();
    let other = NewWork { leased: Some((2, 9, NOW + 90_000)), ..work(2, id(1), 5, NOW) };
    let own = NewWork { leased: Some((1, old, NOW + 90_000)), ..work(1, id(1), 5, NOW) };
    add(store, vec![own, other]).await;
    assert!(store.lease(ask(old, NOW)).await.unwrap().is_empty());
    let new = store.begin_epoch(1).await.unwrap();
    assert!(new > old);
    let taken = store.lease(ask(new, NOW)).await.unwrap();
    assert_eq!((ids(&taken), taken[0].resumed, taken[0].epoch), (vec![id(1)], true, new));
}

pub(in crate::store) async fn the_newest_id_is_known(store: &dyn Store) {
    assert_eq!(store.last_id().await.unwrap(), Id(0));
    add(store, vec![work(7, id(1), 5, NOW)]).await;
    assert_eq!(store.last_id().await.unwrap(), id(7));
    store.accept(message(1, 8), Changes::default()).await.unwrap();
    assert_eq!(store.last_id().await.unwrap(), id(8));
}

pub(in crate::store) async fn a_stale_owner_changes_nothing(store: &dyn Store) {
    let old = store.begin_epoch(1).await.unwrap();
    add(store, vec![NewWork { leased: Some((1, old, NOW + 90_000)), ..work(1, id(1), 5, NOW) }]).await;
    let new = store.begin_epoch(1).await.unwrap();
    store.lease(ask(new, NOW)).await.unwrap();
    let stale =
        WorkUpdate { id: id(1), epoch: old, due_at: NOW, attempt: 9, payload: Some(vec![9]), lease_until: 0 };
    store.commit(Changes { work_updates: vec![stale], ..Changes::default() }).await.unwrap();
    assert!(store.lease(ask(new, NOW)).await.unwrap().is_empty(), "it is still held");
}

pub(in crate::store) async fn work_goes_on_waits_and_ends(store: &dyn Store) {
    let epoch = store.begin_epoch(1).await.unwrap();
    add(store, vec![work(1, id(1), 5, NOW), work(2, id(1), 5, NOW)]).await;
    store.lease(ask(epoch, NOW)).await.unwrap();
    let wait = WorkUpdate { id: id(1), epoch, due_at: NOW + 50, attempt: 1, payload: None, lease_until: 0 };
    let go_on = WorkUpdate {
        id: id(2),
        payload: Some(vec![7]),
        lease_until: NOW + 60,
        due_at: NOW + 40,
        ..wait.clone()
    };
    store.commit(Changes { work_updates: vec![wait, go_on], ..Changes::default() }).await.unwrap();
    assert!(store.lease(ask(epoch, NOW + 49)).await.unwrap().is_empty());
    assert_eq!(store.next_due(WorkKind::Page, 5).await.unwrap(), Some(NOW + 50));
    let taken = store.lease(ask(epoch, NOW + 60)).await.unwrap();
    let seen: Vec<_> = taken.iter().map(|item| (item.id, item.attempt, item.payload.clone())).collect();
    assert_eq!(seen, [(id(2), 1, vec![7]), (id(1), 1, vec![1, 2, 3])]);
    store.commit(Changes { work_done: vec![id(1), id(2)], ..Changes::default() }).await.unwrap();
    assert!(store.backlog().await.unwrap().is_empty());
}

pub(in crate::store) async fn pages_that_wait_are_found_by_message(store: &dyn Store) {
    store.accept(message(1, 1), Changes::default()).await.unwrap();
    let page = Page { entries: vec![Entry { target: 4, ..Entry::default() }], ..Page::default() };
    let mine = NewWork { payload: page.encode(), ..work(1, id(1), 5, NOW) };
    let expire = NewWork { kind: WorkKind::Expire, payload: page.encode(), ..work(2, id(1), 0, NOW) };
    let other = NewWork { payload: page.encode(), ..work(3, id(2), 5, NOW) };
    add(store, vec![mine, expire, other]).await;
    assert_eq!(store.pending_pages(id(1), 10).await.unwrap(), [page]);
}
