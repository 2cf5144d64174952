//! The trail of a delivery as a story: what was decided, tried and received, in sentences and in fields.
//!
//! Results of `write!` are dropped: writing into a `String` cannot fail.

use std::fmt::Write as _;

use anypush_providers::contract::{Reason, Witness};
use serde_json::{Value, json};

use crate::clock::rfc3339;
use crate::delivery::state::Delivery;
use crate::delivery::trail::{self, Next, Skip, SkipReason, TrailEntry};

/// All entries; `name` tells a channel's name by its number.
pub(super) fn tell(delivery: &Delivery, name: impl Fn(i64) -> String) -> Value {
    let created = delivery.message.unix_ms();
    trail::decode(&delivery.trail).into_iter().map(|entry| line(entry, created, &name)).collect()
}

/// A decision in words and names.
pub(super) struct Told {
    /// Whole sentences.
    pub(super) text: String,
    /// Channels in the order in which they will be tried.
    pub(super) channels: Vec<String>,
    /// Channels that were left out, and why.
    pub(super) skipped: Vec<Value>,
}

/// Tells a decision.
pub(super) fn decision(
    channels: &[i64],
    skipped: &[Skip],
    rule: Option<&str>,
    name: &impl Fn(i64) -> String,
) -> Told {
    let names: Vec<_> = channels.iter().map(|channel| name(*channel)).collect();
    let text = match names.split_first() {
        None => "No channel can reach this target.".to_owned(),
        Some((first, [])) => format!("Will be sent through {first}."),
        Some((first, rest)) => {
            format!("Will be sent through {first}; if that fails, {}.", rest.join(", then "))
        }
    };
    let mut text = rule.map_or_else(|| text.clone(), |rule| format!("By the rule {rule}. {text}"));
    let skipped: Vec<_> = skipped.iter().map(|skip| (name(skip.channel), why(skip))).collect();
    // What holds for several channels is said once.
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for (channel, why) in &skipped {
        match reasons.iter_mut().find(|(known, _)| known == why) {
            Some((_, channels)) => channels.push(channel),
            None => reasons.push((why, vec![channel])),
        }
    }
    for (why, channels) in reasons {
        let how = if channels.len() == 1 { "was left out:" } else { "were left out, each because" };
        let _ = write!(text, " {} {how} {why}.", channels.join(", "));
    }
    let skipped = skipped.into_iter().map(|(channel, why)| json!({"channel": channel, "why": why})).collect();
    Told { text, channels: names, skipped }
}

fn line(entry: TrailEntry, created: u64, name: &impl Fn(i64) -> String) -> Value {
    match entry {
        TrailEntry::Decided { at_ms, channels, skipped, rule } => {
            let Told { text, channels, skipped } = decision(&channels, &skipped, rule.as_deref(), name);
            json!({
                "at": rfc3339(created + at_ms),
                "kind": "decided",
                "text": text,
                "rule": rule,
                "channels": channels,
                "skipped": skipped,
            })
        }
        attempted @ TrailEntry::Attempted { .. } => attempt(attempted, created, name),
        TrailEntry::Received { at_ms, channel, state, witness } => {
            json!({
                "at": rfc3339(created + at_ms),
                "kind": "received",
                "text": format!("{} reports: {}.", who(witness), state.as_str()),
                "channel": name(channel),
                "state": state.as_str(),
                "witness": witness,
            })
        }
        TrailEntry::Ended { at_ms, reason } => json!({
            "at": rfc3339(created + at_ms),
            "kind": "ended",
            "text": format!("Ended: {}.", words(reason)),
            "reason": reason.as_str(),
        }),
        TrailEntry::Waited { at_ms, channel, until } => json!({
            "at": rfc3339(created + at_ms),
            "kind": "waited",
            "text": format!("{} had it, but nobody reported {} in time.", name(channel), until.as_str()),
            "channel": name(channel),
            "state": until.as_str(),
        }),
        TrailEntry::Recalled { at_ms, told } => json!({
            "at": rfc3339(created + at_ms),
            "kind": "recalled",
            "text": if told {
                "Recalled: the phone is connected and was told to take it off its screen."
            } else {
                "Recalled: it was taken out of the phone's inbox."
            },
            "told": told,
        }),
        TrailEntry::Dismissed { at_ms, channel, witness } => json!({
            "at": rfc3339(created + at_ms),
            "kind": "dismissed",
            "text": format!("{} reports: dismissed.", who(witness)),
            "channel": name(channel),
            "witness": witness,
        }),
        TrailEntry::FailedLater { at_ms, channel, reason, code, words: said } => {
            let channel = name(channel);
            let mut text = format!("{channel} reports that it failed after all: {}.", words(reason));
            if let Some(vendor) = vendor_words(None, code.as_deref(), said.as_deref()) {
                let _ = write!(text, " It said {vendor}.");
            }
            json!({
                "at": rfc3339(created + at_ms),
                "kind": "failed_later",
                "text": text,
                "channel": channel,
                "reason": reason.as_str(),
                "vendor": {"status": null, "code": code, "words": said},
            })
        }
    }
}

