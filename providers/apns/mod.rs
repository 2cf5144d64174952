//! Apple Push Notification service: iPhones, iPads, Macs, watches, by Apple's own HTTP/2 interface.
//!
//! One token a request, so requests go through the HTTP/2 pool. A key signs a provider token that the whole process
//! shares ([`auth`]), or a certificate names us in TLS. The vendor never reports delivery: the channel is blind after
//! `accepted`. Contract: <https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns>.

mod auth;
mod category;
mod certificate;
mod check;
mod codes;
mod config;
mod overrides;
mod payload;
mod push;
mod request;
mod schema;
mod wire;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream;
use http::HeaderValue;
use serde_json::Value;
use tokio::time::Instant;

use self::codes::Reading;
use self::config::{Config, Credential, Stage};
use self::payload::Rendered;
use self::request::Request;
use crate::contract::{
    Address, AddressSpec, Batch, Capabilities, Category, CategorySpec, CheckReport, ConfigError, Content,
    Descriptor, Environment, Failure, Outcome, Outcomes, Preview, Provider, Quota, QuotaPeriod, QuotaScope,
    Registration, SendContext, Tier, VendorEcho,
};
use crate::kit::failure::Unsendable;
use crate::kit::h2::{H2Options, H2Pool};
use crate::kit::http::DEFAULT_REQUEST_TIMEOUT;
use crate::kit::sign::fingerprint;

/// Requests in flight for one credential.
const MAX_IN_FLIGHT: u32 = 1000;

/// "Open several connections for throughput"; each has a hundred streams at most, or fewer where the vendor says so.
const MAX_CONNECTIONS: usize = 10;

/// The class of silent notifications, which phones take a few of.
const BACKGROUND: &str = "background";

/// APNs' entry in the catalogue.
pub static PROVIDER: Registration = Registration {
    descriptor: Descriptor {
        id: "apns",
        name: "Apple Push Notification service",
        tier: Tier::Maker,
        capabilities: Capabilities {
            notification: true,
            data: true,
            // By way of the app's service extension.
            image: true,
            sound: true,
            badge_set: true,
            // No field adds to a number.
            badge_add: false,
            actions: true,
            collapse: true,
            overrides: true,
            max_targets: 1,
            max_in_flight: MAX_IN_FLIGHT,
            // "Generating a remote notification", read 2026-11-20; 5120 for VoIP.
            max_payload_bytes: 4096,
            // The vendor keeps a notification up to 30 days.
            max_ttl: Duration::from_hours(30 * 24),
            ttl_unit: Duration::from_secs(1),
            ..Capabilities::NONE
        },
        address: AddressSpec {
            provider: "apns",
            kinds: &push::KINDS,
            special: push::SPECIAL,
            max_token_bytes: 512,
            params: &["environment", "topic"],
        },
        quotas: &[Quota {
            name: "background_device_hour",
            scope: QuotaScope::Device,
            class: BACKGROUND,
            limit: 3,
            period: QuotaPeriod::Hour,
            time_zone: "UTC",
            enforced: false,
            source: "\"Pushing background updates to your App\": two or three an hour, then the phone throttles; \
                     read 2026-11-20",
        }],
    },
    build,
    config_schema: schema::schema,
    check_overrides: overrides::check,
    category: CategorySpec { schema: category::schema, check: category::check },
};

fn build(config: &Value, environment: &Environment) -> Result<Arc<dyn Provider>, ConfigError> {
    Ok(Arc::new(Apns::new(Config::read(config)?, environment)?))
}

/// One app's channel.
struct Apns {
    config: Config,
    origins: Vec<Origin>,
    user_agent: Option<HeaderValue>,
}

/// One of the vendor's environments.
struct Origin {
    stage: Stage,
    /// Address without the slash at its end.
    base: String,
    pool: H2Pool,
}

impl Apns {
    fn new(config: Config, environment: &Environment) -> Result<Self, ConfigError> {
        let identity = match &config.credential {
            Credential::Certificate { identity, .. } => Some(identity.clone()),
            Credential::Key(_) => None,
        };
        let options = H2Options {
            ca_pem: config.ca_pem.clone(),
            max_connections: MAX_CONNECTIONS,
            request_timeout: environment.request_timeout.unwrap_or(DEFAULT_REQUEST_TIMEOUT),
            // A connection that brings a token may carry one request until that token is seen to be good.
            warmed_by: identity.is_none().then_some(codes::proves_credentials),
            identity,
            egress: environment.egress.clone(),
            ..H2Options::default()
        };
        let origin = |(stage, url): &(Stage, url::Url)| {
            let pool = H2Pool::new(url, options.clone()).map_err(|why| ConfigError::at("/base_url", why))?;
            Ok(Origin { stage: *stage, base: url.as_str().trim_end_matches('/').to_owned(), pool })
        };
        let origins = config.urls.iter().map(origin).collect::<Result<_, _>>()?;
        let user_agent = HeaderValue::try_from(environment.user_agent.as_str()).ok();
        Ok(Self { config, origins, user_agent: user_agent.filter(|name| !name.is_empty()) })
    }

