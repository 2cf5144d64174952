//! A rate: so many targets (or calls) a second (GCRA), after a pause a second's worth at once.

use super::{Micros, SECOND};

const NANOS: u64 = 1000;

/// The rate of one credential. A batch larger than a second's worth goes when there is no debt, and the next waits
/// until it is paid: it takes several seconds' worth, but never for ever.
#[derive(Debug, Clone)]
pub struct Rate {
    per_second: u32,
    /// When the next target would be due if all came evenly, in nanoseconds.
    due: u64,
}

impl Rate {
    /// So many targets a second; at least one.
    pub fn new(per_second: u32) -> Self {
        Self { per_second: per_second.max(1), due: 0 }
    }

    /// Targets a second.
    pub fn per_second(&self) -> u32 {
        self.per_second
    }

    /// Lets so many targets go, or says when to ask again.
    pub fn take(&mut self, now: Micros, targets: u32) -> Result<(), Micros> {
        let now_nanos = now * NANOS;
        let each = SECOND * NANOS / u64::from(self.per_second);
        let due = self.due.max(now_nanos);
        let asked = u64::from(targets.min(self.per_second)) * each;
        let ahead = due + asked - now_nanos;
        if ahead > SECOND * NANOS {
            return Err(now + (ahead - SECOND * NANOS).div_ceil(NANOS));
        }
        self.due = due + u64::from(targets) * each;
        Ok(())
    }

    /// How many may go at once now, and how long nobody may come until it is a whole second's worth again.
    pub fn left(&self, now: Micros) -> (u32, Micros) {
        let each = SECOND * NANOS / u64::from(self.per_second);
        let debt = self.due.saturating_sub(now * NANOS);
        let left = (SECOND * NANOS).saturating_sub(debt) / each;
        let left = u32::try_from(left).map_or(self.per_second, |left| left.min(self.per_second));
        (left, debt.div_ceil(NANOS))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_span_gets_its_rate_and_one_second_more_at_most(
            per_second in 1u32..5000,
            steps in prop::collection::vec((0u64..SECOND, 1u32..20), 1..300),
        ) {
            let mut rate = Rate::new(per_second);
            let (mut now, mut passed) = (0, 0u64);
            for (pause, targets) in steps {
                now += pause;
                if rate.take(now, targets).is_ok() {
                    passed += u64::from(targets);
                }
                let most = now as f64 / SECOND as f64 * f64::from(per_second) + f64::from(per_second.max(20)) + 1.0;
                prop_assert!(passed as f64 <= most * 1.001, "{passed} of {most}");
            }
        }

        #[test]
        fn what_is_left_may_go_and_not_one_more(
            per_second in 1u32..5000, before in prop::collection::vec(1u32..3000, 0..20), pause in 0u64..SECOND,
        ) {
            let mut rate = Rate::new(per_second);
            for targets in before {
                let _ = rate.take(0, targets);
            }
            let (left, full_in) = rate.left(pause);
            prop_assert_eq!(rate.left(pause + full_in), (per_second, 0));
            if left < per_second {
                prop_assert!(rate.clone().take(pause, left + 1).is_err());
            }
            if left > 0 {
                prop_assert_eq!(rate.take(pause, left), Ok(()));
            }
            prop_assert_eq!(rate.left(pause).0, 0);
        }

        #[test]
        fn whoever_waits_as_long_as_told_gets_through(
            per_second in 1u32..5000, targets in prop::collection::vec(1u32..10_000, 1..50),
        ) {
            let mut rate = Rate::new(per_second);
            let mut now = 0;
            for targets in targets {
                if let Err(again) = rate.take(now, targets) {
                    prop_assert!(again > now);
                    now = again;
                    prop_assert_eq!(rate.take(now, targets), Ok(()));
                }
            }
        }
    }
}
