//! Requests that stand in each other's way: the vendor, the wire or this machine takes no more of them at a time, and each
//! further one only makes all wait longer, those whom a person waits for too.

use super::{Micros, SECOND};

/// How much longer than the quickest answer the others may take: twice as long, and so much.
const SLACK: Micros = SECOND / 100;
/// For how long the quickest answer is remembered, at least; twice that at most.
const MEMORY: Micros = 30 * SECOND;
/// How long answers are looked at before anything is said of them, and how many there must be: less is chance.
const LOOK: Micros = SECOND / 4;
const ANSWERS: u32 = 64;
/// How long nothing is tried once cuts have changed nothing, so many of them one after the other: one may be noise.
const LEFT_ALONE: Micros = 30 * SECOND;
const IN_VAIN: u32 = 2;
/// Requests of which a queue is nobody's trouble.
const FEW: u32 = 64;

/// Finds out by trials: where answers take much longer than the quickest, fewer are let out, and that stands where answers
/// come sooner by it. Where they do not, it is the vendor's own time, and fewer requests would only be fewer answers.
#[derive(Debug, Clone, Default)]
pub(super) struct Crowd {
    quickest: Quickest,
    look: Look,
    /// Cuts on trial.
    trial: Option<Trial>,
    left_alone_until: Micros,
}

/// The quickest answer of the last half minute or two: of this span, and of the one before.
#[derive(Debug, Clone, Copy, Default)]
struct Quickest {
    since: Micros,
    this: Option<Micros>,
    before: Option<Micros>,
}

/// Cuts one after the other: how it was before the first.
#[derive(Debug, Clone, Copy)]
struct Trial {
    limit: u32,
    mean: Micros,
    /// Looks one after the other that found nothing better.
    in_vain: u32,
}

impl Trial {
    /// Whether answers come sooner by half at least of what they should if all that they waited for was each other; a tenth
    /// is noise.
    fn is_worth_it(self, limit: u32, mean: Micros) -> bool {
        let kept = u64::from(limit) * 100 / u64::from(self.limit.max(1));
        mean * 200 <= self.mean * (120 + kept)
    }
}

/// Answers under one limit.
#[derive(Debug, Clone, Copy, Default)]
struct Look {
    since: Option<Micros>,
    answers: u32,
    latency: Micros,
}

impl Crowd {
    /// An answer came.
    pub(super) fn learn(&mut self, now: Micros, latency: Micros) {
        let quickest = &mut self.quickest;
        if now.saturating_sub(quickest.since) >= MEMORY {
            *quickest = Quickest { since: now, this: None, before: quickest.this };
        }
        quickest.this = Some(quickest.this.map_or(latency, |this| this.min(latency)));
        if self.look.since.is_some_and(|since| now.saturating_sub(since) > 4 * LOOK) {
            // Nobody asked meanwhile: it is of another time.
            self.look = Look::default();
        }
        self.look.since.get_or_insert(now);
        self.look.answers = self.look.answers.saturating_add(1);
        self.look.latency = self.look.latency.saturating_add(latency);
    }

    /// The limit was cut for another reason: what came until then proves nothing.
    pub(super) fn disturbed(&mut self) {
        (self.trial, self.look) = (None, Look::default());
    }

    /// Whether the limit is to be cut, on trial; it is never cut below the floor.
    pub(super) fn is_felt(&mut self, now: Micros, limit: u32, floor: u32) -> bool {
        let Look { since: Some(since), answers, latency } = self.look else { return false };
        if now.saturating_sub(since) < LOOK || answers < ANSWERS {
            return false;
        }
        self.look = Look::default();
        let mean = latency / u64::from(answers);
        let quickest = self.quickest.this.into_iter().chain(self.quickest.before).min().unwrap_or(mean);
        let floor = floor.max(FEW);
        let mut trial = self.trial.unwrap_or(Trial { limit, mean, in_vain: 0 });
        // A short way down proves nothing.
        let is_proof = self.trial.is_some() && trial.limit >= 4 * floor;
        trial.in_vain = if is_proof && !trial.is_worth_it(limit, mean) { trial.in_vain + 1 } else { 0 };
        if trial.in_vain >= IN_VAIN {
            self.left_alone_until = now + LEFT_ALONE;
        }
        let is_felt = !self.is_left_alone(now) && limit > floor && mean > quickest * 2 + SLACK;
        self.trial = is_felt.then_some(trial);
        is_felt
    }

    /// Whether a cut is on trial: until it is judged the limit stays.
    pub(super) fn is_on_trial(&self) -> bool {
        self.trial.is_some()
    }

    /// Whether trials have shown that fewer requests change nothing.
    pub(super) fn is_left_alone(&self, now: Micros) -> bool {
        now < self.left_alone_until
    }
}
