//! When an event is tried again, and how fast an endpoint is called: plain rules.

use std::time::Duration;

/// Longest time that `Retry-After` is obeyed.
const LONGEST_PAUSE: Duration = Duration::from_hours(24);
/// Most requests at the same time to one endpoint.
pub(super) const MOST_ABREAST: usize = 16;
/// Where it begins.
const FIRST_ABREAST: usize = 4;
/// Events of a turn for each request at the same time.
const TURNS: usize = 4;
/// How long new events wait after a turn of which nothing arrived: doubled each time, up to the most.
const FIRST_WAIT_MS: u64 = 5_000;
const LONGEST_WAIT_MS: u64 = 300_000;

/// When an event that failed so often is tried again; `None`: never. `chance` (0 to 1) spreads what failed at the same
/// time over a tenth more.
pub(super) fn next_try(
    table: &[u64],
    attempt: u32,
    retry_after: Option<Duration>,
    now_ms: u64,
    chance: f64,
) -> Option<u64> {
    let seconds = *table.get(attempt.saturating_sub(1) as usize)?;
    let asked = retry_after.map_or(0, |wait| wait.min(LONGEST_PAUSE).as_millis() as u64);
    let wait = seconds * 1000 + (seconds as f64 * 100.0 * chance) as u64;
    Some(now_ms + wait.max(asked))
}

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It took it.
    Told,
    /// It did not, and is tried again.
    Failed,
    /// The same, and it has too much to do.
    Overloaded,
    /// It wants no more.
    Gone,
}

/// What a status means. A redirect is a failure: the next address would be nobody's choice.
pub(super) fn meaning(status: Option<u16>) -> Meaning {
    match status {
        Some(200..=299) => Meaning::Told,
        Some(410) => Meaning::Gone,
        Some(429 | 502 | 503 | 504) => Meaning::Overloaded,
        _ => Meaning::Failed,
    }
}

/// How fast an endpoint is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    abreast: usize,
    /// Turns of which nothing arrived, one after another.
    silent: u32,
    /// Until when new events wait, in Unix milliseconds.
    new_wait_until: u64,
    /// Until when everything waits: the endpoint asked for it.
    pub(super) paused_until: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { abreast: FIRST_ABREAST, silent: 0, new_wait_until: 0, paused_until: 0 }
    }
}

impl Pace {
    /// Requests at the same time.
    pub(super) fn abreast(&self) -> usize {
        self.abreast
    }

    /// Events that are taken for one turn: one, while nothing arrives.
    pub(super) fn turn(&self) -> usize {
        if self.silent > 0 { 1 } else { self.abreast * TURNS }
    }

    /// From when on new events are tried.
    pub(super) fn new_from(&self) -> u64 {
        self.new_wait_until
    }

    /// A turn is over: so many were told, so many not. `true`: it answers again after a time of silence.
    pub(super) fn turned(
        &mut self,
        told: usize,
        failed: usize,
        overloaded: bool,
        asked: Option<Duration>,
        now_ms: u64,
    ) -> bool {
        let was_silent = self.silent > 0;
        if told > 0 {
            (self.silent, self.new_wait_until) = (0, 0);
        } else if failed > 0 {
            let wait = FIRST_WAIT_MS.saturating_mul(1 << self.silent.min(10)).min(LONGEST_WAIT_MS);
            self.new_wait_until = now_ms + wait;
            self.silent += 1;
        }
        self.abreast = match (told, failed) {
            (_, 0) => (self.abreast * 2).min(MOST_ABREAST),
            (0, _) => 1,
            _ if overloaded => 1,
            _ => (self.abreast / 2).max(1),
        };
        if let Some(wait) = asked {
            let wait = wait.min(Duration::from_hours(1)).as_millis() as u64;
            self.paused_until = self.paused_until.max(now_ms + wait);
        }
        was_silent && told > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: [u64; 9] = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];

    #[test]
    fn an_event_is_tried_by_the_table_and_then_no_more() {
        let next = |attempt, chance| next_try(&TABLE, attempt, None, 0, chance);
        assert_eq!(next(1, 0.0), Some(5_000));
        assert_eq!(next(1, 1.0), Some(5_500));
        assert_eq!(next(9, 0.0), Some(86_400_000));
        assert_eq!(next(10, 0.0), None);
        assert_eq!(TABLE.iter().sum::<u64>() / 3600, 75, "hours from the first try to the last");
    }

    #[test]
    fn retry_after_makes_it_later_and_never_sooner_or_never() {
        let next = |wait| next_try(&TABLE, 2, Some(Duration::from_secs(wait)), 0, 0.0);
        assert_eq!(next(10), Some(300_000));
        assert_eq!(next(600), Some(600_000));
        assert_eq!(next(u64::MAX >> 20), Some(86_400_000));
    }

    #[test]
    fn what_an_answer_means() {
        for (status, means) in [
            (Some(200), Meaning::Told),
            (Some(204), Meaning::Told),
            (Some(302), Meaning::Failed),
            (Some(400), Meaning::Failed),
            (Some(410), Meaning::Gone),
            (Some(429), Meaning::Overloaded),
            (Some(500), Meaning::Failed),
            (Some(503), Meaning::Overloaded),
            (None, Meaning::Failed),
        ] {
            assert_eq!(meaning(status), means, "{status:?}");
        }
    }

    #[test]
    fn a_silent_endpoint_is_tried_with_one_event_every_five_minutes_and_a_good_one_faster_and_faster() {
        let mut pace = Pace::default();
        for _ in 0..9 {
            assert!(!pace.turned(0, 3, false, None, 1000));
            assert_eq!((pace.turn(), pace.abreast()), (1, 1));
        }
        assert_eq!(pace.new_from(), 1000 + LONGEST_WAIT_MS);
        assert!(pace.turned(1, 0, false, None, 1000), "it answers again");
        assert_eq!(pace.new_from(), 0);
        for _ in 0..9 {
            assert!(!pace.turned(10, 0, false, None, 1000));
        }
        assert_eq!((pace.abreast(), pace.turn()), (MOST_ABREAST, 64));
        pace.turned(5, 5, false, None, 1000);
        assert_eq!(pace.abreast(), 8);
        pace.turned(5, 5, true, Some(Duration::from_secs(7)), 1000);
        assert_eq!((pace.abreast(), pace.paused_until), (1, 8000));
    }
}
