//! The whole service over the real store in a temporary directory, without a port.

mod callbacks;
mod categories;
mod contract;
mod devices;
mod doors;
mod messages;
mod ops;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::api;
use crate::api::auth::{NewKey, SCOPES};
use crate::app::{self, Gateway};
use crate::clock::Clock;
use crate::settings::Settings;

/// A time to begin at, in Unix milliseconds.
const NOW: u64 = 1_800_000_000_000;

/// A gateway with an admin key, and two apps with a key each.
struct World {
    gateway: Arc<Gateway>,
    router: Router,
    admin: String,
    key: String,
    app: String,
    other_key: String,
    other_app: String,
    _dir: tempfile::TempDir,
}

/// An answer, read.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// The status, and the code where it is a problem document.
    fn told(&self) -> (u16, String) {
        (self.status.as_u16(), self.json()["code"].as_str().unwrap_or_default().to_owned())
    }
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let given = [("data_dir", dir.path().display().to_string())];
        let settings = Settings::load(None, |_| None, &given).unwrap();
        let gateway = app::start(settings, Clock::fixed(NOW)).await.unwrap();
        let (_, admin) = gateway.auth.create_key(NewKey::default()).await.unwrap();
        let router = api::router(&gateway);
        let mut world = Self {
            gateway,
            router,
            admin,
            key: String::new(),
            app: String::new(),
            other_key: String::new(),
            other_app: String::new(),
            _dir: dir,
        };
        (world.app, world.key) = world.tenant("shop").await;
        (world.other_app, world.other_key) = world.tenant("bank").await;
        world
    }

    /// Makes an app and a key with all scopes.
    async fn tenant(&self, name: &str) -> (String, String) {
        let app = self.call("POST", "/v1/apps", &self.admin, Some(json!({"name": name}))).await;
        assert_eq!(app.status, 201, "{}", app.text);
        let app = app.json()["id"].as_str().unwrap().to_owned();
        let body = json!({"name": "all", "scopes": SCOPES});
        let key = self.call("POST", &format!("/v1/apps/{app}/keys"), &self.admin, Some(body)).await;
        assert_eq!(key.status, 201, "{}", key.text);
        (app, key.json()["key"].as_str().unwrap().to_owned())
    }

    /// A call with a key and, where given, a JSON body.
    async fn call(&self, method: &str, path: &str, key: &str, body: Option<Value>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !key.is_empty() {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let body = match body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        let answer = self.send(request.body(body).unwrap()).await;
        contract::check(method, path, answer.status.as_u16(), &answer.json());
        answer
    }

    /// A call by the first app's key.
    async fn own(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.call(method, path, &self.key, body).await
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(parts.headers.contains_key("request-id"), "every answer has a Request-Id");
        assert_eq!(parts.headers["x-content-type-options"], "nosniff");
        if parts.status.is_client_error() || parts.status.is_server_error() {
            assert_eq!(parts.headers["content-type"], "application/problem+json", "{text}");
        }
        Answer { status: parts.status, headers: parts.headers, text }
    }
}
