//! Huawei's own push service, HMS Push Kit: phones with Android or HarmonyOS up to 4. HarmonyOS 5 and later have
//! another API and are another provider.
//!
//! One request carries up to 1000 tokens. An access token (or a token that a service account signs itself) authenticates.
//! What became of a message is reported to an address that is entered in the vendor's console. Contract:
//! <https://developer.huawei.com/consumer/en/doc/HMSCore-References/https-send-api-0000001050986197>.

mod auth;
mod category;
mod check;
mod codes;
mod config;
mod overrides;
mod payload;
mod preview;
mod receipts;
mod wire;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::Value;
use tokio::time::Instant;

use self::category::Way;
use self::codes::Reading;
use self::config::{Config, Proof};
use self::payload::Rendered;
use self::wire::{JSON, MAX_TARGETS};
use crate::contract::{
    Address, AddressSpec, Batch, CallbackReply, CallbackRequest, Capabilities, Category, CategorySpec,
    CheckReport, ConfigError, Content, Descriptor, Environment, Failure, Outcome, Outcomes, Preview,
    Provider, Quota, QuotaPeriod, QuotaScope, Reason, ReceiptKey, Receipts, Registration, SendContext,
    Target, Tier, VendorEcho, Verdict,
};
use crate::kit::bearer::{AuthError, Bearer};
use crate::kit::failure::Unsendable;
use crate::kit::group::{Group, group};
use crate::kit::http::{HttpOptions, client};
use crate::kit::sign::fingerprint;
use crate::kit::token::TokenCache;
use crate::kit::{echo, http as kit_http};

/// Requests in flight for one credential: 1000 targets each, so a few reach the quota.
const MAX_IN_FLIGHT: u32 = 32;

/// Huawei's entry in the catalogue.
pub static PROVIDER: Registration = Registration {
    descriptor: Descriptor {
        id: "huawei",
        name: "Huawei HMS Push",
        tier: Tier::Maker,
        capabilities: Capabilities {
            notification: true,
            data: true,
            image: true,
            sound: true,
            badge_set: true,
            badge_add: true,
            collapse: true,
            overrides: true,
            // Reference "https-send-api", read 2026-11-20; so are the next two.
            max_targets: MAX_TARGETS as u32,
            max_in_flight: MAX_IN_FLIGHT,
            max_payload_bytes: payload::MAX_BYTES as u32,
            max_ttl: Duration::from_hours(15 * 24),
            ttl_unit: Duration::from_secs(1),
            receipts: Receipts::Callback,
            receipt_key: ReceiptKey::Token,
            witnesses_delivered: true,
            ..Capabilities::NONE
        },
        address: AddressSpec {
            provider: "huawei",
            kinds: &["token"],
            special: &[],
            max_token_bytes: 1024,
            params: &["app_id"],
        },
        quotas: &[
            Quota {
                name: "marketing_device_day",
                scope: QuotaScope::Device,
                class: "marketing",
                limit: 2,
                period: QuotaPeriod::Day,
                time_zone: "Asia/Shanghai",
                enforced: true,
                source: "developer.huawei.com, message classification, read 2026-11-20; 5 for news apps",
            },
            Quota {
                name: "device_day",
                scope: QuotaScope::Device,
                class: "",
                limit: 3_000,
                period: QuotaPeriod::Day,
                time_zone: "Asia/Shanghai",
                // What is beyond is dropped with receipt 102.
                enforced: false,
                source: "developer.huawei.com, receipt guide (until midnight), and help.aliyun.com 2853108 (for 24 \
                         hours), read 2026-11-20",
            },
            Quota {
                name: "test_day",
                scope: QuotaScope::Channel,
                class: "test",
                limit: 500,
                period: QuotaPeriod::Day,
                time_zone: "Asia/Shanghai",
                enforced: true,
                source: "developer.huawei.com, target_user_type, read 2026-11-20",
            },
            Quota {
                name: "second",
                scope: QuotaScope::Channel,
                class: "",
                limit: 6_000,
                period: QuotaPeriod::Second,
                time_zone: "UTC",
                enforced: false,
                source: "third party (Tencent), read 2026-11-20: in tokens, the least; AppGallery Connect shows the app's",
            },
        ],
    },
    build,
    config_schema: config::schema,
    check_overrides: overrides::check,
    category: CategorySpec { schema: category::schema, check: category::check },
};

fn build(config: &Value, environment: &Environment) -> Result<Arc<dyn Provider>, ConfigError> {
    Ok(Arc::new(Huawei::new(Config::read(config)?, environment)?))
}

/// One app's or project's channel.
struct Huawei {
    config: Config,
    send_url: String,
    client: reqwest::Client,
    bearers: TokenCache<Bearer, AuthError>,
}

impl Huawei {
    fn new(config: Config, environment: &Environment) -> Result<Self, ConfigError> {
        let options = HttpOptions {
            user_agent: environment.user_agent.clone(),
            request_timeout: environment.request_timeout,
            ca_pem: config.ca_pem.clone(),
            without_tls: [&config.base_url, &config.token_url].iter().all(|url| url.scheme() == "http"),
            egress: environment.egress.clone(),
        };
        let client = client(&options).map_err(|why| ConfigError::at("/base_url", why))?;
        let bearers = TokenCache::new(auth::RENEW_EARLY);
        Ok(Self { send_url: config.send_url(), client, bearers, config })
    }

