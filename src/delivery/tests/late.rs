//! Failures that come after a channel had accepted, alone and against steps that are armed or on their way.

use std::sync::Arc;
use std::time::Duration;

use anypush_providers::contract::{
    Content, DeliveryMode, Descriptor, Failure, Hint, Notification, Reason, ReceiptEvent, Tier, VendorEcho,
    Witness,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{APP, Played, Rig, descriptor};
use crate::channels::Channel;
use crate::delivery::page::{Entry, Page};
use crate::delivery::plan::Plan;
use crate::delivery::spec::{Audience, Spec};
use crate::delivery::state::{Delivery, State, View};
use crate::delivery::trail::{self, TrailEntry};
use crate::delivery::{Parts, Pipeline, SendRequest};
use crate::ids::Id;
use crate::routing::{ChannelState, StepSpec};
use crate::store::{Changes, Store as _, VendorReceipt};
use crate::tasks::Tasks;

static SECOND: Descriptor = descriptor("second", Tier::Platform);
static THIRD: Descriptor = descriptor("third", Tier::Broker);

/// Three channels, in this order.
struct Three {
    rig: Rig,
    vendors: [Arc<Played>; 3],
    channels: [Arc<Channel>; 3],
}

impl Three {
    async fn new() -> Self {
        let rig = Rig::new().await;
        let (second, third) = (Arc::<Played>::default(), Arc::<Played>::default());
        let channels = [
            rig.channel.clone(),
            rig.channels.plant(APP, &SECOND, second.clone()).await,
            rig.channels.plant(APP, &THIRD, third.clone()).await,
        ];
        Self { vendors: [rig.played.clone(), second, third], channels, rig }
    }

    /// To one device, through these channels; each but the last waits for a minute for `delivered`.
    async fn send(&self, id: &str, steps: usize, delivery: Option<DeliveryMode>) -> Id {
        let notification = Some(Notification { title: Some("Hello".into()), ..Notification::default() });
        let uses = ["played", "second", "third"];
        let step = |uses: &&str| StepSpec {
            uses: (*uses).into(),
            wait_seconds: Some(60),
            until: Some(State::Delivered),
            ..StepSpec::default()
        };
        let spec = Spec {
            content: Arc::new(Content { notification, ..Content::default() }),
            steps: uses[..steps].iter().map(step).collect(),
            delivery,
            ttl_seconds: 3600,
            ..Spec::default()
        };
        let audience = Audience::Devices(vec![id.to_owned()]);
        let request = SendRequest { app: APP, spec, audience, label: None, idempotency: None };
        self.rig.pipeline.accept(request).await.unwrap().id
    }

    fn receipt(&self, message: Id, target: u64, channel: usize, reason: Reason) -> VendorReceipt {
        VendorReceipt {
            message,
            target,
            channel: self.channels[channel].record.seq,
            event: ReceiptEvent::failed(reason),
            witness: Witness::Vendor,
            received_at: self.rig.clock.now_ms(),
            vendor: VendorEcho::default(),
        }
    }

    /// A channel says that it failed after all.
    async fn fail(&self, message: Id, target: u64, channel: usize, reason: Reason) {
        let pipeline = &self.rig.pipeline;
        let changes =
            pipeline.failed_late(vec![self.receipt(message, target, channel, reason)]).await.unwrap();
        let work = changes.work.clone();
        self.rig.store.commit(changes).await.unwrap();
        pipeline.announce(&work);
    }

    /// Time passes, and everybody looks.
    fn pass(&self, seconds: u64) {
        self.rig.clock.advance(Duration::from_secs(seconds));
        self.look();
    }

    fn look(&self) {
        self.rig.pipeline.inner.escalate_bell.notify_one();
        for channel in &self.channels {
            self.rig.pipeline.nudge(channel.record.seq);
        }
    }

    /// How often each vendor was handed this token.
    fn handed(&self, token: &str) -> [usize; 3] {
        let count =
            |played: &Arc<Played>| played.sent.lock().unwrap().iter().filter(|(t, ..)| t == token).count();
        [0, 1, 2].map(|i| count(&self.vendors[i]))
    }

    async fn accepted_by(&self, message: Id, target: u64, channel: usize) -> Delivery {
        let seq = self.channels[channel].record.seq;
        self.rig.until(message, target, |row| row.state == State::Accepted && row.channel == seq).await
    }

    /// Time for all that could still happen at this moment.
    async fn settle(&self) {
        for _ in 0..15 {
            self.look();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn what_a_channel_fails_late_goes_on_to_the_next_one_however_often_the_vendor_says_so() {
    let three = Three::new().await;
    let target = three.rig.devices(&["a"]).await[0];
    let message = three.send("a", 2, None).await;
    three.accepted_by(message, target, 0).await;
    let said = three.receipt(message, target, 0, Reason::DeviceUnavailable);
    let again = three.rig.pipeline.failed_late(vec![said.clone(), said]).await.unwrap();
    let work = again.work.clone();
    three.rig.store.commit(again).await.unwrap();
    three.rig.pipeline.announce(&work);
    let row = three.accepted_by(message, target, 1).await;
    three.fail(message, target, 0, Reason::DeviceUnavailable).await;
    three.settle().await;
    assert_eq!(three.handed("a"), [1, 1, 0]);
    let later: Vec<_> = trail::decode(&row.trail)
        .into_iter()
        .filter(|entry| matches!(entry, TrailEntry::FailedLater { .. }))
        .collect();
    assert_eq!(later.len(), 1, "{later:?}");
    let counters = three.rig.store.counters(message).await.unwrap();
    let counted = |view, channel: usize| {
        let seq = three.channels[channel].record.seq;
        counters.iter().filter(|c| c.view == view && c.channel == seq).map(|c| c.n).sum::<u64>()
    };
    assert_eq!((counted(View::Now, 0), counted(View::Now, 1)), (0, 1));
    assert_eq!((counted(View::Reached, 0), counted(View::Reached, 1)), (1, 0), "it reached accepted once");
}

#[tokio::test]
async fn a_late_failure_and_the_step_armed_behind_it_send_once() {
    let three = Three::new().await;
    let target = three.rig.devices(&["a"]).await[0];
    three.vendors[1].script.lock().unwrap().insert(
        "a".into(),
        Failure::channel(Reason::RateLimited).hint(Hint::RetryAfter(Duration::from_mins(10))),
    );
    let message = three.send("a", 2, None).await;
    three.accepted_by(message, target, 0).await;
    three.fail(message, target, 0, Reason::DeviceUnavailable).await;
    three.rig.until(message, target, |row| row.reason == Some(Reason::RateLimited)).await;
    three.pass(61);
    three.settle().await;
    assert_eq!(three.handed("a"), [1, 1, 0], "between two tries of the second channel");
    three.vendors[1].script.lock().unwrap().clear();
    three.pass(600);
    three.settle().await;
    three.accepted_by(message, target, 1).await;
    three.pass(61);
    three.settle().await;
    assert_eq!(three.handed("a"), [1, 2, 0]);
}

#[tokio::test]
async fn a_failure_that_comes_while_the_next_step_is_on_its_way_leaves_it_that_step() {
    let three = Three::new().await;
    let targets = three.rig.devices(&["good", "bad"]).await;
    let limited = Failure::channel(Reason::RateLimited).hint(Hint::RetryAfter(Duration::from_mins(10)));
    for token in ["good", "bad"] {
        three.vendors[1].script.lock().unwrap().insert(token.into(), limited.clone());
    }
    let mut messages = Vec::new();
    for (token, target) in ["good", "bad"].into_iter().zip(&targets) {
        let message = three.send(token, 2, None).await;
        three.accepted_by(message, *target, 0).await;
        messages.push(message);
    }
    three.pass(61);
    for (message, target) in messages.iter().zip(&targets) {
        three.rig.until(*message, *target, |row| trail::decode(&row.trail).len() >= 5).await;
        three.fail(*message, *target, 0, Reason::DeviceUnavailable).await;
        three.rig.until(*message, *target, |row| row.state == State::Pending).await;
    }
    three.vendors[1].script.lock().unwrap().remove("good");
    three.vendors[1].script.lock().unwrap().insert("bad".into(), Failure::target(Reason::PayloadInvalid));
    three.pass(600);
    three.accepted_by(messages[0], targets[0], 1).await;
    let bad = three.rig.until(messages[1], targets[1], |row| row.state != State::Pending).await;
    assert_eq!(
        (bad.state, bad.reason),
        (State::Failed, Some(Reason::PayloadInvalid)),
        "nobody has it any more"
    );
    three.pass(61);
    three.pass(700);
    three.settle().await;
    assert_eq!((three.handed("good"), three.handed("bad")), ([1, 2, 0], [1, 2, 0]));
}

#[tokio::test]
async fn a_late_failure_without_a_further_step_or_after_the_time_to_live_ends_the_delivery() {
    let three = Three::new().await;
    let targets = three.rig.devices(&["last", "late"]).await;
    let last = three.send("last", 1, None).await;
    let late = three.send("late", 2, None).await;
    three.accepted_by(last, targets[0], 0).await;
    three.accepted_by(late, targets[1], 0).await;
    three.fail(last, targets[0], 0, Reason::DeviceUnavailable).await;
    let row = three.rig.until(last, targets[0], |row| row.state == State::Failed).await;
    assert_eq!(row.reason, Some(Reason::DeviceUnavailable));
    three.rig.clock.advance(Duration::from_secs(3601));
    three.fail(late, targets[1], 0, Reason::OptedOut).await;
    let row = three.rig.until(late, targets[1], |row| row.state == State::Failed).await;
    assert_eq!(row.reason, Some(Reason::OptedOut));
    assert_eq!((three.handed("last"), three.handed("late")), ([1, 0, 0], [1, 0, 0]));
}

#[tokio::test]
async fn at_most_once_goes_on_only_after_a_failure_that_is_certain() {
    let three = Three::new().await;
    let targets = three.rig.devices(&["certain", "doubtful"]).await;
    for (token, target, reason) in [
        ("certain", targets[0], Reason::UnreachableRecipient),
        ("doubtful", targets[1], Reason::Unclassified),
    ] {
        let message = three.send(token, 2, Some(DeliveryMode::AtMostOnce)).await;
        three.accepted_by(message, target, 0).await;
        three.fail(message, target, 0, reason).await;
        if token == "certain" {
            three.accepted_by(message, target, 1).await;
        } else {
            let row = three.rig.until(message, target, |row| row.state != State::Accepted).await;
            assert_eq!((row.state, row.reason), (State::Failed, Some(reason)));
        }
    }
    three.settle().await;
    assert_eq!((three.handed("certain"), three.handed("doubtful")), ([1, 1, 0], [1, 0, 0]));
}

#[tokio::test]
async fn a_page_taken_up_again_after_a_crash_leaves_out_what_was_failed_late_meanwhile() {
    let three = Three::new().await;
    let target = three.rig.devices(&["a"]).await[0];
    let limited = Failure::channel(Reason::RateLimited).hint(Hint::RetryAfter(Duration::from_mins(10)));
    three.vendors[1].script.lock().unwrap().insert("a".into(), limited);
    let message = three.send("a", 2, None).await;
    three.accepted_by(message, target, 0).await;
    three.fail(message, target, 0, Reason::DeviceUnavailable).await;
    three.rig.until(message, target, |row| row.reason == Some(Reason::RateLimited)).await;
    // What a crash between the outcome and the end of its page leaves behind.
    let inner = &three.rig.pipeline.inner;
    let job = inner.job(message).await.unwrap().unwrap();
    let page = Page { entries: vec![Entry { target, ..Entry::default() }], ..Page::default() };
    let mut work = inner.page_work(&job, three.channels[0].record.seq, &page, 0, 1);
    work.attempt = 1;
    three.rig.store.commit(Changes { work: vec![work], ..Changes::default() }).await.unwrap();
    three.settle().await;
    assert_eq!(three.handed("a"), [1, 1, 0]);
}

#[tokio::test]
async fn a_target_that_is_deferred_waits_as_work_and_is_decided_anew_at_its_time_also_by_the_next_life() {
    let three = Three::new().await;
    let target = three.rig.devices(&["a"]).await[0];
    let message = three.send("nobody", 2, None).await;
    let inner = &three.rig.pipeline.inner;
    let job = inner.job(message).await.unwrap().unwrap();
    let mut plan = Plan::default();
    plan.defer(three.rig.clock.now_ms() + 600_000, None, Entry { target, ..Entry::default() });
    let work = plan.work(inner, &job);
    let changes = Changes { work: work.clone(), expanded: vec![(message, 1, None)], ..Changes::default() };
    three.rig.store.commit(changes).await.unwrap();
    three.rig.pipeline.announce(&work);
    three.pass(599);
    three.settle().await;
    assert_eq!(three.handed("a"), [0, 0, 0]);
    let first = three.channels[0].record.seq;
    inner.parts.tasks.stop();
    three.rig.pipeline.stop(Duration::from_secs(5)).await;
    assert!(inner.parts.tasks.wait(Duration::from_secs(5)).await);
    three.rig.channels.set_state(first, ChannelState::AuthFailed, None).await.unwrap();
    three.rig.clock.advance(Duration::from_secs(2));
    let parts = Parts { tasks: Tasks::default(), ..inner.parts.clone() };
    let _next_life = Pipeline::start(parts).await.unwrap();
    three.accepted_by(message, target, 1).await;
    assert_eq!(three.handed("a"), [0, 1, 0], "the first channel of its route is in trouble by now");
}

#[tokio::test]
async fn what_a_vendor_let_go_because_nobody_wants_it_any_more_ends_and_is_sent_to_nobody_else() {
    let three = Three::new().await;
    let ends = [
        ("old", Reason::Superseded, State::Suppressed),
        ("over", Reason::Expired, State::Expired),
        ("back", Reason::Cancelled, State::Cancelled),
    ];
    let targets = three.rig.devices(&ends.map(|(token, ..)| token)).await;
    for ((token, reason, state), target) in ends.into_iter().zip(targets) {
        let message = three.send(token, 3, None).await;
        three.accepted_by(message, target, 0).await;
        let event = ReceiptEvent::ended(reason);
        let said = VendorReceipt { event, ..three.receipt(message, target, 0, reason) };
        let changes = three.rig.pipeline.failed_late(vec![said]).await.unwrap();
        assert!(changes.work.is_empty() && changes.late.is_empty());
        three.rig.store.commit(changes).await.unwrap();
        let row = three.rig.until(message, target, |row| row.state != State::Accepted).await;
        assert_eq!((row.state, row.reason), (state, Some(reason)));
        let told = trail::decode(&row.trail);
        assert!(
            matches!(
                &told[told.len() - 2..],
                [TrailEntry::FailedLater { .. }, TrailEntry::Ended { reason: why, .. }] if *why == reason
            ),
            "{told:?}"
        );
    }
    // What was armed behind it finds nothing to do.
    three.pass(61);
    three.settle().await;
    for (token, ..) in ends {
        assert_eq!(three.handed(token), [1, 0, 0], "{token}");
    }
}

/// What happens next in a play of chance.
#[derive(Debug, Clone)]
enum Turn {
    /// A channel says that it failed after all.
    Fail(usize),
    /// So many seconds pass.
    Pass(u64),
    /// From now on the channel answers so.
    Answer(usize, u8),
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        3 => Just(Turn::Fail(0)),
        1 => (1..3usize).prop_map(Turn::Fail),
        3 => prop::sample::select(vec![5, 31, 61, 61]).prop_map(Turn::Pass),
        2 => (1..3usize, 0..3u8).prop_map(|(channel, how)| Turn::Answer(channel, how)),
    ]
}

/// Late failures, armed steps and tries in any order: no channel that took it is asked again, and all of it ends.
#[test]
fn no_order_of_late_failures_and_armed_steps_sends_twice_or_leaves_anything_pending() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let tries = runner.run(&prop::collection::vec(turn(), 4..12), |turns| {
        runtime.block_on(async {
            let three = Three::new().await;
            let target = three.rig.devices(&["a"]).await[0];
            let later = Failure::target(Reason::RateLimited).hint(Hint::RetryAfter(Duration::from_secs(30)));
            three.vendors[1].script.lock().unwrap().insert("a".into(), later);
            let message = three.send("a", 3, None).await;
            for turn in &turns {
                match turn {
                    Turn::Fail(channel) => {
                        three.fail(message, target, *channel, Reason::DeviceUnavailable).await;
                    }
                    Turn::Pass(seconds) => three.pass(*seconds),
                    Turn::Answer(channel, how) => {
                        let mut script = three.vendors[*channel].script.lock().unwrap();
                        let later = Hint::RetryAfter(Duration::from_secs(30));
                        match how {
                            0 => drop(script.remove("a")),
                            1 => drop(
                                script.insert("a".into(), Failure::target(Reason::RateLimited).hint(later)),
                            ),
                            _ => drop(script.insert("a".into(), Failure::target(Reason::ContentRejected))),
                        }
                    }
                }
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            three.rig.clock.advance(Duration::from_hours(2));
            let row = three.rig.until_looking(message, target, || three.look()).await;
            for (channel, vendor) in three.vendors.iter().enumerate() {
                let took = vendor.took.lock().unwrap().iter().filter(|token| *token == "a").count();
                prop_assert!(
                    took <= 1,
                    "channel {} took it {} times: {:?}",
                    channel,
                    took,
                    trail::decode(&row.trail)
                );
            }
            let counters = three.rig.store.counters(message).await.unwrap();
            let now: u64 = counters.iter().filter(|c| c.view == View::Now).map(|c| c.n).sum();
            prop_assert_eq!(now, 1);
            Ok(())
        })
    });
    tries.unwrap();
}
