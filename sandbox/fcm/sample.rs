//! A channel's configuration that works here, and one phone for each fate that people should see once.

use serde_json::{Value, json};

use super::Fcm;

const PROJECT: &str = "demo-project";

/// Id, name, token. The token's prefix chooses its fate.
const PHONES: [(&str, &str, &str); 6] = [
    ("pixel-9", "Pixel 9", "ok-pixel-9"),
    ("galaxy-s25", "Galaxy S25", "ok-galaxy-s25"),
    ("oneplus-13", "OnePlus 13", "ok-oneplus-13"),
    ("fairphone-6", "Fairphone 6", "flaky-fairphone-6"),
    ("xperia-10", "Xperia 10", "limited-xperia-10"),
    ("moto-g", "Moto G", "dead-moto-g"),
];

pub(super) fn sample(fcm: &Fcm, base_url: &str) -> anyhow::Result<Value> {
    let project = fcm.projects.get_or_make(PROJECT)?;
    let device = |(id, label, token): (&str, &str, &str)| {
        json!({
            "id": id, "label": label, "platform": "android",
            "address": {"provider": super::FCM, "token": token},
        })
    };
    Ok(json!({
        "provider": super::FCM,
        "channel_config": {"service_account": project.service_account(base_url), "base_url": base_url},
        "devices": PHONES.map(device),
    }))
}
