//! Many callers, few commits, few statements; and nobody pays for another's mistake.

use std::time::Duration;

use futures_util::future::join_all;

use super::{SqliteOptions, open, stranger};
use crate::delivery::state::State;
use crate::ids::Id;
use crate::store::conformance::samples::{NOW, event, events, id, message, work};
use crate::store::{AcceptAnswer, Changes, NewMessage, Store, WorkUpdate};

#[tokio::test]
async fn three_hundred_accepts_at_once_share_few_statements() {
    let (store, _guard) = open().await;
    let before = store.write_statements();
    let accepts = (0..300).map(|n| {
        let keyed = NewMessage { idempotency: Some(([n as u8; 32], [n as u8; 32])), ..message(n / 256, n) };
        store.accept(keyed, Changes { work: vec![work(1000 + n, id(n), 1, NOW)], ..Changes::default() })
    });
    let answers = join_all(accepts).await;
    assert!(answers.iter().all(|answer| matches!(answer, Ok(AcceptAnswer::Stored))));
    let statements = store.write_statements() - before;
    assert!(statements <= 20, "{statements} statements");
    store.close().await;
}

#[tokio::test]
async fn a_row_that_cannot_be_read_fails_who_asked_for_it_and_nobody_else() {
    let (store, directory) = open().await;
    join_all((1..=10).map(|n| store.accept(message(1, n), Changes::default()))).await;
    let mut other = stranger(&directory.path().join("data")).await;
    let spoil = sqlx::query("UPDATE messages SET spec = CAST(x'ff' AS TEXT) WHERE id = ?1").bind(id(4).0);
    assert_eq!(spoil.execute(&mut other).await.unwrap().rows_affected(), 1);
    let read = join_all((1..=10).map(|n| store.message(id(n)))).await;
    let failed: Vec<_> = (1..=10).zip(&read).filter(|(_, read)| read.is_err()).map(|(n, _)| n).collect();
    assert_eq!(failed, [4]);
    assert!(read.iter().flatten().all(Option::is_some));
    store.close().await;
}

#[tokio::test]
async fn a_page_of_a_thousand_outcomes_costs_few_statements() {
    let (store, _guard) = open().await;
    ten_pages(&*store).await;
    assert_eq!(store.event_bounds().await.unwrap().last, 0, "nobody listens, nothing is written");
    store.close().await;
}

#[tokio::test]
async fn so_does_one_that_somebody_is_told_of() {
    let (store, _guard) = open().await;
    store.watch_events(1, u64::MAX >> 2, NOW).await.unwrap();
    ten_pages(&*store).await;
    assert_eq!(store.event_bounds().await.unwrap().last, 10_001, "each delivery, and the message");
    store.close().await;
}

async fn ten_pages(store: &dyn Store) {
    let expanded = Changes { expanded: vec![(id(1), 10_000, Some(NOW))], ..Changes::default() };
    store.accept(message(1, 1), expanded).await.unwrap();
    let held =
        |page: i64| crate::store::NewWork { leased: Some((1, 1, NOW)), ..work(100 + page, id(1), 1, NOW) };
    store.commit(Changes { work: (0..10).map(held).collect(), ..Changes::default() }).await.unwrap();
    let before = store.write_statements();
    for page in 0..10 {
        let targets = page * 1000..(page + 1) * 1000;
        let retry = WorkUpdate {
            id: id(100 + page as i64),
            epoch: 1,
            due_at: NOW,
            attempt: 1,
            payload: Some(vec![0; 3000]),
            lease_until: 0,
        };
        let changes = Changes {
            work_updates: vec![retry],
            work_done: vec![id(100 + page as i64)],
            ..events(targets.map(|target| event(id(1), target, State::Accepted, 5)).collect())
        };
        store.commit(changes).await.unwrap();
    }
    let statements = store.write_statements() - before;
    assert!(statements <= 10 * 25, "{} statements for 1000 deliveries", statements / 10);
    assert_eq!(store.counters(id(1)).await.unwrap().iter().map(|c| c.n).sum::<u64>(), 20_000);
}

