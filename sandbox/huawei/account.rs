//! Huawei apps: their secret, service account, rights and receipt configurations; access tokens.
//!
//! An app is made, with a key of its own, when it is first asked for, and lives on in the data directory. Access tokens
//! carry their app and end, signed by the sandbox, so that they outlive its restart and cost no memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use anyhow::Context as _;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::receipts::Configuration;
use crate::keys::RsaKey;
use crate::state::{hex, random_bytes, write_whole};

/// Apps that a sandbox plays at most: each costs a key.
const MAX_APPS: usize = 1000;
/// Receipt configurations of one app.
const MAX_CONFIGURATIONS: usize = 100;

/// What is stored of one app, and what an operator can set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Facts {
    pub(super) app_id: String,
    pub(super) app_secret: String,
    pub(super) project_id: String,
    pub(super) package: String,
    key_id: String,
    private_key: String,
    /// Whether data messages may be urgent.
    pub(super) high_priority: bool,
    /// Receipt configurations; the one with an empty id is the default.
    pub(super) receipts: Vec<Configuration>,
    /// Access tokens of earlier generations are refused.
    generation: u64,
}

/// What to change; what is absent stays as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    pub(super) app_secret: Option<String>,
    pub(super) package: Option<String>,
    pub(super) high_priority: Option<bool>,
    pub(super) receipts: Option<Vec<Configuration>>,
}

impl Change {
    /// Why it cannot be made.
    pub(super) fn problem(&self) -> Option<String> {
        let configurations = self.receipts.as_deref().unwrap_or_default();
        if configurations.len() > MAX_CONFIGURATIONS {
            return Some(format!("at most {MAX_CONFIGURATIONS} receipt configurations"));
        }
        let ids: BTreeSet<_> = configurations.iter().map(|one| &one.receipt_id).collect();
        if ids.len() < configurations.len() {
            return Some("two receipt configurations have the same id".to_owned());
        }
        configurations.iter().find_map(|one| one.problem().map(str::to_owned))
    }
}

/// One app.
pub(super) struct App {
    pub(super) facts: Facts,
    key: RsaKey,
}

impl App {
    fn of(facts: Facts) -> anyhow::Result<Self> {
        Ok(Self { key: RsaKey::read(&facts.private_key)?, facts })
    }

    fn new(app_id: &str) -> anyhow::Result<Self> {
        Self::of(Facts {
            app_id: app_id.to_owned(),
            app_secret: hex(&random_bytes::<32>()),
            project_id: format!("3884213{app_id}"),
            package: "com.example.app".to_owned(),
            key_id: hex(&random_bytes::<16>()),
            private_key: RsaKey::generate()?.private_pem,
            high_priority: true,
            receipts: Vec::new(),
            generation: 0,
        })
    }

    /// The account that the service account's key belongs to.
    pub(super) fn sub_account(&self) -> String {
        format!("11{}", self.facts.app_id)
    }

    pub(super) fn key_id(&self) -> &str {
        &self.facts.key_id
    }

    /// Whether the service account has signed this (PS256: PSS, SHA-256, salt of 32 bytes).
    pub(super) fn has_signed(&self, signed: &[u8], signature: &[u8]) -> bool {
        self.key.has_signed(&aws_lc_rs::signature::RSA_PSS_2048_8192_SHA256, signed, signature)
    }

    /// The configuration that a message names; an empty id is the default one.
    pub(super) fn configuration(&self, receipt_id: &str) -> Option<&Configuration> {
        self.facts.receipts.iter().find(|one| one.receipt_id == receipt_id)
    }

