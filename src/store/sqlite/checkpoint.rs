//! Checkpoints on a connection of their own, so that the writer never does one between two callers.
//!
//! The writer tells how much it wrote; the checkpointer copies every second, or sooner when much was written, and
//! truncates the log once it is quiet. It gives way: PASSIVE never waits for anybody. But where somebody always writes
//! the log would never begin anew; once it is long, writers wait for the copy of the few pages that are left.
//!
//! After a failed fsync, the writer's or its own, it does nothing more, and does not even close its connection: SQLite
//! would copy the log back then. The system may have forgotten what it could not write and say yes the next time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, Row as _};
use tokio::sync::{Notify, SetOnce, oneshot};

use super::log::Log;
use super::session::{Fault, Sql, cause, fault};

const EVERY: Duration = Duration::from_secs(1);
/// Pages of a log that must begin anew.
const LONG: i64 = 16 * 1024;
/// Seconds without a write after which the log is cut to nothing.
const QUIET: u32 = 5;
const PAGE_BYTES: u64 = 4096;
/// About how many pages are copied at the latest.
const PAGES: u64 = 1000;

/// How much was written since the last checkpoint, by estimate: every transaction touches a few pages besides what
/// it brings.
#[derive(Debug, Default)]
pub(super) struct Written {
    pages: AtomicU64,
    much: Notify,
    /// Somebody was erased: what the log still holds of that must go.
    scrub: AtomicBool,
}

impl Written {
    /// Counts a transaction.
    pub(super) fn add(&self, bytes: usize) {
        let pages = 4 + 2 * bytes as u64 / PAGE_BYTES;
        if self.pages.fetch_add(pages, Ordering::Relaxed) + pages >= PAGES {
            self.much.notify_one();
        }
    }

    /// The log is to be cut to nothing as soon as that can be.
    pub(super) fn scrub(&self) {
        self.scrub.store(true, Ordering::Release);
        self.much.notify_one();
    }
}

/// Runs until `stop` is dropped or used, then writes everything back one last time.
pub(super) async fn run(
    mut connection: SqliteConnection,
    written: Arc<Written>,
    log: Arc<Log>,
    broken: Arc<SetOnce<String>>,
    mut stop: oneshot::Receiver<()>,
) {
    let mut quiet = 0;
    loop {
        let stopping = tokio::select! {
            biased;
            _ = broken.wait() => break,
            _ = &mut stop => true,
            () = written.much.notified() => false,
            () = tokio::time::sleep(EVERY) => false,
        };
        let wrote = written.pages.swap(0, Ordering::Relaxed) > 0;
        quiet = if wrote { 0 } else { quiet + 1 };
        let scrub = written.scrub.swap(false, Ordering::AcqRel);
        let outcome = if stopping || quiet == QUIET {
            checkpoint(&mut connection, "PRAGMA wal_checkpoint(TRUNCATE)").await
        } else if wrote || scrub {
            match checkpoint(&mut connection, "PRAGMA wal_checkpoint(PASSIVE)").await {
                // Nearly all of it is copied: whoever writes waits for a moment.
                Ok(_) if scrub => checkpoint(&mut connection, "PRAGMA wal_checkpoint(TRUNCATE)").await,
                Ok(state) if state.log > LONG => {
                    checkpoint(&mut connection, "PRAGMA wal_checkpoint(RESTART)").await
                }
                passive => passive,
            }
        } else {
            continue;
        };
        if let Ok(State { log: pages, whole }) = &outcome {
            log.look(PAGE_BYTES * *pages as u64, *whole);
        }
        if scrub && !outcome.as_ref().is_ok_and(|state| state.whole && state.log == 0) {
            written.scrub.store(true, Ordering::Release);
        }
        match outcome {
            // Somebody read or wrote just then: what is left is copied with the next round.
            Ok(state) if !state.whole => drop(written.pages.fetch_add(1, Ordering::Relaxed)),
            Ok(_) => {}
            Err(error) if fault(&error) == Fault::Broken => {
                let cause = cause(&error);
                tracing::error!("writing the log back failed, nothing more is written: {cause}");
                let _ = broken.set(cause);
            }
            Err(error) => tracing::warn!("writing the log back into the database failed: {error}"),
        }
        if stopping {
            break;
        }
    }
    if broken.get().is_some() {
        std::mem::forget(connection);
    } else if let Err(error) = connection.close().await {
        tracing::warn!("closing the checkpoint connection failed: {error}");
    }
}

/// What a checkpoint left.
struct State {
    /// Pages of the log.
    log: i64,
    /// The whole log was copied.
    whole: bool,
}

async fn checkpoint(connection: &mut SqliteConnection, sql: &'static str) -> Sql<State> {
    let row = sqlx::query(sql).fetch_one(connection).await?;
    let (busy, log, copied): (i64, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    Ok(State { log, whole: busy == 0 && log == copied })
}