#[tokio::test]
async fn a_write_that_is_refused_leaves_its_neighbours_alone() {
    let (store, _guard) = open().await;
    store.commit(Changes { work: vec![work(1, id(1), 1, NOW)], ..Changes::default() }).await.unwrap();
    let writes = (0..20).map(|n| {
        // Every fifth brings work whose id is taken, with an event that must not stay behind.
        let item = if n % 5 == 0 { work(1, id(1), 1, NOW) } else { work(100 + n, id(1), 1, NOW) };
        let event = event(id(1), n as u64, State::Accepted, 1);
        store.commit(Changes { work: vec![item], ..events(vec![event]) })
    });
    let (writes, accept) = tokio::join!(join_all(writes), store.accept(message(1, 9), Changes::default()));
    assert_eq!(accept.unwrap(), AcceptAnswer::Stored);
    for (n, outcome) in writes.into_iter().enumerate() {
        assert_eq!(outcome.is_err(), n % 5 == 0, "{n}: {outcome:?}");
    }
    assert_eq!(store.deliveries_to(5, Id(i64::MAX), 9).await.unwrap().len(), 0);
    assert_eq!(
        store.deliveries(id(1), &crate::store::DeliveryFilter::default(), None, 99).await.unwrap().len(),
        16
    );
    assert_eq!(store.backlog().await.unwrap()[0].2, 17);
    store.close().await;
}

#[tokio::test]
async fn a_write_whose_caller_went_away_is_written_all_the_same() {
    let (store, _guard) = open().await;
    drop(futures_util::poll!(Box::pin(store.accept(message(1, 1), Changes::default()))));
    store.commit(Changes::default()).await.unwrap();
    store.accept(message(1, 2), Changes::default()).await.unwrap();
    assert!(store.message(id(1)).await.unwrap().is_some());
    store.close().await;
}

#[tokio::test]
async fn a_flood_of_accepts_does_not_keep_outcomes_waiting() {
    let directory = tempfile::TempDir::new().unwrap();
    let options = SqliteOptions { accept_timeout: Duration::from_mins(1), ..SqliteOptions::default() };
    let store = super::open_in(&directory, options).await;
    let accepted = std::sync::atomic::AtomicU64::new(0);
    let flood = join_all((0..3000).map(async |n| {
        store.accept(message(1, n), Changes::default()).await.unwrap();
        accepted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }));
    let outcome = async {
        store.commit(events(vec![event(id(1), 7, State::Accepted, 1)])).await.unwrap();
        accepted.load(std::sync::atomic::Ordering::Relaxed)
    };
    let (_, before) = tokio::join!(flood, outcome);
    assert!(before <= 1100, "{before} accepts went first");
    store.close().await;
}

#[test]
fn errors_are_told_apart_by_what_a_caller_can_do() {
    use super::super::session::{Fault, coded};
    // FULL, IOERR_SHMSIZE; BUSY, BUSY_SNAPSHOT; IOERR_FSYNC, CORRUPT; CONSTRAINT_UNIQUE, TOOBIG.
    for (codes, fault) in [
        ([13, 4874], Fault::Full),
        ([5, 517], Fault::Busy),
        ([1034, 11], Fault::Broken),
        ([2067, 18], Fault::Poison),
    ] {
        assert_eq!(codes.map(coded), [fault; 2]);
    }
}

/// Prints what the store does alone: run it with `--release --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn rows_and_accepts_per_second() {
    let (store, _guard) = open().await;
    store.accept(message(1, 1), Changes::default()).await.unwrap();
    let pages: Vec<_> = (0..300u64)
        .map(|page| events((0..1000).map(|t| event(id(1), page * 1000 + t, State::Accepted, 5)).collect()))
        .collect();
    let (before, start) = (store.write_statements(), std::time::Instant::now());
    let mut pages = pages.into_iter();
    loop {
        let some: Vec<_> = pages.by_ref().take(4).map(|changes| store.commit(changes)).collect();
        if some.is_empty() {
            break;
        }
        join_all(some).await;
    }
    let rate = 300_000.0 / start.elapsed().as_secs_f64();
    let statements = (store.write_statements() - before) as f64 / 300.0;
    println!("outcomes: {rate:.0} rows/s, {statements:.1} statements for 1000");
    for width in [1, 64, 512] {
        let rounds = 10_000 / width.max(8);
        let start = std::time::Instant::now();
        for round in 0..rounds {
            let base = 1_000_000 * width + round * width;
            join_all((0..width).map(|n| {
                let n = 10 + base + n;
                let changes = Changes { work: vec![work(n, id(n), 1, NOW)], ..Changes::default() };
                store.accept(NewMessage { spec: "x".repeat(300), ..message(1, n) }, changes)
            }))
            .await;
        }
        println!(
            "accepts, {width} at once: {:.0}/s",
            (rounds * width) as f64 / start.elapsed().as_secs_f64()
        );
    }
    store.close().await;
}
