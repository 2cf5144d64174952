//! A schema that is brought up to date, interrupted at each statement, and what an older program says of a newer one.

use std::fs;
use std::path::Path;

use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnection;
use tempfile::TempDir;

use super::super::open::{MIGRATIONS, NumberedSql, migrate};
use super::super::{OpenError, SqliteOptions, SqliteStore};
use super::{number, open, open_in, stranger};
use crate::store::conformance::samples::{id, message};
use crate::store::{AcceptAnswer, Changes, Store as _};

/// Where each statement of a migration ends.
fn ends(sql: &str) -> Vec<usize> {
    sql.match_indices(";\n").map(|(at, _)| at + 2).collect()
}

/// What the database looks like.
async fn schema(connection: &mut SqliteConnection) -> Vec<String> {
    let query = "SELECT coalesce(sql, name) FROM sqlite_schema ORDER BY type, name";
    sqlx::query_scalar(query).fetch_all(connection).await.unwrap()
}

/// Copies a database as a kill leaves it: log and all, without closing anything.
fn copy_as_killed(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for name in ["anypush.db", "anypush.db-wal"] {
        if from.join(name).exists() {
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}

#[tokio::test]
async fn a_first_start_that_is_killed_at_any_statement_is_made_good_by_the_next() {
    let (fresh, guard) = open().await;
    let whole = schema(&mut stranger(&guard.path().join("data")).await).await;
    fresh.close().await;
    let (_, _, sql) = MIGRATIONS[0];
    let ends = ends(sql);
    assert!(ends.len() > 20, "{}", ends.len());
    for end in ends {
        let directory = TempDir::new().unwrap();
        let data = directory.path().join("begun");
        fs::create_dir(&data).unwrap();
        let mut dying = stranger_made(&data).await;
        // So little memory that pages reach the disk before the commit.
        sqlx::raw_sql("PRAGMA journal_mode = WAL; PRAGMA cache_size = 1; BEGIN IMMEDIATE")
            .execute(&mut dying)
            .await
            .unwrap();
        sqlx::raw_sql(&sql[..end]).execute(&mut dying).await.unwrap();
        copy_as_killed(&data, &directory.path().join("data"));
        let store = open_in(&directory, SqliteOptions::default()).await;
        assert_eq!(store.accept(message(1, 1), Changes::default()).await.unwrap(), AcceptAnswer::Stored);
        let found = schema(&mut stranger(&directory.path().join("data")).await).await;
        assert_eq!(found, whole, "killed after {end} bytes");
        store.close().await;
    }
}

async fn stranger_made(data: &Path) -> SqliteConnection {
    fs::write(data.join("anypush.db"), []).unwrap();
    stranger(data).await
}

/// A later migration that fails after each of its statements, and then does not.
#[tokio::test]
async fn a_later_migration_that_breaks_off_leaves_nothing_and_is_run_again() {
    const SECOND: &str = "CREATE TABLE later (a INTEGER);\n\
        ALTER TABLE messages ADD COLUMN later INTEGER;\n\
        UPDATE messages SET later = 7;\n\
        CREATE INDEX later_by_a ON later (a);\n";
    const BREAKS: [&str; 4] = [
        "CREATE TABLE later (a INTEGER);\nSELECT nonsense;\n",
        "CREATE TABLE later (a INTEGER);\nALTER TABLE messages ADD COLUMN later INTEGER;\nSELECT nonsense;\n",
        "CREATE TABLE later (a INTEGER);\nALTER TABLE messages ADD COLUMN later INTEGER;\n\
         UPDATE messages SET later = 7;\nSELECT nonsense;\n",
        "CREATE TABLE later (a INTEGER);\nALTER TABLE messages ADD COLUMN later INTEGER;\n\
         UPDATE messages SET later = 7;\nCREATE INDEX later_by_a ON later (a);\nSELECT nonsense;\n",
    ];
    let (store, directory) = open().await;
    store.accept(message(1, 1), Changes::default()).await.unwrap();
    store.close().await;
    let data = directory.path().join("data");
    let mut connection = stranger(&data).await;
    let before = schema(&mut connection).await;
    for broken in BREAKS {
        let list: [NumberedSql; 2] = [MIGRATIONS[0], (2, "second", broken)];
        let error = migrate(&mut connection, &data, &list).await.unwrap_err();
        assert!(error.to_string().contains("nonsense"), "{error}");
        assert_eq!(schema(&mut connection).await, before, "half of it stayed");
        assert_eq!(number(&mut connection, "SELECT max(version) FROM _sqlx_migrations").await, 1);
    }
    // The program that knows one alone still works on it.
    let store = open_in(&directory, SqliteOptions::default()).await;
    assert!(store.message(id(1)).await.unwrap().is_some());
    store.close().await;
    let list: [NumberedSql; 2] = [MIGRATIONS[0], (2, "second", SECOND)];
    migrate(&mut connection, &data, &list).await.unwrap();
    migrate(&mut connection, &data, &list).await.unwrap();
    assert_eq!(number(&mut connection, "SELECT later FROM messages").await, 7);
    connection.close().await.unwrap();
    let error = SqliteStore::open(&data, SqliteOptions::default()).await.unwrap_err();
    assert!(matches!(error, OpenError::NewerSchema { found: 2, known: 1, .. }), "{error}");
}

#[tokio::test]
async fn a_released_migration_that_was_changed_is_refused() {
    let (store, directory) = open().await;
    store.close().await;
    let data = directory.path().join("data");
    let list: [NumberedSql; 1] = [(1, "first", "CREATE TABLE other (a INTEGER);\n")];
    let error = migrate(&mut stranger(&data).await, &data, &list).await.unwrap_err();
    assert!(matches!(error, OpenError::Schema { .. }), "{error}");
}
