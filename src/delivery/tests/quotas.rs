//! Vendors' quotas: asked before sending, counted once, given back, and never one for another.

use std::time::Duration;

use anypush_providers::contract::{
    Class, Content, Failure, Hint, Quota, QuotaPeriod, QuotaScope, Reason, Scope,
};

use super::{APP, NOW, Rig};
use crate::delivery::page::{Entry, Page};
use crate::delivery::spec::Spec;
use crate::delivery::state::State;
use crate::delivery::trail::{self, TrailEntry};
use crate::ids::Id;
use crate::routing::ChannelState;
use crate::store::{Changes, NewWork, Store as _, WorkKind, WorkLane};

const fn a_day(name: &'static str, scope: QuotaScope, limit: u64) -> Quota {
    Quota {
        name,
        scope,
        class: "marketing",
        limit,
        period: QuotaPeriod::Day,
        time_zone: "Asia/Shanghai",
        enforced: true,
        source: "made up",
    }
}

/// What the played vendor allows of marketing.
pub(super) const QUOTAS: &[Quota] =
    &[a_day("marketing_day", QuotaScope::Channel, 3), a_day("marketing_device_day", QuotaScope::Device, 2)];

fn marketing() -> Spec {
    let content = Content { class: Class::Marketing, ..Content::default() };
    Spec { content: content.into(), ttl_seconds: 3600, ..Spec::default() }
}

impl Rig {
    /// Sends to these and says which were accepted and which found a quota used up.
    async fn campaign(&self, tokens: &[&str], targets: &[u64]) -> (usize, usize) {
        let message = self.send_so(tokens, marketing()).await;
        let (mut accepted, mut refused) = (0, 0);
        for target in targets {
            let ended = self.until(message, *target, |row| row.state != State::Pending).await;
            accepted += usize::from(ended.state == State::Accepted);
            refused += usize::from(ended.reason == Some(Reason::QuotaExceeded));
        }
        (accepted, refused)
    }

    async fn used(&self) -> Option<u64> {
        let quotas = self.pipeline.quotas(&self.channel).await.unwrap();
        quotas.iter().find(|seen| seen.quota.name == "marketing_day").unwrap().used
    }
}

#[tokio::test]
async fn a_campaign_beyond_its_quota_asks_the_vendor_for_nothing_until_the_vendors_midnight() {
    let rig = Rig::new().await;
    let tokens = ["a", "b", "c", "d", "e"];
    let targets = rig.devices(&tokens).await;
    assert_eq!(rig.campaign(&tokens, &targets).await, (3, 2));
    assert_eq!((rig.sent().len(), rig.used().await), (3, Some(3)));
    let login = rig.send(&["e"], 60).await;
    rig.accepted(login, targets[4]).await;
    assert_eq!(rig.used().await, Some(3), "what the quota does not count goes through");
    // 16:00 in Shanghai.
    let message = rig.send_so(&["d"], marketing()).await;
    let refused = rig.until(message, targets[3], |row| row.state == State::Failed).await;
    let told = trail::decode(&refused.trail);
    let Some(TrailEntry::Attempted { words: Some(words), latency_ms: 0, .. }) = told.last() else {
        panic!("{told:?}")
    };
    assert_eq!(
        words,
        "not sent: the quota marketing_day (3 a day) is used up until 2027-01-15T16:00:00.000Z"
    );
    rig.clock.advance(Duration::from_hours(8));
    assert_eq!(rig.used().await, Some(0));
    assert_eq!(rig.campaign(&["d"], &targets[3..4]).await, (1, 0));
}

#[tokio::test]
async fn a_device_that_had_its_share_takes_nothing_from_others() {
    let rig = Rig::new().await;
    let targets = rig.devices(&["a", "b"]).await;
    assert_eq!(rig.campaign(&["a"], &targets[..1]).await, (1, 0));
    assert_eq!(rig.campaign(&["a"], &targets[..1]).await, (1, 0));
    assert_eq!(rig.campaign(&["a", "b"], &targets).await, (1, 1));
    let tokens: Vec<_> = rig.sent().into_iter().map(|(token, ..)| token).collect();
    assert_eq!(tokens, ["a", "a", "b"]);
}

