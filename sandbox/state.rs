//! What every part of a running sandbox shares.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use axum::body::Body;
use axum::response::Response;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::callbacks::{Callbacks, Post};
use crate::connection::FirstStreamsChoice;
use crate::control::Control;
use crate::ledger::Ledger;
use crate::phones::Phones;
use crate::recording::Recording;
use crate::rules::Rules;
use crate::server::Options;
use crate::switches::{Outage, Switches};
use crate::tls::Authority;

/// The state behind all handlers.
pub(crate) struct Sandbox {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) rules: Rules,
    pub(crate) switches: Arc<Switches>,
    pub(crate) phones: Phones,
    pub(crate) recording: Arc<Recording>,
    pub(crate) callbacks: Callbacks,
    pub(crate) authority: Authority,
    /// Which connections begin with one stream.
    pub(crate) first_streams: Arc<FirstStreamsChoice>,
    /// The authority's certificate, where the sandbox's own is in use.
    pub(crate) ca_pem: Option<String>,
}

/// Opens the state of the data directory, or a state that ends with the process, and all twins on it.
pub(crate) fn open(
    options: &Options,
    phones: Phones,
    tracker: TaskTracker,
    stop: CancellationToken,
) -> anyhow::Result<(Control, TlsAcceptor)> {
    let data_dir = options.data_dir.as_deref();
    if let Some(dir) = data_dir {
        std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    let part = |name: &str| data_dir.map(|dir| dir.join(name));
    let ledger = Arc::new(Ledger::open(part("ledger"), options.ledger_entries)?);
    let switches = Arc::new(Switches::open(part("providers.json"))?);
    let recording = Arc::new(Recording::default());
    let authority = Authority::open(part("tls").as_deref())?;
    let post = Post {
        ledger: ledger.clone(),
        recording: recording.clone(),
        switches: switches.clone(),
        tracker,
        stop,
    };
    let tls = crate::tls::acceptor(options.tls.as_ref(), &authority)?;
    let sandbox = Arc::new(Sandbox {
        ledger,
        rules: Rules::open(part("rules.json"))?,
        switches,
        phones,
        recording,
        callbacks: Callbacks::new(post),
        first_streams: Arc::default(),
        ca_pem: options.tls.is_none().then(|| authority.pem()),
        authority,
    });
    let mut twins = Vec::new();
    for twin in crate::registrations().iter().copied() {
        let opened = (twin.open)(sandbox.clone(), part(twin.id));
        twins.push((twin, opened.with_context(|| format!("opening the twin {}", twin.id))?));
    }
    Ok((Control { sandbox, twins: twins.into() }, tls))
}

impl Sandbox {
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
