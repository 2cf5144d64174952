//! The retry budget: a vendor in trouble does not get twice the load.

use super::{Micros, SECOND};

/// Seconds that are looked back on.
const SECONDS: usize = 60;
/// Retries are at most one for this many first attempts.
const FIRSTS_PER_RETRY: u64 = 10;
/// Retries that are always allowed in a second.
const FLOOR: u64 = 10;

/// Retries of one credential: ten a second whatever happens, and beyond that at most a tenth of the first attempts of
/// the last minute. A retry that the vendor bore pays for one more: the budget is for those that fail again, and a
/// vendor that works must not be asked for minutes what it would take in seconds.
#[derive(Debug, Clone)]
pub struct RetryBudget {
    /// What happened, by second.
    seconds: [Spent; SECONDS],
    /// The newest second in `seconds`.
    second: u64,
    /// What of this second's floor is used.
    floor_used: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    firsts: u64,
    /// Retries that the vendor bore.
    borne: u64,
    /// Retries beyond the floor.
    shared: u64,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { seconds: [Spent::default(); SECONDS], second: 0, floor_used: 0 }
    }
}

impl RetryBudget {
    /// So many first attempts were made.
    pub fn first(&mut self, now: Micros, count: u32) {
        self.turn(now);
        self.seconds[self.second as usize % SECONDS].firsts += u64::from(count);
    }

    /// A retry found the vendor working.
    pub fn bore(&mut self, now: Micros) {
        self.turn(now);
        self.seconds[self.second as usize % SECONDS].borne += 1;
    }

    /// Of so many retries, how many may be made now. They count as made.
    pub fn retry(&mut self, now: Micros, count: u32) -> u32 {
        self.turn(now);
        let floor = (FLOOR - self.floor_used).min(u64::from(count));
        self.floor_used += floor;
        let sum = |what: fn(&Spent) -> u64| self.seconds.iter().map(what).sum::<u64>();
        let earned = sum(|s| s.firsts) / FIRSTS_PER_RETRY + sum(|s| s.borne);
        let share = earned.saturating_sub(sum(|s| s.shared)).min(u64::from(count) - floor);
        self.seconds[self.second as usize % SECONDS].shared += share;
        (floor + share) as u32
    }

    fn turn(&mut self, now: Micros) {
        let second = now / SECOND;
        let passed = second.saturating_sub(self.second).min(SECONDS as u64);
        for gone in 0..passed {
            self.seconds[(second - gone) as usize % SECONDS] = Spent::default();
        }
        if passed > 0 {
            (self.second, self.floor_used) = (second, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_vendor_that_refuses_everything_gets_a_tenth_more_and_ten_a_second() {
        let mut budget = RetryBudget::default();
        budget.first(0, 1000);
        assert_eq!(budget.retry(0, 1000), 110);
        assert_eq!(budget.retry(0, 1000), 0);
        assert_eq!(budget.retry(SECOND, 1000), 10);
    }

    #[test]
    fn a_vendor_that_works_again_gets_thousands_of_waiting_retries_in_less_than_a_minute() {
        let mut budget = RetryBudget::default();
        let mut waiting = 5000;
        for second in 0..40 {
            let granted = budget.retry(second * SECOND, waiting);
            (0..granted).for_each(|_| budget.bore(second * SECOND));
            waiting -= granted;
        }
        assert_eq!(waiting, 0);
    }

    #[test]
    fn first_attempts_of_an_hour_ago_allow_nothing() {
        let mut budget = RetryBudget::default();
        budget.first(0, 1_000_000);
        assert_eq!(budget.retry(3600 * SECOND, 1000), 10);
    }

    proptest! {
        #[test]
        fn whenever_more_than_the_floor_is_granted_the_minute_is_within_its_budget(
            steps in prop::collection::vec((0u64..5 * SECOND, any::<bool>(), 0u32..5000), 0..300),
        ) {
            let mut budget = RetryBudget::default();
            let mut now = 0;
            let (mut firsts, mut retries) = (Vec::new(), Vec::new());
            for (pause, is_first, count) in steps {
                now += pause;
                if is_first {
                    budget.first(now, count);
                    firsts.push((now / SECOND, u64::from(count)));
                    continue;
                }
                let granted = u64::from(budget.retry(now, count));
                prop_assert!(granted <= u64::from(count));
                retries.push((now / SECOND, granted));
                let since = (now / SECOND).saturating_sub(SECONDS as u64 - 1);
                let sum = |of: &[(u64, u64)]| -> u64 {
                    of.iter().filter(|(at, _)| *at >= since).map(|(_, count)| count).sum()
                };
                if granted > FLOOR {
                    prop_assert!(sum(&retries) <= sum(&firsts) / FIRSTS_PER_RETRY + FLOOR * SECONDS as u64);
                }
            }
        }

        #[test]
        fn over_all_time_retries_are_a_tenth_of_first_attempts_and_ten_a_second(
            steps in prop::collection::vec((0u64..20 * SECOND, any::<bool>(), 0u32..5000), 0..300),
        ) {
            let mut budget = RetryBudget::default();
            let (mut now, mut firsts, mut retries) = (0, 0, 0);
            for (pause, is_first, count) in steps {
                now += pause;
                if is_first {
                    budget.first(now, count);
                    firsts += u64::from(count);
                } else {
                    retries += u64::from(budget.retry(now, count));
                }
                // A first attempt stays in sight for a minute and pays for one retry only while it does.
                prop_assert!(retries <= firsts / FIRSTS_PER_RETRY * 2 + FLOOR * (now / SECOND + 1));
            }
        }

        #[test]
        fn retries_that_fail_again_are_a_tenth_of_first_attempts_and_ten_a_second(
            steps in prop::collection::vec((0u64..20 * SECOND, 0u8..3, 0u32..5000), 0..300),
        ) {
            let mut budget = RetryBudget::default();
            let (mut now, mut firsts, mut retries, mut borne) = (0, 0, 0, 0);
            for (pause, step, count) in steps {
                now += pause;
                match step {
                    0 => {
                        budget.first(now, count);
                        firsts += u64::from(count);
                    }
                    1 => retries += u64::from(budget.retry(now, count)),
                    _ => {
                        let good = u64::from(count).min(retries - borne);
                        (0..good).for_each(|_| budget.bore(now));
                        borne += good;
                    }
                }
                prop_assert!(retries <= 2 * borne + firsts / FIRSTS_PER_RETRY * 2 + FLOOR * (now / SECOND + 1));
            }
        }

        #[test]
        fn ten_a_second_are_always_allowed(seconds in prop::collection::vec(0u32..5000, 1..120)) {
            let mut budget = RetryBudget::default();
            for (second, asked) in seconds.into_iter().enumerate() {
                let granted = budget.retry(second as u64 * SECOND, asked);
                prop_assert_eq!(granted, asked.min(FLOOR as u32));
            }
        }
    }
}
