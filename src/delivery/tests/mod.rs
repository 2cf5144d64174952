//! The whole way of a message over a real store and a played provider, on a clock that stands still.

mod aside;
mod batches;
mod beside;
mod collapse;
mod inbox;
mod late;
mod left;
mod once;
mod paid;
mod promises;
mod quotas;
mod recall;
mod tails;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anypush_providers::contract::{
    AddressSpec, Batch, Capabilities, Category, CheckReport, Class, Content, Descriptor, Environment,
    Failure, Hint, Notification, Outcome, Outcomes, Preview, Provider, Reason, Receipts, SendContext, Tier,
    VendorEcho, Verdict,
};
use async_trait::async_trait;

use super::spec::{Audience, Spec};
use super::{Parts, Pipeline, SendRequest};
use crate::channels::{Channel, Channels};
use crate::clock::Clock;
use crate::delivery::state::{Delivery, State};
use crate::ids::{Id, IdCodec, IdMaker};
use crate::receipts::CallbackUrls;
use crate::secrets::Vault;
use crate::store::sqlite::{SqliteOptions, SqliteStore};
use crate::store::{DevicePut, NewAddress, Store, WorkKind};

const NOW: u64 = 1_800_000_000_000;
const APP: i64 = 1;

static PLAYED: Descriptor = descriptor("played", Tier::Global);

const fn descriptor(id: &'static str, tier: Tier) -> Descriptor {
    Descriptor {
        id,
        name: "Played",
        tier,
        capabilities: Capabilities {
            notification: true,
            max_targets: 1,
            max_in_flight: 100,
            max_ttl: Duration::from_hours(24),
            ttl_unit: Duration::from_secs(1),
            receipts: Receipts::Callback,
            ..Capabilities::NONE
        },
        address: AddressSpec {
            provider: "played",
            kinds: &["token"],
            special: &[],
            max_token_bytes: 100,
            params: &[],
        },
        quotas: quotas::QUOTAS,
    }
}

/// A category, and where to report to.
type Beside = (Option<Arc<Category>>, Option<Arc<str>>);

/// Answers a token with what the script says; what it does not name is accepted.
#[derive(Default)]
struct Played {
    script: Mutex<HashMap<String, Failure>>,
    /// (token, attempt, seconds to live), in order.
    sent: Mutex<Vec<(String, u32, u64)>>,
    /// So many requests are not processed at all.
    unprocessed: Mutex<u32>,
    /// (token, message), in order.
    handed: Mutex<Vec<(String, String)>>,
    /// Tokens that were accepted, in order.
    took: Mutex<Vec<String>>,
    /// What stood beside each batch: its category, and where to report to.
    beside: Mutex<Vec<Beside>>,
}

#[async_trait]
impl Provider for Played {
    async fn send(&self, batch: Batch, context: SendContext, outcomes: Outcomes) {
        self.beside.lock().unwrap().push((batch.category.clone(), context.callback_url.clone()));
        for (target, given) in batch.targets.iter().enumerate() {
            let token = given.address.token.expose().to_owned();
            let _pass = context.gate.pass(1).await;
            assert!(token != "panic", "an adapter with a bug");
            if token == "silent" {
                continue;
            }
            let refused = {
                let mut left = self.unprocessed.lock().unwrap();
                let refused = *left > 0;
                *left = left.saturating_sub(1);
                refused.then(|| Failure::channel(Reason::VendorUnavailable).hint(Hint::NotProcessed))
            };
            let unprocessed = refused.is_some();
            let scripted = self.script.lock().unwrap().get(&token).cloned();
            let verdict = refused.or(scripted).map_or(Verdict::Accepted, Verdict::Failed);
            if verdict == Verdict::Accepted {
                self.took.lock().unwrap().push(token.clone());
            }
            self.handed.lock().unwrap().push((token.clone(), batch.message.id.clone()));
            self.sent.lock().unwrap().push((token, batch.attempt, batch.ttl.as_secs()));
            // An answer that took no time was none.
            let latency = if unprocessed { Duration::from_millis(1) } else { Duration::ZERO };
            let vendor = VendorEcho::default();
            outcomes.push(Outcome { target, verdict, vendor, latency });
        }
    }

    async fn check(&self, _: SendContext) -> CheckReport {
        CheckReport { ok: true, detail: String::new(), reason: None, warnings: Vec::new() }
    }

    fn preview(&self, _: &Batch, _: &SendContext) -> Option<Preview> {
        None
    }

    fn credential(&self) -> String {
        "played".into()
    }

    fn quota_class(&self, content: &Content, _: Option<&Category>) -> &'static str {
        if content.class == Class::Marketing { "marketing" } else { "" }
    }
}

/// A pipeline with one app and one channel of a played provider.
struct Rig {
    store: Arc<SqliteStore>,
    channels: Channels,
    channel: Arc<Channel>,
    played: Arc<Played>,
    pipeline: Pipeline,
    clock: Clock,
    callback_urls: CallbackUrls,
    _dir: tempfile::TempDir,
}

