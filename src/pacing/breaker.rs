//! The breaker: a vendor that is down is left alone, but for one probe from time to time.

use super::{Micros, SECOND};

/// Seconds that are looked back on.
const SECONDS: usize = 10;
/// Answers below which nothing is concluded.
const ENOUGH: u32 = 20;
/// The first time that it stays open; doubled with each failed probe.
const FIRST: Micros = SECOND;
/// The longest.
const LONGEST: Micros = 60 * SECOND;
/// How long the answer of a probe that has ended is waited for.
const GRACE: Micros = SECOND;

/// What may pass now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circuit {
    /// Everything.
    Closed,
    /// One request, the probe.
    ProbeDue,
    /// Nothing until the probe's answer is known; look again at this time.
    ProbeOut(Micros),
    /// Nothing until this time.
    Open(Micros),
}

/// The breaker of one credential. It opens when more than half of at least twenty requests of the last ten seconds
/// found the vendor not working, stays open for 1 s · 2ⁿ (at most a minute), then lets one request through: its answer
/// closes it or opens it for twice as long. Refused credentials are no business of its own.
#[derive(Debug, Clone)]
pub struct Breaker {
    state: State,
    /// Since when it is not closed.
    since: Micros,
    /// Probes that failed in a row.
    failed_probes: u32,
    /// (answers, bad ones) by second.
    seconds: [(u32, u32); SECONDS],
    /// The newest second in `seconds`.
    second: u64,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed,
    Open { until: Micros },
    Probing { began: Micros, ended: Option<Micros> },
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: State::Closed, since: 0, failed_probes: 0, seconds: [(0, 0); SECONDS], second: 0 }
    }
}

impl Breaker {
    /// What may pass now.
    pub fn circuit(&self, now: Micros) -> Circuit {
        match self.state {
            State::Closed => Circuit::Closed,
            State::Open { until } if now < until => Circuit::Open(until),
            State::Open { .. } => Circuit::ProbeDue,
            State::Probing { ended: Some(ended), .. } if now >= ended + GRACE => Circuit::ProbeDue,
            State::Probing { ended: Some(ended), .. } => Circuit::ProbeOut(ended + GRACE),
            State::Probing { ended: None, .. } => Circuit::ProbeOut(now + GRACE),
        }
    }

    /// How long it has not been closed.
    pub fn down_for(&self, now: Micros) -> Option<Micros> {
        (!matches!(self.state, State::Closed)).then(|| now.saturating_sub(self.since))
    }

    /// The probe sets out. Only where [`Self::circuit`] says that it is due.
    pub fn probe(&mut self, now: Micros) {
        self.state = State::Probing { began: now, ended: None };
    }

    /// The probe gave back its place. Where its answer does not follow, another one may set out.
    pub fn probe_over(&mut self, now: Micros) {
        if let State::Probing { ended: ended @ None, .. } = &mut self.state {
            *ended = Some(now);
        }
    }

    /// An answer came to a request that began then. `true`: it opened or closed.
    pub fn answered(&mut self, now: Micros, began: Micros, is_bad: bool) -> bool {
        match self.state {
            // It was sent before anything was known.
            State::Open { .. } => false,
            State::Probing { began: probe, .. } if began < probe => false,
            State::Probing { .. } if is_bad => {
                self.failed_probes += 1;
                self.open(now);
                true
            }
            State::Probing { .. } => {
                *self = Self::default();
                true
            }
            State::Closed => {
                self.count(now, is_bad);
                let (all, bad) = self.seconds.iter().fold((0, 0), |sum, s| (sum.0 + s.0, sum.1 + s.1));
                if all < ENOUGH || bad * 2 <= all {
                    return false;
                }
                self.since = now;
                self.open(now);
                true
            }
        }
    }

    fn open(&mut self, now: Micros) {
        let wait = (FIRST << self.failed_probes.min(6)).min(LONGEST);
        self.state = State::Open { until: now + wait };
        self.seconds = [(0, 0); SECONDS];
    }

    fn count(&mut self, now: Micros, is_bad: bool) {
        let second = now / SECOND;
        let passed = second.saturating_sub(self.second).min(SECONDS as u64);
        for gone in 1..=passed {
            self.seconds[(self.second + gone) as usize % SECONDS] = (0, 0);
        }
        if passed == SECONDS as u64 {
            self.seconds = [(0, 0); SECONDS];
        }
        self.second = self.second.max(second);
        let counted = &mut self.seconds[self.second as usize % SECONDS];
        counted.0 += 1;
        counted.1 += u32::from(is_bad);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        for i in 0..u64::from(ENOUGH) {
            breaker.answered(i, i, true);
        }
        breaker
    }

