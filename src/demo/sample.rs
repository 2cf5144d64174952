//! What the demo shows: an app with its channels and devices, made through the public API, and phones for them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use anypush_sandbox::PhoneChange;
use anypush_sandbox::phones::PhoneKind;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::peer::Peer;
use super::state::{Directory, Kept, Login};
use super::world::is_reachable;
use crate::api::auth::{NewKey, SCOPES};
use crate::app::Gateway;
use crate::direct;

/// Every demo device has this tag.
pub(super) const TAG: &str = "demo";
/// The app's name.
const APP: &str = "demo";

/// Phones that connect themselves: id, name, and how.
const CONNECTING: [(&str, &str, PhoneKind); 3] = [
    ("shop-tablet", "Shop tablet", PhoneKind::DirectWebsocket),
    ("courier-phone", "Courier phone", PhoneKind::DirectWebsocket),
    ("warehouse-scanner", "Warehouse scanner", PhoneKind::DirectPolling),
];

/// One device of the demo.
#[derive(Clone)]
pub(super) struct Device {
    pub(super) id: String,
    pub(super) label: String,
    pub(super) provider: String,
    pub(super) kind: PhoneKind,
    /// Its token at the vendor.
    pub(super) token: Option<String>,
    /// User name and secret, where it connects itself.
    pub(super) secret: Option<Login>,
    /// What the API is told of it.
    pub(super) put: Value,
}

/// All that was made.
#[derive(Clone)]
pub(super) struct Sample {
    pub(super) url: String,
    pub(super) sandbox_url: String,
    pub(super) api_key: String,
    pub(super) admin_key: String,
    pub(super) app_id: String,
    pub(super) devices: Vec<Device>,
}

impl Sample {
    /// Makes what is not there yet, and connects the phones.
    pub(super) async fn make(
        gateway: &Arc<Gateway>,
        sandbox: &anypush_sandbox::Running,
        directory: &Directory,
        mut kept: Kept,
    ) -> anyhow::Result<Self> {
        kept.sandbox_port = Some(sandbox.local_addr().port());
        let admin_key = admin_key(gateway, directory, &mut kept).await?;
        let url = gateway.url();
        let admin = Peer::new(&url)?.with_key(&admin_key, None);
        let app_id = app(&admin, directory, &mut kept).await?;
        let admin = admin.with_key(&admin_key, Some(&app_id));
        let api_key = api_key(&admin, &app_id, directory, &mut kept).await?;
        let mut sample = Self {
            url,
            sandbox_url: sandbox.url(),
            api_key,
            admin_key,
            app_id,
            devices: connecting_devices(),
        };
        let vendors = Peer::new(&sample.sandbox_url)?;
        let answer = vendors.call(Method::GET, "/_sandbox/samples", None).await?;
        let known = |vendor: &&Value| vendor["provider"].as_str().and_then(anypush_providers::find).is_some();
        // A vendor that is played and that this gateway cannot speak to is no part of the demo.
        for vendor in answer["samples"].as_array().context("the sandbox has no samples")?.iter().filter(known)
        {
            sample.channel(&admin, &vendors, vendor).await?;
            sample.devices.extend(vendor_devices(vendor));
        }
        for index in 0..sample.devices.len() {
            sample.device(index, directory, &mut kept).await?;
        }
        for device in &sample.devices {
            sample.connect(&sandbox.phones(), device)?;
        }
        connected(&sandbox.phones()).await;
        Ok(sample)
    }

    /// What `demo.json` says.
    pub(super) fn demo_json(&self) -> Value {
        let devices: Vec<Value> = self
            .devices
            .iter()
            .map(|device| match &device.secret {
                Some(login) => json!({
                    "id": device.id, "provider": device.provider,
                    "username": login.username, "secret": login.secret,
                }),
                None => json!({"id": device.id, "provider": device.provider}),
            })
            .collect();
        json!({
            "url": self.url,
            "api_key": self.api_key,
            "admin_key": self.admin_key,
            "app_id": self.app_id,
            "sandbox_url": self.sandbox_url,
            "devices": devices,
        })
    }

    /// The vendor's channel. Written at every start: the sandbox may have another port.
    async fn channel(&self, admin: &Peer, vendors: &Peer, vendor: &Value) -> anyhow::Result<()> {
        let provider = vendor["provider"].as_str().context("a sample names no provider")?;
        let path = format!("/v1/apps/{}/channels/{provider}", self.app_id);
        let body = json!({"provider": provider, "config": vendor["channel_config"]});
        let made = admin.call(Method::PUT, &path, Some(&body)).await?;
        // What ops do in the vendor's console; vendors that are told with each request need it not.
        if made["callback_url"].is_string() {
            let entered = json!({"url": made["callback_url"]});
            let console = format!("/_sandbox/providers/{provider}/callback");
            vendors.call(Method::PUT, &console, Some(&entered)).await?;
        }
        Ok(())
    }

