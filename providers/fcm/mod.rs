//! Firebase Cloud Messaging, HTTP v1: Android by Google's services, iPhones and browsers by way of Firebase.
//!
//! One token a request, so requests go through the HTTP/2 pool. The service account's key buys an access token
//! about once an hour, one for the whole channel. The vendor never reports delivery: the channel is blind after
//! `accepted`. Contract: <https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages>.

mod auth;
mod category;
mod check;
mod codes;
mod config;
mod overrides;
mod payload;
mod preview;
mod wire;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Request, Uri};
use serde_json::Value;
use tokio::time::Instant;

use self::codes::Reading;
use self::config::Config;
use self::payload::Rendered;
use crate::contract::{
    Address, AddressSpec, Batch, Capabilities, CategorySpec, CheckReport, ConfigError, Descriptor,
    Environment, Failure, Outcome, Outcomes, Preview, Provider, Quota, QuotaPeriod, QuotaScope, Registration,
    SendContext, Target, Tier, VendorEcho,
};
use crate::kit::bearer::{AuthError, Bearer};
use crate::kit::echo;
use crate::kit::failure::TransportError;
use crate::kit::h2::{H2Options, H2Pool};
use crate::kit::http::{DEFAULT_REQUEST_TIMEOUT, HttpOptions, client};
use crate::kit::sign::fingerprint;
use crate::kit::token::TokenCache;

/// Requests in flight for one credential. At some 100 ms each this reaches the default quota of 10,000 a second.
const MAX_IN_FLIGHT: u32 = 1000;

/// Google's front end allows 100 streams on a connection; ten of them carry what may be in flight.
const MAX_CONNECTIONS: usize = 10;

/// FCM's entry in the catalogue.
pub static PROVIDER: Registration = Registration {
    descriptor: Descriptor {
        id: "fcm",
        name: "Firebase Cloud Messaging",
        tier: Tier::Global,
        capabilities: Capabilities {
            notification: true,
            data: true,
            image: true,
            sound: true,
            badge_set: true,
            // No field adds to a number.
            badge_add: false,
            // Only iPhones show buttons (aps.category); Android and browsers have no field for a named set.
            actions: false,
            collapse: true,
            overrides: true,
            max_targets: 1,
            max_in_flight: MAX_IN_FLIGHT,
            // Reference "Message", read 2026-11-20.
            max_payload_bytes: payload::MAX_BYTES as u32,
            // Reference "AndroidConfig.ttl": four weeks.
            max_ttl: Duration::from_hours(28 * 24),
            ttl_unit: Duration::from_secs(1),
            ..Capabilities::NONE
        },
        address: AddressSpec {
            provider: "fcm",
            kinds: &["token", "fid"],
            special: &[],
            max_token_bytes: 1024,
            params: &["project_id"],
        },
        quotas: &[
            Quota {
                name: "project_minute",
                scope: QuotaScope::Channel,
                class: "",
                limit: 600_000,
                period: QuotaPeriod::Minute,
                time_zone: "UTC",
                enforced: false,
                source: "firebase.google.com/docs/cloud-messaging/throttling-and-quotas, read 2026-11-20; the default",
            },
            Quota {
                name: "device_minute",
                scope: QuotaScope::Device,
                class: "",
                limit: 240,
                period: QuotaPeriod::Minute,
                time_zone: "UTC",
                enforced: false,
                source: "third-party reports only, read 2026-11-20",
            },
            Quota {
                name: "device_hour",
                scope: QuotaScope::Device,
                class: "",
                limit: 5_000,
                period: QuotaPeriod::Hour,
                time_zone: "UTC",
                enforced: false,
                source: "third-party reports only, read 2026-11-20",
            },
        ],
    },
    build,
    config_schema: config::schema,
    check_overrides: overrides::check,
    category: CategorySpec { schema: category::schema, check: category::check },
};

fn build(config: &Value, environment: &Environment) -> Result<Arc<dyn Provider>, ConfigError> {
    Ok(Arc::new(Fcm::new(Config::read(config)?, environment)?))
}

/// One project's channel.
struct Fcm {
    config: Config,
    send_uri: Uri,
    user_agent: Option<HeaderValue>,
    pool: H2Pool,
    token_client: reqwest::Client,
    tokens: TokenCache<Bearer, AuthError>,
}

