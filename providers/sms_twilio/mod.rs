//! Text messages by Twilio Programmable Messaging.
//!
//! One number a request, form-encoded, HTTP Basic. The interface has no key against repeats, and every message costs money: what
//! may have been taken is never sent again by itself. Reports come by callback, signed; what was missed can be asked for.
//! Contract: <https://www.twilio.com/docs/messaging/api/message-resource>.

mod category;
mod check;
mod codes;
mod config;
mod overrides;
mod payload;
mod price;
mod receipts;
mod schema;
mod signature;
mod wire;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use http::header::{ACCEPT, AUTHORIZATION};
use http::{Method, Response};
use serde_json::{Value, json};
use tokio::time::Instant;

use self::codes::Reading;
use self::config::Config;
use crate::contract::{
    AddressSpec, Batch, CallbackReply, CallbackRequest, Capabilities, CategorySpec, CheckReport, ConfigError,
    Cost, DeliveryMode, Descriptor, Environment, Failure, Outcome, Outcomes, Preview, Provider, Quota,
    QuotaPeriod, QuotaScope, Reason, Receipt, ReceiptKey, Receipts, Registration, SendContext, Tier,
    VendorEcho, Verdict,
};
use crate::kit::failure::{TransportError, Unsendable};
use crate::kit::http::{HttpOptions, client};
use crate::kit::sign::fingerprint;
use crate::kit::{echo, http as kit_http, json};

/// Requests in flight for one account; beyond some number the vendor answers 429 (100 is UNVERIFIED).
const MAX_IN_FLIGHT: u32 = 100;

/// Messages that are asked for at a time when receipts are polled.
const MAX_POLLS: usize = 10;

/// Twilio's entry in the catalogue.
pub static PROVIDER: Registration = Registration {
    descriptor: Descriptor {
        id: "sms_twilio",
        name: "Twilio text messages",
        tier: Tier::Sms,
        capabilities: Capabilities {
            notification: true,
            overrides: true,
            max_targets: 1,
            max_in_flight: MAX_IN_FLIGHT,
            // The limit is 1600 characters, not bytes: see `payload`.
            max_payload_bytes: 0,
            max_ttl: payload::MAX_VALIDITY,
            ttl_unit: Duration::from_secs(1),
            receipts: Receipts::Callback,
            receipt_key: ReceiptKey::Param,
            polls_receipts: true,
            witnesses_delivered: true,
            cost: Cost::PerTarget,
            // There is no key against repeats.
            default_delivery: DeliveryMode::AtMostOnce,
            ..Capabilities::NONE
        },
        address: AddressSpec {
            provider: "phone",
            kinds: &["phone"],
            special: &[],
            max_token_bytes: 16,
            params: &[],
        },
        quotas: &[Quota {
            name: "toll_free_second",
            scope: QuotaScope::Channel,
            class: "",
            limit: 3,
            period: QuotaPeriod::Second,
            time_zone: "UTC",
            enforced: false,
            source: "third-party reports (toll-free senders 3, short codes 100 messages a second), read 2026-11-20; what is \
                     beyond waits in the vendor's queue",
        }],
    },
    build,
    config_schema: schema::schema,
    check_overrides: overrides::check,
    category: CategorySpec { schema: category::schema, check: category::check },
};

fn build(config: &Value, environment: &Environment) -> Result<Arc<dyn Provider>, ConfigError> {
    Ok(Arc::new(SmsTwilio::new(Config::read(config)?, environment)?))
}

/// One account's channel.
struct SmsTwilio {
    config: Config,
    client: reqwest::Client,
    /// Address of the account, with the slash at its end.
    account: String,
}

impl SmsTwilio {
    fn new(config: Config, environment: &Environment) -> Result<Self, ConfigError> {
        let options = HttpOptions {
            user_agent: environment.user_agent.clone(),
            request_timeout: environment.request_timeout,
            ca_pem: config.ca_pem.clone(),
            without_tls: config.base_url.scheme() == "http",
            egress: environment.egress.clone(),
        };
        let client = client(&options).map_err(|why| ConfigError::at("/base_url", why))?;
        let base = config.base_url.as_str().trim_end_matches('/');
        let account = format!("{base}/2010-04-01/Accounts/{}/", config.account_sid);
        Ok(Self { config, client, account })
    }

    /// One call to the account, to a path of ours.
    async fn call(
        &self,
        method: Method,
        path: &str,
        form: Option<&[(&'static str, String)]>,
    ) -> Result<Response<Bytes>, TransportError> {
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.account))
            .header(AUTHORIZATION, self.config.login.header.clone())
            .header(ACCEPT, "application/json");
        if let Some(form) = form {
            request = request.form(form);
        }
        kit_http::send(request).await
    }

