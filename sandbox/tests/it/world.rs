//! Starts sandboxes and talks to them.

use std::path::Path;

use anypush_sandbox::{Options, Running, start};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::sync::oneshot;

pub(crate) const PROJECT: &str = "demo-proj";
pub(crate) const MESSAGING: &str = "https://www.googleapis.com/auth/firebase.messaging";

/// A sandbox and a client of it.
pub(crate) struct World {
    pub(crate) url: String,
    pub(crate) running: Running,
    pub(crate) http: reqwest::Client,
    stop: oneshot::Sender<()>,
}

#[expect(clippy::disallowed_methods, reason = "tests are no part of the gateway")]
pub(crate) fn client(h2c: bool) -> reqwest::Client {
    let builder = reqwest::Client::builder().no_proxy();
    if h2c { builder.http2_prior_knowledge() } else { builder }.build().unwrap()
}

/// A client that trusts this one certificate.
#[expect(clippy::disallowed_methods, reason = "tests are no part of the gateway")]
pub(crate) fn https_client(cert_pem: &str) -> reqwest::Client {
    let cert = reqwest::Certificate::from_pem(cert_pem.as_bytes()).unwrap();
    reqwest::Client::builder().no_proxy().tls_certs_only([cert]).build().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "tests are no part of the gateway")]
pub(crate) fn now_seconds() -> i64 {
    jiff::Timestamp::now().as_second()
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    pub(crate) async fn start_in(dir: &Path) -> Self {
        Self::start_with(Options { data_dir: Some(dir.to_owned()), ..Options::default() }).await
    }

    pub(crate) async fn start_with(options: Options) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let running = start(options, async {
            let _ = stopped.await;
        })
        .await
        .unwrap();
        Self { url: running.url(), running, http: client(false), stop }
    }

    /// Stops it and waits until it has ended.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        self.running.wait().await;
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.http.get(format!("{}{path}", self.url)).send().await.unwrap().json().await.unwrap()
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> (u16, Value) {
        let answer = self.http.put(format!("{}{path}", self.url)).json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
    }

    /// The sums of the ledger, as [requests, accepted, accepted_distinct, duplicates].
    pub(crate) async fn sums(&self, query: &str) -> [u64; 4] {
        let summary = self.get(&format!("/_sandbox/summary{query}")).await;
        ["requests", "accepted", "accepted_distinct", "duplicates"]
            .map(|name| summary[name].as_u64().unwrap())
    }

    pub(crate) async fn service_account(&self, project: &str) -> Value {
        self.get(&format!("/_sandbox/fcm/{project}/service_account")).await
    }

    /// Posts an assertion; status and answer.
    pub(crate) async fn post_assertion(&self, assertion: &str) -> (u16, Value) {
        let form = [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", assertion)];
        let answer = self.http.post(format!("{}/token", self.url)).form(&form).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// A good access token of a project.
    pub(crate) async fn access_token(&self, project: &str) -> String {
        let account = self.service_account(project).await;
        let (status, answer) = self.post_assertion(&sign(&account, &claims(&account))).await;
        assert_eq!(status, 200, "{answer}");
        answer["access_token"].as_str().unwrap().to_owned()
    }

    /// Posts a request to send with a good access token; status and answer.
    pub(crate) async fn post(&self, access_token: &str, body: &Value) -> (u16, Value) {
        let answer = self.try_post(access_token, body).await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
    }

    pub(crate) async fn try_post(
        &self,
        access_token: &str,
        body: &Value,
    ) -> reqwest::Result<reqwest::Response> {
        let url = format!("{}/v1/projects/{PROJECT}/messages:send", self.url);
        self.http.post(url).bearer_auth(access_token).json(body).send().await
    }
}

/// The claims that a good client signs.
pub(crate) fn claims(account: &Value) -> Value {
    let now = now_seconds();
    json!({
        "iss": account["client_email"],
        "aud": "https://oauth2.googleapis.com/token",
        "iat": now,
        "exp": now + 3600,
        "scope": MESSAGING,
    })
}

/// Signs claims with a service account's key.
pub(crate) fn sign(account: &Value, claims: &Value) -> String {
    let mut header = Header::new(Algorithm::RS256);
    header.kid = account["private_key_id"].as_str().map(str::to_owned);
    let key = EncodingKey::from_rsa_pem(account["private_key"].as_str().unwrap().as_bytes()).unwrap();
    jsonwebtoken::encode(&header, claims, &key).unwrap()
}

/// A message to a token, with a message id.
pub(crate) fn to(token: &str, message: &str) -> Value {
    json!({"message": {"token": token, "data": {"anypush_id": message}, "notification": {"title": "Hello"}}})
}

/// The code of an answer's FcmError, where it has one.
pub(crate) fn fcm_error(answer: &Value) -> Option<&str> {
    answer["error"]["details"].as_array()?.iter().find_map(|detail| {
        (detail["@type"] == "type.googleapis.com/google.firebase.fcm.v1.FcmError")
            .then(|| detail["errorCode"].as_str())?
    })
}

/// The fields that an answer's BadRequest blames.
pub(crate) fn blamed(answer: &Value) -> Vec<&str> {
    let details = answer["error"]["details"].as_array().into_iter().flatten();
    details
        .flat_map(|detail| detail["fieldViolations"].as_array().into_iter().flatten())
        .filter_map(|violation| violation["field"].as_str())
        .collect()
}
