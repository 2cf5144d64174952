//! Xiaomi's own push service: phones of Xiaomi, Redmi and POCO, in China and abroad.
//!
//! One request carries up to 1000 registration ids of one region. A static secret authenticates. What became of a
//! message is reported by callbacks whose URL each request names. Contract: <https://dev.mi.com/distribute/doc/details?pId=1559>.

mod category;
mod check;
mod codes;
mod config;
mod overrides;
mod payload;
mod preview;
mod receipts;
mod region;
mod trace;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::Value;
use tokio::time::Instant;

use self::category::Way;
use self::codes::{Asked, Reading};
use self::config::Config;
use self::payload::Rendered;
use self::region::Region;
use self::wire::{FORM, MAX_TARGETS, SEND_PATH};
use crate::contract::{
    Address, AddressSpec, Batch, CallbackReply, CallbackRequest, Capabilities, Category, CategorySpec,
    CheckReport, ConfigError, Content, Descriptor, Environment, Failure, Outcome, Outcomes, Preview,
    Provider, Quota, QuotaPeriod, QuotaScope, Reason, Receipt, ReceiptKey, Receipts, Registration,
    SendContext, Target, Tier, VendorEcho, Verdict,
};
use crate::kit::failure::Unsendable;
use crate::kit::group::{Group, group};
use crate::kit::http::{HttpOptions, client};
use crate::kit::sign::fingerprint;
use crate::kit::{echo, http as kit_http};

/// Requests in flight for one credential: 1000 targets each, so a few reach the largest quota.
const MAX_IN_FLIGHT: u32 = 32;

/// The longest callback URL (128 bytes in older texts; today's limit is UNVERIFIED).
const MAX_CALLBACK_URL: usize = 128;

/// Xiaomi's entry in the catalogue.
pub static PROVIDER: Registration = Registration {
    descriptor: Descriptor {
        id: "xiaomi",
        name: "Xiaomi MiPush",
        tier: Tier::Maker,
        capabilities: Capabilities {
            notification: true,
            // Transparent messages were withdrawn on 2022-09-12 (announcements, pId=1529).
            data: false,
            // Pictures of single messages are ignored since August 2023.
            image: false,
            sound: true,
            collapse: true,
            // extra.jobkey: the phone shows the first message of a key.
            dedupe: true,
            overrides: true,
            max_targets: MAX_TARGETS as u32,
            max_in_flight: MAX_IN_FLIGHT,
            // pId=1559; the field `payload` alone.
            max_payload_bytes: payload::MAX_PAYLOAD_BYTES as u32,
            // pId=1854, since 2024-09-03: ten days in private channels; in public ones a day, see payload.rs.
            max_ttl: Duration::from_hours(10 * 24),
            ttl_unit: Duration::from_secs(1),
            receipts: Receipts::Callback,
            receipt_key: ReceiptKey::Token,
            polls_receipts: true,
            witnesses_delivered: true,
            witnesses_clicked: true,
            ..Capabilities::NONE
        },
        address: AddressSpec {
            provider: "xiaomi",
            kinds: &["regid"],
            special: &[],
            max_token_bytes: 512,
            params: &["region"],
        },
        quotas: &[
            Quota {
                name: "public_day",
                scope: QuotaScope::Channel,
                class: "public",
                limit: 20_000,
                period: QuotaPeriod::Day,
                time_zone: "Asia/Shanghai",
                // It counts what was delivered and grows with the app's users: the vendor's 200001 knows better.
                enforced: false,
                source: "dev.mi.com pId=1656 (2026-02-04), read 2026-11-20: twice the phones with notifications on \
                         (three times with a news licence), 10,000 at least",
            },
            Quota {
                name: "public_device_day",
                scope: QuotaScope::Device,
                class: "public",
                limit: 5,
                period: QuotaPeriod::Day,
                time_zone: "Asia/Shanghai",
                enforced: true,
                source: "dev.mi.com pId=1656 (2026-02-04), read 2026-11-20; 8 with a news licence",
            },
            Quota {
                name: "second",
                scope: QuotaScope::Channel,
                class: "",
                limit: 500,
                period: QuotaPeriod::Second,
                time_zone: "UTC",
                enforced: false,
                source: "help.aliyun.com 616229, read 2026-11-20: 500 below 100,000 active phones, up to 3,000; \
                         whether requests or targets is UNVERIFIED",
            },
        ],
    },
    build,
    config_schema: config::schema,
    check_overrides: overrides::check,
    category: CategorySpec { schema: category::schema, check: category::check },
};

fn build(config: &Value, environment: &Environment) -> Result<Arc<dyn Provider>, ConfigError> {
    Ok(Arc::new(Xiaomi::new(Config::read(config)?, environment)?))
}

/// One app's channel.
struct Xiaomi {
    config: Config,
    client: reqwest::Client,
}

impl Xiaomi {
    fn new(config: Config, environment: &Environment) -> Result<Self, ConfigError> {
        let options = HttpOptions {
            user_agent: environment.user_agent.clone(),
            request_timeout: environment.request_timeout,
            ca_pem: config.ca_pem.clone(),
            without_tls: config.without_tls(),
            egress: environment.egress.clone(),
        };
        let client = client(&options).map_err(|why| ConfigError::at("/base_url", why))?;
        Ok(Self { config, client })
    }

    /// Where an address is.
    fn region(&self, address: &Address) -> Result<Region, String> {
        match address.params.get("region") {
            None => Ok(self.config.region),
            Some(name) => Region::named(name)
                .ok_or_else(|| format!("the address's region is none of {}", Region::names())),
        }
    }