    async fn device(&mut self, index: usize, directory: &Directory, kept: &mut Kept) -> anyhow::Result<()> {
        let backend = Peer::new(&self.url)?.with_key(&self.api_key, None);
        let device = &mut self.devices[index];
        let path = format!("/v1/devices/{}", device.id);
        let (status, _) = backend.ask(Method::GET, &path, None).await?;
        if status == StatusCode::NOT_FOUND {
            backend.call(Method::PUT, &path, Some(&device.put)).await?;
        }
        if device.provider != direct::DESCRIPTOR.id {
            return Ok(());
        }
        if !kept.secrets.contains_key(&device.id) {
            let made = backend.call(Method::POST, &format!("{path}/secret"), None).await?;
            let login = serde_json::from_value(made).context("reading the device secret")?;
            kept.secrets.insert(device.id.clone(), login);
            directory.keep(kept)?;
        }
        device.secret = kept.secrets.get(&device.id).cloned();
        Ok(())
    }

    /// The handset at the far end.
    fn connect(&self, phones: &anypush_sandbox::Phones, device: &Device) -> anyhow::Result<()> {
        let change = PhoneChange {
            kind: Some(device.kind.clone()),
            label: Some(device.label.clone()),
            online: Some(true),
            token: device.token.clone(),
            gateway: device.secret.as_ref().map(|_| self.url.clone()),
            secret: device.secret.as_ref().map(|login| login.secret.clone()),
            receipts: None,
        };
        phones.put(&device.id, change).with_context(|| format!("switching on {}", device.id))?;
        Ok(())
    }
}

/// Waits until the phones have their lines. One that cannot get it is shown as it is: the rest can be tried.
async fn connected(phones: &anypush_sandbox::Phones) {
    for _ in 0..100 {
        if phones.list().iter().all(is_reachable) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Made beside the API: somebody must be the first to have a key.
async fn admin_key(gateway: &Gateway, directory: &Directory, kept: &mut Kept) -> anyhow::Result<String> {
    if kept.admin_key.is_none() {
        let new = NewKey { app: None, name: "demo".into(), scopes: Vec::new(), expires_at: None };
        let (_, key) = gateway.auth.create_key(new).await?;
        kept.admin_key = Some(key);
        directory.keep(kept)?;
    }
    kept.admin_key.clone().context("there is no admin key")
}

async fn app(admin: &Peer, directory: &Directory, kept: &mut Kept) -> anyhow::Result<String> {
    if kept.app_id.is_none() {
        let (status, made) = admin.ask(Method::POST, "/v1/apps", Some(&json!({"name": APP}))).await?;
        let app = match status {
            // Made by a start that was killed before it could note it.
            StatusCode::CONFLICT => admin.call(Method::GET, &format!("/v1/apps/{APP}"), None).await?,
            status if status.is_success() => made,
            status => bail!("POST /v1/apps was answered {status}: {made}"),
        };
        kept.app_id = app["id"].as_str().map(str::to_owned);
        directory.keep(kept)?;
    }
    kept.app_id.clone().context("the app has no id")
}

async fn api_key(admin: &Peer, app: &str, directory: &Directory, kept: &mut Kept) -> anyhow::Result<String> {
    if kept.api_key.is_none() {
        let body = json!({"name": "demo backend", "scopes": SCOPES});
        let made = admin.call(Method::POST, &format!("/v1/apps/{app}/keys"), Some(&body)).await?;
        kept.api_key = made["key"].as_str().map(str::to_owned);
        directory.keep(kept)?;
    }
    kept.api_key.clone().context("the app has no key")
}

fn connecting_devices() -> Vec<Device> {
    let device = |(id, label, kind): (&str, &str, PhoneKind)| Device {
        id: id.into(),
        label: label.into(),
        provider: direct::DESCRIPTOR.id.into(),
        kind,
        token: None,
        secret: None,
        put: json!({"platform": "android", "model": label, "tags": [TAG]}),
    };
    CONNECTING.into_iter().map(device).collect()
}

/// The phones that a vendor's sample brings.
fn vendor_devices(vendor: &Value) -> Vec<Device> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let provider = text(&vendor["provider"]);
    let devices = vendor["devices"].as_array().cloned().unwrap_or_default();
    let device = |sample: &Value| Device {
        id: text(&sample["id"]),
        label: text(&sample["label"]),
        provider: provider.clone(),
        kind: PhoneKind::Vendor(provider.clone()),
        token: sample["address"]["token"].as_str().map(str::to_owned),
        secret: None,
        put: json!({
            "platform": sample["platform"], "model": sample["label"], "tags": [TAG],
            "addresses": [sample["address"]],
        }),
    };
    devices.iter().map(device).collect()
}