    /// One form from the gate to its outcome.
    async fn one(&self, form: &[(&'static str, String)], context: &SendContext) -> (Reading, Duration) {
        // Held until the answer is read.
        let _pass = match context.gate.pass(1).await {
            Ok(pass) => pass,
            Err(reason) => {
                return (Reading::failed(Failure::channel(reason), VendorEcho::default()), Duration::ZERO);
            }
        };
        let started = Instant::now();
        // The vendor repeats numbers and addresses; the one of the callback ends with a secret.
        let told = form.iter().filter(|(name, _)| matches!(*name, "To" | "StatusCallback" | "Body"));
        let mut secrets: Vec<&str> = told.map(|(_, value)| value.as_str()).collect();
        secrets.push(&self.config.login.secret);
        secrets.extend(context.callback_url.as_deref());
        let reading = match self.call(Method::POST, "Messages.json", Some(form)).await {
            Ok(answer) => codes::read(&answer, (context.now)(), &secrets),
            Err(error) => {
                let vendor =
                    VendorEcho { words: echo::words(&error.detail, &secrets), ..VendorEcho::default() };
                Reading::failed(error.to_failure(), vendor)
            }
        };
        (reading, started.elapsed())
    }

    /// Where the vendor shall report to, if its reports can be verified.
    fn callback(&self, context: &SendContext, param: Option<&str>) -> Option<String> {
        let base = context.callback_url.as_deref().filter(|_| self.config.verifies_callbacks())?;
        payload::callback(base, param)
    }

    /// One message as it is now; `None`: there is none, or nothing is known yet.
    async fn ask(&self, sid: &str, context: &SendContext) -> Result<Option<Receipt>, Failure> {
        let _pass = context.gate.pass(1).await.map_err(Failure::channel)?;
        let answer = self
            .call(Method::GET, &format!("Messages/{sid}.json"), None)
            .await
            .map_err(|error| error.to_failure())?;
        if answer.status() == 404 {
            return Ok(None);
        }
        if !answer.status().is_success() {
            return match codes::read(&answer, (context.now)(), &[]).verdict {
                Verdict::Failed(failure) => Err(failure),
                Verdict::Accepted => Ok(None),
            };
        }
        match json::object::<wire::Message>(answer.body()) {
            Some(message) if message.sid == sid => Ok(receipts::polled(&message)),
            _ => Err(Failure::channel(Reason::ProtocolError)),
        }
    }
}

#[async_trait]
impl Provider for SmsTwilio {
    async fn send(&self, batch: Batch, context: SendContext, outcomes: Outcomes) {
        let rendered = payload::render(&batch, &self.config);
        let (context, outcomes, rendered) = (&context, &outcomes, &rendered);
        stream::iter(batch.targets.iter().enumerate())
            .for_each_concurrent(MAX_IN_FLIGHT as usize, async |(index, target)| {
                let callback = self.callback(context, target.receipt_param.as_deref());
                let form = rendered.as_ref().map_err(Unsendable::clone);
                match form.and_then(|rendered| rendered.form(target, callback)) {
                    Ok(form) => {
                        let (Reading { verdict, vendor }, latency) = self.one(&form, context).await;
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

    fn credential(&self) -> String {
        // The vendor limits by account, whatever key logs in.
        fingerprint("sms_twilio", &self.account)
    }

    fn parse_callback(&self, request: &CallbackRequest) -> Option<CallbackReply> {
        Some(receipts::parse(&self.config, request))
    }

    fn preview(&self, batch: &Batch, _context: &SendContext) -> Option<Preview> {
        let target = batch.targets.first()?;
        let dropped = payload::dropped(&batch.content);
        let rendered = payload::render(batch, &self.config);
        let rendered =
            match rendered.and_then(|rendered| rendered.form(target, None).map(|form| (rendered, form))) {
                Ok(rendered) => rendered,
                Err(unsendable) => {
                    let (bytes, max_bytes) = (unsendable.bytes, Some(payload::MAX_CHARACTERS as u32));
                    let refused = Some(unsendable.refusal());
                    return Some(Preview { bytes, max_bytes, dropped, refused, ..Preview::default() });
                }
            };
        let (rendered, form) = rendered;
        let mut payload: serde_json::Map<String, Value> =
            form.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        payload.insert("To".to_owned(), json!(format!("{:?}", target.address.token)));
        let bytes = payload.get("Body").and_then(Value::as_str).map_or(0, |text| text.chars().count());
        let segments = rendered.segments.map(|segments| segments.count);
        let template =
            segments.is_none().then(|| "the vendor makes the text, so its length is not known".to_owned());
        let warnings = template.into_iter().collect();
        Some(Preview {
            class: payload.get("MessageIntent").and_then(Value::as_str).map(ToOwned::to_owned),
            payload: Value::Object(payload),
            // The limit counts characters.
            bytes: bytes as u32,
            max_bytes: Some(payload::MAX_CHARACTERS as u32),
            dropped,
            segments,
            cost: self.config.price.as_ref().zip(segments).map(|(price, segments)| price.times(segments)),
            warnings,
            ..Preview::default()
        })
    }

    async fn poll_receipts(
        &self,
        vendor_ids: &[String],
        context: SendContext,
    ) -> Result<Vec<Receipt>, Failure> {
        let (found, failed) = (Mutex::new(Vec::new()), Mutex::new(None));
        let (context, found_ref, failed_ref) = (&context, &found, &failed);
        stream::iter(vendor_ids.iter().filter(|sid| codes::is_sid(sid)))
            .for_each_concurrent(MAX_POLLS, async |sid| {
                // After a failure nothing more is asked for: it concerns the whole account.
                if failed_ref.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
                    return;
                }
                match self.ask(sid, context).await {
                    Ok(receipt) => found_ref.lock().unwrap_or_else(PoisonError::into_inner).extend(receipt),
                    Err(failure) => {
                        *failed_ref.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
                    }
                }
            })
            .await;
        let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            // What is known is not thrown away; the rest is asked for the next time.
            Some(failure) if found.is_empty() => Err(failure),
            _ => Ok(found),
        }
    }
}
