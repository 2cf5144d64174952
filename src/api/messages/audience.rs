//! Whom a message is for, as callers say it.

use serde_json::Value;

use super::expression;
use crate::api::address;
use crate::api::devices::ID;
use crate::api::fields::{Fields, Mistakes};
use crate::delivery::spec::Audience;

/// Reads `to`: exactly one way to say it.
pub(super) fn read(fields: &mut Fields<'_>, wrong: &Mistakes, most: usize) -> Option<Audience> {
    let Some(mut to) = fields.object("to") else {
        fields.refuse("to", "is required");
        return None;
    };
    let ways = ["device_ids", "user_ids", "tokens", "phones", "audience"];
    if ways.into_iter().filter(|n| to.has(n)).count() != 1 {
        let why = "must have exactly one of `device_ids`, `user_ids`, `tokens`, `phones`, `audience`";
        fields.refuse("to", why);
    }
    let mut ids = |name: &str| {
        let ids = to.texts(name, most, ID)?;
        if ids.is_empty() {
            to.refuse(name, "names nobody");
        }
        Some(ids)
    };
    let (devices, users) = (ids("device_ids"), ids("user_ids"));
    let tokens = to.list("tokens", most).map(|items| {
        if items.is_empty() {
            to.refuse("tokens", "names nobody");
        }
        let read = |(at, item): (String, Value)| address::read(item, &at, wrong).map(address::given);
        items.into_iter().filter_map(read).collect()
    });
    let phones = to.list("phones", most).map(|items| {
        if items.is_empty() {
            to.refuse("phones", "names nobody");
        }
        let read = |(at, item): (String, Value)| {
            let found = item.as_str().and_then(address::phone).map(address::given);
            if found.is_none() {
                wrong.add(at, "must be a phone number such as +8613800000000");
            }
            found
        };
        items.into_iter().filter_map(read).collect()
    });
    let expression = to.take("audience").and_then(|value| expression::read(value, to.at("audience"), wrong));
    to.finish();
    devices
        .map(Audience::Devices)
        .or(users.map(Audience::Users))
        .or(tokens.or(phones).map(Audience::Addresses))
        .or(expression.map(|expression| Audience::Matching { expression, after: 0 }))
}
