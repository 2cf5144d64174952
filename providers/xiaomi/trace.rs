//! Asks the vendor what became of messages, by its ids. It answers with counters, so only what went to one phone alone
//! can be told.

use std::collections::BTreeMap;

use serde_json::Value;

use super::wire::{Reply, TRACE_PATH};
use super::{Xiaomi, codes};
use crate::contract::{Failure, Receipt, ReceiptEvent, SendContext, VendorEcho, Witness};
use crate::kit::retry_after::retry_after;
use crate::kit::{http as kit_http, json};

/// "Message not found".
const NOT_FOUND: i64 = 65028;

/// The most ids of one call (the contract's).
const MAX_IDS: usize = 100;

/// One request for each id. What was learned before a failure is kept; the rest is asked for another time.
pub(super) async fn poll(
    channel: &Xiaomi,
    vendor_ids: &[String],
    context: &SendContext,
) -> Result<Vec<Receipt>, Failure> {
    let mut receipts = Vec::new();
    for id in vendor_ids.iter().take(MAX_IDS) {
        match one(channel, id, context).await {
            Ok(found) => receipts.extend(found),
            Err(failure) if receipts.is_empty() => return Err(failure),
            Err(_) => break,
        }
    }
    Ok(receipts)
}

async fn one(channel: &Xiaomi, id: &str, context: &SendContext) -> Result<Vec<Receipt>, Failure> {
    let _pass = context.gate.pass(1).await.map_err(Failure::channel)?;
    // A message of another region is unknown there and left out.
    let request = channel.get(channel.config.region, TRACE_PATH, &[("msg_id", id)]);
    let answer = kit_http::send(request).await.map_err(|error| error.to_failure())?;
    let reply = json::object::<Reply>(answer.body()).unwrap_or_default();
    if answer.status() == 200 && reply.is_ok() {
        return Ok(read(id, &reply.data));
    }
    match reply.code().filter(|code| *code != 0) {
        Some(NOT_FOUND) => Ok(Vec::new()),
        code => {
            let wait = retry_after(answer.headers(), (context.now)());
            Err(codes::failure(answer.status().as_u16(), code, &reply, 1, wait))
        }
    }
}

/// `data` within `data` is real. Counters are numbers.
fn read(id: &str, data: &Value) -> Vec<Receipt> {
    let counted = data.get("data").unwrap_or(data);
    let count = |name: &str| counted[name].as_u64().unwrap_or(0);
    // With several targets nobody knows which of them it is.
    if count("resolved") != 1 {
        return Vec::new();
    }
    let told =
        [(count("delivered") > 0, ReceiptEvent::Delivered), (count("click") > 0, ReceiptEvent::Clicked)];
    told.into_iter()
        .filter(|(happened, _)| *happened)
        .map(|(_, event)| Receipt {
            param: None,
            vendor_id: Some(id.to_owned()),
            token: None,
            event,
            witness: Witness::Vendor,
            at: None,
            vendor: VendorEcho { id: Some(id.to_owned()), ..VendorEcho::default() },
            extra: BTreeMap::new(),
        })
        .collect()
}
