//! A channel's configuration that works here, and one phone for each fate that people should see once.

use serde_json::{Value, json};

use super::{SMS_TWILIO, Twilio};

const ACCOUNT: &str = "ACde300000000000000000000000000000";

/// Id, name, number. The number's end chooses its fate.
const PHONES: [(&str, &str, &str); 3] = [
    ("nokia-105", "Nokia 105", "+15551230100"),
    ("old-number", "Given-up number", "+15551230001"),
    ("said-stop", "Someone who said STOP", "+15551230004"),
];

pub(super) fn sample(twilio: &Twilio, base_url: &str) -> anyhow::Result<Value> {
    let made = twilio.accounts.get_or_make(ACCOUNT)?;
    let device = |(id, label, number): (&str, &str, &str)| {
        json!({
            "id": id, "label": label, "platform": "android",
            // A number serves every vendor of text messages.
            "address": {"provider": "phone", "token": number},
        })
    };
    Ok(json!({
        "provider": SMS_TWILIO,
        "channel_config": {
            "account_sid": ACCOUNT, "auth_token": made["auth_token"], "from": made["from"], "base_url": base_url,
        },
        "devices": PHONES.map(device),
    }))
}
