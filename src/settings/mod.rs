//! Configuration: `config/default.toml` (compiled in, explains every key), a file, the environment, the command line —
//! in this order.
//!
//! What comes in: text. What goes out: [`Settings`] that need no further doubt, or all mistakes at once, each with its
//! key, its value and how to mend it. It must never open a port or touch a disk.

mod load;

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;

use anypush_providers::kit::egress::{self, IpNet};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer};

pub use load::{DEFAULT, Mistake, Mistakes};

/// Everything that can be configured.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the gateway listens.
    #[serde(deserialize_with = "resolve")]
    pub listen: SocketAddr,
    /// How backends and phones reach it; empty = `http://` and the address on which it listens.
    pub public_url: String,
    /// Where its data is.
    pub data_dir: PathBuf,
    /// Number of this node, 0–255.
    pub node: u8,
    /// The word in API keys.
    pub environment: String,
    /// The master key in base64; empty = the file.
    pub master_key: SecretString,
    /// Where the master key is; empty = `master.key` in the data directory.
    pub master_key_file: PathBuf,
    /// Longest time that a stop waits for requests.
    pub shutdown_seconds: u64,
    /// What is logged.
    pub log: Log,
    /// What a request may be.
    pub limits: Limits,
    /// How often somebody may call.
    pub rate: Rates,
    /// The database.
    pub store: StoreSettings,
    /// Routes of messages that say nothing about theirs.
    pub route: Route,
    /// Vendors that are asked what became of messages.
    pub receipts: Receipts,
    /// What phones are told.
    pub device: Device,
    /// Where the gateway calls.
    pub egress: Egress,
    /// How backends are told of events.
    pub webhooks: Webhooks,
    /// What is kept for how long.
    pub retention: Retention,
}

/// What is kept for how long.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Messages and their deliveries, from the end of their TTL on.
    pub messages_days: u64,
    /// Counters of reports.
    pub reports_days: u64,
    /// Rows of the audit log; 0 = for ever.
    pub audit_days: u64,
}

/// The database.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSettings {
    /// From how many MiB on the write-ahead log is called too long.
    pub log_alarm_mebibytes: u64,
}

/// Routes of messages that say nothing about theirs.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// How long a connected phone has to acknowledge before vendors are asked too; 0 = they are not.
    pub own_connection_wait_seconds: u32,
}

/// Vendors that are asked what became of messages.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipts {
    /// How long after acceptance one that calls nobody back is asked for the first time.
    pub ask_after_seconds: u32,
}

/// What is logged.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Directives of the filter.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What a request may be.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Largest body in bytes.
    pub body_bytes: usize,
    /// Most targets that a message may list.
    pub targets: usize,
    /// How deep JSON may be nested.
    pub json_depth: usize,
}

/// How often somebody may call this node; 0 = as often as they like.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// Targets that messages sent with one key may list.
    pub key_sends_per_second: u32,
    /// The same for all keys of an app together.
    pub app_sends_per_second: u32,
    /// All other calls with one key, and lines of devices.
    pub key_calls_per_second: u32,
    /// The same for all keys of an app together.
    pub app_calls_per_second: u32,
    /// Calls of one phone.
    pub phone_calls_per_second: u32,
    /// Calls from one address that show no good key or secret.
    pub address_failures_per_second: u32,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<String>,
}

impl Rates {
    /// The networks of trusted proxies.
    pub fn trusted(&self) -> Vec<IpNet> {
        self.trusted_proxies.iter().filter_map(|text| network(text)).collect()
    }
}

/// An address or a network.
fn network(text: &str) -> Option<IpNet> {
    let alone = || text.parse::<IpAddr>().ok().map(|address| IpNet::from(address.to_canonical()));
    text.parse::<IpNet>().ok().or_else(alone)
}

/// What phones are told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Seconds between two polls.
    pub poll_seconds: u64,
    /// Seconds between two heartbeats to begin with.
    pub heartbeat_seconds: u64,
    /// Longest interval that a phone may find out.
    pub heartbeat_max_seconds: u64,
    /// How late a heartbeat may be.
    pub heartbeat_grace_seconds: u64,
    /// Origins whose pages may open a WebSocket, beside the gateway's own.
    pub origins: Vec<String>,
}

/// How backends are told of events.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhooks {
    /// Seconds from each try of an event to the next.
    pub retry_seconds: Vec<u64>,
    /// After so many hours in which every try fails, an endpoint is disabled.
    pub disable_after_hours: u64,
    /// How long events are kept to be replayed.
    pub retention_hours: u64,
}

/// Where the gateway calls, beside the public Internet by https.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Egress {
    /// Hosts, addresses and networks that are meant although the guard refuses them.
    pub allow: Vec<String>,
    /// Whether addresses that begin with `http://` are called.
    pub allow_http: bool,
}

impl Egress {
    /// The guard that these settings describe.
    pub fn guard(&self) -> egress::Egress {
        egress::Egress::new(self.allow.iter().map(String::as_str), self.allow_http)
    }
}

impl Settings {
    /// Where the master key is.
    pub fn key_file(&self) -> PathBuf {
        if self.master_key_file.as_os_str().is_empty() {
            self.data_dir.join("master.key")
        } else {
            self.master_key_file.clone()
        }
    }

    /// The master key, where it was given itself.
    pub fn key(&self) -> Option<&str> {
        Some(self.master_key.expose_secret()).filter(|key| !key.is_empty())
    }

    /// The address that users see, without a slash at the end.
    pub fn shown_url(&self) -> String {
        if self.public_url.is_empty() { format!("http://{}", self.listen) } else { self.public_url.clone() }
    }

