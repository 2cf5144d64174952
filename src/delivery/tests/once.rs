//! At most once, and the process dies while a request is under way: what the page had laid aside is neither lost nor sent
//! twice.

use std::time::Duration;

use anypush_providers::contract::{
    AddressSpec, Content, DeliveryMode, Descriptor, Failure, Hint, Reason, Tier, Verdict,
};

use super::batches::{BATCHES, Batches};
use super::{APP, descriptor};
use crate::delivery::spec::Spec;
use crate::delivery::state::State;
use crate::ids::Id;
use crate::routing::StepSpec;
use crate::store::WorkKind;

/// Where devices of the batch vendor can be reached too.
static OTHER: Descriptor =
    Descriptor { address: AddressSpec { ..BATCHES.address }, ..descriptor("played_other", Tier::Maker) };

async fn send(world: &Batches, tokens: &[&str], key: Option<&str>, steps: Vec<StepSpec>) -> Id {
    let content = Content { collapse_key: key.map(str::to_owned), ..Content::default() };
    let delivery = Some(DeliveryMode::AtMostOnce);
    world
        .rig
        .send_so(
            tokens,
            Spec { content: content.into(), delivery, steps, ttl_seconds: 36_000, ..Spec::default() },
        )
        .await
}

/// How often the vendor was asked for a token.
fn times(world: &Batches, token: &str) -> usize {
    world.asked().iter().flat_map(|(tokens, ..)| tokens).filter(|asked| *asked == token).count()
}

#[tokio::test]
async fn a_crash_does_not_lose_those_whom_another_message_of_the_key_keeps_waiting() {
    let world = Batches::new(&["a", "b"], vec![None, None]).await;
    let older = send(&world, &["a"], Some("score"), Vec::new()).await;
    world.until_asked(1).await;
    // "a" is kept back, because the older message is under way to it.
    let newer = send(&world, &["a", "b"], Some("score"), Vec::new()).await;
    world.until_asked(2).await;
    let again = world.next_life().await;
    world.is(older, 0, State::Unknown, Some(Reason::VendorUnavailable)).await;
    world.is(newer, 1, State::Unknown, Some(Reason::VendorUnavailable)).await;
    world.rig.clock.advance(Duration::from_secs(5));
    again.nudge(world.channel.record.seq);
    world.is(newer, 0, State::Accepted, None).await;
    assert_eq!((times(&world, "a"), times(&world, "b")), (2, 1), "{:?}", world.asked());
    world.adds_up(newer).await;
}

#[tokio::test]
async fn a_crash_does_not_lose_the_retries_that_the_budget_keeps_back() {
    let tokens: Vec<_> = ('a'..='x').map(String::from).collect();
    let tokens: Vec<_> = tokens.iter().map(String::as_str).collect();
    let asks = Hint::RetryAfter(Duration::from_secs(7));
    let limited = Verdict::Failed(Failure::target(Reason::RateLimited).hint(asks));
    let refused = || Some((0..4).map(|at| (at, limited.clone())).collect());
    let mut script: Vec<_> = (0..6).map(|_| refused()).collect();
    script.push(None);
    let world = Batches::new(&tokens, script).await;
    let message = send(&world, &tokens, None, Vec::new()).await;
    for at in 0..tokens.len() {
        world.is(message, at, State::Pending, Some(Reason::RateLimited)).await;
    }
    world.until_due(WorkKind::Page, world.channel.record.seq).await;
    world.rig.clock.advance(Duration::from_mins(1));
    world.rig.pipeline.nudge(world.channel.record.seq);
    world.until_asked(7).await;
    let again = world.next_life().await;
    let under_way = world.asked()[6].0.clone();
    for (at, token) in tokens.iter().enumerate() {
        world.rig.clock.advance(Duration::from_secs(20));
        again.nudge(world.channel.record.seq);
        if under_way.iter().any(|asked| asked == token) {
            world.is(message, at, State::Unknown, Some(Reason::VendorUnavailable)).await;
        } else {
            let look = || {
                world.rig.clock.advance(Duration::from_secs(1));
                again.nudge(world.channel.record.seq);
            };
            world.until_looking(message, at, State::Accepted, look).await;
        }
        assert_eq!(times(&world, token), 2, "the try that was refused, and another");
    }
    world.adds_up(message).await;
}

#[tokio::test]
async fn a_second_crash_does_not_lose_those_who_were_accepted_before_the_first_and_wait_for_more() {
    let tokens: Vec<_> = ('a'..='i').map(String::from).collect();
    let tokens: Vec<_> = tokens.iter().map(String::as_str).collect();
    let all = Some((0..4).map(|at| (at, Verdict::Accepted)).collect());
    let world = Batches::new(&tokens, vec![all, None, None]).await;
    let other = world.rig.channels.plant(APP, &OTHER, world.rig.played.clone()).await;
    let first = StepSpec {
        uses: BATCHES.id.into(),
        wait_seconds: Some(20),
        until: Some(State::Delivered),
        ..StepSpec::default()
    };
    let second = StepSpec { uses: OTHER.id.into(), ..StepSpec::default() };
    let message = send(&world, &tokens, None, vec![first, second]).await;
    // Each life asks for one chunk of which it hears nothing.
    world.until_asked(2).await;
    for at in 0..4 {
        world.is(message, at, State::Accepted, None).await;
    }
    let _second_life = world.next_life().await;
    world.until_asked(3).await;
    let third = world.next_life().await;
    world.until_due(WorkKind::Escalate, 0).await;
    world.rig.clock.advance(Duration::from_mins(1));
    third.nudge(other.record.seq);
    for (at, token) in tokens.iter().enumerate() {
        let (channel, state) = match at {
            0..4 => (other.record.seq, State::Accepted),
            _ => (world.channel.record.seq, State::Unknown),
        };
        let row = world.row(message, at, |row| row.state == state && row.channel == channel).await;
        assert_eq!((times(&world, token), row.state), (1, state));
    }
    assert_eq!(world.rig.sent().len(), 4, "those of the first chunk, by their next step, once");
    world.adds_up(message).await;
}
