//! A channel's settings: the service account key and, for tests and private gateways, other addresses.

use schemars::{Schema, json_schema};
use serde_json::Value;
use url::Url;

use crate::contract::ConfigError;
use crate::kit::settings::Fields;
use crate::kit::sign::RsaKey;
use crate::kit::tls;

/// Where messages go unless the channel says otherwise.
pub(super) const DEFAULT_BASE_URL: &str = "https://fcm.googleapis.com";

/// Where access tokens come from unless the key or the channel says otherwise.
pub(super) const DEFAULT_TOKEN_URL: &str = "https://oauth2.googleapis.com/token";

/// A channel's settings, read and checked.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) account: ServiceAccount,
    pub(super) project_id: String,
    pub(super) base_url: Url,
    pub(super) token_url: Url,
    pub(super) ca_pem: Option<String>,
}

/// What is used of a service account key.
#[derive(Debug)]
pub(super) struct ServiceAccount {
    pub(super) client_email: String,
    pub(super) key_id: Option<String>,
    pub(super) key: RsaKey,
    project_id: Option<String>,
    token_url: Option<Url>,
}

impl Config {
    /// Reads the settings and reports all mistakes at once.
    pub(super) fn read(value: &Value) -> Result<Self, ConfigError> {
        let mut fields = Fields::new(value, "");
        let account = read_account(&mut fields);
        let named = fields.optional_text("project_id");
        if named.is_some_and(|id| !is_project_id(id)) {
            fields.mistake::<()>("project_id", "must be a Firebase project id, as in demo-proj");
        }
        let base_url = fields.url("base_url", DEFAULT_BASE_URL);
        let token_url = match fields.value("token_url") {
            Some(_) => fields.url("token_url", DEFAULT_TOKEN_URL),
            None => account.as_ref().and_then(|account| account.token_url.clone()),
        };
        let ca_pem = fields.optional_text("ca_pem");
        if let Some(Err(why)) = ca_pem.map(tls::certificates) {
            fields.mistake::<()>("ca_pem", why);
        }
        let project_id = named.or(account.as_ref().and_then(|account| account.project_id.as_deref()));
        if project_id.is_none() && account.is_some() {
            fields.mistake::<()>("project_id", "is required: the key names no project");
        }
        let project_id = project_id.map(ToOwned::to_owned);
        fields.finish()?;
        // What is missing here has been reported above.
        let incomplete = || ConfigError::at("", "is incomplete");
        Ok(Self {
            account: account.ok_or_else(incomplete)?,
            project_id: project_id.ok_or_else(incomplete)?,
            base_url: base_url.ok_or_else(incomplete)?,
            token_url: match token_url {
                Some(url) => url,
                None => Url::parse(DEFAULT_TOKEN_URL).map_err(|_| incomplete())?,
            },
            ca_pem: ca_pem.map(ToOwned::to_owned),
        })
    }
}

/// The key as the console hands it out: a JSON file, given as an object or as its text.
fn read_account(fields: &mut Fields<'_>) -> Option<ServiceAccount> {
    const NAME: &str = "service_account";
    let parsed;
    let value = match fields.value(NAME) {
        None => return fields.text(NAME).and(None),
        Some(Value::String(text)) => match serde_json::from_str::<Value>(text) {
            Ok(value) => {
                parsed = value;
                &parsed
            }
            // The parser's words may quote the text, and the text is a secret.
            Err(_) => return fields.mistake(NAME, "is no JSON: paste the whole key file"),
        },
        Some(value) => value,
    };
    if value.get("project_info").is_some() {
        let why = "is google-services.json, which belongs into the app; a service account key is needed \
                   (Firebase console → Project settings → Service accounts → Generate new private key)";
        return fields.mistake(NAME, why);
    }
    let mut inner = Fields::new(value, "/service_account");
    // Fields that nobody asks for are tolerated: Google adds some from time to time.
    if inner.optional_text("type").is_some_and(|kind| kind != "service_account") {
        inner.mistake::<()>("type", "must be service_account");
    }
    let client_email = inner.text("client_email").map(ToOwned::to_owned);
    let key_id = inner.optional_text("private_key_id").map(ToOwned::to_owned);
    let key = match inner.text("private_key").map(RsaKey::from_pem) {
        Some(Ok(key)) => Some(key),
        Some(Err(why)) => inner.mistake("private_key", why),
        None => None,
    };
    let project_id = inner.optional_text("project_id").map(ToOwned::to_owned);
    if project_id.as_deref().is_some_and(|id| !is_project_id(id)) {
        inner.mistake::<()>("project_id", "must be a Firebase project id, as in demo-proj");
    }
    let token_url = match inner.value("token_uri") {
        Some(_) => inner.url("token_uri", DEFAULT_TOKEN_URL),
        None => None,
    };
    fields.absorb(inner.finish_tolerant());
    Some(ServiceAccount { client_email: client_email?, key_id, key: key?, project_id, token_url })
}

/// It becomes part of a path. Old projects have a domain before a colon (`example.com:demo`).
fn is_project_id(text: &str) -> bool {
    text.len() <= 128
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:_".contains(&byte))
        && text.bytes().any(|byte| byte.is_ascii_alphanumeric())
}

/// The JSON Schema of the settings: validates the API and draws the ops form.
pub(super) fn schema() -> Schema {
    json_schema!({
        "title": "Firebase Cloud Messaging",
        "type": "object",
        "additionalProperties": false,
        "required": ["service_account"],
        "properties": {
            "service_account": {
                "title": "Service account key",
                "description": "The key file: Firebase console → Project settings → Service accounts → Generate \
                                new private key. Paste the whole JSON, or give it as an object. It needs the \
                                permission cloudmessaging.messages.create.",
                "writeOnly": true,
                "examples": [{
                    "type": "service_account",
                    "project_id": "demo-proj",
                    "private_key_id": "0123456789abcdef",
                    "private_key": "-----BEGIN PRIVATE KEY-----\n…\n-----END PRIVATE KEY-----\n",
                    "client_email": "firebase-adminsdk@demo-proj.iam.gserviceaccount.com",
                    "token_uri": DEFAULT_TOKEN_URL
                }],
                "anyOf": [
                    {"type": "object", "required": ["client_email", "private_key"]},
                    {"type": "string", "minLength": 2, "contentMediaType": "application/json"}
                ]
            },
            "project_id": {
                "title": "Project id",
                "description": "The Firebase project to send for, if it is not the key's own.",
                "type": "string",
                "pattern": "^[A-Za-z0-9._:-]{1,128}$",
                "examples": ["demo-proj"]
            },
            "base_url": {
                "title": "Base URL",
                "description": "Where messages are posted to. Change it only for a sandbox or a gateway of yours.",
                "type": "string",
                "format": "uri",
                "default": DEFAULT_BASE_URL,
                "examples": [DEFAULT_BASE_URL]
            },
            "token_url": {
                "title": "Token URL",
                "description": "Where access tokens are asked for, if not where the key says.",
                "type": "string",
                "format": "uri",
                "examples": [DEFAULT_TOKEN_URL]
            },
            "ca_pem": {
                "title": "Certificate authority",
                "description": "Certificates in PEM form to trust beside the system's authorities, for a \
                                sandbox or a gateway of yours.",
                "type": "string",
                "examples": ["-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n"]
            }
        }
    })
}
