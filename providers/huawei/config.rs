//! A channel's settings: the app, how it proves itself, and what its callbacks are signed with.

use std::fmt;

use schemars::{Schema, json_schema};
use serde_json::{Value, json};
use url::Url;

use crate::contract::ConfigError;
use crate::kit::settings::Fields;
use crate::kit::sign::RsaKey;
use crate::kit::tls;

/// Where messages go unless the channel says otherwise: one host for the whole world.
pub(super) const DEFAULT_BASE_URL: &str = "https://push-api.cloud.huawei.com";

/// Where access tokens come from unless the channel says otherwise.
pub(super) const DEFAULT_TOKEN_URL: &str = "https://oauth-login.cloud.huawei.com/oauth2/v3/token";

/// A channel's settings, read and checked.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) proof: Proof,
    /// `v1/{app}` or `v2/{project}`.
    pub(super) path: String,
    pub(super) app_id: Option<String>,
    pub(super) base_url: Url,
    pub(super) token_url: Url,
    pub(super) callback: Option<CallbackAuth>,
    pub(super) receipt_id: Option<String>,
    /// The activity whose icon shows the number.
    pub(super) badge_class: Option<String>,
    pub(super) test_messages: bool,
    pub(super) ca_pem: Option<String>,
}

/// How the channel proves who it is.
#[derive(Debug)]
pub(super) enum Proof {
    /// A secret buys an access token.
    Secret { client_id: String, secret: Secret },
    /// A key signs the bearer itself.
    Account(Account),
}

/// What is used of a service account key file.
#[derive(Debug)]
#[expect(clippy::struct_field_names, reason = "the vendor's name")]
pub(super) struct Account {
    pub(super) key_id: String,
    pub(super) sub_account: String,
    pub(super) key: RsaKey,
    project_id: Option<String>,
}

/// User name and secret of the callbacks, as in the console.
#[derive(Debug)]
pub(super) struct CallbackAuth {
    pub(super) user: String,
    pub(super) secret: Secret,
}

/// A text that no `Debug` shows.
pub(super) struct Secret(String);

