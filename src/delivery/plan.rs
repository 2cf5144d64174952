//! From targets to pages: each target's route is decided, and those with the same first channel share pages.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use anypush_providers::contract::Reason;

use crate::delivery::job::Job;
use crate::delivery::page::{Decided, Entry, Page};
use crate::delivery::pipeline::Inner;
use crate::delivery::spec::GivenAddress;
use crate::delivery::state::{Event, KnownPlatform, State};
use crate::delivery::trail::{self, TrailEntry};
use crate::direct::Hub;
use crate::ids::{GIVEN_TARGETS, Id};
use crate::routing::{
    Decision, Question, Route, RouteAddress, RouteChannel, RouteDevice, Step, Traits, Wait, decide,
};
use crate::store::{NewTarget, NewWork, TargetAddress, TargetDevice, WorkKind};

/// What becomes of a set of targets.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// How many targets it covers.
    pub(super) targeted: u64,
    /// Entries by what their next step is.
    steps: BTreeMap<Aim, Vec<Planned>>,
    /// Entries about which is decided again at a later time.
    deferred: BTreeMap<(u64, Option<Wait>), Vec<Entry>>,
    /// Targets that end here.
    pub(super) events: Vec<Event>,
    /// Targets that are no devices.
    pub(super) given: Vec<(Id, u64, NewTarget)>,
    /// Every decision, in order, for a dry run to tell; kept where it is asked for.
    pub(super) seen: Option<Vec<Seen>>,
    /// What was decided about the devices of each kind that came last; good for one planner.
    known: Vec<(RouteDevice, Arc<Made>)>,
}

/// An entry, with the decision that the trail is to tell.
type Planned = (Entry, Option<Arc<Decided>>);

/// A decision, and as the trail will tell it. Devices that are alike share it.
#[derive(Debug)]
struct Made {
    decision: Decision,
    decided: Arc<Decided>,
}

/// Most kinds of devices that a plan remembers: an audience has few.
const KINDS: usize = 16;

/// What was decided about a target.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) target: u64,
    /// `Err`: it ends with this before a route is looked for.
    pub(super) decision: Result<Decision, Reason>,
}

/// A step that targets share: their pages are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Aim {
    pub(super) channel: i64,
    pub(super) wait: Option<Wait>,
    /// See [`Page::held`].
    pub(super) held: Option<State>,
}

impl Aim {
    /// A step of a route, for targets that no channel has or (`held`) that one has in vain.
    pub(super) fn at(step: &Step, held: Option<State>) -> Self {
        Self { channel: step.channel, wait: step.wait, held }
    }
}

/// What every decision of one plan has in common.
pub(super) struct Planner<'a> {
    pub(super) job: &'a Job,
    pub(super) channels: &'a [RouteChannel],
    pub(super) hub: &'a Hub,
    pub(super) now_ms: u64,
    pub(super) own_wait_seconds: u32,
    /// What the message's rules ask of devices, where they do.
    pub(super) traits: HashMap<u64, Traits>,
}

