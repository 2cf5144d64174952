//! Ids: 63-bit and time-ordered inside, prefixed base32 of a UUIDv7 outside.
//!
//! The two are one fact in two forms. The public form carries the internal number and 52 bits of a keyed MAC, so it
//! cannot be guessed, a forged one is refused without a database read, and no table needs an index on a random id.

use std::fmt;
use std::sync::Mutex;

use aws_lc_rs::hmac;

/// 2025-01-01T00:00:00Z in Unix milliseconds: where internal ids begin to count.
const EPOCH_MS: u64 = 1_735_689_600_000;
const NODE_BITS: u32 = 8;
const COUNTER_BITS: u32 = 14;
const COUNTER_MAX: u64 = (1 << COUNTER_BITS) - 1;
/// Targets at or above this are rows of `message_targets`, below it devices.
pub const GIVEN_TARGETS: u64 = 1 << 40;
/// In the place of a target: the message as a whole.
pub const NOBODY: u64 = u64::MAX;

/// An internal id: 41 bits of milliseconds, 8 of node, 14 of counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Id(pub i64);

impl Id {
    /// Unix milliseconds at which it was made.
    pub fn unix_ms(self) -> u64 {
        (self.0 as u64 >> (NODE_BITS + COUNTER_BITS)) + EPOCH_MS
    }

    /// The smallest id made at this time: the bound of a range of ids.
    pub fn floor_at(unix_ms: u64) -> Self {
        Self((unix_ms.saturating_sub(EPOCH_MS) << (NODE_BITS + COUNTER_BITS)) as i64)
    }
}

/// Makes internal ids: strictly increasing on one node, without waiting for anything.
#[derive(Debug)]
pub struct IdMaker {
    node: u64,
    last: Mutex<(u64, u64)>,
}

impl IdMaker {
    /// A maker for this node (0–255).
    pub fn new(node: u8) -> Self {
        Self { node: u64::from(node), last: Mutex::new((0, 0)) }
    }

    /// Makes ids after this one only: the clock may have been set back since it was made.
    pub fn go_on_after(&self, id: Id) {
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        last.0 = last.0.max((id.0 as u64 >> (NODE_BITS + COUNTER_BITS)) + 1);
    }

    /// The next id. When the clock stands still, goes back, or the counter is used up, the time part runs ahead:
    /// order matters more than the millisecond.
    pub fn next(&self, unix_ms: u64) -> Id {
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = unix_ms.saturating_sub(EPOCH_MS);
        *last = if now > last.0 {
            (now, 0)
        } else if last.1 < COUNTER_MAX {
            (last.0, last.1 + 1)
        } else {
            (last.0 + 1, 0)
        };
        Id(((last.0 << (NODE_BITS + COUNTER_BITS)) | (self.node << COUNTER_BITS) | last.1) as i64)
    }
}

/// What a public id names; its prefix, and part of its MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `msg_…`
    Message,
    /// `app_…`
    App,
    /// `chn_…`
    Channel,
    /// `evt_…`
    Event,
    /// `whk_…`
    Webhook,
}

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Message => "msg_",
            Self::App => "app_",
            Self::Channel => "chn_",
            Self::Event => "evt_",
            Self::Webhook => "whk_",
        }
    }
}

/// Translates between internal and public ids with this installation's key.
pub struct IdCodec {
    key: hmac::Key,
}

impl fmt::Debug for IdCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdCodec")
    }
}

