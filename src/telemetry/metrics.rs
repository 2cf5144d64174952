//! What the gateway counts. The registry is a value: many gateways can live in one process.

use std::fmt::Write as _;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Labels of what happened to targets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabels {
    /// The provider's id.
    pub provider: String,
    /// `accepted`, or the reason.
    pub outcome: &'static str,
}

/// Labels of a vendor code that no table knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct VendorCode {
    /// The provider's id.
    pub provider: String,
    /// The vendor's code, cut to 64 bytes.
    pub code: String,
}

/// A gauge with labels: name, help, values by labels.
pub type LabelledGauge<'a> = (&'a str, &'a str, Vec<(String, u64)>);

/// Labels of what became of receipts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReceiptLabels {
    /// The provider's id.
    pub provider: String,
    /// `merged`, `early`, `orphan`, `forged`, `unresolved`; of whole callbacks `refused`, `unreadable`.
    pub result: &'static str,
}

/// Labels of requests that were turned away.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RefusalLabels {
    /// Who came: `backend` or `phone`.
    pub plane: &'static str,
    /// `unauthenticated` (401) or `forbidden` (403).
    pub why: &'static str,
}

/// Labels of what became of requests to webhooks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WebhookLabels {
    /// `told`, `failed`; of events `given_up`.
    pub result: &'static str,
}

/// Labels of what was forgotten with age.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ForgottenLabels {
    /// `messages`, `deliveries`, `report_counters`, …
    pub what: &'static str,
}

/// Labels of requests that came too fast.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RateLimitLabels {
    /// Which limit: `key_sends`, `app_sends`, `key_calls`, `app_calls`, `phone`, `address`.
    pub limit: &'static str,
}

/// All metrics and their registry.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Messages accepted.
    pub messages_accepted: Counter,
    /// Outcomes of targets, by provider.
    pub outcomes: Family<OutcomeLabels, Counter>,
    /// Vendor codes that no table knows.
    pub unclassified: Family<VendorCode, Counter>,
    /// What became of vendors' receipts.
    pub receipts: Family<ReceiptLabels, Counter>,
    /// Requests that were turned away.
    pub refusals: Family<RefusalLabels, Counter>,
    /// Requests that came too fast.
    pub rate_limited: Family<RateLimitLabels, Counter>,
    /// API keys that the store was asked for.
    pub key_lookups: Counter,
    /// What became of requests to webhooks.
    pub webhooks: Family<WebhookLabels, Counter>,
    /// Addresses that were not retired because too many were to be.
    pub removals_held: Counter,
    /// What was forgotten with age.
    pub forgotten: Family<ForgottenLabels, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("anypush");
        let messages_accepted = Counter::default();
        let outcomes = Family::<OutcomeLabels, Counter>::default();
        let unclassified = Family::<VendorCode, Counter>::default();
        let receipts = Family::<ReceiptLabels, Counter>::default();
        registry.register("messages_accepted", "Messages accepted", messages_accepted.clone());
        registry.register("outcomes", "Outcomes of targets", outcomes.clone());
        let refusals = Family::<RefusalLabels, Counter>::default();
        registry.register(
            "refusals",
            "Requests without a good key, or with one that may not",
            refusals.clone(),
        );
        let rate_limited = Family::<RateLimitLabels, Counter>::default();
        registry.register("rate_limited", "Requests that came too fast, by limit", rate_limited.clone());
        let key_lookups = Counter::default();
        registry.register("key_lookups", "API keys that the store was asked for", key_lookups.clone());
        let removals_held = Counter::default();
        let help = "Addresses that vendors called dead and that were kept because unusually many were";
        registry.register("address_removals_held", help, removals_held.clone());
        registry.register("unclassified_codes", "Vendor codes that no table knows", unclassified.clone());
        registry.register("receipts", "What became of vendors' receipts", receipts.clone());
        let webhooks = Family::<WebhookLabels, Counter>::default();
        registry.register("webhooks", "What became of requests to webhooks", webhooks.clone());
        let forgotten = Family::<ForgottenLabels, Counter>::default();
        registry.register("forgotten", "What was removed because of its age", forgotten.clone());
        Self {
            registry,
            messages_accepted,
            outcomes,
            unclassified,
            receipts,
            refusals,
            rate_limited,
            key_lookups,
            webhooks,
            removals_held,
            forgotten,
        }
    }
}

impl Metrics {
    /// Counts targets of a provider that have this outcome: `accepted`, or the reason.
    pub fn outcome(&self, provider: &str, outcome: &'static str, n: u64) {
        let labels = OutcomeLabels { provider: provider.to_owned(), outcome };
        self.outcomes.get_or_create(&labels).inc_by(n);
    }

    /// The text form that Prometheus reads. `gauges` (name, help, value) are read at this moment, and so are `families`
    /// of them (name, help, values by labels).
    pub fn render(&self, gauges: &[(&str, &str, u64)], families: &[LabelledGauge<'_>]) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = prometheus_client::encoding::text::encode_registry(&mut text, &self.registry);
        for (name, help, value) in gauges {
            let _ = write!(
                text,
                "# HELP anypush_{name} {help}.\n# TYPE anypush_{name} gauge\nanypush_{name} {value}\n"
            );
        }
        for (name, help, values) in families {
            let _ = write!(text, "# HELP anypush_{name} {help}.\n# TYPE anypush_{name} gauge\n");
            for (labels, value) in values {
                let _ = writeln!(text, "anypush_{name}{{{labels}}} {value}");
            }
        }
        text.push_str("# EOF\n");
        text
    }
}
