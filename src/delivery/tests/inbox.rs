//! Phones whose inbox is full: their messages go on to the next step.

use std::time::Duration;

use anypush_providers::contract::{Class, Failure, Reason, Tier};

use super::{APP, Descriptor, NOW, Rig, descriptor};
use crate::delivery::spec::Spec;
use crate::delivery::state::{Delivery, State, View};
use crate::delivery::trail::{self, TrailEntry};
use crate::ids::Id;
use crate::routing::StepSpec;
use crate::store::{Changes, NewInbox, Store as _};

static SECOND: Descriptor = descriptor("second", Tier::Platform);

/// Fills a device's inbox with what people wait for: nothing of it gives way.
async fn fill(rig: &Rig, device: u64) {
    let username = format!("user{device}");
    let id = rig.store.device_ids(&[device]).await.unwrap().remove(0).1;
    rig.store.set_device_secret(APP, &id, &username, b"mac").await.unwrap();
    let entry = |n| NewInbox {
        device,
        message: Id(n),
        class: Class::Transactional,
        size: 10,
        expires_at: NOW + 86_400_000,
        variables: None,
    };
    let inbox = (1..=1000).map(entry).collect();
    rig.store.commit(Changes { inbox, ..Changes::default() }).await.unwrap();
}

async fn send(rig: &Rig, ids: &[&str], steps: &[(&str, Option<State>)]) -> Id {
    let step = |(uses, until): &(&str, Option<State>)| StepSpec {
        uses: (*uses).into(),
        wait_seconds: until.map(|_| 60),
        until: *until,
        ..StepSpec::default()
    };
    let steps = steps.iter().map(step).collect();
    rig.send_so(ids, Spec { steps, ttl_seconds: 3600, ..Spec::default() }).await
}

/// Counts per channel and state now, and the channels that it was accepted through first.
async fn counts(rig: &Rig, message: Id) -> (Vec<(i64, State, u64)>, Vec<(i64, u64)>) {
    let counters = rig.store.counters(message).await.unwrap();
    let of = |view| counters.iter().filter(move |c| c.view == view && c.n > 0);
    let reached = of(View::Reached).filter(|c| c.state == State::Accepted);
    (of(View::Now).map(|c| (c.channel, c.state, c.n)).collect(), reached.map(|c| (c.channel, c.n)).collect())
}

/// What each step came to.
fn tries(row: &Delivery) -> Vec<(i64, Option<Reason>)> {
    let tried = |entry| match entry {
        TrailEntry::Attempted { channel, reason, .. } => Some((channel, reason)),
        _ => None,
    };
    trail::decode(&row.trail).into_iter().filter_map(tried).collect()
}

#[tokio::test]
async fn who_has_no_room_in_the_inbox_is_reached_through_the_next_channel_and_only_they() {
    let rig = Rig::new().await;
    let targets = rig.devices(&["full", "free"]).await;
    fill(&rig, targets[0]).await;
    rig.store.set_device_secret(APP, "free", "free", b"mac").await.unwrap();
    let message = send(&rig, &["full", "free"], &[("direct", None), ("played", None)]).await;
    let (played, own) = (rig.channel.record.seq, rig.channels.by_name(APP, "direct").unwrap().record.seq);
    let full = rig.until(message, targets[0], |row| row.state == State::Accepted).await;
    rig.accepted(message, targets[1]).await;
    assert_eq!(full.channel, played);
    assert_eq!(tries(&full), [(own, Some(Reason::InboxFull)), (played, None)]);
    let ended = trail::decode(&full.trail).iter().any(|entry| matches!(entry, TrailEntry::Ended { .. }));
    assert!(!ended, "it has not ended: {:?}", trail::decode(&full.trail));
    let sent: Vec<_> = rig.sent().into_iter().map(|(token, ..)| token).collect();
    assert_eq!(sent, ["full"]);
    let (mut now, mut reached) = counts(&rig, message).await;
    now.sort_unstable();
    reached.sort_unstable();
    let mut each = [own, played];
    each.sort_unstable();
    assert_eq!(now, each.map(|channel| (channel, State::Accepted, 1)));
    assert_eq!(reached, each.map(|channel| (channel, 1)));
}

#[tokio::test]
async fn a_full_inbox_without_a_further_step_ends_the_delivery_and_says_why() {
    let rig = Rig::new().await;
    let target = rig.devices(&["full"]).await[0];
    fill(&rig, target).await;
    let message = send(&rig, &["full"], &[("direct", None)]).await;
    let row = rig.until(message, target, |row| row.state != State::Pending).await;
    assert_eq!((row.state, row.reason), (State::Failed, Some(Reason::InboxFull)));
    let own = rig.channels.by_name(APP, "direct").unwrap().record.seq;
    assert_eq!(counts(&rig, message).await, (vec![(own, State::Failed, 1)], vec![]));
    assert!(rig.store.backlog().await.unwrap().iter().all(|(_, channel, _)| *channel == 0));
}

#[tokio::test]
async fn a_further_step_that_finds_no_room_goes_on_and_takes_nothing_from_the_channel_that_has_it() {
    for refused in [false, true] {
        let rig = Rig::new().await;
        let last = rig.channels.plant(APP, &SECOND, rig.played.clone()).await.record.seq;
        let target = rig.devices(&["full"]).await[0];
        fill(&rig, target).await;
        let until = Some(State::Delivered);
        let message = send(&rig, &["full"], &[("played", until), ("direct", until), ("second", None)]).await;
        rig.accepted(message, target).await;
        if refused {
            rig.script("full", Failure::target(Reason::PayloadInvalid));
        }
        rig.clock.advance(Duration::from_secs(61));
        rig.pipeline.inner.escalate_bell.notify_one();
        let row = rig.until(message, target, |row| tries(row).len() == 3).await;
        let first = rig.channel.record.seq;
        assert_eq!((row.state, row.channel), (State::Accepted, if refused { first } else { last }));
        assert_eq!(tries(&row)[1].1, Some(Reason::InboxFull));
        let (now, reached) = counts(&rig, message).await;
        assert_eq!(now, [(row.channel, State::Accepted, 1)]);
        assert_eq!(reached, [(first, 1)]);
    }
}
