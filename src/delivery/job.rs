//! A message in memory while it is on its way: parsed once, shared by all its pages.

use std::collections::BTreeMap;
use std::sync::Arc;

use anypush_providers::contract::{Category, Needs};

use crate::delivery::collapse;
use crate::delivery::spec::Spec;
use crate::ids::{Id, IdCodec, Kind};
use crate::store::MessageRecord;

/// A message on its way.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: Id,
    pub(super) public_id: String,
    pub(super) record: MessageRecord,
    pub(super) spec: Spec,
    pub(super) needs: Needs,
    /// Its collapse key ([`collapse::key`]).
    pub(super) collapse: Option<i64>,
    /// Size of the content as a phone gets it, in bytes.
    pub(super) size: u32,
    /// What its category says to each provider.
    categories: BTreeMap<String, Arc<Category>>,
}

impl Job {
    /// A stored message; `None` where its spec cannot be read: a newer version wrote it.
    pub(super) fn stored(record: MessageRecord, codec: &IdCodec) -> Option<Self> {
        let spec = serde_json::from_str(&record.spec).ok()?;
        Some(Self::new(record, spec, codec))
    }

    /// A message and what its record has written down.
    pub(super) fn new(record: MessageRecord, spec: Spec, codec: &IdCodec) -> Self {
        let content = &spec.content;
        let categories = spec.category.iter().flat_map(|category| {
            category.providers.iter().map(|(provider, settings)| {
                let part = Category { name: category.name.clone(), settings: settings.clone() };
                (provider.clone(), Arc::new(part))
            })
        });
        Self {
            id: record.id,
            public_id: codec.encode(Kind::Message, record.id),
            needs: Needs::of(content),
            collapse: collapse::key(content),
            size: serde_json::to_vec(content).map_or(0, |bytes| bytes.len() as u32),
            categories: categories.collect(),
            spec,
            record,
        }
    }

    /// What it counts as among messages of its collapse key: as old as its call, or as the time that it was scheduled
    /// for.
    pub(super) fn age(&self) -> Id {
        self.record.send_at.map_or(self.id, |at| self.id.max(Id::floor_at(at)))
    }

    /// What its category says to a provider.
    pub(super) fn category(&self, provider: &str) -> Option<Arc<Category>> {
        self.categories.get(provider).cloned()
    }

    /// Milliseconds since the message's creation.
    pub(super) fn at_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.record.created_at)
    }

    /// Whether its time is over. A message for "only if reachable now" gets the time of one attempt.
    pub(super) fn is_over(&self, now_ms: u64) -> bool {
        now_ms >= self.ends_at()
    }

    /// When its time is over, in Unix milliseconds.
    pub(super) fn ends_at(&self) -> u64 {
        ends_at(&self.record)
    }
}

/// When a message's time is over, in Unix milliseconds.
pub(super) fn ends_at(record: &MessageRecord) -> u64 {
    record.deadline_at.max(record.send_at.unwrap_or(record.created_at) + ONE_ATTEMPT_MS)
}

/// How long a message with TTL 0 may take to be handed over.
const ONE_ATTEMPT_MS: u64 = 30_000;
