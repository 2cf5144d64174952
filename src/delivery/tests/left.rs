//! A phone changes hands: what was sent to its user does not reach the next one, wherever it waits (A19).

use std::time::Duration;

use anypush_providers::contract::{Content, Failure, Hint, Notification, Reason};

use super::{APP, Rig};
use crate::delivery::SendRequest;
use crate::delivery::spec::{Audience, Spec};
use crate::delivery::state::{Delivery, State};
use crate::ids::Id;
use crate::routing::{ChannelState, StepSpec};
use crate::store::{DevicePatch, Store as _};

async fn send(rig: &Rig, audience: Audience, step: &str, send_at: Option<u64>) -> Id {
    let notification = Some(Notification { title: Some("For Ann".into()), ..Notification::default() });
    let content = Content { notification, ..Content::default() };
    let steps = vec![StepSpec { uses: step.into(), ..StepSpec::default() }];
    let spec = Spec { content: content.into(), steps, send_at, ttl_seconds: 3600, ..Spec::default() };
    let request = SendRequest { app: APP, spec, audience, label: None, idempotency: None };
    rig.pipeline.accept(request).await.unwrap().id
}

fn to_user(user: &str) -> Audience {
    Audience::Users(vec![user.into()])
}

fn to_device(device: &str) -> Audience {
    Audience::Devices(vec![device.into()])
}

/// Somebody signs in on a phone, or (`None`) out.
async fn signs_in(rig: &Rig, device: &str, user: Option<&str>) {
    rig.clock.advance(Duration::from_secs(1));
    let patch = DevicePatch { user_id: Some(user.map(str::to_owned)), ..DevicePatch::default() };
    rig.store.patch_device(APP, device, patch, rig.clock.now_ms()).await.unwrap().unwrap();
    rig.clock.advance(Duration::from_secs(1));
}

fn pass(rig: &Rig, seconds: u64) {
    rig.clock.advance(Duration::from_secs(seconds));
    rig.pipeline.nudge(rig.channel.record.seq);
}

fn has_left(row: &Delivery) -> bool {
    (row.state, row.reason) == (State::Suppressed, Some(Reason::UserLeft))
}

async fn of_ann(rig: &Rig) -> u64 {
    let target = rig.devices(&["a"]).await[0];
    signs_in(rig, "a", Some("ann")).await;
    target
}

#[tokio::test]
async fn what_waits_for_its_retry_is_not_sent_to_the_next_user() {
    let rig = Rig::new().await;
    let target = of_ann(&rig).await;
    rig.script("a", Failure::target(Reason::RateLimited).hint(Hint::RetryAfter(Duration::from_secs(7))));
    let personal = send(&rig, to_user("ann"), "played", None).await;
    let to_phone = send(&rig, to_device("a"), "played", None).await;
    for message in [personal, to_phone] {
        rig.until(message, target, |row| row.reason == Some(Reason::RateLimited)).await;
    }
    let tries = rig.sent().len();
    rig.played.script.lock().unwrap().clear();
    signs_in(&rig, "a", Some("bob")).await;
    let new = send(&rig, to_user("bob"), "played", None).await;
    rig.accepted(new, target).await;
    pass(&rig, 8);
    rig.until(personal, target, has_left).await;
    rig.accepted(to_phone, target).await;
    assert_eq!(rig.sent().len(), tries + 2, "what was sent to the phone itself, and to its new user");
}

#[tokio::test]
async fn what_a_paused_channel_holds_is_not_sent_once_the_user_has_left_even_to_themselves() {
    let rig = Rig::new().await;
    let target = of_ann(&rig).await;
    let paused = |state| rig.channels.set_state(rig.channel.record.seq, state, None);
    paused(ChannelState::Paused).await.unwrap();
    let personal = send(&rig, to_user("ann"), "played", None).await;
    rig.waits(personal, true).await;
    signs_in(&rig, "a", None).await;
    signs_in(&rig, "a", Some("ann")).await;
    paused(ChannelState::Ok).await.unwrap();
    pass(&rig, 10);
    rig.until(personal, target, has_left).await;
    assert!(rig.sent().is_empty());
}

#[tokio::test]
async fn a_first_sign_in_takes_nothing_and_a_scheduled_message_finds_who_is_there_then() {
    let rig = Rig::new().await;
    let target = of_ann(&rig).await;
    let later = rig.clock.now_ms() + 60_000;
    let to_ann = send(&rig, to_user("ann"), "played", Some(later)).await;
    let to_bob = send(&rig, to_user("bob"), "played", Some(later)).await;
    signs_in(&rig, "a", Some("bob")).await;
    pass(&rig, 61);
    rig.accepted(to_bob, target).await;
    let row = rig.store.deliveries_of(to_ann, &[target]).await.unwrap();
    assert!(row.is_empty(), "it is no phone of hers: {row:?}");
    assert_eq!(rig.sent().len(), 1);
}

#[tokio::test]
async fn an_inbox_keeps_what_was_sent_to_the_phone_and_drops_what_was_sent_to_its_user() {
    let rig = Rig::new().await;
    let target = of_ann(&rig).await;
    rig.store.set_device_secret(APP, "a", "user", b"mac").await.unwrap();
    let personal = send(&rig, to_user("ann"), "direct", None).await;
    let read = send(&rig, to_user("ann"), "direct", None).await;
    let to_phone = send(&rig, to_device("a"), "direct", None).await;
    for message in [personal, read, to_phone] {
        rig.accepted(message, target).await;
    }
    let waiting = async || -> Vec<Id> {
        let now = rig.clock.now_ms();
        rig.store.inbox(target, 0, 10, now).await.unwrap().iter().map(|entry| entry.message).collect()
    };
    // What was handed out and not acknowledged would be handed out again.
    assert_eq!(waiting().await.len(), 3);
    rig.store.patch_device(APP, "a", DevicePatch::default(), rig.clock.now_ms()).await.unwrap();
    assert_eq!(waiting().await.len(), 3, "nobody has left");
    signs_in(&rig, "a", Some("bob")).await;
    assert_eq!(waiting().await, [to_phone]);
    for message in [personal, read] {
        let row = rig.store.deliveries_of(message, &[target]).await.unwrap().remove(0);
        assert!(has_left(&row), "{row:?}");
    }
    let new = send(&rig, to_user("bob"), "direct", None).await;
    rig.accepted(new, target).await;
    signs_in(&rig, "a", Some("bob")).await;
    assert_eq!(waiting().await, [to_phone, new], "the same user again is nobody who left");
}
