//! Who calls: API keys, their scopes, and the app that they act for.
//!
//! What comes in: the header `Authorization`. What goes out: a [`Caller`]. A key whose checksum is wrong is refused
//! without a look into the store; a looked-up key is remembered for five seconds, except that what this node revoked
//! is refused at once.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::digest;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use moka::future::Cache;

use super::key;
use super::limits::{CallLimits, Kind as Counted, Meter, Payer};
use super::listen::Peer;
use super::problem::{Answer, Problem};
use crate::app::Gateway;
use crate::audit::Who;
use crate::clock::Clock;
use crate::ids::{Id, IdCodec, Kind};
use crate::secrets::Vault;
use crate::store::{AppRecord, KeyRecord, Store, StoreError};
use crate::telemetry::Metrics;

/// What the MAC of an API key is made for.
const PURPOSE: &str = "api key";
/// How long another node's revocation may take to be seen here.
const REMEMBERED: Duration = Duration::from_secs(5);
/// How long after its last use a good key is told from a stranger's without asking the store.
const NO_STRANGER: Duration = Duration::from_hours(1);
/// Such keys at the most.
const MOST_GOOD: u64 = 10_000;

/// All scopes of a key.
pub const SCOPES: [&str; 9] = [
    "messages:write",
    "messages:read",
    "devices:write",
    "devices:read",
    "reports:read",
    "channels:write",
    "channels:read",
    "webhooks:write",
    "audit:read",
];

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Public,
    /// Admin keys alone.
    Admin,
    /// Any key: of the app that the path names, or of any app where it names none.
    Member,
    /// A key with this scope, for its app.
    Scope(&'static str),
}

/// Who calls, proved.
#[derive(Debug, Clone)]
pub struct Caller {
    key: Arc<KeyRecord>,
    /// The app that it acts for; absent on routes that concern no app.
    app: Option<Arc<AppRecord>>,
    /// What the call is counted for.
    meter: Meter,
}

impl Caller {
    /// The id of the key.
    pub fn key_id(&self) -> &str {
        &self.key.id
    }

    /// Whether it is an admin key.
    pub fn is_admin(&self) -> bool {
        self.key.app.is_none()
    }

    /// Whether the key has this scope. An admin key has all.
    pub fn may(&self, scope: &str) -> bool {
        self.is_admin() || self.key.scopes.iter().any(|own| own == scope)
    }

    /// The app that the call concerns.
    pub fn app(&self) -> Answer<&AppRecord> {
        self.app.as_deref().ok_or_else(|| {
            Problem::bad_request(
                "app_required",
                "an admin key says for which app it acts: send the header `Anypush-App` with the app's id or name",
            )
        })
    }

    /// In whose name it changes something.
    pub(super) fn who(&self) -> Who {
        let id = self.key.id.clone();
        if self.is_admin() { Who::AdminKey(id) } else { Who::Key(id) }
    }

    /// Counts something for the key and for the app that it acts for.
    pub(super) fn take(&self, limits: &CallLimits, kind: Counted, cost: u32) -> Answer<()> {
        limits.take(kind, self.payer(), cost)
    }

    /// Refuses where nothing is left; counts nothing yet.
    pub(super) fn look(&self, limits: &CallLimits, kind: Counted) -> Answer<()> {
        limits.look(kind, self.payer())
    }

    /// Whether the call has cost nothing so far.
    pub(super) fn is_uncounted(&self) -> bool {
        self.meter.is_empty()
    }

    fn payer(&self) -> Payer<'_> {
        Payer { key: self.key_id(), app: self.any_app(), meter: &self.meter }
    }

    /// The app's number; `None` for an admin key that names no app.
    pub(super) fn any_app(&self) -> Option<i64> {
        self.app.as_ref().map(|app| app.seq)
    }

    /// The app's number.
    pub fn app_seq(&self) -> Answer<i64> {
        self.app().map(|app| app.seq)
    }
}

/// Keys and apps as this node knows them.
pub struct Auth {
    store: Arc<dyn Store>,
    vault: Arc<Vault>,
    clock: Clock,
    environment: String,
    keys: Cache<String, Option<Arc<KeyRecord>>>,
    /// Hashes of keys that were good lately: who shows one of them is no stranger, wherever they call from.
    good: Cache<[u8; 32], ()>,
    metrics: Arc<Metrics>,
    /// What this node revoked: a lookup that was under way when the key was revoked must not bring it back.
    revoked: Mutex<HashSet<String>>,
    apps: RwLock<Vec<Arc<AppRecord>>>,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Auth")
    }
}