    fn way<'a>(&'a self, content: &Content, category: Option<&'a Category>) -> Way<'a> {
        Way::of(&self.config, content, category)
    }

    /// A query with the channel's secret.
    fn get(&self, region: Region, path: &str, query: &[(&str, &str)]) -> reqwest::RequestBuilder {
        let request = self.client.get(self.config.url(region, path)).query(query);
        request.header(AUTHORIZATION, self.config.secret.header.clone())
    }

    /// Where a target is, if a request can hold it.
    fn place(&self, target: &Target) -> Result<Region, Unsendable> {
        check_token(target.address.token.expose())?;
        self.region(&target.address).map_err(Unsendable::invalid)
    }

    /// One request from the gate to its outcomes.
    async fn one(
        &self,
        rendered: &Rendered,
        request: &Group<'_, Region>,
        targets: &[Target],
        context: &SendContext,
        outcomes: &Outcomes,
    ) {
        // Held until the answer is read.
        let (reading, latency) = match context.gate.pass(request.tokens.len()).await {
            Ok(_pass) => {
                let started = Instant::now();
                let reading = self.deliver(rendered, request, context).await;
                (reading, started.elapsed())
            }
            Err(reason) => (Reading::failed(Failure::channel(reason), VendorEcho::default()), Duration::ZERO),
        };
        // Where nobody went through, a token may be wrong, or the package or region.
        let sure = reading.bad.len() < request.tokens.len();
        for index in &request.members {
            let token = targets[*index].address.token.expose();
            let (verdict, vendor) = if reading.bad.contains(token) {
                refused_token(sure, &reading.vendor)
            } else {
                (reading.verdict.clone(), reading.vendor.clone())
            };
            outcomes.push(Outcome { target: *index, verdict, vendor, latency });
        }
    }

    async fn deliver(
        &self,
        rendered: &Rendered,
        request: &Group<'_, Region>,
        context: &SendContext,
    ) -> Reading {
        let more = callback_fields(context.callback_url.as_deref(), request.param);
        let more: Vec<(&'static str, &str)> =
            more.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let body = rendered.form.encode(&request.tokens, &more);
        let post = self.client.post(self.config.url(request.key, SEND_PATH));
        let post = post
            .header(AUTHORIZATION, self.config.secret.header.clone())
            .header(CONTENT_TYPE, FORM)
            .body(body);
        match kit_http::send(post).await {
            Ok(answer) => {
                let asked = Asked {
                    tokens: &request.tokens,
                    channel_id: rendered.form.get("extra.channel_id"),
                    app_secret: self.config.secret.expose(),
                };
                codes::read(&answer, &asked, (context.now)())
            }
            Err(error) => {
                let vendor = VendorEcho { words: echo::words(&error.detail, &[]), ..VendorEcho::default() };
                Reading::failed(error.to_failure(), vendor)
            }
        }
    }
}

/// Where the vendor reports to. Without a public address, or with one that the vendor would refuse, it is not told.
fn callback_fields(url: Option<&str>, param: Option<&str>) -> Vec<(&'static str, String)> {
    let Some(url) = url.filter(|url| url.len() <= MAX_CALLBACK_URL) else { return Vec::new() };
    let mut fields = vec![("extra.callback", url.to_owned())];
    if let Some(param) = param {
        fields.push(("extra.callback.param", param.to_owned()));
    }
    fields.push(("extra.callback.type", receipts::SUBSCRIBED.to_string()));
    fields
}

/// Tokens of a request are joined by commas: one that holds a comma would be two, the second anybody's.
fn check_token(token: &str) -> Result<(), Unsendable> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b',';
    if !token.is_empty() && token.bytes().all(is_plain) {
        return Ok(());
    }
    Err(Unsendable::new(Reason::InvalidToken, "the token is no registration id: these are base64"))
}

fn refused_token(sure: bool, vendor: &VendorEcho) -> (Verdict, VendorEcho) {
    let failure = Failure::target(Reason::InvalidToken);
    let failure = if sure { failure } else { failure.doubtful() };
    let words = Some("listed under bad_regids".to_owned());
    // The id stands for those that went through.
    (Verdict::Failed(failure), VendorEcho { id: None, words, ..vendor.clone() })
}

impl Reading {
    fn failed(failure: Failure, vendor: VendorEcho) -> Self {
        Self { verdict: Verdict::Failed(failure), vendor, bad: HashSet::new() }
    }
}

#[async_trait]
impl Provider for Xiaomi {
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
        let refuse = |target, unsendable: Unsendable| outcomes.push(unsendable.outcome(target));
        let requests = group(&batch.targets, MAX_TARGETS, |target| self.place(target), refuse);
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
        self.region(address).map(|_| ())
    }

    fn credential(&self) -> String {
        // The vendor counts by app. The default region's service stands for all.
        let Config { package_name, region, .. } = &self.config;
        fingerprint("xiaomi", &format!("{package_name}\n{}", self.config.url(*region, "")))
    }

    fn parse_callback(&self, request: &CallbackRequest) -> Option<CallbackReply> {
        Some(receipts::read(request))
    }

    fn preview(&self, batch: &Batch, context: &SendContext) -> Option<Preview> {
        Some(preview::preview(self, batch, context))
    }

    fn quota_class(&self, content: &Content, category: Option<&Category>) -> &'static str {
        self.way(content, category).class.name()
    }

    async fn poll_receipts(
        &self,
        vendor_ids: &[String],
        context: SendContext,
    ) -> Result<Vec<Receipt>, Failure> {
        trace::poll(self, vendor_ids, &context).await
    }
}