fn who(witness: Witness) -> &'static str {
    match witness {
        Witness::Vendor => "The vendor",
        Witness::Phone => "The phone",
        Witness::Kernel => "The phone's connection",
    }
}

fn attempt(entry: TrailEntry, created: u64, name: &impl Fn(i64) -> String) -> Value {
    let TrailEntry::Attempted {
        at_ms,
        channel,
        attempt,
        reason,
        latency_ms,
        status,
        code,
        words: said,
        next,
    } = entry
    else {
        return Value::Null;
    };
    let channel = name(channel);
    let again = if attempt > 1 { format!(" (try {attempt})") } else { String::new() };
    let mut text = match reason {
        None => format!("{channel} accepted it after {latency_ms} ms{again}."),
        Some(reason) => format!("{channel} did not take it{again}: {}.", words(reason)),
    };
    if let (Some(_), Some(vendor)) = (reason, vendor_words(status, code.as_deref(), said.as_deref())) {
        let _ = write!(text, " It answered {vendor}.");
    }
    let next = match next {
        Next::Nothing => Value::Null,
        Next::Retry(ms) => {
            let _ = write!(text, " Tried again after {} s.", ms.div_ceil(1000));
            json!({"retry_after_ms": ms})
        }
        Next::Channel(other) => {
            let other = name(other);
            let _ = write!(text, " Next: {other}.");
            json!({"channel": other})
        }
    };
    json!({
        "at": rfc3339(created + at_ms),
        "kind": "attempted",
        "text": text,
        "channel": channel,
        "attempt": attempt,
        "reason": reason.map(Reason::as_str),
        "latency_ms": latency_ms,
        "vendor": {"status": status, "code": code, "words": said},
        "next": next,
    })
}

