//! Files, locks, full disks and kills.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use sqlx::Connection as _;
use tempfile::TempDir;

use super::super::{OpenError, SqliteOptions, SqliteStore};
use super::{number, open, open_in, stranger};
use crate::delivery::state::State;
use crate::ids::Id;
use crate::store::conformance::samples::{event, events, id, message, put_in_inbox, work};
use crate::store::{AcceptAnswer, Changes, MessageFilter, NewMessage, Store, StoreError};

#[tokio::test]
async fn directory_and_files_are_for_this_user_alone() {
    let (store, directory) = open().await;
    store.accept(message(1, 1), Changes::default()).await.unwrap();
    let data = directory.path().join("data");
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(data.clone()), 0o700);
    for entry in fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(path.clone()), 0o600, "{}", path.display());
    }
}

#[tokio::test]
async fn a_second_process_is_refused_and_told_what_to_do() {
    let (store, directory) = open().await;
    let second = SqliteStore::open(&directory.path().join("data"), SqliteOptions::default()).await;
    let error = second.unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }));
    assert!(error.to_string().contains("Stop it first"), "{error}");
    store.close().await;
    open_in(&directory, SqliteOptions::default()).await.close().await;
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let (store, directory) = open().await;
    store.close().await;
    let data = directory.path().join("data");
    let mut connection = stranger(&data).await;
    sqlx::query("INSERT INTO _sqlx_migrations SELECT 999, 'later', installed_on, 1, checksum, 0 FROM _sqlx_migrations")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    let error = SqliteStore::open(&data, SqliteOptions::default()).await.unwrap_err();
    assert!(matches!(error, OpenError::NewerSchema { found: 999, known: 1, .. }), "{error}");
}

#[tokio::test]
async fn what_was_answered_survives_a_kill() {
    let (store, directory) = open().await;
    for n in 1..=50 {
        put_in_inbox(&*store, 7, n, anypush_providers::contract::Class::Transactional).await;
    }
    let last = store.inbox(7, 0, 100, message(1, 1).created_at).await.unwrap().pop().unwrap().pos;
    // A kill leaves the files as they are at that moment: the log is not copied back, nothing is closed.
    let killed = TempDir::new().unwrap();
    fs::create_dir(killed.path().join("data")).unwrap();
    for entry in fs::read_dir(directory.path().join("data")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "db-shm") {
            fs::copy(&path, killed.path().join("data").join(path.file_name().unwrap())).unwrap();
        }
    }
    let again = open_in(&killed, SqliteOptions::default()).await;
    assert_eq!(again.messages(1, &MessageFilter::default(), Id(i64::MAX), 100).await.unwrap().len(), 50);
    put_in_inbox(&*again, 7, 51, anypush_providers::contract::Class::Transactional).await;
    let new = again.inbox(7, last, 100, message(1, 1).created_at).await.unwrap();
    assert_eq!(new.len(), 1, "positions go on where they were");
    again.close().await;
    store.close().await;
}

#[tokio::test]
async fn a_store_that_was_dropped_can_be_opened_again() {
    let (store, directory) = open().await;
    store.accept(message(1, 1), Changes::default()).await.unwrap();
    drop(store);
    let mut tries = 0;
    let again = loop {
        match SqliteStore::open(&directory.path().join("data"), SqliteOptions::default()).await {
            Ok(store) => break store,
            Err(error) => assert!(tries < 200, "{error}"),
        }
        tries += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(again.message(id(1)).await.unwrap().is_some());
    again.close().await;
}

#[tokio::test]
async fn closing_leaves_one_file_and_refuses_what_comes_later() {
    let (store, directory) = open().await;
    store.accept(message(1, 1), Changes::default()).await.unwrap();
    store.close().await;
    store.close().await;
    assert!(matches!(store.commit(Changes::default()).await, Err(StoreError::Busy(_))));
    assert!(store.message(id(1)).await.is_err());
    assert!(!directory.path().join("data/anypush.db-wal").exists());
}

#[tokio::test]
async fn a_stranger_who_holds_the_database_makes_it_busy_and_nothing_is_half_stored() {
    let directory = TempDir::new().unwrap();
    let options = SqliteOptions { busy_timeout: Duration::from_millis(50), ..SqliteOptions::default() };
    let store = open_in(&directory, options).await;
    let mut other = stranger(&directory.path().join("data")).await;
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut other).await.unwrap();
    let changes = Changes { work: vec![work(2, id(1), 1, 0)], ..Changes::default() };
    let refused = store.accept(message(1, 1), changes.clone()).await;
    assert!(matches!(refused, Err(StoreError::Busy(_))), "{refused:?}");
    assert_eq!(store.message(id(1)).await.unwrap(), None);
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    assert!(store.backlog().await.unwrap().is_empty());
    assert_eq!(store.accept(message(1, 1), changes).await.unwrap(), AcceptAnswer::Stored);
    store.close().await;
}

#[tokio::test]
async fn accepts_that_cannot_be_begun_in_time_are_refused_and_not_stored() {
    let directory = TempDir::new().unwrap();
    let options = SqliteOptions { accept_timeout: Duration::from_millis(200), ..SqliteOptions::default() };
    let store = open_in(&directory, options).await;
    let mut other = stranger(&directory.path().join("data")).await;
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut other).await.unwrap();
    // The writer begins this one and waits for the stranger; what comes behind it waits for the writer.
    let begun = store.accept(message(1, 1), Changes::default());
    let behind = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let refused = store.accept(message(1, 2), Changes::default()).await;
        assert!(matches!(refused, Err(StoreError::Busy(_))), "{refused:?}");
        sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    };
    let (begun, ()) = tokio::join!(begun, behind);
    assert_eq!(begun.unwrap(), AcceptAnswer::Stored);
    store.commit(Changes::default()).await.unwrap();
    assert_eq!(store.message(id(2)).await.unwrap(), None);
    store.close().await;
}