#[tokio::test]
async fn what_the_vendor_refused_uses_nothing_and_what_it_may_have_taken_does() {
    let rig = Rig::new().await;
    let targets = rig.devices(&["dead", "lost", "a"]).await;
    rig.script("dead", Failure::target(Reason::InvalidToken));
    rig.script("lost", Failure::target(Reason::InvalidToken).doubtful());
    assert_eq!(rig.campaign(&["dead"], &targets[..1]).await, (0, 0));
    for _ in 0..300 {
        if rig.used().await == Some(0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(rig.used().await, Some(0));
    assert_eq!(rig.campaign(&["lost"], &targets[1..2]).await, (0, 0));
    assert_eq!(rig.used().await, Some(1));
}

#[tokio::test]
async fn a_class_that_the_vendor_calls_used_up_stops_that_class_alone_also_after_a_restart() {
    let rig = Rig::new().await;
    let targets = rig.devices(&["full", "a"]).await;
    rig.script("full", Failure { scope: Scope::Class, ..Failure::target(Reason::QuotaExceeded) });
    assert_eq!(rig.campaign(&["full"], &targets[..1]).await, (0, 1));
    assert_eq!(rig.campaign(&["a"], &targets[1..]).await, (0, 1));
    assert_eq!(rig.sent().len(), 1, "the second campaign was no request");
    let login = rig.send(&["a"], 60).await;
    rig.accepted(login, targets[1]).await;
    // What a restart reads: until midnight in Shanghai.
    let known = rig.store.closed_quotas(NOW).await.unwrap();
    assert_eq!(known.iter().map(|(_, until)| *until).collect::<Vec<_>>(), [NOW + 8 * 3_600_000]);
    rig.clock.advance(Duration::from_hours(8));
    assert_eq!(rig.campaign(&["a"], &targets[1..]).await, (1, 0));
}

#[tokio::test]
async fn an_account_that_has_run_out_stops_its_channel_until_its_time_or_an_operators_word() {
    let rig = Rig::new().await;
    let targets = rig.devices(&["full", "a"]).await;
    let wait = Hint::RetryAfter(Duration::from_hours(2));
    rig.script("full", Failure::channel(Reason::QuotaExceeded).hint(wait));
    assert_eq!(rig.campaign(&["full"], &targets[..1]).await, (0, 1));
    let state = || rig.channels.by_seq(rig.channel.record.seq).unwrap().route.state;
    for _ in 0..500 {
        if state() == ChannelState::QuotaExhausted {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(state(), ChannelState::QuotaExhausted);
    let login = rig.send(&["a"], 60).await;
    let refused = rig.until(login, targets[1], |row| row.state != State::Pending).await;
    assert_eq!((refused.state, refused.reason), (State::Failed, Some(Reason::QuotaExceeded)));
    rig.pipeline.reopen_quotas(&rig.channel).await.unwrap();
    let login = rig.send(&["a"], 60).await;
    rig.accepted(login, targets[1]).await;
}

#[tokio::test]
async fn a_word_about_one_device_stops_nobody_else() {
    let rig = Rig::new().await;
    let targets = rig.devices(&["enough", "a"]).await;
    rig.script("enough", Failure::target(Reason::QuotaExceeded));
    assert_eq!(rig.campaign(&["enough", "a"], &targets).await, (1, 1));
    assert_eq!(rig.sent().len(), 2);
    assert!(rig.store.closed_quotas(NOW).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_page_that_was_counted_before_a_crash_is_not_counted_again() {
    let rig = Rig::new().await;
    let targets = rig.devices(&["a", "b", "c"]).await;
    let seq = rig.channel.record.seq;
    rig.channels.set_state(seq, ChannelState::Paused, None).await.unwrap();
    let message = rig.send_so(&["c"], marketing()).await;
    rig.waits(message, true).await;
    // As a crash between counting and sending leaves a page: one is counted, one is not.
    let entry = |target, counted| Entry { target, address_version: 1, counted, ..Entry::default() };
    let entries = vec![entry(targets[0], Some(0)), entry(targets[1], None)];
    let left = NewWork {
        id: Id(Id::floor_at(NOW).0 + 7),
        kind: WorkKind::Page,
        channel: seq,
        lane: WorkLane::Marketing,
        app: APP,
        message,
        due_at: 0,
        attempt: 0,
        leased: None,
        payload: Page { entries, ..Page::default() }.encode(),
    };
    rig.store.commit(Changes { work: vec![left], ..Changes::default() }).await.unwrap();
    let own = rig.store.pending_pages(message, 10).await.unwrap();
    assert_eq!(own.len(), 2);
    rig.channels.set_state(seq, ChannelState::Ok, None).await.unwrap();
    rig.clock.advance(Duration::from_mins(1));
    rig.pipeline.nudge(seq);
    rig.accepted(message, targets[1]).await;
    rig.waits(message, false).await;
    // "c" by the message's own page, "b" by that of the crash, in whatever order; "a" was not counted again.
    assert_eq!(rig.used().await, Some(2));
}
