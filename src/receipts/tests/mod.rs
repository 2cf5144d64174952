//! Receipts over the real store, with a vendor whose callbacks are JSON.

mod asking;
mod crash;
mod finding;
mod laws;
mod taking;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anypush_providers::contract::{
    AddressSpec, Batch, CallbackReply, CallbackRequest, Capabilities, CheckReport, Class, Descriptor,
    Environment, Outcomes, Preview, Provider, Reason, Receipt, ReceiptEvent, ReceiptKey, Receipts as How,
    SendContext, Tier, VendorEcho, Witness,
};
use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::merge::Worker;
use super::{Parts, Receipts, intake};
use crate::channels::{Channel, Channels};
use crate::clock::{Clock, at_unix_ms};
use crate::delivery::spec::Spec;
use crate::delivery::state::{Delivery, Event, State};
use crate::delivery::{self, Pipeline};
use crate::direct::Hub;
use crate::ids::{Id, IdCodec, IdMaker};
use crate::secrets::Vault;
use crate::store::sqlite::{SqliteOptions, SqliteStore};
use crate::store::{Changes, DevicePut, NewAddress, NewMessage, Store};
use crate::tasks::Tasks;
use crate::telemetry::ReceiptLabels;

/// A time to begin at, in Unix milliseconds.
pub(super) const NOW: u64 = 1_800_000_000_000;
/// What the played vendor proves itself with.
pub(crate) const PROOF: &str = "Basic c2VjcmV0";

/// A played vendor: callbacks are `{"receipts": [{"event", "param", …}]}`, authentic with the right header.
#[derive(Debug)]
pub(crate) struct Played;

#[async_trait]
impl Provider for Played {
    async fn send(&self, _: Batch, _: SendContext, _: Outcomes) {}

    async fn check(&self, _: SendContext) -> CheckReport {
        CheckReport { ok: true, detail: String::new(), reason: None, warnings: Vec::new() }
    }

    fn preview(&self, _: &Batch, _: &SendContext) -> Option<Preview> {
        None
    }

    fn credential(&self) -> String {
        "played".into()
    }

    fn parse_callback(&self, request: &CallbackRequest) -> Option<CallbackReply> {
        assert!(request.body != "panic", "told to");
        let authenticated = request.headers.get("authorization").is_some_and(|given| given == PROOF);
        let reply = |receipts, status| {
            Some(CallbackReply { receipts, authenticated, status, body: "{\"heard\":true}".into() })
        };
        let Ok(Value::Object(said)) = serde_json::from_slice(&request.body) else {
            return reply(Vec::new(), StatusCode::BAD_REQUEST);
        };
        let receipts =
            said.get("receipts").and_then(Value::as_array).into_iter().flatten().map(receipt).collect();
        reply(receipts, if authenticated { StatusCode::OK } else { StatusCode::UNAUTHORIZED })
    }
}

fn receipt(said: &Value) -> Receipt {
    let text = |name: &str| said[name].as_str().map(str::to_owned);
    Receipt {
        param: text("param"),
        vendor_id: text("vendor_id"),
        token: text("token"),
        event: match said["event"].as_str().unwrap_or_default() {
            "delivered" => ReceiptEvent::Delivered,
            "displayed" => ReceiptEvent::Displayed,
            "clicked" => ReceiptEvent::Clicked,
            "dismissed" => ReceiptEvent::Dismissed,
            "superseded" => ReceiptEvent::ended(Reason::Superseded),
            "expired" => ReceiptEvent::ended(Reason::Expired),
            "dead" => ReceiptEvent::failed(Reason::InvalidToken),
            _ => ReceiptEvent::failed(Reason::DeviceUnavailable),
        },
        witness: Witness::Vendor,
        at: None,
        vendor: VendorEcho { code: text("code"), ..VendorEcho::default() },
        extra: BTreeMap::default(),
    }
}

const fn descriptor(id: &'static str, receipt_key: ReceiptKey) -> Descriptor {
    Descriptor {
        id,
        name: "Played",
        tier: Tier::Maker,
        capabilities: Capabilities { data: true, receipts: How::Callback, receipt_key, ..Capabilities::NONE },
        address: AddressSpec {
            provider: "played",
            kinds: &["token"],
            special: &[],
            max_token_bytes: 100,
            params: &[],
        },
        quotas: &[],
    }
}

