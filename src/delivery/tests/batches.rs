//! Vendors that take many targets in one request, and adapters that get their answer wrong.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anypush_providers::contract::{
    AddressSpec, Batch, Capabilities, CheckReport, Descriptor, Failure, Outcome, Outcomes, Preview, Provider,
    Reason, SendContext, Tier, VendorEcho, Verdict,
};
use async_trait::async_trait;

use super::super::{Parts, Pipeline};
use super::{APP, Rig};
use crate::channels::Channel;
use crate::delivery::state::{Delivery, State};
use crate::direct::Hub;
use crate::ids::Id;
use crate::store::{DeviceFilter, DevicePut, NewAddress, Store as _, WorkKind};
use crate::tasks::Tasks;

pub(super) static BATCHES: Descriptor = Descriptor {
    id: "played_batch",
    name: "Played, many at once",
    tier: Tier::Maker,
    capabilities: Capabilities {
        notification: true,
        max_targets: 4,
        max_in_flight: 100,
        max_ttl: Duration::from_hours(24),
        ttl_unit: Duration::from_secs(1),
        ..Capabilities::NONE
    },
    address: AddressSpec {
        provider: "played_batch",
        kinds: &["token"],
        special: &[],
        max_token_bytes: 100,
        params: &[],
    },
    quotas: &[],
};

/// What the vendor says to one request: (index of the target, verdict). `None`: it takes the request, and the process
/// dies before the answer is there.
pub(super) type Answer = Option<Vec<(usize, Verdict)>>;

/// Gives the answers of its script, one for each request; without one, all are accepted.
#[derive(Default)]
pub(super) struct Vendor {
    script: Mutex<VecDeque<Answer>>,
    /// (tokens, key of the request, attempt), in order.
    asked: Mutex<Vec<(Vec<String>, u128, u32)>>,
}

#[async_trait]
impl Provider for Vendor {
    async fn send(&self, batch: Batch, context: SendContext, outcomes: Outcomes) {
        let _pass = context.gate.pass(batch.targets.len()).await;
        let tokens = batch.targets.iter().map(|target| target.address.token.expose().to_owned()).collect();
        self.asked.lock().unwrap().push((tokens, batch.message.page_key, batch.attempt));
        let all = || (0..batch.targets.len()).map(|at| (at, Verdict::Accepted)).collect();
        let answer = self.script.lock().unwrap().pop_front().unwrap_or_else(|| Some(all()));
        let Some(answer) = answer else { return std::future::pending().await };
        for (target, verdict) in answer {
            outcomes.push(Outcome {
                target,
                verdict,
                vendor: VendorEcho::default(),
                latency: Duration::from_millis(1),
            });
        }
    }

    async fn check(&self, _: SendContext) -> CheckReport {
        CheckReport { ok: true, detail: String::new(), reason: None, warnings: Vec::new() }
    }

    fn preview(&self, _: &Batch, _: &SendContext) -> Option<Preview> {
        None
    }

    fn credential(&self) -> String {
        "played batch".into()
    }
}

pub(super) fn no(reason: Reason) -> Verdict {
    Verdict::Failed(Failure::target(reason))
}

/// A rig whose devices are reached by the batch vendor.
pub(super) struct Batches {
    pub(super) rig: Rig,
    vendor: Arc<Vendor>,
    pub(super) channel: Arc<Channel>,
    targets: Vec<u64>,
}

impl Batches {
    pub(super) async fn new(tokens: &[&str], script: Vec<Answer>) -> Self {
        let rig = Rig::new().await;
        let vendor = Arc::new(Vendor { script: Mutex::new(script.into()), ..Vendor::default() });
        let channel = rig.channels.plant(APP, &BATCHES, vendor.clone()).await;
        let device = |token: &&str| DevicePut {
            id: (*token).into(),
            enabled: true,
            addresses: vec![NewAddress {
                provider: "played_batch".into(),
                kind: "token".into(),
                token: (*token).into(),
                params: std::collections::BTreeMap::new(),
            }],
            ..DevicePut::default()
        };
        let made = rig.store.put_devices(APP, tokens.iter().map(device).collect(), 0).await.unwrap();
        Self { rig, vendor, channel, targets: made.iter().map(|device| device.seq).collect() }
    }

    pub(super) fn asked(&self) -> Vec<(Vec<String>, u128, u32)> {
        self.vendor.asked.lock().unwrap().clone()
    }

    /// Waits until a target is recorded so.
    pub(super) async fn is(&self, message: Id, at: usize, state: State, reason: Option<Reason>) {
        let fits = |d: &Delivery| (d.state, d.reason) == (state, reason);
        self.rig.until(message, self.targets[at], fits).await;
    }

    /// Waits until a target's row fits.
    pub(super) async fn row(&self, message: Id, at: usize, fits: impl Fn(&Delivery) -> bool) -> Delivery {
        self.rig.until(message, self.targets[at], fits).await
    }

