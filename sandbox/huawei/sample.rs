//! A channel's configuration that works here, and one phone for each fate that people should see once.

use serde_json::{Value, json};

use super::HUAWEI;
use super::account::{Apps, Change};
use crate::twin::Place;

const APP: &str = "100001";

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
            "base_url": place.base_url, "token_url": format!("{}/oauth2/v3/token", place.base_url),
        },
        "devices": PHONES.map(device),
    }))
}
