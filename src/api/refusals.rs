//! Who was turned away: every 401 and 403 is counted, and some are told in the log.
//!
//! Whoever tries keys must not fill the disk with lines about it: beyond a burst one line a second is written, and it
//! says how many were left out before it. A key is named by its id only where its checksum is right; nothing else of
//! what came is shown, for it may be a secret in the wrong place.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderValue, Method, StatusCode, header};

use super::key;
use super::listen::Peer;
use crate::app::Gateway;
use crate::direct::secret;
use crate::telemetry::RefusalLabels;

/// Lines at once, and milliseconds until there may be another one.
const BURST: u64 = 20;
const APART_MS: u64 = 1000;

/// What a line says of a request, should it be turned away.
#[derive(Debug)]
pub(super) struct Asked {
    method: Method,
    path: String,
    authorization: Option<HeaderValue>,
    ip: Option<IpAddr>,
}

impl Asked {
    /// Of a request that just came.
    pub(super) fn of(request: &Request) -> Self {
        let path = request.extensions().get::<MatchedPath>();
        Self {
            method: request.method().clone(),
            path: path.map_or_else(String::new, |path| path.as_str().to_owned()),
            authorization: request.headers().get(header::AUTHORIZATION).cloned(),
            ip: request.extensions().get::<Peer>().map(|peer| peer.0),
        }
    }

    /// Whose key it claims to be; anybody can write an id.
    fn claims(&self) -> Option<String> {
        let text = self.authorization.as_ref()?.to_str().ok()?;
        let text = text.split_once(' ').map_or(text, |(_, rest)| rest).trim();
        let key = key::id(text).map(|id| format!("key:{id}"));
        key.or_else(|| secret::username(text).map(|name| format!("device_user:{name}")))
    }
}

/// The memory of what was told lately.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    /// When the last line would have been due, had they come evenly.
    even_ms: u64,
    left_out: u64,
}

impl Told {
    /// A line may be written now: how many were left out before it.
    fn may(&mut self, now_ms: u64) -> Option<u64> {
        let even = self.even_ms.max(now_ms.saturating_sub(BURST * APART_MS));
        if even + APART_MS > now_ms {
            self.left_out += 1;
            return None;
        }
        self.even_ms = even + APART_MS;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl Refusals {
    /// Notes how a request ended, where it was turned away.
    pub(super) fn note(&self, gateway: &Gateway, asked: &Asked, status: StatusCode, request_id: &str) {
        let why = match status {
            StatusCode::UNAUTHORIZED => "unauthenticated",
            StatusCode::FORBIDDEN => "forbidden",
            _ => return,
        };
        let phone = asked.path == "/v1/device" || asked.path.starts_with("/v1/device/");
        let labels = RefusalLabels { plane: if phone { "phone" } else { "backend" }, why };
        gateway.metrics.refusals.get_or_create(&labels).inc();
        let now = gateway.clock.now_ms();
        let Some(left_out) = self.0.lock().unwrap_or_else(PoisonError::into_inner).may(now) else { return };
        tracing::warn!(
            request.id = request_id,
            method = %asked.method,
            path = asked.path,
            status = status.as_u16(),
            claims = asked.claims(),
            ip = asked.ip.map(tracing::field::display),
            left_out,
            "turned away"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_wrong_keys_is_told_in_few_lines_that_say_how_many_they_stand_for() {
        let mut told = Told::default();
        let now = 1_000_000;
        let written = (0..1000).filter(|_| told.may(now).is_some()).count();
        assert_eq!(written as u64, BURST);
        assert_eq!(told.may(now + APART_MS), Some(980));
        assert_eq!(told.may(now + APART_MS), None);
        assert_eq!(told.may(now + 60 * APART_MS), Some(1));
    }
}
