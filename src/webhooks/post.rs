//! One request to an endpoint: signed, and its answer read only as far as its status.

use std::time::{Duration, Instant, UNIX_EPOCH};

use anypush_providers::kit::failure::TransportErrorKind;
use anypush_providers::kit::http as kit;
use anypush_providers::kit::retry_after::retry_after;
use http::header;

use super::Inner;
use super::retry::{Meaning, meaning};
use super::sign::Secrets;
use crate::clock;
use crate::events::Event;
use crate::store::WebhookAttempt;

/// What is read of an answer, so that the connection can be used again: nobody looks at it.
const MOST_BYTES: usize = 64 * 1024;

/// What came of a request.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) meaning: Meaning,
    pub(super) retry_after: Option<Duration>,
    at: u64,
    latency_ms: u64,
    status: Option<u16>,
    error: Option<&'static str>,
}

impl Answer {
    /// As it is kept.
    pub(super) fn attempt(&self, event: &Event, attempt: u32, next_at: Option<u64>) -> WebhookAttempt {
        WebhookAttempt {
            seq: 0,
            event: event.number,
            kind: event.kind as u8,
            attempt,
            at: self.at,
            latency_ms: self.latency_ms,
            status: self.status,
            error: self.error.map(str::to_owned),
            next_at,
        }
    }
}

impl Inner {
    /// Posts an event.
    pub(super) async fn post(&self, url: &str, secrets: Option<&Secrets>, event: &Event) -> Answer {
        let at = self.parts.clock.now_ms();
        let failed = |error, latency_ms| Answer {
            meaning: Meaning::Failed,
            retry_after: None,
            at,
            latency_ms,
            status: None,
            error: Some(error),
        };
        let Some(secrets) = secrets else { return failed("secret_unreadable", 0) };
        let body = event.body.to_string();
        // Receivers compare it with their own clocks.
        let timestamp = clock::wall().duration_since(UNIX_EPOCH).map_or(at / 1000, |wall| wall.as_secs());
        let request = self
            .http
            .post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, &self.parts.user_agent)
            .header("webhook-id", &event.id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", secrets.sign(&event.id, timestamp, body.as_bytes(), at))
            .body(body);
        let began = Instant::now();
        let answer = kit::send_cut(request, MOST_BYTES).await;
        let latency_ms = began.elapsed().as_millis() as u64;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let why = match error.kind {
                    TransportErrorKind::NotSent | TransportErrorKind::CertificateRefused => "not_connected",
                    TransportErrorKind::NotProcessed | TransportErrorKind::MaybeSent => "no_answer",
                    TransportErrorKind::BadAnswer => "bad_answer",
                };
                return failed(why, latency_ms);
            }
        };
        let status = answer.status().as_u16();
        let meaning = meaning(Some(status));
        let error = match status {
            _ if meaning == Meaning::Told => None,
            300..=399 => Some("redirected"),
            _ => Some("refused"),
        };
        let retry_after = match meaning {
            Meaning::Overloaded => retry_after(answer.headers(), clock::wall()),
            _ => None,
        };
        Answer { meaning, retry_after, at, latency_ms, status: Some(status), error }
    }
}
