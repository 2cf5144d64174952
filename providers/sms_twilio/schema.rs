//! The JSON Schema of a channel's settings: validates the API and draws the ops form.

use schemars::{Schema, json_schema};
use serde_json::{Value, json};

use super::config::DEFAULT_BASE_URL;

/// The whole of it.
pub(super) fn schema() -> Schema {
    let mut properties = credential();
    if let (Some(all), Value::Object(rest)) = (properties.as_object_mut(), sending()) {
        all.extend(rest);
    }
    json_schema!({
        "title": "Twilio text messages",
        "type": "object",
        "additionalProperties": false,
        "required": ["account_sid"],
        "allOf": [
            {"anyOf": [{"required": ["api_key_sid", "api_key_secret"]}, {"required": ["auth_token"]}]},
            {"anyOf": [{"required": ["from"]}, {"required": ["messaging_service_sid"]}]}
        ],
        "properties": properties
    })
}

/// Who we are, and how we know the vendor's callbacks.
fn credential() -> Value {
    json!({
        "account_sid": {
            "title": "Account SID",
            "description": "Console → Account Dashboard → Account Info.",
            "type": "string",
            "pattern": "^AC[0-9a-fA-F]{32}$",
            "examples": ["AC0123456789abcdef0123456789abcdef"]
        },
        "api_key_sid": {
            "title": "API key SID",
            "description": "Console → Account → API keys & tokens → Create API key (Standard is enough).",
            "type": "string",
            "pattern": "^SK[0-9a-fA-F]{32}$",
            "examples": ["SK0123456789abcdef0123456789abcdef"]
        },
        "api_key_secret": {
            "title": "API key secret",
            "description": "It is shown once, when the key is created.",
            "type": "string",
            "writeOnly": true,
            "examples": ["your-api-key-secret"]
        },
        "auth_token": {
            "title": "Auth token",
            "description": "The account's primary token (Account Info). It verifies receipts, and logs in where there is no \
                            API key.",
            "type": "string",
            "writeOnly": true,
            "examples": ["your-auth-token"]
        },
        "webhook_shared_keys": {
            "title": "Shared keys of webhooks",
            "description": "Where the account signs its callbacks with keys made for that (public beta): each key's id with \
                            its secret.",
            "type": "object",
            "additionalProperties": {"type": "string"},
            "writeOnly": true,
            "examples": [{"webhooks_sharedkey_0123456789abcdef": "your-secret"}]
        }
    })
}

/// How messages are sent.
fn sending() -> Value {
    json!({
        "from": {
            "title": "Sender",
            "description": "A number of the account's in the form +15557654321, a short code, or a name. Beside a messaging \
                            service: one of its senders.",
            "type": "string",
            "examples": ["+15557654321"]
        },
        "messaging_service_sid": {
            "title": "Messaging service SID",
            "description": "A pool of senders: the vendor chooses one.",
            "type": "string",
            "pattern": "^MG[0-9a-fA-F]{32}$",
            "examples": ["MG0123456789abcdef0123456789abcdef"]
        },
        "smart_encoded": {
            "title": "Smart encoding",
            "description": "Lets the vendor write look-alikes of the 7-bit alphabet (straight quotes for curly ones), so that \
                            a text costs fewer messages.",
            "type": "boolean",
            "default": false,
            "examples": [true]
        },
        "max_segments": {
            "title": "Most messages for one text",
            "description": "A text that would take more is refused before it costs anything.",
            "type": "integer",
            "minimum": 1,
            "maximum": 30,
            "examples": [3]
        },
        "price_per_segment": {
            "title": "Price of one message",
            "description": "For previews: what the account pays for one segment.",
            "type": "string",
            "pattern": "^[0-9]{1,9}(\\.[0-9]{1,9})?$",
            "examples": ["0.0079"]
        },
        "currency": {
            "title": "Currency",
            "description": "Of the price, ISO 4217.",
            "type": "string",
            "pattern": "^[A-Z]{3}$",
            "examples": ["USD"]
        },
        "base_url": {
            "title": "Base URL",
            "description": "Where the interface is. Another region has another host (api.dublin.ie1.twilio.com) and keys of \
                            its own.",
            "type": "string",
            "format": "uri",
            "default": DEFAULT_BASE_URL,
            "examples": [DEFAULT_BASE_URL]
        },
        "ca_pem": {
            "title": "Certificate authority",
            "description": "Certificates in PEM form to trust beside the system's authorities, for a \
                            sandbox or a gateway of yours.",
            "type": "string",
            "examples": ["-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n"]
        }
    })
}
