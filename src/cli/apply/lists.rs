//! What an app has several of without a name of its own: webhooks, told apart by their address, and registration keys, told
//! apart by what they were called. Where several are alike they are taken in their order.
//!
//! The gateway makes their secrets, and shows each once: here.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail};
use http::Method;
use serde_json::{Map, Value, json};

use super::file::App;
use super::{Done, Work};
use crate::cli::client::escape;

impl Work {
    pub(super) async fn webhooks(&mut self, app: &str, wanted: &App, is_there: bool) -> anyhow::Result<()> {
        let path = format!("/v1/apps/{}/webhooks", escape(app));
        let mut left = self.list(&path, is_there && !wanted.webhooks.is_empty()).await?;
        for body in &wanted.webhooks {
            let url = normal(body["url"].as_str().unwrap_or_default());
            let shown = format!("{app} {url}");
            match take(&mut left, |webhook| webhook["url"] == *url) {
                None => self.create_webhook(&path, &shown, body).await,
                Some(before) => self.change_webhook(&path, &shown, &before, body).await,
            }
            .with_context(|| format!("webhook {shown}"))?;
        }
        Ok(())
    }

    async fn create_webhook(
        &mut self,
        path: &str,
        shown: &str,
        body: &Map<String, Value>,
    ) -> anyhow::Result<()> {
        let mut new = body.clone();
        let state = new.remove("state");
        let made = self.change(Method::POST, path, &json!(new)).await?;
        // Before anything else can fail: the secret is never shown again.
        self.tell_made("webhook", shown, made.as_ref());
        if let (Some(state), Some(made)) = (state.filter(|state| *state != "enabled"), made) {
            let one = format!("{path}/{}", made["id"].as_str().unwrap_or_default());
            self.change(Method::PATCH, &one, &json!({"state": state})).await?;
        }
        Ok(())
    }

    async fn change_webhook(
        &mut self,
        path: &str,
        shown: &str,
        before: &Value,
        body: &Map<String, Value>,
    ) -> anyhow::Result<()> {
        if body.get("signature").is_some_and(|signature| *signature != before["signature"]) {
            bail!(
                "its signature is {} and cannot be changed: delete it, and apply again",
                before["signature"].as_str().unwrap_or_default()
            );
        }
        let differs = |(name, value): &(&String, &Value)| match name.as_str() {
            "url" | "signature" => false,
            "events" => names(value) != names(&before["events"]),
            name => before[name] != **value,
        };
        let changes: Map<_, _> =
            body.iter().filter(differs).map(|(name, value)| (name.clone(), value.clone())).collect();
        if changes.is_empty() {
            self.tell("webhook", shown, Done::Unchanged);
            return Ok(());
        }
        let one = format!("{path}/{}", before["id"].as_str().unwrap_or_default());
        self.change(Method::PATCH, &one, &json!(changes)).await?;
        self.tell("webhook", shown, Done::Changed);
        Ok(())
    }

    pub(super) async fn registration_keys(
        &mut self,
        app: &str,
        wanted: &App,
        is_there: bool,
    ) -> anyhow::Result<()> {
        let path = format!("/v1/apps/{}/registration_keys", escape(app));
        let mut left = self.list(&path, is_there && !wanted.registration_keys.is_empty()).await?;
        left.retain(|key| key["revoked_at"].is_null());
        for body in &wanted.registration_keys {
            let name = &body["name"];
            let shown = format!("{app}/{}", name.as_str().unwrap_or_default());
            let Some(before) = take(&mut left, |key| key["name"] == *name) else {
                let made = self.change(Method::POST, &path, &json!(body)).await;
                let made = made.with_context(|| format!("registration key {shown}"))?;
                self.tell_made("registration key", &shown, made.as_ref());
                continue;
            };
            let text = |key: &Value| key.as_str().map(|text| text.trim().to_owned());
            let same = body.get("algorithm") == Some(&before["algorithm"])
                && body.get("public_key").is_none_or(|key| text(key) == text(&before["public_key"]));
            if !same {
                bail!(
                    "registration key {shown}: there is another one of this name, and a key cannot be changed: give the \
                     new one another name, and revoke the old one when no backend signs with it any more"
                );
            }
            self.tell("registration key", &shown, Done::Unchanged);
        }
        Ok(())
    }

    async fn list(&self, path: &str, is_there: bool) -> anyhow::Result<Vec<Value>> {
        if is_there { self.client.all(path).await } else { Ok(Vec::new()) }
    }

    /// Tells what was made, and its secret where it has one.
    fn tell_made(&mut self, kind: &str, name: &str, made: Option<&Value>) {
        let secret = made.and_then(|made| Some((made["id"].as_str()?, made["secret"].as_str()?)));
        self.tell_with(kind, name, Done::Created, secret);
    }
}

/// Takes the first that fits out of the list.
fn take(from: &mut Vec<Value>, fits: impl Fn(&Value) -> bool) -> Option<Value> {
    let at = from.iter().position(fits)?;
    Some(from.remove(at))
}

/// An address as the gateway keeps it.
fn normal(url: &str) -> String {
    url::Url::parse(url).map_or_else(|_| url.to_owned(), String::from)
}

fn names(value: &Value) -> BTreeSet<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}