impl Planner<'_> {
    /// Plans devices. About those that routing cannot tell from one another is decided once.
    pub(super) fn devices(&self, devices: &[TargetDevice], plan: &mut Plan) {
        for device in devices {
            let device = self.seen(device);
            let made = self.made(&device, plan);
            let platform = KnownPlatform::new(device.device.platform);
            self.target(device.device.seq, platform, &made, plan);
        }
    }

    /// Plans ids that name nothing.
    pub(super) fn unknown(&self, ids: impl IntoIterator<Item = String>, plan: &mut Plan) {
        for id in ids {
            let index = plan.given.len() as u64;
            plan.given.push((self.job.id, index, NewTarget { given: Some(id), ..NewTarget::default() }));
            plan.targeted += 1;
            plan.see(GIVEN_TARGETS + index, || Err(Reason::UnknownTarget));
            plan.events.push(self.suppressed(GIVEN_TARGETS + index, Reason::UnknownTarget, None));
        }
    }

    /// Plans addresses given in the call. One that was given before ends as a duplicate.
    pub(super) fn addresses(&self, addresses: &[GivenAddress], plan: &mut Plan) {
        let mut seen = HashSet::new();
        for given in addresses {
            let index = plan.given.len() as u64;
            let address = &given.address;
            plan.given.push((
                self.job.id,
                index,
                NewTarget {
                    provider: Some(given.provider.clone()),
                    kind: Some(address.kind.clone()),
                    token: Some(address.token.expose().to_owned()),
                    params: serde_json::to_string(&address.params).ok(),
                    given: None,
                },
            ));
            let target = GIVEN_TARGETS + index;
            if seen.insert((&given.provider, &address.kind, &address.token)) {
                let route = RouteAddress {
                    provider: given.provider.clone(),
                    version: 0,
                    kind: address.kind.clone(),
                    params: address.params.clone(),
                };
                let device = RouteDevice { enabled: true, addresses: vec![route], ..RouteDevice::default() };
                self.target(target, KnownPlatform::new(0), &self.make(&device), plan);
            } else {
                plan.targeted += 1;
                plan.see(target, || Err(Reason::DuplicateAddress));
                plan.events.push(self.suppressed(target, Reason::DuplicateAddress, None));
            }
        }
    }

    /// Decides again for targets whose channel gave them up. Those without another channel stay out of the plan:
    /// the caller ends them with the reason it has.
    pub(super) fn again(&self, device: &RouteDevice, tried: &[i64]) -> Decision {
        decide(&Question {
            needs: &self.job.needs,
            steps: &self.job.spec.steps,
            rules: &self.job.spec.rules,
            device,
            channels: self.channels,
            tried,
            own_wait_seconds: self.own_wait_seconds,
        })
    }

    /// A device as routing sees it.
    pub(super) fn route_device(&self, device: &TargetDevice) -> RouteDevice {
        self.seen(device).route_device()
    }

    fn seen<'d>(&'d self, device: &'d TargetDevice) -> SeenDevice<'d> {
        SeenDevice {
            device,
            connected: device.connects && self.hub.is_connected(device.seq),
            traits: self.traits.get(&device.seq),
        }
    }

    /// A decision as the trail will tell it.
    pub(super) fn decided(&self, decision: &Decision) -> Decided {
        let channels = match &decision.route {
            Route::Send(steps) => steps.iter().map(|step| step.channel).collect(),
            Route::Defer { .. } | Route::Suppress(_) => Vec::new(),
        };
        Decided {
            at_ms: self.job.at_ms(self.now_ms),
            channels,
            skipped: decision.skipped.clone(),
            rule: decision.rule.clone(),
        }
    }

    /// What was decided about a device that is like this one, or is now.
    fn made(&self, device: &SeenDevice<'_>, plan: &mut Plan) -> Arc<Made> {
        if let Some((_, made)) = plan.known.iter().find(|(known, _)| device.is_like(known)) {
            return Arc::clone(made);
        }
        let route_device = device.route_device();
        let made = Arc::new(self.make(&route_device));
        let known = (route_device, Arc::clone(&made));
        if plan.known.len() < KINDS {
            plan.known.push(known);
        } else {
            plan.known[plan.targeted as usize % KINDS] = known;
        }
        made
    }

    fn make(&self, device: &RouteDevice) -> Made {
        let decision = self.again(device, &[]);
        Made { decided: Arc::new(self.decided(&decision)), decision }
    }

    fn target(&self, target: u64, platform: KnownPlatform, made: &Made, plan: &mut Plan) {
        let Made { decision, decided } = made;
        plan.targeted += 1;
        plan.see(target, || Ok(decision.clone()));
        let entry = Entry { target, platform, ..Entry::default() };
        match &decision.route {
            Route::Send(steps) => {
                let first = &steps[0];
                let entry = Entry { address_version: first.address_version, ..entry };
                plan.add(Aim::at(first, None), entry, Arc::clone(decided));
            }
            Route::Suppress(reason) => {
                let event = self.suppressed(target, *reason, Some(decided));
                plan.events.push(Event { platform, ..event });
            }
            Route::Defer { until_ms } => plan.defer(*until_ms, None, entry),
        }
    }

    fn suppressed(&self, target: u64, reason: Reason, decided: Option<&Decided>) -> Event {
        let at_ms = self.job.at_ms(self.now_ms);
        Event {
            reason: Some(reason),
            platform: KnownPlatform::new(0),
            decided: decided.map(Decided::told),
            trail: vec![TrailEntry::Ended { at_ms, reason }],
            ..Event::new((self.job.id, target), State::Suppressed, 0, at_ms)
        }
    }
}

