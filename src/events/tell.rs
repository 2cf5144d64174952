//! Facts as users see them: names instead of numbers, and what the message was given to come back with.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use anypush_providers::contract::Reason;
use moka::future::Cache;
use serde_json::{Value, json};

use super::{EventKind, Fact};
use crate::api::deliveries::name_targets;
use crate::api::messages;
use crate::channels::Channels;
use crate::clock::rfc3339;
use crate::delivery::spec::Spec;
use crate::delivery::state::State;
use crate::ids::{Id, IdCodec, Kind};
use crate::routing::ChannelState;
use crate::store::{EventRow, Store, StoreError};

/// What is kept of messages, in bytes: their labels and metadata.
const REMEMBERED: u64 = 16 * 1024 * 1024;

/// Makes events of facts. Cloning shares what it remembers of messages.
#[derive(Clone)]
pub struct Teller {
    store: Arc<dyn Store>,
    codec: Arc<IdCodec>,
    channels: Channels,
    messages: Cache<Id, Option<Arc<Given>>>,
    /// Public ids of apps, which never change.
    apps: Arc<RwLock<HashMap<i64, String>>>,
}

impl std::fmt::Debug for Teller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Teller")
    }
}

/// What a message was given that comes back in events.
#[derive(Debug)]
pub struct Given {
    /// A report dimension.
    pub label: Option<String>,
    metadata: BTreeMap<String, String>,
    created_at: u64,
}

/// An event, ready to be told.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its number.
    pub number: u64,
    /// Its public id: the same however often it is told.
    pub id: String,
    /// What it tells of.
    pub kind: EventKind,
    /// When it happened, in Unix milliseconds.
    pub at: u64,
    /// The whole of it, as users see it.
    pub body: Value,
}

impl Teller {
    /// A teller over these.
    pub fn new(store: Arc<dyn Store>, codec: Arc<IdCodec>, channels: Channels) -> Self {
        let messages = Cache::builder()
            .weigher(|_, given: &Option<Arc<Given>>| given.as_ref().map_or(100, |given| given.weight()))
            .max_capacity(REMEMBERED)
            .build();
        Self { store, codec, channels, messages, apps: Arc::default() }
    }

    /// The public id of an event.
    pub fn id(&self, number: u64) -> String {
        self.codec.encode(Kind::Event, Id(number as i64))
    }

    /// The number of a public id; `None` where it is none of this installation's.
    pub fn number(&self, id: &str) -> Option<u64> {
        self.codec.decode(Kind::Event, id).and_then(|id| u64::try_from(id.0).ok())
    }

    /// What a message was given; `None` where it is gone.
    pub async fn given(&self, message: Id) -> Result<Option<Arc<Given>>, StoreError> {
        let load = async {
            let found = self.store.message(message).await?;
            Ok(found.map(|record| {
                let spec: Spec = serde_json::from_str(&record.spec).unwrap_or_default();
                let (label, metadata) = (record.label, spec.metadata);
                Arc::new(Given { label, metadata, created_at: record.created_at })
            }))
        };
        self.messages.try_get_with(message, load).await.map_err(|error: Arc<StoreError>| (*error).clone())
    }

    /// The public id of an app.
    async fn app(&self, app: i64) -> Result<String, StoreError> {
        let known = self.apps.read().unwrap_or_else(PoisonError::into_inner).get(&app).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let all = self.store.apps().await?.into_iter().map(|app| (app.seq, app.public_id));
        let mut apps = self.apps.write().unwrap_or_else(PoisonError::into_inner);
        apps.extend(all);
        Ok(apps.get(&app).cloned().unwrap_or_default())
    }

    /// Events of these rows of an app, in order. What a newer version wrote is left out.
    pub async fn tell(&self, app: i64, rows: &[EventRow]) -> Result<Vec<Event>, StoreError> {
        let app = self.app(app).await?;
        let targets = self.targets(rows).await?;
        let mut events = Vec::with_capacity(rows.len());
        for row in rows {
            let Some(kind) = row.fact.kind() else { continue };
            let (at, data) = self.data(&row.fact, &targets).await?;
            let id = self.id(row.number);
            let body = json!({
                "id": id,
                "type": kind.as_str(),
                "timestamp": rfc3339(at),
                "app_id": app,
                "data": data,
            });
            events.push(Event { number: row.number, id, kind, at, body });
        }
        Ok(events)
    }

