//! The decision itself.

use anypush_providers::contract::{Reason, Tier};

use super::{
    ChannelState, Decision, IfBlind, Question, Route, RouteChannel, RouteDevice, Step, StepSpec, Wait,
};
use crate::delivery::state::State;
use crate::delivery::trail::{Skip, SkipReason};

/// Decides the route of one delivery.
///
/// Channels are taken in the order that the message asked for, else by tier and name; SMS only where asked for. A
/// channel that cannot carry the message or has no address is left out. One that is merely in trouble is left out
/// while another can do it, and kept where it is the only one: then the delivery waits for it. The own connection
/// comes first while the phone is connected, and last (as a place to wait) where it is not.
pub fn decide(question: &Question<'_>) -> Decision {
    let device = question.device;
    if !device.enabled && question.needs.notification {
        return Decision { route: Route::Suppress(Reason::OptedOut), skipped: Vec::new() };
    }
    let mut skipped = Vec::new();
    let mut steps = Vec::new();
    let mut troubled = Vec::new();
    let mut waiting = Vec::new();
    for (channel, spec) in in_order(question, &mut skipped) {
        match fits(question, channel) {
            Err(why) => skipped.push(Skip { channel: channel.seq, why }),
            Ok(address_version) => {
                let step =
                    Step { channel: channel.seq, address_version, wait: wait(question, channel, spec) };
                if let Some(why) = trouble(channel.state) {
                    troubled.push((step, why));
                } else if channel.tier == Tier::Direct && !device.connected && question.steps.is_empty() {
                    waiting.push(step);
                } else {
                    steps.push(step);
                }
            }
        }
    }
    if !steps.is_empty() {
        skipped.extend(waiting.iter().map(|s| Skip { channel: s.channel, why: SkipReason::NotConnected }));
    }
    steps.append(&mut waiting);
    if steps.is_empty() {
        steps.extend(troubled.into_iter().map(|(step, _)| step));
    } else {
        skipped.extend(troubled.into_iter().map(|(step, why)| Skip { channel: step.channel, why }));
    }
    if let Some(last) = steps.last_mut() {
        // There is nothing to go on to.
        last.wait = None;
    }
    let route = if steps.is_empty() { Route::Suppress(Reason::NoRoute) } else { Route::Send(steps) };
    Decision { route, skipped }
}

/// What a step waits for, beside its outcome.
fn wait(question: &Question<'_>, channel: &RouteChannel, spec: Option<&StepSpec>) -> Option<Wait> {
    let Some(spec) = spec else {
        let own = channel.tier == Tier::Direct && question.own_wait_seconds > 0;
        return own.then_some(Wait { seconds: question.own_wait_seconds, until: State::Delivered });
    };
    let asked = spec.until.unwrap_or(State::Accepted);
    let blind = match asked {
        State::Delivered => !channel.capabilities.witnesses_delivered,
        State::Displayed => !channel.capabilities.witnesses_displayed,
        State::Clicked => !channel.capabilities.witnesses_clicked,
        _ => false,
    };
    let until = if blind && spec.if_blind == IfBlind::Stop { State::Accepted } else { asked };
    spec.wait_seconds.map(|seconds| Wait { seconds, until })
}

/// A channel, and the step of the message that named it.
type Named<'a> = (&'a RouteChannel, Option<&'a StepSpec>);

fn in_order<'a>(question: &Question<'a>, skipped: &mut Vec<Skip>) -> Vec<Named<'a>> {
    if question.steps.is_empty() {
        let (paid, mut order): (Vec<_>, Vec<_>) = question.channels.iter().partition(|c| c.tier == Tier::Sms);
        skipped.extend(paid.iter().map(|c| Skip { channel: c.seq, why: SkipReason::NotAskedFor }));
        order.sort_by_key(|c| c.tier);
        return order.into_iter().map(|channel| (channel, None)).collect();
    }
    let mut order: Vec<Named<'a>> = Vec::new();
    for step in question.steps {
        let uses = step.uses.as_str();
        // A name beats a provider, a provider beats a tier: the most exact word counts.
        let tests: [&dyn Fn(&RouteChannel) -> bool; 3] =
            [&|c| c.name == uses, &|c| c.provider == uses, &|c| c.tier.as_str() == uses];
        let found = tests.iter().find_map(|test| {
            let hits: Vec<_> = question.channels.iter().filter(|c| test(c)).collect();
            (!hits.is_empty()).then_some(hits)
        });
        for channel in found.unwrap_or_default() {
            if !order.iter().any(|(known, _)| known.seq == channel.seq) {
                order.push((channel, Some(step)));
            }
        }
    }
    order
}

