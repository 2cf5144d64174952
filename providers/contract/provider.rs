//! The trait, and what a provider is handed beside the batch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use serde::Serialize;
use serde_json::Value;

use super::batch::{Address, Batch, Category};
use super::content::Content;
use super::outcome::{Failure, Outcomes, Reason, VendorEcho};
use crate::kit::egress::Egress;

/// One configured vendor account. Built from a channel's configuration, shared by all its pages, kept until the
/// channel changes. It keeps no queue, no retry loop, no database.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Sends a batch and pushes exactly one outcome per target, each as it becomes known. Asks
    /// [`SendContext::gate`] before each vendor request. Returns when the last outcome is pushed.
    async fn send(&self, batch: Batch, context: SendContext, outcomes: Outcomes);

    /// Are these credentials good, without sending to anybody.
    async fn check(&self, context: SendContext) -> CheckReport;

    /// Whether this channel serves this address (another project, region or environment may); the error says why
    /// not, in words for the trail.
    fn serves(&self, _address: &Address) -> Result<(), String> {
        Ok(())
    }

    /// What rate, concurrency and breaker hang on: equal for two channels with the same credential, and no secret.
    fn credential(&self) -> String;

    /// Reads a vendor's callback: authenticated, or refused. `None`: this vendor has no callbacks. Pure: it is asked
    /// twice about each, before it is answered and when it is merged, and judges age by
    /// [`CallbackRequest::received_at`] alone.
    fn parse_callback(&self, _request: &CallbackRequest) -> Option<CallbackReply> {
        None
    }

    /// What [`Provider::send`] would put on the wire for the first target of this batch: built by the same functions,
    /// nothing is sent. `None`: there is no wire, or no target.
    fn preview(&self, batch: &Batch, context: &SendContext) -> Option<Preview>;

    /// The class, in the vendor's quotas ([`super::Quota::class`]), that this content counts towards; empty where the
    /// vendor tells none apart.
    fn quota_class(&self, _content: &Content, _category: Option<&Category>) -> &'static str {
        ""
    }

    /// Asks the vendor what became of messages that it accepted, by its own ids: for vendors whose receipts are polled, or
    /// whose callbacks were missed; called where [`super::Capabilities::polls_receipts`] is declared. At most 100 ids a
    /// call, each of which stands for one target; what the vendor does not know yet is left out. Asks
    /// [`SendContext::gate`] before each request.
    async fn poll_receipts(
        &self,
        _vendor_ids: &[String],
        _context: SendContext,
    ) -> Result<Vec<Receipt>, Failure> {
        Ok(Vec::new())
    }
}

/// What would go to the vendor, for people.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Preview {
    /// The request's body (headers that carry meaning under `headers`), without credentials; a token is cut as in logs.
    pub payload: Value,
    /// Its size, counted as the vendor's limit counts.
    pub bytes: u32,
    /// The vendor's limit; absent where none is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u32>,
    /// What the message says and this request does not, or only in part.
    pub dropped: Vec<Dropped>,
    /// The vendor's own classification of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Text messages that one target costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segments: Option<u32>,
    /// What one target costs, as far as the channel's configuration says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Money>,
    /// What a person should know before sending: a class that does not fit the category, a picture that the vendor is known to
    /// ignore.
    pub warnings: Vec<String>,
    /// The send would end so without a request: the reason, and the words that the trail would show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refusal>,
}

/// A field that does not reach the phone as it was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// JSON pointer into the message.
    pub field: String,
    /// What happens to it, and why.
    pub why: String,
}

/// An amount of money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Money {
    /// A decimal number.
    pub amount: String,
    /// ISO 4217.
    pub currency: String,
}

/// Why nothing would be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// From the closed list.
    pub reason: Reason,
    /// For people.
    pub words: String,
}

/// What a provider is handed beside the batch.
#[derive(Clone)]
pub struct SendContext {
    /// Asked before each vendor request.
    pub gate: Arc<dyn Gate>,
    /// The wall clock, for signatures and token expiry.
    pub now: fn() -> SystemTime,
    /// Where the vendor may report to, for vendors that are told with each request; absent where the gateway has no public
    /// address. It ends with a secret: for the wire only.
    pub callback_url: Option<Arc<str>>,
}

impl SendContext {
    /// No limits and the system's clock: for checks and tests.
    #[expect(clippy::disallowed_methods, reason = "where no clock is handed in, this is it")]
    pub fn unlimited() -> Self {
        Self { gate: Arc::new(OpenGate), now: SystemTime::now, callback_url: None }
    }
}