    #[test]
    fn nineteen_failures_prove_nothing_and_twenty_do() {
        let mut breaker = Breaker::default();
        for _ in 0..19 {
            assert!(!breaker.answered(5, 5, true));
        }
        assert_eq!(breaker.circuit(6), Circuit::Closed);
        assert!(breaker.answered(6, 6, true));
        assert_eq!(breaker.circuit(6), Circuit::Open(6 + FIRST));
    }

    #[test]
    fn half_of_them_are_not_enough_and_old_ones_are_forgotten() {
        let mut breaker = Breaker::default();
        for i in 0..1000 {
            assert!(!breaker.answered(i, i, i % 2 == 1));
        }
        for i in 0..19 {
            let now = 11 * SECOND + i;
            assert!(!breaker.answered(now, now, true));
        }
    }

    #[test]
    fn a_good_probe_closes_and_a_bad_one_doubles_the_wait_up_to_a_minute() {
        let mut breaker = opened();
        let mut wait = FIRST;
        let mut now = 19;
        for _ in 0..10 {
            assert_eq!(breaker.circuit(now), Circuit::Open(now + wait));
            now += wait;
            assert_eq!(breaker.circuit(now), Circuit::ProbeDue);
            breaker.probe(now);
            assert!(breaker.answered(now, now, true));
            wait = (wait * 2).min(LONGEST);
        }
        now += wait;
        breaker.probe(now);
        assert!(breaker.answered(now + 5, now, false));
        assert_eq!(breaker.circuit(now + 5), Circuit::Closed);
    }

    #[test]
    fn answers_to_what_was_sent_before_are_not_taken_for_the_probes() {
        let mut breaker = opened();
        let now = 2 * SECOND;
        breaker.probe(now);
        assert!(!breaker.answered(now + 10, now - 1, true));
        assert!(!breaker.answered(now + 10, now - 1, false));
        assert!(matches!(breaker.circuit(now + 10), Circuit::ProbeOut(_)));
    }

    #[test]
    fn a_probe_that_is_lost_is_followed_by_another() {
        let mut breaker = opened();
        breaker.probe(2 * SECOND);
        assert!(matches!(breaker.circuit(100 * SECOND), Circuit::ProbeOut(_)));
        breaker.probe_over(100 * SECOND);
        assert_eq!(breaker.circuit(100 * SECOND + GRACE), Circuit::ProbeDue);
    }

    proptest! {
        #[test]
        fn while_it_is_not_closed_at_most_one_request_is_under_way(
            steps in prop::collection::vec((0u64..2 * SECOND, 0u8..4, any::<bool>()), 0..500),
        ) {
            let mut breaker = opened();
            let mut now = 20;
            // The probe that is out, and when it began.
            let mut out: Option<Micros> = None;
            for (pause, step, is_bad) in steps {
                now += pause;
                match step {
                    0 | 1 if breaker.circuit(now) == Circuit::ProbeDue => {
                        prop_assert!(out.is_none(), "a second probe while one is out");
                        breaker.probe(now);
                        out = Some(now);
                    }
                    2 => if let Some(began) = out.take() {
                        breaker.probe_over(now);
                        breaker.answered(now, began, is_bad);
                    },
                    // An old answer, which must change nothing.
                    _ => {
                        let before = breaker.circuit(now);
                        if before != Circuit::Closed {
                            breaker.answered(now, 5, is_bad);
                            prop_assert_eq!(breaker.circuit(now), before);
                        }
                    }
                }
                if breaker.circuit(now) == Circuit::Closed {
                    for i in 0..u64::from(ENOUGH) {
                        breaker.answered(now + i, now + i, true);
                    }
                    now += 20;
                    prop_assert!(matches!(breaker.circuit(now), Circuit::Open(_)));
                }
            }
        }

        #[test]
        fn it_never_stays_open_for_more_than_a_minute(fails in 0u32..200) {
            let mut breaker = opened();
            let mut now = 20;
            for _ in 0..fails {
                now += LONGEST;
                prop_assert_eq!(breaker.circuit(now), Circuit::ProbeDue);
                breaker.probe(now);
                breaker.answered(now, now, true);
            }
        }
    }
}
