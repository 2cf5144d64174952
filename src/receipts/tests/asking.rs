//! Vendors that are asked what became of messages: when, about whom, and what their answers do.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anypush_providers::contract::{
    AddressSpec, Batch, Capabilities, CheckReport, Content, Descriptor, Failure, Hint, Outcome, Outcomes,
    Preview, Provider, Reason, Receipt, ReceiptEvent, ReceiptKey, Receipts as How, SendContext, Tier,
    VendorEcho, Verdict, Witness,
};
use async_trait::async_trait;

use super::super::poll;
use super::{NOW, World};
use crate::channels::Channel;
use crate::delivery::SendRequest;
use crate::delivery::spec::{Audience, Spec};
use crate::delivery::state::State;
use crate::ids::Id;
use crate::routing::StepSpec;
use crate::store::{DevicePut, NewAddress, WorkKind};

const fn descriptor(id: &'static str, receipts: How) -> Descriptor {
    Descriptor {
        id,
        name: "Asked",
        tier: Tier::Platform,
        capabilities: Capabilities {
            data: true,
            max_targets: 10,
            receipts,
            receipt_key: ReceiptKey::VendorId,
            polls_receipts: true,
            ..Capabilities::NONE
        },
        address: AddressSpec {
            provider: "asked",
            kinds: &["token"],
            special: &[],
            max_token_bytes: 100,
            params: &[],
        },
        quotas: &[],
    }
}

static ASKED: Descriptor = descriptor("asked", How::Poll);
static SECOND: Descriptor = descriptor("second", How::Poll);
static CALLS_TOO: Descriptor = descriptor("calls_too", How::Callback);

/// Accepts everything; says what it is told to say.
#[derive(Default)]
struct Vendor {
    says: Mutex<HashMap<String, ReceiptEvent>>,
    refuses: Mutex<Option<Failure>>,
    /// Ids, in order.
    asked: Mutex<Vec<String>>,
    sent: Mutex<Vec<String>>,
    /// One id for all of a request.
    one_id: bool,
}

#[async_trait]
impl Provider for Vendor {
    async fn send(&self, batch: Batch, _: SendContext, outcomes: Outcomes) {
        for (target, to) in batch.targets.iter().enumerate() {
            let token = to.address.token.expose();
            self.sent.lock().unwrap().push(token.to_owned());
            let id = if self.one_id { "one".to_owned() } else { format!("id of {token}") };
            let vendor = VendorEcho { id: Some(id), ..VendorEcho::default() };
            outcomes.push(Outcome { target, verdict: Verdict::Accepted, vendor, latency: Duration::ZERO });
        }
    }

    async fn check(&self, _: SendContext) -> CheckReport {
        CheckReport { ok: true, detail: String::new(), reason: None, warnings: Vec::new() }
    }

    fn credential(&self) -> String {
        "asked".into()
    }

    fn preview(&self, _: &Batch, _: &SendContext) -> Option<Preview> {
        None
    }

    async fn poll_receipts(&self, ids: &[String], context: SendContext) -> Result<Vec<Receipt>, Failure> {
        assert!(ids.len() <= 100);
        let _pass = context.gate.pass(1).await.map_err(Failure::channel)?;
        self.asked.lock().unwrap().extend(ids.iter().cloned());
        if let Some(failure) = self.refuses.lock().unwrap().clone() {
            return Err(failure);
        }
        let says = self.says.lock().unwrap();
        let told = |id: &String| {
            says.get(id).map(|event| Receipt {
                param: None,
                vendor_id: Some(id.clone()),
                token: Some(id.trim_start_matches("id of ").to_owned()),
                event: *event,
                witness: Witness::Vendor,
                at: None,
                vendor: VendorEcho::default(),
                extra: BTreeMap::default(),
            })
        };
        Ok(ids.iter().filter_map(told).collect())
    }
}

struct Asking {
    world: World,
    vendor: Arc<Vendor>,
    channel: Arc<Channel>,
}

impl Asking {
    async fn new() -> Self {
        Self::with(&ASKED, Vendor::default()).await
    }

    async fn with(descriptor: &'static Descriptor, vendor: Vendor) -> Self {
        let world = World::new().await;
        let vendor = Arc::new(vendor);
        let channel = world.plant(descriptor, vendor.clone()).await;
        Self { world, vendor, channel }
    }

