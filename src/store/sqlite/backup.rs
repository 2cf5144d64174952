//! A copy of the database while a gateway works on it: whole as of one moment, compact, checked.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use super::open::FILE;

/// How long to wait for somebody who holds the database.
const PATIENCE: Duration = Duration::from_mins(1);

/// Why there is no backup; what was begun of it is removed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The directory has none.
    #[error("there is no database in {0}; name the gateway's data directory")]
    NoDatabase(PathBuf),
    /// The copy cannot be made there; one that exists is never overwritten.
    #[error("{0} cannot be made: {1}; name a file that does not exist, in a directory that does")]
    Target(PathBuf, io::Error),
    /// Reading or writing failed on the way.
    #[error("the copy failed: {0}; look for room on the disk, then try again")]
    Copy(#[from] sqlx::Error),
    /// The copy is not sound, so the database is not either.
    #[error("the copy is damaged, and so is the database: {0}; restore an older backup")]
    Damaged(String),
}

/// Copies the database in `data_dir` into the new file `to`, readable by its owner only. Returns the copy's bytes.
pub async fn back_up(data_dir: &Path, to: &Path) -> Result<u64, BackupError> {
    let from = data_dir.join(FILE);
    if !from.is_file() {
        return Err(BackupError::NoDatabase(data_dir.to_owned()));
    }
    let at_target = |error| BackupError::Target(to.to_owned(), error);
    // SQLite copies into an empty file, and never makes one that others may read.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(at_target)?;
    let copied = copy(&from, to).await;
    if copied.is_err() {
        let _ = fs::remove_file(to);
    }
    copied?;
    fs::File::open(to).and_then(|file| file.sync_all()).map_err(at_target)?;
    Ok(fs::metadata(to).map_err(at_target)?.len())
}

async fn copy(from: &Path, to: &Path) -> Result<(), BackupError> {
    let mut database = SqliteConnectOptions::new().filename(from).busy_timeout(PATIENCE).connect().await?;
    sqlx::query("VACUUM INTO ?1").bind(to.to_string_lossy().as_ref()).execute(&mut database).await?;
    database.close().await?;
    let mut copy = SqliteConnectOptions::new().filename(to).read_only(true).connect().await?;
    let found: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut copy).await?;
    copy.close().await?;
    if found == "ok" { Ok(()) } else { Err(BackupError::Damaged(found)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_exists_is_not_overwritten_and_an_empty_directory_has_nothing_to_back_up() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("copy.db");
        let none = back_up(dir.path(), &to).await.unwrap_err();
        assert!(matches!(none, BackupError::NoDatabase(_)), "{none}");
        assert!(!to.exists());
        fs::write(dir.path().join(FILE), "").unwrap();
        fs::write(&to, "precious").unwrap();
        let taken = back_up(dir.path(), &to).await.unwrap_err();
        assert!(matches!(taken, BackupError::Target(..)), "{taken}");
        assert_eq!(fs::read_to_string(&to).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_copy_that_fails_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("copy.db");
        fs::write(dir.path().join(FILE), "this is no database, and long enough to be looked at as one")
            .unwrap();
        assert!(matches!(back_up(dir.path(), &to).await, Err(BackupError::Copy(_))));
        assert!(!to.exists());
    }
}
