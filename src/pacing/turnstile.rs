//! One credential's waiting line with its barrier: lanes, fair turns, rate, limit and breaker together.

use super::{Breaker, Circuit, Fair, Flying, Lane, Lanes, Limiter, Micros, Rate, Sign, Silence, Whose};

/// Something that waits for its turn.
pub trait Waiting {
    /// Targets that it carries.
    fn targets(&self) -> u32;
    /// Nobody waits for it any more: it is passed over and costs nothing.
    fn is_gone(&self) -> bool;
}

/// The right to have one request in flight. It is given back by [`Turnstile::give_back`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    lane: Lane,
    flying: Flying,
    is_probe: bool,
}

/// What happens next.
#[derive(Debug)]
pub enum Turn<T> {
    /// It may go.
    Go(T, Ticket),
    /// The breaker is open: all of these must go away.
    Refused(Vec<T>),
    /// Nothing, until a ticket comes back, somebody comes, or this time.
    Wait(Option<Micros>),
}

/// What ops allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Requests in flight at most.
    pub most: u32,
    /// Targets a second.
    pub per_second: Option<u32>,
}

/// What can be seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Requests that may be in flight, beside those that are overdue.
    pub limit: u32,
    /// Requests in flight, overdue or not.
    pub in_flight: u32,
    /// Requests that wait.
    pub waiting: usize,
    /// The breaker.
    pub circuit: Circuit,
}

/// The waiting line of one credential.
#[derive(Debug)]
pub struct Turnstile<T> {
    limiter: Limiter,
    breaker: Breaker,
    silence: Silence,
    rate: Option<Rate>,
    lanes: Lanes,
    transactional: Fair<T>,
    marketing: Fair<T>,
    in_flight: u32,
    /// Of those in flight.
    marketing_in_flight: u32,
}

