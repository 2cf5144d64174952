//! The JSON Schema of a channel's settings: validates the API and draws the ops form.

use schemars::{Schema, json_schema};
use serde_json::{Value, json};

use super::config::{PRODUCTION_URL, SANDBOX_URL};
use super::push::{DEVICE, KINDS};

/// The whole of it.
pub(super) fn schema() -> Schema {
    let mut properties = credential();
    if let (Some(all), Value::Object(place)) = (properties.as_object_mut(), place()) {
        all.extend(place);
    }
    json_schema!({
        "title": "Apple Push Notification service",
        "type": "object",
        "additionalProperties": false,
        "required": ["bundle_id"],
        "anyOf": [
            {"required": ["key_p8", "key_id", "team_id"]},
            {"required": ["certificate", "private_key"]}
        ],
        "properties": properties
    })
}

/// Who we are.
fn credential() -> Value {
    json!({
        "key_p8": {
            "title": "APNs key",
            "description": "The text of the .p8 file: developer.apple.com → Certificates, Identifiers & Profiles → \
                            Keys → + → Apple Push Notifications service. It can be downloaded once.",
            "type": "string",
            "writeOnly": true,
            "examples": ["-----BEGIN PRIVATE KEY-----\n…\n-----END PRIVATE KEY-----\n"]
        },
        "key_id": {
            "title": "Key id",
            "description": "The key's 10 characters; they stand in the name of the .p8 file too.",
            "type": "string",
            "pattern": "^[A-Z0-9]{10}$",
            "examples": ["ABC123DEFG"]
        },
        "team_id": {
            "title": "Team id",
            "description": "The developer team's 10 characters: developer.apple.com → Membership details.",
            "type": "string",
            "pattern": "^[A-Z0-9]{10}$",
            "examples": ["DEF123GHIJ"]
        },
        "certificate": {
            "title": "Push certificate",
            "description": "Instead of a key: the certificate in PEM form, with its chain if there is one.",
            "type": "string",
            "examples": ["-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n"]
        },
        "private_key": {
            "title": "The certificate's key",
            "description": "In PEM form, not encrypted.",
            "type": "string",
            "writeOnly": true,
            "examples": ["-----BEGIN PRIVATE KEY-----\n…\n-----END PRIVATE KEY-----\n"]
        }
    })
}

/// For whom, and where to.
fn place() -> Value {
    json!({
        "bundle_id": {
            "title": "Bundle id",
            "description": "The app's bundle id: the topic of its notifications, without a push type's ending.",
            "type": "string",
            "pattern": "^[A-Za-z0-9._-]{1,255}$",
            "examples": ["com.example.app"]
        },
        "environment": {
            "title": "Environment",
            "description": "Which addresses the channel serves: those of apps from the store and TestFlight \
                            (production), of apps run from Xcode (sandbox), or both, each by its own parameter \
                            environment. An address without one is taken for the channel's own; with both, for \
                            production.",
            "enum": ["production", "sandbox", "both"],
            "default": "production",
            "examples": ["production"]
        },
        "kinds": {
            "title": "Kinds of address",
            "description": "Which kinds of address the channel serves. Keep ordinary tokens and others (voip, \
                            liveactivity, …) in channels of their own: a route takes a device's newest address \
                            that the channel serves.",
            "type": "array",
            "items": {"enum": KINDS},
            "minItems": 1,
            "default": [DEVICE],
            "examples": [[DEVICE]]
        },
        "base_url": {
            "title": "Base URL",
            "description": "Where notifications are posted to. Change it only for a sandbox or a gateway of yours.",
            "type": "string",
            "format": "uri",
            "default": PRODUCTION_URL,
            "examples": [PRODUCTION_URL]
        },
        "sandbox_base_url": {
            "title": "Base URL of the vendor's sandbox",
            "description": "The same for addresses of the sandbox, where the channel serves both environments.",
            "type": "string",
            "format": "uri",
            "default": SANDBOX_URL,
            "examples": [SANDBOX_URL]
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