/// A key to be made.
#[derive(Debug, Clone, Default)]
pub struct NewKey {
    /// Its app; `None` for an admin key.
    pub app: Option<i64>,
    /// What it is for.
    pub name: String,
    /// Its scopes; of no meaning for an admin key.
    pub scopes: Vec<String>,
    /// Unix milliseconds.
    pub expires_at: Option<u64>,
}

impl Auth {
    /// An empty memory over this store.
    pub fn new(
        store: Arc<dyn Store>,
        vault: Arc<Vault>,
        clock: Clock,
        environment: String,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            store,
            vault,
            clock,
            environment,
            keys: Cache::builder().max_capacity(10_000).time_to_live(REMEMBERED).build(),
            good: Cache::builder().max_capacity(MOST_GOOD).time_to_idle(NO_STRANGER).build(),
            metrics,
            revoked: Mutex::default(),
            apps: RwLock::default(),
        }
    }

    /// Makes a key: its record, and the key itself, which is never seen again.
    pub async fn create_key(&self, new: NewKey) -> Result<(KeyRecord, String), StoreError> {
        let (id, key) = key::make(&self.environment);
        let record = KeyRecord {
            mac: self.vault.mac(PURPOSE, &key),
            id,
            app: new.app,
            name: new.name,
            scopes: new.scopes,
            created_at: self.clock.now_ms(),
            expires_at: new.expires_at,
            revoked_at: None,
        };
        self.store.create_key(record.clone()).await?;
        Ok((record, key))
    }

    /// Revokes a key; `false` where there is none. Effective here when this returns.
    pub async fn revoke_key(&self, app: Option<i64>, id: &str) -> Result<bool, StoreError> {
        let found = self.store.revoke_key(app, id, self.clock.now_ms()).await?;
        if found {
            self.revoked.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned());
            self.keys.invalidate(id).await;
        }
        Ok(found)
    }

    /// Whether a key that was good still is; `stored`: by the store too, which knows what other nodes revoked.
    pub async fn is_good(&self, id: &str, stored: bool) -> bool {
        if self.revoked.lock().unwrap_or_else(PoisonError::into_inner).contains(id) {
            return false;
        }
        let known = match self.keys.get(id).await {
            Some(known) if !stored => known,
            // Where the store does not answer, nothing new is known.
            _ => match self.store.key(id).await {
                Ok(found) => found.map(Arc::new),
                Err(_) => return true,
            },
        };
        let now = self.clock.now_ms();
        known.is_some_and(|key| key.revoked_at.is_none() && key.expires_at.is_none_or(|at| at > now))
    }

    /// Makes an app with its `direct` channel.
    pub async fn create_app(
        &self,
        name: &str,
        codec: &IdCodec,
        ids: (Id, Id),
    ) -> Result<AppRecord, StoreError> {
        let public = (codec.encode(Kind::App, ids.0), codec.encode(Kind::Channel, ids.1));
        self.store.create_app(name, public, self.clock.now_ms()).await
    }

    /// An app by public id or name.
    pub async fn app(&self, name: &str) -> Result<Option<Arc<AppRecord>>, StoreError> {
        let fits = |app: &&Arc<AppRecord>| app.public_id == name || app.name == name;
        self.find_app(fits).await
    }

    pub(super) async fn app_by_seq(&self, seq: i64) -> Result<Option<Arc<AppRecord>>, StoreError> {
        self.find_app(|app| app.seq == seq).await
    }

    /// Apps are few and never change: a miss reads all of them anew.
    async fn find_app(
        &self,
        fits: impl Fn(&&Arc<AppRecord>) -> bool,
    ) -> Result<Option<Arc<AppRecord>>, StoreError> {
        let known = self.apps.read().unwrap_or_else(PoisonError::into_inner).iter().find(&fits).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let all: Vec<_> = self.store.apps().await?.into_iter().map(Arc::new).collect();
        let found = all.iter().find(&fits).cloned();
        *self.apps.write().unwrap_or_else(PoisonError::into_inner) = all;
        Ok(found)
    }

    /// Whose key this is. `stranger` refuses keys that were not good lately, before anything is asked for.
    async fn key(&self, key: &str, stranger: impl FnOnce() -> Answer<()>) -> Answer<Arc<KeyRecord>> {
        let hash = digest::digest(&digest::SHA256, key.as_bytes());
        let hash: [u8; 32] = hash.as_ref().try_into().unwrap_or_default();
        let was_good = self.good.get(&hash).await.is_some();
        if !was_good {
            stranger()?;
        }
        let Some(key_id) = key::id(key) else {
            return Err(unauthorized(if key.starts_with("aps_") {
                "this is a device's secret; backends call with an API key (apk_…)"
            } else {
                "this is no API key: it begins with `apk_` and ends with a checksum that does not fit; copy it whole"
            }));
        };
        let store = Arc::clone(&self.store);
        let id = key_id.to_owned();
        let load = async move {
            self.metrics.key_lookups.inc();
            store.key(&id).await.map(|found| found.map(Arc::new))
        };
        let found = self
            .keys
            .try_get_with(key_id.to_owned(), load)
            .await
            .map_err(|error: Arc<StoreError>| Problem::from((*error).clone()))?;
        // An unknown id takes as long as a known one with a wrong secret.
        let mac = found.as_ref().map_or(&[0u8; 32][..], |record| &record.mac);
        let fits = self.vault.verify(PURPOSE, key, mac);
        let record = found.filter(|_| fits).ok_or_else(|| unauthorized("this key is unknown"))?;
        let here = self.revoked.lock().unwrap_or_else(PoisonError::into_inner).contains(&record.id);
        if here || record.revoked_at.is_some() {
            return Err(unauthorized("this key was revoked"));
        }
        if record.expires_at.is_some_and(|at| at <= self.clock.now_ms()) {
            return Err(unauthorized("this key has expired"));
        }
        if !was_good {
            self.good.insert(hash, ()).await;
        }
        Ok(record)
    }
}