    /// Which environment an address is of.
    fn stage_of(&self, address: &Address) -> Option<Stage> {
        match address.params.get("environment") {
            Some(name) => Stage::named(name),
            None => Some(self.config.stage),
        }
    }

    /// One request from the gate to its outcome.
    async fn one(&self, request: &Request<'_>, context: &SendContext) -> (Reading, Duration) {
        // Held until the answer is read.
        let _pass = match context.gate.pass(1).await {
            Ok(pass) => pass,
            Err(reason) => {
                return (Reading::failed(Failure::channel(reason), VendorEcho::default()), Duration::ZERO);
            }
        };
        let started = Instant::now();
        let reading = self.deliver(request, context.now).await;
        (reading, started.elapsed())
    }
}

#[async_trait]
impl Provider for Apns {
    async fn send(&self, batch: Batch, context: SendContext, outcomes: Outcomes) {
        // Few: nearly always one kind.
        let mut rendered: Vec<(&str, Result<Rendered, Unsendable>)> = Vec::new();
        for target in &batch.targets {
            let kind = target.address.kind.as_str();
            if !rendered.iter().any(|(known, _)| *known == kind) {
                rendered.push((kind, payload::render(&batch, kind, (context.now)())));
            }
        }
        let (context, outcomes, rendered) = (&context, &outcomes, &rendered);
        stream::iter(batch.targets.iter().enumerate())
            .for_each_concurrent(MAX_IN_FLIGHT as usize, async |(index, target)| {
                let found = rendered.iter().find(|(kind, _)| *kind == target.address.kind);
                // Every kind has been rendered above.
                let Some((_, rendered)) = found else { return };
                let request = rendered.as_ref().map_err(Clone::clone);
                match request.and_then(|rendered| self.request(rendered, target)) {
                    Ok(request) => {
                        let (reading, latency) = self.one(&request, context).await;
                        let Reading { verdict, vendor, .. } = reading;
                        outcomes.push(Outcome { target: index, verdict, vendor, latency });
                    }
                    Err(unsendable) => outcomes.push(unsendable.outcome(index)),
                }
            })
            .await;
    }

    async fn check(&self, context: SendContext) -> CheckReport {
        check::check(self, &context).await
    }

    fn serves(&self, address: &Address) -> Result<(), String> {
        let Config { kinds, bundle_id, .. } = &self.config;
        if !kinds.contains(&address.kind.as_str()) {
            return Err(format!(
                "the address is of kind {}, this channel serves {}",
                address.kind,
                kinds.join(", ")
            ));
        }
        let by_certificate = matches!(self.config.credential, Credential::Certificate { .. });
        if by_certificate && push::PushType::of(&address.kind, true).needs_token() {
            return Err(format!("{} needs a key, this channel has a certificate", address.kind));
        }
        let stage = self.stage_of(address);
        if !self.origins.iter().any(|origin| Some(origin.stage) == stage) {
            let theirs = address.params.get("environment").map_or("", String::as_str);
            let ours = self.config.stage.name();
            return Err(format!("the address is of environment {theirs}, this channel sends to {ours}"));
        }
        match address.params.get("topic") {
            Some(topic) if !is_within(topic, bundle_id) => {
                Err(format!("the address belongs to {topic}, this channel sends for {bundle_id}"))
            }
            _ => Ok(()),
        }
    }

    fn credential(&self) -> String {
        let known_by = match &self.config.credential {
            Credential::Key(key) => format!("{}\n{}", key.team_id, key.key_id),
            Credential::Certificate { identity, .. } => format!("{:?}", identity.certificate()),
        };
        let bases = self.origins.iter().map(|origin| origin.base.as_str()).collect::<Vec<_>>().join("\n");
        fingerprint("apns", &format!("{known_by}\n{bases}"))
    }

    fn preview(&self, batch: &Batch, context: &SendContext) -> Option<Preview> {
        let target = batch.targets.first()?;
        Some(self.show(batch, target, (context.now)()))
    }

    fn quota_class(&self, content: &Content, _category: Option<&Category>) -> &'static str {
        if content.notification.is_none() { BACKGROUND } else { "" }
    }
}

/// The app itself, or something of it: its extension, clip or watch app has a bundle id below its own.
fn is_within(topic: &str, bundle_id: &str) -> bool {
    config::is_topic(topic)
        && topic.strip_prefix(bundle_id).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