    /// The app as the control API shows it: what stands in AppGallery Connect, and the file of its service account.
    pub(super) fn view(&self, base_url: &str) -> Value {
        let facts = &self.facts;
        json!({
            "app_id": facts.app_id,
            "app_secret": facts.app_secret,
            "project_id": facts.project_id,
            "package": facts.package,
            "high_priority": facts.high_priority,
            "receipts": facts.receipts,
            "base_url": base_url,
            "token_url": format!("{base_url}/oauth2/v3/token"),
            "service_account": {
                "project_id": facts.project_id,
                "key_id": facts.key_id,
                "private_key": facts.private_key,
                "sub_account": self.sub_account(),
                "auth_uri": "https://oauth-login.cloud.huawei.com/oauth2/v3/authorize",
                "token_uri": super::jwt::AUDIENCE,
                "auth_provider_cert_uri": "https://oauth-login.cloud.huawei.com/oauth2/v3/certs",
                "client_cert_uri": "https://oauth-login.cloud.huawei.com/oauth2/v3/x509",
            },
        })
    }
}

/// What an access token was found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Bearer {
    /// Good, and of this app.
    Of(String),
    Expired,
    Bad,
}

/// All apps, and the key that signs access tokens.
pub(super) struct Apps {
    all: RwLock<BTreeMap<String, Arc<App>>>,
    /// One maker at a time: a key takes a while, and two for one app would be one too many.
    making: Mutex<()>,
    token_key: Vec<u8>,
    path: Option<PathBuf>,
}

/// How it lies on file.
#[derive(Serialize, Deserialize)]
struct Stored {
    token_key: Vec<u8>,
    apps: Vec<Facts>,
}

impl Apps {
    pub(super) fn open(dir: Option<PathBuf>) -> anyhow::Result<Self> {
        let path = dir.map(|dir| dir.join("apps.json"));
        let stored = match path.as_deref().filter(|path| path.exists()) {
            Some(path) => {
                let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
                serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))?
            }
            None => Stored { token_key: random_bytes::<32>().to_vec(), apps: Vec::new() },
        };
        let apps = stored.apps.into_iter().map(|facts| Ok((facts.app_id.clone(), Arc::new(App::of(facts)?))));
        let all = RwLock::new(apps.collect::<anyhow::Result<_>>()?);
        Ok(Self { all, making: Mutex::default(), token_key: stored.token_key, path })
    }

    pub(super) fn get(&self, app_id: &str) -> Option<Arc<App>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).get(app_id).cloned()
    }

    fn find(&self, fits: impl Fn(&App) -> bool) -> Option<Arc<App>> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        all.values().find(|app| fits(app)).cloned()
    }

    pub(super) fn by_project(&self, project_id: &str) -> Option<Arc<App>> {
        self.find(|app| app.facts.project_id == project_id)
    }

    pub(super) fn by_sub_account(&self, sub_account: &str) -> Option<Arc<App>> {
        self.find(|app| app.sub_account() == sub_account)
    }

    /// The app, made if need be, after a change. Takes a while: not for a thread that serves others.
    pub(super) fn change(&self, app_id: &str, change: Change) -> anyhow::Result<Arc<App>> {
        self.edit(app_id, |facts| {
            let Change { app_secret, package, high_priority, receipts } = change;
            facts.app_secret = app_secret.unwrap_or_else(|| std::mem::take(&mut facts.app_secret));
            facts.package = package.unwrap_or_else(|| std::mem::take(&mut facts.package));
            facts.high_priority = high_priority.unwrap_or(facts.high_priority);
            facts.receipts = receipts.unwrap_or_else(|| std::mem::take(&mut facts.receipts));
        })
    }

    /// Withdraws every access token of the app.
    pub(super) fn withdraw_tokens(&self, app: &App) -> anyhow::Result<()> {
        self.edit(&app.facts.app_id, |facts| facts.generation += 1).map(|_| ())
    }

    fn edit(&self, app_id: &str, edit: impl FnOnce(&mut Facts)) -> anyhow::Result<Arc<App>> {
        let _one_maker = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.get(app_id);
        let mut facts = if let Some(app) = &before {
            app.facts.clone()
        } else {
            let count = self.all.read().unwrap_or_else(PoisonError::into_inner).len();
            anyhow::ensure!(count < MAX_APPS, "at most {MAX_APPS} apps");
            App::new(app_id)?.facts
        };
        edit(&mut facts);
        if let Some(app) = before.filter(|app| app.facts == facts) {
            return Ok(app);
        }
        let app = Arc::new(App::of(facts)?);
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(app_id.to_owned(), app.clone());
        if let Some(path) = &self.path {
            let apps = all.values().map(|app| app.facts.clone()).collect();
            let stored = Stored { token_key: self.token_key.clone(), apps };
            write_whole(path, &serde_json::to_vec_pretty(&stored)?)?;
        }
        Ok(app)
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.token_key)
    }

    /// An access token: `CgB6e3x9/<app>|<generation>|<end>|<random>/<HMAC of that>`. It has slashes, as Huawei's have.
    pub(super) fn mint(&self, app: &App, ends_at_ms: u64) -> String {
        let facts = &app.facts;
        let nonce = hex(&random_bytes::<8>());
        let claims = format!("{}|{}|{ends_at_ms}|{nonce}", facts.app_id, facts.generation);
        let tag = hmac::sign(&self.key(), claims.as_bytes());
        format!("CgB6e3x9/{}/{}", URL_SAFE_NO_PAD.encode(claims), URL_SAFE_NO_PAD.encode(tag))
    }

    pub(super) fn check(&self, access_token: &str, now_ms: u64) -> Bearer {
        let checked = self.read(access_token).and_then(|claims| {
            let mut parts = claims.split('|');
            let app = self.get(parts.next()?)?;
            let generation: u64 = parts.next()?.parse().ok()?;
            let ends_at_ms: u64 = parts.next()?.parse().ok()?;
            if generation != app.facts.generation {
                return None;
            }
            let expired = now_ms >= ends_at_ms;
            Some(if expired { Bearer::Expired } else { Bearer::Of(app.facts.app_id.clone()) })
        });
        checked.unwrap_or(Bearer::Bad)
    }

    fn read(&self, access_token: &str) -> Option<String> {
        let (claims, tag) = access_token.strip_prefix("CgB6e3x9/")?.split_once('/')?;
        let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
        hmac::verify(&self.key(), &claims, &URL_SAFE_NO_PAD.decode(tag).ok()?).ok()?;
        String::from_utf8(claims).ok()
    }
}

