//! The decision itself.

use anypush_providers::contract::{Reason, Tier};

use super::rules::ruling;
use super::{
    ChannelState, Decision, IfBlind, Question, Route, RouteAddress, RouteChannel, RouteDevice, Step,
    StepSpec, Wait,
};
use crate::delivery::state::State;
use crate::delivery::trail::{Skip, SkipReason};

/// Decides the route of one delivery.
///
/// Channels are taken in the order that the message asked for, else by the app's first rule that fits, else by tier and
/// name; SMS only where asked for. A channel that cannot carry the message or has no address is left out. One that is merely in trouble is left out
/// while another can do it, and kept where it is the only one: then the delivery waits for it. The own connection
/// comes first while the phone is connected, and last (as a place to wait) where it is not.
pub fn decide(question: &Question<'_>) -> Decision {
    let device = question.device;
    if !device.enabled && question.needs.notification {
        return Decision { route: Route::Suppress(Reason::OptedOut), skipped: Vec::new(), rule: None };
    }
    let rule = if question.steps.is_empty() { ruling(question.rules, &device.traits) } else { None };
    let asked = rule.map_or(question.steps, |rule| &rule.steps);
    let mut skipped = Vec::new();
    let mut steps = Vec::new();
    let mut troubled = Vec::new();
    let mut waiting = Vec::new();
    for (channel, spec) in in_order(question, asked, &mut skipped) {
        match fits(question, channel) {
            Err(why) => skipped.push(Skip { channel: channel.seq, why }),
            Ok(address_version) => {
                let step =
                    Step { channel: channel.seq, address_version, wait: wait(question, channel, spec) };
                if let Some(why) = trouble(channel.state) {
                    troubled.push((step, why));
                } else if channel.tier == Tier::Direct && !device.connected && asked.is_empty() {
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
    Decision { route, skipped, rule: rule.map(|rule| rule.name.clone()) }
}

/// What a step waits for, beside its outcome.
fn wait(question: &Question<'_>, channel: &RouteChannel, spec: Option<&StepSpec>) -> Option<Wait> {
    let Some(spec) = spec else {
        let own = channel.tier == Tier::Direct && question.own_wait_seconds > 0;
        return own.then_some(Wait { seconds: question.own_wait_seconds, until: State::Delivered });
    };
    let asked = spec.until.unwrap_or(State::Accepted);
    let until =
        if channel.is_blind_to(asked) && spec.if_blind == IfBlind::Stop { State::Accepted } else { asked };
    spec.wait_seconds.map(|seconds| Wait { seconds, until })
}

/// A channel, and the step of the message that named it.
type Named<'a> = (&'a RouteChannel, Option<&'a StepSpec>);

fn in_order<'a>(question: &Question<'a>, asked: &'a [StepSpec], skipped: &mut Vec<Skip>) -> Vec<Named<'a>> {
    if asked.is_empty() {
        let (paid, mut order): (Vec<_>, Vec<_>) = question.channels.iter().partition(|c| c.tier == Tier::Sms);
        skipped.extend(paid.iter().map(|c| Skip { channel: c.seq, why: SkipReason::NotAskedFor }));
        order.sort_by_key(|c| c.tier);
        return order.into_iter().map(|channel| (channel, None)).collect();
    }
    let mut order: Vec<Named<'a>> = Vec::new();
    for step in asked {
        for channel in named(question.channels, &step.uses) {
            if !order.iter().any(|(known, _)| known.seq == channel.seq) {
                order.push((channel, Some(step)));
            }
        }
    }
    order
}

/// The channels that a step means. A name beats a provider, a provider beats a tier: the most exact word counts.
pub fn named<'a>(channels: &'a [RouteChannel], uses: &str) -> Vec<&'a RouteChannel> {
    let tests: [&dyn Fn(&RouteChannel) -> bool; 3] =
        [&|c| c.name == uses, &|c| c.provider == uses, &|c| c.tier.as_str() == uses];
    let found = tests.iter().find_map(|test| {
        let hits: Vec<_> = channels.iter().filter(|c| test(c)).collect();
        (!hits.is_empty()).then_some(hits)
    });
    found.unwrap_or_default()
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
        return if question.device.connects { Ok(0) } else { Err(SkipReason::NoSecret) };
    }
    newest_address(question.device, channel, !question.steps.is_empty())
}

/// The newest address that the channel serves, ordinary ones first. `named`: the message names its channels itself. That
/// a rule names them is not enough for an address with a purpose: a rule is about many messages, and what is no call must
/// not ring.
fn newest_address(device: &RouteDevice, channel: &RouteChannel, named: bool) -> Result<u32, SkipReason> {
    let mut refused = None;
    let is_special = |address: &RouteAddress| channel.special.contains(&address.kind.as_str());
    let mut candidates: Vec<_> =
        device.addresses.iter().filter(|a| a.provider == channel.address_provider).collect();
    candidates.sort_by_key(|a| (is_special(a), std::cmp::Reverse(a.version)));
    for address in candidates {
        match (channel.serves)(address) {
            // Version 0: the call itself gave it, kind and all.
            Ok(()) if is_special(address) && !named && address.version != 0 => {
                refused = Some(SkipReason::Special(address.kind.clone()));
            }
            Ok(()) => return Ok(address.version),
            Err(why) => refused = refused.or(Some(SkipReason::OtherAccount(why))),
        }
    }
    Err(refused.unwrap_or(SkipReason::NoAddress))
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
    use proptest::prelude::*;

    use super::super::{Match, RouteAddress, Rule};
    use super::*;

    fn channel(seq: i64, name: &str, provider: &str, tier: Tier) -> RouteChannel {
        RouteChannel {
            seq,
            name: name.into(),
            provider: provider.into(),
            address_provider: Box::leak(provider.to_owned().into_boxed_str()),
            special: &["call"],
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
        let addresses = providers.iter().map(address).collect();
        RouteDevice { connects, connected, enabled: true, addresses, ..RouteDevice::default() }
    }

    fn question<'a>(needs: &'a Needs, device: &'a RouteDevice, channels: &'a [RouteChannel]) -> Question<'a> {
        Question { needs, steps: &[], rules: &[], device, channels, tried: &[], own_wait_seconds: 20 }
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
        let decision = decide(&Question { steps: &steps, tried, ..question(&needs, device, channels) });
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
        match decide(&Question { steps, ..question(&needs, device, channels) }).route {
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
    fn an_address_for_calls_gets_no_ordinary_message_unless_the_message_names_its_channel() {
        let mut phone = device(&["globe"], false, false);
        phone.addresses[0].kind = "call".into();
        let (order, skipped) = ask(&channels(), &phone, &[], &[]);
        assert!(order.is_empty());
        assert!(skipped.contains(&Skip { channel: 2, why: SkipReason::Special("call".into()) }));
        assert_eq!(ask(&channels(), &phone, &["global"], &[]).0, [2]);
        // The call itself gave it.
        phone.addresses[0].version = 0;
        assert_eq!(ask(&channels(), &phone, &[], &[]).0, [2]);
    }

    #[test]
    fn a_rule_that_names_a_channel_opens_no_address_for_calls() {
        let mut phone = device(&["globe"], false, false);
        phone.addresses[0].kind = "call".into();
        let steps = vec![StepSpec { uses: "globe".into(), ..StepSpec::default() }];
        let rules = [Rule { name: "all".into(), fits: Match::default(), steps }];
        let needs = Needs { notification: true, ..Needs::default() };
        let all = channels();
        let decided =
            |phone: &RouteDevice| decide(&Question { rules: &rules, ..question(&needs, phone, &all) });
        let first = decided(&phone);
        assert_eq!((first.rule.as_deref(), first.route), (Some("all"), Route::Suppress(Reason::NoRoute)));
        assert_eq!(first.skipped, [Skip { channel: 2, why: SkipReason::Special("call".into()) }]);
        phone.addresses[0].kind = "token".into();
        assert!(matches!(decided(&phone).route, Route::Send(_)));
    }

    #[test]
    fn an_ordinary_address_comes_before_a_newer_one_for_calls() {
        let mut phone = device(&["globe", "globe"], false, false);
        (phone.addresses[1].kind, phone.addresses[1].version) = ("call".into(), 8);
        let needs = Needs { notification: true, ..Needs::default() };
        let all = channels();
        let named = [StepSpec { uses: "global".into(), ..StepSpec::default() }];
        for steps in [&[][..], &named[..]] {
            let question = Question {
                needs: &needs,
                steps,
                rules: &[],
                device: &phone,
                channels: &all,
                tried: &[],
                own_wait_seconds: 20,
            };
            let Route::Send(steps) = decide(&question).route else { panic!("no route") };
            assert_eq!(steps[0].address_version, 7);
        }
    }

    proptest! {
        #[test]
        fn every_channel_that_a_route_considered_is_a_step_or_left_out_for_a_reason_that_holds(
            kinds in prop::collection::vec((0usize..3, prop::bool::ANY), 0..5),
            states in prop::collection::vec(0u8..5, 4),
            connects: bool, connected: bool, data: bool,
            tried in prop::collection::btree_set(1i64..5, 0..3),
        ) {
            let mut all = channels();
            for (channel, state) in all.iter_mut().zip(states) {
                channel.state = ChannelState::from_code(state).unwrap();
            }
            all[2].capabilities.data = !data;
            let providers = ["globe", "mill", "text"];
            let mut phone = device(&[], connects, connects && connected);
            phone.addresses = kinds.iter().enumerate().map(|(i, (provider, special))| RouteAddress {
                provider: providers[*provider].into(),
                version: 1 + i as u32,
                kind: if *special { "call" } else { "token" }.into(),
                params: BTreeMap::new(),
            }).collect();
            let needs = Needs { notification: !data, data_only: data, ..Needs::default() };
            let tried: Vec<i64> = tried.into_iter().collect();
            let question = Question {
                needs: &needs, steps: &[], rules: &[], device: &phone, channels: &all, tried: &tried, own_wait_seconds: 20,
            };
            let decision = decide(&question);
            let steps = match &decision.route { Route::Send(steps) => steps.clone(), _ => vec![] };
            for channel in &all {
                let is_step = steps.iter().any(|step| step.channel == channel.seq);
                let whys: Vec<_> =
                    decision.skipped.iter().filter(|s| s.channel == channel.seq).map(|s| &s.why).collect();
                // The inbox may wait behind vendors and be told as not connected.
                prop_assert_eq!(whys.iter().filter(|why| ***why != SkipReason::NotConnected).count(), usize::from(!is_step));
                let of = |special| phone.addresses.iter().any(|a| {
                    a.provider == channel.address_provider && (a.kind == "call") == special
                });
                for why in whys {
                    prop_assert!(match why {
                        SkipReason::NoSecret => channel.tier == Tier::Direct && !connects,
                        SkipReason::NoAddress => !of(false) && !of(true),
                        SkipReason::Special(kind) => kind == "call" && of(true) && !of(false),
                        SkipReason::Tried => tried.contains(&channel.seq),
                        SkipReason::NotAskedFor => channel.tier == Tier::Sms,
                        SkipReason::NotConnected => !phone.connected,
                        SkipReason::Lacks(_) => channel.capabilities.gaps(&needs).iter().any(|gap| gap.blocks()),
                        SkipReason::Paused | SkipReason::AuthFailed | SkipReason::QuotaExhausted | SkipReason::Down => {
                            channel.state != ChannelState::Ok
                        }
                        SkipReason::OtherAccount(_) => false,
                    }, "{:?}", why);
                }
            }
            for step in &steps {
                let address = phone.addresses.iter().find(|a| a.version == step.address_version);
                prop_assert!(address.is_none_or(|address| address.kind == "token"));
            }
        }
    }

    #[test]
    fn a_person_who_switched_notifications_off_gets_none_but_data_still_flows() {
        let mut phone = device(&["globe"], false, false);
        phone.enabled = false;
        assert!(ask(&channels(), &phone, &[], &[]).0.is_empty());
        let needs = Needs { data_only: true, ..Needs::default() };
        let all = channels();
        assert!(matches!(decide(&question(&needs, &phone, &all)).route, Route::Send(_)));
    }

    #[test]
    fn the_apps_first_rule_that_fits_decides_where_the_message_names_no_route() {
        let rule = |name: &str, uses: &str, countries: &[&str]| Rule {
            name: name.into(),
            fits: Match { countries: countries.iter().map(|c| (*c).into()).collect(), ..Match::default() },
            steps: vec![StepSpec { uses: uses.into(), ..StepSpec::default() }],
        };
        let rules = [rule("abroad", "text", &["FR"]), rule("rest", "globe", &[])];
        let needs = Needs { notification: true, ..Needs::default() };
        let (all, mut phone) = (channels(), device(&["globe", "mill", "text"], true, true));
        let by = |phone: &RouteDevice, steps: &[StepSpec]| {
            let decided = decide(&Question { rules: &rules, steps, ..question(&needs, phone, &all) });
            let Route::Send(steps) = decided.route else { panic!("{decided:?}") };
            (decided.rule, steps.iter().map(|step| step.channel).collect::<Vec<_>>())
        };
        assert_eq!(by(&phone, &[]), (Some("rest".into()), vec![2]));
        phone.traits.country = Some("FR".into());
        assert_eq!(by(&phone, &[]), (Some("abroad".into()), vec![4]));
        let asked = [StepSpec { uses: "maker".into(), ..StepSpec::default() }];
        assert_eq!(by(&phone, &asked), (None, vec![3]));
    }
}