    /// One message to new devices with these tokens; the devices, once all are accepted.
    async fn send(&self, tokens: &[&str], steps: &[&str], ttl_seconds: u32) -> (Id, Vec<u64>) {
        let address = |token: &str| NewAddress {
            provider: "asked".into(),
            kind: "token".into(),
            token: token.into(),
            params: BTreeMap::default(),
        };
        let device = |token: &&str| DevicePut {
            id: (*token).to_owned(),
            enabled: true,
            addresses: vec![address(token)],
            ..DevicePut::default()
        };
        let (world, app) = (&self.world, self.world.apps[0]);
        let put = world.store.put_devices(app, tokens.iter().map(device).collect(), NOW).await.unwrap();
        let data = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        let step = |uses: &&str| StepSpec { uses: (*uses).into(), ..StepSpec::default() };
        let spec = Spec {
            content: Arc::new(Content { data, ..Content::default() }),
            steps: steps.iter().map(step).collect(),
            ttl_seconds,
            ..Spec::default()
        };
        let audience = Audience::Devices(tokens.iter().map(|token| (*token).to_owned()).collect());
        let request = SendRequest { app, spec, audience, label: None, idempotency: None };
        let message = world.receipts.inner.parts.pipeline.accept(request).await.unwrap().id;
        let targets: Vec<_> = put.iter().map(|device| device.seq).collect();
        for target in &targets {
            world.until(message, *target, |row| row.state == State::Accepted).await;
        }
        self.waits(1).await;
        (message, targets)
    }

    /// So many questions wait in the store.
    async fn waits(&self, many: u64) {
        for _ in 0..3000 {
            if self.waiting().await == many {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?}", self.world.store.backlog().await);
    }

    async fn waiting(&self) -> u64 {
        let backlog = self.world.store.backlog().await.unwrap();
        backlog.iter().filter(|(kind, ..)| *kind == WorkKind::Ask).map(|(.., n)| n).sum()
    }

    /// So much time passes, and whoever is due is asked. The ids that were.
    async fn pass(&self, seconds: u64) -> Vec<String> {
        self.world.clock.advance(Duration::from_secs(seconds));
        self.world.ask().await;
        std::mem::take(&mut self.vendor.asked.lock().unwrap())
    }

    fn says(&self, id: &str, event: ReceiptEvent) {
        self.vendor.says.lock().unwrap().insert(id.to_owned(), event);
    }
}

impl World {
    async fn plant(&self, descriptor: &'static Descriptor, vendor: Arc<Vendor>) -> Arc<Channel> {
        self.receipts.inner.parts.channels.plant(self.apps[0], descriptor, vendor).await
    }

