//! The provider token: one for each key in the whole process, whatever channels and connections use it.
//!
//! The vendor refuses a connection that brings another token within 20 minutes of the last one, and any token that is
//! older than an hour. So nobody here mints before 20 minutes are over, whoever asks, and everybody does after 50.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderValue;

use super::wire::Claims;
use crate::kit::sign::Es256Key;

/// From this age on a token is renewed. Libraries take 50 to 55 minutes; the vendor refuses at 60.
const RENEW_AT: Duration = Duration::from_mins(50);

/// Below this age a token is never replaced ("not more than once every 20 minutes").
const NEVER_BEFORE: Duration = Duration::from_mins(20);

/// A clock that went back by more than this was wrong when the token was minted.
const CLOCK_STEP: Duration = Duration::from_mins(2);

/// Tokens of keys that no channel has any more are forgotten when there are this many.
const MOST_KEPT: usize = 256;

/// A key of the vendor's, and the place where its token is kept.
pub(super) struct ProviderKey {
    key: Es256Key,
    pub(super) key_id: String,
    pub(super) team_id: String,
    shared: Arc<Shared>,
}

/// A token, ready for the header.
pub(super) struct Bearer {
    /// `h2` never puts this header into its table, as the vendor asks.
    pub(super) header: HeaderValue,
    /// For scrubbing it from a vendor's words.
    pub(super) secret: String,
    minted_at: SystemTime,
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(…)")
    }
}

impl fmt::Debug for ProviderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProviderKey({} of {})", self.key_id, self.team_id)
    }
}

/// The token of one key. It holds no key: that ends with its channels.
#[derive(Default)]
struct Shared(Mutex<Option<Arc<Bearer>>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<Bearer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place for this key, by its ids and content: two channels may name a key alike and mean different ones.
    fn of(identity: [u8; 32]) -> Arc<Self> {
        static ALL: OnceLock<Mutex<HashMap<[u8; 32], Arc<Shared>>>> = OnceLock::new();
        let mut all = ALL.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_KEPT {
            all.retain(|_, shared| Arc::strong_count(shared) > 1);
        }
        Arc::clone(all.entry(identity).or_default())
    }
}

impl ProviderKey {
    /// Reads a `.p8` file's text. The error never quotes it.
    pub(super) fn new(p8: &str, key_id: &str, team_id: &str) -> Result<Self, String> {
        let key = Es256Key::from_pem(p8)?;
        let identity = digest(&SHA256, format!("{team_id}\n{key_id}\n{}", p8.trim()).as_bytes());
        let mut name = [0; 32];
        name.copy_from_slice(identity.as_ref());
        let (key_id, team_id) = (key_id.to_owned(), team_id.to_owned());
        Ok(Self { key, key_id, team_id, shared: Shared::of(name) })
    }

    /// The token of now.
    pub(super) fn bearer(&self, now: SystemTime) -> Result<Arc<Bearer>, String> {
        let mut kept = self.shared.lock();
        match kept.as_ref() {
            Some(bearer) if !is_stale(bearer, now) => Ok(Arc::clone(bearer)),
            _ => self.mint(&mut kept, now),
        }
    }

    /// The token that takes the place of one that is refused as too old: of many who report it only the first mints.
    /// `None`: it is younger than the vendor lets tokens be replaced, so the clock is wrong, here or there.
    pub(super) fn replace(
        &self,
        refused: &Arc<Bearer>,
        now: SystemTime,
    ) -> Option<Result<Arc<Bearer>, String>> {
        let mut kept = self.shared.lock();
        match kept.as_ref() {
            Some(other) if !Arc::ptr_eq(other, refused) => Some(Ok(Arc::clone(other))),
            Some(same) if age(same, now) < NEVER_BEFORE => None,
            _ => Some(self.mint(&mut kept, now)),
        }
    }

    fn mint(&self, kept: &mut Option<Arc<Bearer>>, now: SystemTime) -> Result<Arc<Bearer>, String> {
        let iat = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let secret = self.key.sign(&self.key_id, &Claims { iss: &self.team_id, iat })?;
        let header = HeaderValue::try_from(format!("bearer {secret}"))
            .map_err(|_| "the token fits no header".to_owned())?;
        let bearer = Arc::new(Bearer { header, secret, minted_at: now });
        *kept = Some(Arc::clone(&bearer));
        Ok(bearer)
    }
}

fn age(bearer: &Bearer, now: SystemTime) -> Duration {
    now.duration_since(bearer.minted_at).unwrap_or_default()
}

fn is_stale(bearer: &Bearer, now: SystemTime) -> bool {
    let went_back = bearer.minted_at.duration_since(now).is_ok_and(|by| by > CLOCK_STEP);
    went_back || age(bearer, now) >= RENEW_AT
}
