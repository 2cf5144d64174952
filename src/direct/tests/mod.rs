//! Phones against the real store and the real way of a message; sockets over TCP.

mod http;
mod memory;
mod socket;
mod stream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use serde_json::Value;
use tower::ServiceExt as _;

use super::secret;
use crate::api;
use crate::app::{self, Gateway};
use crate::clock::Clock;
use crate::delivery::SendRequest;
use crate::delivery::spec::{Audience, Spec};
use crate::delivery::state::State;
use crate::ids::{Id, Kind};
use crate::settings::Settings;
use crate::store::{DevicePut, DeviceRecord};

/// A gateway with one app, one phone and a listener.
struct World {
    gateway: Arc<Gateway>,
    address: SocketAddr,
    app: i64,
    device: DeviceRecord,
    secret: String,
    /// Deleted when dropped.
    _dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let given = [("data_dir", dir.path().display().to_string()), ("node", "3".to_owned())];
        let settings = Settings::load(None, |_| None, &given).unwrap();
        let gateway = app::start(settings, Clock::fixed(1_800_000_000_000)).await.unwrap();
        let ids = ("app_1".to_owned(), "chn_1".to_owned());
        let app = gateway.store.create_app("test", ids, gateway.clock.now_ms()).await.unwrap().seq;
        gateway.channels.reload().await.unwrap();
        let put = DevicePut { id: "phone-1".to_owned(), enabled: true, ..DevicePut::default() };
        gateway.store.put_devices(app, vec![put], gateway.clock.now_ms()).await.unwrap();
        let (device, secret) = secret::issue(&gateway, app, "phone-1").await.unwrap().unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = api::router(&gateway);
        gateway.tasks.spawn("test listener", async move { axum::serve(listener, router).await.unwrap() });
        Self { gateway, address, app, device, secret, _dir: dir }
    }

    /// Sends a message with this number and waits until it is in the inbox.
    async fn send(&self, n: usize) -> String {
        self.send_for(n, 3600).await
    }

    async fn send_for(&self, n: usize, ttl_seconds: u32) -> String {
        let mut spec = Spec { ttl_seconds, ..Spec::default() };
        Arc::make_mut(&mut spec.content).data.insert("n".to_owned(), n.to_string());
        let request = SendRequest {
            app: self.app,
            spec,
            audience: Audience::Devices(vec!["phone-1".to_owned()]),
            label: None,
            idempotency: None,
        };
        let accepted = self.gateway.pipeline.accept(request).await.unwrap();
        self.until(accepted.id, State::Accepted).await;
        self.gateway.codec.encode(Kind::Message, accepted.id)
    }

    async fn state(&self, message: Id) -> Option<State> {
        let rows = self.gateway.store.deliveries_of(message, &[self.device.seq]).await.unwrap();
        rows.first().map(|row| row.state)
    }

    async fn until(&self, message: Id, state: State) {
        for _ in 0..1000 {
            if self.state(message).await.is_some_and(|now| now.rank() >= state.rank()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the delivery never became {state:?}: {:?}", self.state(message).await);
    }

    async fn until_named(&self, message: &str, state: State) {
        self.until(self.gateway.codec.decode(Kind::Message, message).unwrap(), state).await;
    }

    async fn request(&self, method: &str, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        self.request_as(Some(&self.secret), method, path, body).await
    }

    async fn request_as(
        &self,
        secret: Option<&str>,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(secret) = secret {
            request = request.header(header::AUTHORIZATION, format!("Bearer {secret}"));
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let router = api::router(&self.gateway);
        let response = router.oneshot(request.body(body).unwrap()).await.unwrap();
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    async fn poll(&self, query: &str) -> Value {
        let (status, answer) = self.request("GET", &format!("/v1/device/messages{query}"), None).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer
    }

    async fn connected(&self, wanted: usize) {
        for _ in 0..1000 {
            if self.gateway.hub.connected() == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{} are connected", self.gateway.hub.connected());
    }
}

/// The numbers of messages in an answer.
fn numbers(answer: &Value) -> Vec<usize> {
    let messages = answer["messages"].as_array().unwrap();
    messages.iter().map(|m| m["data"]["n"].as_str().unwrap().parse().unwrap()).collect()
}
