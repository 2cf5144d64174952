//! Addresses as callers give them, checked against what the catalogue says about their provider.

use std::collections::BTreeMap;

use anypush_providers::contract::{Address, Descriptor, Token};
use serde_json::{Value, json};

use super::fields::{Fields, Mistakes, Text};
use crate::delivery::spec::GivenAddress;
use crate::store::{NewAddress, StoredAddress};

/// Longest token of any provider.
const LONGEST: usize = 8192;
const MOST_PARAMS: usize = 16;
/// The address that serves every provider of text messages.
const PHONE: &str = "phone";

/// Reads an address: `provider`, `token`, and where needed `kind` and `params`.
pub(crate) fn read(value: Value, pointer: &str, wrong: &Mistakes) -> Option<NewAddress> {
    let mut fields = Fields::of(value, pointer, wrong);
    let provider = fields.needed("provider", Text::line(64));
    let token = fields.needed("token", Text::line(LONGEST));
    let kind = fields.text("kind", Text::line(64));
    let params = fields.map("params", MOST_PARAMS, Text::line(64), Text::line(1024)).unwrap_or_default();
    if provider.is_empty() || token.is_empty() {
        fields.finish();
        return None;
    }
    let serving: Vec<_> = serving(&provider).collect();
    if serving.is_empty() && provider != PHONE {
        fields.refuse("provider", "no provider takes such addresses; GET /v1/providers lists them");
    }
    if provider == PHONE && !is_e164(&token) {
        fields.refuse("token", "must be a phone number such as +8613800000000");
    }
    let longest = serving.iter().map(|d| d.address.max_token_bytes as usize).max().filter(|n| *n > 0);
    if let Some(most) = longest.filter(|most| token.len() > *most) {
        fields.refuse("token", format!("has {} bytes, at most {most} are possible", token.len()));
    }
    let kinds: Vec<&str> = serving.iter().flat_map(|d| d.address.kinds).copied().collect();
    let usual = kinds.first().copied().unwrap_or(if provider == PHONE { PHONE } else { "token" });
    if let Some(kind) = kind.as_deref().filter(|kind| !kinds.is_empty() && !kinds.contains(kind)) {
        fields.refuse("kind", format!("there is no kind `{kind}`; there are {}", kinds.join(", ")));
    }
    for name in params.keys() {
        if !serving.is_empty() && !serving.iter().any(|d| d.address.params.contains(&name.as_str())) {
            wrong.add(format!("{}/{name}", fields.at("params")), "this provider knows no such param");
        }
    }
    fields.finish();
    Some(NewAddress { kind: kind.unwrap_or_else(|| usual.to_owned()), provider, token, params })
}

/// A phone number as an address; `None` where it is none.
pub(super) fn phone(number: &str) -> Option<NewAddress> {
    let kind = serving(PHONE).flat_map(|d| d.address.kinds).next().copied().unwrap_or(PHONE);
    is_e164(number).then(|| NewAddress {
        provider: PHONE.to_owned(),
        kind: kind.to_owned(),
        token: number.to_owned(),
        params: BTreeMap::new(),
    })
}

/// The same, as the target of a message.
pub(super) fn given(address: NewAddress) -> GivenAddress {
    let NewAddress { provider, kind, token, params } = address;
    GivenAddress { provider, address: Address { kind, token: Token::new(token), params } }
}

/// Whether a given target has what a delivery shows.
pub(super) fn shown(provider: &str, token: &str) -> Value {
    let token: String = token.chars().take(6).collect();
    json!({"provider": provider, "token": format!("{token}…")})
}

/// An address of a device, whole: backends compare tokens.
pub(super) fn view(address: &StoredAddress) -> Value {
    let params: &BTreeMap<String, String> = &address.params;
    json!({
        "provider": address.provider,
        "kind": address.kind,
        "token": address.token,
        "params": params,
        "state": if address.active { "active" } else { "retired" },
        "reason": address.reason.map(anypush_providers::contract::Reason::as_str),
    })
}

fn serving(provider: &str) -> impl Iterator<Item = &'static Descriptor> {
    let all = anypush_providers::catalogue().iter().map(|registration| &registration.descriptor);
    all.filter(move |descriptor| descriptor.address.provider == provider)
}

fn is_e164(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or_default();
    (7..=15).contains(&digits.len()) && !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phone_numbers_are_e164() {
        for good in ["+8613800000000", "+15551234567"] {
            assert!(is_e164(good));
        }
        for bad in ["", "+", "8613800000000", "+0123456789", "+1 555 1234567", "+1234567890123456"] {
            assert!(!is_e164(bad));
        }
    }

    #[test]
    fn an_unknown_provider_is_refused_at_its_field() {
        let wrong = Mistakes::default();
        read(json!({"provider": "nobody", "token": "x", "odd": 1}), "/addresses/0", &wrong);
        let errors = wrong.finish().unwrap_err().errors;
        let pointers: Vec<_> = errors.iter().map(|e| e.pointer.as_str()).collect();
        assert_eq!(pointers, ["/addresses/0/provider", "/addresses/0/odd"]);
    }
}
