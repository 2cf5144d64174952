//! The apps' own rules for routes, live: read once at the start, replaced whole.
//!
//! Readers take a snapshot without waiting. What a rule means is [`crate::routing`]'s matter.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use crate::store::{RulesRecord, Store, StoreError};

/// All apps' rules. Cloning shares them.
#[derive(Clone)]
pub struct Rules {
    store: Arc<dyn Store>,
    live: Arc<RwLock<HashMap<i64, Arc<RulesRecord>>>>,
    /// Held while rules are replaced: store and memory are two steps, and must take the same turns.
    changing: Arc<tokio::sync::Mutex<()>>,
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rules")
    }
}

impl Rules {
    /// Reads the rules of all apps.
    pub async fn load(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let found = store.rules().await?.into_iter().map(|record| (record.app, Arc::new(record)));
        let live = Arc::new(RwLock::new(found.collect()));
        Ok(Self { store, live, changing: Arc::default() })
    }

    /// An app's rules; none where it never had any.
    pub fn of_app(&self, app: i64) -> Option<Arc<RulesRecord>> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).get(&app).cloned()
    }

    /// Replaces an app's rules. When this returns, they are on disk, and messages go by them.
    pub async fn put(&self, record: RulesRecord) -> Result<(), StoreError> {
        let _turn = self.changing.lock().await;
        self.store.put_rules(record.clone()).await?;
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        live.insert(record.app, Arc::new(record));
        Ok(())
    }
}
