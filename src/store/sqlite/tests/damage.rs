//! Bits that flip on the disk: what is noticed is refused, and what is lost from the log is its end, never its middle.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::super::{OpenError, SqliteOptions, SqliteStore};
use super::{open, open_in};
use crate::delivery::state::State;
use crate::ids::Id;
use crate::store::conformance::samples::{event, events, id, message, work};
use crate::store::{Changes, MessageFilter, NewMessage, Store, StoreError};

const MESSAGES: i64 = 300;

/// A store with messages, each with a delivery, a counter and a work item.
async fn filled() -> (std::sync::Arc<SqliteStore>, TempDir) {
    let (store, directory) = open().await;
    for n in 1..=MESSAGES {
        let long = NewMessage { spec: "x".repeat(900), ..message(1, n) };
        let first = Changes {
            work: vec![work(10_000 + n, id(n), 1, 0)],
            ..events(vec![event(id(n), 7, State::Accepted, 0)])
        };
        store.accept(long, first).await.unwrap();
    }
    (store, directory)
}

fn copy(from: &TempDir) -> TempDir {
    let to = TempDir::new().unwrap();
    fs::create_dir(to.path().join("data")).unwrap();
    for name in ["anypush.db", "anypush.db-wal"] {
        let file = from.path().join("data").join(name);
        if file.exists() {
            fs::copy(file, to.path().join("data").join(name)).unwrap();
        }
    }
    to
}

fn flip(file: &Path, at: usize, bits: u8) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= bits;
    fs::write(file, bytes).unwrap();
}

/// How many messages there are, with the parts of each.
async fn whole(store: &dyn Store) -> usize {
    let found = store.messages(1, &MessageFilter::default(), Id(i64::MAX), 1000).await.unwrap();
    let backlog: u64 = store.backlog().await.unwrap().iter().map(|(_, _, n)| n).sum();
    let rows = store.deliveries_to(7, Id(i64::MAX), 1000).await.unwrap();
    assert_eq!((backlog as usize, rows.len()), (found.len(), found.len()), "a message is there in part");
    for message in &found {
        let counters = store.counters(message.id).await.unwrap();
        assert_eq!(counters.iter().map(|c| c.n).sum::<u64>(), 2);
    }
    found.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_the_log_costs_its_end_and_halves_nothing() {
    let (store, directory) = filled().await;
    // As a kill leaves it, with what the checkpointer has not copied yet.
    let killed = copy(&directory);
    store.close().await;
    let log = killed.path().join("data/anypush.db-wal");
    let length = fs::metadata(&log).unwrap().len() as usize;
    assert!(length > 100_000, "{length}");
    let mut seen = Vec::new();
    for part in [2, 3, 5, 8, 13, 21] {
        let spoilt = copy(&killed);
        flip(&spoilt.path().join("data/anypush.db-wal"), length - length / part, 0x10);
        let store = open_in(&spoilt, SqliteOptions::default()).await;
        seen.push(whole(&*store).await);
        store.accept(message(1, 5000), Changes::default()).await.unwrap();
        store.close().await;
    }
    assert!(seen.is_sorted(), "the later the flip, the more is there: {seen:?}");
    assert!(seen.iter().all(|n| *n < MESSAGES as usize), "{seen:?}");
    let store = open_in(&killed, SqliteOptions::default()).await;
    assert_eq!(whole(&*store).await, MESSAGES as usize);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_database_stops_writing_and_does_not_start_again() {
    let (store, directory) = filled().await;
    store.close().await;
    let data = directory.path().join("data");
    // The heads of some pages of messages, which say how they are divided. No start reads them.
    let file = data.join("anypush.db");
    let mut bytes = fs::read(&file).unwrap();
    let full = |page: &&mut [u8]| page.windows(800).any(|run| run.iter().all(|byte| *byte == b'x'));
    for page in bytes.chunks_mut(4096).filter(full).take(5) {
        page[..12].fill(0xa5);
    }
    fs::write(&file, bytes).unwrap();
    // It was not stopped in order.
    fs::write(data.join("anypush.db-wal"), [0]).unwrap();
    let store = match SqliteStore::open(&data, SqliteOptions::default()).await {
        Ok(store) => store,
        Err(error) => panic!("nothing that is read at start is damaged: {error}"),
    };
    let mut told = store.backlog().await;
    for _ in 0..500 {
        if told.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        told = store.backlog().await;
    }
    assert!(matches!(&told, Err(StoreError::Broken(_))), "{told:?}");
    assert!(store.accept(message(1, 6000), Changes::default()).await.is_err());
    store.close().await;
    let error = SqliteStore::open(&data, SqliteOptions::default()).await.unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("Restore a backup"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_lost_its_end_or_its_head_is_never_taken_for_a_new_one() {
    let (store, directory) = filled().await;
    store.close().await;
    let whole = fs::read(directory.path().join("data/anypush.db")).unwrap();
    for (what, bytes) in
        [("head", [vec![0; 100], whole[100..].to_vec()].concat()), ("half", whole[..2000].to_vec())]
    {
        let spoilt = copy(&directory);
        let data = spoilt.path().join("data");
        fs::write(data.join("anypush.db"), bytes).unwrap();
        let opened = SqliteStore::open(&data, SqliteOptions::default()).await;
        assert!(matches!(opened, Err(OpenError::Database { .. })), "{what}: {opened:?}");
    }
}

/// Prints what a look at the whole database costs: run it with `--ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn seconds_for_a_look_at_a_gigabyte() {
    let (store, directory) = open().await;
    store.accept(message(1, 1), Changes::default()).await.unwrap();
    for page in 0..8000u64 {
        let rows = (0..1000).map(|t| event(id(1), page * 1000 + t, State::Accepted, 5)).collect();
        store.commit(events(rows)).await.unwrap();
    }
    store.close().await;
    let file = directory.path().join("data/anypush.db");
    let size = fs::metadata(&file).unwrap().len() >> 20;
    let mut other = super::stranger(&directory.path().join("data")).await;
    let began = std::time::Instant::now();
    let found: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut other).await.unwrap();
    println!("{size} MiB, 8,000,000 deliveries: {found} in {:?}", began.elapsed());
}