    async fn bearer(&self, now: fn() -> SystemTime) -> Result<Arc<Bearer>, AuthError> {
        self.bearers.get(now, async || auth::mint(&self.client, &self.config, now).await).await
    }

    /// One request from the gate to its outcomes.
    async fn one(
        &self,
        rendered: &Rendered,
        request: &Group<'_, ()>,
        targets: &[Target],
        context: &SendContext,
        outcomes: &Outcomes,
    ) {
        // Held until the answer is read.
        let (reading, latency) = match context.gate.pass(request.tokens.len()).await {
            Ok(_pass) => {
                let started = Instant::now();
                let body = rendered.body(&request.tokens, request.param, false);
                let reading = self.deliver(&body, &request.tokens, context.now).await;
                (reading, started.elapsed())
            }
            Err(reason) => {
                let verdict = Verdict::Failed(Failure::channel(reason));
                (Reading::of(verdict, VendorEcho::default()), Duration::ZERO)
            }
        };
        for index in &request.members {
            let token = targets[*index].address.token.expose();
            let (verdict, vendor) = if reading.illegal.contains(token) {
                illegal_token(&reading.vendor)
            } else {
                (reading.verdict.clone(), reading.vendor.clone())
            };
            outcomes.push(Outcome { target: *index, verdict, vendor, latency });
        }
    }

    /// Posts a message; if our bearer is refused, once more with a new one.
    async fn deliver(&self, body: &Value, tokens: &[&str], now: fn() -> SystemTime) -> Reading {
        let body = bytes::Bytes::from(body.to_string());
        let bearer = match self.bearer(now).await {
            Ok(bearer) => bearer,
            Err(error) => return error.into(),
        };
        let first = self.post(body.clone(), &bearer, tokens, now).await;
        if !first.token_refused {
            return first;
        }
        self.bearers.invalidate(&bearer, now());
        match self.bearer(now).await {
            // The same again: another one was refused a moment ago.
            Ok(same) if Arc::ptr_eq(&same, &bearer) => first,
            Ok(fresh) => self.post(body, &fresh, tokens, now).await,
            Err(error) => error.into(),
        }
    }

    async fn post(
        &self,
        body: bytes::Bytes,
        bearer: &Bearer,
        tokens: &[&str],
        now: fn() -> SystemTime,
    ) -> Reading {
        let request = self.client.post(&self.send_url).header(AUTHORIZATION, bearer.header.clone());
        match kit_http::send(request.header(CONTENT_TYPE, JSON).body(body)).await {
            Ok(answer) => codes::read(&answer, tokens, &bearer.secret, now()),
            Err(error) => {
                let vendor = VendorEcho { words: echo::words(&error.detail, &[]), ..VendorEcho::default() };
                Reading::of(Verdict::Failed(error.to_failure()), vendor)
            }
        }
    }
}

/// Others of the same request went out, so the credentials fit and the token does not.
fn illegal_token(vendor: &VendorEcho) -> (Verdict, VendorEcho) {
    let words = Some("listed under illegal_tokens".to_owned());
    let verdict = Verdict::Failed(Failure::target(Reason::InvalidToken));
    // The id stands for those that went out.
    (verdict, VendorEcho { id: None, words, ..vendor.clone() })
}

impl From<AuthError> for Reading {
    fn from(error: AuthError) -> Self {
        Self::of(Verdict::Failed(error.failure), error.vendor)
    }
}

#[async_trait]
impl Provider for Huawei {
    async fn send(&self, batch: Batch, context: SendContext, outcomes: Outcomes) {
        let rendered = match payload::render(&self.config, &batch) {
            Ok(rendered) => rendered,
            Err(unsendable) => {
                for target in 0..batch.targets.len() {
                    outcomes.push(unsendable.outcome(target));
                }
                return;
            }
        };
        // A token that stands twice would be delivered twice.
        let refuse = |target, unsendable: Unsendable| outcomes.push(unsendable.outcome(target));
        let requests = group(&batch.targets, MAX_TARGETS, |_| Ok(()), refuse);
        let (rendered, targets, context, outcomes) = (&rendered, &batch.targets, &context, &outcomes);
        stream::iter(&requests)
            .for_each_concurrent(MAX_IN_FLIGHT as usize, |request| {
                self.one(rendered, request, targets, context, outcomes)
            })
            .await;
    }

    async fn check(&self, context: SendContext) -> CheckReport {
        check::check(self, &context).await
    }

    fn serves(&self, address: &Address) -> Result<(), String> {
        match (address.params.get("app_id"), &self.config.app_id) {
            (Some(theirs), Some(ours)) if theirs != ours => {
                Err(format!("the address belongs to app {theirs}, this channel sends for {ours}"))
            }
            _ => Ok(()),
        }
    }

    fn credential(&self) -> String {
        let Config { proof, path, base_url, .. } = &self.config;
        let who = match proof {
            Proof::Secret { client_id, .. } => client_id,
            Proof::Account(account) => &account.sub_account,
        };
        fingerprint("huawei", &format!("{who}\n{path}\n{base_url}"))
    }

    fn parse_callback(&self, request: &CallbackRequest) -> Option<CallbackReply> {
        Some(receipts::read(request, self.config.callback.as_ref()))
    }

    fn preview(&self, batch: &Batch, _context: &SendContext) -> Option<Preview> {
        Some(preview::preview(self, batch))
    }

    fn quota_class(&self, content: &Content, category: Option<&Category>) -> &'static str {
        if self.config.test_messages { "test" } else { Way::of(content, category).class() }
    }
}