impl Fcm {
    fn new(config: Config, environment: &Environment) -> Result<Self, ConfigError> {
        let base = config.base_url.as_str().trim_end_matches('/');
        let send_uri = format!("{base}/v1/projects/{}/messages:send", config.project_id)
            .parse()
            .map_err(|_| ConfigError::at("/base_url", "gives no valid address"))?;
        let pool_options = H2Options {
            ca_pem: config.ca_pem.clone(),
            max_connections: MAX_CONNECTIONS,
            request_timeout: environment.request_timeout.unwrap_or(DEFAULT_REQUEST_TIMEOUT),
            egress: environment.egress.clone(),
            ..H2Options::default()
        };
        let pool =
            H2Pool::new(&config.base_url, pool_options).map_err(|why| ConfigError::at("/base_url", why))?;
        let token_options = HttpOptions {
            user_agent: environment.user_agent.clone(),
            request_timeout: environment.request_timeout,
            ca_pem: config.ca_pem.clone(),
            without_tls: config.token_url.scheme() == "http",
            egress: environment.egress.clone(),
        };
        let token_client = client(&token_options).map_err(|why| ConfigError::at("/token_url", why))?;
        let user_agent = HeaderValue::try_from(environment.user_agent.as_str()).ok();
        Ok(Self {
            send_uri,
            user_agent: user_agent.filter(|name| !name.is_empty()),
            pool,
            token_client,
            tokens: TokenCache::new(auth::RENEW_EARLY),
            config,
        })
    }

    async fn bearer(&self, now: fn() -> SystemTime) -> Result<Arc<Bearer>, AuthError> {
        self.tokens.get(now, async || auth::mint(&self.token_client, &self.config, now).await).await
    }

    /// One target from the gate to its outcome.
    async fn one(&self, rendered: &Rendered, target: &Target, context: &SendContext) -> (Reading, Duration) {
        // Held until the answer is read.
        let _pass = match context.gate.pass(1).await {
            Ok(pass) => pass,
            Err(reason) => {
                return (Reading::failed(Failure::channel(reason), VendorEcho::default()), Duration::ZERO);
            }
        };
        let started = Instant::now();
        let body = rendered.body(&target.address, target.key, false);
        let reading = self.deliver(body.into(), target.address.token.expose(), context.now).await;
        (reading, started.elapsed())
    }

    /// Posts a message; if our access token is refused, once more with a new one.
    async fn deliver(&self, body: Bytes, target_token: &str, now: fn() -> SystemTime) -> Reading {
        let bearer = match self.bearer(now).await {
            Ok(bearer) => bearer,
            Err(error) => return error.into(),
        };
        let first = self.post(body.clone(), &bearer, target_token, now).await;
        if !first.token_refused {
            return first;
        }
        self.tokens.invalidate(&bearer, now());
        match self.bearer(now).await {
            // The same again: another one was refused a moment ago.
            Ok(same) if Arc::ptr_eq(&same, &bearer) => first,
            Ok(fresh) => self.post(body, &fresh, target_token, now).await,
            Err(error) => error.into(),
        }
    }

    async fn post(
        &self,
        body: Bytes,
        bearer: &Bearer,
        target_token: &str,
        now: fn() -> SystemTime,
    ) -> Reading {
        let sent_bytes = body.len();
        let mut request = Request::new(body);
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.send_uri.clone();
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, bearer.header.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(user_agent) = &self.user_agent {
            headers.insert(USER_AGENT, user_agent.clone());
        }
        match self.pool.send(request).await {
            Ok(answer) => codes::read(&answer, sent_bytes, now(), &[target_token, &bearer.secret]),
            Err(error) => error.into(),
        }
    }
}

#[async_trait]
impl Provider for Fcm {
    async fn send(&self, batch: Batch, context: SendContext, outcomes: Outcomes) {
        let rendered = payload::render(&batch, (context.now)());
        let rendered = match &rendered {
            Ok(rendered) => rendered,
            Err(unsendable) => {
                for target in 0..batch.targets.len() {
                    outcomes.push(unsendable.outcome(target));
                }
                return;
            }
        };
        let (context, outcomes) = (&context, &outcomes);
        stream::iter(batch.targets.iter().enumerate())
            .for_each_concurrent(MAX_IN_FLIGHT as usize, async |(index, target)| {
                let (reading, latency) = self.one(rendered, target, context).await;
                let Reading { verdict, vendor, .. } = reading;
                outcomes.push(Outcome { target: index, verdict, vendor, latency });
            })
            .await;
    }

    async fn check(&self, context: SendContext) -> CheckReport {
        check::check(self, &context).await
    }

    fn serves(&self, address: &Address) -> Result<(), String> {
        match address.params.get("project_id") {
            Some(theirs) if *theirs != self.config.project_id => Err(format!(
                "the address belongs to Firebase project {theirs}, this channel sends for {}",
                self.config.project_id
            )),
            _ => Ok(()),
        }
    }

    fn preview(&self, batch: &Batch, context: &SendContext) -> Option<Preview> {
        preview::preview(batch, (context.now)())
    }

    fn credential(&self) -> String {
        let Config { account, project_id, base_url, .. } = &self.config;
        let text = format!("{}\n{project_id}\n{base_url}", account.client_email);
        fingerprint("fcm", &text)
    }
}

impl From<AuthError> for Reading {
    fn from(error: AuthError) -> Self {
        Self::failed(error.failure, error.vendor)
    }
}

impl From<TransportError> for Reading {
    fn from(error: TransportError) -> Self {
        let vendor = VendorEcho { words: echo::words(&error.detail, &[]), ..VendorEcho::default() };
        Self::failed(error.to_failure(), vendor)
    }
}