/// A device with what else routing looks at.
struct SeenDevice<'d> {
    device: &'d TargetDevice,
    connected: bool,
    traits: Option<&'d Traits>,
}

impl SeenDevice<'_> {
    fn route_device(&self) -> RouteDevice {
        let address = |address: &TargetAddress| RouteAddress {
            provider: address.provider.clone(),
            version: address.version,
            kind: address.kind.clone(),
            params: address.params.clone(),
        };
        RouteDevice {
            connects: self.device.connects,
            connected: self.connected,
            enabled: self.device.enabled,
            addresses: self.device.addresses.iter().map(address).collect(),
            traits: self.traits.cloned().unwrap_or_default(),
        }
    }

    /// Whether its route is the same: it differs in nothing that [`Self::route_device`] brings.
    fn is_like(&self, other: &RouteDevice) -> bool {
        let RouteDevice { connects, connected, enabled, addresses, traits } = other;
        let same = |(ours, theirs): (&TargetAddress, &RouteAddress)| {
            let RouteAddress { provider, version, kind, params } = theirs;
            (&ours.provider, &ours.version, &ours.kind, &ours.params) == (provider, version, kind, params)
        };
        (self.device.connects, self.connected, self.device.enabled) == (*connects, *connected, *enabled)
            && self.device.addresses.len() == addresses.len()
            && self.device.addresses.iter().zip(addresses).all(same)
            && self.traits.map_or_else(|| *traits == Traits::default(), |ours| ours == traits)
    }
}

impl Plan {
    /// A plan that keeps every decision.
    pub(super) fn watched() -> Self {
        Self { seen: Some(Vec::new()), ..Self::default() }
    }

    fn see(&mut self, target: u64, decision: impl FnOnce() -> Result<Decision, Reason>) {
        if let Some(seen) = &mut self.seen {
            seen.push(Seen { target, decision: decision() });
        }
    }

    /// Adds an entry for a step.
    pub(super) fn add(&mut self, aim: Aim, entry: Entry, decided: Arc<Decided>) {
        self.steps.entry(aim).or_default().push((entry, Some(decided)));
    }

    /// Adds an entry whose decision the trail tells already.
    pub(super) fn tell(&mut self, aim: Aim, entry: Entry) {
        self.steps.entry(aim).or_default().push((entry, None));
    }

    /// Adds an entry about which is decided again at this time, in Unix milliseconds; with what an earlier step that
    /// has it waited for.
    pub(super) fn defer(&mut self, until_ms: u64, wait: Option<Wait>, entry: Entry) {
        self.deferred.entry((until_ms, wait)).or_default().push(entry);
    }

    /// All entries as work: pages for their channels now, and what is decided again later.
    pub(super) fn work(&mut self, inner: &Inner, job: &Job) -> Vec<NewWork> {
        let now_ms = inner.now_ms();
        let mut work: Vec<_> = self
            .pages(job.at_ms(now_ms))
            .iter()
            .map(|(channel, page)| inner.page_work(job, *channel, page, now_ms, 0))
            .collect();
        for ((until_ms, wait), mut entries) in std::mem::take(&mut self.deferred) {
            // Nothing waits beyond its deadline: there it ends.
            let due_at = until_ms.min(job.ends_at()).max(now_ms);
            entries.sort_by_key(|entry| entry.target);
            work.extend(entries.chunks(Page::MAX).map(|chunk| {
                let page = Page { entries: chunk.to_vec(), wait, ..Page::default() };
                NewWork { kind: WorkKind::Escalate, ..inner.page_work(job, 0, &page, due_at, 0) }
            }));
        }
        work
    }