/// Holds a vendor request back until rate and concurrency allow it.
#[async_trait]
pub trait Gate: Send + Sync {
    /// Waits for a pass for a request that carries this many targets. `Err`: the channel stopped meanwhile (breaker,
    /// pause, shutdown); the target fails with that reason, definite, not sent.
    async fn pass(&self, targets: usize) -> Result<Pass, Reason>;
}

/// The right to have one request in flight; dropping it gives the place back.
#[must_use]
pub struct Pass(#[expect(dead_code, reason = "held for its drop")] Box<dyn Send>);

impl Pass {
    /// A pass that gives back `held` when dropped.
    pub fn new(held: impl Send + 'static) -> Self {
        Self(Box::new(held))
    }
}

/// A gate without limits.
#[derive(Debug, Clone, Copy)]
pub struct OpenGate;

#[async_trait]
impl Gate for OpenGate {
    async fn pass(&self, _targets: usize) -> Result<Pass, Reason> {
        Ok(Pass::new(()))
    }
}

/// What a provider may use of the process it runs in.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// The product token for `User-Agent`.
    pub user_agent: String,
    /// A longest time for one vendor request; the adapter may use less. Default 15 s.
    pub request_timeout: Option<Duration>,
    /// Where it may call. An adapter hands it on to its clients.
    pub egress: Egress,
}

/// What is wrong with a channel's configuration: all mistakes at once, each with the JSON pointer of its field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid channel configuration: {}", .0.iter().map(|(at, why)| format!("{at}: {why}")).collect::<Vec<_>>().join("; "))]
pub struct ConfigError(pub Vec<(String, String)>);

impl ConfigError {
    /// One mistake.
    pub fn at(pointer: impl Into<String>, why: impl Into<String>) -> Self {
        Self(vec![(pointer.into(), why.into())])
    }
}

/// What `check` found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Whether a send would be authenticated.
    pub ok: bool,
    /// A sentence for people: what was tried, what came back, how to mend it.
    pub detail: String,
    /// The reason, where it is not ok.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// What works today and should be mended: a certificate that ends soon.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A vendor's callback as it came in.
#[derive(Debug, Clone)]
pub struct CallbackRequest {
    /// HTTP method.
    pub method: Method,
    /// Full URL as the vendor called it: some signatures cover it.
    pub url: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The body, already bounded.
    pub body: Bytes,
    /// When it arrived.
    pub received_at: SystemTime,
}

/// What a callback says and what the vendor wants to hear.
#[derive(Debug, Clone)]
pub struct CallbackReply {
    /// What it reports; empty for probes.
    pub receipts: Vec<Receipt>,
    /// Whether it proved where it comes from.
    pub authenticated: bool,
    /// Answer status.
    pub status: StatusCode,
    /// Answer body.
    pub body: Bytes,
}

/// What came back about a delivery.
#[derive(Debug, Clone, PartialEq)]
pub struct Receipt {
    /// Our parameter, where the vendor echoes it.
    pub param: Option<String>,
    /// The vendor's message id.
    pub vendor_id: Option<String>,
    /// The token it is about.
    pub token: Option<String>,
    /// What happened.
    pub event: ReceiptEvent,
    /// Who saw it.
    pub witness: Witness,
    /// When, by the vendor's clock.
    pub at: Option<SystemTime>,
    /// The vendor's own words.
    pub vendor: VendorEcho,
    /// Whatever else it carries, for the trail.
    pub extra: BTreeMap<String, String>,
}

/// What a receipt reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiptEvent {
    /// The phone got it.
    Delivered,
    /// It was shown.
    Displayed,
    /// A person tapped it.
    Clicked,
    /// A person swiped it away. An event, no state.
    Dismissed,
    /// It failed after it was accepted.
    Failed {
        /// Why.
        reason: Reason,
        /// What follows.
        then: Then,
    },
}

impl ReceiptEvent {
    /// It failed after all, and another channel may still bring the message.
    pub const fn failed(reason: Reason) -> Self {
        Self::Failed { reason, then: Then::Route }
    }

    /// The vendor let go of it for a reason that holds for every channel: a newer message took its place, its time was
    /// over, somebody took it back.
    pub const fn ended(reason: Reason) -> Self {
        Self::Failed { reason, then: Then::End }
    }
}

/// What follows a failure that comes after a channel had accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The next channel of its route, inside the time to live.
    Route,
    /// Nothing: the message is not wanted any more.
    End,
}

/// Who saw it happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Witness {
    /// The vendor says so.
    Vendor,
    /// The phone says so.
    Phone,
    /// The kernel wrote the bytes and the peer's kernel took them.
    Kernel,
}