impl IdCodec {
    /// A codec with this key, kept in the store's `meta` table.
    pub fn new(key: &[u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key) }
    }

    /// The public form: `msg_` and 26 characters.
    pub fn encode(&self, kind: Kind, id: Id) -> String {
        let low = id.0 as u64 & ((1 << (NODE_BITS + COUNTER_BITS)) - 1);
        let mac = self.mac(kind.prefix().as_bytes(), &id.0.to_be_bytes()) >> 12;
        // 74 bits that UUIDv7 leaves to us: 22 of the id, 52 of the MAC.
        let free = (u128::from(low) << 52) | u128::from(mac);
        let uuid = (u128::from(id.unix_ms()) << 80)
            | (0x7 << 76)
            | ((free >> 62) << 64)
            | (0b10 << 62)
            | (free & ((1 << 62) - 1));
        format!("{}{}", kind.prefix(), base32(uuid))
    }

    /// The internal form; `None` where the text is no id of this kind that this installation made.
    pub fn decode(&self, kind: Kind, text: &str) -> Option<Id> {
        let uuid = unbase32(text.strip_prefix(kind.prefix())?)?;
        let free = (((uuid >> 64) & 0xfff) << 62) | (uuid & ((1 << 62) - 1));
        let ms = ((uuid >> 80) as u64).checked_sub(EPOCH_MS)?;
        let low = (free >> 52) as u64 & ((1 << (NODE_BITS + COUNTER_BITS)) - 1);
        let id = Id(((ms << (NODE_BITS + COUNTER_BITS)) | low) as i64);
        (self.encode(kind, id) == text).then_some(id)
    }

    /// The public name of a delivery, `dlv_…`: message, target and 24 bits of MAC.
    pub fn encode_delivery(&self, message: Id, target: u64) -> String {
        let mac = self.delivery_mac(message, target);
        let bits = (u128::from(message.0 as u64) << 65) | (u128::from(target) << 24) | u128::from(mac);
        format!("dlv_{}", base32(bits))
    }

    /// Message and target of a delivery's public name.
    pub fn decode_delivery(&self, text: &str) -> Option<(Id, u64)> {
        let bits = unbase32(text.strip_prefix("dlv_")?)?;
        let message = Id((bits >> 65) as i64);
        let target = (bits >> 24) as u64 & ((1 << 41) - 1);
        (self.encode_delivery(message, target) == text).then_some((message, target))
    }

    /// The 128-bit keys of a message's deliveries by target: the same for every repeat of one, for vendors that dedupe or
    /// replace. No two of a message have the same, nor, but by chance in 2^64, of all; and nobody can tell those of a message of
    /// which he has seen none.
    pub fn delivery_keys(&self, message: Id) -> impl Fn(u64) -> u128 + use<> {
        let tag = self.sign(b"delivery-keys", &message.0.to_be_bytes());
        let base = u128::from_be_bytes(tag[..16].try_into().unwrap_or_default());
        move |target| base ^ u128::from(target)
    }

    /// A 128-bit key of one request for these targets of a page: the same when the same request is made again after a
    /// crash, another one as soon as the targets are others. A vendor that drops what it has seen must never drop the
    /// rest of a page because of its beginning.
    pub fn batch_key(&self, message: Id, page: Id, targets: impl Iterator<Item = u64>) -> u128 {
        let mut body = [message.0.to_be_bytes(), page.0.to_be_bytes()].concat();
        targets.for_each(|target| body.extend_from_slice(&target.to_be_bytes()));
        u128::from_be_bytes(self.sign(b"batch-key", &body)[..16].try_into().unwrap_or_default())
    }

    /// What vendors may echo in receipts: message, target and 64 bits of MAC under the channel's name, 32 characters
    /// of base64url.
    pub fn receipt_param(&self, channel: i64, message: Id, target: u64) -> String {
        use base64::Engine as _;
        let mut bytes = [&message.0.to_be_bytes()[..], &target.to_be_bytes()].concat();
        let tag = self.sign(&[b"receipt", &channel.to_be_bytes()[..]].concat(), &bytes);
        bytes.extend_from_slice(&tag[..8]);
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Message and target of a parameter that a vendor echoes; `None` where it was not made for this channel. Costs no
    /// look into the store.
    pub fn open_receipt_param(&self, channel: i64, text: &str) -> Option<(Id, u64)> {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok()?;
        let (body, tag) = bytes.split_at_checked(16).filter(|(_, tag)| tag.len() == 8)?;
        let ours = self.sign(&[b"receipt", &channel.to_be_bytes()[..]].concat(), body);
        aws_lc_rs::constant_time::verify_slices_are_equal(&ours[..8], tag).ok()?;
        let (message, target) = body.split_at(8);
        let message = Id(i64::from_be_bytes(message.try_into().ok()?));
        Some((message, u64::from_be_bytes(target.try_into().ok()?)))
    }

    fn delivery_mac(&self, message: Id, target: u64) -> u32 {
        let body = [&message.0.to_be_bytes()[..], &target.to_be_bytes()].concat();
        (self.mac(b"dlv_", &body) >> 40) as u32
    }

    fn mac(&self, domain: &[u8], body: &[u8]) -> u64 {
        u64::from_be_bytes(self.sign(domain, body)[..8].try_into().unwrap_or_default())
    }

    fn sign(&self, domain: &[u8], body: &[u8]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(domain);
        context.update(&[0]);
        context.update(body);
        context.sign().as_ref().try_into().unwrap_or_default()
    }
}

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Crockford's base32, lower case, 26 characters.
pub(crate) fn base32(value: u128) -> String {
    (0..26).rev().map(|i| char::from(ALPHABET[(value >> (i * 5)) as usize & 31])).collect()
}

