//! The app's channels, live: configured providers built from what the store holds.
//!
//! Readers take a snapshot without waiting; a change builds the one channel anew. A channel whose provider cannot be
//! built (damaged secret, older configuration) stays listed as `auth_failed` with the reason, and stops nobody else.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, RwLock};

use anypush_providers::contract::{Address, Descriptor, Environment, Provider, Registration, Token};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::direct;
use crate::egress;
use crate::routing::{ChannelState, RouteChannel};
use crate::secrets::Vault;
use crate::store::{ChannelRecord, Store, StoreError};

/// Limits that ops set on a channel; absent = the provider's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Targets a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u32>,
    /// Vendor requests in flight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u32>,
    /// By name, what this account has of the vendor's quotas; what is named here is asked before anything is sent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub quotas: BTreeMap<String, u64>,
}

/// One live channel.
pub struct Channel {
    /// As stored, without secrets.
    pub record: ChannelRecord,
    /// What its provider is.
    pub descriptor: &'static Descriptor,
    /// Its provider; `None` for the own connection, and where it could not be built.
    pub provider: Option<Arc<dyn Provider>>,
    /// As routing sees it.
    pub route: RouteChannel,
    /// Limits that ops set.
    pub limits: Limits,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("name", &self.record.name).finish_non_exhaustive()
    }
}

impl Channel {
    fn new(
        record: ChannelRecord,
        descriptor: &'static Descriptor,
        provider: Option<Arc<dyn Provider>>,
    ) -> Self {
        let serving = provider.clone();
        let route = RouteChannel {
            seq: record.seq,
            name: record.name.clone(),
            provider: record.provider.clone(),
            address_provider: descriptor.address.provider,
            special: descriptor.address.special,
            tier: descriptor.tier,
            capabilities: descriptor.capabilities,
            state: ChannelState::from_code(record.state).unwrap_or(ChannelState::Down),
            serves: Arc::new(move |address| {
                let Some(provider) = &serving else { return Ok(()) };
                provider.serves(&Address {
                    kind: address.kind.clone(),
                    token: Token::new(""),
                    params: address.params.clone(),
                })
            }),
        };
        let limits = serde_json::from_value(record.limits.clone()).unwrap_or_default();
        Self { record, descriptor, provider, route, limits }
    }

    /// Whether this is the gateway's own connection.
    pub fn is_direct(&self) -> bool {
        self.record.provider == direct::DESCRIPTOR.id
    }
}

/// All live channels. Cloning shares them.
#[derive(Clone)]
pub struct Channels {
    store: Arc<dyn Store>,
    vault: Arc<Vault>,
    environment: Environment,
    clock: Clock,
    live: Arc<RwLock<Live>>,
    /// Held while a channel is changed: store and memory are two steps, and must take the same turns.
    changing: Arc<tokio::sync::Mutex<()>>,
}

impl fmt::Debug for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Channels")
    }
}

#[derive(Default)]
struct Live {
    by_seq: HashMap<i64, Arc<Channel>>,
    numbers: HashMap<String, i64>,
    by_app: HashMap<i64, OfApp>,
}

/// An app's channels in order of name, without the deleted; and the same as routing sees them.
#[derive(Default)]
struct OfApp {
    channels: Arc<[Arc<Channel>]>,
    routes: Arc<[RouteChannel]>,
}

