//! Endpoints over a real store and a receiver that answers as it is told, on a clock that is turned.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anypush_providers::kit::egress::Egress;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State as Held;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use axum::routing::post;
use serde_json::Value;

use super::sign::Secrets;
use super::{Parts, Webhooks};
use crate::channels::Channels;
use crate::clock::Clock;
use crate::delivery::state::{Event, State};
use crate::events::{EventKind, Teller};
use crate::ids::{Id, IdCodec, IdMaker, Kind};
use crate::secrets::Vault;
use crate::settings::Settings;
use crate::store::sqlite::{SqliteOptions, SqliteStore};
use crate::store::{Changes, NewMessage, Signature, Store, WebhookRecord};
use crate::tasks::Tasks;
use crate::telemetry::Metrics;

const NOW: u64 = 1_800_000_000_000;
const HOUR: Duration = Duration::from_hours(1);

/// What came to the receiver, in order, and what it answers.
#[derive(Default)]
struct Receiver {
    /// (path, webhook-id, body)
    got: Mutex<Vec<(String, String, Value)>>,
    /// By path; else 204. Status 0: never.
    answers: Mutex<HashMap<String, (u16, Option<u64>)>>,
}

async fn receive(
    Held(receiver): Held<Arc<Receiver>>,
    uri: axum::http::Uri,
    headers: HeaderMap,
    body: Bytes,
) -> axum::response::Response {
    let path = uri.path().to_owned();
    let id = headers["webhook-id"].to_str().unwrap().to_owned();
    receiver.got.lock().unwrap().push((path.clone(), id, serde_json::from_slice(&body).unwrap()));
    let answer = receiver.answers.lock().unwrap().get(&path).copied();
    match answer {
        Some((0, _)) => std::future::pending().await,
        Some((status, retry_after)) => {
            let mut response = StatusCode::from_u16(status).unwrap().into_response();
            if let Some(seconds) = retry_after {
                response.headers_mut().insert("retry-after", seconds.into());
            }
            response.headers_mut().insert("location", "http://127.0.0.1:1/".parse().unwrap());
            response
        }
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

struct World {
    store: Arc<dyn Store>,
    webhooks: Webhooks,
    receiver: Arc<Receiver>,
    base: String,
    clock: Clock,
    vault: Arc<Vault>,
    codec: Arc<IdCodec>,
    tasks: Tasks,
    ids: Arc<IdMaker>,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::fixed(NOW);
        let options = SqliteOptions { clock: clock.clone(), ..SqliteOptions::default() };
        let store: Arc<dyn Store> = SqliteStore::open(dir.path(), options).await.unwrap();
        store.create_app("shop", ("app_shop".into(), "chn_shop".into()), NOW).await.unwrap();
        let vault = Arc::new(Vault::from_base64("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=").unwrap());
        let codec = Arc::new(IdCodec::new(&[7; 32]));
        let environment = anypush_providers::contract::Environment::default();
        let channels =
            Channels::load(Arc::clone(&store), Arc::clone(&vault), environment, clock.clone()).await.unwrap();
        let (tasks, ids) = (Tasks::default(), Arc::new(IdMaker::new(0)));
        let parts = Parts {
            node: 0,
            epoch: store.begin_epoch(0).await.unwrap(),
            clock: clock.clone(),
            ids: Arc::clone(&ids),
            vault: Arc::clone(&vault),
            store: Arc::clone(&store),
            teller: Teller::new(Arc::clone(&store), Arc::clone(&codec), channels),
            metrics: Arc::new(Metrics::default()),
            tasks: tasks.clone(),
            settings: Settings::defaults().webhooks,
            user_agent: "anypush/test".into(),
            egress: Egress::new(["127.0.0.1"], true),
        };
        let receiver = Arc::<Receiver>::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(post(receive)).with_state(Arc::clone(&receiver));
        tasks.spawn("receiver", async move { drop(axum::serve(listener, router).await) });
        let webhooks = Webhooks::start(parts).await.unwrap();
        Self { store, webhooks, receiver, base, clock, vault, codec, tasks, ids, _dir: dir }
    }

    /// Makes an endpoint at this path of the receiver.
    async fn listen(&self, path: &str, kinds: u32) -> WebhookRecord {
        let public_id = self.codec.encode(Kind::Webhook, self.ids.next(NOW));
        let webhook = WebhookRecord {
            seq: 0,
            app: 1,
            url: format!("{}{path}", self.base),
            description: String::new(),
            kinds,
            signature: Signature::Hmac,
            secrets: Secrets::make(Signature::Hmac).seal(&self.vault, 1, &public_id),
            public_id,
            disabled: None,
            disabled_at: None,
            failing_since: None,
            created_at: NOW,
            updated_at: NOW,
        };
        self.enable(webhook).await
    }

    async fn enable(&self, webhook: WebhookRecord) -> WebhookRecord {
        let after = self.store.event_bounds().await.unwrap().last;
        let work = self.webhooks.beginning(1, after);
        let webhook = WebhookRecord { disabled: None, failing_since: None, ..webhook };
        let webhook = self.store.put_webhook(webhook, Some(work)).await.unwrap().unwrap();
        self.webhooks.wake(&webhook);
        webhook
    }

    fn answer(&self, path: &str, status: u16, retry_after: Option<u64>) {
        self.receiver.answers.lock().unwrap().insert(path.into(), (status, retry_after));
    }

    /// So many deliveries of a new message are accepted.
    async fn accept(&self, targets: u64) -> Id {
        let id = self.ids.next(self.clock.now_ms());
        let message = NewMessage {
            id,
            app: 1,
            class: anypush_providers::contract::Class::Transactional,
            spec: r#"{"content":{},"ttl_seconds":60,"metadata":{"trace":"t-1"}}"#.into(),
            collapse: None,
            label: Some("orders".into()),
            created_at: self.clock.now_ms(),
            deadline_at: NOW,
            send_at: None,
            idempotency: None,
        };
        let expanded = vec![(id, targets, Some(NOW))];
        let event = |target| Event::new((id, target), State::Accepted, 1, 3);
        let events = (0..targets).map(event).collect();
        self.store.accept(message, Changes { events, expanded, ..Changes::default() }).await.unwrap();
        id
    }

    fn got(&self, path: &str) -> Vec<(String, Value)> {
        let all = self.receiver.got.lock().unwrap();
        all.iter().filter(|(at, ..)| at == path).map(|(_, id, body)| (id.clone(), body.clone())).collect()
    }

    /// Waits until so many requests came to a path.
    async fn until(&self, path: &str, n: usize) -> Vec<(String, Value)> {
        for _ in 0..6000 {
            if self.got(path).len() >= n {
                return self.got(path);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{path} got {} of {n}", self.got(path).len());
    }

    /// Waits until so many attempts are written down.
    async fn tried(&self, webhook: &WebhookRecord, n: usize) -> Vec<crate::store::WebhookAttempt> {
        for _ in 0..6000 {
            let found = self.store.webhook_attempts(webhook.seq, u64::MAX, 2000).await.unwrap();
            if found.len() >= n {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("fewer than {n} attempts");
    }

    /// Turns the clock, and lets the endpoint look at it.
    fn later(&self, webhook: &WebhookRecord, by: Duration) {
        self.clock.advance(by);
        self.webhooks.wake(webhook);
    }

    async fn end(self) {
        self.tasks.stop();
        self.store.close().await;
    }
}

#[tokio::test]
async fn an_event_comes_once_with_what_the_message_was_given() {
    let world = World::new().await;
    world.listen("/a", EventKind::DeliveryAccepted.bit() | EventKind::MessageDone.bit()).await;
    let id = world.accept(300).await;
    let got = world.until("/a", 301).await;
    let ids: std::collections::BTreeSet<_> = got.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!((got.len(), ids.len()), (301, 301));
    let of = |kind: &str| got.iter().filter(|(_, body)| body["type"] == kind).collect::<Vec<_>>();
    assert_eq!((of("delivery.accepted").len(), of("message.done").len()), (300, 1));
    for (id, body) in &got {
        assert_eq!(body["id"], id.as_str());
        assert_eq!(body["app_id"], "app_shop");
    }
    let done = &of("message.done")[0].1["data"];
    assert_eq!(done["message_id"], world.codec.encode(Kind::Message, id));
    assert_eq!((&done["metadata"]["trace"], &done["label"]), (&"t-1".into(), &"orders".into()));
    assert_eq!((&done["state"], &done["counts"]["reached"]["accepted"]), (&"done".into(), &300.into()));
    world.end().await;
}

#[tokio::test]
async fn what_fails_comes_again_by_the_table_under_the_same_id_and_is_given_up_at_its_end() {
    let world = World::new().await;
    let hook = world.listen("/a", EventKind::MessageDone.bit()).await;
    world.answer("/a", 500, None);
    world.accept(1).await;
    let mut due = 0;
    for attempt in 1..=10 {
        let tried = world.tried(&hook, attempt).await;
        assert_eq!((tried[0].attempt, tried[0].status), (attempt as u32, Some(500)));
        let Some(next) = tried[0].next_at else {
            assert_eq!(attempt, 10, "given up after the table");
            break;
        };
        assert!(next > due);
        due = next;
        world.later(&hook, Duration::from_millis(next - world.clock.now_ms()));
    }
    let hours = (world.clock.now_ms() - NOW) / 3_600_000;
    assert!((75..=85).contains(&hours), "{hours}");
    let got = world.got("/a");
    assert!(got.len() == 10 && got.iter().all(|(id, body)| *id == got[0].0 && *body == got[0].1));
    assert_eq!(world.store.next_due(crate::store::WorkKind::Webhook, hook.seq).await.unwrap(), None);
    world.end().await;
}

#[tokio::test]
async fn once_an_endpoint_answers_again_all_that_waits_comes_at_once() {
    let world = World::new().await;
    let hook = world.listen("/a", EventKind::DeliveryAccepted.bit()).await;
    world.answer("/a", 503, None);
    world.accept(200).await;
    let first = world.tried(&hook, 16).await.len();
    assert!(first < 40, "{first}: while nothing arrives new events wait");
    world.receiver.answers.lock().unwrap().clear();
    world.later(&hook, Duration::from_secs(10));
    for _ in 0..600 {
        let ids: std::collections::BTreeSet<_> = world.got("/a").into_iter().map(|(id, _)| id).collect();
        if ids.len() == 200 && world.store.webhook(hook.seq).await.unwrap().unwrap().failing_since.is_none() {
            return world.end().await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{} of 200", world.got("/a").len());
}

/// C45.
#[tokio::test]
async fn an_endpoint_that_hangs_or_fails_keeps_no_other_waiting_and_is_disabled_after_five_days() {
    let world = World::new().await;
    let bad = world.listen("/bad", EventKind::every()).await;
    let hung = world.listen("/hung", EventKind::every()).await;
    let good = world.listen("/good", EventKind::every()).await;
    world.answer("/bad", 500, None);
    world.answer("/hung", 0, None);
    for day in 0u32..6 {
        world.accept(20).await;
        world.until("/good", 21 * (day as usize + 1)).await;
        world.clock.advance(24 * HOUR);
        world.webhooks.wake(&good);
        if world.store.webhook(bad.seq).await.unwrap().unwrap().disabled.is_none() {
            let before = world.tried(&bad, 1).await.len();
            world.webhooks.wake(&bad);
            world.tried(&bad, before + 1).await;
        }
    }
    for _ in 0..600 {
        if world.store.webhook(bad.seq).await.unwrap().unwrap().disabled.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let disabled = world.store.webhook(bad.seq).await.unwrap().unwrap();
    assert_eq!(disabled.disabled.as_deref(), Some("failing"));
    assert!(
        world.store.webhook(hung.seq).await.unwrap().unwrap().disabled.is_none(),
        "its first try still hangs"
    );
    let told = world.until("/good", 21 * 6 + 1).await;
    let last = told.iter().find(|(_, body)| body["type"] == "webhook.disabled").expect("somebody is told");
    assert_eq!(last.1["data"]["webhook_id"], bad.public_id.as_str());
    // What it missed is there for it.
    world.receiver.answers.lock().unwrap().remove("/bad");
    let missed = world.got("/bad").len();
    let enabled = world.enable(disabled).await;
    let bounds = world.store.event_bounds().await.unwrap();
    world.webhooks.replay(&enabled, bounds.purged_to, bounds.last).await.unwrap();
    let ids = |all: Vec<(String, Value)>| {
        all.into_iter().map(|(id, _)| id).collect::<std::collections::BTreeSet<_>>()
    };
    world.until("/bad", missed + told.len()).await;
    assert_eq!(ids(world.got("/bad")), ids(told));
    world.end().await;
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_disabled_at_once_and_a_redirect_is_a_failure() {
    let world = World::new().await;
    let hook = world.listen("/a", EventKind::MessageDone.bit()).await;
    world.answer("/a", 302, None);
    world.accept(1).await;
    let tried = world.tried(&hook, 1).await;
    assert_eq!((tried[0].status, tried[0].error.as_deref()), (Some(302), Some("redirected")));
    world.answer("/a", 410, None);
    world.later(&hook, Duration::from_secs(10));
    world.tried(&hook, 2).await;
    for _ in 0..600 {
        if let Some(reason) = world.store.webhook(hook.seq).await.unwrap().unwrap().disabled {
            assert_eq!(reason, "gone");
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.accept(1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.got("/a").len(), 2, "it is told no more");
    world.end().await;
}

#[tokio::test]
async fn an_endpoint_that_asks_for_time_gets_it() {
    let world = World::new().await;
    let hook = world.listen("/a", EventKind::MessageDone.bit()).await;
    world.answer("/a", 429, Some(1800));
    world.accept(1).await;
    let tried = world.tried(&hook, 1).await;
    assert_eq!(tried[0].next_at, Some(NOW + 1_800_000));
    world.later(&hook, Duration::from_mins(20));
    world.accept(1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.got("/a").len(), 1);
    world.receiver.answers.lock().unwrap().clear();
    world.later(&hook, Duration::from_mins(11));
    world.until("/a", 3).await;
    world.end().await;
}
