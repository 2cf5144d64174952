//! Targets about which their vendor is silent: whoever else is in their page, or behind it, does not wait for them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anypush_providers::contract::{
    AddressSpec, Batch, Capabilities, CheckReport, Content, DeliveryMode, Descriptor, Failure, Hint, Outcome,
    Outcomes, Preview, Provider, Reason, SendContext, Tier, VendorEcho, Verdict,
};
use async_trait::async_trait;
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use tokio::sync::watch;

use super::{APP, Rig, descriptor};
use crate::channels::Channel;
use crate::delivery::spec::Spec;
use crate::delivery::state::{Delivery, State};
use crate::delivery::{Parts, Pipeline};
use crate::direct::Hub;
use crate::ids::Id;
use crate::store::{DevicePut, Lease, NewAddress, Store as _, WorkKind};
use crate::tasks::Tasks;

static VENDOR: Descriptor = Descriptor {
    capabilities: Capabilities { max_in_flight: 1000, ..descriptor("", Tier::Maker).capabilities },
    address: AddressSpec {
        provider: "mutes",
        kinds: &["token"],
        special: &[],
        max_token_bytes: 100,
        params: &[],
    },
    quotas: &[],
    ..descriptor("mutes", Tier::Maker)
};

/// Accepts at once; about tokens that begin with `mute` it says nothing until it is told to, and those that begin with
/// `busy` it refuses once.
struct Vendor {
    word: watch::Sender<Option<Verdict>>,
    /// (token, message, key), in order.
    asked: Mutex<Vec<(String, String, u128)>>,
    /// How many wait for an answer, and the most that did at a time.
    under_way: Mutex<(usize, usize)>,
}

impl Vendor {
    async fn answer(&self, token: &str, is_first: bool) -> Verdict {
        if token.starts_with("busy") && is_first {
            let later = Hint::RetryAfter(Duration::from_secs(2));
            return Verdict::Failed(Failure::target(Reason::RateLimited).hint(later));
        }
        if !token.starts_with("mute") {
            return Verdict::Accepted;
        }
        let mut word = self.word.subscribe();
        let told = word.wait_for(Option::is_some).await.map(|word| word.clone());
        told.ok().flatten().unwrap_or(Verdict::Accepted)
    }
}

#[async_trait]
impl Provider for Vendor {
    async fn send(&self, batch: Batch, context: SendContext, outcomes: Outcomes) {
        let (batch, context, outcomes) = (&batch, &context, &outcomes);
        stream::iter(batch.targets.iter().enumerate())
            .for_each_concurrent(1000, async |(target, given)| {
                let token = given.address.token.expose();
                let pass = context.gate.pass(1).await;
                let verdict = if let Err(reason) = pass {
                    Verdict::Failed(Failure::channel(reason))
                } else {
                    self.asked.lock().unwrap().push((token.into(), batch.message.id.clone(), given.key));
                    {
                        let mut under_way = self.under_way.lock().unwrap();
                        under_way.0 += 1;
                        under_way.1 = under_way.1.max(under_way.0);
                    }
                    let verdict = self.answer(token, batch.attempt == 1).await;
                    self.under_way.lock().unwrap().0 -= 1;
                    verdict
                };
                let (vendor, latency) = (VendorEcho::default(), Duration::ZERO);
                outcomes.push(Outcome { target, verdict, vendor, latency });
            })
            .await;
    }

    async fn check(&self, _: SendContext) -> CheckReport {
        CheckReport { ok: true, detail: String::new(), reason: None, warnings: Vec::new() }
    }

    fn preview(&self, _: &Batch, _: &SendContext) -> Option<Preview> {
        None
    }

    fn credential(&self) -> String {
        "mutes".into()
    }
}

struct Mutes {
    rig: Rig,
    vendor: Arc<Vendor>,
    channel: Arc<Channel>,
    tokens: Vec<String>,
    targets: Vec<u64>,
}

/// Devices with so many tokens of a kind.
fn some(kind: &str, count: usize) -> Vec<String> {
    (0..count).map(|i| format!("{kind}-{i}")).collect()
}

impl Mutes {
    async fn new(tokens: Vec<String>) -> Self {
        let rig = Rig::new().await;
        let vendor =
            Vendor { word: watch::Sender::new(None), asked: Mutex::default(), under_way: Mutex::default() };
        let vendor = Arc::new(vendor);
        let channel = rig.channels.plant(APP, &VENDOR, vendor.clone()).await;
        let device = |token: &String| DevicePut {
            id: token.clone(),
            enabled: true,
            addresses: vec![NewAddress {
                provider: "mutes".into(),
                kind: "token".into(),
                token: token.clone(),
                params: BTreeMap::new(),
            }],
            ..DevicePut::default()
        };
        let made = rig.store.put_devices(APP, tokens.iter().map(device).collect(), 0).await.unwrap();
        Self { rig, vendor, channel, tokens, targets: made.iter().map(|device| device.seq).collect() }
    }