/// What can go wrong with a channel.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// No such provider.
    #[error("there is no provider `{0}`; GET /v1/providers lists them")]
    UnknownProvider(String),
    /// The configuration is wrong: (JSON pointer, what and how to mend it).
    #[error("the channel's configuration is wrong")]
    Config(Vec<(String, String)>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A channel to be made or replaced.
#[derive(Debug, Clone)]
pub struct PutChannel {
    /// The app.
    pub app: i64,
    /// Its name in the app.
    pub name: String,
    /// Its provider's id.
    pub provider: String,
    /// Public id for the case that it is new.
    pub public_id: String,
    /// The configuration as given; secrets that are absent stay as they are.
    pub config: Map<String, Value>,
    /// Limits.
    pub limits: Limits,
}

impl Channels {
    /// Loads all channels of the store.
    pub async fn load(
        store: Arc<dyn Store>,
        vault: Arc<Vault>,
        environment: Environment,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        let channels =
            Self { store, vault, environment, clock, live: Arc::default(), changing: Arc::default() };
        channels.reload().await?;
        Ok(channels)
    }

    /// Reads all channels anew: after an app was made.
    pub async fn reload(&self) -> Result<(), StoreError> {
        let _turn = self.changing.lock().await;
        self.read_anew().await
    }

    async fn read_anew(&self) -> Result<(), StoreError> {
        for record in self.store.channels().await? {
            let known = self.by_seq(record.seq).is_some_and(|c| c.record == record);
            if !known {
                self.insert(record);
            }
        }
        Ok(())
    }

    /// The app's channels, in order of name.
    pub fn of_app(&self, app: i64) -> Arc<[Arc<Channel>]> {
        self.read().by_app.get(&app).map(|of_app| Arc::clone(&of_app.channels)).unwrap_or_default()
    }

    /// The same channels as routing sees them.
    pub fn routes(&self, app: i64) -> Arc<[RouteChannel]> {
        self.read().by_app.get(&app).map(|of_app| Arc::clone(&of_app.routes)).unwrap_or_default()
    }

    /// A channel by number, deleted ones too: old trails name them.
    pub fn by_seq(&self, seq: i64) -> Option<Arc<Channel>> {
        self.read().by_seq.get(&seq).cloned()
    }

    /// A channel by name.
    pub fn by_name(&self, app: i64, name: &str) -> Option<Arc<Channel>> {
        self.of_app(app).iter().find(|c| c.record.name == name).cloned()
    }

    /// The numbers of all channels that ever had a name in an app.
    pub fn numbers(&self, app: i64, name: &str) -> Vec<i64> {
        let live = self.read();
        let named = live.by_seq.values().filter(|c| c.record.app == app && c.record.name == name);
        named.map(|c| c.record.seq).collect()
    }

    /// A channel by public id, over all apps; without the deleted.
    pub fn by_public_id(&self, id: &str) -> Option<Arc<Channel>> {
        let live = self.read();
        let channel = live.by_seq.get(live.numbers.get(id)?)?;
        channel.record.deleted_at.is_none().then(|| Arc::clone(channel))
    }

    /// The numbers of all channels that are not deleted.
    pub fn all(&self) -> Vec<Arc<Channel>> {
        self.read().by_seq.values().filter(|c| c.record.deleted_at.is_none()).cloned().collect()
    }

    /// Makes or replaces a channel, after its configuration was built and so checked. `true`: it is new.
    pub async fn put(&self, put: PutChannel) -> Result<(Arc<Channel>, bool), ChannelError> {
        let registration = find(&put.provider).ok_or(ChannelError::UnknownProvider(put.provider.clone()))?;
        // Before the turn is taken: names may take their time.
        let schema = (registration.config_schema)();
        let refused = egress::refused_now(&self.environment.egress, schema.as_value(), &put.config).await;
        if !refused.is_empty() {
            return Err(ChannelError::Config(refused));
        }
        let _turn = self.changing.lock().await;
        let old = self.by_name(put.app, &put.name);
        if let Some(old) = &old
            && old.record.provider != put.provider
        {
            let why = format!("this channel's provider is `{}`; delete it first", old.record.provider);
            return Err(ChannelError::Config(vec![("/provider".into(), why)]));
        }
        let mut secrets = match &old {
            Some(old) => self.open(&old.record).unwrap_or_default(),
            None => Map::new(),
        };
        let (plain, given) = split_secrets(registration, put.config);
        let names = given.keys().cloned().collect();
        secrets.extend(given);
        let mut whole = plain.clone();
        whole.extend(secrets.clone());
        (registration.build)(&Value::Object(whole), &self.environment)
            .map_err(|error| ChannelError::Config(error.0))?;
        let now = self.clock.now_ms();
        let text = Zeroizing::new(Value::Object(secrets).to_string());
        let sealed = self.vault.seal(&place(put.app, &put.name), text.as_bytes());
        let record = ChannelRecord {
            seq: old.as_ref().map_or(0, |c| c.record.seq),
            public_id: old.as_ref().map_or(put.public_id, |c| c.record.public_id.clone()),
            app: put.app,
            name: put.name,
            provider: put.provider,
            config: Value::Object(plain),
            secrets: Some(sealed),
            limits: serde_json::to_value(put.limits).unwrap_or_default(),
            // A pause is the operator's word; every other state was about the old configuration.
            state: old.as_ref().map_or(0, |c| u8::from(c.record.state == ChannelState::Paused as u8)),
            state_info: None,
            version: old.as_ref().map_or(1, |c| c.record.version + 1),
            callback: 0,
            created_at: old.as_ref().map_or(now, |c| c.record.created_at),
            updated_at: now,
            deleted_at: None,
        };
        let record = self.store.put_channel(record, names).await?;
        Ok((self.insert(record), old.is_none()))
    }

    /// The secrets of a channel by name: `None` where one is not set, else a fingerprint that tells two apart and
    /// says nothing about them.
    pub fn fingerprints(&self, channel: &Channel) -> BTreeMap<String, Option<String>> {
        let kept = self.open(&channel.record).unwrap_or_default();
        let names = find(&channel.record.provider).map(secret_names).unwrap_or_default();
        let print = |value: &Value| {
            let mac = self.vault.mac("fingerprint", &value.to_string());
            let short = mac.iter().take(6).fold(0u64, |number, byte| (number << 8) | u64::from(*byte));
            format!("{short:012x}")
        };
        names.into_iter().map(|name| (name.clone(), kept.get(&name).map(print))).collect()
    }

    /// Deletes a channel; `false` where there is none.
    pub async fn delete(&self, app: i64, name: &str) -> Result<bool, StoreError> {
        let _turn = self.changing.lock().await;
        let deleted = self.store.delete_channel(app, name, self.clock.now_ms()).await?;
        if deleted {
            self.read_anew().await?;
        }
        Ok(deleted)
    }

    /// Changes a channel's state, in the store and here: an operator's word.
    pub async fn set_state(
        &self,
        seq: i64,
        state: ChannelState,
        info: Option<String>,
    ) -> Result<(), StoreError> {
        let _turn = self.changing.lock().await;
        let Some(channel) = self.by_seq(seq) else { return Ok(()) };
        let action = if state == ChannelState::Paused { "channel.pause" } else { "channel.resume" };
        self.change_state(&channel, state, info, Some(action)).await
    }

    /// Tells people on a channel that works that its dead addresses are kept (`None`: retired again).
    pub async fn hold_removals(&self, seq: i64, why: Option<String>) -> Result<(), StoreError> {
        let _turn = self.changing.lock().await;
        let Some(channel) = self.by_seq(seq).filter(|now| now.route.state == ChannelState::Ok) else {
            return Ok(());
        };
        let action = if why.is_some() { "channel.hold_removals" } else { "channel.allow_removals" };
        self.change_state(&channel, ChannelState::Ok, why, Some(action)).await
    }

    /// Changes a channel's state by what a vendor answered to `used`. It says nothing about a configuration that was
    /// put since, and an operator's pause stands. `true`: the state changed.
    pub async fn found(
        &self,
        used: &Channel,
        state: ChannelState,
        info: Option<String>,
    ) -> Result<bool, StoreError> {
        let _turn = self.changing.lock().await;
        let Some(now) = self.by_seq(used.record.seq) else { return Ok(false) };
        let other = now.record.version != used.record.version || now.record.deleted_at.is_some();
        if other || now.route.state == ChannelState::Paused || now.route.state == state {
            return Ok(false);
        }
        self.change_state(&now, state, info, None).await?;
        Ok(true)
    }

    async fn change_state(
        &self,
        channel: &Channel,
        state: ChannelState,
        info: Option<String>,
        action: Option<&'static str>,
    ) -> Result<(), StoreError> {
        if channel.route.state == state && channel.record.state_info == info {
            return Ok(());
        }
        let now = self.clock.now_ms();
        let store = &self.store;
        store.set_channel_state(channel.record.seq, state as u8, info.clone(), action, now).await?;
        let mut record = channel.record.clone();
        (record.state, record.state_info, record.updated_at) = (state as u8, info, now);
        let mut route = channel.route.clone();
        route.state = state;
        // The provider stays: its connections and tokens are still good for a channel that was only paused.
        let provider = channel.provider.clone();
        let limits = channel.limits.clone();
        self.place(Arc::new(Channel { record, provider, route, limits, ..*channel }));
        Ok(())
    }

    /// Makes the secret in a channel's callback URL a new one: the old one ends at once.
    pub async fn rotate_callback(&self, app: i64, name: &str) -> Result<Option<Arc<Channel>>, StoreError> {
        let _turn = self.changing.lock().await;
        let Some(channel) = self.by_name(app, name) else { return Ok(None) };
        let now = self.clock.now_ms();
        self.store.rotate_callback(app, name, now).await?;
        let mut record = channel.record.clone();
        (record.callback, record.updated_at) = (record.callback + 1, now);
        let (provider, route) = (channel.provider.clone(), channel.route.clone());
        let limits = channel.limits.clone();
        let channel = Arc::new(Channel { record, provider, route, limits, ..*channel });
        self.place(Arc::clone(&channel));
        Ok(Some(channel))
    }

    fn insert(&self, record: ChannelRecord) -> Arc<Channel> {
        let built =
            if record.provider == direct::DESCRIPTOR.id { Ok(None) } else { self.build(&record).map(Some) };
        let descriptor = find(&record.provider).map_or(&direct::DESCRIPTOR, |r| &r.descriptor);
        let mut record = record;
        let provider = built.unwrap_or_else(|why| {
            tracing::error!(channel.id = %record.public_id, channel.name = %record.name, "the channel cannot be used: {why}");
            record.state = ChannelState::AuthFailed as u8;
            record.state_info = Some(why);
            None
        });
        let channel = Arc::new(Channel::new(record, descriptor, provider));
        self.place(Arc::clone(&channel));
        channel
    }

    /// Makes or replaces a channel of a provider that is in no catalogue.
    #[cfg(test)]
    pub(crate) async fn plant(
        &self,
        app: i64,
        descriptor: &'static Descriptor,
        provider: Arc<dyn Provider>,
    ) -> Arc<Channel> {
        let _turn = self.changing.lock().await;
        let old = self.by_name(app, descriptor.id);
        let record = ChannelRecord {
            seq: old.as_ref().map_or(0, |old| old.record.seq),
            public_id: format!("chn_{:0>26}", format!("{app}{}", descriptor.id.replace('_', ""))),
            app,
            name: descriptor.id.into(),
            provider: descriptor.id.into(),
            config: Value::Object(Map::new()),
            secrets: None,
            limits: Value::Object(Map::new()),
            state: 0,
            state_info: None,
            version: old.as_ref().map_or(1, |old| old.record.version + 1),
            callback: 0,
            created_at: 0,
            updated_at: 0,
            deleted_at: None,
        };
        let record = self.store.put_channel(record, Vec::new()).await.unwrap();
        let channel = Arc::new(Channel::new(record, descriptor, Some(provider)));
        self.place(Arc::clone(&channel));
        channel
    }

    fn place(&self, channel: Arc<Channel>) {
        let mut live = self.live.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let app = channel.record.app;
        live.numbers.insert(channel.record.public_id.clone(), channel.record.seq);
        live.by_seq.insert(channel.record.seq, channel);
        let mut of_app: Vec<_> = live
            .by_seq
            .values()
            .filter(|c| c.record.app == app && c.record.deleted_at.is_none())
            .cloned()
            .collect();
        of_app.sort_by(|a, b| a.record.name.cmp(&b.record.name));
        let routes = of_app.iter().map(|channel| channel.route.clone()).collect();
        live.by_app.insert(app, OfApp { channels: of_app.into(), routes });
    }

    fn build(&self, record: &ChannelRecord) -> Result<Arc<dyn Provider>, String> {
        let registration = find(&record.provider)
            .ok_or_else(|| format!("this build has no provider `{}`", record.provider))?;
        let mut config = record.config.as_object().cloned().unwrap_or_default();
        config.extend(self.open(record)?);
        // What is allowed may have changed since it was saved.
        let schema = (registration.config_schema)();
        let refused = egress::refused(&self.environment.egress, schema.as_value(), &config);
        if let Some((at, why)) = refused.first() {
            return Err(format!("{at} {why}"));
        }
        (registration.build)(&Value::Object(config), &self.environment).map_err(|error| error.to_string())
    }

    fn open(&self, record: &ChannelRecord) -> Result<Map<String, Value>, String> {
        let Some(sealed) = &record.secrets else { return Ok(Map::new()) };
        let plain =
            self.vault.open(&place(record.app, &record.name), sealed).map_err(|error| error.to_string())?;
        serde_json::from_slice(&plain).map_err(|_| "the stored secrets are damaged".into())
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Live> {
        self.live.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn find(provider: &str) -> Option<&'static Registration> {
    anypush_providers::find(provider)
}

/// Where a channel's secrets are at home: a ciphertext that was moved to another channel does not open.
pub(crate) fn place(app: i64, name: &str) -> String {
    format!("channels|secrets|{app}|{name}")
}

/// Names of the configuration's secret members: those that the schema marks `writeOnly`.
pub fn secret_names(registration: &Registration) -> Vec<String> {
    let schema = (registration.config_schema)();
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return Vec::new() };
    let secret = |(_, property): &(&String, &Value)| property.get("writeOnly") == Some(&Value::Bool(true));
    properties.iter().filter(secret).map(|(name, _)| name.clone()).collect()
}

fn split_secrets(
    registration: &Registration,
    config: Map<String, Value>,
) -> (Map<String, Value>, Map<String, Value>) {
    let names = secret_names(registration);
    config.into_iter().partition(|(name, _)| !names.contains(name))
}
