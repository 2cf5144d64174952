//! The conformance suite, and what only this store promises.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::{OpenError, SqliteOptions, SqliteStore};
use crate::store::conformance::conformance_tests;

async fn open_at(path: &Path, options: SqliteOptions) -> Result<Arc<SqliteStore>, OpenError> {
    SqliteStore::open(path, options).await
}

async fn open() -> (Arc<SqliteStore>, TempDir) {
    let directory = TempDir::new().unwrap();
    (open_at(&directory.path().join("data"), SqliteOptions::default()).await.unwrap(), directory)
}

mod conformance {
    super::conformance_tests!(super::open);
}
