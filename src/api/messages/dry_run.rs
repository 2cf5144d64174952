//! `POST /v1/messages?dry_run=true`: what would become of a message, for people and programs.

use std::collections::BTreeMap;

use anypush_providers::contract::{Money, Preview, Reason};
use serde_json::{Value, json};

use crate::api::story::{self, Told};
use crate::api::{address, channels};
use crate::app::Gateway;
use crate::channels::Channel;
use crate::delivery::{DryChannel, DryRun, DryTarget, Fan, Who};
use crate::routing::{ChannelState, Step};

/// The answer.
pub(super) fn view(gateway: &Gateway, run: &DryRun) -> Value {
    let name = |seq: i64| match gateway.channels.by_seq(seq) {
        Some(channel) => channel.record.name.clone(),
        None => format!("channel {seq}"),
    };
    let mut ways: Vec<_> = run.ways.iter().collect();
    // The broadest first; in the order of channels where they are equal, so that the answer is always the same.
    ways.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.channels.cmp(&b.0.channels)));
    let suppressed: u64 = run.ways.iter().filter(|(way, _)| way.reason.is_some()).map(|(_, n)| n).sum();
    let channels: Vec<_> = run.channels.iter().map(|(seq, dry)| channel(gateway, *seq, dry)).collect();
    json!({
        "dry_run": true,
        "targeted": run.targeted,
        "complete": run.complete,
        "suppressed": suppressed,
        "ways": ways.into_iter().map(|(way, n)| told(gateway, way, *n, &name)).collect::<Vec<_>>(),
        "targets": run.targets.iter().map(|dry| target(gateway, dry, &name)).collect::<Vec<_>>(),
        "channels": channels,
        "cost": cost(run),
        "warnings": run.warnings,
    })
}

fn told(gateway: &Gateway, way: &Fan, n: u64, name: &impl Fn(i64) -> String) -> Value {
    let Told { text, channels, skipped } =
        story::decision(&way.channels, &way.skipped, way.rule.as_deref(), name);
    let text = way.reason.map_or(text, |reason| ends(reason, &way.skipped, way.rule.as_deref(), name));
    let text = text + &troubles(gateway, &way.channels);
    json!({
        "targets": n,
        "rule": way.rule,
        "channels": channels,
        "skipped": skipped,
        "reason": way.reason,
        "text": text,
    })
}

fn target(gateway: &Gateway, dry: &DryTarget, name: &impl Fn(i64) -> String) -> Value {
    let order: Vec<_> = dry.steps.iter().map(|step| step.channel).collect();
    let Told { text, skipped, .. } = story::decision(&order, &dry.skipped, dry.rule.as_deref(), name);
    let text = dry.reason.map_or(text, |reason| ends(reason, &dry.skipped, dry.rule.as_deref(), name));
    let text = text + &troubles(gateway, &order);
    let steps: Vec<_> = dry.steps.iter().map(|one| step(gateway, one, name)).collect();
    let mut value = json!({
        "rule": dry.rule,
        "steps": steps,
        "skipped": skipped,
        "reason": dry.reason,
        "text": text,
    });
    match &dry.who {
        Who::Device(id) => value["device_id"] = id.as_str().into(),
        Who::Address(provider, token) => value["address"] = address::shown(provider, token),
        Who::Nobody(id) => value["given"] = id.as_str().into(),
    }
    value
}

/// Why a target ends at once, with what was left out.
fn ends(
    reason: Reason,
    skipped: &[crate::delivery::trail::Skip],
    rule: Option<&str>,
    name: &impl Fn(i64) -> String,
) -> String {
    let by = rule.map(|rule| format!("By the rule {rule}. ")).unwrap_or_default();
    let mut text = format!("{by}Would not be sent: {}.", story::words(reason));
    let Told { text: left_out, .. } = story::decision(&[], skipped, None, name);
    if let Some((_, rest)) = left_out.split_once(". ") {
        text = format!("{text} {rest}");
    }
    text
}

/// What is the matter with channels that are steps all the same, because no other can do it.
fn troubles(gateway: &Gateway, order: &[i64]) -> String {
    let channels = order.iter().filter_map(|seq| gateway.channels.by_seq(*seq));
    channels
        .filter_map(|channel| trouble(&channel))
        .fold(String::new(), |text, more| format!("{text} {more}"))
}

