//! What must hold whatever a vendor, an operator or a crash does.

use std::sync::Arc;
use std::time::Duration;

use anypush_providers::contract::{Failure, Hint, Reason, Token};

use super::{APP, NOW, Rig};
use crate::delivery::ahead::{Ahead, Known};
use crate::delivery::desk::Handed;
use crate::delivery::page::{Entry, Page};
use crate::delivery::spec::Spec;
use crate::delivery::state::{Event, State};
use crate::delivery::trail::{self, Next, TrailEntry};
use crate::delivery::{Parts, Pipeline};
use crate::ids::Id;
use crate::routing::ChannelState;
use crate::store::{Changes, NewWork, PhoneEvent, Store as _, WorkKind, WorkLane};
use crate::tasks::Tasks;

#[tokio::test]
async fn a_vendor_that_asks_for_time_gets_it_also_from_a_message_for_now() {
    let rig = Rig::new().await;
    let target = rig.devices(&["limited"]).await[0];
    let wait = Hint::RetryAfter(Duration::from_secs(7));
    rig.script("limited", Failure::channel(Reason::RateLimited).hint(wait));
    let message = rig.send(&["limited"], 0).await;
    let told = rig.until(message, target, |delivery| !delivery.trail.is_empty()).await;
    assert!(matches!(
        trail::decode(&told.trail).pop(),
        Some(TrailEntry::Attempted { next: Next::Retry(7000), .. })
    ));
    let due = rig.store.next_due(WorkKind::Page, rig.channel.record.seq).await.unwrap();
    assert_eq!(due, Some(NOW + 7000));
    assert_eq!(rig.sent(), [("limited".into(), 1, 0)]);
}

#[tokio::test]
async fn an_answer_to_old_credentials_says_nothing_about_new_ones() {
    let rig = Rig::new().await;
    let old = rig.channel.clone();
    let new = rig.channels.plant(APP, &super::PLAYED, rig.played.clone()).await;
    assert_eq!((new.record.seq, new.record.version), (old.record.seq, old.record.version + 1));
    assert!(!rig.channels.found(&old, ChannelState::AuthFailed, None).await.unwrap());
    assert!(rig.channels.found(&new, ChannelState::AuthFailed, None).await.unwrap());
    rig.channels.set_state(new.record.seq, ChannelState::Paused, None).await.unwrap();
    assert!(!rig.channels.found(&new, ChannelState::Ok, None).await.unwrap(), "the operator's pause stands");
}

#[tokio::test]
async fn an_adapter_that_panics_or_says_nothing_is_never_taken_for_a_yes() {
    let rig = Rig::new().await;
    let targets = rig.devices(&["silent", "panic"]).await;
    for (target, token) in targets.into_iter().zip(["silent", "panic"]) {
        let message = rig.send(&[token], 3600).await;
        let told = rig.until(message, target, |delivery| !delivery.trail.is_empty()).await;
        assert_eq!((told.state, told.reason), (State::Pending, Some(Reason::ProtocolError)), "{token}");
    }
}

#[tokio::test]
async fn a_page_that_cannot_be_read_holds_up_nobody() {
    let rig = Rig::new().await;
    let target = rig.devices(&["ok"]).await[0];
    let first = rig.send(&["ok"], 3600).await;
    rig.accepted(first, target).await;
    let poison = NewWork {
        id: Id(Id::floor_at(NOW).0 + 7),
        kind: WorkKind::Page,
        channel: rig.channel.record.seq,
        lane: WorkLane::Transactional,
        app: APP,
        message: first,
        due_at: 0,
        attempt: 0,
        leased: None,
        payload: vec![9, 9, 9],
    };
    rig.store.commit(Changes { work: vec![poison], ..Changes::default() }).await.unwrap();
    rig.pipeline.nudge(rig.channel.record.seq);
    let second = rig.send(&["ok"], 3600).await;
    rig.accepted(second, target).await;
}

