//! Phones that connect to a gateway themselves: what both ways of connecting share.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::{PhoneKind, Phones, Push, polling, websocket};
use crate::state::{now_ms, rfc3339};

/// The first wait after a lost connection is random below this, later ones below its doubles.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
/// The longest such bound.
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// What a phone needs to reach its gateway.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) kind: PhoneKind,
    pub(super) gateway: Option<String>,
    pub(super) secret: Option<String>,
    pub(super) reports_displayed: bool,
}

/// A message as a gateway hands it to a phone; what a later gateway adds is ignored.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Message {
    pub(super) id: String,
    #[serde(default)]
    pub(super) cursor: Option<String>,
    #[serde(default)]
    notification: Option<Map<String, Value>>,
    #[serde(default)]
    data: Option<Map<String, Value>>,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// It worked for a while: the next one may begin at once, after the gateway's own wish.
    Worked { why: String, wait_ms: u64 },
    /// It did not work: wait longer each time.
    Failed(String),
    /// The gateway does not want this phone any more.
    Revoked(String),
}

/// The one HTTP client of all phones.
#[expect(clippy::disallowed_methods, reason = "phones are no part of the gateway: this is their one client")]
pub(super) fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(5))
        // Longer than any poll may be held (55 s).
        .timeout(Duration::from_secs(70))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .expect("the client's settings are constants that work")
}

/// Keeps a phone connected until `stop`.
pub(super) async fn run(phones: Phones, id: String, line: Line, stop: CancellationToken) {
    let mut failures = 0;
    loop {
        let connection = async {
            match line.kind {
                PhoneKind::DirectWebsocket => websocket::run(&phones, &id, &line, &stop).await,
                _ => polling::run(&phones, &id, &line, &stop).await,
            }
        };
        let end = tokio::select! {
            () = stop.cancelled() => return,
            end = connection => end,
        };
        let (why, wait) = match end {
            End::Worked { why, wait_ms } => {
                failures = 0;
                (why, jitter(FIRST_BACKOFF) + Duration::from_millis(wait_ms))
            }
            End::Failed(why) => {
                failures += 1;
                (why, jitter((FIRST_BACKOFF * (1 << failures.min(8))).min(LONGEST_BACKOFF)))
            }
            End::Revoked(why) => {
                phones.note(&id, &stop, false, Some(why));
                return;
            }
        };
        phones.note(&id, &stop, false, Some(why));
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Full jitter: anywhere below the bound.
fn jitter(bound: Duration) -> Duration {
    bound.mul_f64(rand::random::<f64>())
}

impl Phones {
    /// Notes how a phone's connection is, unless the connection is one of before.
    pub(super) fn note(&self, id: &str, stop: &CancellationToken, connected: bool, error: Option<String>) {
        let mut all = self.lock();
        if stop.is_cancelled() {
            return;
        }
        if let Some(phone) = all.phones.get_mut(id) {
            phone.connected = connected;
            if error.is_some() {
                phone.last_error = error;
            }
        }
    }

    /// Where the phone's reading of its inbox stands.
    pub(super) fn cursor(&self, id: &str) -> Option<String> {
        self.lock().phones.get(id)?.cursor.clone()
    }

    /// Moves that on, or back to the beginning; a connection of before moves nothing.
    pub(super) fn set_cursor(&self, id: &str, stop: &CancellationToken, cursor: Option<String>) {
        let mut all = self.lock();
        if let Some(phone) = all.phones.get_mut(id).filter(|_| !stop.is_cancelled()) {
            phone.cursor = cursor;
        }
    }

    /// Shows a message of the gateway; says whether it was new.
    pub(super) fn receive(&self, id: &str, message: Message) -> bool {
        let mut notification = message.notification.unwrap_or_default();
        let mut text = |name: &str| match notification.remove(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let push = Push {
            title: text("title"),
            body: text("body"),
            image: text("image"),
            message_id: message.id,
            data: message.data.unwrap_or_default(),
            expires_at_ms: u64::MAX,
            ..Push::default()
        };
        self.lock().phones.get_mut(id).is_some_and(|phone| phone.screen.show_once(push, now_ms()))
    }

    /// Takes a message off the screen: it was recalled.
    pub(super) fn take_off(&self, id: &str, message_id: &str) {
        if let Some(phone) = self.lock().phones.get_mut(id) {
            phone.screen.take_off(message_id);
        }
    }

    pub(super) fn http(&self) -> &reqwest::Client {
        &self.0.http
    }
}

/// Posts a receipt.
pub(super) async fn report(
    http: &reqwest::Client,
    line: &Line,
    message_id: &str,
    event: &str,
) -> Result<(), String> {
    let gateway = line.gateway.as_deref().ok_or("the phone has no gateway")?;
    let answer = http
        .post(format!("{gateway}/v1/device/receipts"))
        .bearer_auth(line.secret.as_deref().ok_or("the phone has no device secret")?)
        .json(&json!([{"message_id": message_id, "event": event, "at": rfc3339(now_ms())}]))
        .timeout(Duration::from_secs(10))
        .send()
        .await
        .map_err(|error| error.to_string())?;
    let status = answer.status();
    if status.is_success() { Ok(()) } else { Err(format!("it answered {status}")) }
}
