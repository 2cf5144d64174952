//! Handsets at the far end.
//!
//! A phone of a vendor shows what that vendor's twin accepted for its token; while it is offline the vendor keeps the
//! newest pushes for it until they expire. A direct phone is a real client of a gateway: it connects by WebSocket or long
//! polling with its device secret, acknowledges, and reports what it showed. Both can be tapped.
//!
//! Concurrency: one lock over all phones, never held across an await. Each direct phone that is online has one task;
//! its token is cancelled when the phone goes offline, changes or goes away, and the task sees that at its next await.

mod direct;
mod polling;
mod screen;
mod websocket;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::state::now_ms;
use screen::Screen;
pub use screen::Shown;
pub(crate) use screen::{Push, Seen, Witness};

/// Phones that a sandbox plays at most.
const MAX_PHONES: usize = 20_000;

/// How a phone is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhoneKind {
    /// It keeps a WebSocket to the gateway.
    DirectWebsocket,
    /// It polls the gateway, long.
    DirectPolling,
    /// A vendor's service runs on it, named by the provider's id (`fcm`, …).
    #[serde(untagged)]
    Vendor(String),
}

/// What to create or change; what is absent stays as it is.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhoneChange {
    /// Must be given when the phone is created.
    pub kind: Option<PhoneKind>,
    /// A name for people.
    pub label: Option<String>,
    /// Whether it has a network; a new phone has.
    pub online: Option<bool>,
    /// The vendor's token for it.
    pub token: Option<String>,
    /// The gateway's base URL (`http://…`).
    pub gateway: Option<String>,
    /// Its device secret at the gateway; never shown again.
    pub secret: Option<String>,
    /// The events that it reports by itself: `displayed`. A tap is always reported where there is a secret.
    pub receipts: Option<Vec<String>>,
}

/// A phone as the control API shows it.
#[derive(Debug, Clone, Serialize)]
pub struct PhoneView {
    /// Its id.
    pub id: String,
    /// How it is reached.
    pub kind: PhoneKind,
    /// A name for people.
    pub label: String,
    /// Whether it has a network.
    pub online: bool,
    /// Whether it is connected now: a direct phone to the gateway; a vendor's phone whenever it is online.
    pub connected: bool,
    /// The vendor's token for it.
    pub token: Option<String>,
    /// The gateway's base URL.
    pub gateway: Option<String>,
    /// Pushes that the vendor keeps until it is online.
    pub waiting: usize,
    /// Messages that came again and were not shown again (direct phones).
    pub repeated: u64,
    /// Why the last connection ended.
    pub last_error: Option<String>,
    /// What it shows, newest first.
    pub screen: Vec<Shown>,
}

/// Why a phone could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PhoneError {
    /// There is no phone with this id.
    Unknown,
    /// It does not show this message.
    NotShown,
    /// The change makes no phone.
    Invalid(&'static str),
    /// The gateway did not take its report.
    Gateway(String),
}

impl std::fmt::Display for PhoneError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown => f.write_str("there is no phone with this id"),
            Self::NotShown => f.write_str("the phone does not show this message"),
            Self::Invalid(why) => f.write_str(why),
            Self::Gateway(why) => write!(f, "the gateway did not take the report: {why}"),
        }
    }
}

impl std::error::Error for PhoneError {}

struct Phone {
    kind: PhoneKind,
    label: String,
    online: bool,
    connected: bool,
    token: Option<String>,
    gateway: Option<String>,
    secret: Option<String>,
    receipts: Vec<String>,
    cursor: Option<String>,
    last_error: Option<String>,
    screen: Screen,
    /// Ends the task of a direct phone.
    task: Option<CancellationToken>,
}

#[derive(Default)]
struct All {
    phones: BTreeMap<String, Phone>,
    by_token: HashMap<(String, String), String>,
}

impl All {
    /// Takes the phone's token out of the index, unless another phone took it over.
    fn forget_token(&mut self, id: &str, phone: &Phone) {
        let (Some(token), PhoneKind::Vendor(provider)) = (&phone.token, &phone.kind) else { return };
        let key = (provider.clone(), token.clone());
        if self.by_token.get(&key).is_some_and(|owner| owner == id) {
            self.by_token.remove(&key);
        }
    }
}