fn unbase32(text: &str) -> Option<u128> {
    if text.len() != 26 || !text.is_ascii() || text.as_bytes()[0] > b'7' {
        return None;
    }
    text.bytes().try_fold(0u128, |value, byte| {
        let digit = ALPHABET.iter().position(|&c| c == byte)?;
        Some((value << 5) | digit as u128)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_public_id_leads_back_to_the_internal_one(ms in 0u64..(1 << 40), low in 0u64..(1 << 22), key: [u8; 32]) {
            let codec = IdCodec::new(&key);
            let id = Id(((ms << 22) | low) as i64);
            let text = codec.encode(Kind::Message, id);
            prop_assert_eq!(text.len(), 30);
            prop_assert_eq!(codec.decode(Kind::Message, &text), Some(id));
            prop_assert_eq!(codec.decode(Kind::Channel, &text.replace("msg_", "chn_")), None);
        }

        #[test]
        fn a_delivery_name_leads_back_to_message_and_target(id in 0i64.., target in 0u64..(1 << 41), key: [u8; 32]) {
            let codec = IdCodec::new(&key);
            let text = codec.encode_delivery(Id(id), target);
            prop_assert_eq!(codec.decode_delivery(&text), Some((Id(id), target)));
        }

        #[test]
        fn a_receipt_parameter_opens_for_its_own_channel_alone(
            id in 0i64.., target in 0u64..(1 << 41), channel in 1i64..1000, key: [u8; 32], at in 0usize..32,
        ) {
            let codec = IdCodec::new(&key);
            let text = codec.receipt_param(channel, Id(id), target);
            prop_assert_eq!(text.len(), 32);
            prop_assert_eq!(codec.open_receipt_param(channel, &text), Some((Id(id), target)));
            prop_assert_eq!(codec.open_receipt_param(channel + 1, &text), None);
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            prop_assert_eq!(codec.open_receipt_param(channel, &changed), None);
            prop_assert_eq!(codec.open_receipt_param(channel, &text[..at]), None);
        }

        #[test]
        fn a_deliverys_key_is_the_same_for_every_repeat_and_no_others(
            id in 0i64.., target in 0u64..(1 << 41), other in 0u64..(1 << 41), key: [u8; 32],
        ) {
            let codec = IdCodec::new(&key);
            let keys = codec.delivery_keys(Id(id));
            prop_assert_eq!(keys(target), codec.delivery_keys(Id(id))(target));
            prop_assert_eq!(keys(target) == keys(other), target == other);
            prop_assert_ne!(keys(target) >> 64, codec.delivery_keys(Id(id ^ 1))(target) >> 64);
        }

        #[test]
        fn a_changed_character_is_refused(at in 4usize..30, to in 0usize..32) {
            let codec = IdCodec::new(&[7; 32]);
            let text = codec.encode(Kind::Message, Id(123_456_789_012_345));
            let mut changed = text.clone().into_bytes();
            changed[at] = ALPHABET[to];
            let changed = String::from_utf8(changed).unwrap();
            prop_assume!(changed != text);
            prop_assert_eq!(codec.decode(Kind::Message, &changed), None);
        }
    }

    #[test]
    fn ids_increase_when_the_clock_stands_still_or_goes_back() {
        let maker = IdMaker::new(3);
        let mut last = Id(0);
        for step in 0..40_000u64 {
            let id = maker.next(EPOCH_MS + 1000 - step / 10_000);
            assert!(id > last);
            last = id;
        }
    }

    #[test]
    fn a_public_id_is_a_uuid_of_version_seven() {
        let codec = IdCodec::new(&[1; 32]);
        let id = IdMaker::new(0).next(EPOCH_MS + 5);
        let uuid = unbase32(&codec.encode(Kind::App, id)[4..]).unwrap();
        assert_eq!((uuid >> 76) & 0xf, 7);
        assert_eq!((uuid >> 62) & 0b11, 0b10);
        assert_eq!((uuid >> 80) as u64, EPOCH_MS + 5);
    }
}
