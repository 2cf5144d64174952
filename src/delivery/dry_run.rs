//! What would become of a message: the same parsing, the same decisions, the same batches as when it is sent. Nothing
//! is stored, nothing is sent.

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use anypush_providers::contract::{Gap, OpenGate, Preview, Reason};

use crate::channels::Channel;
use crate::delivery::accept::{AcceptError, SendRequest, draft};
use crate::delivery::job::Job;
use crate::delivery::page::Entry;
use crate::delivery::pipeline::{Inner, Pipeline};
use crate::delivery::plan::{Plan, Seen};
use crate::delivery::quota::QuotaSeen;
use crate::delivery::targets::Targets;
use crate::delivery::trail::Skip;
use crate::delivery::{expand, request};
use crate::direct;
use crate::ids::GIVEN_TARGETS;
use crate::routing::{Route, Step};
use crate::store::{NewTarget, StoreError};

/// Targets that are told one by one.
const SHOWN: usize = 100;
/// Targets that are decided about; an audience of a million would hold a caller for minutes.
const MOST: u64 = 100_000;

/// What would become of a message.
#[derive(Debug, Default)]
pub struct DryRun {
    /// Targets that were decided about.
    pub targeted: u64,
    /// Whether these are all.
    pub complete: bool,
    /// The first of them.
    pub targets: Vec<DryTarget>,
    /// How many go which way.
    pub ways: HashMap<Fan, u64>,
    /// The channels that any of them may take, by number.
    pub channels: BTreeMap<i64, DryChannel>,
    /// What a person should know before sending, whatever the channel.
    pub warnings: Vec<String>,
}

/// One target.
#[derive(Debug)]
pub struct DryTarget {
    /// Whom it is.
    pub who: Who,
    /// Its steps; none where it would end at once.
    pub steps: Vec<Step>,
    /// Channels that were left out, and why.
    pub skipped: Vec<Skip>,
    /// The app's rule that decided.
    pub rule: Option<String>,
    /// Why it would end at once.
    pub reason: Option<Reason>,
}

/// How a target was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// By the caller's id of a device.
    Device(String),
    /// By an address in the call: provider and token.
    Address(String, String),
    /// By an id that names nothing.
    Nobody(String),
}

/// A way that targets share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Fan {
    /// Channels in the order in which they would be tried.
    pub channels: Vec<i64>,
    /// Channels that were left out, and why.
    pub skipped: Vec<Skip>,
    /// The app's rule that decided.
    pub rule: Option<String>,
    /// Why they would end at once.
    pub reason: Option<Reason>,
}

/// What a channel would be asked to send.
#[derive(Debug, Default)]
pub struct DryChannel {
    /// Targets that it is the first step of.
    pub first: u64,
    /// Targets that it is any step of.
    pub any: u64,
    /// What it leaves out of the message.
    pub gaps: Vec<Gap>,
    /// The request for the first of these targets; `None` where the provider cannot say.
    pub preview: Option<Preview>,
    /// The vendor's quotas that it would use, as they stand.
    pub quotas: Vec<QuotaSeen>,
    /// The first target that has this step.
    sample: Option<(u64, u32)>,
}

impl Pipeline {
    /// Tells what would become of a message.
    pub async fn dry_run(&self, request: SendRequest) -> Result<DryRun, AcceptError> {
        let inner = &self.inner;
        let SendRequest { app, spec, audience, label, .. } = request;
        let job = draft(inner, app, spec, label)?;
        let mut run = DryRun { warnings: linted(&job), ..DryRun::default() };
        let mut samples: HashMap<u64, NewTarget> = HashMap::new();
        let mut rest = Some(audience);
        while let Some(audience) = rest.take().filter(|_| run.targeted < MOST) {
            let mut plan = Plan::watched();
            rest = expand::decide(inner, &job, audience, &mut plan).await?.rest;
            run.targeted += plan.targeted;
            run.add(inner, plan, &mut samples).await?;
        }
        run.complete = rest.is_none();
        let channels = inner.parts.channels.of_app(job.record.app);
        for channel in channels.iter() {
            if let Some(dry) = run.channels.get_mut(&channel.record.seq) {
                dry.gaps = channel.route.capabilities.gaps(&job.needs);
                dry.quotas = self.quotas_of(&job, channel).await?;
                dry.preview = preview(inner, &job, channel, dry.sample, &samples).await?;
            }
        }
        Ok(run)
    }
}

impl Pipeline {
    async fn quotas_of(&self, job: &Job, channel: &Channel) -> Result<Vec<QuotaSeen>, StoreError> {
        let Some(provider) = &channel.provider else { return Ok(Vec::new()) };
        let class =
            provider.quota_class(&job.spec.content, job.category(&channel.record.provider).as_deref());
        let mut quotas = self.quotas(channel).await?;
        quotas.retain(|seen| seen.counted && (seen.quota.class.is_empty() || seen.quota.class == class));
        Ok(quotas)
    }
}

