//! Work that this version cannot read.

use std::time::Duration;

use anypush_providers::contract::{Class, Reason};

use super::{APP, NOW, Rig};
use crate::delivery::page::{Entry, Page};
use crate::delivery::spec::Spec;
use crate::delivery::state::{Event, State};
use crate::delivery::{Parts, Pipeline};
use crate::ids::Id;
use crate::store::{
    Changes, Lease, NewMessage, NewWork, Store as _, WorkItem, WorkKind, WorkLane, WorkUpdate,
};
use crate::tasks::Tasks;

/// What no version has written.
const DAMAGED: &[u8] = &[255, 1, 2, 3];

fn message() -> Id {
    Id(Id::floor_at(NOW).0 + 1)
}

/// Stores a message for one target with its work, as an earlier life left it.
async fn left(rig: &Rig, spec: &str, work: Vec<NewWork>, events: Vec<Event>) {
    let new = NewMessage {
        id: message(),
        app: APP,
        class: Class::Transactional,
        spec: spec.to_owned(),
        collapse: None,
        label: None,
        created_at: NOW,
        deadline_at: NOW + 3_600_000,
        send_at: None,
        idempotency: None,
    };
    let expanded = vec![(message(), 1, Some(NOW))];
    rig.store.accept(new, Changes { events, expanded, work, ..Changes::default() }).await.unwrap();
}

fn work(rig: &Rig, kind: WorkKind, payload: Vec<u8>) -> NewWork {
    NewWork {
        id: rig.pipeline.inner.next_id(),
        kind,
        channel: if kind == WorkKind::Page { rig.channel.record.seq } else { 0 },
        lane: WorkLane::Transactional,
        app: APP,
        message: message(),
        due_at: NOW,
        attempt: 3,
        leased: None,
        payload,
    }
}

fn page(target: u64) -> Vec<u8> {
    let entries = vec![Entry { target, address_version: 1, ..Entry::default() }];
    Page { entries, ..Page::default() }.encode()
}

fn greeting() -> String {
    let content = serde_json::json!({"notification": {"title": "Hello"}});
    let mut spec = serde_json::to_value(Spec { ttl_seconds: 3600, ..Spec::default() }).unwrap();
    spec["content"] = content;
    spec.to_string()
}

fn look(rig: &Rig) {
    let inner = &rig.pipeline.inner;
    inner.escalate_bell.notify_one();
    inner.expire_bell.notify_one();
    inner.expand_bell.notify_one();
    rig.pipeline.nudge(rig.channel.record.seq);
}

/// Time passes until so much is set aside.
async fn until_aside(rig: &Rig, count: u64) {
    for _ in 0..600 {
        look(rig);
        tokio::time::sleep(Duration::from_millis(20)).await;
        if rig.pipeline.set_aside() == count {
            return;
        }
        rig.clock.advance(Duration::from_millis(200));
    }
    panic!("{} of {count}, {:?}", rig.pipeline.set_aside(), rig.store.backlog().await);
}

async fn lease(rig: &Rig, kind: WorkKind, epoch: u64) -> Vec<WorkItem> {
    let now_ms = rig.clock.now_ms();
    let channel = if kind == WorkKind::Page { rig.channel.record.seq } else { 0 };
    let lease = Lease { kind, channel, lane: None, node: 0, epoch, now_ms, until_ms: now_ms, limit: 10 };
    rig.store.lease(lease).await.unwrap()
}

