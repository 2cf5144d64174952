//! From the request to the journal.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use anypush_providers::contract::{CallbackReply, CallbackRequest, Receipts as How};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Inner, Receipts};
use crate::channels::Channel;
use crate::clock::{at_unix_ms, unix_ms};
use crate::failpoint::failpoint;
use crate::ids::base32;
use crate::pacing::Rate;
use crate::secrets::Vault;
use crate::store::{RawReceipt, StoreError};

/// Largest body of a callback.
pub const MOST_BYTES: usize = 1024 * 1024;
/// Callbacks that one channel may have in hand: its flood is not the others' and takes 32 MiB at the most.
const MOST_OF_CHANNEL: usize = 32;
/// Callbacks that all channels together may have in hand.
const MOST: usize = 128;
/// Callbacks that one channel may bring a second; what comes beyond is refused before it is read.
const A_SECOND: u32 = 500;
/// Rows of the journal beyond which vendors are asked to come again: merging is far behind.
const MOST_ROWS: u64 = 100_000;

/// Why a callback is not taken.
#[derive(Debug)]
pub enum Refusal {
    /// This channel's vendor has no callbacks.
    NoCallbacks,
    /// The channel cannot be used, so nothing can be authenticated; or its adapter stumbled. Again later.
    Unusable,
    /// Too many at once, or merging is far behind. Again later.
    Crowded,
    /// This channel's callbacks come too fast. Again later.
    TooFast,
    /// It could not be made durable. Again later.
    Store(StoreError),
}

/// The path of a channel's callbacks; `None` where its vendor has none. Its last part is a secret.
pub fn path(vault: &Vault, channel: &Channel) -> Option<String> {
    // Phones report over the own connection, each with its own secret.
    let has = channel.descriptor.capabilities.receipts == How::Callback && !channel.is_direct();
    has.then(|| {
        let id = &channel.record.public_id;
        format!("/v1/callbacks/{id}/{}", secret(vault, id, channel.record.callback))
    })
}

/// 128 bits that nobody can guess, and that need not be kept: they follow from the master key.
fn secret(vault: &Vault, public_id: &str, generation: i64) -> String {
    let mac = vault.mac("callback", &format!("{public_id}|{generation}"));
    base32(mac.iter().take(16).fold(0, |number, byte| (number << 8) | u128::from(*byte)))
}

/// A callback in hand; dropping it makes room for the next.
pub struct Place {
    inner: Arc<Inner>,
    channel: i64,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Place({})", self.channel)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut in_hand = self.inner.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = in_hand.get_mut(&self.channel) {
            *count -= 1;
            if *count == 0 {
                in_hand.remove(&self.channel);
            }
        }
    }
}

impl Receipts {
    /// The channel behind a path, where the secret is right. An unknown channel costs the same work as a wrong secret.
    pub fn channel(&self, public_id: &str, given: &str) -> Option<Arc<Channel>> {
        let parts = &self.inner.parts;
        let channel = parts.channels.by_public_id(public_id);
        let generation = channel.as_ref().map_or(0, |channel| channel.record.callback);
        let right = secret(&parts.vault, public_id, generation);
        let fits =
            aws_lc_rs::constant_time::verify_slices_are_equal(right.as_bytes(), given.as_bytes()).is_ok();
        channel.filter(|_| fits)
    }

    /// A place for one more callback of this channel. Asked for before the body is read.
    pub fn enter(&self, channel: &Channel) -> Result<Place, Refusal> {
        let seq = channel.record.seq;
        if self.journal_rows() >= MOST_ROWS {
            return Err(Refusal::Crowded);
        }
        let now = self.inner.parts.clock.now_ms() * 1000;
        let mut rates = self.inner.rates.lock().unwrap_or_else(PoisonError::into_inner);
        if rates.entry(seq).or_insert_with(|| Rate::new(A_SECOND)).take(now, 1).is_err() {
            return Err(Refusal::TooFast);
        }
        drop(rates);
        let mut in_hand = self.inner.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = in_hand.values().sum();
        let own = in_hand.entry(seq).or_default();
        if all >= MOST || *own >= MOST_OF_CHANNEL {
            return Err(Refusal::Crowded);
        }
        *own += 1;
        Ok(Place { inner: Arc::clone(&self.inner), channel: seq })
    }

    /// Takes a callback: when this answers, what it reports is on disk.
    pub async fn take(&self, channel: &Channel, request: CallbackRequest) -> Result<CallbackReply, Refusal> {
        let provider = channel.provider.as_ref().ok_or(Refusal::Unusable)?;
        // Pure computing in an adapter: a bug there must cost this callback, not the gateway.
        let read = std::panic::catch_unwind(AssertUnwindSafe(|| provider.parse_callback(&request)));
        let reply = read.map_err(|_| {
            tracing::error!(channel.name = %channel.record.name, "the adapter panicked at a callback; the vendor is told to come again");
            Refusal::Unusable
        })?;
        let reply = reply.ok_or(Refusal::NoCallbacks)?;
        if !reply.authenticated {
            self.inner.count(channel, "refused", 1);
            return Ok(reply);
        }
        if !reply.receipts.is_empty() {
            let raw = seal(&self.inner.parts.vault, channel.record.seq, request);
            failpoint!("receipt.before_store");
            self.inner.parts.store.journal_receipts(vec![raw]).await.map_err(Refusal::Store)?;
            failpoint!("receipt.before_answer");
            self.inner.rows.fetch_add(1, Ordering::Relaxed);
            self.inner.bell.notify_one();
        }
        Ok(reply)
    }
}

/// URL and headers, as they are kept.
type Envelope = (String, Vec<(String, Vec<u8>)>);

fn place(column: &str, channel: i64) -> String {
    format!("receipt_journal|{column}|{channel}")
}

/// A callback as it is kept. URL and headers may hold credentials, our own and the vendor's; the body names people: tokens,
/// phone numbers.
fn seal(vault: &Vault, channel: i64, request: CallbackRequest) -> RawReceipt {
    let headers = request.headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
    let envelope: Envelope = (request.url, headers.collect());
    let plain = postcard::to_allocvec(&envelope).expect("text and bytes always serialise");
    RawReceipt {
        seq: 0,
        channel,
        received_at: unix_ms(request.received_at),
        method: request.method.to_string(),
        envelope: vault.seal(&place("envelope", channel), &plain),
        body: vault.seal(&place("body", channel), &request.body).into(),
    }
}

/// A callback as it came; `None` where the row is damaged or was written under another master key.
pub(super) fn open(vault: &Vault, raw: &RawReceipt) -> Option<CallbackRequest> {
    let plain = vault.open(&place("envelope", raw.channel), &raw.envelope).ok()?;
    let (url, kept): Envelope = postcard::from_bytes(&plain).ok()?;
    let mut headers = HeaderMap::new();
    for (name, value) in kept {
        headers.append(name.parse::<HeaderName>().ok()?, HeaderValue::from_bytes(&value).ok()?);
    }
    let received_at = at_unix_ms(raw.received_at);
    Some(CallbackRequest {
        method: raw.method.parse().ok()?,
        url,
        headers,
        body: vault.open(&place("body", raw.channel), &raw.body).ok()?.to_vec().into(),
        received_at,
    })
}
