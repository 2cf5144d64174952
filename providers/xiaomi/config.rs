//! A channel's settings: the app's secret, where its phones are, and its notification channels.

use std::collections::BTreeMap;
use std::fmt;

use http::HeaderValue;
use schemars::{Schema, json_schema};
use serde_json::{Value, json};
use url::Url;

use super::region::Region;
use crate::contract::ConfigError;
use crate::kit::settings::{Fields, read_url};
use crate::kit::tls;

/// A channel's settings, read and checked.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) secret: AppSecret,
    pub(super) package_name: String,
    /// Where phones are whose address does not say.
    pub(super) region: Region,
    pub(super) private_channel_id: Option<String>,
    pub(super) public_channel_id: Option<String>,
    /// For messages without a title, which the vendor refuses.
    pub(super) default_title: Option<String>,
    base_url: Option<Url>,
    base_urls: BTreeMap<Region, Url>,
    pub(super) ca_pem: Option<String>,
}

/// The app's secret: every request carries it. Its `Debug` shows nothing.
pub(super) struct AppSecret {
    text: String,
    pub(super) header: HeaderValue,
}

impl AppSecret {
    fn new(text: &str) -> Option<Self> {
        let mut header = HeaderValue::try_from(format!("key={text}")).ok()?;
        header.set_sensitive(true);
        Some(Self { text: text.to_owned(), header })
    }

    /// For scrubbing it from a vendor's words.
    pub(super) fn expose(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for AppSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AppSecret(…)")
    }
}

impl Config {
    /// Reads the settings and reports all mistakes at once.
    pub(super) fn read(value: &Value) -> Result<Self, ConfigError> {
        let mut fields = Fields::new(value, "");
        let secret = match fields.text("app_secret").map(AppSecret::new) {
            Some(None) => fields.mistake("app_secret", "must be plain letters and digits"),
            Some(secret) => secret,
            None => None,
        };
        let package_name = fields.text("package_name");
        if package_name.is_some_and(|name| !is_package_name(name)) {
            fields.mistake::<()>("package_name", "must be one Android package name, as in com.example.app");
        }
        let region = match fields.optional_text("region").map(Region::named) {
            Some(None) => fields.mistake("region", format!("must be one of {}", Region::names())),
            Some(region) => region,
            None => None,
        };
        let channel_id = |fields: &mut Fields<'_>, name| fields.optional_text(name).map(ToOwned::to_owned);
        let private_channel_id = channel_id(&mut fields, "private_channel_id");
        let public_channel_id = channel_id(&mut fields, "public_channel_id");
        let default_title = fields.optional_text("default_title").map(ToOwned::to_owned);
        let base_url = match fields.value("base_url") {
            Some(_) => fields.url("base_url", ""),
            None => None,
        };
        let base_urls = read_base_urls(&mut fields);
        let ca_pem = fields.optional_text("ca_pem");
        if let Some(Err(why)) = ca_pem.map(tls::certificates) {
            fields.mistake::<()>("ca_pem", why);
        }
        fields.finish()?;
        // What is missing here has been reported above.
        let incomplete = || ConfigError::at("", "is incomplete");
        Ok(Self {
            secret: secret.ok_or_else(incomplete)?,
            package_name: package_name.ok_or_else(incomplete)?.to_owned(),
            region: region.unwrap_or_default(),
            private_channel_id,
            public_channel_id,
            default_title,
            base_url,
            base_urls,
            ca_pem: ca_pem.map(ToOwned::to_owned),
        })
    }

    /// An address of a region's service.
    pub(super) fn url(&self, region: Region, path: &str) -> String {
        let base =
            self.base_urls.get(&region).or(self.base_url.as_ref()).map_or(region.base_url(), Url::as_str);
        format!("{}{path}", base.trim_end_matches('/'))
    }

    /// Whether no region is called by TLS.
    pub(super) fn without_tls(&self) -> bool {
        Region::ALL.iter().all(|region| self.url(*region, "").starts_with("http://"))
    }
}

fn read_base_urls(fields: &mut Fields<'_>) -> BTreeMap<Region, Url> {
    const NAME: &str = "base_urls";
    let mut read = BTreeMap::new();
    let Some(value) = fields.value(NAME) else { return read };
    let Some(named) = value.as_object() else {
        fields.mistake::<()>(NAME, "must be an object, region to URL");
        return read;
    };
    for (name, url) in named {
        let at = format!("{NAME}/{name}");
        match (Region::named(name), url.as_str().map(read_url)) {
            (None, _) => fields.mistake::<()>(&at, format!("is no region; they are {}", Region::names())),
            (_, None) => fields.mistake(&at, "must be a string"),
            (_, Some(Err(why))) => fields.mistake(&at, why),
            (Some(region), Some(Ok(url))) => {
                read.insert(region, url);
                None
            }
        };
    }
    read
}

/// It becomes part of a form and of a resource's name.
fn is_package_name(text: &str) -> bool {
    text.len() <= 255
        && text.contains('.')
        && text.split('.').all(|part| {
            part.starts_with(|c: char| c.is_ascii_alphabetic())
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        })
}

/// The JSON Schema of the settings: validates the API and draws the ops form.
pub(super) fn schema() -> Schema {
    json_schema!({
        "title": "Xiaomi",
        "type": "object",
        "additionalProperties": false,
        "required": ["app_secret", "package_name"],
        "properties": {
            "app_secret": {
                "title": "AppSecret",
                "description": "Xiaomi developer site → Push → the app → App information → AppSecret (neither AppID nor \
                                AppKey: those belong into the app).",
                "writeOnly": true,
                "type": "string",
                "minLength": 1,
                "examples": ["AbCdEfGhIjKlMnOpQrSt=="]
            },
            "package_name": {
                "title": "Package name",
                "description": "The Android package that the secret was made for.",
                "type": "string",
                "pattern": "^[A-Za-z][A-Za-z0-9_]*(\\.[A-Za-z][A-Za-z0-9_]*)+$",
                "maxLength": 255,
                "examples": ["com.example.app"]
            },
            "region": {
                "title": "Region",
                "description": "Where phones are whose address names no region. A token works in its own region only.",
                "type": "string",
                "enum": Region::ALL.map(Region::name),
                "default": Region::default().name(),
                "examples": [Region::default().name()]
            },
            "private_channel_id": text(
                "Private channel",
                "Id of an approved private notification channel, for transactional messages whose category names none.",
                "118442"
            ),
            "public_channel_id": text(
                "Public channel",
                "Id of a public notification channel, for marketing messages whose category names none.",
                "118443"
            ),
            "default_title": text(
                "Title where there is none",
                "Xiaomi refuses a notification without a title. Left out: the text stands in its place.",
                "Example Shop"
            ),
            "base_url": url(
                "Base URL",
                "Where all regions' messages are posted to. Set it only for a sandbox or a gateway of yours.",
            ),
            "base_urls": base_urls_schema(),
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

fn url(title: &str, description: &str) -> Value {
    let example = Region::China.base_url();
    json!({"title": title, "description": description, "type": "string", "format": "uri", "examples": [example]})
}

fn base_urls_schema() -> Value {
    let of = |region: Region| {
        let title = format!("Base URL: {}", region.name());
        (region.name().to_owned(), url(&title, "Where this region's messages are posted to."))
    };
    json!({
        "title": "Base URLs by region",
        "description": "The same for single regions; comes before the base URL.",
        "type": "object",
        "additionalProperties": false,
        "properties": Value::Object(Region::ALL.map(of).into_iter().collect()),
        "examples": [{"ru": Region::Russia.base_url()}]
    })
}
