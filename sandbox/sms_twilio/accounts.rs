//! Accounts, and the two ways to be one: auth token or API key.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::state::{hex, random_bytes, write_whole};

/// What an account owns.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Account {
    pub(super) auth_token: String,
    pub(super) api_key_sid: String,
    api_key_secret: String,
    /// Its number.
    pub(super) from: String,
    pub(super) messaging_service_sid: String,
    /// A shared key for callbacks: id and secret.
    pub(super) shared_key_id: String,
    pub(super) shared_key_secret: String,
}

/// All accounts, by SID.
pub(super) struct Accounts {
    all: RwLock<BTreeMap<String, Account>>,
    path: Option<PathBuf>,
}

/// Whether a text is a SID of this kind.
pub(super) fn is_sid(text: &str, kind: &str) -> bool {
    text.len() == 34
        && text.strip_prefix(kind).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

pub(super) fn new_sid(kind: &str) -> String {
    format!("{kind}{}", hex(&random_bytes::<16>()))
}

impl Accounts {
    pub(super) fn open(dir: Option<PathBuf>) -> anyhow::Result<Self> {
        let path = dir.map(|dir| dir.join("accounts.json"));
        let all = match path.as_deref() {
            Some(path) if path.exists() => {
                let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
                serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))?
            }
            _ => BTreeMap::new(),
        };
        Ok(Self { all: RwLock::new(all), path })
    }

    pub(super) fn get(&self, sid: &str) -> Option<Account> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).get(sid).cloned()
    }

    /// The account's credentials; it is made where it is not there.
    pub(super) fn get_or_make(&self, sid: &str) -> anyhow::Result<Value> {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        if !all.contains_key(sid) {
            let account = Account {
                auth_token: hex(&random_bytes::<16>()),
                api_key_sid: new_sid("SK"),
                api_key_secret: hex(&random_bytes::<16>()),
                from: "+15557654321".into(),
                messaging_service_sid: new_sid("MG"),
                shared_key_id: format!("webhooks_sharedkey_{}", hex(&random_bytes::<8>())),
                shared_key_secret: hex(&random_bytes::<16>()),
            };
            all.insert(sid.to_owned(), account);
            if let Some(path) = &self.path {
                write_whole(path, &serde_json::to_vec_pretty(&*all)?)?;
            }
        }
        let account = all.get(sid).context("the account was just made")?;
        let mut shown = serde_json::to_value(account)?;
        shown["account_sid"] = json!(sid);
        Ok(shown)
    }

    /// The account that a request's credentials are for.
    pub(super) fn authenticate(&self, headers: &HeaderMap) -> Option<String> {
        let (scheme, encoded) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (user, password) = decoded.split_once(':')?;
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        let by_token = all.get(user).filter(|account| account.auth_token == password);
        if by_token.is_some() {
            return Some(user.to_owned());
        }
        let by_key = |account: &Account| account.api_key_sid == user && account.api_key_secret == password;
        all.iter().find(|(_, account)| by_key(account)).map(|(sid, _)| sid.clone())
    }
}