fn trouble(channel: &Channel) -> Option<String> {
    let name = &channel.record.name;
    let usable = channel.provider.is_some() || channel.is_direct();
    Some(match channel.route.state {
        ChannelState::Ok => return None,
        ChannelState::Paused => {
            format!("{name} is paused: a message waits until it is resumed or its time is over.")
        }
        ChannelState::AuthFailed if !usable => {
            format!("The configuration of {name} cannot be used: a message would fail there.")
        }
        ChannelState::AuthFailed => format!(
            "The credentials of {name} are refused: a message waits until they are mended or its time is over."
        ),
        ChannelState::QuotaExhausted => {
            format!("The quota of {name} is used up: a message would fail there until there is room again.")
        }
        ChannelState::Down => format!(
            "The vendor of {name} does not answer: a message waits until it does or its time is over."
        ),
    })
}

fn step(gateway: &Gateway, step: &Step, name: &impl Fn(i64) -> String) -> Value {
    let channel = gateway.channels.by_seq(step.channel);
    json!({
        "channel": name(step.channel),
        "provider": channel.as_ref().map(|channel| channel.record.provider.clone()),
        "wait_seconds": step.wait.map(|wait| wait.seconds),
        "until": step.wait.map(|wait| wait.until.as_str()),
    })
}

fn channel(gateway: &Gateway, seq: i64, dry: &DryChannel) -> Value {
    let Some(channel) = gateway.channels.by_seq(seq) else { return Value::Null };
    let gaps: Vec<_> = dry.gaps.iter().map(|gap| gap.as_str()).collect();
    let quotas: Vec<_> = dry
        .quotas
        .iter()
        .map(|seen| {
            let mut quota = channels::quota(seen);
            quota["would_use"] = dry.first.into();
            quota
        })
        .collect();
    json!({
        "channel": channel.record.name,
        "provider": channel.record.provider,
        "tier": channel.descriptor.tier,
        "state": channel.route.state,
        "targets_first": dry.first,
        "targets_any": dry.any,
        "lacks": gaps,
        "quotas": quotas,
        "preview": dry.preview,
    })
}

/// What the first steps cost, and what all steps would.
fn cost(run: &DryRun) -> Vec<Value> {
    let mut sums: BTreeMap<&str, (Amount, Amount)> = BTreeMap::new();
    for dry in run.channels.values() {
        let Some(Preview { cost: Some(Money { amount, currency }), refused: None, .. }) = &dry.preview else {
            continue;
        };
        let Some(one) = Amount::read(amount) else { continue };
        let (first, any) = sums.entry(currency).or_default();
        *first = first.plus(one.times(dry.first));
        *any = any.plus(one.times(dry.any));
    }
    let line = |(currency, (first, any)): (&str, (Amount, Amount))| json!({"currency": currency, "expected": first.to_string(), "at_most": any.to_string()});
    sums.into_iter().map(line).collect()
}

/// A decimal number with as many places as prices of single messages need, exact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Amount(i128);

impl Amount {
    const PLACES: usize = 9;

    /// Reads `0.0075`; `None` where it is no such number.
    fn read(text: &str) -> Option<Self> {
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > Self::PLACES {
            return None;
        }
        format!("{whole}{part:0<places$}", places = Self::PLACES).parse().ok().map(Self)
    }

    fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    fn times(self, n: u64) -> Self {
        Self(self.0.saturating_mul(i128::from(n)))
    }
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unit = 10_i128.pow(Self::PLACES as u32);
        let part = format!("{:0places$}", self.0 % unit, places = Self::PLACES);
        let part = part.trim_end_matches('0');
        // Money is read with two places at least.
        write!(f, "{}.{part:0<2}", self.0 / unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_added_exactly() {
        let sum = Amount::read("0.0075").unwrap().times(3).plus(Amount::read("1").unwrap());
        assert_eq!(sum.to_string(), "1.0225");
        assert_eq!(Amount::read("0.10").unwrap().times(10).to_string(), "1.00");
        for odd in ["", ".5", "-1", "1e3", "0.0000000001", "1.2.3"] {
            assert_eq!(Amount::read(odd), None, "{odd}");
        }
    }
}