/// Why a change would make no phone.
fn problem(before: Option<&Phone>, change: &PhoneChange) -> Option<&'static str> {
    let Some(kind) = change.kind.as_ref().or(before.map(|phone| &phone.kind)) else {
        return Some("a new phone needs a kind");
    };
    let has = |new: &Option<String>, old: fn(&Phone) -> bool| new.is_some() || before.is_some_and(old);
    let has_gateway = has(&change.gateway, |phone| phone.gateway.is_some());
    let has_secret = has(&change.secret, |phone| phone.secret.is_some());
    match kind {
        PhoneKind::Vendor(_) if has(&change.token, |phone| phone.token.is_some()) => None,
        PhoneKind::Vendor(_) => Some("a vendor's phone needs a token"),
        _ if has_gateway && has_secret => None,
        _ => Some("a direct phone needs gateway and secret"),
    }
}

struct Shared {
    all: Mutex<All>,
    /// How many tokens have a phone: lets a push without one pass without the lock.
    tokens: AtomicUsize,
    tracker: TaskTracker,
    stop: CancellationToken,
    http: reqwest::Client,
}

/// The phones of a sandbox; clones are handles to the same.
#[derive(Clone)]
pub struct Phones(Arc<Shared>);

impl Phones {
    pub(crate) fn new(tracker: TaskTracker, stop: CancellationToken) -> Self {
        let (all, tokens) = (Mutex::default(), AtomicUsize::new(0));
        Self(Arc::new(Shared { all, tokens, tracker, stop, http: direct::client() }))
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.0.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a phone or changes one.
    pub fn put(&self, id: &str, change: PhoneChange) -> Result<PhoneView, PhoneError> {
        let mut all = self.lock();
        let count = all.phones.len();
        if let Some(why) = problem(all.phones.get(id), &change) {
            return Err(PhoneError::Invalid(why));
        }
        let mut phone = match all.phones.remove(id) {
            Some(phone) => phone,
            None if count >= MAX_PHONES => return Err(PhoneError::Invalid("too many phones")),
            None => Phone::new(change.kind.clone().ok_or(PhoneError::Invalid("a new phone needs a kind"))?),
        };
        all.forget_token(id, &phone);
        let reconnect = phone.change(change);
        if let (Some(token), PhoneKind::Vendor(provider)) = (&phone.token, &phone.kind) {
            all.by_token.insert((provider.clone(), token.clone()), id.to_owned());
        }
        if reconnect && let Some(task) = phone.task.take() {
            task.cancel();
            phone.connected = false;
        }
        self.0.tokens.store(all.by_token.len(), Ordering::Relaxed);
        let mut displayed = Vec::new();
        match phone.kind {
            PhoneKind::Vendor(_) if phone.online => displayed = phone.screen.show_waiting(now_ms()),
            PhoneKind::Vendor(_) => {}
            _ if phone.online && phone.task.is_none() => {
                let stop = self.0.stop.child_token();
                phone.task = Some(stop.clone());
                self.0.tracker.spawn(direct::run(self.clone(), id.to_owned(), phone.line(), stop));
            }
            _ => {}
        }
        self.report_displayed(&phone, displayed);
        let view = phone.view(id);
        all.phones.insert(id.to_owned(), phone);
        Ok(view)
    }

    /// Takes a phone away; says whether there was one.
    pub fn remove(&self, id: &str) -> bool {
        let mut all = self.lock();
        let Some(phone) = all.phones.remove(id) else { return false };
        if let Some(task) = &phone.task {
            task.cancel();
        }
        all.forget_token(id, &phone);
        self.0.tokens.store(all.by_token.len(), Ordering::Relaxed);
        true
    }

    /// All phones, by id.
    pub fn list(&self) -> Vec<PhoneView> {
        self.lock().phones.iter().map(|(id, phone)| phone.view(id)).collect()
    }

    /// One phone.
    pub fn get(&self, id: &str) -> Option<PhoneView> {
        self.lock().phones.get(id).map(|phone| phone.view(id))
    }

    /// Taps a notification: the gateway gets a `clicked` receipt if the phone has a device secret.
    pub async fn tap(&self, id: &str, message_id: &str) -> Result<PhoneView, PhoneError> {
        let (line, view) = {
            let mut all = self.lock();
            let phone = all.phones.get_mut(id).ok_or(PhoneError::Unknown)?;
            if !phone.screen.tap(message_id, now_ms()) {
                return Err(PhoneError::NotShown);
            }
            (phone.line(), phone.view(id))
        };
        if line.gateway.is_some() && line.secret.is_some() {
            direct::report(&self.0.http, &line, message_id, "clicked").await.map_err(PhoneError::Gateway)?;
        }
        Ok(view)
    }

    /// Hands a push that a vendor accepted to the phone that has its token; says whether there is one.
    pub(crate) fn push(&self, provider: &str, token: &str, push: impl FnOnce() -> Push) -> bool {
        if self.0.tokens.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut all = self.lock();
        let Some(id) = all.by_token.get(&(provider.to_owned(), token.to_owned())).cloned() else {
            return false;
        };
        let Some(phone) = all.phones.get_mut(&id) else { return false };
        let push = push();
        if !phone.online {
            phone.screen.keep(push, now_ms());
            return true;
        }
        let message_id = push.message_id.clone();
        phone.screen.show(push, now_ms());
        self.report_displayed(phone, vec![message_id]);
        true
    }

    /// Reports what a vendor's phone showed, if it was told to and knows the gateway.
    fn report_displayed(&self, phone: &Phone, messages: Vec<String>) {
        let line = phone.line();
        if !line.reports_displayed || line.gateway.is_none() || line.secret.is_none() || messages.is_empty() {
            return;
        }
        let (http, stop) = (self.0.http.clone(), self.0.stop.clone());
        self.0.tracker.spawn(async move {
            for message_id in messages.into_iter().filter(|id| !id.is_empty()) {
                tokio::select! {
                    () = stop.cancelled() => return,
                    reported = direct::report(&http, &line, &message_id, "displayed") => {
                        if let Err(error) = reported {
                            tracing::debug!(error, "a phone's receipt was not taken");
                        }
                    }
                }
            }
        });
    }
}

impl Phone {
    fn new(kind: PhoneKind) -> Self {
        Self {
            kind,
            label: String::new(),
            online: true,
            connected: false,
            token: None,
            gateway: None,
            secret: None,
            receipts: Vec::new(),
            cursor: None,
            last_error: None,
            screen: Screen::default(),
            task: None,
        }
    }

