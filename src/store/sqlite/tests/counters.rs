//! Counters equal rows, whatever comes in whatever order.

use std::collections::BTreeMap;

use anypush_providers::contract::{Class, Reason};
use futures_util::future::join_all;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sqlx::Row as _;

use super::{open, stranger};
use crate::delivery::state::{State, View};
use crate::ids::Id;
use crate::store::conformance::samples::{NOW, event, events, id, inbox, message};
use crate::store::{Ack, Changes, NewMessage, PhoneEvent, Store};

/// Something that comes in about a target.
#[derive(Debug, Clone)]
enum Step {
    Outcomes(Vec<(u64, u8, i64)>),
    IntoInbox(u64),
    HandOut(u64),
    Acknowledge(u64),
    Report(u64, u8),
    InboxDone(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let target = 0..4u64;
    prop_oneof![
        4 => prop::collection::vec((0..4u64, 0..10u8, 1..3i64), 1..4).prop_map(Step::Outcomes),
        2 => target.clone().prop_map(Step::IntoInbox),
        1 => target.clone().prop_map(Step::HandOut),
        2 => target.clone().prop_map(Step::Acknowledge),
        2 => (target.clone(), 2..5u8).prop_map(|(target, state)| Step::Report(target, state)),
        1 => target.prop_map(Step::InboxDone),
    ]
}

async fn take(store: &dyn Store, message: Id, step: Step) {
    match step {
        Step::Outcomes(outcomes) => {
            let each = outcomes.into_iter().map(|(target, state, channel)| {
                let state = State::from_code(state).unwrap();
                crate::delivery::state::Event { channel, ..event(message, target, state, 1) }
            });
            store.commit(events(each.collect())).await.unwrap();
        }
        Step::IntoInbox(target) => {
            let entry = inbox(target, message, Class::Transactional);
            store.commit(Changes { inbox: vec![entry], ..Changes::default() }).await.unwrap();
        }
        Step::HandOut(target) => drop(store.inbox(target, 0, 100, NOW).await.unwrap()),
        Step::Acknowledge(target) => {
            store.acknowledge(target, Ack::UpTo(i64::MAX), NOW + 9).await.unwrap();
        }
        Step::Report(target, state) => {
            let report = PhoneEvent { message, state: State::from_code(state) };
            store.phone_events(target, vec![report], NOW + 9).await.unwrap();
        }
        Step::InboxDone(target) => {
            let changes = Changes { inbox_done: vec![(target, message)], ..Changes::default() };
            store.commit(changes).await.unwrap();
        }
    }
}

#[test]
fn counters_equal_rows_after_any_interleaving() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (store, guard) = runtime.block_on(open());
    let mut connection = runtime.block_on(stranger(&guard.path().join("data")));
    let next = std::cell::Cell::new(1);
    let connection = std::cell::RefCell::new(&mut connection);
    let mut runner = TestRunner::new(Config { cases: 64, ..Config::default() });
    let rounds = prop::collection::vec(prop::collection::vec(step(), 1..6), 1..6);
    let outcome = runner.run(&rounds, |rounds| {
        let message_id = id(next.replace(next.get() + 1));
        let counted = runtime.block_on(async {
            let new = NewMessage { id: message_id, ..message(1, 0) };
            store.accept(new, Changes::default()).await.unwrap();
            for round in rounds {
                join_all(round.into_iter().map(|step| take(&*store, message_id, step))).await;
            }
            store.counters(message_id).await.unwrap()
        });
        let mut now: BTreeMap<(i64, u8, u8), u64> = BTreeMap::new();
        let mut reached = [0u64; 4];
        for counter in counted {
            match counter.view {
                View::Now => {
                    let reason = counter.reason.map_or(0, Reason::code);
                    *now.entry((counter.channel, counter.state.code(), reason)).or_default() += counter.n;
                }
                View::Reached => reached[usize::from(counter.state.code()) - 1] += counter.n,
            }
        }
        let (rows, times) = runtime.block_on(recount(*connection.borrow_mut(), message_id));
        prop_assert_eq!(now, rows);
        prop_assert_eq!(reached, times);
        Ok(())
    });
    runtime.block_on(store.close());
    outcome.unwrap();
}

/// What the rows say, counted by SQL.
async fn recount(
    connection: &mut sqlx::sqlite::SqliteConnection,
    message: Id,
) -> (BTreeMap<(i64, u8, u8), u64>, [u64; 4]) {
    let query = "SELECT channel, state, coalesce(reason, 0), count(*) FROM deliveries
        WHERE message = ?1 AND state <> 0 GROUP BY 1, 2, 3";
    let found = sqlx::query(query).bind(message.0).fetch_all(&mut *connection).await.unwrap();
    let get = |row: &sqlx::sqlite::SqliteRow, column: usize| row.get::<i64, _>(column);
    let rows = found
        .iter()
        .map(|row| ((get(row, 0), get(row, 1) as u8, get(row, 2) as u8), get(row, 3) as u64))
        .collect();
    let query = "SELECT count(accepted_ms), count(delivered_ms), count(displayed_ms), count(clicked_ms)
        FROM deliveries WHERE message = ?1";
    let row = sqlx::query(query).bind(message.0).fetch_one(connection).await.unwrap();
    (rows, [0, 1, 2, 3].map(|column| get(&row, column) as u64))
}