    /// Sends to all of these.
    async fn send(&self, tokens: &[String], delivery: DeliveryMode) -> Id {
        self.send_so(tokens, Spec { delivery: Some(delivery), ..Spec::default() }).await
    }

    async fn send_so(&self, tokens: &[String], spec: Spec) -> Id {
        let tokens: Vec<_> = tokens.iter().map(String::as_str).collect();
        self.rig.send_so(&tokens, Spec { ttl_seconds: 36_000, ..spec }).await
    }

    fn target(&self, token: &str) -> u64 {
        self.targets[self.tokens.iter().position(|known| known == token).unwrap()]
    }

    /// Waits until the vendor was asked so often for a token.
    async fn until_asked(&self, token: &str, times: usize) {
        for _ in 0..3000 {
            if self.times(token) == times {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} times for {token}", self.times(token));
    }

    /// How often the vendor was asked for a token.
    fn times(&self, token: &str) -> usize {
        self.vendor.asked.lock().unwrap().iter().filter(|(asked, ..)| asked == token).count()
    }

    async fn rows(&self, message: Id) -> Vec<Delivery> {
        self.rig.store.deliveries_of(message, &self.targets).await.unwrap()
    }

    /// Waits until so many targets of a message are in this state.
    async fn until(&self, message: Id, count: usize, state: State) {
        let mut found = 0;
        for _ in 0..3000 {
            found = self.rows(message).await.iter().filter(|row| row.state == state).count();
            if found == count {
                return;
            }
            self.rig.pipeline.nudge(self.channel.record.seq);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{found} of {count} are {state:?}");
    }

    /// Waits until no work is left, and what the vendor was told to say is on disk.
    async fn until_idle(&self) {
        for _ in 0..3000 {
            if self.rig.store.backlog().await.unwrap().is_empty() {
                return;
            }
            self.rig.pipeline.nudge(self.channel.record.seq);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?}", self.rig.store.backlog().await);
    }

    fn says(&self, verdict: Verdict) {
        self.vendor.word.send_replace(Some(verdict));
    }

    /// The next life on the same data: what the one before has in hand stays there for good, as after a kill.
    async fn next_life(&self) -> Pipeline {
        let before = &self.rig.pipeline.inner.parts;
        let parts = Parts { tasks: Tasks::default(), hub: Hub::default(), ..before.clone() };
        Pipeline::start(parts).await.unwrap()
    }
}

/// A long page's worth of tokens, a silent one among them.
fn long() -> Vec<String> {
    let mut tokens = some("ok", 399);
    tokens.insert(200, "mute-0".into());
    tokens
}

#[tokio::test]
async fn long_pages_with_a_silent_target_each_hold_up_none_behind_them() {
    let world = Mutes::new(long()).await;
    let mut messages = Vec::new();
    for _ in 0..16 {
        messages.push(world.send(&long(), DeliveryMode::AtLeastOnce).await);
    }
    for message in &messages {
        world.until(*message, 399, State::Accepted).await;
    }
    assert_eq!(world.vendor.under_way.lock().unwrap().0, 16, "the silent ones are silent still");
    world.says(Verdict::Accepted);
    for message in &messages {
        world.until(*message, 400, State::Accepted).await;
    }
    world.until_idle().await;
    assert_eq!(world.vendor.asked.lock().unwrap().len(), 16 * 400);
}

#[tokio::test]
async fn a_login_code_does_not_wait_for_a_hundred_others_whose_phones_are_silent() {
    let world = Mutes::new(vec!["mute-0".into(), "ok-0".into()]).await;
    for _ in 0..100 {
        world.send(&some("mute", 1), DeliveryMode::AtLeastOnce).await;
    }
    let code = world.send(&some("ok", 1), DeliveryMode::AtLeastOnce).await;
    world.until(code, 1, State::Accepted).await;
    world.says(Verdict::Accepted);
    world.until_idle().await;
    assert_eq!((world.times("mute-0"), world.times("ok-0")), (100, 1));
}

#[tokio::test]
async fn login_codes_behind_a_slow_vendor_wait_on_disk_and_not_in_memory() {
    let world = Mutes::new(some("mute", 1)).await;
    let mute = some("mute", 1);
    for _ in 0..16 {
        join_all((0..100).map(|_| world.send(&mute, DeliveryMode::AtLeastOnce))).await;
    }
    let (channel, inner) = (world.channel.record.seq, &world.rig.pipeline.inner);
    let (mut looks, mut looks_after) = (0, 0);
    // The desk goes on looking into the store when the vendor has all that it takes at a time.
    while looks < 3000 && looks_after < 30 {
        world.rig.pipeline.nudge(channel);
        tokio::time::sleep(Duration::from_millis(10)).await;
        looks += 1;
        looks_after += usize::from(world.times("mute-0") == 1000);
    }
    let (now_ms, epoch) = (inner.now_ms(), inner.epoch);
    let (until_ms, limit) = (now_ms + 1000, 10_000);
    let free = Lease { kind: WorkKind::Page, channel, lane: None, node: 9, epoch, now_ms, until_ms, limit };
    let free = world.rig.store.lease(free).await.unwrap().len();
    // 1000 are with the vendor, and 128 are in memory or wait for their turn.
    assert!((400..=600).contains(&free), "{free} of 1600 wait on disk");
}

#[tokio::test]
async fn more_silence_than_a_tail_may_have_keeps_its_page_in_its_place() {
    let mut tokens = some("mute", 200);
    tokens.extend(some("ok", 500));
    let world = Mutes::new(tokens).await;
    for _ in 0..4 {
        world.send(&world.tokens[..300], DeliveryMode::AtLeastOnce).await;
    }
    let behind = world.send(&world.tokens[300..], DeliveryMode::AtLeastOnce).await;
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(world.rows(behind).await.is_empty(), "what is in hand has no bound");
    }
    world.says(Verdict::Accepted);
    world.until(behind, 400, State::Accepted).await;
    world.until_idle().await;
}

#[tokio::test]
async fn who_is_told_to_come_again_does_not_wait_for_the_silent_one_of_its_page() {
    let world = Mutes::new(vec!["busy-0".into(), "mute-0".into(), "ok-0".into()]).await;
    let message = world.send(&world.tokens, DeliveryMode::AtLeastOnce).await;
    world.until(message, 1, State::Accepted).await;
    world.until(message, 1, State::Pending).await;
    for _ in 0..3000 {
        if world.rig.store.next_due(WorkKind::Page, world.channel.record.seq).await.unwrap().is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.rig.clock.advance(Duration::from_secs(3));
    world.until(message, 2, State::Accepted).await;
    assert_eq!((world.times("busy-0"), world.times("mute-0"), world.times("ok-0")), (2, 1, 1));
    world.says(Verdict::Accepted);
    world.until(message, 3, State::Accepted).await;
    world.until_idle().await;
}

#[tokio::test]
async fn after_a_crash_only_the_silent_are_asked_again_under_their_key() {
    let world = Mutes::new(long()).await;
    let message = world.send(&long(), DeliveryMode::AtLeastOnce).await;
    world.until(message, 399, State::Accepted).await;
    // Until the page has made way.
    tokio::time::sleep(Duration::from_millis(600)).await;
    let _again = world.next_life().await;
    world.until_asked("mute-0", 2).await;
    world.says(Verdict::Accepted);
    world.until(message, 400, State::Accepted).await;
    world.until_idle().await;
    let asked = world.vendor.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 401, "nobody else");
    let of_mute: Vec<_> = asked.iter().filter(|(token, ..)| token == "mute-0").collect();
    assert_eq!(of_mute[0], of_mute[1]);
}

#[tokio::test]
async fn after_a_crash_the_silent_end_unknown_where_nothing_may_be_repeated() {
    let mut tokens = long();
    tokens.push("busy-0".into());
    let world = Mutes::new(tokens).await;
    let message = world.send(&world.tokens, DeliveryMode::AtMostOnce).await;
    world.until(message, 399, State::Accepted).await;
    world.until(message, 1, State::Pending).await;
    for _ in 0..3000 {
        if world.rig.store.next_due(WorkKind::Page, world.channel.record.seq).await.unwrap().is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let again = world.next_life().await;
    world.until(message, 1, State::Unknown).await;
    // Who was refused for certain had left the page, and comes again.
    world.rig.clock.advance(Duration::from_secs(3));
    again.nudge(world.channel.record.seq);
    world.until(message, 400, State::Accepted).await;
    let row = world.rig.until(message, world.target("mute-0"), |row| row.state == State::Unknown).await;
    assert_eq!(row.reason, Some(Reason::VendorUnavailable));
    assert_eq!((world.times("mute-0"), world.times("busy-0"), world.times("ok-7")), (1, 2, 1));
}

#[tokio::test]
async fn silent_targets_do_not_hold_up_the_rest_of_a_page_at_most_once_and_no_more_are_under_way() {
    let mut tokens = some("ok", 580);
    (0..20).for_each(|i| tokens.insert(i * 30, format!("mute-{i}")));
    let world = Mutes::new(tokens).await;
    let message = world.send(&world.tokens, DeliveryMode::AtMostOnce).await;
    world.until(message, 580, State::Accepted).await;
    let (under_way, most) = *world.vendor.under_way.lock().unwrap();
    assert_eq!(under_way, 20);
    assert!(most <= 64, "{most} may be lost with the process");
    world.says(Verdict::Failed(Failure::channel(Reason::VendorUnavailable).doubtful()));
    world.until(message, 20, State::Unknown).await;
    world.until_idle().await;
    assert_eq!(world.vendor.asked.lock().unwrap().len(), 600);
}

#[tokio::test]
async fn a_cancel_takes_nothing_from_the_accepted_and_ends_the_silent_when_their_answer_is_a_no() {
    let world = Mutes::new(long()).await;
    let message = world.send(&long(), DeliveryMode::AtLeastOnce).await;
    world.until(message, 399, State::Accepted).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    world.rig.pipeline.cancel(message).await.unwrap();
    assert_eq!(world.rows(message).await.len(), 399, "its request is under way still");
    world.says(Verdict::Failed(Failure::channel(Reason::VendorUnavailable).doubtful()));
    world.until(message, 1, State::Cancelled).await;
    world.until(message, 399, State::Accepted).await;
    world.until_idle().await;
    assert_eq!(world.times("mute-0"), 1);
}

#[tokio::test]
async fn a_silent_target_whose_time_is_over_ends_expired_and_is_not_asked_again() {
    let world = Mutes::new(long()).await;
    let message = world.send(&long(), DeliveryMode::AtLeastOnce).await;
    world.until(message, 399, State::Accepted).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    world.rig.clock.advance(Duration::from_hours(11));
    world.says(Verdict::Failed(Failure::channel(Reason::VendorUnavailable).doubtful()));
    world.until(message, 1, State::Expired).await;
    world.until_idle().await;
    assert_eq!(world.times("mute-0"), 1);
}

#[tokio::test]
async fn a_stop_waits_for_the_silent_within_its_grace_and_leaves_the_rest_to_the_next_life() {
    for answers in [true, false] {
        let world = Mutes::new(long()).await;
        let message = world.send(&long(), DeliveryMode::AtLeastOnce).await;
        world.until(message, 399, State::Accepted).await;
        tokio::time::sleep(Duration::from_millis(600)).await;
        let pipeline = world.rig.pipeline.clone();
        pipeline.inner.parts.tasks.stop();
        let stop = pipeline.stop(Duration::from_secs(if answers { 60 } else { 1 }));
        let later = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            if answers {
                world.says(Verdict::Accepted);
            }
        };
        tokio::join!(stop, later);
        let _again = world.next_life().await;
        if answers {
            assert_eq!(world.rows(message).await.len(), 400);
        } else {
            world.until_asked("mute-0", 2).await;
        }
        world.says(Verdict::Accepted);
        world.until(message, 400, State::Accepted).await;
        assert_eq!(world.times("mute-0"), if answers { 1 } else { 2 });
    }
}

#[tokio::test]
async fn a_newer_message_of_a_key_waits_for_the_silent_target_alone() {
    let world = Mutes::new(vec!["mute-0".into(), "ok-0".into()]).await;
    let keyed = || {
        let content = Content { collapse_key: Some("score".into()), ..Content::default() };
        Spec { content: content.into(), ..Spec::default() }
    };
    let older = world.send_so(&world.tokens, keyed()).await;
    world.until(older, 1, State::Accepted).await;
    let newer = world.send_so(&world.tokens, keyed()).await;
    world.rig.until(newer, world.target("ok-0"), |row| row.state == State::Accepted).await;
    assert_eq!((world.times("mute-0"), world.times("ok-0")), (1, 2));
    world.says(Verdict::Accepted);
    let look = || {
        world.rig.clock.advance(Duration::from_secs(1));
        world.rig.pipeline.nudge(world.channel.record.seq);
    };
    let last = world.rig.until_looking(newer, world.target("mute-0"), look).await;
    assert_eq!(last.state, State::Accepted);
    let of_mute: Vec<_> =
        world.vendor.asked.lock().unwrap().iter().filter(|a| a.0 == "mute-0").map(|a| a.1.clone()).collect();
    let codec = &world.rig.pipeline.inner.parts.codec;
    let ids = [older, newer].map(|id| codec.encode(crate::ids::Kind::Message, id));
    assert_eq!(of_mute, ids, "in their order");
}