impl DryRun {
    /// Adds a part of the audience.
    async fn add(
        &mut self,
        inner: &Inner,
        plan: Plan,
        samples: &mut HashMap<u64, NewTarget>,
    ) -> Result<(), StoreError> {
        let given: HashMap<u64, NewTarget> =
            plan.given.into_iter().map(|(_, index, target)| (GIVEN_TARGETS + index, target)).collect();
        let seen = plan.seen.unwrap_or_default();
        let shown: Vec<_> = seen.iter().take(SHOWN.saturating_sub(self.targets.len())).collect();
        let devices: Vec<_> = shown.iter().map(|seen| seen.target).filter(|t| *t < GIVEN_TARGETS).collect();
        let ids: HashMap<u64, String> = inner.parts.store.device_ids(&devices).await?.into_iter().collect();
        for seen in shown {
            let who = match given.get(&seen.target) {
                None => Who::Device(ids.get(&seen.target).cloned().unwrap_or_default()),
                Some(NewTarget { provider: Some(provider), token: Some(token), .. }) => {
                    Who::Address(provider.clone(), token.clone())
                }
                Some(given) => Who::Nobody(given.given.clone().unwrap_or_default()),
            };
            let (steps, skipped, reason) = apart(seen);
            let rule = rule(seen);
            self.targets.push(DryTarget { who, steps, skipped, rule, reason });
        }
        for seen in &seen {
            let (steps, skipped, reason) = apart(seen);
            for (place, step) in steps.iter().enumerate() {
                let channel = self.channels.entry(step.channel).or_default();
                channel.first += u64::from(place == 0);
                channel.any += 1;
                if channel.sample.is_none() {
                    channel.sample = Some((seen.target, step.address_version));
                    samples.extend(given.get(&seen.target).map(|given| (seen.target, given.clone())));
                }
            }
            let channels = steps.iter().map(|step| step.channel).collect();
            *self.ways.entry(Fan { channels, skipped, rule: rule(seen), reason }).or_default() += 1;
        }
        Ok(())
    }
}

/// The rule that decided.
fn rule(seen: &Seen) -> Option<String> {
    seen.decision.as_ref().ok().and_then(|decision| decision.rule.clone())
}

/// A decision as steps, or why there are none.
fn apart(seen: &Seen) -> (Vec<Step>, Vec<Skip>, Option<Reason>) {
    match &seen.decision {
        Err(reason) => (Vec::new(), Vec::new(), Some(*reason)),
        Ok(decision) => {
            let skipped = decision.skipped.clone();
            match &decision.route {
                Route::Send(steps) => (steps.clone(), skipped, None),
                Route::Suppress(reason) => (Vec::new(), skipped, Some(*reason)),
                Route::Defer { .. } => (Vec::new(), skipped, None),
            }
        }
    }
}

/// What does not fit together in a message.
fn linted(job: &Job) -> Vec<String> {
    let Some(category) = &job.spec.category else { return Vec::new() };
    let differs = category.class.filter(|class| *class != job.spec.content.class);
    let name = |class| serde_json::to_value(class).ok().and_then(|v| v.as_str().map(str::to_owned));
    let text = |class| {
        format!(
            "the message is {}, its category `{}` is for {}: vendors may count or show it otherwise than meant",
            name(job.spec.content.class).unwrap_or_default(),
            category.name,
            name(class).unwrap_or_default(),
        )
    };
    differs.map(text).into_iter().collect()
}

/// The request that a channel would make for a target.
async fn preview(
    inner: &Inner,
    job: &Job,
    channel: &Arc<Channel>,
    sample: Option<(u64, u32)>,
    samples: &HashMap<u64, NewTarget>,
) -> Result<Option<Preview>, StoreError> {
    if channel.is_direct() {
        return Ok(Some(direct::preview(&job.public_id, &job.spec.content, job.size)));
    }
    let (Some((target, address_version)), Some(provider)) = (sample, &channel.provider) else {
        return Ok(None);
    };
    let entries = [Entry { target, address_version, ..Entry::default() }];
    let given = samples.get(&target).map(|given| (target - GIVEN_TARGETS, given.clone()));
    let store = &*inner.parts.store;
    let found = Targets::among(store, job, channel, &entries, given.into_iter().collect()).await?;
    let Some(target) = found.iter().next() else { return Ok(None) };
    let batch = request::batch(inner, job, channel, (job.id.0 as u64, 1), &[target]);
    let context = request::context(inner, channel, Arc::new(OpenGate));
    // Pure computing in an adapter: a bug there costs this preview, not the call.
    let made = std::panic::catch_unwind(AssertUnwindSafe(|| provider.preview(&batch, &context)));
    Ok(made.unwrap_or_else(|_| {
        tracing::error!(channel.name = %channel.record.name, "the adapter panicked at a dry run");
        None
    }))
}
