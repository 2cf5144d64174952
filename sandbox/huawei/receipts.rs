//! Receipts as Huawei posts them: two versions of a body, and a header that signs neither of them.
//!
//! `X-HUAWEI-CALLBACK-ID` proves that the sender knows the secret, not what it sends: HMAC-SHA256 over time, nonce and
//! user name. New configurations use the Base64-decoded secret as the key, old ones its bytes as they are.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Statuses in one request.
pub(super) const MAX_STATUSES: usize = 100;
/// Shown, or given to the app.
pub(super) const DELIVERED: i64 = 0;
/// Replaced by a newer push with the same collapse key, or one too many for a phone that is offline.
pub(super) const REPLACED: i64 = 15;
/// Too many messages for this device today.
pub(super) const DEVICE_QUOTA: i64 = 102;

/// The header that carries the proof.
pub(super) const HEADER: &str = "x-huawei-callback-id";

/// Which body a configuration asks for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Version {
    #[default]
    V1,
    V2,
}

/// How the secret becomes a key.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum KeyMode {
    /// It is Base64: configurations of today.
    #[default]
    Base64,
    /// Its bytes are the key: old configurations.
    Plain,
}

/// A receipt configuration, as an operator makes it in AppGallery Connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Configuration {
    /// What a message names; the default configuration has an empty one.
    #[serde(default)]
    pub(super) receipt_id: String,
    pub(super) url: String,
    #[serde(default)]
    pub(super) version: Version,
    /// Without user name and secret there is no header.
    #[serde(default)]
    pub(super) user_name: String,
    #[serde(default)]
    pub(super) secret: String,
    #[serde(default)]
    pub(super) key_mode: KeyMode,
}

impl Configuration {
    /// The value of the header, unless nothing was configured to sign with.
    pub(super) fn proof(&self, at_ms: u64, nonce: &str) -> Option<String> {
        if self.user_name.is_empty() || self.secret.is_empty() {
            return None;
        }
        let key = match self.key_mode {
            KeyMode::Base64 => STANDARD.decode(&self.secret).ok()?,
            KeyMode::Plain => self.secret.as_bytes().to_vec(),
        };
        let signed = format!("{at_ms}{nonce}{}", self.user_name);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), signed.as_bytes());
        Some(format!("timestamp={at_ms}; nonce={nonce}; value={}", STANDARD.encode(tag)))
    }

    /// Why it cannot be used.
    pub(super) fn problem(&self) -> Option<&'static str> {
        let local = ["http://127.0.0.1", "http://localhost", "https://"];
        if !local.iter().any(|start| self.url.starts_with(start)) {
            return Some("url must be https, or an address of this machine");
        }
        if self.key_mode == KeyMode::Base64 && STANDARD.decode(&self.secret).is_err() {
            return Some("secret must be Base64 where key_mode is base64");
        }
        None
    }
}

/// One target's news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) request_id: String,
    pub(super) appid: String,
    pub(super) package: String,
    pub(super) token: String,
    pub(super) bi_tag: String,
    pub(super) status: i64,
    pub(super) at_ms: u64,
}

/// The body that tells this, in the version that the configuration asks for.
pub(super) fn body(version: Version, events: &[Event]) -> Value {
    let v1 = |event: &Event| {
        json!({
            "biTag": event.bi_tag, "appid": event.appid, "token": event.token, "status": event.status,
            "timestamp": event.at_ms, "requestId": event.request_id,
        })
    };
    let v2 = |event: &Event| {
        json!({
            "biTag": event.bi_tag, "pushType": 0, "appPackageName": event.package, "token": event.token,
            "requestId": event.request_id,
            "deliveryStatus": {"result": event.status, "timestamp": event.at_ms},
        })
    };
    let statuses: Vec<_> = match version {
        Version::V1 => events.iter().map(v1).collect(),
        Version::V2 => events.iter().map(v2).collect(),
    };
    json!({"statuses": statuses})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(key_mode: KeyMode) -> Configuration {
        Configuration {
            receipt_id: String::new(),
            url: "http://127.0.0.1:9/r".to_owned(),
            version: Version::V1,
            user_name: "push-demo".to_owned(),
            secret: "c2VjcmV0LWtleS1mb3ItdGVzdHMtb25seS0wMDAx".to_owned(),
            key_mode,
        }
    }

    #[test]
    fn the_proof_is_that_of_the_vectors_in_both_key_modes() {
        let nonce = "a07bfa17-6d82-4b53-a9a2-07cfef5ceef1";
        for (mode, value) in [
            (KeyMode::Base64, "hrFV4/YaK9HS9z/0jwdNC6yAsQ6e1TnOYlkWoaC2ZzQ="),
            (KeyMode::Plain, "rqFMGrcRpGNYgIBu2GIRuAD5gPAkcYjthZql1btPGMI="),
        ] {
            let proof = configuration(mode).proof(1_563_105_451_261, nonce).unwrap();
            assert_eq!(proof, format!("timestamp=1563105451261; nonce={nonce}; value={value}"));
        }
    }

    #[test]
    fn without_a_user_name_there_is_no_proof() {
        let unsigned = Configuration { user_name: String::new(), ..configuration(KeyMode::Plain) };
        assert_eq!(unsigned.proof(1, "n"), None);
    }

    #[test]
    fn a_status_has_the_fields_of_the_version_that_was_asked_for() {
        let event = Event {
            request_id: "157278422841836431010901".to_owned(),
            appid: "100001".to_owned(),
            package: "com.example.app".to_owned(),
            token: "IQ1".to_owned(),
            bi_tag: "b".to_owned(),
            status: 2,
            at_ms: 1_607_832_761_768,
        };
        assert_eq!(
            body(Version::V1, std::slice::from_ref(&event)),
            json!({"statuses": [{"biTag": "b", "appid": "100001", "token": "IQ1", "status": 2,
                "timestamp": 1_607_832_761_768_u64, "requestId": "157278422841836431010901"}]})
        );
        assert_eq!(
            body(Version::V2, &[event])["statuses"][0]["deliveryStatus"],
            json!({"result": 2, "timestamp": 1_607_832_761_768_u64})
        );
    }
}
