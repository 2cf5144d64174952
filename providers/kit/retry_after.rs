//! Reads `Retry-After` (RFC 9110 §10.2.3): seconds, or a date.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::RETRY_AFTER;
use jiff::fmt::rfc2822;

/// No vendor means to be left alone for longer; a larger number is cut, so that sums of times stay sums.
const LONGEST: Duration = Duration::from_hours(30 * 24);

/// How long the vendor asks us to wait. `None`: it does not say, or not in a form that the RFC allows.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds).min(LONGEST));
    }
    // The three date forms of RFC 9110 §5.6.7: only the preferred one is seen in the wild.
    let date = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    let wait = SystemTime::from(date).duration_since(now).unwrap_or(Duration::ZERO);
    Some(wait.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str, now: u64) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, value.parse().unwrap());
        retry_after(&headers, SystemTime::UNIX_EPOCH + Duration::from_secs(now))
    }

    #[test]
    fn seconds_are_waited() {
        assert_eq!(read("120", 0), Some(Duration::from_mins(2)));
        assert_eq!(read(" 0 ", 0), Some(Duration::ZERO));
    }

    #[test]
    fn a_date_is_waited_for_and_a_past_one_is_now() {
        // RFC 9110's own example, 784111777 seconds after the epoch.
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(read(date, 784_111_770), Some(Duration::from_secs(7)));
        assert_eq!(read(date, 784_111_999), Some(Duration::ZERO));
    }

    #[test]
    fn nonsense_is_no_hint_and_an_age_is_cut() {
        for nonsense in ["", "soon", "-5", "1.5", "99999999999999999999999"] {
            assert_eq!(read(nonsense, 0), None, "{nonsense:?}");
        }
        assert_eq!(read("18446744073709551615", 0), Some(LONGEST));
    }
}
