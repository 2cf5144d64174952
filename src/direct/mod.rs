//! The gateway's own connections: phones that keep a line open, or come by and ask.
//!
//! What comes in: phones over WebSocket and polling; a word from the recorder that a device has something new
//! ([`Hub::wake`]). What goes out: inbox entries, in order, until the phone acknowledges. What it must never do: end a
//! delivery that was not handed out, or keep a message anywhere but in the store.

mod ask;
mod auth;
mod bell;
mod body;
mod cursor;
mod frame;
mod hub;
mod origin;
mod own;
mod poll;
mod quiet;
mod register;
pub mod registration;
mod report;
mod routes;
pub mod secret;
mod session;
mod socket;
mod stream;
mod tuning;
mod upgrade;
mod window;

use std::time::Duration;

use serde_json::{Value, json};

use anypush_providers::contract::{AddressSpec, Capabilities, Descriptor, ReceiptKey, Receipts, Tier};

pub use auth::{DeviceAuth, Phone};
pub use body::{is_too_large, preview};
pub use hub::{Hub, Seat};
pub use routes::routes;

use crate::app::Gateway;

/// How a device that connects itself reaches the gateway.
pub fn access(gateway: &Gateway, username: &str) -> Value {
    let url = gateway.url();
    let socket = url.replacen("http", "ws", 1);
    json!({
        "username": username,
        "http": format!("{url}/v1/device/messages"),
        "websocket": format!("{socket}/v1/device/socket"),
    })
}

/// `direct` stands in the catalogue like any provider: accepted = stored in the inbox, delivered = the phone
/// acknowledged.
pub static DESCRIPTOR: Descriptor = Descriptor {
    id: "direct",
    name: "Own connection",
    tier: Tier::Direct,
    capabilities: Capabilities {
        notification: true,
        data: true,
        image: true,
        sound: true,
        badge_set: true,
        badge_add: true,
        actions: true,
        dedupe: true,
        max_targets: 1000,
        max_payload_bytes: 65_536,
        max_ttl: Duration::from_hours(28 * 24),
        receipts: Receipts::Callback,
        receipt_key: ReceiptKey::Param,
        witnesses_delivered: true,
        witnesses_displayed: true,
        witnesses_clicked: true,
        ..Capabilities::NONE
    },
    address: AddressSpec { provider: "", kinds: &[], special: &[], max_token_bytes: 0, params: &[] },
    quotas: &[],
};

#[cfg(test)]
mod tests;