    /// Whom the rows' targets are, in one read for each message.
    async fn targets(&self, rows: &[EventRow]) -> Result<HashMap<(i64, u64), Value>, StoreError> {
        let mut by_message: BTreeMap<i64, Vec<u64>> = BTreeMap::new();
        for row in rows {
            match &row.fact {
                Fact::Delivery { message, target, .. } => {
                    by_message.entry(*message).or_default().push(*target);
                }
                Fact::AddressRetired { device, .. } => by_message.entry(0).or_default().push(*device),
                _ => {}
            }
        }
        let mut all = HashMap::new();
        for (message, targets) in by_message {
            let names = name_targets(&*self.store, Id(message), &targets).await?;
            all.extend(names.into_iter().map(|(target, name)| ((message, target), name)));
        }
        Ok(all)
    }

    async fn data(
        &self,
        fact: &Fact,
        targets: &HashMap<(i64, u64), Value>,
    ) -> Result<(u64, Value), StoreError> {
        let reason = |code: u8| Reason::from_code(code).map(Reason::as_str);
        Ok(match fact {
            Fact::Delivery { message, target, state, reason: why, channel, at_ms } => {
                let id = Id(*message);
                let mut data = self.about(id).await?;
                let created = self.given(id).await?.map_or(id.unix_ms(), |given| given.created_at);
                data["delivery_id"] = self.codec.encode_delivery(id, *target).into();
                data["state"] = State::from_code(*state).map(State::as_str).into();
                data["reason"] = reason(*why).into();
                data["channel"] =
                    self.channels.by_seq(*channel).map(|channel| channel.record.name.clone()).into();
                merge(&mut data, targets.get(&(*message, *target)));
                (created + at_ms, data)
            }
            Fact::MessageDone { message, at } => (*at, self.done(Id(*message)).await?),
            Fact::AddressRetired { device, provider, reason: why, at } => {
                let mut data = json!({"device_id": null, "provider": provider, "reason": reason(*why)});
                merge(&mut data, targets.get(&(0, *device)));
                (*at, data)
            }
            Fact::Channel { channel, state, info, at, .. } => {
                let found = self.channels.by_seq(*channel);
                let record = found.as_ref().map(|channel| &channel.record);
                let data = json!({
                    "channel": record.map(|record| &record.name),
                    "channel_id": record.map(|record| &record.public_id),
                    "provider": record.map(|record| &record.provider),
                    "state": ChannelState::from_code(*state),
                    "info": info,
                });
                (*at, data)
            }
            Fact::WebhookDisabled { id, reason, at, .. } => {
                (*at, json!({"webhook_id": id, "reason": reason}))
            }
            Fact::Test { at } => (*at, json!({"text": "This is a test. It tells of nothing that happened."})),
        })
    }

    /// What every event of a message says.
    async fn about(&self, message: Id) -> Result<Value, StoreError> {
        let given = self.given(message).await?;
        Ok(json!({
            "message_id": self.codec.encode(Kind::Message, message),
            "label": given.as_ref().and_then(|given| given.label.as_deref()),
            "metadata": given.as_ref().map(|given| &given.metadata).cloned().unwrap_or_default(),
        }))
    }

    /// The message's counts are those of now: receipts may have come since.
    async fn done(&self, message: Id) -> Result<Value, StoreError> {
        let mut data = self.about(message).await?;
        let Some(record) = self.store.message(message).await? else {
            (data["state"], data["counts"]) = ("done".into(), Value::Null);
            return Ok(data);
        };
        let counters = self.store.counters(message).await?;
        let counts = messages::counts::Counts::new(record.targeted, &counters, |_| None);
        data["state"] = messages::state(&record, 0).into();
        data["counts"] = counts.total;
        Ok(data)
    }
}

impl Given {
    fn weight(&self) -> u32 {
        let metadata: usize = self.metadata.iter().map(|(key, value)| 48 + key.len() + value.len()).sum();
        (200 + self.label.as_ref().map_or(0, String::len) + metadata) as u32
    }
}

fn merge(data: &mut Value, more: Option<&Value>) {
    if let (Value::Object(data), Some(Value::Object(more))) = (data, more) {
        data.extend(more.clone());
    }
}
