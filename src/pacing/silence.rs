//! Silence: requests that wait for an answer for unusually long, and whether it is the vendor that is silent or the
//! target.

use std::collections::BTreeMap;

use super::{Lane, Micros, SECOND};

/// After so long a request is overdue where the vendor answers faster than that.
const OVERDUE: Micros = 2 * SECOND;
/// How many times the usual latency a request is overdue at the least.
const UNUSUAL: Micros = 4;
/// Of so many places one sends a request every second that looks whether it is the vendor that is silent.
const SCOUTS: u32 = 8;
/// Requests are counted by the time in which they began, in spans of this length.
const SPAN: Micros = SECOND / 10;
/// Spans that are looked back on: longer than a request may take.
const SPANS: usize = 320;

/// What is in flight, and who was answered of those who asked at the same time or later.
///
/// A request that is overdue takes no place of the limit any more, because it says nothing about what the vendor bears:
/// others who asked later were answered. Where nobody asked later, a few requests go out to see.
#[derive(Debug, Clone)]
pub struct Silence {
    /// In flight and not overdue, by (beginning, number).
    young: BTreeMap<(Micros, u64), Lane>,
    young_marketing: u32,
    next: u64,
    /// When the newest request began that the vendor answered.
    newest_answered: Option<Micros>,
    scouted_at: Micros,
    /// (answered, silent) by span of their beginning.
    spans: [(u32, u32); SPANS],
    /// The newest span in `spans`.
    span: u64,
}

/// Whose silence it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The target's: at least nine of ten who asked since then were answered.
    Target,
    /// Of many targets, or of a vendor that bears no more: at least half were answered.
    Many,
    /// The vendor's.
    Vendor,
}

/// A request in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flying {
    began: Micros,
    number: u64,
}

impl Default for Silence {
    fn default() -> Self {
        Self {
            young: BTreeMap::new(),
            young_marketing: 0,
            next: 0,
            newest_answered: None,
            scouted_at: 0,
            spans: [(0, 0); SPANS],
            span: 0,
        }
    }
}

impl Silence {
    /// A request sets out.
    pub fn begin(&mut self, now: Micros, lane: Lane) -> Flying {
        let flying = Flying { began: now, number: self.next };
        self.next += 1;
        self.young.insert((now, flying.number), lane);
        self.young_marketing += u32::from(lane == Lane::Marketing);
        flying
    }

    /// A request is over.
    pub fn end(&mut self, flying: Flying) {
        let lane = self.young.remove(&(flying.began, flying.number));
        self.young_marketing -= u32::from(lane == Some(Lane::Marketing));
    }

    /// Requests in flight that are not overdue: all, and those of marketing.
    pub fn young(&self) -> (u32, u32) {
        (self.young.len() as u32, self.young_marketing)
    }

    /// Lets those be overdue that are. `usual`: how long an answer takes. `short_of`: all of so many places are taken
    /// and wanted, so that one may be overdue without a proof from time to time.
    pub fn look(&mut self, now: Micros, usual: Micros, short_of: Option<u32>) {
        while let Some(first) = self.young.first_entry() {
            let (began, _) = *first.key();
            if now < began + patience(usual) {
                return;
            }
            if self.newest_answered <= Some(began) {
                if short_of.is_none_or(|places| now < self.scouted_at + between(places)) {
                    return;
                }
                self.scouted_at = now;
            }
            let lane = first.remove();
            self.young_marketing -= u32::from(lane == Lane::Marketing);
        }
    }

    /// When the next may be overdue, after a [`Self::look`] while all of so many places were wanted.
    pub fn next_look(&self, usual: Micros, places: u32) -> Option<Micros> {
        let (began, _) = *self.young.first_key_value()?.0;
        let overdue = began + patience(usual);
        let is_proven = self.newest_answered > Some(began);
        Some(if is_proven { overdue } else { overdue.max(self.scouted_at + between(places)) })
    }

    /// The vendor answered a request that began then.
    pub fn answered(&mut self, began: Micros) {
        self.newest_answered = self.newest_answered.max(Some(began));
        if let Some(span) = self.span_of(began) {
            span.0 += 1;
        }
    }

    /// A request that began then is waited for no more.
    pub fn silent(&mut self, began: Micros) -> Whose {
        if let Some(span) = self.span_of(began) {
            span.1 += 1;
        }
        let first = (began / SPAN).max(self.span.saturating_sub(SPANS as u64 - 1));
        let since = (first..=self.span).map(|span| self.spans[span as usize % SPANS]);
        let (answered, silent) = since.fold((0, 0), |sum, span| (sum.0 + span.0, sum.1 + span.1));
        match (answered, silent) {
            (answered, silent) if silent > answered => Whose::Vendor,
            (answered, silent) if silent * 10 > answered + silent => Whose::Many,
            _ => Whose::Target,
        }
    }