    /// Asks all vendors that are due, until nobody is.
    async fn ask(&self) {
        let inner = &self.receipts.inner;
        for channel in inner.parts.pipeline.asks() {
            poll::ask(Arc::clone(inner), channel).await;
        }
    }
}

#[tokio::test]
async fn a_vendor_that_calls_nobody_back_is_asked_and_its_answer_counts_like_a_callback() {
    let asking = Asking::new().await;
    let (message, targets) = asking.send(&["a", "b"], &[], 3600).await;
    assert!(asking.pass(59).await.is_empty(), "not at once");
    asking.says("id of a", ReceiptEvent::Delivered);
    let mut asked = asking.pass(2).await;
    asked.sort();
    assert_eq!(asked, ["id of a", "id of b"]);
    assert_eq!(asking.world.state(message, targets[0]).await, Some(State::Delivered));
    assert_eq!(asking.world.state(message, targets[1]).await, Some(State::Accepted));
    assert_eq!(asking.world.counted(&asking.channel, "merged"), 1);
    asking.says("id of b", ReceiptEvent::Clicked);
    assert!(asking.pass(110).await.is_empty(), "each time later");
    assert_eq!(asking.pass(20).await, ["id of b"], "only whose fate is open");
    assert_eq!(asking.world.state(message, targets[1]).await, Some(State::Clicked));
    assert_eq!(asking.waiting().await, 0);
}

#[tokio::test]
async fn a_failure_that_is_asked_for_goes_on_to_the_next_channel_and_retires_the_token() {
    let asking = Asking::new().await;
    let second = Arc::<Vendor>::default();
    let next = asking.world.plant(&SECOND, second.clone()).await;
    let (message, targets) = asking.send(&["a", "b"], &["asked", "second"], 3600).await;
    asking.says("id of a", ReceiptEvent::failed(Reason::DeviceUnavailable));
    asking.says("id of b", ReceiptEvent::ended(Reason::Superseded));
    asking.pass(61).await;
    let seq = next.record.seq;
    asking.world.until(message, targets[0], |row| row.state == State::Accepted && row.channel == seq).await;
    let row = asking.world.row(message, targets[1]).await.unwrap();
    assert_eq!((row.state, row.reason), (State::Suppressed, Some(Reason::Superseded)));
    assert_eq!(*second.sent.lock().unwrap(), ["a"], "what a newer message replaced is not sent again");
}

#[tokio::test]
async fn a_dead_token_that_is_asked_for_retires_its_address() {
    let asking = Asking::new().await;
    asking.send(&["a"], &[], 3600).await;
    asking.says("id of a", ReceiptEvent::failed(Reason::InvalidToken));
    asking.pass(61).await;
    let app = asking.world.apps[0];
    let device = asking.world.store.targets_by_id(app, &["a".to_owned()]).await.unwrap().remove(0);
    assert!(device.addresses.is_empty(), "{device:?}");
}

#[tokio::test]
async fn nobody_is_asked_for_ever_nor_about_what_another_word_has_settled() {
    let asking = Asking::new().await;
    let (message, targets) = asking.send(&["a", "b"], &[], 86_400).await;
    asking.world.record(&asking.channel, message, targets[0], State::Delivered).await;
    let mut times = 0;
    for _ in 0..200 {
        let asked = asking.pass(1800).await;
        assert!(asked.iter().all(|id| id == "id of b"), "{asked:?}");
        times += asked.len();
    }
    assert!((8..20).contains(&times), "{times}");
    assert_eq!(asking.waiting().await, 0, "it ends");
    assert_eq!(asking.world.state(message, targets[1]).await, Some(State::Accepted));
}

#[tokio::test]
async fn a_vendor_that_calls_back_is_asked_about_what_is_late_only() {
    let asking = Asking::with(&CALLS_TOO, Vendor::default()).await;
    let urls = asking.world.callback_urls.clone();
    urls.begin_with("https://push.example".to_owned());
    asking.send(&["a"], &[], 86_400).await;
    assert!(asking.pass(590).await.is_empty());
    assert_eq!(asking.pass(20).await, ["id of a"]);
}

#[tokio::test]
async fn a_vendor_that_could_call_back_and_was_told_no_address_is_asked_early() {
    let asking = Asking::with(&CALLS_TOO, Vendor::default()).await;
    asking.send(&["a"], &[], 86_400).await;
    assert_eq!(asking.pass(61).await, ["id of a"]);
}

#[tokio::test]
async fn an_id_that_stands_for_several_is_not_asked_for() {
    let asking = Asking::with(&ASKED, Vendor { one_id: true, ..Vendor::default() }).await;
    asking.send(&["a", "b"], &[], 3600).await;
    assert!(asking.pass(61).await.is_empty());
    assert_eq!(asking.waiting().await, 0, "there is nothing that could be asked later");
}

#[tokio::test]
async fn a_vendor_that_refuses_to_answer_is_left_alone_for_as_long_as_it_says() {
    let asking = Asking::new().await;
    let wait = Hint::RetryAfter(Duration::from_mins(30));
    *asking.vendor.refuses.lock().unwrap() = Some(Failure::channel(Reason::RateLimited).hint(wait));
    let (message, targets) = asking.send(&["a"], &[], 86_400).await;
    assert_eq!(asking.pass(61).await.len(), 1);
    *asking.vendor.refuses.lock().unwrap() = None;
    asking.says("id of a", ReceiptEvent::Delivered);
    assert!(asking.pass(1700).await.is_empty());
    assert_eq!(asking.pass(120).await.len(), 1);
    assert_eq!(asking.world.state(message, targets[0]).await, Some(State::Delivered));
}

#[tokio::test]
async fn an_answer_about_what_was_not_asked_is_not_believed() {
    let asking = Asking::new().await;
    let (message, targets) = asking.send(&["a"], &[], 3600).await;
    asking.says("id of somebody", ReceiptEvent::Delivered);
    asking.pass(61).await;
    assert_eq!(asking.world.state(message, targets[0]).await, Some(State::Accepted));
}

#[tokio::test]
async fn a_question_outlives_the_process_and_is_asked_again_by_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let (message, targets) = {
        let world = World::at(directory.path()).await;
        let vendor = Arc::<Vendor>::default();
        let channel = world.plant(&ASKED, vendor.clone()).await;
        let asking = Asking { world, vendor, channel };
        let sent = asking.send(&["a"], &[], 3600).await;
        asking.world.clock.advance(Duration::from_secs(61));
        // It was taken in hand, and then the process died.
        let pipeline = &asking.world.receipts.inner.parts.pipeline;
        assert_eq!(pipeline.lease_asks(asking.channel.record.seq).await.unwrap().len(), 1);
        asking.world.end().await;
        sent
    };
    let asking = next_life(directory.path()).await;
    asking.says("id of a", ReceiptEvent::Delivered);
    asking.world.receipts.inner.parts.pipeline.find_asks().await.unwrap();
    assert_eq!(asking.pass(62).await, ["id of a"]);
    assert_eq!(asking.world.state(message, targets[0]).await, Some(State::Delivered));
}

async fn next_life(directory: &Path) -> Asking {
    let world = World::at(directory).await;
    let vendor = Arc::<Vendor>::default();
    let channel = world.plant(&ASKED, vendor.clone()).await;
    Asking { world, vendor, channel }
}