impl<T: Waiting> Turnstile<T> {
    /// An empty line.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            limiter: Limiter::new(bounds.most),
            breaker: Breaker::default(),
            silence: Silence::default(),
            rate: bounds.per_second.map(Rate::new),
            lanes: Lanes::default(),
            transactional: Fair::default(),
            marketing: Fair::default(),
            in_flight: 0,
            marketing_in_flight: 0,
        }
    }

    /// Ops changed their mind.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.limiter.set_most(bounds.most);
        if self.rate.as_ref().map(Rate::per_second) != bounds.per_second {
            self.rate = bounds.per_second.map(Rate::new);
        }
    }

    /// Somebody comes. Within a lane, flows take turns.
    pub fn arrive(&mut self, lane: Lane, flow: u64, who: T) {
        match lane {
            Lane::Transactional => self.transactional.push(flow, who),
            Lane::Marketing => self.marketing.push(flow, who),
        }
    }

    /// What happens next; asked again until it is [`Turn::Wait`].
    pub fn next(&mut self, now: Micros) -> Turn<T> {
        self.pass_over();
        if self.transactional.is_empty() && self.marketing.is_empty() {
            return Turn::Wait(None);
        }
        let is_probe = match self.breaker.circuit(now) {
            Circuit::Closed => false,
            Circuit::ProbeDue => true,
            Circuit::ProbeOut(again) => return Turn::Wait(Some(again)),
            Circuit::Open(_) => {
                return Turn::Refused(self.transactional.drain().chain(self.marketing.drain()).collect());
            }
        };
        let (lane, marketing) = match self.lane(now, is_probe) {
            Ok(lane) => lane,
            Err(again) => return Turn::Wait(again),
        };
        let queue = match lane {
            Lane::Transactional => &mut self.transactional,
            Lane::Marketing => &mut self.marketing,
        };
        let targets = queue.peek().map_or(1, Waiting::targets);
        if let Some(Err(again)) = self.rate.as_mut().map(|rate| rate.take(now, targets)) {
            return Turn::Wait(Some(again));
        }
        let Some(who) = queue.pop() else { return Turn::Wait(None) };
        self.lanes.took(lane, marketing);
        if lane == Lane::Transactional {
            self.limiter.is_waited_for(now);
        }
        self.in_flight += 1;
        self.marketing_in_flight += u32::from(lane == Lane::Marketing);
        if is_probe {
            self.breaker.probe(now);
        }
        Turn::Go(who, Ticket { lane, is_probe, flying: self.silence.begin(now, lane) })
    }

    /// Which lane has the next place, and whether marketing might have had it. `Err`: there is no place before a ticket
    /// comes back, or this time.
    ///
    /// What the vendor declares, and ops allow, always holds. The limit, which follows how the vendor bears it, holds
    /// for those who are not overdue. A tenth of the places is never marketing's: whoever a person waits for finds one
    /// even while a campaign hangs at a slow vendor.
    fn lane(&mut self, now: Micros, is_probe: bool) -> Result<(Lane, bool), Option<Micros>> {
        let (limit, most) = (self.limiter.limit(), self.limiter.most());
        if self.in_flight >= most {
            return Err(None);
        }
        let usual = self.limiter.usual();
        let wants_marketing =
            !self.marketing.is_empty() && (is_probe || self.marketing_in_flight < open_to_marketing(most));
        let (young, young_marketing) = self.silence.young();
        let is_short = young >= limit || (wants_marketing && young_marketing >= open_to_marketing(limit));
        self.silence.look(now, usual, is_short.then_some(limit));
        let again = |silence: &Silence| is_short.then(|| silence.next_look(usual, limit)).flatten();
        let (young, young_marketing) = self.silence.young();
        if young >= limit {
            return Err(again(&self.silence));
        }
        let marketing = wants_marketing && (is_probe || young_marketing < open_to_marketing(limit));
        let lane = self.lanes.next(!self.transactional.is_empty(), marketing);
        lane.map(|lane| (lane, marketing)).ok_or_else(|| again(&self.silence))
    }

    /// A request is over, whatever its answer.
    pub fn give_back(&mut self, now: Micros, ticket: Ticket) {
        self.in_flight -= 1;
        self.marketing_in_flight -= u32::from(ticket.lane == Lane::Marketing);
        self.silence.end(ticket.flying);
        if ticket.is_probe {
            self.breaker.probe_over(now);
        }
    }

    /// An answer came, or is waited for no more. `true`: the breaker opened or closed.
    pub fn answered(&mut self, now: Micros, latency: Micros, sign: Sign) -> bool {
        let began = now.saturating_sub(latency);
        let (sign, is_down) = match sign {
            Sign::Silent { .. } if self.breaker.circuit(now) != Circuit::Closed => (Sign::Bad, true),
            Sign::Silent { first: false } => return false,
            Sign::Silent { first: true } => match self.silence.silent(began) {
                Whose::Target => return false,
                Whose::Many => (Sign::Bad, false),
                Whose::Vendor => (Sign::Bad, true),
            },
            Sign::Good | Sign::SlowDown => {
                self.silence.answered(began);
                (sign, false)
            }
            Sign::Bad => (sign, true),
        };
        let short_of_places = !self.transactional.is_empty() || !self.marketing.is_empty();
        self.limiter.answered(now, latency, sign, short_of_places);
        // Half of those who asked were answered: it is not down.
        (sign != Sign::Bad || is_down) && self.breaker.answered(now, began, is_down)
    }

    /// What can be seen from outside.
    pub fn seen(&self, now: Micros) -> Seen {
        Seen {
            limit: self.limiter.limit(),
            in_flight: self.in_flight,
            waiting: self.transactional.len() + self.marketing.len(),
            circuit: self.breaker.circuit(now),
        }
    }

    /// How long the breaker has not been closed.
    pub fn down_for(&self, now: Micros) -> Option<Micros> {
        self.breaker.down_for(now)
    }

    fn pass_over(&mut self) {
        for line in [&mut self.transactional, &mut self.marketing] {
            while line.peek().is_some_and(Waiting::is_gone) {
                line.pop();
            }
        }
    }
}

