//! The conformance suite, and what only this store promises.

mod audit;
mod counters;
mod damage;
mod files;
mod groups;
mod migrations;
mod plans;
mod reports;
mod session;
mod strikes;

use std::path::Path;
use std::sync::Arc;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection as _, Row as _};
use tempfile::TempDir;

use super::{SqliteOptions, SqliteStore};
use crate::store::conformance::conformance_tests;

/// Opens a store in a directory inside this one.
async fn open_in(directory: &TempDir, options: SqliteOptions) -> Arc<SqliteStore> {
    SqliteStore::open(&directory.path().join("data"), options).await.unwrap()
}

async fn open() -> (Arc<SqliteStore>, TempDir) {
    let directory = TempDir::new().unwrap();
    (open_in(&directory, SqliteOptions::default()).await, directory)
}

/// A stranger's connection to the database in a data directory.
async fn stranger(data: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(data.join("anypush.db"));
    SqliteConnection::connect_with(&options).await.unwrap()
}

/// A number that a query answers.
async fn number(connection: &mut SqliteConnection, sql: &'static str) -> i64 {
    sqlx::query(sql).fetch_one(connection).await.unwrap().get(0)
}

mod conformance {
    super::conformance_tests!(super::open);
}