/// Proves who calls and that they may. `path_app` is what the path names as `{app}`.
pub(super) async fn authenticate(
    gateway: &Gateway,
    parts: &Parts,
    path_app: Option<&str>,
    access: Access,
) -> Answer<Option<Caller>> {
    if access == Access::Public {
        return Ok(None);
    }
    let (headers, query) = (&parts.headers, parts.uri.query());
    let peer = parts.extensions.get::<Peer>();
    let stranger = || peer.map_or(Ok(()), |peer| gateway.limits.strangers_may(peer.0));
    let key = gateway.auth.key(bearer(headers, query)?, stranger).await?;
    let named = single(headers, "anypush-app")?;
    if key.app.is_some() && named.is_some() {
        return Err(Problem::forbidden("only an admin key may send the header `Anypush-App`"));
    }
    let app = match (key.app, path_app.or(named)) {
        (Some(own), asked) => {
            let app = gateway.auth.app_by_seq(own).await?.ok_or_else(Problem::internal)?;
            if asked.is_some_and(|name| app.public_id != name && app.name != name) {
                return Err(Problem::not_found("app"));
            }
            Some(app)
        }
        (None, Some(name)) => Some(gateway.auth.app(name).await?.ok_or_else(|| Problem::not_found("app"))?),
        (None, None) => None,
    };
    let meter = parts.extensions.get::<Meter>().cloned().unwrap_or_default();
    let caller = Caller { key, app, meter };
    let allowed = match access {
        Access::Public | Access::Member => true,
        Access::Admin => caller.is_admin(),
        Access::Scope(scope) => caller.may(scope),
    };
    if !allowed {
        return Err(match access {
            Access::Scope(scope) => Problem::forbidden(format!("this key lacks the scope `{scope}`")),
            _ => Problem::forbidden("this takes an admin key; make one with `anypush keys create --admin`"),
        });
    }
    Ok(Some(caller))
}

fn bearer<'a>(headers: &'a HeaderMap, query: Option<&str>) -> Answer<&'a str> {
    let in_url = query.is_some_and(|query| {
        query.split('&').any(|pair| {
            let value = pair.split_once('=').map_or(pair, |(_, value)| value);
            value.starts_with("apk_") || value.starts_with("aps_")
        })
    });
    if in_url {
        let why = "a key never goes into a URL, where logs and proxies keep it: send `Authorization: Bearer …`, and make a new key, for this one was exposed";
        return Err(unauthorized(why));
    }
    let value = single(headers, header::AUTHORIZATION.as_str())?
        .ok_or_else(|| unauthorized("send the header `Authorization: Bearer <API key>`"))?;
    value
        .strip_prefix("Bearer ")
        .ok_or_else(|| unauthorized("the header `Authorization` must read `Bearer <API key>`, so spelled"))
}

/// The value of a header that may come once.
pub(super) fn single<'a>(headers: &'a HeaderMap, name: &str) -> Answer<Option<&'a str>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        let detail = format!("the header `{name}` came more than once");
        return Err(Problem::bad_request("duplicate_header", detail));
    }
    first
        .map(|value| {
            value.to_str().map_err(|_| {
                Problem::bad_request("malformed_header", format!("the header `{name}` is no visible ASCII"))
            })
        })
        .transpose()
}

fn unauthorized(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
}
