//! Counters as series: one for each group, with a number for each stretch of time, zeros too.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::calendar::Span;
use crate::clock::rfc3339;
use crate::delivery::state::{State, View};
use crate::store::{Counted, PLATFORMS, ReportGroup, ReportRow};

const REACHED: [State; 4] = [State::Accepted, State::Delivered, State::Displayed, State::Clicked];
const PENDING: usize = State::Pending as usize;

/// By what groups are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dimension {
    Channel,
    Platform,
    Class,
    Label,
    Reason,
}

impl Dimension {
    pub(super) const ALL: [Self; 5] = [Self::Channel, Self::Platform, Self::Class, Self::Label, Self::Reason];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Channel => "channel",
            Self::Platform => "platform",
            Self::Class => "class",
            Self::Label => "label",
            Self::Reason => "reason",
        }
    }

    /// What a group is called; nothing where it has none of it.
    fn of(self, group: &ReportGroup, channel: impl Fn(i64) -> Option<String>) -> Option<String> {
        match self {
            Self::Channel => Some(group.channel)
                .filter(|seq| *seq != 0)
                .map(|seq| channel(seq).unwrap_or_else(|| "(unknown)".into())),
            Self::Platform => PLATFORMS
                .get(usize::from(group.platform))
                .filter(|name| !name.is_empty())
                .map(|name| (*name).to_owned()),
            Self::Class => Some(if group.class == 0 { "transactional" } else { "marketing" }.to_owned()),
            Self::Label => Some(group.label.clone()).filter(|label| !label.is_empty()),
            Self::Reason => group.reason.map(|reason| reason.as_str().to_owned()),
        }
    }
}

/// The numbers of a group in one stretch of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    now: [i64; State::ALL.len()],
    reached: [i64; REACHED.len()],
}

impl Numbers {
    fn add(&mut self, other: &Self) {
        self.now.iter_mut().zip(other.now).for_each(|(n, more)| *n += more);
        self.reached.iter_mut().zip(other.reached).for_each(|(n, more)| *n += more);
    }

    fn targeted(&self) -> i64 {
        self.now.iter().sum()
    }

    fn cells(&self) -> impl Iterator<Item = String> {
        let numbers = std::iter::once(self.targeted()).chain(self.reached).chain(self.now);
        numbers.map(|n| n.to_string())
    }
}

/// Numbers by what they count.
#[derive(Serialize)]
struct Named {
    targeted: i64,
    reached: ByState<{ REACHED.len() }>,
    now: ByState<{ State::ALL.len() }>,
}

/// Numbers by the names of these states.
struct ByState<const N: usize>([State; N], [i64; N]);

impl<const N: usize> Serialize for ByState<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|state| state.as_str()).zip(self.1))
    }
}

impl From<&Numbers> for Named {
    fn from(numbers: &Numbers) -> Self {
        Self {
            targeted: numbers.targeted(),
            reached: ByState(REACHED, numbers.reached),
            now: ByState(State::ALL, numbers.now),
        }
    }
}

/// A group as the API shows it. There may be twenty thousand points, so nothing is put together but the text.
#[derive(Serialize)]
pub(super) struct Shown<'a> {
    group: BTreeMap<&'static str, Option<&'a str>>,
    total: Named,
    points: Vec<Point<'a>>,
}

#[derive(Serialize)]
struct Point<'a> {
    start: &'a str,
    local: &'a str,
    #[serde(flatten)]
    numbers: Named,
}

/// A group and its numbers, one for each stretch of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Series {
    group: Vec<Option<String>>,
    points: Vec<Numbers>,
}

impl Series {
    /// As the API shows it; `starts` of the stretches of time.
    pub(super) fn shown<'a>(
        &'a self,
        by: &[Dimension],
        spans: &'a [Span],
        starts: &'a [String],
    ) -> Shown<'a> {
        let mut total = Numbers::default();
        self.points.iter().for_each(|numbers| total.add(numbers));
        let point = |((span, start), numbers): ((&'a Span, &'a String), &Numbers)| Point {
            start,
            local: &span.local,
            numbers: numbers.into(),
        };
        Shown {
            group: by.iter().map(|by| by.name()).zip(self.group.iter().map(Option::as_deref)).collect(),
            total: (&total).into(),
            points: spans.iter().zip(starts).zip(&self.points).map(point).collect(),
        }
    }

    /// Rows of a table with [`columns`].
    pub(super) fn rows(&self, spans: &[Span]) -> impl Iterator<Item = Vec<String>> {
        spans.iter().zip(&self.points).map(|(span, numbers)| {
            let group = self.group.iter().map(|name| name.clone().unwrap_or_default());
            let when = [rfc3339(span.start_ms), span.local.clone()];
            when.into_iter().chain(group).chain(numbers.cells()).collect()
        })
    }
}