impl Secret {
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Config {
    /// Reads the settings and reports all mistakes at once.
    pub(super) fn read(value: &Value) -> Result<Self, ConfigError> {
        let mut fields = Fields::new(value, "");
        let app_id = read_id(&mut fields, "app_id");
        let project_id = read_id(&mut fields, "project_id");
        let proof = read_proof(&mut fields, app_id);
        let base_url = fields.url("base_url", DEFAULT_BASE_URL);
        let token_url = fields.url("token_url", DEFAULT_TOKEN_URL);
        let callback = read_callback(&mut fields);
        let receipt_id = fields.optional_text("receipt_id").map(ToOwned::to_owned);
        let badge_class = fields.optional_text("badge_class").map(ToOwned::to_owned);
        let test_messages = match fields.value("test_messages") {
            None => Some(false),
            Some(value) => {
                value.as_bool().or_else(|| fields.mistake("test_messages", "must be true or false"))
            }
        };
        let ca_pem = fields.optional_text("ca_pem");
        if let Some(Err(why)) = ca_pem.map(tls::certificates) {
            fields.mistake::<()>("ca_pem", why);
        }
        let of_account = match &proof {
            Some(Proof::Account(account)) => account.project_id.as_deref(),
            _ => None,
        };
        let path = match (project_id, app_id) {
            (Some(project), _) => Some(format!("v2/{project}")),
            (None, Some(app)) => Some(format!("v1/{app}")),
            (None, None) => of_account.map(|project| format!("v2/{project}")),
        };
        if path.is_none() && proof.is_some() {
            fields.mistake::<()>("app_id", "is required: the key names no project");
        }
        fields.finish()?;
        // What is missing here has been reported above.
        let incomplete = || ConfigError::at("", "is incomplete");
        Ok(Self {
            proof: proof.ok_or_else(incomplete)?,
            path: path.ok_or_else(incomplete)?,
            app_id: app_id.map(ToOwned::to_owned),
            base_url: base_url.ok_or_else(incomplete)?,
            token_url: token_url.ok_or_else(incomplete)?,
            callback,
            receipt_id,
            badge_class,
            test_messages: test_messages.unwrap_or_default(),
            ca_pem: ca_pem.map(ToOwned::to_owned),
        })
    }

    /// Where messages are posted to.
    pub(super) fn send_url(&self) -> String {
        format!("{}/{}/messages:send", self.base_url.as_str().trim_end_matches('/'), self.path)
    }
}

/// A number, as the console shows it. It becomes part of a path.
fn read_id<'a>(fields: &mut Fields<'a>, name: &'static str) -> Option<&'a str> {
    let id = fields.optional_text(name)?;
    if is_id(id) { Some(id) } else { fields.mistake(name, "must be a number, as the console shows it") }
}

fn is_id(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn read_proof(fields: &mut Fields<'_>, app_id: Option<&str>) -> Option<Proof> {
    let secret = fields.optional_text("app_secret");
    let account = fields.value("service_account");
    match (secret, account) {
        (Some(_), Some(_)) => {
            fields.mistake("app_secret", "must not stand beside service_account: one of them")
        }
        (None, None) => fields.mistake("app_secret", "is required, or service_account"),
        (None, Some(_)) => read_account(fields).map(Proof::Account),
        (Some(secret), None) => match app_id {
            Some(id) => Some(Proof::Secret { client_id: id.to_owned(), secret: Secret(secret.to_owned()) }),
            None if fields.value("app_id").is_some() => None,
            None => fields.mistake("app_id", "is required with app_secret"),
        },
    }
}

/// The key as the console hands it out: a JSON file, given as an object or as its text.
fn read_account(fields: &mut Fields<'_>) -> Option<Account> {
    const NAME: &str = "service_account";
    let parsed;
    let value = match fields.value(NAME)? {
        Value::String(text) => match serde_json::from_str::<Value>(text) {
            Ok(value) => {
                parsed = value;
                &parsed
            }
            Err(_) => return fields.mistake(NAME, "is no JSON: paste the whole key file"),
        },
        value => value,
    };
    let mut inner = Fields::new(value, "/service_account");
    let key_id = inner.text("key_id").map(ToOwned::to_owned);
    let sub_account = inner.text("sub_account").map(ToOwned::to_owned);
    let key = match inner.text("private_key").map(RsaKey::from_pem) {
        Some(Ok(key)) => Some(key),
        Some(Err(why)) => inner.mistake("private_key", why),
        None => None,
    };
    let project_id = read_id(&mut inner, "project_id").map(ToOwned::to_owned);
    // Fields that nobody asks for are the vendor's business.
    fields.absorb(inner.finish_tolerant());
    Some(Account { key_id: key_id?, sub_account: sub_account?, key: key?, project_id })
}

fn read_callback(fields: &mut Fields<'_>) -> Option<CallbackAuth> {
    let user = fields.optional_text("callback_user").map(ToOwned::to_owned);
    let secret = fields.optional_text("callback_secret").map(|text| Secret(text.to_owned()));
    match (user, secret) {
        (Some(user), Some(secret)) => Some(CallbackAuth { user, secret }),
        (None, None) => None,
        (None, Some(_)) => fields.mistake("callback_user", "is required with callback_secret"),
        (Some(_), None) => fields.mistake("callback_secret", "is required with callback_user"),
    }
}

/// The JSON Schema of the settings: validates the API and draws the ops form.
pub(super) fn schema() -> Schema {
    let secret = |title: &str, description: &str, example: &str| {
        let mut schema = text(title, description, example);
        schema["writeOnly"] = json!(true);
        schema
    };
    json_schema!({
        "title": "Huawei",
        "type": "object",
        "additionalProperties": false,
        "oneOf": [{"required": ["app_id", "app_secret"]}, {"required": ["service_account"]}],
        "properties": {
            "app_id": id(
                "App id",
                "AppGallery Connect → Project settings → General information → App information: Client ID of the app.",
                "100000001"
            ),
            "app_secret": secret("App secret", "The same place: Client secret of the app.", "0123456789abcdef"),
            "service_account": account_schema(),
            "project_id": id(
                "Project id",
                "Send by project (v2) instead of by app (v1). AppGallery Connect → Project settings → Project ID.",
                "736430079244623000"
            ),
            "callback_user": text(
                "Receipts: user name",
                "As entered in AppGallery Connect → Push Kit → Settings → receipt status. With it, unsigned reports are refused.",
                "push-demo"
            ),
            "callback_secret": secret("Receipts: secret", "The same place.", "c2VjcmV0LWtleQ=="),
            "receipt_id": text(
                "Receipts: configuration",
                "Which of the console's receipt configurations reports, if not the default one.",
                "RCP1A2B3C"
            ),
            "badge_class": text(
                "Activity of the badge",
                "The activity that the launcher starts. Without it no number is shown on the icon.",
                "com.example.app.MainActivity"
            ),
            "test_messages": {
                "title": "Test messages",
                "description": "Marks all messages as tests: 500 a day and app, free of Huawei's other limits.",
                "type": "boolean",
                "default": false,
                "examples": [false]
            },
            "base_url": url("Base URL", "Where messages are posted to.", DEFAULT_BASE_URL),
            "token_url": url("Token URL", "Where access tokens are asked for.", DEFAULT_TOKEN_URL),
            "ca_pem": text(
                "Certificate authority",
                "Certificates in PEM form to trust beside the system's authorities, for a sandbox or a gateway of yours.",
                "-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n"
            )
        }
    })
}

fn text(title: &str, description: &str, example: &str) -> Value {
    json!({"title": title, "description": description, "type": "string", "minLength": 1, "examples": [example]})
}

fn id(title: &str, description: &str, example: &str) -> Value {
    let mut schema = text(title, description, example);
    schema["pattern"] = json!("^[0-9]{1,32}$");
    schema
}

fn url(title: &str, description: &str, default: &str) -> Value {
    let description = format!("{description} Change it only for a sandbox or a gateway of yours.");
    let mut schema = text(title, &description, default);
    schema["format"] = json!("uri");
    schema["default"] = json!(default);
    schema
}

fn account_schema() -> Value {
    json!({
        "title": "Service account key",
        "description": "Instead of the app secret. HUAWEI Developers → API Console → Credentials → Service account key. \
                        Paste the whole JSON, or give it as an object.",
        "writeOnly": true,
        "examples": [{
            "project_id": "736430079244623000",
            "key_id": "0123456789abcdef",
            "private_key": "-----BEGIN PRIVATE KEY-----\n…\n-----END PRIVATE KEY-----\n",
            "sub_account": "100000001"
        }],
        "anyOf": [
            {"type": "object", "required": ["key_id", "private_key", "sub_account"]},
            {"type": "string", "minLength": 2, "contentMediaType": "application/json"}
        ]
    })
}
