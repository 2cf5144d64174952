//! What the vendor reports of a message: by callback, or asked for.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::StatusCode;
use url::form_urlencoded;

use super::codes::{by_code, is_sid};
use super::config::Config;
use super::payload::PARAM;
use super::signature;
use super::wire::{self, Message};
use crate::contract::{CallbackReply, CallbackRequest, Reason, Receipt, ReceiptEvent, VendorEcho, Witness};
use crate::kit::echo;

/// Reads a callback: authenticated, or refused. Keys that are not known are no mistake: the vendor adds some without notice.
pub(super) fn parse(config: &Config, request: &CallbackRequest) -> CallbackReply {
    if !signature::verifies(config, request) {
        let body = Bytes::from_static(b"the signature is not good");
        return CallbackReply {
            receipts: Vec::new(),
            authenticated: false,
            status: StatusCode::FORBIDDEN,
            body,
        };
    }
    let form: BTreeMap<String, String> = form_urlencoded::parse(&request.body).into_owned().collect();
    let said =
        |names: [&str; 2]| names.into_iter().find_map(|name| form.get(name)).filter(|text| !text.is_empty());
    let code = form.get("ErrorCode").and_then(|code| code.trim().parse().ok()).filter(|code| *code != 0);
    let status = said(["MessageStatus", "SmsStatus"]).map_or("", String::as_str);
    let to = said(["To", "To"]).cloned();
    let receipt = event(status, code).map(|event| Receipt {
        param: signature::query(&request.url, PARAM),
        vendor_id: said(["MessageSid", "SmsSid"]).filter(|sid| is_sid(sid)).cloned(),
        event,
        witness: Witness::Vendor,
        // The vendor's own time has no documented form.
        at: None,
        vendor: VendorEcho {
            id: said(["MessageSid", "SmsSid"]).filter(|sid| is_sid(sid)).cloned(),
            status: None,
            code: code.map(|code| code.to_string()),
            words: said(["ErrorMessage", "ErrorMessage"]).map_or_else(
                || echo::words(status, &[]),
                |words| echo::words(words, &[to.as_deref().unwrap_or_default()]),
            ),
        },
        token: to,
        extra: BTreeMap::new(),
    });
    CallbackReply {
        receipts: receipt.into_iter().collect(),
        authenticated: true,
        status: StatusCode::NO_CONTENT,
        body: Bytes::new(),
    }
}

/// What a fetched message says; `None`: nothing yet.
pub(super) fn polled(message: &Message) -> Option<Receipt> {
    let code = wire::code(&message.error_code);
    let event = event(message.status.as_deref()?, code)?;
    let mut extra = BTreeMap::new();
    for (name, value) in
        [("segments", &message.num_segments), ("price", &message.price), ("currency", &message.price_unit)]
    {
        extra.extend(value.as_ref().map(|value| (name.to_owned(), value.clone())));
    }
    let to = message.to.clone();
    Some(Receipt {
        param: None,
        vendor_id: Some(message.sid.clone()),
        event,
        witness: Witness::Vendor,
        at: None,
        vendor: VendorEcho {
            id: Some(message.sid.clone()),
            status: None,
            code: code.map(|code| code.to_string()),
            words: message
                .error_message
                .as_deref()
                .or(message.status.as_deref())
                .and_then(|words| echo::words(words, &[to.as_deref().unwrap_or_default()])),
        },
        token: to,
        extra,
    })
}

/// What a status means. `sent` is the carrier's receipt, not the phone's: nothing is known yet.
fn event(status: &str, code: Option<u32>) -> Option<ReceiptEvent> {
    match status {
        "delivered" | "read" => Some(ReceiptEvent::Delivered),
        "undelivered" | "failed" => {
            let reason = code.map_or(Reason::Unclassified, |code| {
                by_code(code).map_or(Reason::Unclassified, |failure| failure.reason)
            });
            Some(ReceiptEvent::failed(reason))
        }
        // Somebody took it back: no other channel may bring it then.
        "canceled" => Some(ReceiptEvent::ended(Reason::Cancelled)),
        _ => None,
    }
}
