//! Xiaomi apps: their secret, packages, channels, templates and daily quota.
//!
//! An app is made when it is first asked for and lives on in the data directory. What it may do is changed through the
//! control API, as an operator would in Xiaomi's console.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::state::{random_bytes, write_whole};

/// Apps that a sandbox plays at most.
const MAX_APPS: usize = 1000;
/// The day of a quota begins at midnight in China.
pub(super) const CHINA_OFFSET_MS: u64 = 8 * 3_600_000;
const DAY_MS: u64 = 86_400_000;

/// Which class of messages a channel carries (D1656).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Class {
    /// Limited by day and device.
    Public,
    /// Unlimited, by template.
    Private,
}

/// What an operator can set; the package is the app's name here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct App {
    pub(super) package: String,
    #[serde(rename = "app_id")]
    pub(super) id: String,
    #[serde(rename = "app_secret")]
    pub(super) secret: String,
    /// Further packages of the same app.
    pub(super) more_packages: Vec<String>,
    /// Approved channels.
    pub(super) channels: BTreeMap<String, Class>,
    /// Approved templates, with how many variables each has.
    pub(super) templates: BTreeMap<String, usize>,
    /// Whether a message without a channel is refused: so for every app in the scheme of 2026 (D1656).
    pub(super) channel_required: bool,
    /// Whether a private message without a template is refused: so for apps that are new since July 2026.
    pub(super) template_required: bool,
    /// Public messages a day; `null` lifts it.
    pub(super) day_quota: Option<u64>,
}

/// What to change; what is absent stays as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    pub(super) app_secret: Option<String>,
    pub(super) more_packages: Option<Vec<String>>,
    pub(super) channels: Option<BTreeMap<String, Class>>,
    pub(super) templates: Option<BTreeMap<String, usize>>,
    pub(super) channel_required: Option<bool>,
    pub(super) template_required: Option<bool>,
    #[serde(default, with = "present")]
    #[expect(clippy::option_option, reason = "absent, null and a number are three things")]
    pub(super) day_quota: Option<Option<u64>>,
}

/// Tells `null` from absent.
mod present {
    use serde::{Deserialize, Deserializer};

    #[expect(clippy::option_option, reason = "absent, null and a number are three things")]
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<u64>>, D::Error> {
        Option::deserialize(from).map(Some)
    }
}

impl App {
    fn new(package: &str) -> Self {
        let channels = [("118442".to_owned(), Class::Private), ("118443".to_owned(), Class::Public)];
        Self {
            package: package.to_owned(),
            id: "2882303761510000001".to_owned(),
            secret: STANDARD.encode(random_bytes::<18>()),
            more_packages: Vec::new(),
            channels: channels.into(),
            templates: [("P10293".to_owned(), 1)].into(),
            channel_required: true,
            template_required: true,
            day_quota: Some(10_000_000),
        }
    }

    pub(super) fn has_package(&self, package: &str) -> bool {
        self.package == package || self.more_packages.iter().any(|more| more == package)
    }

    /// The app as the control API shows it: what stands in Xiaomi's console.
    pub(super) fn view(&self, base_url: &str) -> Value {
        let mut view = json!(self);
        view["base_urls"] = base_urls(base_url);
        view
    }
}

/// Where each region's messages are posted to, on one port.
pub(super) fn base_urls(base_url: &str) -> Value {
    let of = |region: &str| (region.to_owned(), Value::from(format!("{base_url}/xiaomi/{region}")));
    let mut urls = serde_json::Map::from_iter(["ru", "in", "eu", "global"].map(of));
    urls.insert("cn".to_owned(), base_url.into());
    urls.into()
}

/// All apps and what they have sent today.
pub(super) struct Apps {
    all: Mutex<BTreeMap<String, App>>,
    sent: Mutex<HashMap<String, Day>>,
    path: Option<PathBuf>,
}

/// Public messages of one app on one day.
#[derive(Default, Clone, Copy)]
struct Day {
    number: u64,
    acked: u64,
}