/// The address version through which the channel can carry the message to the device, or why it cannot.
fn fits(question: &Question<'_>, channel: &RouteChannel) -> Result<u32, SkipReason> {
    if question.tried.contains(&channel.seq) {
        return Err(SkipReason::Tried);
    }
    let gaps = channel.capabilities.gaps(question.needs);
    if gaps.iter().any(|gap| gap.blocks()) {
        let names: Vec<_> = gaps.iter().filter(|gap| gap.blocks()).map(|gap| gap.as_str()).collect();
        return Err(SkipReason::Lacks(names.join(", ")));
    }
    if channel.tier == Tier::Direct {
        return if question.device.connects { Ok(0) } else { Err(SkipReason::NoAddress) };
    }
    newest_address(question.device, channel)
}

fn newest_address(device: &RouteDevice, channel: &RouteChannel) -> Result<u32, SkipReason> {
    let mut refused = None;
    let mut candidates: Vec<_> =
        device.addresses.iter().filter(|a| a.provider == channel.address_provider).collect();
    candidates.sort_by_key(|a| std::cmp::Reverse(a.version));
    for address in candidates {
        match (channel.serves)(address) {
            Ok(()) => return Ok(address.version),
            Err(why) => refused = Some(why),
        }
    }
    Err(refused.map_or(SkipReason::NoAddress, SkipReason::OtherAccount))
}

