//! What reports are made of: counters by the time in which messages were made.

use crate::delivery::state::{State, View};
use anypush_providers::contract::{Class, Reason};

/// The grain of reports: every time zone begins its hours and days at one of these.
pub const QUARTER_MS: u64 = 15 * 60 * 1000;

/// What platforms devices have, by stored number; 0 is "not known". Only ever appended to.
pub const PLATFORMS: [&str; 6] = ["", "android", "ios", "harmonyos", "web", "other"];

/// What all labels beyond the first hundred of an app and day are counted as.
pub const OTHER_LABELS: &str = "(other)";

/// By what a report tells apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a member of the same set")]
pub struct ReportBy {
    /// The channel that has it.
    pub channel: bool,
    /// The device's platform.
    pub platform: bool,
    /// The message's class.
    pub class: bool,
    /// The message's label.
    pub label: bool,
    /// The reason, in view `Now`.
    pub reason: bool,
}

/// A question.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReportAsk {
    /// The app.
    pub app: i64,
    /// Stretches of time in order, in quarters of an hour since 1970: (first, first that is out).
    pub spans: Vec<(u64, u64)>,
    /// By what to tell apart.
    pub by: ReportBy,
    /// Only these channels.
    pub channels: Option<Vec<i64>>,
    /// Only this platform.
    pub platform: Option<u8>,
    /// Only this class.
    pub class: Option<Class>,
    /// Only this label; empty: those without.
    pub label: Option<String>,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counted {
    /// Targets of messages, whatever became of them.
    Targeted,
    /// How many are in this state, or ever reached it.
    In(View, State),
}

/// Who is counted; what a report does not tell apart by is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReportGroup {
    /// The channel; 0 = none.
    pub channel: i64,
    /// The platform's number.
    pub platform: u8,
    /// The class's number.
    pub class: u8,
    /// The label; empty = none.
    pub label: String,
    /// The reason.
    pub reason: Option<Reason>,
}

/// A number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportRow {
    /// The place of its stretch in the question.
    pub span: usize,
    /// Who.
    pub group: ReportGroup,
    /// What.
    pub counted: Counted,
    /// How many; never negative over a whole report.
    pub n: i64,
}

/// How channels' tries went in a stretch of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChannelStats {
    /// The channel.
    pub channel: i64,
    /// How many tries ended how; no reason: accepted.
    pub tries: Vec<(Option<Reason>, u64)>,
    /// How many requests took how long: (bucket, tries), by bucket.
    pub latency: Vec<(u8, u64)>,
}

impl ChannelStats {
    /// How long this share of the requests took at the most, within a fifth.
    pub fn quantile_ms(&self, share: f64) -> Option<u64> {
        let all: u64 = self.latency.iter().map(|(_, n)| n).sum();
        let wanted = ((all as f64) * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        self.latency.iter().find_map(|(bucket, n)| {
            seen += n;
            (seen >= wanted).then(|| bucket_end_ms(*bucket))
        })
    }
}

/// The bucket of a latency: four to each doubling.
pub fn latency_bucket(ms: u32) -> u8 {
    if ms < 4 {
        return ms as u8;
    }
    let doubling = ms.ilog2();
    (doubling * 4 - 4 + ((ms >> (doubling - 2)) & 3)) as u8
}

/// The longest latency of a bucket.
fn bucket_end_ms(bucket: u8) -> u64 {
    let bucket = u64::from(bucket);
    if bucket < 4 {
        return bucket;
    }
    let (doubling, quarter) = (bucket / 4 + 1, bucket % 4);
    ((5 + quarter) << (doubling - 2)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_is_told_within_a_fifth_and_never_too_short() {
        let mut last = 0;
        for ms in (0..5000).chain([10_000, 65_535, 65_536, 1 << 20, u32::MAX]) {
            let bucket = latency_bucket(ms);
            assert!(bucket >= last, "{ms}");
            last = bucket;
            let told = bucket_end_ms(bucket);
            assert!(told >= u64::from(ms) && told <= u64::from(ms) * 5 / 4, "{ms} is told as {told}");
        }
        let stats = ChannelStats {
            latency: vec![(latency_bucket(10), 98), (latency_bucket(1000), 2)],
            ..ChannelStats::default()
        };
        assert_eq!((stats.quantile_ms(0.5), stats.quantile_ms(0.99)), (Some(11), Some(1023)));
        assert_eq!(ChannelStats::default().quantile_ms(0.5), None);
    }
}