    /// Applies a change; says whether a connection of before must end.
    fn change(&mut self, change: PhoneChange) -> bool {
        let PhoneChange { kind, label, online, token, gateway, secret, receipts } = change;
        let differs = kind.as_ref().is_some_and(|kind| *kind != self.kind)
            || gateway.as_ref().is_some_and(|gateway| Some(gateway) != self.gateway.as_ref())
            || secret.as_ref().is_some_and(|secret| Some(secret) != self.secret.as_ref())
            || receipts.as_ref().is_some_and(|receipts| *receipts != self.receipts);
        let elsewhere = gateway.is_some() || secret.is_some();
        self.kind = kind.unwrap_or_else(|| self.kind.clone());
        self.label = label.unwrap_or_else(|| std::mem::take(&mut self.label));
        self.online = online.unwrap_or(self.online);
        self.token = token.or_else(|| self.token.take());
        self.gateway =
            gateway.map(|url| url.trim_end_matches('/').to_owned()).or_else(|| self.gateway.take());
        self.secret = secret.or_else(|| self.secret.take());
        if differs && elsewhere {
            // A cursor means something to the device and gateway that gave it, and to no other.
            self.cursor = None;
        }
        self.receipts = receipts.unwrap_or_else(|| std::mem::take(&mut self.receipts));
        differs || !self.online
    }

    fn line(&self) -> direct::Line {
        direct::Line {
            kind: self.kind.clone(),
            gateway: self.gateway.clone(),
            secret: self.secret.clone(),
            reports_displayed: self.receipts.iter().any(|event| event == "displayed"),
        }
    }

    fn view(&self, id: &str) -> PhoneView {
        PhoneView {
            id: id.to_owned(),
            kind: self.kind.clone(),
            label: self.label.clone(),
            online: self.online,
            connected: self.connected || (self.online && matches!(self.kind, PhoneKind::Vendor(_))),
            token: self.token.clone(),
            gateway: self.gateway.clone(),
            waiting: self.screen.waiting(),
            repeated: self.screen.repeated(),
            last_error: self.last_error.clone(),
            screen: self.screen.shown(),
        }
    }
}