    /// Waits until a target is in this state, looking again and again.
    pub(super) async fn until_looking(&self, message: Id, at: usize, state: State, look: impl Fn()) {
        let target = [self.targets[at]];
        for _ in 0..600 {
            let rows = self.rig.store.deliveries_of(message, &target).await.unwrap();
            if rows.iter().any(|row| row.state == state) {
                return;
            }
            look();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{:?}", self.rig.store.deliveries_of(message, &target).await);
    }

    /// Waits until work of this kind waits in the store.
    pub(super) async fn until_due(&self, kind: WorkKind, channel: i64) {
        for _ in 0..3000 {
            if self.rig.store.next_due(kind, channel).await.unwrap().is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nothing waits");
    }

    /// Waits until the vendor was asked so often.
    pub(super) async fn until_asked(&self, times: usize) {
        for _ in 0..3000 {
            if self.asked().len() >= times {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?}", self.asked());
    }

    /// The next life on the same data: what the one before has in hand stays there for good, as after a kill.
    pub(super) async fn next_life(&self) -> Pipeline {
        let before = &self.rig.pipeline.inner.parts;
        let parts = Parts { tasks: Tasks::default(), hub: Hub::default(), ..before.clone() };
        Pipeline::start(parts).await.unwrap()
    }

    /// Lets what waits be due.
    fn later(&self) {
        self.rig.clock.advance(Duration::from_mins(1));
        self.rig.pipeline.nudge(self.channel.record.seq);
    }

    async fn active(&self) -> Vec<bool> {
        let listed = self.rig.store.devices(APP, &DeviceFilter::default(), 0, 100).await.unwrap();
        listed.iter().map(|device| device.addresses[0].active).collect()
    }

    /// Σ counters = rows, in both views.
    pub(super) async fn adds_up(&self, message: Id) {
        let rows = self.rig.store.deliveries_of(message, &self.targets).await.unwrap();
        let counters = self.rig.store.counters(message).await.unwrap();
        let now = counters.iter().filter(|c| c.view == crate::delivery::state::View::Now).map(|c| c.n);
        assert_eq!(now.sum::<u64>(), rows.iter().filter(|row| row.state != State::Pending).count() as u64);
    }
}

#[tokio::test]
async fn what_an_answer_leaves_out_is_asked_again_and_what_it_adds_counts_for_nothing() {
    let answer = vec![
        (0, Verdict::Accepted),
        // The first word holds: a second one is a vendor's list with a token in it twice.
        (0, no(Reason::InvalidToken)),
        (2, no(Reason::InvalidToken)),
        (2, Verdict::Accepted),
        (4, Verdict::Accepted),
        (9, no(Reason::InvalidToken)),
        (usize::MAX, Verdict::Accepted),
    ];
    let world = Batches::new(&["a", "b", "c", "d"], vec![Some(answer)]).await;
    let message = world.rig.send(&["a", "b", "c", "d"], 3600).await;
    world.is(message, 0, State::Accepted, None).await;
    world.is(message, 2, State::Failed, Some(Reason::InvalidToken)).await;
    for missing in [1, 3] {
        world.is(message, missing, State::Pending, Some(Reason::ProtocolError)).await;
    }
    world.later();
    for missing in [1, 3] {
        world.is(message, missing, State::Accepted, None).await;
    }
    let asked = world.asked();
    let tokens: Vec<_> = asked.iter().map(|(tokens, _, attempt)| (tokens.join(""), *attempt)).collect();
    assert_eq!(tokens, [("abcd".into(), 1), ("bd".into(), 2)]);
    assert_eq!(world.active().await, [true, true, false, true], "only what was said of a target is believed");
    world.adds_up(message).await;
}

#[tokio::test]
async fn an_answer_that_says_nothing_of_anybody_is_given_up_after_a_few_tries() {
    let world = Batches::new(&["a", "b"], vec![Some(Vec::new()); 20]).await;
    let message = world.rig.send(&["a", "b"], 36_000).await;
    for _ in 0..300 {
        let rows = world.rig.store.deliveries_of(message, &world.targets).await.unwrap();
        if rows.len() == 2 && rows.iter().all(|row| row.state != State::Pending) {
            break;
        }
        world.later();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for at in 0..2 {
        world.is(message, at, State::Failed, Some(Reason::ProtocolError)).await;
    }
    for token in ["a", "b"] {
        let asked = world.asked();
        let tries = asked.iter().filter(|(tokens, ..)| tokens.iter().any(|asked| asked == token)).count();
        assert_eq!(tries, 5, "{asked:?}");
    }
    assert_eq!(world.active().await, [true, true], "nobody called a token dead");
    world.adds_up(message).await;
}

#[tokio::test]
async fn requests_of_one_page_have_keys_of_their_own() {
    let tokens: Vec<_> = ('a'..='j').map(String::from).collect();
    let tokens: Vec<_> = tokens.iter().map(String::as_str).collect();
    let world = Batches::new(&tokens, Vec::new()).await;
    let message = world.rig.send(&tokens, 3600).await;
    for at in 0..tokens.len() {
        world.is(message, at, State::Accepted, None).await;
    }
    let asked = world.asked();
    assert_eq!(asked.iter().map(|(tokens, ..)| tokens.len()).collect::<Vec<_>>(), [4, 4, 2]);
    let keys: HashSet<_> = asked.iter().map(|(_, key, _)| key).collect();
    assert_eq!(keys.len(), 3, "a vendor that drops what it has seen would drop the rest of the page");
}

#[tokio::test]
async fn an_answer_that_died_with_the_process_is_learned_from_the_same_request_again() {
    let answer = vec![(0, Verdict::Accepted), (1, no(Reason::InvalidToken)), (2, Verdict::Accepted)];
    let world = Batches::new(&["a", "b", "c"], vec![None, Some(answer)]).await;
    let message = world.rig.send(&["a", "b", "c"], 3600).await;
    world.until_asked(1).await;
    let _again = world.next_life().await;
    world.is(message, 0, State::Accepted, None).await;
    world.is(message, 1, State::Failed, Some(Reason::InvalidToken)).await;
    world.is(message, 2, State::Accepted, None).await;
    let asked = world.asked();
    assert_eq!((asked.len(), &asked[0]), (2, &asked[1]), "the same targets under the same key");
    assert_eq!(world.active().await, [true, false, true]);
    let retired = world.rig.store.devices(APP, &DeviceFilter::default(), 0, 100).await.unwrap().remove(1);
    assert_eq!(retired.addresses.len(), 1, "retired once: {retired:?}");
    world.adds_up(message).await;
}