#[tokio::test]
async fn what_accepting_has_learned_of_an_address_is_used_for_a_moment_and_then_read_again() {
    let rig = Rig::new().await;
    let device = rig.devices(&["renewed"]).await[0];
    let inner = &rig.pipeline.inner;
    for (waited_ms, token) in [(249, "known"), (250, "renewed")] {
        // It is not due, so that what is handed over here is all that is sent.
        let spec = Spec { send_at: Some(NOW + 3_600_000), ttl_seconds: 3600, ..Spec::default() };
        let message = rig.send_so(&["renewed"], spec).await;
        let job = inner.job(message).await.unwrap().unwrap();
        let entry = Entry { target: device, address_version: 1, ..Entry::default() };
        let page = Page { entries: vec![entry], ..Page::default() };
        let mut work = vec![inner.page_work(&job, rig.channel.record.seq, &page, 0, 0)];
        let (desk, item) = inner.lease_at_once(&mut work).remove(0);
        rig.store.commit(Changes { work, ..Changes::default() }).await.unwrap();
        let mut found = rig.store.targets_by_id(APP, &["renewed".into()]).await.unwrap();
        found[0].addresses[0].token = Some(Token::new("known"));
        let ahead = Ahead::new(Known::Devices(found), inner.now_ms());
        rig.clock.advance(Duration::from_millis(waited_ms));
        desk.hand_over(Handed { item, ahead: Some(Arc::new(ahead)) });
        rig.accepted(message, device).await;
        assert_eq!(rig.sent().pop().unwrap().0, token);
    }
}

#[tokio::test]
async fn a_page_that_is_taken_up_again_sends_only_what_is_not_recorded() {
    let rig = Rig::new().await;
    let targets = rig.devices(&["a", "b"]).await;
    let seq = rig.channel.record.seq;
    rig.channels.set_state(seq, ChannelState::Paused, None).await.unwrap();
    let message = rig.send(&["a", "b"], 3600).await;
    rig.waits(message, true).await;
    let event = Event::new((message, targets[0]), State::Accepted, seq, 1);
    rig.store.commit(Changes { events: vec![event], ..Changes::default() }).await.unwrap();
    rig.channels.set_state(seq, ChannelState::Ok, None).await.unwrap();
    rig.clock.advance(Duration::from_mins(1));
    rig.pipeline.nudge(seq);
    rig.accepted(message, targets[1]).await;
    assert_eq!(rig.sent(), [("b".into(), 1, 3540)]);
    let pages = rig.store.pending_pages(message, 10).await.unwrap();
    assert!(pages.is_empty(), "a target that ended belongs to no page: {pages:?}");
}

#[tokio::test]
async fn a_device_that_is_deleted_before_its_turn_ends_and_costs_no_request() {
    let rig = Rig::new().await;
    let target = rig.devices(&["gone"]).await[0];
    let seq = rig.channel.record.seq;
    rig.channels.set_state(seq, ChannelState::Paused, None).await.unwrap();
    let message = rig.send(&["gone"], 3600).await;
    rig.waits(message, true).await;
    assert!(rig.store.delete_device(APP, "gone").await.unwrap());
    rig.channels.set_state(seq, ChannelState::Ok, None).await.unwrap();
    rig.clock.advance(Duration::from_mins(1));
    rig.pipeline.nudge(seq);
    let ended = rig.until(message, target, |delivery| delivery.state != State::Pending).await;
    assert_eq!(ended.state, State::Failed);
    assert!(rig.sent().is_empty());
}

#[tokio::test]
async fn what_a_phone_has_is_not_sent_again_because_the_vendors_answer_was_lost() {
    let rig = Rig::new().await;
    let target = rig.devices(&["lost"]).await[0];
    rig.script("lost", Failure::channel(Reason::VendorUnavailable).doubtful());
    let message = rig.send(&["lost"], 3600).await;
    rig.until(message, target, |delivery| !delivery.trail.is_empty()).await;
    let seq = rig.channel.record.seq;
    rig.waits(message, true).await;
    let shown = PhoneEvent { message, state: Some(State::Displayed) };
    assert_eq!(rig.store.phone_events(target, vec![shown], NOW + 1).await.unwrap(), 1);
    rig.clock.advance(Duration::from_mins(1));
    rig.pipeline.nudge(seq);
    rig.waits(message, false).await;
    assert_eq!(rig.sent().len(), 1);
}

#[tokio::test]
async fn pages_of_a_channel_that_works_again_go_on_at_once() {
    let rig = Rig::new().await;
    let targets = rig.devices(&["refused", "limited"]).await;
    rig.script("refused", Failure::channel(Reason::AuthFailed));
    let asks = Hint::RetryAfter(Duration::from_secs(40));
    rig.script("limited", Failure::target(Reason::RateLimited).hint(asks));
    let [limited, refused] = [rig.send(&["limited"], 3600).await, rig.send(&["refused"], 3600).await];
    for (message, target) in [(limited, targets[1]), (refused, targets[0])] {
        rig.until(message, target, |row| !row.trail.is_empty()).await;
        rig.waits(message, true).await;
    }
    let seq = rig.channel.record.seq;
    assert_eq!(rig.channels.by_seq(seq).unwrap().route.state, ChannelState::AuthFailed);
    rig.played.script.lock().unwrap().clear();
    rig.channels.set_state(seq, ChannelState::Ok, None).await.unwrap();
    rig.pipeline.nudge(seq);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(rig.sent().len(), 2, "not before its time by itself");
    rig.pipeline.reopen(seq).await;
    rig.accepted(refused, targets[0]).await;
    assert_eq!(rig.sent().len(), 3, "what the vendor asked to wait longer for waits");
}

