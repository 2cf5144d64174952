//! A channel's configuration that works here, and one phone for each fate that people should see once.

use serde_json::{Value, json};

use super::HUAWEI;
use super::account::{Apps, Change};
use super::receipts::{Configuration, KeyMode, Version};
use crate::twin::Place;

const APP: &str = "100001";
/// What receipts are signed with, once their address is entered.
const RECEIPT_USER: &str = "push-demo";
const RECEIPT_SECRET: &str = "c2VjcmV0LWtleS1mb3ItdGVzdHMtb25seS0wMDAx";

/// Id, name, token. The token's prefix chooses its fate.
const PHONES: [(&str, &str, &str); 6] = [
    ("mate-60", "Mate 60", "ok-mate-60"),
    ("pura-70", "Pura 70", "ok-pura-70"),
    ("nova-12", "nova 12", "flaky-nova-12"),
    ("p50-pocket", "P50 Pocket", "limited-p50-pocket"),
    ("mate-30", "Mate 30", "dead-mate-30"),
    ("enjoy-60", "Enjoy 60", "fails-2-enjoy-60"),
];

pub(super) fn sample(apps: &Apps, place: &Place) -> anyhow::Result<Value> {
    let app = apps.change(APP, Change::default())?;
    let device = |(id, label, token): (&str, &str, &str)| {
        json!({
            "id": id, "label": label, "platform": "android",
            "address": {"provider": HUAWEI, "token": token},
        })
    };
    Ok(json!({
        "provider": HUAWEI,
        "channel_config": {
            "app_id": app.facts.app_id, "app_secret": app.facts.app_secret,
            "badge_class": "com.example.demo.MainActivity",
            "callback_user": RECEIPT_USER, "callback_secret": RECEIPT_SECRET,
            "base_url": place.base_url, "token_url": format!("{}/oauth2/v3/token", place.base_url),
        },
        "devices": PHONES.map(device),
    }))
}

pub(super) fn enter_callback(apps: &Apps, url: &str) -> anyhow::Result<()> {
    let configuration = Configuration {
        receipt_id: String::new(),
        url: url.to_owned(),
        version: Version::V1,
        user_name: RECEIPT_USER.to_owned(),
        secret: RECEIPT_SECRET.to_owned(),
        key_mode: KeyMode::Base64,
    };
    let change = Change { receipts: Some(vec![configuration]), ..Change::default() };
    if let Some(problem) = change.problem() {
        anyhow::bail!(problem);
    }
    apps.change(APP, change).map(|_| ())
}