#[tokio::test]
async fn a_full_disk_is_said_so_and_everything_answered_stays_readable() {
    let directory = TempDir::new().unwrap();
    let options = SqliteOptions { max_pages: Some(150), ..SqliteOptions::default() };
    let store = open_in(&directory, options).await;
    let mut stored = Vec::new();
    let mut full = 0;
    for n in 1..200 {
        let big = NewMessage { spec: "x".repeat(4000), ..message(1, n) };
        let changes = Changes {
            work: vec![work(1000 + n, id(n), 1, 0)],
            ..events(vec![event(id(n), 7, State::Accepted, 0)])
        };
        match store.accept(big, changes).await {
            Ok(_) => stored.push(id(n)),
            Err(StoreError::Full) => full += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(!stored.is_empty() && full > 0);
    assert_eq!(
        store.messages(1, &MessageFilter::default(), Id(i64::MAX), 1000).await.unwrap().len(),
        stored.len()
    );
    assert_eq!(store.deliveries_to(7, Id(i64::MAX), 1000).await.unwrap().len(), stored.len());
    assert_eq!(store.backlog().await.unwrap()[0].2, stored.len() as u64);
    store.close().await;
    let again = open_in(&directory, SqliteOptions::default()).await;
    assert_eq!(again.accept(message(1, 500), Changes::default()).await.unwrap(), AcceptAnswer::Stored);
    again.close().await;
}

/// Writers that never pause, and readers that never do: the log must begin anew all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_stays_bounded_while_everybody_writes_and_reads() {
    let (store, directory) = open().await;
    let log = directory.path().join("data/anypush.db-wal");
    let reads = std::sync::atomic::AtomicBool::new(true);
    let reading = async {
        while reads.load(std::sync::atomic::Ordering::Relaxed) {
            store.messages(1, &MessageFilter::default(), Id(i64::MAX), 10).await.unwrap();
        }
    };
    let writing = async {
        let mut longest = 0;
        for round in 0..150 {
            let accepts = (0..40).map(|n| {
                let big = NewMessage { spec: "x".repeat(64 * 1024), ..message(1, round * 40 + n) };
                store.accept(big, Changes::default())
            });
            assert!(futures_util::future::join_all(accepts).await.iter().all(Result::is_ok));
            longest = longest.max(fs::metadata(&log).unwrap().len());
        }
        reads.store(false, std::sync::atomic::Ordering::Relaxed);
        longest
    };
    let (longest, ()) = tokio::join!(writing, reading);
    // 400 MB were written; a log of 64 MiB begins anew, after what is written meanwhile.
    assert!(longest < 160 << 20, "{} MiB", longest >> 20);
    store.close().await;
}

#[tokio::test]
async fn the_file_is_written_as_it_must_be() {
    let (store, directory) = open().await;
    let mut other = stranger(&directory.path().join("data")).await;
    let mode = sqlx::query("PRAGMA journal_mode").fetch_one(&mut other).await.unwrap();
    assert_eq!(sqlx::Row::get::<String, _>(&mode, 0), "wal");
    assert_eq!(number(&mut other, "SELECT count(*) FROM _sqlx_migrations").await, 1);
    store.close().await;
}

/// C23. What does not end would hold its view of the database, and the log could not begin anew.
#[tokio::test]
async fn a_read_that_does_not_end_is_ended_and_the_next_one_is_served() {
    let directory = TempDir::new().unwrap();
    let options =
        SqliteOptions { read_timeout: Duration::from_millis(200), readers: 1, ..SqliteOptions::default() };
    let store = open_in(&directory, options).await;
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let read = store.read(async |session| session.rows(sqlx::query(endless)).await).await;
    assert!(matches!(read, Err(StoreError::Busy(_))), "{:?}", read.map(|rows| rows.len()));
    assert!(store.backlog().await.unwrap().is_empty());
    store.close().await;
}

/// C23.
#[tokio::test]
async fn a_log_that_a_stranger_keeps_from_beginning_anew_is_called_long_until_it_is_short() {
    let directory = TempDir::new().unwrap();
    let options = SqliteOptions { log_alarm_bytes: 1 << 20, ..SqliteOptions::default() };
    let store = open_in(&directory, options).await;
    assert!(!store.log_size().is_long);
    let mut other = stranger(&directory.path().join("data")).await;
    sqlx::query("BEGIN").execute(&mut other).await.unwrap();
    assert_eq!(number(&mut other, "SELECT count(*) FROM messages").await, 0);
    let mut n = 0;
    while !store.log_size().is_long {
        n += 1;
        let big = NewMessage { spec: "x".repeat(100_000), ..message(1, n) };
        store.accept(big, Changes::default()).await.unwrap();
        assert!(n < 2000, "never called long: {:?}", store.log_size());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(store.log_size().bytes >= 1 << 20);
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    other.close().await.unwrap();
    for _ in 0..3000 {
        if !store.log_size().is_long {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!store.log_size().is_long, "{:?}", store.log_size());
    store.close().await;
}
