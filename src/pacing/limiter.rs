//! How many requests may be in flight: additive increase, decrease in proportion to what is refused.

use super::crowd::Crowd;
use super::{Micros, SECOND, Sign};

/// The least that a limit falls to, so that a vendor's recovery is noticed.
const LEAST: u32 = 4;
/// One refused request in so many is borne.
const BORNE: u32 = 10;
/// What a cut leaves at the least, in thousandths.
const DEEPEST: u32 = 700;
/// Answers below which a share of refusals is chance.
const SAMPLE: u32 = 64;
/// Latencies below this are nobody's congestion but our own machine's noise.
const NOISE: Micros = SECOND / 10;
/// Quiet time after which the limit grows faster: the trouble is over.
const OVER: Micros = 10 * SECOND;
/// For how long after a message that somebody waits for another is expected.
const SHARED: Micros = 60 * SECOND;
/// Answers of which the first estimate of the usual latency is made.
const WARM: u32 = 64;
/// Time in which the usual latency follows a lasting change to about its triple.
const MEMORY: Micros = 60 * SECOND;

/// The limit of one credential.
///
/// It starts at the most that the provider declares: vendors publish that number. It follows the *share* that the
/// vendor refuses or fails, not single answers: at a thousand requests a round trip, one refusal in fifty would
/// otherwise hold any limit near ten. Up to a tenth is borne (that is what the retry budget pays for), beyond it the
/// limit is cut to what the vendor bore, by at most three tenths. It is also cut to 7/10 when more than half of a window
/// (as many answers as the limit) took longer than twice the usual median. It grows by one for each window in which
/// places ran short and at most a twentieth was refused, faster once the last cut is ten seconds ago.
///
/// While messages that somebody waits for share the credential, requests that only queue behind each other are taken back
/// too, down to an eighth of the most: they make nothing faster, and a login code slower.
///
/// There is at most one cut a round trip: answers to requests that began before the last cut say nothing new.
#[derive(Debug, Clone)]
pub struct Limiter {
    limit: u32,
    least: u32,
    most: u32,
    cut_at: Option<Micros>,
    window: Window,
    refusals: Refusals,
    usual: Usual,
    crowd: Crowd,
    shared_until: Micros,
}

/// Good answers since the limit last changed.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    answers: u32,
    slow: u32,
    short_of_places: bool,
}

/// How many of the last answers were refusals or failures: of as many as the limit, and at least of [`SAMPLE`].
#[derive(Debug, Clone, Copy, Default)]
struct Refusals {
    answers: u32,
    refused: u32,
}

/// The long-term median of latencies, without keeping them: each answer moves it a little towards itself, in
/// proportion to the time since the one before, so that a flood of answers teaches no faster than a trickle.
#[derive(Debug, Clone, Copy, Default)]
struct Usual {
    median: f64,
    answers: u32,
    at: Micros,
}

impl Limiter {
    /// A limit that begins at its most.
    pub fn new(most: u32) -> Self {
        let most = most.max(1);
        let least = LEAST.min(most);
        Self {
            limit: most,
            least,
            most,
            cut_at: None,
            window: Window::default(),
            refusals: Refusals::default(),
            usual: Usual::default(),
            crowd: Crowd::default(),
            shared_until: 0,
        }
    }

    /// Requests that may be in flight now.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// The most that it may grow to.
    pub fn most(&self) -> u32 {
        self.most
    }

    /// How long an answer usually takes; 0 while that is not known.
    pub fn usual(&self) -> Micros {
        if self.usual.answers < WARM { 0 } else { self.usual.median as Micros }
    }

    /// Changes the most; a limit that stood at the old one moves along.
    pub fn set_most(&mut self, most: u32) {
        let most = most.max(1);
        let stood_at_most = self.limit == self.most;
        (self.most, self.least) = (most, LEAST.min(most));
        self.limit = if stood_at_most { most } else { self.limit.clamp(self.least, most) };
    }

    /// Somebody waits for a message under this credential, and soon for another perhaps.
    pub fn is_waited_for(&mut self, now: Micros) {
        self.shared_until = now + SHARED;
    }