/// Each target has its parameter.
pub(crate) static BY_PARAM: Descriptor = descriptor("played", ReceiptKey::Param);
/// A batch has one parameter; tokens tell its targets apart.
pub(super) static BY_TOKEN: Descriptor = descriptor("played_batch", ReceiptKey::Token);

/// Receipts, two apps with a channel each, and a second channel of the first.
pub(super) struct World {
    pub(super) receipts: Receipts,
    pub(super) worker: Worker,
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Clock,
    pub(super) apps: [i64; 2],
    /// Where vendors report to.
    pub(super) callback_urls: crate::receipts::CallbackUrls,
    /// Of the first app, by parameter.
    pub(super) channel: Arc<Channel>,
    /// Of the first app, by token.
    pub(super) batch: Arc<Channel>,
    /// Of the second app.
    pub(super) foreign: Arc<Channel>,
    _directory: Option<TempDir>,
}

impl World {
    pub(super) async fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let world = Self::at(directory.path()).await;
        Self { _directory: Some(directory), ..world }
    }

    /// A world in this directory, where an earlier life may have left something.
    pub(super) async fn at(directory: &Path) -> Self {
        let store = SqliteStore::open(&directory.join("data"), SqliteOptions::default()).await.unwrap();
        let store: Arc<dyn Store> = store;
        let clock = Clock::fixed(NOW);
        let vault = Arc::new(Vault::from_base64("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=").unwrap());
        let channels =
            Channels::load(Arc::clone(&store), Arc::clone(&vault), Environment::default(), clock.clone())
                .await;
        let channels = channels.unwrap();
        let mut apps = [0; 2];
        for (app, name) in apps.iter_mut().zip(["shop", "bank"]) {
            if let Some(old) = store.apps().await.unwrap().iter().find(|old| old.name == name) {
                *app = old.seq;
                continue;
            }
            let ids = (format!("app_{name}"), format!("chn_{name}"));
            *app = store.create_app(name, ids, NOW).await.unwrap().seq;
        }
        let channel = channels.plant(apps[0], &BY_PARAM, Arc::new(Played)).await;
        let batch = channels.plant(apps[0], &BY_TOKEN, Arc::new(Played)).await;
        let foreign = channels.plant(apps[1], &BY_PARAM, Arc::new(Played)).await;
        let (tasks, codec) = (Tasks::default(), Arc::new(IdCodec::new(&[7; 32])));
        let ids = Arc::new(IdMaker::new(0));
        ids.go_on_after(store.last_id().await.unwrap());
        let callback_urls = crate::receipts::CallbackUrls::new(Arc::clone(&vault));
        let pipeline = Pipeline::start(delivery::Parts {
            node: 0,
            clock: clock.clone(),
            ids,
            codec: Arc::clone(&codec),
            store: Arc::clone(&store),
            channels: channels.clone(),
            callback_urls: callback_urls.clone(),
            hub: Hub::default(),
            metrics: Arc::default(),
            tasks: tasks.clone(),
            bulk: crate::bulk::Bulk::here(),
            own_wait_seconds: 20,
            ask_after_seconds: 60,
        });
        let pipeline = pipeline.await.unwrap();
        let parts = Parts {
            clock: clock.clone(),
            codec,
            vault,
            store: Arc::clone(&store),
            channels,
            pipeline,
            metrics: Arc::default(),
            tasks,
        };
        let receipts = Receipts::new(parts).await.unwrap();
        let worker = Worker::new(Arc::clone(&receipts.inner));
        Self {
            receipts,
            worker,
            store,
            clock,
            apps,
            callback_urls,
            channel,
            batch,
            foreign,
            _directory: None,
        }
    }

    /// The process ends.
    pub(super) async fn end(&self) {
        let parts = &self.receipts.inner.parts;
        parts.tasks.stop();
        parts.pipeline.stop(std::time::Duration::from_secs(5)).await;
        self.store.close().await;
    }

    /// A message of the first app.
    pub(super) async fn message(&self, n: i64) -> Id {
        let id = Id(Id::floor_at(NOW).0 + n);
        let message = NewMessage {
            id,
            app: self.apps[0],
            class: Class::Transactional,
            spec: serde_json::to_string(&Spec { ttl_seconds: 3600, ..Spec::default() }).unwrap(),
            collapse: None,
            label: None,
            created_at: NOW,
            deadline_at: NOW + 3_600_000,
            send_at: None,
            idempotency: None,
        };
        self.store.accept(message, Changes::default()).await.unwrap();
        id
    }

    /// Devices of the first app with these tokens; their numbers.
    pub(super) async fn devices(&self, tokens: &[&str]) -> Vec<u64> {
        let address = |token: &str| NewAddress {
            provider: "played".into(),
            kind: "token".into(),
            token: token.into(),
            params: BTreeMap::default(),
        };
        let device = |token: &&str| DevicePut {
            id: format!("of {token}"),
            addresses: vec![address(token)],
            ..DevicePut::default()
        };
        let put = tokens.iter().map(device).collect();
        self.store.put_devices(self.apps[0], put, NOW).await.unwrap().iter().map(|d| d.seq).collect()
    }

    /// Records an outcome of a channel of the first app.
    pub(super) async fn record(&self, channel: &Channel, message: Id, target: u64, state: State) {
        let reason = (state == State::Pending).then_some(Reason::VendorUnavailable);
        let event = Event {
            reason,
            vendor_id: Some(format!("v-{target}")),
            ..Event::new((message, target), state, channel.record.seq, 3)
        };
        self.store.commit(Changes { events: vec![event], ..Changes::default() }).await.unwrap();
    }

    /// Our parameter, as the vendor of a channel got it.
    pub(super) fn param(&self, channel: &Channel, message: Id, target: u64) -> String {
        self.receipts.inner.parts.codec.receipt_param(channel.record.seq, message, target)
    }

    /// What the vendor calls us with.
    pub(super) fn request(&self, receipts: &Value, proof: &'static str) -> CallbackRequest {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static(proof));
        CallbackRequest {
            method: Method::POST,
            url: "https://push.example/v1/callbacks/chn/secret?x=1".into(),
            headers,
            body: json!({"receipts": receipts}).to_string().into(),
            received_at: at_unix_ms(self.clock.now_ms()),
        }
    }

    /// The vendor of a channel calls.
    pub(super) async fn call(&self, channel: &Channel, receipts: Value) {
        let reply = self.receipts.take(channel, self.request(&receipts, PROOF)).await.unwrap();
        assert_eq!((reply.status, reply.authenticated), (StatusCode::OK, true));
    }

    /// A receipt by parameter.
    pub(super) fn said(&self, channel: &Channel, message: Id, target: u64, event: &str) -> Value {
        json!({"event": event, "param": self.param(channel, message, target), "code": "7"})
    }

    /// Merges what is there.
    pub(super) async fn merge(&mut self) {
        self.worker.drain().await.unwrap();
    }

    /// Merges what is there, after what waits has waited for a while.
    pub(super) async fn merge_later(&mut self) {
        self.worker.sweep_now();
        self.merge().await;
    }

    /// Merges what is there, as a gateway that was just started.
    pub(super) async fn merge_anew(&mut self) {
        self.worker = Worker::new(Arc::clone(&self.receipts.inner));
        self.merge().await;
    }

    pub(super) async fn row(&self, message: Id, target: u64) -> Option<Delivery> {
        self.store.recorded(&[(message, target)]).await.unwrap().pop()
    }

    /// The row, once it says where it stays: what was failed late is decided again in the background.
    pub(super) async fn settled(&self, message: Id, target: u64) -> Delivery {
        self.until(message, target, |row| row.state != State::Pending).await
    }

    /// The row, once it looks so.
    pub(super) async fn until(&self, message: Id, target: u64, is: impl Fn(&Delivery) -> bool) -> Delivery {
        for _ in 0..3000 {
            if let Some(row) = self.row(message, target).await.filter(&is) {
                return row;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{:?}", self.row(message, target).await);
    }

    pub(super) async fn state(&self, message: Id, target: u64) -> Option<State> {
        self.row(message, target).await.map(|row| row.state)
    }

    /// How many receipts of a channel ended so.
    pub(super) fn counted(&self, channel: &Channel, result: &'static str) -> u64 {
        let labels = ReceiptLabels { provider: channel.record.provider.clone(), result };
        self.receipts.inner.parts.metrics.receipts.get_or_create(&labels).get()
    }
}

/// What the path of a channel's callbacks ends with.
pub(super) fn secret(world: &World, channel: &Channel) -> String {
    let path = intake::path(&world.receipts.inner.parts.vault, channel).unwrap();
    path.rsplit('/').next().unwrap().to_owned()
}
