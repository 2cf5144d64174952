//! The retry budget: a vendor in trouble does not get twice the load.

use super::{Micros, SECOND};

/// Seconds that are looked back on.
const SECONDS: usize = 60;
/// Retries are at most one for this many first attempts.
const FIRSTS_PER_RETRY: u64 = 10;
/// Retries that are always allowed in a second.
const FLOOR: u64 = 10;

/// Retries of one credential: ten a second whatever happens, and beyond that at most a tenth of the first attempts of
/// the last minute.
#[derive(Debug, Clone)]
pub struct RetryBudget {
    /// (first attempts, retries beyond the floor) by second.
    seconds: [(u64, u64); SECONDS],
    /// The newest second in `seconds`.
    second: u64,
    /// What of this second's floor is used.
    floor_used: u64,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { seconds: [(0, 0); SECONDS], second: 0, floor_used: 0 }
    }
}

impl RetryBudget {
    /// So many first attempts were made.
    pub fn first(&mut self, now: Micros, count: u32) {
        self.turn(now);
        self.seconds[self.second as usize % SECONDS].0 += u64::from(count);
    }

    /// Of so many retries, how many may be made now. They count as made.
    pub fn retry(&mut self, now: Micros, count: u32) -> u32 {
        self.turn(now);
        let floor = (FLOOR - self.floor_used).min(u64::from(count));
        self.floor_used += floor;
        let (firsts, shared) = self.seconds.iter().fold((0, 0), |sum, s| (sum.0 + s.0, sum.1 + s.1));
        let share = (firsts / FIRSTS_PER_RETRY).saturating_sub(shared).min(u64::from(count) - floor);
        self.seconds[self.second as usize % SECONDS].1 += share;
        (floor + share) as u32
    }

    fn turn(&mut self, now: Micros) {
        let second = now / SECOND;
        let passed = second.saturating_sub(self.second).min(SECONDS as u64);
        for gone in 0..passed {
            self.seconds[(second - gone) as usize % SECONDS] = (0, 0);
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
        fn ten_a_second_are_always_allowed(seconds in prop::collection::vec(0u32..5000, 1..120)) {
            let mut budget = RetryBudget::default();
            for (second, asked) in seconds.into_iter().enumerate() {
                let granted = budget.retry(second as u64 * SECOND, asked);
                prop_assert_eq!(granted, asked.min(FLOOR as u32));
            }
        }
    }
}
