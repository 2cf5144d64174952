//! Who a phone is: its device secret, or a ticket that it got with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::digest;
use axum::extract::FromRequestParts;
use axum::http::{HeaderMap, StatusCode, header, request::Parts};
use moka::future::Cache;

use super::secret;
use crate::api::limits::Meter;
use crate::api::problem::Problem;
use crate::app::Gateway;
use crate::secrets::token::{random_base62, with_checksum, without_checksum};

/// How long a phone is known without asking the store: also how late a revocation by another node may be.
const KNOWN: Duration = Duration::from_secs(5);
/// Phones that are known at the most.
const MOST_KNOWN: u64 = 100_000;
/// How long a ticket is good for.
const TICKET: Duration = Duration::from_mins(1);
/// Tickets at the most: one for each device that asked in the last minute.
const MOST_TICKETS: u64 = 100_000;
const TICKET_PREFIX: &str = "apt_";
const STAMPS: usize = 1024;

/// A phone that has shown who it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Phone {
    /// The device's number.
    pub device: u64,
    /// Its app.
    pub app: i64,
    /// The backend's id of it.
    pub id: String,
    /// Its user name.
    pub username: String,
    /// Part of its cursors.
    pub epoch: u32,
    /// Which revocation it came after: see [`DeviceAuth::is_current`].
    pub(super) stamp: u32,
}

/// Knows phones for a short while, and the tickets that they may use. Cloning shares it.
///
/// Revocation is a count per group of devices: what was learned under an older count is not believed. So nothing has
/// to be searched, and a revocation that meets an authentication under way wins.
#[derive(Debug, Clone)]
pub struct DeviceAuth {
    known: Cache<[u8; 32], Arc<Phone>>,
    tickets: Cache<String, (Vec<u8>, u64, Arc<Phone>)>,
    stamps: Arc<[AtomicU32]>,
    forgotten: Arc<AtomicU64>,
}

impl Default for DeviceAuth {
    fn default() -> Self {
        Self {
            known: Cache::builder().max_capacity(MOST_KNOWN).time_to_live(KNOWN).build(),
            tickets: Cache::builder().max_capacity(MOST_TICKETS).time_to_live(TICKET).build(),
            stamps: (0..STAMPS).map(|_| AtomicU32::new(0)).collect(),
            forgotten: Arc::default(),
        }
    }
}

impl DeviceAuth {
    /// Makes what is known about a device invalid at once: its secret, its tickets, phones that have shown one of
    /// them and are not yet connected.
    pub fn forget(&self, device: u64) {
        self.stamp(device).fetch_add(1, Ordering::SeqCst);
        self.forgotten.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether nothing was revoked since this phone has shown who it is. Asked again after taking a seat in the hub:
    /// a revocation in between has found no connection to end.
    pub fn is_current(&self, phone: &Phone) -> bool {
        self.stamp(phone.device).load(Ordering::SeqCst) == phone.stamp
    }

    /// Whose secret this is.
    pub async fn by_secret(&self, gateway: &Gateway, text: &str) -> Result<Arc<Phone>, Problem> {
        let Some(username) = secret::username(text) else { return Err(not_a_secret(text)) };
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        let key: [u8; 32] = hash.as_ref().try_into().unwrap_or_default();
        if let Some(phone) = self.known.get(&key).await
            && self.is_current(&phone)
        {
            return Ok(phone);
        }
        for _ in 0..8 {
            let before = self.forgotten.load(Ordering::SeqCst);
            let record = gateway.store.phone(username).await?;
            let fits = secret::verify(&gateway.vault, text, record.as_ref());
            let Some(record) = record.filter(|_| fits) else { return Err(wrong()) };
            let stamp = self.stamp(record.seq).load(Ordering::SeqCst);
            // What was read may be older than a revocation that came meanwhile: read again.
            if self.forgotten.load(Ordering::SeqCst) == before {
                let phone = Phone {
                    device: record.seq,
                    app: record.app,
                    id: record.id,
                    username: record.username,
                    epoch: record.epoch,
                    stamp,
                };
                let phone = Arc::new(phone);
                self.known.insert(key, phone.clone()).await;
                return Ok(phone);
            }
        }
        Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "many secrets are being made anew")
            .retry_after(1))
    }

    /// Makes a ticket, good once and for a minute; an older one of the same phone ends. Returns it and when it ends,
    /// in Unix milliseconds.
    pub async fn make_ticket(&self, gateway: &Gateway, phone: Arc<Phone>) -> (String, u64) {
        let ticket = with_checksum(&format!("{TICKET_PREFIX}{}{}", phone.username, random_base62(32)));
        let until = gateway.clock.now_ms() + TICKET.as_millis() as u64;
        let mac = gateway.vault.mac("ticket", &ticket);
        self.tickets.insert(phone.username.clone(), (mac, until, phone)).await;
        (ticket, until)
    }

    /// Whose ticket this is; it is used up.
    pub async fn by_ticket(&self, gateway: &Gateway, text: &str) -> Result<Arc<Phone>, Problem> {
        let name = without_checksum(text)
            .and_then(|body| body.strip_prefix(TICKET_PREFIX))
            .and_then(|body| body.get(..20))
            .ok_or_else(wrong_ticket)?;
        let (mac, until, _) = self.tickets.get(name).await.ok_or_else(wrong_ticket)?;
        if gateway.clock.now_ms() >= until || !gateway.vault.verify("ticket", text, &mac) {
            return Err(wrong_ticket());
        }
        // Of two who come at once, one finds it here.
        let taken = self.tickets.remove(name).await.filter(|(taken, ..)| *taken == mac);
        let phone = taken.map(|(.., phone)| phone).filter(|phone| self.is_current(phone));
        phone.ok_or_else(wrong_ticket)
    }

    fn stamp(&self, device: u64) -> &AtomicU32 {
        &self.stamps[device as usize % STAMPS]
    }
}

/// Who calls a phone endpoint.
pub(super) struct Caller(pub(super) Arc<Phone>);

impl FromRequestParts<Arc<Gateway>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Problem> {
        let auth = gateway.hub.auth();
        let phone = match (bearer(&parts.headers), ticket(parts.uri.query())) {
            (Some(secret), _) => auth.by_secret(gateway, secret).await?,
            (None, Some(ticket)) => auth.by_ticket(gateway, ticket).await?,
            (None, None) => return Err(wrong()),
        };
        let meter = parts.extensions.get::<Meter>().cloned().unwrap_or_default();
        gateway.limits.phone(phone.device, &meter)?;
        Ok(Self(phone))
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, rest) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| rest.trim())
}

/// Tickets are of letters that are never escaped in a URL.
fn ticket(query: Option<&str>) -> Option<&str> {
    query?.split('&').find_map(|pair| pair.strip_prefix("ticket="))
}

fn not_a_secret(text: &str) -> Problem {
    if text.starts_with("apk_") {
        return unauthorized("this is a backend's key; phones use their device secret (aps_…)");
    }
    wrong()
}

/// 401: the secret is of no device, or no longer.
pub(super) fn wrong() -> Problem {
    unauthorized(
        "send the device's secret as `Authorization: Bearer aps_…`; if it was made anew, the app's backend has the new \
         one",
    )
}

fn wrong_ticket() -> Problem {
    unauthorized("this ticket is unknown, used or over; get another with POST /v1/device/ticket")
}

fn unauthorized(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "invalid_device_secret", detail)
}
