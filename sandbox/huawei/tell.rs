//! Handing accepted messages to phones, and telling senders what phones did.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::account::App;
use super::receipts::{Configuration, DELIVERED, Event, HEADER, MAX_STATUSES, REPLACED, body};
use super::validate::Message;
use super::{HUAWEI, Huawei};
use crate::callbacks::{Manners, Report};
use crate::phones::{Push, Seen, Witness};
use crate::state::{hex, now_ms, random_bytes};

/// News wait so long for others. (Huawei's rhythm is not known.)
const PAUSE: Duration = Duration::from_millis(500);

/// The answer must be 200 with `"code": "0"`, or an older document's `"errno": 0`. Whether and when Huawei comes again
/// after another answer is not known; here it does so once.
const MANNERS: Manners = Manners {
    provider: HUAWEI,
    timeout: Duration::from_secs(5),
    retries: &[Duration::from_secs(2)],
    is_good: |status, text| {
        let answer: Value = serde_json::from_slice(text).unwrap_or_default();
        status == StatusCode::OK && (answer["code"] == "0" || answer["errno"] == 0)
    },
};

/// A message that was accepted for a target.
pub(super) struct Accepted<'a> {
    pub(super) app: &'a App,
    pub(super) request_id: &'a str,
    pub(super) token: &'a str,
    pub(super) message_id: &'a str,
    pub(super) message: &'a Message,
}

/// Whom to tell what.
#[derive(Clone)]
pub(super) struct News {
    app_id: String,
    configuration: Configuration,
    event: Event,
}

impl Huawei {
    /// Gives a message to its phone, if one is played, and says what is to be told at once. `fixed` are the statuses that
    /// are reported whatever a phone does.
    pub(super) fn hand_over(self: &Arc<Self>, accepted: &Accepted<'_>, fixed: Option<&[i64]>) -> Vec<News> {
        let Accepted { app, request_id, token, message_id, message } = accepted;
        let news = app.configuration(&message.receipt_id).map(|configuration| News {
            app_id: app.facts.app_id.clone(),
            configuration: configuration.clone(),
            event: Event {
                request_id: (*request_id).to_owned(),
                appid: app.facts.app_id.clone(),
                package: app.facts.package.clone(),
                token: (*token).to_owned(),
                bi_tag: message.bi_tag.clone(),
                status: DELIVERED,
                at_ms: now_ms(),
            },
        });
        let with = |status: i64| {
            news.clone().map(|mut news| {
                news.event.status = status;
                news
            })
        };
        if let Some(statuses) = fixed {
            return statuses.iter().filter_map(|status| with(*status)).collect();
        }
        let witness = self.witness(news.clone());
        let is_played = self.sandbox.phones.push(HUAWEI, token, || {
            let shown = message.shown.as_ref();
            Push {
                message_id: (*message_id).to_owned(),
                title: shown.map(|shown| shown.title.clone()),
                body: shown.map(|shown| shown.body.clone()),
                image: shown.and_then(|shown| shown.image.clone()),
                data: message.data.clone(),
                collapse_key: message.collapse_key.clone(),
                replaces: shown.and_then(|shown| shown.replaces.clone()),
                expires_at_ms: now_ms() + message.ttl_ms,
                witness: Some(witness),
                ..Push::default()
            }
        });
        if is_played { Vec::new() } else { with(DELIVERED).into_iter().collect() }
    }

    /// Whoever sees what the phone does. It knows the twin weakly: the twin holds the phones that hold it. A tap is not
    /// reported by Huawei, and neither is what expired.
    fn witness(self: &Arc<Self>, news: Option<News>) -> Witness {
        let twin: Weak<Self> = Arc::downgrade(self);
        Witness::new(move |seen| {
            let (Some(twin), Some(mut news)) = (twin.upgrade(), news.clone()) else { return };
            news.event.at_ms = now_ms();
            news.event.status = match seen {
                Seen::Shown => DELIVERED,
                Seen::Replaced => REPLACED,
                Seen::Tapped | Seen::Expired => return,
            };
            twin.tell(vec![news]);
        })
    }

    /// Puts news with those that wait.
    pub(super) fn tell(self: &Arc<Self>, news: Vec<News>) {
        if news.is_empty() {
            return;
        }
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = pending.is_empty();
        pending.extend(news);
        drop(pending);
        if is_first {
            let twin = self.clone();
            self.sandbox.callbacks.after(PAUSE, async move { twin.flush().await });
        }
    }

    /// Posts what waits.
    pub(super) async fn flush(&self) {
        let news = std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        let mut by_configuration: BTreeMap<(String, String), (Configuration, Vec<Event>)> = BTreeMap::new();
        for News { app_id, configuration, event } in news {
            let key = (app_id, configuration.receipt_id.clone());
            by_configuration.entry(key).or_insert_with(|| (configuration, Vec::new())).1.push(event);
        }
        for ((app_id, _), (configuration, events)) in by_configuration {
            let reports = events.chunks(MAX_STATUSES).map(|events| self.report(&configuration, events));
            self.sandbox.callbacks.report(MANNERS, &app_id, "", reports.collect()).await;
        }
    }

    fn report(&self, configuration: &Configuration, events: &[Event]) -> Report {
        let mut headers = json_headers();
        let mut signer = configuration.clone();
        if self.sandbox.switches.of(HUAWEI).receipts.forged {
            // Base64 in both key modes, and nobody's secret.
            signer.secret = hex(&random_bytes::<32>());
        }
        if let Some(proof) = signer.proof(now_ms(), &nonce())
            && let Ok(proof) = HeaderValue::from_str(&proof)
        {
            headers.insert(HeaderName::from_static(HEADER), proof);
        }
        let body = body(configuration.version, events).to_string().into_bytes();
        Report { after: Duration::ZERO, url: configuration.url.clone(), headers, body }
    }

    /// The console's test of an address: no statuses, and no signature either.
    pub(super) async fn probe(&self, configuration: &Configuration) {
        let (url, body) = (configuration.url.clone(), json!({"statuses": []}).to_string().into_bytes());
        let report = Report { after: Duration::ZERO, url, headers: json_headers(), body };
        self.sandbox.callbacks.report(MANNERS, "probe", "", vec![report]).await;
    }
}

fn json_headers() -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))])
}

/// A UUID (version 4, RFC 9562).
fn nonce() -> String {
    let mut bytes = random_bytes::<16>();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = hex(&bytes);
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}
