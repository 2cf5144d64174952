//! How many requests may be in flight: additive increase, multiplicative decrease.

use super::{Micros, SECOND, Sign};

/// The least that a limit falls to, so that a vendor's recovery is noticed.
const LEAST: u32 = 4;
/// Latencies below this are nobody's congestion but our own machine's noise.
const NOISE: Micros = SECOND / 10;
/// Quiet time after which the limit grows faster: the trouble is over.
const OVER: Micros = 10 * SECOND;
/// Answers of which the first estimate of the usual latency is made.
const WARM: u32 = 64;
/// Time in which the usual latency follows a lasting change to about its triple.
const MEMORY: Micros = 60 * SECOND;

/// The limit of one credential.
///
/// It starts at the most that the provider declares: vendors publish that number. It grows by one for each full window
/// (as many answers as the limit) in which places ran short, faster once the last cut is ten seconds ago. It is cut to
/// 7/10 when the vendor asks for less or fails, and when more than half of a window took longer than twice the usual
/// median. One burst of refusals is one cut: answers to requests that began before the last cut say nothing new.
#[derive(Debug, Clone)]
pub struct Limiter {
    limit: u32,
    least: u32,
    most: u32,
    cut_at: Option<Micros>,
    window: Window,
    usual: Usual,
}

/// Answers since the limit last changed.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    answers: u32,
    slow: u32,
    short_of_places: bool,
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
        Self { limit: most, least, most, cut_at: None, window: Window::default(), usual: Usual::default() }
    }

    /// Requests that may be in flight now.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Changes the most; a limit that stood at the old one moves along.
    pub fn set_most(&mut self, most: u32) {
        let most = most.max(1);
        let stood_at_most = self.limit == self.most;
        (self.most, self.least) = (most, LEAST.min(most));
        self.limit = if stood_at_most { most } else { self.limit.clamp(self.least, most) };
    }

    /// An answer came. `short_of_places`: somebody waited for a place meanwhile.
    pub fn answered(&mut self, now: Micros, latency: Micros, sign: Sign, short_of_places: bool) {
        match sign {
            Sign::Good => self.good(now, latency, short_of_places),
            Sign::SlowDown | Sign::Bad => {
                let began = now.saturating_sub(latency);
                if self.cut_at.is_none_or(|cut_at| began > cut_at) {
                    self.cut(now, self.least);
                }
            }
        }
    }

    fn good(&mut self, now: Micros, latency: Micros, short_of_places: bool) {
        self.window.answers += 1;
        self.window.slow += u32::from(self.usual.is_slow(latency));
        self.window.short_of_places |= short_of_places;
        self.usual.learn(now, latency);
        if self.window.answers < self.limit.max(LEAST) {
            return;
        }
        let window = std::mem::take(&mut self.window);
        if window.slow * 2 > window.answers {
            // A slower vendor may be as good as before with more in flight: slowness alone never takes it all.
            self.cut(now, self.least.max(self.most / 8));
        } else if window.short_of_places {
            let is_over = self.cut_at.is_some_and(|cut_at| now.saturating_sub(cut_at) > OVER);
            let step = if is_over { (self.limit / 8).max(1) } else { 1 };
            self.limit = self.limit.saturating_add(step).min(self.most);
        }
    }

    fn cut(&mut self, now: Micros, floor: u32) {
        let cut = (u64::from(self.limit) * 7 / 10) as u32;
        self.limit = cut.max(floor).min(self.limit);
        self.cut_at = Some(now);
        self.window = Window::default();
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
        for _ in 0..40 {
            now += SECOND;
            limiter.answered(now, TYPICAL, Sign::Bad, true);
        }
        assert_eq!(limiter.limit(), LEAST);
        windows(&mut limiter, &mut now, 3, TYPICAL);
        assert_eq!(limiter.limit(), LEAST + 3);
        now += OVER;
        windows(&mut limiter, &mut now, 60, TYPICAL);
        assert_eq!(limiter.limit(), 1000);
    }

    #[test]
    fn without_demand_a_limit_does_not_grow() {
        let mut limiter = Limiter::new(100);
        limiter.answered(SECOND, TYPICAL, Sign::Bad, true);
        for i in 0..1000 {
            limiter.answered(2 * SECOND + i, TYPICAL, Sign::Good, false);
        }
        assert_eq!(limiter.limit(), 70);
    }

    #[test]
    fn a_vendor_that_becomes_slow_gets_less_and_one_that_is_always_slow_does_not() {
        let mut limiter = Limiter::new(100);
        let mut now = SECOND;
        windows(&mut limiter, &mut now, 20, TYPICAL * 4);
        assert_eq!(limiter.limit(), 100);
        windows(&mut limiter, &mut now, 2, TYPICAL * 40);
        assert!(limiter.limit() < 60, "{}", limiter.limit());
        windows(&mut limiter, &mut now, 20, TYPICAL * 40);
        assert!(limiter.limit() >= 12, "slowness alone takes seven eighths at most: {}", limiter.limit());
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
}