/// The form of an app id: digits. It also keeps the control API's paths apart.
pub(super) fn is_app_id(id: &str) -> bool {
    (1..=20).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_token_is_good_until_it_ends_or_is_withdrawn_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Apps::open(Some(dir.path().into())).unwrap();
        let apps = open();
        let app = apps.change("100001", Change::default()).unwrap();
        let token = apps.mint(&app, 1000);
        let good = Bearer::Of("100001".to_owned());
        assert_eq!((apps.check(&token, 999), apps.check(&token, 1000)), (good.clone(), Bearer::Expired));
        assert_eq!(apps.check(&token[1..], 999), Bearer::Bad);
        let apps = open();
        assert_eq!(apps.check(&token, 999), good);
        apps.withdraw_tokens(&app).unwrap();
        assert_eq!((apps.check(&token, 999), open().check(&token, 999)), (Bearer::Bad, Bearer::Bad));
        let fresh = apps.mint(&apps.get("100001").unwrap(), 1000);
        assert_eq!(apps.check(&fresh, 999), good);
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let apps = Apps::open(None).unwrap();
        let made = apps.change("1", Change::default()).unwrap();
        let text = r#"{"receipts": [{"url": "http://127.0.0.1:9/r", "secret": "AAAA", "user_name": "u"}]}"#;
        let changed = apps.change("1", serde_json::from_str(text).unwrap()).unwrap();
        assert_eq!(changed.facts.app_secret, made.facts.app_secret);
        assert!(changed.configuration("").is_some() && changed.configuration("RCP").is_none());
        assert_eq!(apps.by_project(&made.facts.project_id).unwrap().facts, changed.facts);
        assert_eq!(apps.by_sub_account(&made.sub_account()).unwrap().facts, changed.facts);
    }
}
