//! What phones say by single requests: acknowledgements, receipts, and that they need a ticket.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::ask::{self, Body, fresh};
use super::auth::Caller;
use super::frame;
use crate::api::problem::{Answer, Problem};
use crate::app::Gateway;
use crate::clock::rfc3339;
use crate::ids::Kind;
use crate::store::{Ack, PhoneEvent};

/// Messages that one request may acknowledge.
const MOST_ACKS: usize = 1000;
/// Receipts that one request may bring.
const MOST_RECEIPTS: usize = 100;
const EVENTS: [&str; 4] = ["delivered", "displayed", "clicked", "dismissed"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Acks {
    #[serde(default, deserialize_with = "ask::given")]
    cursor: Option<String>,
    #[serde(default, deserialize_with = "ask::given")]
    messages: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Receipt {
    message_id: String,
    event: String,
    /// When it happened on the phone. Checked, not believed: phones' clocks are wrong.
    #[serde(rename = "at", default, deserialize_with = "ask::given")]
    _at: Option<jiff::Timestamp>,
}

/// `POST /v1/device/ack`: `{"cursor": …}`, everything handed out up to it, or `{"messages": […]}`, exactly these.
/// What was not handed out, and what is unknown, is left alone.
pub(super) async fn ack(
    State(gateway): State<Arc<Gateway>>,
    Caller(phone): Caller,
    Body(bytes): Body,
) -> Answer<Response> {
    let acks: Acks = ask::body(&bytes)?;
    let ack = match (acks.cursor, acks.messages) {
        (Some(text), None) => ask::cursor(&phone, &text)?.map(Ack::UpTo),
        (None, Some(ids)) if ids.len() <= MOST_ACKS => {
            Some(Ack::Messages(ids.iter().filter_map(|id| gateway.codec.decode(Kind::Message, id)).collect()))
        }
        (None, Some(_)) => {
            return Err(ask::refused("invalid_field", "`messages` has at most 1000 ids").at("/messages"));
        }
        _ => return Err(ask::refused("invalid_field", "give either `cursor` or `messages`")),
    };
    let acknowledged = match ack {
        Some(ack) => {
            let said = ack.clone();
            let ended = gateway.store.acknowledge(phone.device, ack, gateway.clock.now_ms()).await?;
            gateway.hub.acknowledged(phone.device, &said);
            ended
        }
        None => 0,
    };
    Ok(fresh(json!({ "acknowledged": acknowledged })))
}

/// `POST /v1/device/receipts`: what became of messages on the phone, by whatever channel they came. A message that is
/// unknown or was not for this phone is left alone.
pub(super) async fn receipts(
    State(gateway): State<Arc<Gateway>>,
    Caller(phone): Caller,
    Body(bytes): Body,
) -> Answer<Response> {
    let receipts: Vec<Receipt> = ask::body(&bytes)?;
    if receipts.len() > MOST_RECEIPTS {
        return Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_many_receipts",
            "send at most 100 at once",
        ));
    }
    if let Some(at) = receipts.iter().position(|receipt| !EVENTS.contains(&receipt.event.as_str())) {
        let why = "`event` is delivered, displayed, clicked or dismissed";
        return Err(ask::refused("invalid_field", why).at(format!("/{at}/event")));
    }
    let known = receipts.iter().filter_map(|r| frame::event(&gateway.codec, &r.message_id, &r.event));
    let events: Vec<PhoneEvent> = known.collect();
    let here = Ack::Messages(events.iter().map(|event| event.message).collect());
    let recorded = gateway.store.phone_events(phone.device, events, gateway.clock.now_ms()).await?;
    gateway.hub.acknowledged(phone.device, &here);
    Ok(fresh(json!({ "recorded": recorded })))
}

/// `POST /v1/device/ticket`: for browsers, which cannot set headers on a socket. A secret never goes into a URL.
pub(super) async fn ticket(State(gateway): State<Arc<Gateway>>, Caller(phone): Caller) -> Response {
    let (ticket, until) = gateway.hub.auth().make_ticket(&gateway, phone).await;
    fresh(json!({ "ticket": ticket, "expires_at": rfc3339(until) }))
}