#[tokio::test]
async fn work_that_cannot_be_read_is_set_aside_and_the_version_that_can_goes_on_with_it() {
    let rig = Rig::new().await;
    let target = rig.devices(&["a"]).await[0];
    let damaged = work(&rig, WorkKind::Page, DAMAGED.to_vec());
    left(&rig, &greeting(), vec![damaged], Vec::new()).await;
    until_aside(&rig, 1).await;
    rig.clock.advance(Duration::from_mins(30));
    look(&rig);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let inner = &rig.pipeline.inner;
    assert!(lease(&rig, WorkKind::Page, inner.epoch).await.is_empty(), "nobody takes it up in this life");
    inner.parts.tasks.stop();
    rig.pipeline.stop(Duration::from_secs(5)).await;
    assert!(inner.parts.tasks.wait(Duration::from_secs(5)).await);
    // The next life finds it as it was, and can read it.
    let epoch = rig.store.begin_epoch(0).await.unwrap();
    let item = lease(&rig, WorkKind::Page, epoch).await.remove(0);
    assert_eq!((item.payload.as_slice(), item.attempt), (DAMAGED, 3));
    let readable = WorkUpdate {
        id: item.id,
        epoch,
        due_at: NOW,
        attempt: item.attempt,
        payload: Some(page(target)),
        lease_until: 0,
    };
    rig.store.commit(Changes { work_updates: vec![readable], ..Changes::default() }).await.unwrap();
    let parts = Parts { tasks: Tasks::default(), ..inner.parts.clone() };
    let next_life = Pipeline::start(parts).await.unwrap();
    rig.accepted(message(), target).await;
    assert_eq!(next_life.set_aside(), 0);
    let sent: Vec<_> = rig.sent().into_iter().map(|(token, attempt, _)| (token, attempt)).collect();
    assert_eq!(sent, [("a".to_owned(), 4)], "its tries are still those at the vendor");
}

#[tokio::test]
async fn no_kind_of_work_is_dropped_because_it_cannot_be_read() {
    let rig = Rig::new().await;
    let kinds = [WorkKind::Expand, WorkKind::Page, WorkKind::Expire, WorkKind::Escalate];
    let damaged = kinds.map(|kind| work(&rig, kind, DAMAGED.to_vec())).to_vec();
    left(&rig, &greeting(), damaged, Vec::new()).await;
    until_aside(&rig, 4).await;
    let kept: Vec<_> = rig.store.backlog().await.unwrap().into_iter().map(|(kind, _, n)| (kind, n)).collect();
    assert_eq!(kept, kinds.map(|kind| (kind, 1)));
}

#[tokio::test]
async fn a_message_that_cannot_be_read_still_ends_by_its_time_to_live() {
    let rig = Rig::new().await;
    let targets = rig.devices(&["paged", "later", "has it"]).await;
    let work = vec![
        work(&rig, WorkKind::Page, page(targets[0])),
        work(&rig, WorkKind::Escalate, page(targets[1])),
        NewWork { due_at: NOW + 3_600_000, ..work(&rig, WorkKind::Expire, page(targets[2])) },
    ];
    let own = rig.channels.by_name(APP, "direct").unwrap().record.seq;
    let accepted = Event::new((message(), targets[2]), State::Accepted, own, 1);
    left(&rig, r#"{"content": "of a newer kind"}"#, work, vec![accepted]).await;
    until_aside(&rig, 2).await;
    assert!(rig.store.deliveries_of(message(), &targets[..2]).await.unwrap().is_empty());
    rig.clock.advance(Duration::from_hours(1));
    for _ in 0..500 {
        look(&rig);
        tokio::time::sleep(Duration::from_millis(20)).await;
        if rig.store.backlog().await.unwrap().is_empty() {
            break;
        }
    }
    let rows = rig.store.deliveries_of(message(), &targets).await.unwrap();
    let ends: Vec<_> = rows.iter().map(|row| (row.state, row.reason)).collect();
    assert_eq!(ends, [(State::Expired, Some(Reason::Expired)); 3]);
    assert_eq!(rig.pipeline.set_aside(), 0);
    assert!(rig.sent().is_empty());
}

#[tokio::test]
async fn a_message_that_is_cancelled_ends_even_where_it_cannot_be_read() {
    let rig = Rig::new().await;
    let target = rig.devices(&["a"]).await[0];
    let waits = NewWork { due_at: NOW + 600_000, ..work(&rig, WorkKind::Page, page(target)) };
    left(&rig, r#"{"content": "of a newer kind"}"#, vec![waits], Vec::new()).await;
    rig.pipeline.cancel(message()).await.unwrap();
    let row = rig.until(message(), target, |row| row.state != State::Pending).await;
    assert_eq!((row.state, row.reason), (State::Cancelled, Some(Reason::Cancelled)));
    assert!(rig.store.backlog().await.unwrap().is_empty());
}