    /// Everything that is wrong although its type is right.
    pub fn check(&self) -> Vec<Mistake> {
        let mut wrong = Vec::new();
        let mut range = |key: &str, value: u64, least: u64, most: u64| {
            if !(least..=most).contains(&value) {
                wrong.push(Mistake::new(key, value, format!("give a number from {least} to {most}")));
            }
        };
        range("shutdown_seconds", self.shutdown_seconds, 0, 300);
        range("limits.body_bytes", self.limits.body_bytes as u64, 1024, 64 << 20);
        range("limits.targets", self.limits.targets as u64, 1, 100_000);
        range("limits.json_depth", self.limits.json_depth as u64, 4, 64);
        let rate = &self.rate;
        for (key, per_second) in [
            ("rate.key_sends_per_second", rate.key_sends_per_second),
            ("rate.app_sends_per_second", rate.app_sends_per_second),
            ("rate.key_calls_per_second", rate.key_calls_per_second),
            ("rate.app_calls_per_second", rate.app_calls_per_second),
            ("rate.phone_calls_per_second", rate.phone_calls_per_second),
            ("rate.address_failures_per_second", rate.address_failures_per_second),
        ] {
            range(key, u64::from(per_second), 0, 10_000_000);
        }
        range("store.log_alarm_mebibytes", self.store.log_alarm_mebibytes, 1, 1 << 20);
        let own = u64::from(self.route.own_connection_wait_seconds);
        range("route.own_connection_wait_seconds", own, 0, 3600);
        range("receipts.ask_after_seconds", u64::from(self.receipts.ask_after_seconds), 1, 86_400);
        range("device.poll_seconds", self.device.poll_seconds, 10, 86_400);
        range("device.heartbeat_seconds", self.device.heartbeat_seconds, 10, 3600);
        let least = self.device.heartbeat_seconds;
        range("device.heartbeat_max_seconds", self.device.heartbeat_max_seconds, least, 7200.max(least));
        range("device.heartbeat_grace_seconds", self.device.heartbeat_grace_seconds, 1, 600);
        range("webhooks.disable_after_hours", self.webhooks.disable_after_hours, 1, 720);
        // An endpoint that comes back must find everything that it missed.
        let least = self.webhooks.disable_after_hours.clamp(24, 720);
        range("webhooks.retention_hours", self.webhooks.retention_hours, least, 2160);
        self.check_retention(&mut range);
        for proxy in rate.trusted_proxies.iter().filter(|proxy| network(proxy).is_none()) {
            let mend = "give an address or a network such as 10.1.0.0/16";
            wrong.push(Mistake::new("rate.trusted_proxies", proxy, mend));
        }
        for origin in self.device.origins.iter().filter(|origin| !is_base_url(origin)) {
            let mend = "give http:// or https://, host and port, without path, query and slash at the end";
            wrong.push(Mistake::new("device.origins", origin, mend));
        }
        let table = &self.webhooks.retry_seconds;
        if table.is_empty() || table.len() > 20 || !table.iter().all(|wait| (1..=604_800).contains(wait)) {
            let mend = "give 1 to 20 numbers from 1 to 604800";
            wrong.push(Mistake::new("webhooks.retry_seconds", format!("{table:?}"), mend));
        }
        for host in self.egress.allow.iter().filter(|host| !egress::is_rule(host)) {
            let mend =
                "give a host's name, an address or a network such as 10.1.0.0/16, without scheme and port";
            wrong.push(Mistake::new("egress.allow", host, mend));
        }
        let word = &self.environment;
        let plain = word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if word.is_empty() || word.len() > 12 || !plain {
            wrong.push(Mistake::new("environment", word, "give 1 to 12 lower-case letters and digits"));
        }
        if self.data_dir.as_os_str().is_empty() {
            wrong.push(Mistake::new("data_dir", "", "name a directory"));
        }
        if !self.public_url.is_empty() && !is_base_url(&self.public_url) {
            let mend = "give http:// or https://, host and port, without path, query and slash at the end";
            wrong.push(Mistake::new("public_url", &self.public_url, mend));
        }
        if tracing_subscriber::EnvFilter::try_new(&self.log.level).is_err() {
            let mend = "give error, warn, info, debug or trace, or directives such as info,anypush=debug";
            wrong.push(Mistake::new("log.level", &self.log.level, mend));
        }
        if let Some(Err(error)) = self.key().map(crate::secrets::MasterKeys::from_text) {
            // Not the value: it may be a key with one character missing.
            wrong.push(Mistake::new("master_key", "(hidden)", error.to_string()));
        }
        wrong
    }

    fn check_retention(&self, range: &mut impl FnMut(&str, u64, u64, u64)) {
        let Retention { messages_days, reports_days, audit_days } = self.retention;
        // An event that is told or replayed finds its message.
        let least = self.webhooks.retention_hours.div_ceil(24).clamp(1, 90);
        range("retention.messages_days", messages_days, least, 3650);
        // Counters outlive what they count: a message is counted when it is made, and may be 118 days old when its TTL ends
        // (90 until it is sent, 28 to live).
        range("retention.reports_days", reports_days, messages_days.clamp(1, 3650) + 119, 3769);
        if audit_days > 0 {
            range("retention.audit_days", audit_days, 30, 36_500);
        }
    }
}

fn is_base_url(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.host().is_some()
            && url.path() == "/"
            && url.query().is_none()
            && !text.ends_with('/')
    })
}

/// Accepts `127.0.0.1:80` and `localhost:80`.
fn resolve<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    let found = text.to_socket_addrs().ok().and_then(|mut all| all.next());
    found.ok_or_else(|| serde::de::Error::custom("give host:port, for example 127.0.0.1:8470"))
}

#[cfg(test)]
mod tests;
