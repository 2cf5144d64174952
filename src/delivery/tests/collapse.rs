//! One device, one collapse key: never an older message after a newer one.

use std::sync::Arc;
use std::time::Duration;

use anypush_providers::contract::{Content, Failure, Hint, Notification, Reason};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{APP, Rig};
use crate::delivery::SendRequest;
use crate::delivery::spec::{Audience, Spec};
use crate::delivery::state::State;
use crate::ids::{Id, Kind};
use crate::routing::{ChannelState, StepSpec};
use crate::store::{Ack, Store as _};

async fn send(rig: &Rig, ids: &[&str], key: Option<&str>, steps: &[&str]) -> Id {
    let notification = Some(Notification { title: Some("Hello".into()), ..Notification::default() });
    let step = |uses: &&str| StepSpec { uses: (*uses).into(), ..StepSpec::default() };
    let spec = Spec {
        content: Arc::new(Content {
            notification,
            collapse_key: key.map(str::to_owned),
            ..Content::default()
        }),
        steps: steps.iter().map(step).collect(),
        ttl_seconds: 3600,
        ..Spec::default()
    };
    let audience = Audience::Devices(ids.iter().map(|id| (*id).to_owned()).collect());
    let request = SendRequest { app: APP, spec, audience, label: None, idempotency: None };
    rig.pipeline.accept(request).await.unwrap().id
}

/// The messages that the vendor was handed for a token, in order.
fn handed(rig: &Rig, token: &str) -> Vec<Id> {
    let codec = &rig.pipeline.inner.parts.codec;
    let all = rig.played.handed.lock().unwrap();
    let of_token = all.iter().filter(|(of, _)| of == token);
    of_token.map(|(_, message)| codec.decode(Kind::Message, message).unwrap()).collect()
}

fn limited() -> Failure {
    Failure::target(Reason::RateLimited).hint(Hint::RetryAfter(Duration::from_secs(7)))
}

fn pass(rig: &Rig, seconds: u64) {
    rig.clock.advance(Duration::from_secs(seconds));
    rig.pipeline.nudge(rig.channel.record.seq);
}

#[tokio::test]
async fn an_older_message_that_waits_for_its_retry_makes_way_for_a_newer_one_of_its_key() {
    let rig = Rig::new().await;
    let targets = rig.devices(&["a", "b"]).await;
    rig.script("a", limited());
    let older = send(&rig, &["a", "b"], Some("score"), &[]).await;
    let other_key = send(&rig, &["a"], Some("news"), &[]).await;
    let no_key = send(&rig, &["a"], None, &[]).await;
    for message in [older, other_key, no_key] {
        rig.until(message, targets[0], |row| row.reason == Some(Reason::RateLimited)).await;
    }
    rig.played.script.lock().unwrap().clear();
    let newer = send(&rig, &["a"], Some("score"), &[]).await;
    rig.accepted(newer, targets[0]).await;
    pass(&rig, 8);
    let row = rig.until(older, targets[0], |row| row.state != State::Pending).await;
    assert_eq!((row.state, row.reason), (State::Suppressed, Some(Reason::Superseded)));
    rig.accepted(older, targets[1]).await;
    rig.accepted(other_key, targets[0]).await;
    rig.accepted(no_key, targets[0]).await;
    assert_eq!(
        handed(&rig, "a").iter().filter(|message| **message == older).count(),
        1,
        "before the newer one"
    );
}

#[tokio::test]
async fn a_newer_message_that_no_channel_took_supersedes_nothing() {
    let rig = Rig::new().await;
    let target = rig.devices(&["a"]).await[0];
    rig.script("a", limited());
    let older = send(&rig, &["a"], Some("score"), &[]).await;
    rig.until(older, target, |row| row.reason == Some(Reason::RateLimited)).await;
    rig.script("a", Failure::target(Reason::PayloadInvalid));
    let newer = send(&rig, &["a"], Some("score"), &[]).await;
    rig.until(newer, target, |row| row.state == State::Failed).await;
    rig.played.script.lock().unwrap().clear();
    pass(&rig, 8);
    rig.accepted(older, target).await;
}