    /// What is counted of a span; `None` where it is too long ago.
    fn span_of(&mut self, began: Micros) -> Option<&mut (u32, u32)> {
        let span = began / SPAN;
        let passed = span.saturating_sub(self.span).min(SPANS as u64);
        for gone in 0..passed {
            self.spans[(span - gone) as usize % SPANS] = (0, 0);
        }
        self.span = self.span.max(span);
        (span + SPANS as u64 > self.span).then(|| &mut self.spans[span as usize % SPANS])
    }
}

fn patience(usual: Micros) -> Micros {
    OVERDUE.max(usual * UNUSUAL)
}

/// The time between two that look.
fn between(places: u32) -> Micros {
    SECOND / Micros::from((places / SCOUTS).max(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIMEOUT: Micros = 15 * SECOND;

    #[test]
    fn a_request_is_overdue_once_others_who_asked_later_were_answered() {
        let mut silence = Silence::default();
        let mute = silence.begin(0, Lane::Marketing);
        silence.begin(SECOND, Lane::Marketing);
        silence.look(10 * SECOND, 0, None);
        assert_eq!(silence.young(), (2, 2));
        silence.answered(SECOND / 2);
        silence.look(OVERDUE - 1, 0, None);
        assert_eq!(silence.young(), (2, 2), "it is not late yet");
        silence.look(OVERDUE, SECOND, None);
        assert_eq!(silence.young(), (2, 2), "nobody is faster here");
        silence.look(OVERDUE, 0, None);
        assert_eq!(silence.young(), (1, 1));
        silence.end(mute);
        assert_eq!(silence.young(), (1, 1));
    }

    #[test]
    fn where_nobody_asked_later_a_few_requests_look_whether_the_vendor_is_silent() {
        let mut silence = Silence::default();
        (0..100).for_each(|_| {
            silence.begin(0, Lane::Transactional);
        });
        let mut gone = Vec::new();
        for tenth in 0..100 {
            let now = tenth * SECOND / 10;
            silence.look(now, 0, Some(10));
            gone.push(100 - silence.young().0);
            assert!(silence.next_look(0, 10).is_some_and(|at| at > now));
        }
        assert_eq!((gone[19], gone[20], gone[29], gone[30], gone[99]), (0, 1, 1, 2, 8));
        // The first scout comes back with an answer.
        silence.answered(OVERDUE);
        silence.look(10 * SECOND, 0, None);
        assert_eq!(silence.young(), (0, 0));
    }

    #[test]
    fn whose_silence_it_is_shows_by_those_who_asked_at_the_same_time_or_later() {
        let mut silence = Silence::default();
        (0..1000).for_each(|_| silence.answered(SECOND));
        assert_eq!(silence.silent(SECOND), Whose::Target);
        let all: Vec<_> = (0..112).map(|_| silence.silent(SECOND)).collect();
        assert_eq!((all[100], all[111]), (Whose::Target, Whose::Many));
        assert_eq!(silence.silent(2 * SECOND), Whose::Vendor, "nobody was answered since");
        assert_eq!(silence.silent(60 * SECOND), Whose::Vendor);
        assert_eq!(silence.silent(SECOND), Whose::Vendor, "that was forgotten");
    }

    proptest! {
        #[test]
        fn places_are_never_counted_twice(
            steps in prop::collection::vec((0u8..5, 0u64..SECOND, any::<bool>()), 0..300),
        ) {
            let mut silence = Silence::default();
            let (mut flying, mut now) = (Vec::new(), 0);
            for (step, pause, flag) in steps {
                now += pause;
                let lane = if flag { Lane::Marketing } else { Lane::Transactional };
                match step {
                    0 | 1 => flying.push(silence.begin(now, lane)),
                    2 => if let Some(one) = flying.pop() {
                        silence.end(one);
                        silence.answered(one.began);
                    },
                    3 if !flying.is_empty() => {
                        let one = flying.remove(0);
                        silence.end(one);
                        silence.silent(one.began);
                    }
                    _ => silence.look(now, pause / 10, flag.then_some(20)),
                }
                let (young, marketing) = silence.young();
                prop_assert!(marketing <= young && young as usize <= flying.len());
                if flying.iter().all(|one| one.began + OVERDUE > now) {
                    prop_assert_eq!(young as usize, flying.len());
                }
            }
        }

        #[test]
        fn a_vendor_that_answers_nobody_is_told_at_once(before in 0u32..5000, silent in 1usize..100) {
            let mut silence = Silence::default();
            (0..before).for_each(|i| silence.answered(Micros::from(i) * SECOND / 1000));
            let died = 6 * SECOND;
            for i in 0..silent {
                prop_assert_eq!(silence.silent(died + i as u64), Whose::Vendor);
            }
            prop_assert!(TIMEOUT < SPAN * SPANS as u64);
        }
    }
}
