//! What every part of a running sandbox shares.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use axum::body::Body;
use axum::response::Response;

use crate::control::Recording;
use crate::fcm::Fcm;
use crate::ledger::Ledger;
use crate::phones::Phones;
use crate::rules::Rules;
use crate::switches::{Outage, Switches};

/// The state behind all handlers.
pub(crate) struct Sandbox {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) rules: Rules,
    pub(crate) switches: Switches,
    pub(crate) phones: Phones,
    pub(crate) recording: Recording,
    pub(crate) fcm: Fcm,
}

impl Sandbox {
    /// Opens the state of `data_dir`, or a state that ends with the process.
    pub(crate) fn open(
        data_dir: Option<&Path>,
        ledger_entries: usize,
        phones: Phones,
    ) -> anyhow::Result<Self> {
        if let Some(dir) = data_dir {
            std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        }
        Ok(Self {
            ledger: Arc::new(Ledger::open(part(data_dir, "ledger"), ledger_entries)?),
            rules: Rules::open(part(data_dir, "rules.json"))?,
            switches: Switches::open(part(data_dir, "providers.json"))?,
            phones,
            recording: Recording::default(),
            fcm: Fcm::open(part(data_dir, "fcm"))?,
        })
    }

    /// Plays a provider's switched latency and outage; an answer means that the vendor's own logic is not reached.
    pub(crate) async fn before(&self, provider: &str) -> Option<Interruption> {
        let switch = self.switches.of(provider);
        if switch.latency_ms > 0 {
            tokio::time::sleep(Duration::from_millis(switch.latency_ms)).await;
        }
        match switch.outage {
            Outage::None => None,
            Outage::Http503 => Some(Interruption::Unavailable),
            Outage::Refuse => Some(Interruption::Refuse),
            Outage::Hang => Some(Interruption::Hang),
        }
    }
}

/// An outage that a provider's switch asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interruption {
    Unavailable,
    Refuse,
    Hang,
}

/// Marks an answer that must not be sent: the connection (h1) or the stream (h2) ends instead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Abort;

/// Ends the connection or stream without an answer.
pub(crate) fn abort() -> Response {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(Abort);
    response
}

/// Milliseconds since the Unix epoch: the only reading of the clock here.
#[expect(
    clippy::disallowed_methods,
    reason = "a vendor's server has its own clock, and this is its one reading"
)]
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_millis() as u64)
}

/// The RFC 3339 form of a time.
pub(crate) fn rfc3339(at_ms: u64) -> String {
    jiff::Timestamp::from_millisecond(at_ms as i64).map_or_else(|_| String::new(), |at| at.to_string())
}

/// Random bytes that nobody can guess.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random source answers");
    bytes
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Writes a file whole: a reader sees the old or the new content, never half of it.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    let draft = path.with_extension("draft");
    std::fs::write(&draft, content).with_context(|| format!("writing {}", draft.display()))?;
    std::fs::rename(&draft, path).with_context(|| format!("putting {} in place", path.display()))
}

fn part(data_dir: Option<&Path>, name: &str) -> Option<PathBuf> {
    data_dir.map(|dir| dir.join(name))
}