#[tokio::test]
async fn an_inbox_that_has_a_newer_message_gets_no_older_one_of_its_key() {
    let rig = Rig::new().await;
    let target = rig.devices(&["a"]).await[0];
    rig.store.set_device_secret(APP, "a", "user", b"mac").await.unwrap();
    rig.script("a", limited());
    let older = send(&rig, &["a"], Some("score"), &["played", "direct"]).await;
    rig.until(older, target, |row| row.reason == Some(Reason::RateLimited)).await;
    let newer = send(&rig, &["a"], Some("score"), &["direct"]).await;
    rig.accepted(newer, target).await;
    rig.script("a", Failure::target(Reason::PayloadInvalid));
    rig.store.inbox(target, 0, 10, rig.clock.now_ms()).await.unwrap();
    rig.store.acknowledge(target, Ack::Messages(vec![newer]), rig.clock.now_ms()).await.unwrap();
    pass(&rig, 8);
    let row = rig.until(older, target, |row| row.state != State::Pending).await;
    assert_eq!(row.reason, Some(Reason::Superseded));
    assert!(rig.store.inbox(target, 0, 10, rig.clock.now_ms()).await.unwrap().is_empty());
}

/// What happens next in a play of chance.
#[derive(Debug, Clone, Copy)]
enum Turn {
    /// A message of the key is accepted.
    Send,
    /// The vendor takes, asks for time, or does not answer at once.
    Answer(u8),
    /// The channel is paused, or goes on.
    Pause(bool),
    /// So many seconds pass.
    Pass(u64),
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        4 => Just(Turn::Send),
        2 => (0..3u8).prop_map(Turn::Answer),
        1 => any::<bool>().prop_map(Turn::Pause),
        2 => prop::sample::select(vec![1, 8]).prop_map(Turn::Pass),
    ]
}

#[test]
fn in_whatever_order_messages_of_a_key_are_accepted_sent_and_retried_the_last_that_is_sent_is_the_newest() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases: 32, failure_persistence: None, ..Config::default() });
    let tries = runner.run(&prop::collection::vec((turn(), any::<bool>()), 3..20), |turns| {
        runtime.block_on(async {
            let rig = Rig::new().await;
            let target = rig.devices(&["a"]).await[0];
            let seq = rig.channel.record.seq;
            let mut sent = Vec::new();
            for (turn, rest) in turns {
                match turn {
                    Turn::Send => sent.push(send(&rig, &["a"], Some("score"), &[]).await),
                    Turn::Answer(0) => drop(rig.played.script.lock().unwrap().remove("a")),
                    Turn::Answer(1) => rig.script("a", limited()),
                    Turn::Answer(_) => rig.script("a", Failure::target(Reason::VendorUnavailable).doubtful()),
                    Turn::Pause(paused) => {
                        let state = if paused { ChannelState::Paused } else { ChannelState::Ok };
                        rig.channels.set_state(seq, state, None).await.unwrap();
                    }
                    Turn::Pass(seconds) => pass(&rig, seconds),
                }
                if rest {
                    tokio::time::sleep(Duration::from_millis(15)).await;
                }
            }
            rig.channels.set_state(seq, ChannelState::Ok, None).await.unwrap();
            rig.played.script.lock().unwrap().clear();
            for message in &sent {
                rig.until_looking(*message, target, || pass(&rig, 1)).await;
            }
            let order = handed(&rig, "a");
            let first = |message: &Id| order.iter().position(|m| m == message);
            for (at, message) in order.iter().enumerate() {
                let newer = order[..at].iter().find(|earlier| *earlier > message);
                prop_assert!(newer.is_none(), "{:?} went out after {:?}: {:?}", message, newer, order);
            }
            prop_assert_eq!(order.last(), sent.last());
            prop_assert!(sent.last().is_none_or(|last| first(last).is_some()));
            Ok(())
        })
    });
    tries.unwrap();
}