/// The columns of [`Series::rows`].
pub(super) fn columns(by: &[Dimension]) -> Vec<String> {
    let fixed = ["start", "local"].map(str::to_owned).into_iter();
    let groups = by.iter().map(|by| by.name().to_owned());
    let reached = REACHED.iter().map(|state| format!("reached_{}", state.as_str()));
    let now = State::ALL.iter().map(|state| format!("now_{}", state.as_str()));
    fixed.chain(groups).chain(["targeted".to_owned()]).chain(reached).chain(now).collect()
}

/// The series of a report, in order of their names. Without a dimension there is one, whatever was counted.
pub(super) fn of(
    rows: &[ReportRow],
    by: &[Dimension],
    spans: usize,
    channel: impl Fn(i64) -> Option<String>,
) -> Vec<Series> {
    let mut all: BTreeMap<Vec<Option<String>>, Vec<Numbers>> = BTreeMap::new();
    if by.is_empty() {
        all.insert(Vec::new(), vec![Numbers::default(); spans]);
    }
    // Pending is what is left of the targets, and has no channel, platform or reason yet.
    let mut left: BTreeMap<(usize, ReportGroup), i64> = BTreeMap::new();
    let nobodys =
        |group: &ReportGroup| ReportGroup { channel: 0, platform: 0, reason: None, ..group.clone() };
    let names = |group: &ReportGroup| by.iter().map(|by| by.of(group, &channel)).collect::<Vec<_>>();
    for row in rows {
        let left = left.entry((row.span, nobodys(&row.group))).or_insert(0);
        let points = all.entry(names(&row.group)).or_insert_with(|| vec![Numbers::default(); spans]);
        let Some(numbers) = points.get_mut(row.span) else { continue };
        match row.counted {
            Counted::Targeted => *left += row.n,
            Counted::In(View::Now, state) => {
                numbers.now[usize::from(state.code())] += row.n;
                *left -= row.n;
            }
            Counted::In(View::Reached, state) => {
                if let Some(at) = REACHED.iter().position(|known| *known == state) {
                    numbers.reached[at] += row.n;
                }
            }
        }
    }
    // Where only one channel or platform was asked for, targets are not counted at all.
    for ((span, group), n) in left.into_iter().filter(|(_, n)| *n > 0) {
        let points = all.entry(names(&group)).or_insert_with(|| vec![Numbers::default(); spans]);
        if let Some(numbers) = points.get_mut(span) {
            numbers.now[PENDING] += n;
        }
    }
    // What was counted and taken back again leaves a group of zeros.
    all.retain(|names, points| names.is_empty() || points.iter().any(|point| *point != Numbers::default()));
    all.into_iter().map(|(group, points)| Series { group, points }).collect()
}

#[cfg(test)]
mod tests {
    use anypush_providers::contract::Reason;

    use super::*;

    #[test]
    fn the_groups_of_a_report_add_up_to_its_targets() {
        let row = |span, channel, counted, n| {
            let group = ReportGroup { channel, ..ReportGroup::default() };
            ReportRow { span, group, counted, n }
        };
        let now = |state| Counted::In(View::Now, state);
        let mut rows = vec![
            row(0, 0, Counted::Targeted, 10),
            row(0, 1, now(State::Accepted), 4),
            row(0, 2, now(State::Failed), 3),
            row(0, 1, Counted::In(View::Reached, State::Accepted), 5),
            row(2, 0, Counted::Targeted, 1),
            row(2, 1, now(State::Clicked), 1),
        ];
        let name = |seq| Some(format!("c{seq}"));
        let found = of(&rows, &[Dimension::Channel], 3, name);
        let told: Vec<_> = found
            .iter()
            .map(|series| (series.group[0].as_deref(), series.points.iter().map(Numbers::targeted).collect()))
            .collect::<Vec<(_, Vec<_>)>>();
        let expected = [(None, vec![3, 0, 0]), (Some("c1"), vec![4, 0, 1]), (Some("c2"), vec![3, 0, 0])];
        assert_eq!(told, expected);
        assert_eq!(found[0].points[0].now[PENDING], 3);
        assert_eq!(found[1].points[0].reached, [5, 0, 0, 0]);
        for row in &mut rows {
            row.group = ReportGroup::default();
        }
        let whole = of(&rows, &[], 3, |_| None);
        assert_eq!(whole[0].points.iter().map(Numbers::targeted).collect::<Vec<_>>(), [10, 0, 1]);
        assert_eq!(of(&[], &[], 2, |_| None)[0].points.len(), 2);
        let group = ReportGroup { reason: Some(Reason::Expired), ..ReportGroup::default() };
        let gone = [ReportRow { span: 0, group, counted: now(State::Expired), n: 0 }];
        assert_eq!(of(&gone, &[Dimension::Reason], 1, |_| None), []);
    }
}
