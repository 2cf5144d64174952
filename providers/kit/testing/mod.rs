//! For adapter tests: a vendor that answers as it is told, and the promises that every adapter keeps.

pub(crate) mod raw_peer;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::contract::{Batch, Environment, Outcome, Outcomes, Provider, SendContext};
use crate::kit::egress::Egress;

/// RFC 7515 A.2's published key: a secret to nobody.
pub(crate) const RSA_PEM: &str = include_str!("../testdata/rfc7515_a2.pem");

/// RFC 7515 A.3's, on the curve P-256.
pub(crate) const EC_PEM: &str = include_str!("../testdata/rfc7515_a3.pem");

/// Where a [`FakeVendor`] may be called; requests take two seconds at most.
pub(crate) fn environment() -> Environment {
    Environment {
        user_agent: "anypush/test".to_owned(),
        request_timeout: Some(Duration::from_secs(2)),
        egress: Egress::new(["127.0.0.1", "localhost"], false),
    }
}

/// A request as the vendor saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// What stands behind the question mark.
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The body as a form.
    pub(crate) fn form(&self) -> BTreeMap<String, String> {
        url::form_urlencoded::parse(&self.body).into_owned().collect()
    }

    /// A header's text.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// What the vendor answers.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    after: Duration,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new(), after: Duration::ZERO }
    }

    pub(crate) fn ok(body: impl Into<Bytes>) -> Self {
        Self::status(200).body(body)
    }

    pub(crate) fn body(self, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..self }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }

    async fn into_response(self) -> Response {
        tokio::time::sleep(self.after).await;
        let mut response = Response::builder().status(self.status);
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        response.body(Body::from(self.body)).unwrap()
    }
}

/// A vendor on a free port: HTTP/1.1 and HTTP/2 without TLS. Ends when dropped.
pub(crate) struct FakeVendor {
    base: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl FakeVendor {
    /// Starts a vendor that answers with what `behave` says and remembers what it was asked.
    #[expect(clippy::disallowed_methods, reason = "a test's server ends with the test")]
    pub(crate) async fn start(behave: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (behave, log) = (Arc::new(behave), seen.clone());
        let router = Router::new().fallback(move |request: Request| {
            let (behave, log) = (behave.clone(), log.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
                let (method, path) = (parts.method, parts.uri.path().to_owned());
                let query = parts.uri.query().unwrap_or_default().to_owned();
                let seen = Seen { method, path, query, headers: parts.headers, body };
                let reply = behave(&seen);
                log.lock().unwrap().push(seen);
                reply.into_response().await
            }
        });
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { base, seen, task }
    }

    /// Starts a vendor that answers the first request to `path` with `refusal`, and from then on with what `behave` says.
    pub(crate) async fn refusing_once(
        path: &'static str,
        refusal: Reply,
        behave: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let refused = AtomicBool::new(false);
        Self::start(move |seen| {
            if seen.path == path && !refused.swap(true, Ordering::SeqCst) {
                return refusal.clone();
            }
            behave(seen)
        })
        .await
    }

    /// An address of this vendor.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// All requests so far, in the order of their arrival.
    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The requests to paths that end so.
    pub(crate) fn requests_to(&self, path_end: &str) -> Vec<Seen> {
        self.requests().into_iter().filter(|seen| seen.path.ends_with(path_end)).collect()
    }

    /// Closes the port and returns its address: nobody listens there any more.
    pub(crate) async fn shut(mut self) -> String {
        self.task.abort();
        let _ = (&mut self.task).await;
        self.base.clone()
    }
}

impl Drop for FakeVendor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Sends a batch and checks what every adapter promises: exactly one outcome for each target, and no secret in any
/// of them. Returns the outcomes in the order of the targets.
pub(crate) async fn assert_contract(
    provider: &dyn Provider,
    batch: Batch,
    context: SendContext,
    secrets: &[&str],
) -> Vec<Outcome> {
    let targets = batch.targets.len();
    let mut secrets: Vec<String> = secrets.iter().map(|secret| (*secret).to_owned()).collect();
    secrets.extend(batch.targets.iter().map(|target| target.address.token.expose().to_owned()));
    let (sink, mut source) = Outcomes::channel();
    provider.send(batch, context, sink).await;
    let mut outcomes = Vec::new();
    while let Some(outcome) = source.recv().await {
        let shown = format!("{outcome:?}");
        for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
            assert!(!shown.contains(secret.as_str()), "an outcome shows a secret: {shown}");
        }
        assert!(outcome.vendor.words.as_ref().is_none_or(|words| words.len() <= 300));
        outcomes.push(outcome);
    }
    outcomes.sort_by_key(|outcome| outcome.target);
    let answered: Vec<usize> = outcomes.iter().map(|outcome| outcome.target).collect();
    assert_eq!(answered, (0..targets).collect::<Vec<_>>(), "exactly one outcome for each target");
    outcomes
}
