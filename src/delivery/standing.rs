//! Where a target of a page stands by what is recorded of it: whether it is still to be sent.

use crate::delivery::page::Page;
use crate::delivery::state::{Delivery, State};
use crate::delivery::trail::{self, Next, TrailEntry};
use crate::store::WorkItem;

/// Where a target stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is to be sent.
    Open,
    /// This page's channel has accepted it, and its step waits for more.
    Accepted,
    /// It is reached, ended, or not this page's any more.
    Over,
    /// Its request may have gone out, its outcome was never recorded, and it must not be repeated.
    Lost,
}

/// Where a target of a page stands. `begun`: the page says that its request may be under way. What the trail tells then is
/// no proof that the request was answered: a page that is resumed goes on with the same number of tries, so the
/// answer may be that of an earlier life.
pub(super) fn of(row: Option<&Delivery>, item: &WorkItem, page: &Page, begun: bool) -> Standing {
    let open = if begun { Standing::Lost } else { Standing::Open };
    let Some(row) = row else { return open };
    if row.state == State::Pending && is_accepted_by(row, item.channel) {
        // The channel had it and failed it later: another item decides again, and never for the same channel.
        return Standing::Over;
    }
    if row.state == State::Pending {
        return open;
    }
    if is_settled(row, page.held) || (page.held.is_some() && is_accepted_by(row, item.channel)) {
        let waits = page.wait.is_some_and(|wait| !is_settled(row, Some(wait.until)));
        return if waits && row.channel == item.channel { Standing::Accepted } else { Standing::Over };
    }
    open
}

/// Whether a delivery needs no further step: it has ended, or reached the state that was waited for.
pub(super) fn is_settled(row: &Delivery, until: Option<State>) -> bool {
    let until = until.unwrap_or(State::Accepted);
    row.state.rank() == State::Failed.rank() || row.state.rank() >= until.rank()
}

/// Whether the last that the trail tells is of a step that has begun and not ended: its page has the target.
pub(super) fn is_under_way(row: &Delivery) -> bool {
    let said = |entry: TrailEntry| match entry {
        TrailEntry::Decided { .. } => Some(true),
        TrailEntry::Attempted { next, .. } => Some(next != Next::Nothing),
        TrailEntry::Ended { .. } => Some(false),
        _ => None,
    };
    trail::decode(&row.trail).into_iter().filter_map(said).next_back().unwrap_or(false)
}

fn is_accepted_by(row: &Delivery, channel: i64) -> bool {
    trail::decode(&row.trail).iter().any(
        |entry| matches!(entry, TrailEntry::Attempted { channel: by, reason: None, .. } if *by == channel),
    )
}

#[cfg(test)]
mod tests {
    use anypush_providers::contract::Reason;

    use super::*;
    use crate::ids::Id;
    use crate::routing::Wait;
    use crate::store::{WorkKind, WorkLane};

    const WAIT: Option<Wait> = Some(Wait { seconds: 20, until: State::Delivered });

    fn item() -> WorkItem {
        WorkItem {
            id: Id(1),
            kind: WorkKind::Page,
            channel: 2,
            lane: WorkLane::Marketing,
            app: 1,
            message: Id(9),
            due_at: 0,
            attempt: 0,
            epoch: 1,
            resumed: true,
            payload: Vec::new(),
        }
    }

    fn row(state: State, channel: i64, tries: &[(i64, Option<Reason>)]) -> Delivery {
        let attempt = |(channel, reason): &(i64, Option<Reason>)| TrailEntry::Attempted {
            at_ms: 1,
            channel: *channel,
            attempt: 1,
            reason: *reason,
            latency_ms: 1,
            status: None,
            code: None,
            words: None,
            next: Next::Nothing,
        };
        Delivery {
            message: Id(9),
            target: 7,
            state,
            reason: None,
            channel,
            vendor_id: None,
            updated_ms: 1,
            reached_ms: [None; 4],
            trail: trail::encode(&tries.iter().map(attempt).collect::<Vec<_>>()),
        }
    }

    fn ask(row: &Delivery, page: &Page, begun: bool) -> Standing {
        of(Some(row), &item(), page, begun)
    }

    #[test]
    fn what_was_handed_over_is_not_sent_again_and_its_step_goes_on_waiting() {
        let (plain, waiting) = (Page::default(), Page { wait: WAIT, ..Page::default() });
        let accepted = row(State::Accepted, 2, &[(2, None)]);
        assert_eq!(ask(&accepted, &plain, false), Standing::Over);
        assert_eq!(ask(&accepted, &waiting, false), Standing::Accepted);
        assert_eq!(ask(&row(State::Delivered, 2, &[(2, None)]), &waiting, false), Standing::Over);
        assert_eq!(of(None, &item(), &plain, false), Standing::Open);
    }

    #[test]
    fn a_further_step_is_for_those_whom_the_earlier_one_has_not_reached() {
        let page = Page { held: Some(State::Delivered), ..Page::default() };
        assert_eq!(ask(&row(State::Accepted, 1, &[(1, None)]), &page, false), Standing::Open);
        assert_eq!(ask(&row(State::Delivered, 1, &[(1, None)]), &page, false), Standing::Over);
        assert_eq!(ask(&row(State::Cancelled, 1, &[(1, None)]), &page, false), Standing::Over);
        assert_eq!(ask(&row(State::Accepted, 2, &[(1, None), (2, None)]), &page, false), Standing::Over);
    }

    #[test]
    fn what_a_channel_had_and_failed_later_is_not_sent_through_it_again() {
        let page = Page::default();
        assert_eq!(ask(&row(State::Pending, 2, &[(2, None)]), &page, false), Standing::Over);
        assert_eq!(ask(&row(State::Pending, 2, &[(2, None)]), &page, true), Standing::Over);
        assert_eq!(ask(&row(State::Pending, 1, &[(1, None)]), &page, false), Standing::Open);
    }

    #[test]
    fn a_further_step_is_under_way_from_its_decision_to_its_outcome() {
        let decided = TrailEntry::Decided { at_ms: 1, channels: vec![2], skipped: vec![], rule: None };
        let waited = TrailEntry::Waited { at_ms: 1, channel: 1, until: State::Delivered };
        let mut told = row(State::Accepted, 1, &[(1, None)]);
        for (entry, under_way) in [
            (waited, false),
            (decided, true),
            (TrailEntry::Ended { at_ms: 1, reason: Reason::Expired }, false),
        ] {
            told.trail.extend(trail::encode([&entry]));
            assert_eq!(is_under_way(&told), under_way, "{entry:?}");
        }
    }

    #[test]
    fn a_request_that_may_have_gone_out_is_lost_whatever_an_earlier_life_was_told() {
        let page = Page::default();
        let refused = [(2, Some(Reason::RateLimited))];
        assert_eq!(of(None, &item(), &page, true), Standing::Lost);
        assert_eq!(ask(&row(State::Pending, 2, &[]), &page, true), Standing::Lost);
        assert_eq!(ask(&row(State::Pending, 2, &refused), &page, true), Standing::Lost);
        assert_eq!(ask(&row(State::Pending, 2, &refused), &page, false), Standing::Open);
        let held = Page { held: Some(State::Delivered), ..Page::default() };
        assert_eq!(ask(&row(State::Accepted, 1, &[(1, None)]), &held, true), Standing::Lost);
    }
}
