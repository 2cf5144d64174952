//! What a played vendor is: its entry in the list, and the trait behind it.
//!
//! A twin is one folder and one line in `lib.rs`. It gets the shared state when it is opened and keeps what is its own
//! (accounts, keys, tokens) by itself; control API, help, samples, rules and switches follow from its entry.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use http::{HeaderMap, Uri};
use serde_json::Value;

use crate::ledger::Call;
use crate::rules::{Behaviour, Decision};
use crate::state::{Interruption, Sandbox, abort};
use crate::switches::Switch;

/// A twin's entry in the list.
pub(crate) struct Registration {
    /// The provider's id, the same as on the gateway's side.
    pub(crate) id: &'static str,
    /// How its tokens ask for a behaviour where no rule was set: tried in this order.
    pub(crate) patterns: &'static [Pattern],
    /// The vendor's own codes that a rule may name (behaviours `answer` and `fails`), each with what it says.
    pub(crate) codes: &'static [(&'static str, &'static str)],
    /// Its control paths, one a line: method, path, what it does.
    pub(crate) help: &'static [(&'static str, &'static str, &'static str)],
    /// The headers of its contract, which a recording keeps; `x-*` stands for all that begin so. (`authorization` is
    /// kept without what is secret.)
    pub(crate) headers: &'static [&'static str],
    /// The switches that nobody has touched.
    pub(crate) switch: fn() -> Switch,
    /// Opens it.
    pub(crate) open: Open,
    /// Whether it raises the limit of streams by itself; for the others a connection has the full one from its first request.
    pub(crate) raises_streams: bool,
}

/// Opens a twin on the shared state, with a directory of its own if anything is to outlive the process.
pub(crate) type Open = fn(Arc<Sandbox>, Option<PathBuf>) -> anyhow::Result<Arc<dyn Twin>>;

/// A played vendor.
pub(crate) trait Twin: Send + Sync {
    /// The vendor's own paths. All twins share a port, so no two may have the same.
    fn vendor_routes(self: Arc<Self>) -> Router;

    /// Its paths under `/_sandbox/<id>`.
    fn control_routes(self: Arc<Self>) -> Router {
        Router::new()
    }

    /// A channel's configuration that works here, and a phone for each fate that people should see once:
    /// `{provider, channel_config, devices: [{id, label, platform, address}]}`. Ids are unique over all twins. May take
    /// a while (keys are made): it is called off the threads that serve others.
    fn sample(&self, place: &Place) -> anyhow::Result<Value>;

    /// A token that this vendor takes, by number; each number has its own, always the same.
    fn token(&self, number: usize) -> String {
        format!("ok-{number:029}")
    }

    /// Somebody enters a callback URL in this vendor's console, for the account of the sample. Nothing to do for
    /// vendors that are told with each request.
    fn enter_callback(&self, _url: &str) -> anyhow::Result<()> {
        Ok(())
    }

    /// A switch was set.
    fn switched(&self) {}
}

/// A default rule: which tokens behave how.
pub(crate) struct Pattern {
    /// As in a rule: a glob over the whole token, or a prefix.
    pub(crate) tokens: &'static str,
    pub(crate) behaviour: Behaviour,
    /// The vendor's code, for `answer` and `fails`.
    pub(crate) code: Option<&'static str>,
    /// What this vendor does then.
    pub(crate) help: &'static str,
}

/// Tokens that begin with the behaviour's usual prefix, as `dead-`: for vendors whose tokens are free text.
pub(crate) const fn prefixed(behaviour: Behaviour, help: &'static str) -> Pattern {
    Pattern { tokens: behaviour.prefix(), behaviour, code: None, help }
}

/// Tokens of a form of their own: for vendors whose tokens are hex or phone numbers.
pub(crate) const fn pattern(tokens: &'static str, behaviour: Behaviour, help: &'static str) -> Pattern {
    Pattern { tokens, behaviour, code: None, help }
}

/// Tokens that get one of the vendor's own codes.
pub(crate) const fn coded(
    tokens: &'static str,
    behaviour: Behaviour,
    code: &'static str,
    help: &'static str,
) -> Pattern {
    Pattern { tokens, behaviour, code: Some(code), help }
}

/// Where a caller reached the sandbox: what a channel's configuration must say.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// `http://host:port`
    pub(crate) base_url: String,
}

impl Place {
    pub(crate) fn of(headers: &HeaderMap, uri: &Uri) -> Self {
        Self { base_url: format!("http://{}", authority(headers, uri)) }
    }
}

/// Host and port that the client meant.
pub(crate) fn authority(headers: &HeaderMap, uri: &Uri) -> String {
    let host = headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
    uri.authority().map(http::uri::Authority::as_str).or(host).unwrap_or("localhost").to_owned()
}

/// What becomes of a push that is valid, as the rules have it.
#[derive(Debug, Clone)]
pub(crate) enum Fate {
    /// The vendor takes it.
    Accept(Decision),
    /// The vendor takes it, and the sender never learns that.
    AcceptSilently(Decision),
    /// The vendor answers as this decision says, in its own words.
    Answer(Decision),
    /// The connection or stream ends without an answer.
    Abort,
    /// No answer ever comes.
    Hang,
}

/// Asks the rules about one token, and waits where they say so. What differs between first and later tries is
/// decided here, so that a twin needs words only for what it answers.
pub(crate) async fn fate(sandbox: &Sandbox, provider: &str, token: &str, message: &str) -> Fate {
    let decision = sandbox.rules.decide(provider, token);
    let first_tries = || sandbox.rules.earlier_tries(provider, token, message) < decision.times;
    match decision.behaviour {
        Behaviour::Slow => {
            tokio::time::sleep(Duration::from_millis(decision.delay_ms)).await;
            Fate::Accept(decision)
        }
        Behaviour::Flaky | Behaviour::Limited if first_tries() => Fate::Answer(decision),
        Behaviour::Lost if first_tries() => Fate::AcceptSilently(decision),
        Behaviour::Ok
        | Behaviour::Fails
        | Behaviour::Silent
        | Behaviour::Flaky
        | Behaviour::Limited
        | Behaviour::Lost => Fate::Accept(decision),
        Behaviour::Reset => Fate::Abort,
        Behaviour::Hang => Fate::Hang,
        _ => Fate::Answer(decision),
    }
}

/// Plays a fate or outage that has no answer.
pub(crate) async fn without_answer(fate: Fate, call: Call) -> Response {
    if let Fate::Hang = fate {
        call.finish("hang", 0);
        return std::future::pending().await;
    }
    call.finish("reset", 0);
    abort()
}

/// Plays an outage; `unavailable` is the vendor's own answer to it.
pub(crate) async fn interrupt(
    interruption: Interruption,
    call: Call,
    unavailable: impl FnOnce() -> Response,
) -> Response {
    match interruption {
        Interruption::Unavailable => {
            call.finish("outage", 503);
            unavailable()
        }
        Interruption::Refuse => {
            call.finish("outage", 0);
            abort()
        }
        Interruption::Hang => {
            call.finish("outage", 0);
            std::future::pending().await
        }
    }
}