    /// Cuts the entries into pages, per step, sorted by target.
    fn pages(&mut self, began_ms: u64) -> Vec<(i64, Page)> {
        let mut pages = Vec::new();
        for (Aim { channel, wait, held }, mut entries) in std::mem::take(&mut self.steps) {
            entries.sort_by_key(|(entry, _)| entry.target);
            let mut entries = entries.into_iter().peekable();
            while entries.peek().is_some() {
                let mut decisions: Vec<Arc<Decided>> = Vec::new();
                let of_page = entries.by_ref().take(Page::MAX).map(|(entry, decided)| {
                    let decision = decided.map(|decided| {
                        let known = decisions.iter().position(|d| Arc::ptr_eq(d, &decided) || *d == decided);
                        known.unwrap_or_else(|| {
                            decisions.push(decided);
                            decisions.len() - 1
                        }) as u16
                    });
                    Entry { decision, ..entry }
                });
                let entries = of_page.collect();
                let decisions = decisions.into_iter().map(Arc::unwrap_or_clone).collect();
                pages.push((channel, Page { decisions, entries, wait, began_ms, held, ..Page::default() }));
            }
        }
        pages
    }
}

impl Decided {
    /// As a trail tells it, encoded.
    pub(super) fn told(&self) -> Arc<[u8]> {
        trail::encode([&self.clone().into()]).into()
    }
}

impl From<Decided> for TrailEntry {
    fn from(decided: Decided) -> Self {
        let Decided { at_ms, channels, skipped, rule } = decided;
        Self::Decided { at_ms, channels, skipped, rule }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use anypush_providers::contract::{Address, Capabilities, Class, Content, Notification, Tier, Token};
    use proptest::prelude::*;

    use super::*;
    use crate::delivery::spec::Spec;
    use crate::ids::IdCodec;
    use crate::routing::ChannelState;
    use crate::store::MessageRecord;

    fn job() -> Job {
        let notification = Some(Notification { title: Some("Hello".into()), ..Notification::default() });
        let content = Content { notification, ..Content::default() };
        let spec = Spec { content: content.into(), ..Spec::default() };
        let record = MessageRecord {
            id: Id(9),
            app: 1,
            state: 0,
            class: Class::Marketing,
            spec: serde_json::to_string(&spec).unwrap(),
            label: None,
            created_at: 1000,
            send_at: None,
            deadline_at: 9000,
            expanded_at: None,
            targeted: 0,
            generation: 0,
        };
        Job::new(record, spec, &IdCodec::new(&[0; 32]))
    }

    fn channels() -> Vec<RouteChannel> {
        let channel = |seq, provider: &'static str, tier| RouteChannel {
            seq,
            name: provider.into(),
            provider: provider.into(),
            address_provider: provider,
            special: &[],
            tier,
            capabilities: Capabilities { notification: true, data: true, ..Capabilities::NONE },
            state: ChannelState::Ok,
            serves: Arc::new(|address| match address.params.get("project") {
                Some(project) if project != "ours" => Err(format!("belongs to {project}")),
                _ => Ok(()),
            }),
        };
        vec![channel(1, "direct", Tier::Direct), channel(2, "globe", Tier::Global)]
    }

