//! Whether the database is sound, looked at in the background after an end that was none.
//!
//! A log that is left says that the last life was cut off. Then the whole database is read once, while the gateway
//! works: half a minute for each few gigabytes on a slow disk would be too long to wait for. What is found damaged is
//! never written on: the gateway stops, and a note beside the database keeps it from starting until somebody has
//! restored a backup.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::SetOnce;

use super::session::Sql;

/// Steps of SQLite's machine between two looks whether the check is to stop.
const STEPS: i32 = 100_000;

/// Where it is noted that a database is damaged.
pub(super) fn note(data_dir: &Path) -> PathBuf {
    data_dir.join("anypush.damaged")
}

/// Reads the whole database; what is wrong becomes why nothing is written any more.
pub(super) async fn run(
    connect: SqliteConnectOptions,
    data_dir: PathBuf,
    stop: Arc<AtomicBool>,
    broken: Arc<SetOnce<String>>,
) {
    let began = Instant::now();
    let found = match look(&connect, &stop).await {
        _ if stop.load(Ordering::Relaxed) => return,
        Ok(found) if found == "ok" => {
            let seconds = began.elapsed().as_secs_f32();
            tracing::info!("the gateway was not stopped in order; its database is sound, {seconds:.1} s");
            return;
        }
        Ok(found) => found,
        Err(error) if super::session::fault(&error) == super::session::Fault::Broken => error.to_string(),
        Err(error) => return tracing::warn!("whether the database is sound cannot be seen now: {error}"),
    };
    tracing::error!("the database is damaged, nothing more is written: {found}");
    if let Err(error) = fs::write(note(&data_dir), format!("{found}\n")) {
        tracing::error!("this cannot be noted in {}: {error}", data_dir.display());
    }
    let _ = broken.set(format!("the database is damaged ({found})"));
}

/// `ok`, or the first thing that is wrong.
async fn look(connect: &SqliteConnectOptions, stop: &Arc<AtomicBool>) -> Sql<String> {
    let mut connection: SqliteConnection = connect.connect().await?;
    let stop = Arc::clone(stop);
    connection.lock_handle().await?.set_progress_handler(STEPS, move || !stop.load(Ordering::Relaxed));
    let found = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(found)
}
