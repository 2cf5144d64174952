//! Hours and days as people in a time zone have them: a day may have 23 or 25 hours, an hour may begin at a half.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

/// How long each point of a report is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interval {
    Hour,
    Day,
}

/// A stretch of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    /// Unix milliseconds.
    pub(super) start_ms: u64,
    /// The first millisecond that is out.
    pub(super) end_ms: u64,
    /// Its beginning as clocks there show it.
    pub(super) local: String,
}

/// All whole stretches that have some of this time in them, in order; `None`: more than `most`.
pub(super) fn spans(
    zone: &TimeZone,
    interval: Interval,
    (from_ms, to_ms): (u64, u64),
    most: usize,
) -> Option<Vec<Span>> {
    let moment = Timestamp::from_millisecond(i64::try_from(from_ms).ok()?).ok()?.to_zoned(zone.clone());
    let mut at = match interval {
        Interval::Day => moment.start_of_day().ok()?,
        Interval::Hour => back(&moment, past_the_hour(&moment))?,
    };
    let mut spans = Vec::new();
    while millis(&at) < to_ms {
        if spans.len() == most {
            return None;
        }
        let next = match interval {
            Interval::Day => at.tomorrow().ok()?.start_of_day().ok()?,
            // To the next full hour of the clock there: where it is put forward by a half, that hour has only a half.
            Interval::Hour => back(&at, past_the_hour(&at) - SignedDuration::from_hours(1))?,
        };
        let local = at.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
        spans.push(Span { start_ms: millis(&at), end_ms: millis(&next), local });
        at = next;
    }
    Some(spans)
}

fn past_the_hour(at: &Zoned) -> SignedDuration {
    let seconds = i64::from(at.minute()) * 60 + i64::from(at.second());
    SignedDuration::new(seconds, at.subsec_nanosecond())
}

fn back(at: &Zoned, by: SignedDuration) -> Option<Zoned> {
    Some(at.timestamp().checked_sub(by).ok()?.to_zoned(at.time_zone().clone()))
}

fn millis(at: &Zoned) -> u64 {
    u64::try_from(at.timestamp().as_millisecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::QUARTER_MS;

    const HOUR: u64 = 3_600_000;

    fn ms(text: &str) -> u64 {
        text.parse::<Timestamp>().unwrap().as_millisecond() as u64
    }

    fn of(zone: &str, interval: Interval, from: &str, to: &str) -> Vec<Span> {
        spans(&TimeZone::get(zone).unwrap(), interval, (ms(from), ms(to)), 10_000).unwrap()
    }

    fn lengths(spans: &[Span]) -> Vec<u64> {
        spans.iter().map(|span| (span.end_ms - span.start_ms) / 60_000).collect()
    }

    #[test]
    fn days_begin_at_midnight_there_and_have_the_hours_that_they_have() {
        let days = of("Europe/Berlin", Interval::Day, "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z");
        assert_eq!(lengths(&days), [24 * 60, 23 * 60, 24 * 60]);
        assert_eq!(days[1].local, "2026-03-29T00:00:00+01:00");
        assert_eq!(days[2].local, "2026-03-30T00:00:00+02:00");
        let days = of("America/New_York", Interval::Day, "2026-11-01T05:00:00Z", "2026-11-02T05:00:00Z");
        assert_eq!(lengths(&days), [25 * 60]);
        // Where midnight itself is left out, the day begins at one.
        let days = of("Africa/Cairo", Interval::Day, "2026-04-24T00:00:00Z", "2026-04-24T01:00:00Z");
        assert_eq!((lengths(&days), &*days[0].local), (vec![23 * 60], "2026-04-24T01:00:00+03:00"));
    }

    #[test]
    fn zones_of_halves_and_quarters_are_exact() {
        for (zone, local) in [
            ("Asia/Kolkata", "2026-01-02T00:00:00+05:30"),
            ("Asia/Kathmandu", "2026-01-02T00:00:00+05:45"),
            ("America/St_Johns", "2026-01-02T00:00:00-03:30"),
            ("Pacific/Chatham", "2026-01-02T00:00:00+13:45"),
        ] {
            let at = local.parse::<Timestamp>().unwrap().as_millisecond() as u64;
            let zone = TimeZone::get(zone).unwrap();
            let days = spans(&zone, Interval::Day, (at, at + 1), 9).unwrap();
            assert_eq!(days, [Span { start_ms: at, end_ms: at + 24 * HOUR, local: local.into() }]);
            let hours = spans(&zone, Interval::Hour, (at + 1, at + HOUR + 1), 9).unwrap();
            assert_eq!((hours.len(), hours[0].start_ms, hours[1].end_ms), (2, at, at + 2 * HOUR));
        }
    }

    #[test]
    fn an_hour_that_is_lived_twice_or_half_is_told_as_that() {
        let hours = of("Europe/Berlin", Interval::Hour, "2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z");
        let local: Vec<_> = hours.iter().map(|hour| hour.local.as_str()).collect();
        assert_eq!(local, ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00"]);
        // Lord Howe puts its clocks by half an hour.
        let hours = of("Australia/Lord_Howe", Interval::Hour, "2026-10-03T14:30:00Z", "2026-10-03T17:00:00Z");
        assert_eq!(lengths(&hours), [60, 30, 60]);
        assert_eq!(hours[1].local, "2026-10-04T02:30:00+11:00");
    }

    #[test]
    fn a_range_that_is_too_long_is_refused_and_an_empty_one_is_empty() {
        let zone = TimeZone::UTC;
        assert_eq!(spans(&zone, Interval::Day, (0, 11 * 24 * HOUR), 10), None);
        assert_eq!(spans(&zone, Interval::Hour, (u64::MAX, u64::MAX), 10), None);
        assert_eq!(spans(&zone, Interval::Hour, (HOUR, HOUR), 10), Some(Vec::new()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn nothing_is_left_out_or_told_twice_and_all_begin_at_a_quarter(
            at in 1_735_700_000_000u64..2_000_000_000_000, hours in 1u64..2000, day: bool, zone in 0usize..600,
        ) {
            let names: Vec<_> = jiff::tz::db().available().collect();
            let zone = TimeZone::get(names[zone % names.len()].as_str()).unwrap();
            let interval = if day { Interval::Day } else { Interval::Hour };
            let all = spans(&zone, interval, (at, at + hours * HOUR), 5000).unwrap();
            prop_assert!(all[0].start_ms <= at && all.last().unwrap().end_ms >= at + hours * HOUR);
            for (one, next) in all.iter().zip(&all[1..]) {
                prop_assert_eq!(one.end_ms, next.start_ms);
            }
            for span in &all {
                prop_assert!(span.start_ms < span.end_ms);
                prop_assert_eq!(span.start_ms % QUARTER_MS, 0);
            }
        }
    }
}