fn trouble(state: ChannelState) -> Option<SkipReason> {
    match state {
        ChannelState::Ok => None,
        ChannelState::Paused => Some(SkipReason::Paused),
        ChannelState::AuthFailed => Some(SkipReason::AuthFailed),
        ChannelState::QuotaExhausted => Some(SkipReason::QuotaExhausted),
        ChannelState::Down => Some(SkipReason::Down),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use anypush_providers::contract::{Capabilities, Needs};

    use super::super::RouteAddress;
    use super::*;

    fn channel(seq: i64, name: &str, provider: &str, tier: Tier) -> RouteChannel {
        RouteChannel {
            seq,
            name: name.into(),
            provider: provider.into(),
            address_provider: Box::leak(provider.to_owned().into_boxed_str()),
            tier,
            capabilities: Capabilities { notification: true, data: true, ..Capabilities::NONE },
            state: ChannelState::Ok,
            serves: Arc::new(|address| match address.params.get("project") {
                Some(project) if project != "ours" => Err(format!("belongs to {project}")),
                _ => Ok(()),
            }),
        }
    }

    fn channels() -> Vec<RouteChannel> {
        vec![
            channel(1, "direct", "direct", Tier::Direct),
            channel(2, "global", "globe", Tier::Global),
            channel(3, "maker", "mill", Tier::Maker),
            channel(4, "text", "text", Tier::Sms),
        ]
    }

    fn device(providers: &[&str], connects: bool, connected: bool) -> RouteDevice {
        let address = |provider: &&str| RouteAddress {
            provider: (*provider).into(),
            version: 7,
            kind: "token".into(),
            params: BTreeMap::new(),
        };
        RouteDevice { connects, connected, enabled: true, addresses: providers.iter().map(address).collect() }
    }

    fn ask(
        channels: &[RouteChannel],
        device: &RouteDevice,
        uses: &[&str],
        tried: &[i64],
    ) -> (Vec<i64>, Vec<Skip>) {
        let needs = Needs { notification: true, ..Needs::default() };
        let steps: Vec<_> =
            uses.iter().map(|u| StepSpec { uses: (*u).into(), ..StepSpec::default() }).collect();
        let decision =
            decide(&Question { needs: &needs, steps: &steps, device, channels, tried, own_wait_seconds: 20 });
        let order = match decision.route {
            Route::Send(steps) => steps.iter().map(|s| s.channel).collect(),
            _ => vec![],
        };
        (order, decision.skipped)
    }

    #[test]
    fn a_connected_phone_is_reached_by_its_own_connection_first() {
        let phone = device(&["globe", "mill", "text"], true, true);
        assert_eq!(ask(&channels(), &phone, &[], &[]).0, [1, 3, 2]);
    }

    #[test]
    fn a_phone_that_is_not_connected_is_reached_by_vendors_and_its_inbox_waits_last() {
        let phone = device(&["globe", "mill"], true, false);
        let (order, skipped) = ask(&channels(), &phone, &[], &[]);
        assert_eq!(order, [3, 2, 1]);
        assert!(skipped.contains(&Skip { channel: 1, why: SkipReason::NotConnected }));
        assert_eq!(ask(&channels(), &device(&[], true, false), &[], &[]).0, [1]);
    }

    fn waits(
        channels: &[RouteChannel],
        device: &RouteDevice,
        steps: &[StepSpec],
    ) -> Vec<Option<(u32, State)>> {
        let needs = Needs { notification: true, ..Needs::default() };
        let question = Question { needs: &needs, steps, device, channels, tried: &[], own_wait_seconds: 20 };
        match decide(&question).route {
            Route::Send(steps) => steps.iter().map(|s| s.wait.map(|w| (w.seconds, w.until))).collect(),
            _ => vec![],
        }
    }

    #[test]
    fn the_own_connection_is_waited_for_only_where_vendors_stand_behind_it() {
        let own = Some((20, State::Delivered));
        assert_eq!(waits(&channels(), &device(&["globe"], true, true), &[]), [own, None]);
        assert_eq!(waits(&channels(), &device(&[], true, true), &[]), [None]);
        assert_eq!(waits(&channels(), &device(&["globe"], true, false), &[]), [None, None]);
    }

    #[test]
    fn a_step_that_cannot_see_its_until_waits_all_the_same_or_is_content_with_accepted() {
        let mut all = channels();
        all[2].capabilities.witnesses_delivered = true;
        let step = |uses: &str, if_blind| StepSpec {
            uses: uses.into(),
            wait_seconds: Some(60),
            until: Some(State::Delivered),
            if_blind,
        };
        let phone = device(&["globe", "mill", "text"], false, false);
        let last = StepSpec { uses: "sms".into(), ..StepSpec::default() };
        let ask = |first: StepSpec| waits(&all, &phone, &[first, last.clone()])[0];
        assert_eq!(ask(step("global", IfBlind::Go)), Some((60, State::Delivered)));
        assert_eq!(ask(step("global", IfBlind::Stop)), Some((60, State::Accepted)));
        assert_eq!(ask(step("maker", IfBlind::Stop)), Some((60, State::Delivered)));
    }

    #[test]
    fn text_messages_are_never_sent_unless_asked_for() {
        let phone = device(&["text"], false, false);
        let (order, skipped) = ask(&channels(), &phone, &[], &[]);
        assert!(order.is_empty());
        assert!(skipped.contains(&Skip { channel: 4, why: SkipReason::NotAskedFor }));
        assert_eq!(ask(&channels(), &phone, &["sms"], &[]).0, [4]);
    }

    #[test]
    fn the_order_that_a_message_asks_for_counts() {
        let phone = device(&["globe", "mill"], true, false);
        assert_eq!(ask(&channels(), &phone, &["globe", "direct", "maker"], &[]).0, [2, 1, 3]);
    }

    #[test]
    fn a_channel_in_trouble_is_left_out_while_another_can_do_it_and_kept_where_it_is_the_only_one() {
        let mut all = channels();
        all[2].state = ChannelState::AuthFailed;
        let (order, skipped) = ask(&all, &device(&["globe", "mill"], false, false), &[], &[]);
        assert_eq!(order, [2]);
        assert!(skipped.contains(&Skip { channel: 3, why: SkipReason::AuthFailed }));
        assert_eq!(ask(&all, &device(&["mill"], false, false), &[], &[]).0, [3]);
    }

    #[test]
    fn a_channel_that_was_given_up_is_not_tried_again() {
        assert_eq!(ask(&channels(), &device(&["globe", "mill"], false, false), &[], &[3]).0, [2]);
    }

    #[test]
    fn an_address_of_another_account_is_not_used() {
        let mut phone = device(&["globe"], false, false);
        phone.addresses[0].params.insert("project".into(), "theirs".into());
        let (order, skipped) = ask(&channels(), &phone, &[], &[]);
        assert!(order.is_empty());
        let why = SkipReason::OtherAccount("belongs to theirs".into());
        assert!(skipped.contains(&Skip { channel: 2, why }));
    }

    #[test]
    fn a_person_who_switched_notifications_off_gets_none_but_data_still_flows() {
        let mut phone = device(&["globe"], false, false);
        phone.enabled = false;
        assert!(ask(&channels(), &phone, &[], &[]).0.is_empty());
        let needs = Needs { data_only: true, ..Needs::default() };
        let all = channels();
        let question = Question {
            needs: &needs,
            steps: &[],
            device: &phone,
            channels: &all,
            tried: &[],
            own_wait_seconds: 20,
        };
        assert!(matches!(decide(&question).route, Route::Send(_)));
    }
}