/// Of so many places, how many may be marketing's.
fn open_to_marketing(places: u32) -> u32 {
    match places {
        1 => 1,
        places => places - (places / 10).max(1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pacing::SECOND;

    const TIMEOUT: Micros = 15 * SECOND;

    struct Anyone {
        lane: Lane,
        is_gone: bool,
    }

    impl Waiting for Anyone {
        fn targets(&self) -> u32 {
            1
        }

        fn is_gone(&self) -> bool {
            self.is_gone
        }
    }

    fn stile(most: u32) -> Turnstile<Anyone> {
        Turnstile::new(Bounds { most, per_second: None })
    }

    fn come(stile: &mut Turnstile<Anyone>, lane: Lane, flow: u64, count: u32) {
        (0..count).for_each(|_| stile.arrive(lane, flow, Anyone { lane, is_gone: false }));
    }

    fn go(stile: &mut Turnstile<Anyone>, now: Micros) -> Vec<Ticket> {
        std::iter::from_fn(|| match stile.next(now) {
            Turn::Go(_, ticket) => Some(ticket),
            Turn::Refused(_) | Turn::Wait(_) => None,
        })
        .collect()
    }

    #[test]
    fn a_campaign_that_hangs_leaves_a_tenth_of_the_places() {
        let mut stile = stile(100);
        come(&mut stile, Lane::Marketing, 1, 1000);
        assert_eq!(go(&mut stile, 0).len(), 90);
        come(&mut stile, Lane::Transactional, 2, 20);
        assert_eq!(go(&mut stile, 0).len(), 10);
        assert_eq!(stile.seen(0).in_flight, 100);
    }

    #[test]
    fn when_the_breaker_opens_all_who_wait_are_sent_away_and_one_probe_goes_later() {
        let mut stile = stile(10);
        come(&mut stile, Lane::Transactional, 1, 100);
        let tickets = go(&mut stile, 0);
        for ticket in tickets {
            stile.give_back(10, ticket);
            stile.answered(10, 5, Sign::Bad);
            stile.answered(10, 5, Sign::Bad);
        }
        assert!(matches!(stile.next(11), Turn::Refused(all) if all.len() == 90));
        come(&mut stile, Lane::Marketing, 1, 50);
        let probes = go(&mut stile, 2 * SECOND);
        assert_eq!(probes.len(), 1);
        stile.give_back(2 * SECOND, probes[0]);
        assert!(stile.answered(2 * SECOND, 0, Sign::Good));
        assert!(!go(&mut stile, 2 * SECOND).is_empty());
    }

    #[test]
    fn a_hundred_silent_targets_hold_up_nobody_behind_them_for_long() {
        let mut stile = stile(1000);
        // The vendor bore no more lately.
        while stile.seen(0).limit > 100 {
            let now = SECOND * u64::from(2000 - stile.seen(0).limit);
            (0..200).for_each(|_| {
                stile.answered(now, 10, Sign::SlowDown);
            });
        }
        let began = 3000 * SECOND;
        come(&mut stile, Lane::Marketing, 1, 100);
        come(&mut stile, Lane::Marketing, 1, 400);
        let (mut silent, mut healthy, mut gone) = (0, 0, 0);
        for tenth in 0..100 {
            let now = began + tenth * SECOND / 10;
            for ticket in go(&mut stile, now) {
                gone += 1;
                if gone <= 100 {
                    silent += 1;
                } else {
                    stile.give_back(now, ticket);
                    stile.answered(now, 1000, Sign::Good);
                    healthy += 1;
                }
            }
            assert!(stile.seen(now).in_flight <= 1000);
        }
        assert_eq!((silent, healthy), (100, 400), "all go out before the first silence is over");
    }

    #[test]
    fn silent_targets_are_not_taken_for_a_silent_vendor_while_others_are_answered() {
        let mut stile = stile(100);
        for i in 0..1000 {
            stile.answered(SECOND + i, 100, Sign::Good);
        }
        for i in 0..100 {
            assert!(!stile.answered(SECOND + i + TIMEOUT, TIMEOUT, Sign::Silent { first: true }));
        }
        (0..1000).for_each(|_| assert!(!stile.answered(60 * SECOND, TIMEOUT, Sign::Silent { first: false })));
        assert_eq!((stile.seen(60 * SECOND).limit, stile.seen(60 * SECOND).circuit), (100, Circuit::Closed));
    }

    #[test]
    fn a_vendor_that_leaves_a_third_without_an_answer_gets_less_and_is_not_down() {
        let mut stile = stile(100);
        for i in 0..1000 {
            stile.answered(20 * SECOND + i, 100, Sign::Good);
            if i % 2 == 0 {
                stile.answered(20 * SECOND + i, SECOND / 2, Sign::Silent { first: true });
            }
        }
        let seen = stile.seen(21 * SECOND);
        assert!(seen.limit < 100);
        assert_eq!(seen.circuit, Circuit::Closed);
    }

    #[test]
    fn a_vendor_that_answers_nobody_any_more_is_down() {
        let mut stile = stile(100);
        stile.answered(SECOND, 100, Sign::Good);
        let opened = (0..20).map(|i| stile.answered(20 * SECOND + i, TIMEOUT, Sign::Silent { first: true }));
        assert_eq!(opened.filter(|opened| *opened).count(), 1);
    }

    #[test]
    fn a_rate_is_given_to_the_upper_lane_first() {
        let mut stile = Turnstile::new(Bounds { most: 100, per_second: Some(10) });
        come(&mut stile, Lane::Marketing, 1, 100);
        assert_eq!(go(&mut stile, 0).len(), 10);
        come(&mut stile, Lane::Transactional, 2, 1);
        let Turn::Wait(Some(again)) = stile.next(0) else { panic!("no rate is left") };
        assert!(matches!(stile.next(again), Turn::Go(Anyone { lane: Lane::Transactional, .. }, _)));
    }

    proptest! {
        #[test]
        fn nobody_is_lost_and_the_limit_holds_whatever_happens(
            steps in prop::collection::vec((0u8..7, 0u64..3, 0u64..SECOND, 1u32..30), 0..300),
            most in 1u32..50,
        ) {
            let mut stile = stile(most);
            let mut tickets = Vec::new();
            let (mut now, mut came, mut left) = (0, 0usize, 0usize);
            for (step, flow, pause, count) in steps {
                now += pause;
                match step {
                    0 | 1 => {
                        let lane = if step == 0 { Lane::Transactional } else { Lane::Marketing };
                        come(&mut stile, lane, flow, count);
                        came += count as usize;
                    }
                    2 | 3 => if let Some(ticket) = tickets.pop() {
                        stile.give_back(now, ticket);
                        stile.answered(now, pause, if step == 2 { Sign::Good } else { Sign::Bad });
                    },
                    _ => match stile.next(now) {
                        Turn::Go(_, ticket) => {
                            tickets.push(ticket);
                            left += 1;
                            prop_assert!(tickets.len() <= most as usize);
                            if stile.down_for(now).is_some() {
                                prop_assert!(ticket.is_probe);
                            }
                        }
                        Turn::Refused(all) => left += all.len(),
                        Turn::Wait(Some(again)) => prop_assert!(again > now),
                        Turn::Wait(None) => {}
                    },
                }
                prop_assert_eq!(stile.seen(now).in_flight as usize, tickets.len());
                prop_assert_eq!(stile.seen(now).waiting + left, came);
            }
        }

        #[test]
        fn everybody_gets_through_a_working_vendor(
            transactional in 0u32..300, marketing in 0u32..300, most in 1u32..20,
        ) {
            let mut stile = stile(most);
            come(&mut stile, Lane::Transactional, 1, transactional);
            come(&mut stile, Lane::Marketing, 2, marketing);
            let mut through = 0;
            for now in 0..u64::from(transactional + marketing) {
                for ticket in go(&mut stile, now) {
                    stile.give_back(now, ticket);
                    stile.answered(now, 0, Sign::Good);
                    through += 1;
                }
            }
            prop_assert_eq!(through, transactional + marketing);
        }

        #[test]
        fn a_flood_of_the_upper_lane_leaves_every_tenth_turn_to_the_lower(turns in 20usize..200) {
            let mut stile = stile(10);
            come(&mut stile, Lane::Transactional, 1, 1000);
            come(&mut stile, Lane::Marketing, 2, 1000);
            let mut lower = 0;
            for now in 0..turns as u64 {
                let Turn::Go(who, ticket) = stile.next(now) else { panic!("places are free") };
                lower += usize::from(who.lane == Lane::Marketing);
                stile.give_back(now, ticket);
            }
            prop_assert!(lower >= turns / 10 && lower <= turns / 10 + 1);
        }
    }
}