impl Rig {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::fixed(NOW);
        let options = SqliteOptions { clock: clock.clone(), ..SqliteOptions::default() };
        let store = SqliteStore::open(dir.path(), options).await.unwrap();
        store.create_app("shop", ("app_shop".into(), "chn_direct".into()), NOW).await.unwrap();
        let vault = Arc::new(Vault::from_base64("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=").unwrap());
        let shared: Arc<dyn Store> = store.clone();
        let channels =
            Channels::load(shared.clone(), Arc::clone(&vault), Environment::default(), clock.clone())
                .await
                .unwrap();
        let played = Arc::<Played>::default();
        let channel = channels.plant(APP, &PLAYED, played.clone()).await;
        let callback_urls = CallbackUrls::new(vault);
        let parts = Parts {
            node: 0,
            clock: clock.clone(),
            ids: Arc::new(IdMaker::new(0)),
            codec: Arc::new(IdCodec::new(&[0; 32])),
            store: shared,
            channels: channels.clone(),
            callback_urls: callback_urls.clone(),
            hub: crate::direct::Hub::default(),
            metrics: Arc::default(),
            tasks: crate::tasks::Tasks::default(),
            bulk: crate::bulk::Bulk::here(),
            own_wait_seconds: 20,
            ask_after_seconds: 60,
        };
        let pipeline = Pipeline::start(parts).await.unwrap();
        Self { store, channels, channel, played, pipeline, clock, callback_urls, _dir: dir }
    }

    /// Makes devices that have these tokens, and answers their numbers.
    async fn devices(&self, tokens: &[&str]) -> Vec<u64> {
        let device = |token: &&str| DevicePut {
            id: (*token).into(),
            enabled: true,
            addresses: vec![NewAddress {
                provider: "played".into(),
                kind: "token".into(),
                token: (*token).into(),
                params: std::collections::BTreeMap::new(),
            }],
            ..DevicePut::default()
        };
        let made = self.store.put_devices(APP, tokens.iter().map(device).collect(), NOW).await.unwrap();
        made.iter().map(|device| device.seq).collect()
    }

    fn script(&self, token: &str, failure: Failure) {
        self.played.script.lock().unwrap().insert(token.into(), failure);
    }

    async fn send(&self, ids: &[&str], ttl_seconds: u32) -> Id {
        self.send_so(ids, Spec { ttl_seconds, ..Spec::default() }).await
    }

    /// Sends a greeting; the rest is as `spec` says.
    async fn send_so(&self, ids: &[&str], spec: Spec) -> Id {
        let notification = Some(Notification { title: Some("Hello".into()), ..Notification::default() });
        let content = Arc::new(Content { notification, ..Content::clone(&spec.content) });
        let request = SendRequest {
            app: APP,
            spec: Spec { content, ..spec },
            audience: Audience::Devices(ids.iter().map(|id| (*id).to_owned()).collect()),
            label: None,
            idempotency: None,
        };
        self.pipeline.accept(request).await.unwrap().id
    }

    fn sent(&self) -> Vec<(String, u32, u64)> {
        self.played.sent.lock().unwrap().clone()
    }

    /// Waits until a delivery looks so.
    async fn until(&self, message: Id, target: u64, is: impl Fn(&Delivery) -> bool) -> Delivery {
        for _ in 0..3000 {
            let found = self.store.deliveries_of(message, &[target]).await.unwrap().pop();
            if let Some(delivery) = found.filter(&is) {
                return delivery;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?}", self.store.deliveries_of(message, &[target]).await.unwrap());
    }

    /// Waits until nothing of a message is left to do, looking again and again; its one delivery then.
    async fn until_looking(&self, message: Id, target: u64, look: impl Fn()) -> Delivery {
        for _ in 0..3000 {
            look();
            tokio::time::sleep(Duration::from_millis(10)).await;
            let found = self.store.deliveries_of(message, &[target]).await.unwrap().pop();
            if let Some(row) = found.filter(|row| row.state != State::Pending)
                && self.store.backlog().await.unwrap().is_empty()
            {
                return row;
            }
        }
        let row = self.store.deliveries_of(message, &[target]).await.unwrap().pop();
        let trail = row.as_ref().map(|row| super::trail::decode(&row.trail));
        panic!("{row:?} {trail:?} {:?}", self.store.backlog().await);
    }

    /// Waits until a page of the message waits in the store for its time, or until none is left at all.
    async fn waits(&self, message: Id, any: bool) {
        for _ in 0..3000 {
            let pages = self.store.pending_pages(message, 10).await.unwrap();
            let due = self.store.next_due(WorkKind::Page, self.channel.record.seq).await.unwrap();
            if (any && due.is_some()) || (!any && pages.is_empty()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?}", self.store.pending_pages(message, 10).await.unwrap());
    }

    async fn accepted(&self, message: Id, target: u64) {
        self.until(message, target, |delivery| delivery.state == State::Accepted).await;
    }
}
