//! From targets to pages: each target's route is decided, and those with the same first channel share pages.

use std::collections::{BTreeMap, HashSet};

use anypush_providers::contract::Reason;

use crate::delivery::job::Job;
use crate::delivery::page::{Decided, Entry, Page};
use crate::delivery::spec::GivenAddress;
use crate::delivery::state::{Event, State};
use crate::delivery::trail::TrailEntry;
use crate::direct::Hub;
use crate::ids::{GIVEN_TARGETS, Id};
use crate::routing::{Decision, Question, Route, RouteAddress, RouteChannel, RouteDevice, decide};
use crate::store::{NewTarget, TargetDevice};

/// What becomes of a set of targets.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// How many targets it covers.
    pub(super) targeted: u64,
    /// Entries by channel.
    by_channel: BTreeMap<i64, Vec<(Entry, Decided)>>,
    /// Targets that end here.
    pub(super) events: Vec<Event>,
    /// Targets that are no devices.
    pub(super) given: Vec<(Id, u64, NewTarget)>,
}

/// What every decision of one plan has in common.
pub(super) struct Planner<'a> {
    pub(super) job: &'a Job,
    pub(super) channels: &'a [RouteChannel],
    pub(super) hub: &'a Hub,
    pub(super) now_ms: u64,
}

impl Planner<'_> {
    /// Plans devices.
    pub(super) fn devices(&self, devices: &[TargetDevice], plan: &mut Plan) {
        for device in devices {
            self.target(device.seq, &self.route_device(device), plan);
        }
    }

    /// Plans ids that name nothing.
    pub(super) fn unknown(&self, ids: impl IntoIterator<Item = String>, plan: &mut Plan) {
        for id in ids {
            let index = plan.given.len() as u64;
            plan.given.push((self.job.id, index, NewTarget { given: Some(id), ..NewTarget::default() }));
            plan.targeted += 1;
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
                self.target(target, &device, plan);
            } else {
                plan.targeted += 1;
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
            device,
            channels: self.channels,
            tried,
        })
    }

    /// A device as routing sees it.
    pub(super) fn route_device(&self, device: &TargetDevice) -> RouteDevice {
        RouteDevice {
            connects: device.connects,
            connected: device.connects && self.hub.is_connected(device.seq),
            enabled: device.enabled,
            addresses: device
                .addresses
                .iter()
                .map(|(provider, version, kind, params)| RouteAddress {
                    provider: provider.clone(),
                    version: *version,
                    kind: kind.clone(),
                    params: params.clone(),
                })
                .collect(),
        }
    }

    /// A decision as the trail will tell it.
    pub(super) fn decided(&self, decision: &Decision) -> Decided {
        let channels = match &decision.route {
            Route::Send(steps) => steps.iter().map(|step| step.channel).collect(),
            Route::Defer { .. } | Route::Suppress(_) => Vec::new(),
        };
        Decided { at_ms: self.job.at_ms(self.now_ms), channels, skipped: decision.skipped.clone() }
    }

    fn target(&self, target: u64, device: &RouteDevice, plan: &mut Plan) {
        let decision = self.again(device, &[]);
        let decided = self.decided(&decision);
        plan.targeted += 1;
        match decision.route {
            Route::Send(steps) => {
                let first = &steps[0];
                let entry = Entry { target, address_version: first.address_version, ..Entry::default() };
                plan.add(first.channel, entry, decided);
            }
            Route::Suppress(reason) => plan.events.push(self.suppressed(target, reason, Some(decided))),
            // No rule defers yet; a deferred target must not be lost when one does.
            Route::Defer { .. } => plan.events.push(self.suppressed(target, Reason::NoRoute, Some(decided))),
        }
    }

    fn suppressed(&self, target: u64, reason: Reason, decided: Option<Decided>) -> Event {
        let at_ms = self.job.at_ms(self.now_ms);
        let mut trail: Vec<_> = decided.into_iter().map(TrailEntry::from).collect();
        trail.push(TrailEntry::Ended { at_ms, reason });
        Event {
            message: self.job.id,
            target,
            state: State::Suppressed,
            reason: Some(reason),
            channel: 0,
            vendor_id: None,
            at_ms,
            trail,
        }
    }
}

impl Plan {
    /// Adds an entry for a channel.
    pub(super) fn add(&mut self, channel: i64, entry: Entry, decided: Decided) {
        self.by_channel.entry(channel).or_default().push((entry, decided));
    }

    /// Cuts the entries into pages, per channel, sorted by target.
    pub(super) fn pages(&mut self) -> Vec<(i64, Page)> {
        let mut pages = Vec::new();
        for (channel, mut entries) in std::mem::take(&mut self.by_channel) {
            entries.sort_by_key(|(entry, _)| entry.target);
            for chunk in entries.chunks(Page::MAX) {
                let mut page = Page::default();
                for (entry, decided) in chunk {
                    let index = page.decisions.iter().position(|d| d == decided).unwrap_or_else(|| {
                        page.decisions.push(decided.clone());
                        page.decisions.len() - 1
                    });
                    page.entries.push(Entry { decision: Some(index as u16), ..entry.clone() });
                }
                pages.push((channel, page));
            }
        }
        pages
    }
}

impl From<Decided> for TrailEntry {
    fn from(decided: Decided) -> Self {
        Self::Decided { at_ms: decided.at_ms, channels: decided.channels, skipped: decided.skipped }
    }
}
