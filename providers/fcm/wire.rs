//! The vendor's message and reply as on the wire (FCM HTTP v1, discovery document of 2026-10-23). Names in
//! snake_case, as all official SDKs send them; Google takes both.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A message without its target, which is spliced in for each one.
#[derive(Debug, Serialize)]
pub(super) struct Message<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) notification: Option<Notification<'a>>,
    pub(super) data: BTreeMap<&'a str, &'a str>,
    pub(super) android: Android<'a>,
    pub(super) apns: Apns<'a>,
    pub(super) webpush: Webpush<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fcm_options: Option<FcmOptions<'a>>,
}

#[derive(Debug, Serialize)]
pub(super) struct Notification<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) image: Option<&'a str>,
}

#[derive(Debug, Serialize)]
pub(super) struct Android<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) collapse_key: Option<&'a str>,
    pub(super) priority: &'static str,
    /// A protobuf Duration: seconds and an `s`.
    pub(super) ttl: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) notification: Option<AndroidNotification<'a>>,
}

#[derive(Debug, Serialize)]
pub(super) struct AndroidNotification<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) channel_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sound: Option<&'a str>,
    pub(super) tag: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) notification_count: Option<u32>,
}

#[derive(Debug, Serialize)]
pub(super) struct Apns<'a> {
    pub(super) headers: ApnsHeaders<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) payload: Option<ApnsPayload<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::struct_field_names, reason = "the vendor's names")]
pub(super) struct ApnsHeaders<'a> {
    pub(super) apns_collapse_id: &'a str,
    /// Seconds since the epoch; 0: now or never.
    pub(super) apns_expiration: String,
    pub(super) apns_priority: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) apns_push_type: Option<&'static str>,
}

#[derive(Debug, Serialize)]
pub(super) struct ApnsPayload<'a> {
    pub(super) aps: Aps<'a>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Aps<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) badge: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sound: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) category: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) thread_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) interruption_level: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_available: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mutable_content: Option<u8>,
}

#[derive(Debug, Serialize)]
pub(super) struct Webpush<'a> {
    pub(super) headers: WebpushHeaders<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fcm_options: Option<WebpushOptions<'a>>,
}

#[derive(Debug, Serialize)]
pub(super) struct WebpushHeaders<'a> {
    #[serde(rename = "TTL")]
    pub(super) ttl: String,
    #[serde(rename = "Topic")]
    pub(super) topic: &'a str,
    #[serde(rename = "Urgency")]
    pub(super) urgency: &'static str,
}

#[derive(Debug, Serialize)]
pub(super) struct WebpushOptions<'a> {
    pub(super) link: &'a str,
}

#[derive(Debug, Serialize)]
pub(super) struct FcmOptions<'a> {
    pub(super) analytics_label: &'a str,
}

/// HTTP 200.
#[derive(Debug, Deserialize)]
pub(super) struct Accepted {
    /// `projects/{project}/messages/{id}`.
    pub(super) name: String,
}

/// Any other status: `google.rpc.Status`. Everything may be missing; what has another type than it should is read
/// as missing.
#[derive(Debug, Deserialize)]
pub(super) struct Refused {
    pub(super) error: serde_json::Value,
}

/// The token endpoint's HTTP 200.
#[derive(Deserialize)]
pub(super) struct AccessToken {
    pub(super) access_token: String,
    pub(super) expires_in: u64,
}

/// The token endpoint's refusal (RFC 6749 §5.2).
#[derive(Debug, Deserialize)]
pub(super) struct TokenRefused {
    pub(super) error: String,
    #[serde(default)]
    pub(super) error_description: Option<String>,
}

/// What is asserted at the token endpoint (RFC 7523).
#[derive(Debug, Serialize)]
pub(super) struct Claims<'a> {
    pub(super) iss: &'a str,
    pub(super) aud: &'static str,
    pub(super) iat: u64,
    pub(super) exp: u64,
    pub(super) scope: &'static str,
}
