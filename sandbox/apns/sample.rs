//! A channel's configuration that works here, and one phone for each fate that people should see once.

use serde_json::{Value, json};

use super::{APNS, Apns};

const TEAM: &str = "DEMOTEAM01";
const BUNDLE: &str = "com.example.app";

/// Id, name, the first digits of the token, which choose its fate.
const PHONES: [(&str, &str, &str); 4] = [
    ("iphone-17", "iPhone 17", "1f0e17"),
    ("ipad-air", "iPad Air", "1fad00"),
    ("iphone-se", "iPhone SE", "f1a0"),
    ("iphone-8", "iPhone 8", "dead"),
];

pub(super) fn sample(apns: &Apns, base_url: &str) -> anyhow::Result<Value> {
    let key = apns.teams.key(TEAM, Some(BUNDLE))?;
    let device = |(id, label, token): (&str, &str, &str)| {
        json!({
            "id": id, "label": label, "platform": "ios",
            "address": {"provider": APNS, "token": format!("{token:0<64}")},
        })
    };
    Ok(json!({
        "provider": APNS,
        "channel_config": {
            "team_id": TEAM, "key_id": key["key_id"], "key_p8": key["private_key"], "bundle_id": BUNDLE,
            "environment": "production", "base_url": base_url,
        },
        "devices": PHONES.map(device),
    }))
}