    /// An answer came, or is waited for no more. `short_of_places`: somebody waited for a place meanwhile.
    pub fn answered(&mut self, now: Micros, latency: Micros, sign: Sign, short_of_places: bool) {
        let is_slow = sign == Sign::Good && self.usual.is_slow(latency);
        if sign == Sign::Good {
            self.usual.learn(now, latency);
        }
        let began = now.saturating_sub(latency);
        if self.cut_at.is_some_and(|cut_at| began <= cut_at) {
            return;
        }
        let sample = self.limit.max(SAMPLE);
        if self.refusals.count(sign != Sign::Good, sample) {
            let kept = self.refusals.borne_per_mille();
            self.crowd.disturbed();
            self.cut(now, kept.max(DEEPEST), self.least);
        } else if sign == Sign::Good {
            self.crowd.learn(now, latency);
            self.good(now, is_slow, short_of_places);
        }
    }

    fn good(&mut self, now: Micros, is_slow: bool, short_of_places: bool) {
        self.window.answers += 1;
        self.window.slow += u32::from(is_slow);
        self.window.short_of_places |= short_of_places;
        if self.window.answers < self.limit.max(LEAST) {
            return;
        }
        let window = std::mem::take(&mut self.window);
        // A slower vendor may be as good as before with more in flight: slowness alone never takes it all.
        let floor = self.least.max(self.most / 8);
        let is_shared = now < self.shared_until;
        if window.slow * 2 > window.answers {
            self.crowd.disturbed();
            self.cut(now, DEEPEST, floor);
        } else if window.short_of_places && is_shared && self.crowd.is_felt(now, self.limit, floor) {
            self.cut(now, DEEPEST, floor);
        } else if window.short_of_places
            && self.refusals.are_few()
            && !(is_shared && self.crowd.is_on_trial())
        {
            let is_over = self.cut_at.is_some_and(|cut_at| now.saturating_sub(cut_at) > OVER)
                || self.crowd.is_left_alone(now);
            let step = if is_over { (self.limit / 8).max(1) } else { 1 };
            self.limit = self.limit.saturating_add(step).min(self.most);
        }
    }

    /// Keeps so many thousandths of the limit, but not less than the floor.
    fn cut(&mut self, now: Micros, kept: u32, floor: u32) {
        let cut = (u64::from(self.limit) * u64::from(kept) / 1000) as u32;
        self.limit = cut.max(floor).min(self.limit);
        self.cut_at = Some(now);
        self.window = Window::default();
        self.refusals = Refusals::default();
    }
}

impl Refusals {
    /// Counts an answer among so many. `true`: more than a tenth of these were refused, whatever the rest will be.
    fn count(&mut self, refused: bool, sample: u32) -> bool {
        if self.answers >= sample {
            // Older ones fade, so that a sample is never begun from nothing.
            (self.answers, self.refused) = (self.answers / 2, self.refused / 2);
        }
        self.answers += 1;
        self.refused += u32::from(refused);
        refused && self.refused * BORNE > sample
    }

    fn borne_per_mille(self) -> u32 {
        1000 - (u64::from(self.refused) * 1000 / u64::from(self.answers.max(1))) as u32
    }

    /// At most a twentieth.
    fn are_few(self) -> bool {
        self.refused * BORNE * 2 <= self.answers.max(SAMPLE)
    }
}

impl Usual {
    fn is_slow(&self, latency: Micros) -> bool {
        self.answers >= WARM && latency > NOISE && latency as f64 > 2.0 * self.median
    }