#[tokio::test]
async fn a_message_that_gets_through_opens_the_channel_for_those_that_wait() {
    let rig = Rig::new().await;
    let targets = rig.devices(&["refused", "ok"]).await;
    rig.script("refused", Failure::channel(Reason::AuthFailed));
    let refused = rig.send(&["refused"], 3600).await;
    rig.until(refused, targets[0], |row| !row.trail.is_empty()).await;
    rig.waits(refused, true).await;
    rig.played.script.lock().unwrap().clear();
    let ok = rig.send(&["ok"], 3600).await;
    rig.accepted(ok, targets[1]).await;
    rig.accepted(refused, targets[0]).await;
}

#[tokio::test]
async fn a_request_that_was_never_processed_is_repeated_at_once_a_few_times_and_then_counts_as_a_try() {
    let rig = Rig::new().await;
    let target = rig.devices(&["a"]).await[0];
    *rig.played.unprocessed.lock().unwrap() = 3;
    let message = rig.send(&["a"], 3600).await;
    rig.accepted(message, target).await;
    assert_eq!(rig.sent().len(), 4);
    *rig.played.unprocessed.lock().unwrap() = u32::MAX;
    let message = rig.send(&["a"], 3600).await;
    let row = rig.until(message, target, |row| !row.trail.is_empty()).await;
    assert_eq!((row.state, row.reason), (State::Pending, Some(Reason::VendorUnavailable)));
    rig.waits(message, true).await;
    assert_eq!(rig.sent().len(), 8);
    rig.clock.advance(Duration::from_secs(20));
    *rig.played.unprocessed.lock().unwrap() = 0;
    rig.pipeline.nudge(rig.channel.record.seq);
    rig.accepted(message, target).await;
    assert_eq!(rig.sent().last().unwrap().1, 2, "the second try");
}

#[tokio::test]
async fn a_vendor_that_closes_every_connection_is_down_and_is_not_asked_on_and_on() {
    let rig = Rig::new().await;
    let tokens: Vec<String> = (0..50).map(|n| format!("t{n}")).collect();
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let targets = rig.devices(&tokens).await;
    *rig.played.unprocessed.lock().unwrap() = u32::MAX;
    let message = rig.send(&tokens, 3600).await;
    rig.until(message, targets[49], |row| !row.trail.is_empty()).await;
    rig.waits(message, true).await;
    // Four times each at the most; then the breaker is open, and nothing of it goes on.
    let asked = rig.sent().len();
    assert!(asked <= 200, "{asked}");
    let second = rig.send(&tokens, 3600).await;
    rig.waits(second, true).await;
    for _ in 0..20 {
        rig.pipeline.nudge(rig.channel.record.seq);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(rig.sent().len() <= asked + 8, "{} after {asked}", rig.sent().len());
}

#[tokio::test]
async fn a_cancel_that_a_crash_cut_short_is_finished_at_the_start() {
    let rig = Rig::new().await;
    let target = rig.devices(&["a"]).await[0];
    rig.store.set_device_secret(APP, "a", "user", b"mac").await.unwrap();
    rig.channels.delete(APP, "played").await.unwrap();
    let message = rig.send(&["a"], 3600).await;
    rig.accepted(message, target).await;
    // As far as it got: the message is marked, nothing is withdrawn.
    rig.store.cancel(message, "msg_x", rig.clock.now_ms()).await.unwrap();
    assert_eq!(rig.store.half_cancelled().await.unwrap(), [message]);
    let inner = &rig.pipeline.inner;
    inner.parts.tasks.stop();
    rig.pipeline.stop(Duration::from_secs(5)).await;
    assert!(inner.parts.tasks.wait(Duration::from_secs(5)).await);
    let parts = Parts { tasks: Tasks::default(), ..inner.parts.clone() };
    let _next_life = Pipeline::start(parts).await.unwrap();
    let row = rig.until(message, target, |row| row.state != State::Accepted).await;
    assert_eq!(row.state, State::Cancelled);
    assert!(rig.store.half_cancelled().await.unwrap().is_empty());
}