fn vendor_words(status: Option<u16>, code: Option<&str>, said: Option<&str>) -> Option<String> {
    let parts = [status.map(|s| s.to_string()), code.map(str::to_owned), said.map(|s| format!("“{s}”"))];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

fn why(skip: &Skip) -> String {
    match &skip.why {
        SkipReason::NoAddress => "the device has no address for it".into(),
        SkipReason::OtherAccount(words) => format!("the address belongs to another account ({words})"),
        SkipReason::Lacks(gaps) => format!("it cannot carry what the message needs ({gaps})"),
        SkipReason::Paused => "it is paused".into(),
        SkipReason::AuthFailed => "its credentials are refused".into(),
        SkipReason::QuotaExhausted => "its quota is used up".into(),
        SkipReason::Down => "its vendor does not answer".into(),
        SkipReason::NotConnected => "the phone is not connected, and another channel can reach it".into(),
        SkipReason::Tried => "it was tried already".into(),
        SkipReason::NotAskedFor => "it costs money, and the message did not ask for it".into(),
        SkipReason::NoSecret => "the device does not connect itself: it has no secret".into(),
        SkipReason::Special(kind) => {
            format!("the device's address is of kind {kind}, and the message does not name the channel")
        }
    }
}

pub(super) fn words(reason: Reason) -> &'static str {
    match reason {
        Reason::InvalidToken => "the token is dead, so the address was retired",
        Reason::WrongApp => "the token belongs to another app or project",
        Reason::PayloadInvalid => "the vendor refuses the form of the message",
        Reason::PayloadTooLarge => "the message is too large for the vendor",
        Reason::ContentRejected => "the vendor refuses what the message says",
        Reason::AuthFailed => "the vendor refuses the channel's credentials",
        Reason::RateLimited => "the vendor asks to send more slowly",
        Reason::QuotaExceeded => "the quota is used up",
        Reason::DeviceUnavailable => "the phone cannot be reached now",
        Reason::VendorUnavailable => "the vendor is down, slow or overloaded",
        Reason::ProtocolError => "the vendor's answer makes no sense",
        Reason::UnreachableRecipient => "this number cannot get messages",
        Reason::CarrierRejected => "the carrier refuses it",
        Reason::OptedOut => "the person does not want messages",
        Reason::NoRoute => "no channel can reach the target",
        Reason::UnknownTarget => "the id names nobody in this app",
        Reason::DuplicateAddress => "another target of the message has the same address",
        Reason::FrequencyCapped => "the person has had enough messages",
        Reason::Superseded => "a newer message took its place",
        Reason::InboxFull => "the phone's inbox is full",
        Reason::Expired => "its time to live was over",
        Reason::Cancelled => "it was cancelled",
        Reason::Unclassified => "the vendor answers with a code that is not in its table",
        Reason::UserLeft => "the user to whom it was sent has left this phone since",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::state::State;
    use crate::ids::Id;

    #[test]
    fn a_trail_reads_as_a_story() {
        let entries = [
            TrailEntry::Decided {
                at_ms: 1,
                channels: vec![1, 2],
                skipped: [(3, SkipReason::NoAddress), (4, SkipReason::Paused), (5, SkipReason::NoAddress)]
                    .map(|(channel, why)| Skip { channel, why })
                    .to_vec(),
                rule: Some("orders".into()),
            },
            TrailEntry::Attempted {
                at_ms: 20,
                channel: 1,
                attempt: 1,
                reason: Some(Reason::VendorUnavailable),
                latency_ms: 12,
                status: Some(503),
                code: Some("UNAVAILABLE".into()),
                words: None,
                next: Next::Channel(2),
            },
            TrailEntry::Received { at_ms: 90, channel: 2, state: State::Delivered, witness: Witness::Phone },
        ];
        let delivery = Delivery {
            message: Id(1 << 30),
            target: 1,
            state: State::Delivered,
            reason: None,
            channel: 2,
            vendor_id: None,
            updated_ms: 90,
            reached_ms: [None; 4],
            trail: trail::encode(&entries),
        };
        let story = tell(&delivery, |seq| format!("c{seq}"));
        let texts: Vec<_> = story.as_array().unwrap().iter().map(|e| e["text"].as_str().unwrap()).collect();
        assert_eq!(
            texts,
            [
                "By the rule orders. Will be sent through c1; if that fails, c2. c3, c5 were left out, each because the \
                 device has no address for it. c4 was left out: it is paused.",
                "c1 did not take it: the vendor is down, slow or overloaded. It answered 503 UNAVAILABLE. Next: c2.",
                "The phone reports: delivered.",
            ]
        );
        assert_eq!(story[1]["vendor"]["status"], 503);
        assert_eq!(story[0]["skipped"][0]["channel"], "c3");
    }
}
