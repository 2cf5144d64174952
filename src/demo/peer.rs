//! A small caller for the two servers that the demo speaks to: the gateway's public API and the sandbox.

use anyhow::{Context as _, bail};
use anypush_providers::kit::egress::Egress;
use anypush_providers::kit::http::{self as kit, HttpOptions};
use http::{Method, StatusCode};
use serde_json::Value;

/// One server, and who calls.
#[derive(Clone)]
pub(super) struct Peer {
    http: reqwest::Client,
    base: String,
    key: Option<String>,
    app: Option<String>,
}

impl Peer {
    /// Calls `base` (no slash at its end) without a key.
    pub(super) fn new(base: &str) -> anyhow::Result<Self> {
        let options = HttpOptions { egress: Egress::everywhere(), ..HttpOptions::default() };
        let http = kit::client(&options).map_err(anyhow::Error::msg)?;
        Ok(Self { http, base: base.to_owned(), key: None, app: None })
    }

    /// The same server with a key; an admin key acts for `app`.
    pub(super) fn with_key(&self, key: &str, app: Option<&str>) -> Self {
        Self { key: Some(key.to_owned()), app: app.map(str::to_owned), ..self.clone() }
    }

    /// Calls and returns whatever was answered.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(StatusCode, Value)> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        if let Some(app) = &self.app {
            request = request.header("anypush-app", app);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = kit::send(request).await.with_context(|| format!("{} does not answer", self.base))?;
        Ok((answer.status(), serde_json::from_slice(answer.body()).unwrap_or_default()))
    }

    /// Calls; an answer that is no success is an error that says what was refused.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let (status, answer) = self.ask(method.clone(), path, body).await?;
        if !status.is_success() {
            bail!("{method} {path} was answered {status}: {answer}");
        }
        Ok(answer)
    }
}
