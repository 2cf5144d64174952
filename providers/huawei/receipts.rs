//! The vendor's callback → receipts. Signed where user name and secret are configured; the secret in the URL
//! authenticates the others (the gateway has compared it before).

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::config::CallbackAuth;
use crate::contract::{CallbackReply, CallbackRequest, Reason, Receipt, ReceiptEvent, VendorEcho, Witness};
use crate::kit::scalar::Scalar;
use crate::kit::{echo, json};

const SIGNATURE: &str = "x-huawei-callback-id";

/// How far the vendor's clock may be from ours; also how long a copied callback could be repeated. A repeat changes
/// nothing: receipts are idempotent.
const WINDOW: Duration = Duration::from_mins(5);

/// The year 9999: a later time is a mistake, and no sum with it may overflow.
const MAX_MS: u64 = 253_402_300_799_000;

/// What a status reports (HMSCore receipt guide; those of V2: HarmonyOS Push Kit). `None`: not decided yet.
fn event(status: i64) -> Option<ReceiptEvent> {
    use Reason::{
        ContentRejected, DeviceUnavailable, InvalidToken, PayloadInvalid, QuotaExceeded, Superseded,
        Unclassified, VendorUnavailable,
    };
    let reason = match status {
        0 => return Some(ReceiptEvent::Delivered),
        // A data message waits for the app; the phone was started and not unlocked yet.
        27 | 51 => return None,
        // A newer one of its group took its place, or more than 120 wait: another channel may not bring it back.
        15 => return Some(ReceiptEvent::ended(Superseded)),
        // The app is gone; the token is not this phone's.
        2 | 5 => InvalidToken,
        // Notifications switched off; offline for 30 days; another user of the phone; not shown; not started; controlled
        // by Huawei: the token may come back.
        6 | 10 | 22 | 151 | 188 | 201 => DeviceUnavailable,
        14 => VendorUnavailable,
        // The tapped page is missing; the profile is.
        31 | 144 => PayloadInvalid,
        // 3000 a day and phone; marketing's few a day; a widget's.
        102 | 256 | 262 => QuotaExceeded,
        259 => ContentRejected,
        _ => Unclassified,
    };
    Some(ReceiptEvent::failed(reason))
}

/// A callback's body. Its reports are read one by one, so that an odd one costs no other.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Body<'a> {
    #[serde(borrow)]
    statuses: Vec<&'a RawValue>,
}

/// A report of either version.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Report<'a> {
    #[serde(borrow)]
    bi_tag: Scalar<'a>,
    #[serde(borrow)]
    token: Scalar<'a>,
    #[serde(borrow)]
    request_id: Scalar<'a>,
    #[serde(borrow)]
    status: Scalar<'a>,
    #[serde(borrow)]
    timestamp: Scalar<'a>,
    /// V2 has the status and its time here.
    #[serde(borrow)]
    delivery_status: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DeliveryStatus<'a> {
    #[serde(borrow)]
    result: Scalar<'a>,
    #[serde(borrow)]
    timestamp: Scalar<'a>,
}

/// Reads a callback.
pub(super) fn read(request: &CallbackRequest, auth: Option<&CallbackAuth>) -> CallbackReply {
    let Body { statuses } = json::object(&request.body).unwrap_or_default();
    if let Some(auth) = auth
        && !is_signed(request, auth)
    {
        // The console tries the address before it knows the secret. Nothing is reported, nothing is believed.
        let status = if statuses.is_empty() { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
        return reply(Vec::new(), false, status);
    }
    reply(statuses.into_iter().filter_map(receipt).collect(), true, StatusCode::OK)
}

fn reply(receipts: Vec<Receipt>, authenticated: bool, status: StatusCode) -> CallbackReply {
    let body = if status == StatusCode::OK {
        r#"{"code":"0","message":"success"}"#
    } else {
        r#"{"code":"1","message":"signature missing or wrong"}"#
    };
    CallbackReply { receipts, authenticated, status, body: body.into() }
}

/// `timestamp=…; nonce=…; value=…`, with or without the blank.
fn is_signed(request: &CallbackRequest, auth: &CallbackAuth) -> bool {
    let header = request.headers.get(SIGNATURE).and_then(|value| value.to_str().ok());
    let Some(signature) = header.and_then(Signature::read) else { return false };
    signature.is_fresh(request.received_at) && signature.is_from(auth)
}

/// The vendor's header, taken apart.
#[derive(Debug)]
pub(super) struct Signature<'a> {
    pub(super) timestamp: &'a str,
    pub(super) nonce: &'a str,
    pub(super) value: Vec<u8>,
}

impl<'a> Signature<'a> {
    pub(super) fn read(header: &'a str) -> Option<Self> {
        let field = |name: &str| {
            header
                .split(';')
                .find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
                .map(str::trim)
        };
        let value = STANDARD.decode(field("value")?).ok()?;
        Some(Self { timestamp: field("timestamp")?, nonce: field("nonce")?, value })
    }

    fn is_fresh(&self, received_at: SystemTime) -> bool {
        let Ok(ms) = self.timestamp.parse::<u64>() else { return false };
        let made = SystemTime::UNIX_EPOCH + Duration::from_millis(ms.min(MAX_MS));
        let apart = match received_at.duration_since(made) {
            Ok(apart) => apart,
            Err(error) => error.duration(),
        };
        apart <= WINDOW
    }

    /// HMAC-SHA256 over timestamp, nonce and user name. The console's newer configurations take the secret as base64,
    /// older ones as text.
    pub(super) fn is_from(&self, auth: &CallbackAuth) -> bool {
        let text = auth.secret.expose();
        let message = [self.timestamp, self.nonce, &auth.user].concat();
        let fits = |key: &[u8]| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, key);
            hmac::verify(&key, message.as_bytes(), &self.value).is_ok()
        };
        STANDARD.decode(text).is_ok_and(|key| !key.is_empty() && fits(&key)) || fits(text.as_bytes())
    }
}

/// One status of either version.
fn receipt(report: &RawValue) -> Option<Receipt> {
    let report: Report<'_> = json::object(report.get().as_bytes())?;
    let v2 = report.delivery_status.and_then(|status| json::object(status.get().as_bytes()));
    let (status, at) = match v2 {
        Some(DeliveryStatus { result, timestamp }) => (result, timestamp),
        None => (report.status, report.timestamp),
    };
    let status = status.number()?;
    let own = |field: &Scalar<'_>| field.text().map(ToOwned::to_owned);
    let ms = match at {
        Scalar::Number(ms) => u64::try_from(ms).ok(),
        _ => None,
    };
    Some(Receipt {
        param: own(&report.bi_tag),
        token: own(&report.token),
        event: event(status)?,
        witness: Witness::Vendor,
        at: ms.map(|ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms.min(MAX_MS))),
        vendor: VendorEcho {
            id: report.request_id.text().and_then(|id| echo::words(id, &[])),
            code: Some(status.to_string()),
            ..VendorEcho::default()
        },
        vendor_id: own(&report.request_id),
        extra: BTreeMap::new(),
    })
}
