//! What the page shows beside the public API, and its levers: the phones at the far end and the played vendors.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use anypush_providers::catalogue;
use anypush_sandbox::phones::PhoneKind;
use anypush_sandbox::{PhoneChange, PhoneView, Phones};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::peer::Peer;
use super::sample::{Device, Sample, TAG};
use crate::app::Gateway;
use crate::direct;

/// Notifications that a drawn phone has room for.
const SHOWN: usize = 3;

/// The demo as the page sees it.
pub(super) struct World {
    gateway: Arc<Gateway>,
    phones: Phones,
    vendors: Peer,
    sample: Mutex<Option<Arc<Sample>>>,
}

/// How a vendor is to behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mode {
    /// It answers as it should.
    Ok,
    /// It answers 503 to everything.
    Down,
    /// It takes no credentials.
    Refused,
}

/// What a phone's levers change.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    online: Option<bool>,
    dead: Option<bool>,
}

impl World {
    pub(super) fn new(gateway: Arc<Gateway>, phones: Phones, sandbox_url: &str) -> anyhow::Result<Self> {
        Ok(Self { gateway, phones, vendors: Peer::new(sandbox_url)?, sample: Mutex::default() })
    }

    /// From now on there is something to show.
    pub(super) fn opened(&self, sample: Sample) {
        *self.sample.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(sample));
    }

    fn sample(&self) -> anyhow::Result<Arc<Sample>> {
        let sample = self.sample.lock().unwrap_or_else(PoisonError::into_inner).clone();
        sample.context("the demo is still being made; ask again in a second")
    }

    /// What the page needs to call the public API.
    pub(super) fn config(&self) -> anyhow::Result<Value> {
        let sample = self.sample()?;
        Ok(json!({"url": sample.url, "api_key": sample.api_key, "tag": TAG}))
    }

    /// All phones and vendors as they are now.
    pub(super) async fn view(&self) -> anyhow::Result<Value> {
        let sample = self.sample()?;
        let rules = self.vendors.call(Method::GET, "/_sandbox/rules", None).await?;
        let seen = self.phones.list();
        let phones: Vec<Value> = sample
            .devices
            .iter()
            .filter_map(|device| {
                let phone = seen.iter().find(|phone| phone.id == device.id)?;
                Some(show_phone(device, phone, &rules))
            })
            .collect();
        let mut vendors = Vec::new();
        for registration in catalogue() {
            let id = registration.descriptor.id;
            let switch = self.vendors.call(Method::GET, &format!("/_sandbox/providers/{id}"), None).await?;
            let mode = match (switch["outage"].as_str(), switch["credentials"].as_str()) {
                (Some("none"), Some("ok")) => "ok",
                (Some("none"), _) => "refused",
                _ => "down",
            };
            let channels = self.gateway.channels.all();
            let state = channels.iter().find(|channel| channel.record.provider == id).map(|c| c.route.state);
            vendors.push(json!({
                "provider": id, "name": registration.descriptor.name, "mode": mode,
                "channel_state": state.unwrap_or_default(),
            }));
        }
        Ok(json!({"phones": phones, "vendors": vendors}))
    }

    /// Makes a vendor behave so.
    pub(super) async fn set_vendor(&self, provider: &str, mode: Mode) -> anyhow::Result<()> {
        let sample = self.sample()?;
        let switch = match mode {
            Mode::Ok => json!({}),
            Mode::Down => json!({"outage": "http_503"}),
            Mode::Refused => json!({"credentials": "refused"}),
        };
        self.vendors.call(Method::PUT, &format!("/_sandbox/providers/{provider}"), Some(&switch)).await?;
        if mode == Mode::Ok {
            self.reopen(&sample, provider).await?;
        }
        Ok(())
    }

    /// What ops do once the vendor takes the credentials again: check the channel, which opens it. Not only once: an
    /// access token that was refused a moment ago is not asked for again within the same second.
    async fn reopen(&self, sample: &Sample, provider: &str) -> anyhow::Result<()> {
        let admin = Peer::new(&sample.url)?.with_key(&sample.admin_key, Some(&sample.app_id));
        let path = format!("/v1/apps/{}/channels/{provider}/check", sample.app_id);
        for _ in 0..5 {
            let report = admin.call(Method::POST, &path, None).await?;
            if report["ok"] == true {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    }

    /// Changes a phone.
    pub(super) async fn set_phone(&self, id: &str, change: Change) -> anyhow::Result<()> {
        let sample = self.sample()?;
        let device =
            sample.devices.iter().find(|device| device.id == id).context("there is no such phone")?;
        if change.online.is_some() {
            self.phones.put(id, PhoneChange { online: change.online, ..PhoneChange::default() })?;
        }
        if let (Some(dead), Some(token)) = (change.dead, &device.token) {
            self.set_rule(&device.provider, token, if dead { "dead" } else { "ok" }).await?;
            if !dead {
                // The app registers its token again, as it would at its next start; that restores a retired address.
                let backend = Peer::new(&sample.url)?.with_key(&sample.api_key, None);
                backend.call(Method::PUT, &format!("/v1/devices/{id}"), Some(&device.put)).await?;
            }
        }
        Ok(())
    }

    /// A tap on a notification.
    pub(super) async fn tap(&self, id: &str, message_id: &str) -> anyhow::Result<()> {
        self.phones.tap(id, message_id).await?;
        Ok(())
    }

    async fn set_rule(&self, provider: &str, token: &str, behaviour: &str) -> anyhow::Result<()> {
        let all = self.vendors.call(Method::GET, "/_sandbox/rules", None).await?;
        let mut rules = all["rules"].as_array().cloned().unwrap_or_default();
        rules.retain(|rule| rule["pattern"] != token);
        rules.insert(0, json!({"provider": provider, "pattern": token, "behaviour": behaviour}));
        self.vendors.call(Method::PUT, "/_sandbox/rules", Some(&Value::Array(rules))).await?;
        Ok(())
    }
}

fn show_phone(device: &Device, phone: &PhoneView, rules: &Value) -> Value {
    let mood = device.token.as_deref().map_or("ok", |token| mood(rules, &device.provider, token));
    let transport = match &device.kind {
        PhoneKind::DirectWebsocket => format!("{} · WebSocket", device.provider),
        PhoneKind::DirectPolling => format!("{} · polling", device.provider),
        PhoneKind::Vendor(provider) => provider.clone(),
    };
    let notifications: Vec<Value> = phone
        .screen
        .iter()
        .take(SHOWN)
        .map(|shown| {
            json!({
                "key": format!("{} {}", shown.message_id, shown.received_at),
                "message_id": shown.message_id, "title": shown.title, "body": shown.body,
                "tapped": shown.tapped_at.is_some(),
            })
        })
        .collect();
    json!({
        "id": device.id, "label": device.label, "provider": device.provider, "transport": transport,
        "online": is_reachable(phone),
        "switched_on": phone.online,
        "mood": if mood == "ok" { "" } else { mood },
        "dead": mood == "dead",
        "direct": device.provider == direct::DESCRIPTOR.id,
        "notifications": notifications,
    })
}

/// Whether it has its line. A poll that is held counts as one: the first answer may take half a minute.
pub(super) fn is_reachable(phone: &PhoneView) -> bool {
    let polls = phone.kind == PhoneKind::DirectPolling && phone.last_error.is_none();
    phone.online && (phone.connected || polls)
}

/// What the vendor does with this token: the first rule that names it, set ones before the defaults.
fn mood<'a>(rules: &'a Value, provider: &str, token: &str) -> &'a str {
    let list = |name: &str| rules[name].as_array().map(Vec::as_slice).unwrap_or_default();
    let named = |rule: &&Value| {
        let of = rule["provider"].as_str().unwrap_or("*");
        (of == "*" || of == provider)
            && rule["pattern"].as_str().is_some_and(|pattern| anypush_sandbox::rules::matches(pattern, token))
    };
    list("rules")
        .iter()
        .chain(list("defaults"))
        .find(named)
        .and_then(|rule| rule["behaviour"].as_str())
        .unwrap_or("ok")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_rule_goes_before_the_prefix() {
        let rules = json!({
            "rules": [{"pattern": "dead-1", "behaviour": "ok"}],
            "defaults": [
                {"provider": "words", "pattern": "dead-", "behaviour": "dead"},
                {"provider": "numbers", "pattern": "*0001", "behaviour": "dead"},
            ],
        });
        assert_eq!(mood(&rules, "words", "dead-1"), "ok");
        assert_eq!(mood(&rules, "words", "dead-2"), "dead");
        assert_eq!(mood(&rules, "words", "anything"), "ok");
        assert_eq!(mood(&rules, "numbers", "+15550000001"), "dead");
        assert_eq!(mood(&rules, "numbers", "dead-2"), "ok");
    }
}
