//! When a vendor's day begins.

use anypush_providers::contract::QuotaPeriod;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::clock::{DAY_MS, HOUR_MS};

/// The time that a quota is being counted over, in Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// Its first millisecond.
    pub began: u64,
    /// The first millisecond of the next one.
    pub ends: u64,
}

/// The period of a moment. A day is the calendar's day in this zone: 23 or 25 hours long where clocks change.
pub fn period(of: QuotaPeriod, time_zone: &str, now_ms: u64) -> Period {
    let length = match of {
        QuotaPeriod::Second => 1000,
        QuotaPeriod::Minute => 60_000,
        QuotaPeriod::Hour => HOUR_MS,
        // A zone that this machine does not know, or a time beyond the calendar: a day all the same.
        QuotaPeriod::Day => return day(time_zone, now_ms).unwrap_or_else(|| plain(now_ms, DAY_MS)),
    };
    plain(now_ms, length)
}

fn plain(now_ms: u64, length: u64) -> Period {
    let began = now_ms - now_ms % length;
    Period { began, ends: began + length }
}

fn day(time_zone: &str, now_ms: u64) -> Option<Period> {
    let zone = TimeZone::get(time_zone).ok()?;
    let now = Timestamp::from_millisecond(i64::try_from(now_ms).ok()?).ok()?.to_zoned(zone.clone());
    let first = |start: Zoned| u64::try_from(start.timestamp().as_millisecond()).ok();
    let began = first(now.start_of_day().ok()?)?;
    // The first moment of the next date that exists: at some midnights clocks go forward.
    let ends = first(now.date().tomorrow().ok()?.to_zoned(zone).ok()?.start_of_day().ok()?)?;
    (began <= now_ms && now_ms < ends).then_some(Period { began, ends })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// With and without summer time; one whose clocks change by half an hour, one that changes them at midnight.
    const ZONES: [&str; 6] = [
        "Asia/Shanghai",
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "America/Santiago",
    ];

    fn ms(text: &str) -> u64 {
        text.parse::<Timestamp>().unwrap().as_millisecond() as u64
    }

    #[test]
    fn a_day_in_shanghai_begins_at_sixteen_hours_utc() {
        let today = period(QuotaPeriod::Day, "Asia/Shanghai", ms("2026-11-21T15:59:59.999Z"));
        assert_eq!(today, Period { began: ms("2026-11-20T16:00:00Z"), ends: ms("2026-11-21T16:00:00Z") });
        assert_eq!(period(QuotaPeriod::Day, "Asia/Shanghai", today.ends).began, today.ends);
    }

    #[test]
    fn a_day_on_which_clocks_change_is_as_long_as_it_is() {
        let hours = |zone, at| {
            let day = period(QuotaPeriod::Day, zone, ms(at));
            (day.ends - day.began) / 3_600_000
        };
        assert_eq!(hours("Europe/Berlin", "2026-03-29T12:00:00Z"), 23);
        assert_eq!(hours("Europe/Berlin", "2026-10-25T12:00:00Z"), 25);
        // Clocks go forward at midnight: the day begins at one.
        assert_eq!(hours("America/Santiago", "2026-09-06T12:00:00Z"), 23);
        assert_eq!(hours("Asia/Shanghai", "2026-03-29T12:00:00Z"), 24);
    }

    #[test]
    fn an_unknown_zone_still_has_days() {
        assert_eq!(period(QuotaPeriod::Day, "Nowhere/Land", 86_400_000 * 3 + 5).began, 86_400_000 * 3);
    }

    proptest! {
        #[test]
        fn every_moment_is_in_one_day_and_days_follow_without_gap(
            now in 1_600_000_000_000u64..2_600_000_000_000, zone in 0..ZONES.len()
        ) {
            let zone = ZONES[zone];
            let day = period(QuotaPeriod::Day, zone, now);
            prop_assert!(day.began <= now && now < day.ends);
            prop_assert_eq!(period(QuotaPeriod::Day, zone, day.began), day);
            prop_assert_eq!(period(QuotaPeriod::Day, zone, day.ends - 1), day);
            prop_assert_eq!(period(QuotaPeriod::Day, zone, day.ends).began, day.ends);
            let date = |at: u64| {
                Timestamp::from_millisecond(at as i64).unwrap().in_tz(zone).unwrap().date()
            };
            prop_assert_eq!(date(day.began), date(now));
            prop_assert_eq!(date(day.ends - 1), date(now));
            prop_assert!(date(day.began - 1) < date(now) && date(now) < date(day.ends));
        }

        #[test]
        fn hours_are_hours(now in 0u64..2_600_000_000_000) {
            let hour = period(QuotaPeriod::Hour, "UTC", now);
            prop_assert!(hour.began <= now && now < hour.ends);
            prop_assert_eq!((hour.began % 3_600_000, hour.ends - hour.began), (0, 3_600_000));
        }
    }
}
