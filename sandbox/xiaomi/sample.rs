//! A channel's configuration that works here, and one phone for each fate that people should see once.

use serde_json::{Value, json};

use super::XIAOMI;
use super::apps::{Apps, Change, base_urls};
use crate::twin::Place;

const PACKAGE: &str = "com.example.demo";

/// Id, name, token. The token's prefix chooses its fate.
const PHONES: [(&str, &str, &str); 6] = [
    ("xiaomi-17", "Xiaomi 17", "ok-xiaomi-17"),
    ("redmi-note-15", "Redmi Note 15", "ok-redmi-note-15"),
    ("xiaomi-pad-8", "Xiaomi Pad 8", "flaky-xiaomi-pad-8"),
    ("redmi-k90", "Redmi K90", "limited-redmi-k90"),
    ("xiaomi-13", "Xiaomi 13", "dead-xiaomi-13"),
    ("mix-flip", "MIX Flip", "fails-16-mix-flip"),
];

pub(super) fn sample(apps: &Apps, place: &Place) -> anyhow::Result<Value> {
    // An app of before July 2026: its private messages need no template yet.
    let change = Change { template_required: Some(false), ..Change::default() };
    let app = apps.change(PACKAGE, change)?;
    let device = |(id, label, token): (&str, &str, &str)| {
        json!({
            "id": id, "label": label, "platform": "android",
            "address": {"provider": XIAOMI, "token": token},
        })
    };
    Ok(json!({
        "provider": XIAOMI,
        "channel_config": {
            "app_secret": app.secret, "package_name": app.package,
            "private_channel_id": "118442", "public_channel_id": "118443",
            "base_urls": base_urls(&place.base_url),
        },
        "devices": PHONES.map(device),
    }))
}
