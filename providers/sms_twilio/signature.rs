//! Whether a callback is the vendor's: `X-Twilio-Signature`, an HMAC over the URL and the form
//! (twilio-python 9.13 `request_validator.py`, twilio-js 6.2 `webhooks.ts`).

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;
use url::form_urlencoded;

use super::config::Config;
use crate::contract::CallbackRequest;

/// What the vendor says of how it signed; absent unless a key of its own is used (public beta, 2026-09).
const SETTINGS: &str = "x-twilio-webhooks-signature-settings";

/// Whether one of the channel's secrets has signed this.
pub(super) fn verifies(config: &Config, request: &CallbackRequest) -> bool {
    let text = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    let Some(signature) = text("x-twilio-signature").and_then(|signature| STANDARD.decode(signature).ok())
    else {
        return false;
    };
    let Some(key) = key(config, text(SETTINGS).unwrap_or_default()) else { return false };
    let Some(form) = signed_form(request) else { return false };
    // The vendor is not consistent about the port.
    variants(&request.url)
        .iter()
        .any(|url| hmac::verify(&key, format!("{url}{form}").as_bytes(), &signature).is_ok())
}

/// The key that the vendor names, or the account's own.
fn key(config: &Config, settings: &str) -> Option<hmac::Key> {
    let named = |name: &str| {
        settings
            .split(',')
            .filter_map(|part| part.trim().split_once('='))
            .find(|(n, _)| *n == name)
            .map(|(_, v)| v)
    };
    let secret = match named("key") {
        Some(id) => config.shared_keys.get(id)?,
        None => config.auth_token.as_ref()?,
    };
    let algorithm = match named("algorithm") {
        None | Some("HMAC_SHA1") => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        Some("HMAC_SHA256") => hmac::HMAC_SHA256,
        Some(_) => return None,
    };
    Some(hmac::Key::new(algorithm, secret.expose_secret().as_bytes()))
}

/// What is signed behind the URL: each key with each of its values, sorted, none twice. A body that is no form is signed
/// by its hash in the URL.
fn signed_form(request: &CallbackRequest) -> Option<String> {
    if let Some(hash) = query(&request.url, "bodySHA256") {
        let ours = digest(&SHA256, &request.body);
        let ours = ours.as_ref().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        return verify_slices_are_equal(ours.as_bytes(), hash.as_bytes()).is_ok().then(String::new);
    }
    let mut fields: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(&request.body).into_owned() {
        fields.entry(name).or_default().insert(value);
    }
    let mut text = String::new();
    for (name, values) in &fields {
        for value in values {
            text.extend([name.as_str(), value.as_str()]);
        }
    }
    Some(text)
}

/// The first value of a query parameter.
pub(super) fn query(url: &str, name: &str) -> Option<String> {
    let (_, query) = url.split_once('?')?;
    let query = query.split('#').next().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes()).find(|(n, _)| n == name).map(|(_, value)| value.into_owned())
}

/// The URL as it came, and with its port taken away or added. Nothing else is touched: the vendor signs what it was given,
/// letter by letter.
fn variants(url: &str) -> Vec<String> {
    let mut variants = vec![url.to_owned()];
    let Some((scheme, rest)) = url.split_once("://") else { return variants };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let usual = if scheme == "https" { 443 } else { 80 };
    // The colons of an IPv6 address stand before its bracket.
    let port =
        authority.rfind(':').filter(|at| authority[at + 1..].bytes().all(|byte| byte.is_ascii_digit()));
    variants.push(match port {
        Some(at) => format!("{scheme}://{}{path}", &authority[..at]),
        None => format!("{scheme}://{authority}:{usual}{path}"),
    });
    variants
}