    fn learn(&mut self, now: Micros, latency: Micros) {
        let latency = latency.max(1) as f64;
        if self.answers == 0 {
            self.median = latency;
        }
        let step = if self.answers < WARM {
            1.0 / f64::from(self.answers + 2)
        } else {
            (now.saturating_sub(self.at) as f64 / MEMORY as f64).min(0.1)
        };
        self.median *= if latency > self.median { 1.0 + step } else { 1.0 - step };
        self.answers = self.answers.saturating_add(1);
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TYPICAL: Micros = SECOND / 20;

    fn windows(limiter: &mut Limiter, now: &mut Micros, count: u32, latency: Micros) {
        for _ in 0..count {
            for _ in 0..limiter.limit().max(LEAST) {
                *now += latency / u64::from(limiter.limit());
                limiter.answered(*now, latency, Sign::Good, true);
            }
        }
    }

    /// Everything that may be in flight is refused, so many times.
    fn refused_rounds(limiter: &mut Limiter, now: &mut Micros, rounds: u32) {
        for _ in 0..rounds {
            *now += SECOND;
            for _ in 0..limiter.limit().max(SAMPLE) {
                limiter.answered(*now, TYPICAL, Sign::SlowDown, true);
            }
        }
    }

    /// Full windows of which the vendor bears so many requests and refuses the rest.
    fn bearing(limiter: &mut Limiter, now: &mut Micros, rounds: u32, borne: u32) {
        for _ in 0..rounds {
            *now += TYPICAL;
            for i in 0..limiter.limit() {
                let sign = if i < borne { Sign::Good } else { Sign::SlowDown };
                limiter.answered(*now, TYPICAL - 1, sign, true);
            }
        }
    }

    #[test]
    fn one_refusal_in_fifty_takes_nothing_from_a_campaign() {
        let mut limiter = Limiter::new(1000);
        let mut now = SECOND;
        for i in 0..200_000 {
            now += TYPICAL / 1000;
            let sign = if i % 50 == 0 { Sign::SlowDown } else { Sign::Good };
            limiter.answered(now, TYPICAL, sign, true);
        }
        assert_eq!(limiter.limit(), 1000);
    }

    #[test]
    fn a_burst_of_refusals_is_one_cut() {
        let mut limiter = Limiter::new(1000);
        for _ in 0..1000 {
            limiter.answered(SECOND, TYPICAL, Sign::SlowDown, true);
        }
        assert_eq!(limiter.limit(), 700);
    }

    #[test]
    fn a_full_window_adds_one_and_a_quiet_time_adds_faster() {
        let mut limiter = Limiter::new(1000);
        let mut now = SECOND;
        refused_rounds(&mut limiter, &mut now, 40);
        assert_eq!(limiter.limit(), LEAST);
        now += TYPICAL;
        windows(&mut limiter, &mut now, 3, TYPICAL);
        assert_eq!(limiter.limit(), LEAST + 3);
        now += OVER;
        windows(&mut limiter, &mut now, 60, TYPICAL);
        assert_eq!(limiter.limit(), 1000);
    }

    #[test]
    fn without_demand_a_limit_does_not_grow() {
        let mut limiter = Limiter::new(100);
        refused_rounds(&mut limiter, &mut SECOND.clone(), 1);
        for i in 0..1000 {
            limiter.answered(9 * SECOND + i, TYPICAL, Sign::Good, false);
        }
        assert_eq!(limiter.limit(), 70);
    }

    #[test]
    fn a_vendor_that_becomes_slow_gets_less_and_one_that_is_always_slow_does_not() {
        let mut limiter = Limiter::new(100);
        let mut now = SECOND;
        windows(&mut limiter, &mut now, 20, TYPICAL * 4);
        assert_eq!(limiter.limit(), 100);
        windows(&mut limiter, &mut now, 5, TYPICAL * 40);
        assert!(limiter.limit() < 60, "{}", limiter.limit());
        windows(&mut limiter, &mut now, 20, TYPICAL * 40);
        assert!(limiter.limit() >= 12, "slowness alone takes seven eighths at most: {}", limiter.limit());
    }

    /// A limit, and now: somebody waits beside the campaign, and the vendor can answer within a millisecond.
    fn shared(most: u32) -> (Limiter, Micros) {
        let mut limiter = Limiter::new(most);
        limiter.is_waited_for(SECOND);
        limiter.answered(SECOND, 1000, Sign::Good, false);
        (limiter, SECOND)
    }

    /// A vendor that answers so many at a time and lets the others wait: the more are in flight, the longer each takes.
    fn crowded(limiter: &mut Limiter, now: &mut Micros, rounds: u32, at_a_time: u32, each: Micros) {
        for _ in 0..rounds {
            let latency = each * u64::from(limiter.limit().div_ceil(at_a_time));
            windows(limiter, now, 1, latency);
        }
    }

    #[test]
    fn what_only_queues_is_taken_back_and_a_vendor_that_takes_its_time_keeps_all() {
        let (mut limiter, mut now) = shared(1000);
        crowded(&mut limiter, &mut now, 1000, 20, 1000);
        assert!((125..=350).contains(&limiter.limit()), "{}", limiter.limit());
        now += SHARED;
        crowded(&mut limiter, &mut now, 2000, 20, 1000);
        assert_eq!(limiter.limit(), 1000, "nobody waits beside it any more");
        let (mut limiter, mut now) = shared(1000);
        windows(&mut limiter, &mut now, 40, NOISE / 2);
        assert_eq!(limiter.limit(), 1000);
        let (mut limiter, mut now) = (Limiter::new(1000), SECOND);
        limiter.answered(now, 1000, Sign::Good, false);
        crowded(&mut limiter, &mut now, 1000, 20, 1000);
        assert_eq!(limiter.limit(), 1000, "nobody waits beside it");
    }

    #[test]
    fn few_requests_are_never_a_crowd() {
        let (mut limiter, mut now) = shared(64);
        crowded(&mut limiter, &mut now, 100, 1, 1000);
        assert_eq!(limiter.limit(), 64);
    }

    #[test]
    fn noise_below_a_tenth_of_a_second_is_no_slowness() {
        let mut limiter = Limiter::new(100);
        let mut now = SECOND;
        windows(&mut limiter, &mut now, 20, 1000);
        windows(&mut limiter, &mut now, 20, NOISE / 2);
        assert_eq!(limiter.limit(), 100);
    }

    proptest! {
        #[test]
        fn a_limit_is_never_below_its_least_nor_above_its_most(
            most in 1u32..2000,
            answers in prop::collection::vec((0u64..5 * SECOND, 0u64..20 * SECOND, 0u8..3, any::<bool>()), 0..400),
        ) {
            let mut limiter = Limiter::new(most);
            let mut now = 0;
            for (pause, latency, sign, short) in answers {
                now += pause;
                let sign = [Sign::Good, Sign::SlowDown, Sign::Bad][usize::from(sign)];
                limiter.answered(now, latency, sign, short);
                prop_assert!(limiter.limit() >= LEAST.min(most) && limiter.limit() <= most);
            }
            limiter.set_most(most / 2);
            prop_assert!(limiter.limit() >= 1 && limiter.limit() <= (most / 2).max(1));
        }

        #[test]
        fn a_few_refusals_by_chance_do_not_halve_a_limit(
            most in 20u32..1000, odds in 25u32..200, seed in any::<u64>(),
        ) {
            use rand::{RngExt as _, SeedableRng as _};
            let mut random = rand::rngs::StdRng::seed_from_u64(seed);
            let (mut limiter, mut now) = (Limiter::new(most), SECOND);
            for _ in 0..20_000 {
                now += TYPICAL / u64::from(limiter.limit());
                let sign = if random.random_range(0..odds) == 0 { Sign::Bad } else { Sign::Good };
                limiter.answered(now, TYPICAL, sign, true);
                prop_assert!(limiter.limit() * 2 >= most, "{} of {most}", limiter.limit());
            }
        }

        #[test]
        fn there_is_at_most_one_cut_a_round_trip(
            answers in prop::collection::vec((0u64..SECOND / 10, 1u64..SECOND, any::<bool>()), 0..2000),
        ) {
            let mut limiter = Limiter::new(100);
            let (mut now, mut cut_at) = (0, None);
            for (pause, latency, refused) in answers {
                now += pause;
                let before = limiter.limit();
                limiter.answered(now, latency, if refused { Sign::Bad } else { Sign::Good }, true);
                if limiter.limit() < before {
                    prop_assert!(cut_at.is_none_or(|cut_at| now.saturating_sub(latency) > cut_at));
                    cut_at = Some(now);
                }
            }
        }

        #[test]
        fn one_answer_never_grows_a_limit_by_more_than_an_eighth_nor_cuts_it_below_seven_tenths(
            answers in prop::collection::vec((0u64..SECOND, 0u64..SECOND, 0u8..3), 0..400),
        ) {
            let mut limiter = Limiter::new(500);
            let mut now = 0;
            for (pause, latency, sign) in answers {
                now += pause;
                let before = limiter.limit();
                limiter.answered(now, latency, [Sign::Good, Sign::SlowDown, Sign::Bad][usize::from(sign)], true);
                prop_assert!(limiter.limit() <= before + (before / 8).max(1));
                prop_assert!(limiter.limit() >= (before * 7 / 10).max(LEAST));
            }
        }
    }

    proptest! {
        // Each of these is a long life.
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_vendor_that_throttles_is_obeyed_and_used(borne in 20u32..900, seconds in 5u32..30) {
            let mut limiter = Limiter::new(1000);
            let mut now = SECOND;
            bearing(&mut limiter, &mut now, seconds * 20, borne);
            let limit = limiter.limit();
            // It refuses no more than a tenth, but for one step of growth, and its places are not left empty.
            prop_assert!(limit <= borne + borne / 8 + borne / 8 + 2, "{limit} for {borne}");
            prop_assert!(limit >= borne * 7 / 10, "{limit} for {borne}");
        }
    }
}
