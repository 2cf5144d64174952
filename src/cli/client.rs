//! A caller of a running gateway: what the commands that talk to one share.

use ::http as http_types;
use anyhow::Context as _;
use anypush_providers::kit::egress::Egress;
use anypush_providers::kit::http;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

/// Which gateway, and with which key.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Remote {
    /// The gateway's address.
    #[arg(long, env = "ANYPUSH_URL", value_name = "URL", default_value = "http://127.0.0.1:8470")]
    pub(super) url: String,
    /// The API key. Better given by the environment: others on this machine see command lines.
    #[arg(long, env = "ANYPUSH_API_KEY", value_name = "KEY", hide_env_values = true)]
    pub(super) api_key: Option<SecretString>,
    /// For which app an admin key acts: its id or name.
    #[arg(long, env = "ANYPUSH_APP", value_name = "APP")]
    pub(super) app: Option<String>,
}

/// A ready caller.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    url: String,
    key: SecretString,
    app: Option<String>,
}

impl Remote {
    /// The path of the app that is named.
    pub(super) fn app_path(&self) -> anyhow::Result<String> {
        let app = self.app.as_deref().context("say which app: --app APP, or ANYPUSH_APP")?;
        Ok(format!("/v1/apps/{}", escape(app)))
    }

    /// Makes a caller; the key must be there.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        let key = self.api_key.clone().context("no API key: set ANYPUSH_API_KEY or give --api-key")?;
        let options = http::HttpOptions {
            user_agent: concat!("anypush/", env!("CARGO_PKG_VERSION")).into(),
            // Where the person who runs this said.
            egress: Egress::everywhere(),
            ..http::HttpOptions::default()
        };
        let http = http::client(&options).map_err(anyhow::Error::msg)?;
        Ok(Client { http, url: self.url.trim_end_matches('/').into(), key, app: self.app.clone() })
    }
}

impl Client {
    /// Everything that a list has, page by page.
    pub(super) async fn all(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = format!("{path}?limit=100{cursor}");
            let mut page = self.call(http_types::Method::GET, &page, None, false).await?;
            if let Value::Array(mut data) = page["data"].take() {
                all.append(&mut data);
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={}", escape(next)),
                None => return Ok(all),
            }
        }
    }

    /// Calls the gateway; a problem document becomes a sentence. `acting`: send the app along.
    pub(super) async fn call(
        &self,
        method: http_types::Method,
        path: &str,
        body: Option<&Value>,
        acting: bool,
    ) -> anyhow::Result<Value> {
        let mut request =
            self.http.request(method, format!("{}{path}", self.url)).bearer_auth(self.key.expose_secret());
        if let Some(app) = self.app.as_deref().filter(|_| acting) {
            request = request.header("anypush-app", app);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = http::send(request)
            .await
            .with_context(|| format!("{} does not answer; is the gateway running there?", self.url))?;
        let value: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
        if answer.status().is_success() {
            return Ok(value);
        }
        let told = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        Err(Refused {
            status: answer.status().as_u16(),
            code: told("code"),
            place: value["pointer"].as_str().map_or_else(String::new, |at| format!(" at {at}")),
            detail: told("detail"),
        }
        .into())
    }
}

/// The gateway's refusal, as a sentence.
#[derive(Debug, thiserror::Error)]
#[error("the gateway refused ({status} {code}{place}): {detail}")]
pub(super) struct Refused {
    /// The HTTP status.
    pub(super) status: u16,
    code: String,
    place: String,
    detail: String,
}

/// A name inside a path.
pub(super) fn escape(name: &str) -> String {
    url::form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20")
}