    fn plan(act: impl FnOnce(&Planner<'_>, &mut Plan)) -> Plan {
        let (job, channels, hub) = (job(), channels(), Hub::default());
        let mut plan = Plan::default();
        let traits = HashMap::new();
        let planner =
            Planner { job: &job, channels: &channels, hub: &hub, now_ms: 1500, own_wait_seconds: 20, traits };
        act(&planner, &mut plan);
        plan
    }

    fn device(seq: u64, kind: u8) -> TargetDevice {
        let address = || TargetAddress {
            provider: "globe".into(),
            version: 3,
            kind: "token".into(),
            params: BTreeMap::new(),
            token: None,
        };
        let addresses = if kind == 1 { vec![address()] } else { vec![] };
        TargetDevice { seq, enabled: true, connects: kind == 0, addresses, ..TargetDevice::default() }
    }

    /// A device that differs from others in all that routing looks at.
    fn any_device() -> impl Strategy<Value = TargetDevice> {
        let kinds = prop::sample::select(vec!["token", "call"]);
        let params = prop::option::of(prop::sample::select(vec!["ours", "theirs"]));
        let address =
            (prop::bool::ANY, 1u32..4, kinds, params).prop_map(|(globe, version, kind, project)| {
                let provider = if globe { "globe" } else { "mill" }.to_owned();
                let params = project.map(|project| ("project".to_owned(), project.to_owned()));
                let (kind, params) = (kind.to_owned(), params.into_iter().collect());
                TargetAddress { provider, version, kind, params, token: None }
            });
        let addresses = prop::collection::vec(address, 0..3);
        (prop::bool::weighted(0.9), prop::bool::ANY, addresses).prop_map(|(enabled, connects, addresses)| {
            TargetDevice { enabled, connects, addresses, ..TargetDevice::default() }
        })
    }

    proptest! {
        #[test]
        fn devices_that_are_alike_get_what_each_would_get_alone(
            kinds in prop::collection::vec(any_device(), 1..30),
            order in prop::collection::vec((0usize..30, prop::option::of("[a-c]")), 1..200),
        ) {
            let (job, channels, hub) = (job(), channels(), Hub::default());
            let devices: Vec<_> = order.iter().enumerate().map(|(at, (kind, _))| {
                TargetDevice { seq: at as u64, ..kinds[kind % kinds.len()].clone() }
            }).collect();
            let traits = order.iter().enumerate().filter_map(|(at, (_, country))| {
                country.clone().map(|country| (at as u64, Traits { country: Some(country), ..Traits::default() }))
            }).collect();
            let planner =
                Planner { job: &job, channels: &channels, hub: &hub, now_ms: 1500, own_wait_seconds: 20, traits };
            let mut plan = Plan::watched();
            planner.devices(&devices, &mut plan);
            for (seen, device) in plan.seen.unwrap().into_iter().zip(&devices) {
                let alone = planner.again(&planner.route_device(device), &[]);
                prop_assert_eq!((seen.target, seen.decision), (device.seq, Ok(alone)));
            }
        }

        #[test]
        fn every_target_is_in_one_page_or_ends_with_a_reason(kinds in prop::collection::vec(0u8..3, 0..2500)) {
            let devices: Vec<_> = kinds.iter().enumerate().map(|(i, kind)| device(i as u64 * 7, *kind)).collect();
            let mut plan = plan(|planner, plan| planner.devices(&devices, plan));
            let pages = plan.pages(500);
            let mut seen = BTreeSet::new();
            for (channel, page) in &pages {
                prop_assert!(page.entries.len() <= Page::MAX);
                prop_assert!(page.entries.is_sorted_by_key(|entry| entry.target));
                for entry in &page.entries {
                    prop_assert!(seen.insert(entry.target));
                    let story = &page.decisions[usize::from(entry.decision.unwrap())];
                    prop_assert_eq!(story.channels[0], *channel);
                }
            }
            for event in &plan.events {
                prop_assert!(seen.insert(event.target));
                prop_assert_eq!((event.state, event.reason), (State::Suppressed, Some(Reason::NoRoute)));
            }
            prop_assert_eq!(seen.len() as u64, plan.targeted);
        }
    }

    #[test]
    fn an_address_that_is_given_twice_gets_one_send() {
        let given = |token: &str| GivenAddress {
            provider: "globe".into(),
            address: Address { kind: "token".into(), token: Token::new(token), params: BTreeMap::new() },
        };
        let mut plan = plan(|planner, plan| planner.addresses(&[given("a"), given("b"), given("a")], plan));
        let pages = plan.pages(500);
        assert_eq!(pages[0].1.entries.len(), 2);
        assert_eq!(plan.events[0].reason, Some(Reason::DuplicateAddress));
        assert_eq!((plan.targeted, plan.given.len()), (3, 3));
    }

    #[test]
    fn an_id_that_names_nothing_is_counted_and_suppressed() {
        let plan = plan(|planner, plan| planner.unknown(["nobody".to_owned()], plan));
        assert_eq!(plan.events[0].reason, Some(Reason::UnknownTarget));
        assert_eq!((plan.targeted, plan.events[0].target), (1, GIVEN_TARGETS));
    }
}
