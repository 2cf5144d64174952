//! Periods of time that counters are kept by: short ones, and their sums over longer ones. So a long stretch of time is a
//! few long periods, and short ones at its ends.

/// Quarters of an hour in each period of reports' counters: a quarter itself, an hour, six hours, a day. Each is a multiple of
/// the one before.
pub(super) const QUARTERS: [u64; 4] = [1, 4, 4 * 6, 4 * 24];
/// Hours in each period of channels' counters: an hour itself, a day, 32 days.
pub(super) const HOURS: [u64; 3] = [1, 24, 24 * 32];

/// The periods that a quarter of an hour since 1970 lies in, one of each grain: (grain, period).
pub(super) fn around_quarter(quarter: u64) -> impl Iterator<Item = (usize, u64)> {
    QUARTERS.into_iter().map(move |length| quarter / length).enumerate()
}

/// The periods that an hour since 1970 lies in, one of each grain: (grain, period).
pub fn around_hour(hour: u64) -> impl Iterator<Item = (usize, u64)> {
    HOURS.into_iter().map(move |length| hour / length).enumerate()
}

/// The fewest periods that make up a stretch of time: (grain, first, first that is out).
pub(super) fn cover(grains: &[u64], stretch: (u64, u64)) -> Vec<(usize, u64, u64)> {
    let mut periods = Vec::new();
    cover_by(grains, grains.len() - 1, stretch, &mut periods);
    periods
}

fn cover_by(grains: &[u64], grain: usize, (from, to): (u64, u64), periods: &mut Vec<(usize, u64, u64)>) {
    let length = grains[grain];
    let (first, out) = (from.div_ceil(length), to / length);
    let whole = first < out;
    if whole {
        periods.push((grain, first, out));
    }
    if grain > 0 {
        let rest = if whole { vec![(from, first * length), (out * length, to)] } else { vec![(from, to)] };
        for part in rest.into_iter().filter(|(from, to)| from < to) {
            cover_by(grains, grain - 1, part, periods);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn periods_make_up_each_unit_once_and_no_other(from in 0u64..5000, more in 0u64..5000) {
            for grains in [&QUARTERS[..], &HOURS] {
                let periods = cover(grains, (from, from + more));
                let mut units: Vec<u64> = (periods.iter())
                    .flat_map(|(grain, first, out)| first * grains[*grain]..out * grains[*grain])
                    .collect();
                units.sort_unstable();
                prop_assert_eq!(units, (from..from + more).collect::<Vec<_>>());
                prop_assert!(periods.len() < 2 * grains.len());
            }
        }
    }

    #[test]
    fn a_day_anywhere_is_a_dozen_periods_at_the_most() {
        let periods =
            |stretch| cover(&QUARTERS, stretch).iter().map(|(_, first, out)| out - first).sum::<u64>();
        assert_eq!(periods((96, 192)), 1);
        // Kolkata's days begin at half past six in the evening.
        assert_eq!(periods((74, 170)), 12);
    }
}