impl Apps {
    pub(super) fn open(dir: Option<PathBuf>) -> anyhow::Result<Self> {
        let path = dir.map(|dir| dir.join("apps.json"));
        let all = match path.as_deref().filter(|path| path.exists()) {
            Some(path) => {
                let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
                serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))?
            }
            None => BTreeMap::new(),
        };
        Ok(Self { all: Mutex::new(all), sent: Mutex::default(), path })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, App>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The app that has this secret.
    pub(super) fn by_secret(&self, secret: &str) -> Option<App> {
        self.lock().values().find(|app| app.secret == secret).cloned()
    }

    /// The app of a package, made if need be, after a change.
    pub(super) fn change(&self, package: &str, change: Change) -> anyhow::Result<App> {
        let mut all = self.lock();
        if !all.contains_key(package) {
            anyhow::ensure!(all.len() < MAX_APPS, "at most {MAX_APPS} apps");
        }
        let mut app = all.get(package).cloned().unwrap_or_else(|| App::new(package));
        let before = all.get(package).cloned();
        app.secret = change.app_secret.unwrap_or(app.secret);
        app.more_packages = change.more_packages.unwrap_or(app.more_packages);
        app.channels = change.channels.unwrap_or(app.channels);
        app.templates = change.templates.unwrap_or(app.templates);
        app.channel_required = change.channel_required.unwrap_or(app.channel_required);
        app.template_required = change.template_required.unwrap_or(app.template_required);
        app.day_quota = change.day_quota.unwrap_or(app.day_quota);
        if before.as_ref() != Some(&app) {
            all.insert(package.to_owned(), app.clone());
            if let Some(path) = &self.path {
                write_whole(path, &serde_json::to_vec_pretty(&*all)?)?;
            }
        }
        Ok(app)
    }

    /// Takes `count` public messages out of today's quota, as far as it reaches; says how many went.
    pub(super) fn take(&self, app: &App, count: u64, now_ms: u64) -> u64 {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let day = today(&mut sent, &app.package, now_ms);
        let left = app.day_quota.map_or(u64::MAX, |quota| quota.saturating_sub(day.acked));
        let went = count.min(left);
        day.acked += went;
        went
    }

    /// How many public messages went today.
    pub(super) fn acked(&self, app: &App, now_ms: u64) -> u64 {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        today(&mut sent, &app.package, now_ms).acked
    }
}

fn today<'map>(sent: &'map mut HashMap<String, Day>, package: &str, now_ms: u64) -> &'map mut Day {
    let number = (now_ms + CHINA_OFFSET_MS) / DAY_MS;
    let day = sent.entry(package.to_owned()).or_default();
    if day.number != number {
        *day = Day { number, acked: 0 };
    }
    day
}

/// The form of an Android package name. It also keeps the control API's paths apart.
pub(super) fn is_package(name: &str) -> bool {
    (1..=255).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_767_225_600_000;

    #[test]
    fn a_quota_is_that_of_a_day_in_china() {
        let apps = Apps::open(None).unwrap();
        let change = serde_json::from_str(r#"{"day_quota": 3}"#).unwrap();
        let app = apps.change("com.example.app", change).unwrap();
        assert_eq!(apps.take(&app, 2, NOW), 2);
        assert_eq!(apps.take(&app, 2, NOW), 1);
        assert_eq!((apps.take(&app, 2, NOW), apps.acked(&app, NOW)), (0, 3));
        // 2026-01-01T00:00Z is eight in the morning in China: the next day begins at 16:00 UTC.
        assert_eq!(apps.take(&app, 1, NOW + 16 * 3_600_000 - 1), 0);
        assert_eq!(apps.take(&app, 1, NOW + 16 * 3_600_000), 1);
    }

    #[test]
    fn an_app_lives_on_and_keeps_what_a_change_does_not_name() {
        let dir = tempfile::tempdir().unwrap();
        let apps = Apps::open(Some(dir.path().into())).unwrap();
        let made = apps.change("com.example.app", Change::default()).unwrap();
        let change = serde_json::from_str(r#"{"day_quota": null, "channel_required": false}"#).unwrap();
        let changed = apps.change("com.example.app", change).unwrap();
        assert_eq!((changed.day_quota, changed.channel_required), (None, false));
        assert_eq!(changed.secret, made.secret);
        let apps = Apps::open(Some(dir.path().into())).unwrap();
        assert_eq!(apps.by_secret(&made.secret), Some(changed));
        assert_eq!(apps.by_secret("another"), None);
    }
}
