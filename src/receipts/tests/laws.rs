//! In any order, any number, with a crash anywhere: one final state, and counters that equal the rows.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use super::World;
use crate::delivery::state::{State, View};
use crate::ids::Id;

const EVENTS: [&str; 5] = ["delivered", "displayed", "clicked", "dismissed", "unreachable"];
const TARGETS: u64 = 4;

/// What a vendor says, and what happens between its calls.
#[derive(Debug, Clone)]
enum Turn {
    /// A callback with these receipts: (target, event).
    Call(Vec<(u64, usize)>),
    /// The journal is merged.
    Merge,
    /// It is merged, but the rows of the journal are there again: a crash between the two, were they two.
    MergeTwice,
    /// The gateway is started anew.
    Restart,
}

fn turn() -> impl Strategy<Value = Turn> {
    let said = prop::collection::vec((0..TARGETS, 0..EVENTS.len()), 1..6);
    prop_oneof![4 => said.prop_map(Turn::Call), 1 => Just(Turn::Merge), 1 => Just(Turn::MergeTwice), 1 => Just(Turn::Restart)]
}

/// What must come out for a target: the highest of what was said of it.
fn expected(turns: &[Turn], target: u64) -> State {
    let mut state = State::Accepted;
    for turn in turns {
        let Turn::Call(said) = turn else { continue };
        for (_, event) in said.iter().filter(|(about, _)| *about == target) {
            let said = match EVENTS[*event] {
                "delivered" => State::Delivered,
                "displayed" => State::Displayed,
                "clicked" => State::Clicked,
                "unreachable" => State::Failed,
                _ => State::Pending,
            };
            if said.rank() > state.rank() {
                state = said;
            }
        }
    }
    state
}

async fn play(world: &mut World, message: Id, turns: &[Turn]) {
    let channel = world.channel.clone();
    for turn in turns {
        match turn {
            Turn::Call(said) => {
                let said: Vec<_> = said
                    .iter()
                    .map(|(target, event)| world.said(&channel, message, *target, EVENTS[*event]))
                    .collect();
                world.call(&channel, json!(said)).await;
            }
            Turn::Merge => world.merge().await,
            Turn::MergeTwice => {
                let rows = world.store.journal_after(0, 1000).await.unwrap();
                world.merge().await;
                world.store.journal_receipts(rows).await.unwrap();
                world.merge().await;
            }
            Turn::Restart => world.merge_anew().await,
        }
    }
    world.merge_anew().await;
    for target in 0..TARGETS {
        world.settled(message, target).await;
    }
}

/// Rows and counters of a message: (states by target, whether both views of the counters say the same).
async fn outcome(world: &World, message: Id) -> (Vec<State>, bool) {
    let targets: Vec<_> = (0..TARGETS).collect();
    let rows = world.store.deliveries_of(message, &targets).await.unwrap();
    let counters = world.store.counters(message).await.unwrap();
    let said = |view, state| -> u64 {
        counters.iter().filter(|c| c.view == view && c.state == state).map(|c| c.n).sum()
    };
    let now = State::ALL
        .iter()
        .filter(|state| **state != State::Pending)
        .all(|state| said(View::Now, *state) == rows.iter().filter(|row| row.state == *state).count() as u64);
    let reached = [State::Accepted, State::Delivered, State::Displayed, State::Clicked];
    let reached = reached.iter().enumerate().all(|(at, state)| {
        said(View::Reached, *state) == rows.iter().filter(|row| row.reached_ms[at].is_some()).count() as u64
    });
    (rows.iter().map(|row| row.state).collect(), now && reached)
}

#[test]
fn receipts_in_any_order_and_number_with_crashes_give_one_state_and_counters_that_equal_rows() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let world = std::cell::RefCell::new(runtime.block_on(World::new()));
    let next = std::cell::Cell::new(1);
    let mut runner = TestRunner::new(Config { cases: 48, ..Config::default() });
    let tries = runner.run(&prop::collection::vec(turn(), 1..12), |turns| {
        let n = next.replace(next.get() + 1);
        let mut guard = world.borrow_mut();
        let world: &mut World = &mut guard;
        let (states, equal, left) = runtime.block_on(async {
            let message = world.message(n).await;
            for target in 0..TARGETS {
                world.record(&world.channel.clone(), message, target, State::Accepted).await;
            }
            play(world, message, &turns).await;
            let (states, equal) = outcome(world, message).await;
            (states, equal, world.store.journal_rows().await.unwrap())
        });
        let wanted: Vec<_> = (0..TARGETS).map(|target| expected(&turns, target)).collect();
        prop_assert_eq!(states, wanted);
        prop_assert!(equal, "counters and rows differ");
        prop_assert_eq!(left, 0);
        Ok(())
    });
    runtime.block_on(world.borrow().store.close());
    tries.unwrap();
}
