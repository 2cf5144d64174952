//! Opening: the directory, the lock, the file, the schema, the connections.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _, Row as _, SqlSafeStr as _};
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};

use super::checkpoint::{self, Written};
use super::events::Taps;
use super::inbox::Positions;
use super::log::Log;
use super::readers::Readers;
use super::session::{Session, Sql};
use super::stats::Remembered;
use super::writer::{Inbox, Writer};
use super::{ACCEPT_ROOM, LookUps, SqliteStore, check};
use crate::clock::Clock;

/// The database's file name.
pub const FILE: &str = "anypush.db";
/// The name of the log beside it.
const LOG: &str = "anypush.db-wal";
/// The lock's file name. It is a file of its own: locking the database itself would disturb SQLite's locks.
const LOCK: &str = "anypush.lock";
/// A migration: its number, its name, its statements.
pub(super) type NumberedSql = (i64, &'static str, &'static str);
/// All migrations, oldest first; never change one that was released.
pub(super) const MIGRATIONS: [NumberedSql; 1] =
    [(1, "first", include_str!("../../../migrations/sqlite/0001_first.sql"))];
/// How many jobs may wait for the writer in each lane before callers do.
const WAITING: usize = 4096;

/// What may be chosen.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// Where time comes from.
    pub clock: Clock,
    /// How long to wait for somebody else who holds the database.
    pub busy_timeout: Duration,
    /// How long an accept may wait for its turn until it is refused.
    pub accept_timeout: Duration,
    /// How long a read may take until it is ended.
    pub read_timeout: Duration,
    /// From how many bytes on the log is called too long.
    pub log_alarm_bytes: u64,
    /// Connections that read.
    pub readers: u32,
    /// A limit on the file, in pages; for tests of a full disk.
    pub max_pages: Option<u32>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            busy_timeout: Duration::from_secs(5),
            accept_timeout: Duration::from_secs(1),
            read_timeout: Duration::from_secs(10),
            log_alarm_bytes: 256 << 20,
            readers: 4,
            max_pages: None,
        }
    }
}

/// Why a store cannot be opened; every text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory or a file in it cannot be used.
    #[error(
        "preparing {path}: {source}. Check that the directory exists and belongs to the user that runs anypush"
    )]
    Files {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it.
    #[error(
        "another anypush works on {path}. Stop it first, or give this one a data directory of its own; \
         the lock goes when that process ends, there is nothing to delete"
    )]
    Locked {
        /// The data directory.
        path: PathBuf,
    },
    /// A newer anypush wrote it.
    #[error(
        "{path} was written by a newer anypush (schema {found}, this one knows {known}). \
         Run that version or a later one, or restore the backup from before the upgrade"
    )]
    NewerSchema {
        /// The data directory.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// A look at the whole of it found it damaged.
    #[error(
        "the database in {} is damaged: {found}. Restore a backup and delete {}; deleting that alone goes on with what \
         is there, at your own risk",
        path.display(), check::note(path).display()
    )]
    Damaged {
        /// The data directory.
        path: PathBuf,
        /// What was found.
        found: String,
    },
    /// A migration failed.
    #[error("bringing the schema of {path} up to date: {source}")]
    Schema {
        /// The data directory.
        path: PathBuf,
        /// Why.
        source: MigrateError,
    },
    /// The database itself.
    #[error("opening the database in {path}: {source}. If it is damaged, restore a backup")]
    Database {
        /// The data directory.
        path: PathBuf,
        /// Why.
        source: sqlx::Error,
    },
}

impl SqliteStore {
    /// Opens the store in this directory, which is made where it is missing. One process at a time.
    pub async fn open(data_dir: &Path, options: SqliteOptions) -> Result<Arc<Self>, OpenError> {
        let lock = Arc::new(prepare(data_dir)?);
        warn_of_filesystem(data_dir);
        if let Ok(found) = fs::read_to_string(check::note(data_dir)) {
            return Err(OpenError::Damaged { path: data_dir.into(), found: found.trim().to_owned() });
        }
        // A store that is closed leaves no log.
        let was_cut_off = fs::metadata(data_dir.join(LOG)).is_ok_and(|log| log.len() > 0);
        let failed = |source| OpenError::Database { path: data_dir.into(), source };
        let connect = connect_options(data_dir, &options);
        let mut writing = writing_end(&connect, &options).await.map_err(failed)?;
        migrate(&mut writing, data_dir, &MIGRATIONS).await?;
        let statements = Arc::new(AtomicU64::new(0));
        let mut session = Session::own(writing, Arc::clone(&statements));
        let positions = Positions::load(&mut session).await.map_err(failed)?;
        let taps = Arc::new(Taps::load(&mut session).await.map_err(failed)?);
        let copying =
            connect.clone().busy_timeout(Duration::from_millis(50)).connect().await.map_err(failed)?;
        let reading = connect.read_only(true);
        let pool = SqlitePoolOptions::new()
            .max_connections(options.readers + LookUps::CONNECTIONS)
            .acquire_timeout(options.busy_timeout)
            // Each read asks it for its deadline: a connection that is gone shows then.
            .test_before_acquire(false)
            .connect_with(reading.clone())
            .await
            .map_err(failed)?;

        let (written, broken) = (Arc::<Written>::default(), Arc::default());
        let (accepts, accepts_in) = mpsc::channel(WAITING);
        let (rest, rest_in) = mpsc::channel(WAITING);
        let writer = Writer {
            session,
            accepts: accepts_in,
            rest: rest_in,
            positions,
            taps: Arc::clone(&taps),
            clock: options.clock.clone(),
            written: Arc::clone(&written),
            prune_at: 0,
            remembered: Remembered::default(),
            broken: Arc::clone(&broken),
        };
        let (stop, stopped) = oneshot::channel();
        let held = Arc::clone(&lock);
        let unsound = Arc::clone(&broken);
        let log = Arc::new(Log::new(data_dir.join(LOG), options.log_alarm_bytes));
        let watched = Arc::clone(&log);
        #[expect(clippy::disallowed_methods, reason = "close() waits for it, after everybody who writes")]
        let writer = tokio::spawn(async move {
            writer.run().await;
            drop(held);
        });
        #[expect(clippy::disallowed_methods, reason = "close() waits for it, after the writer")]
        let copier = tokio::spawn(async move {
            checkpoint::run(copying, written, watched, unsound, stopped).await;
            drop(lock);
        });
        let leave_off = Arc::<AtomicBool>::default();
        if was_cut_off {
            let check = check::run(reading, data_dir.into(), Arc::clone(&leave_off), Arc::clone(&broken));
            #[expect(clippy::disallowed_methods, reason = "told to leave off by close()")]
            tokio::spawn(check);
        }
        let readers = Readers::new(pool, options.read_timeout);
        Ok(Arc::new(Self {
            leave_off,
            inbox: std::sync::RwLock::new(Some(Inbox { accepts, rest })),
            look_ups: LookUps::begin(&readers),
            readers,
            statements,
            taps,
            broken,
            log,
            patience: options.busy_timeout,
            accept_timeout: options.accept_timeout,
            accept_room: Semaphore::new(ACCEPT_ROOM),
            tasks: Mutex::new(Some((writer, stop, copier))),
            listening: Mutex::default(),
        }))
    }
}

/// Makes directory and files for this user alone, and takes the lock.
fn prepare(data_dir: &Path) -> Result<File, OpenError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Files { path, source }
    };
    if !data_dir.exists() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(at(data_dir))?;
    }
    let lock_path = data_dir.join(LOCK);
    let lock = private(&lock_path).map_err(at(&lock_path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { path: data_dir.into() }),
        Err(TryLockError::Error(source)) => return Err(OpenError::Files { path: lock_path, source }),
    }
    // The log and its index take over the mode of the database.
    let file_path = data_dir.join(FILE);
    private(&file_path)
        .and_then(|file| file.set_permissions(fs::Permissions::from_mode(0o600)))
        .map_err(at(&file_path))?;
    Ok(lock)
}

fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// SQLite promises nothing on network file systems, and memory forgets: ops should know before it matters.
fn warn_of_filesystem(data_dir: &Path) {
    let Ok(real) = data_dir.canonicalize() else { return };
    let Ok(mounts) = fs::read_to_string("/proc/self/mounts") else { return };
    let kind = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            Some((fields.next()?, fields.next()?))
        })
        .filter(|(point, _)| real.starts_with(point))
        .max_by_key(|(point, _)| point.len())
        .map_or("", |(_, kind)| kind);
    match kind {
        "tmpfs" | "ramfs" => {
            tracing::warn!("{} is in memory ({kind}): everything is lost with the machine", real.display());
        }
        "nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "ceph" | "fuse.sshfs" | "fuse.glusterfs" => {
            tracing::warn!("{} is on a network ({kind}): the database may be damaged there", real.display());
        }
        _ => {}
    }
}

/// What the writer keeps of pages, in KiB (negative, as SQLite has it). Not more: whenever a b-tree was balanced, the commit
/// walks through the whole cache (`pcache1Truncate`), which with 64 MiB was a quarter of the writer's time.
const WRITERS_CACHE: &str = "-8192";

/// What all connections share.
fn connect_options(data_dir: &Path, options: &SqliteOptions) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(data_dir.join(FILE))
        .create_if_missing(true)
        .busy_timeout(options.busy_timeout)
        .foreign_keys(false)
        .pragma("cache_size", "-16384")
        .row_buffer_size(1024)
        .disable_statement_logging()
}

async fn writing_end(connect: &SqliteConnectOptions, options: &SqliteOptions) -> Sql<SqliteConnection> {
    let mut connect = connect
        .clone()
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        // What is deleted is overwritten, on free pages too. Rows come and go inside pages that are written anyway; only
        // pages that become free are written once more.
        .pragma("secure_delete", "ON")
        .pragma("wal_autocheckpoint", "0")
        .pragma("journal_size_limit", "67108864")
        .pragma("cache_size", WRITERS_CACHE)
        // A statement that fails half-way takes its pages back. What they were is kept in memory, not in a file outside the
        // data directory: at most a few megabytes, as long as the statement runs.
        .pragma("temp_store", "MEMORY")
        .thread_name(|_| "anypush-writer".to_owned());
    if let Some(pages) = options.max_pages {
        connect = connect.pragma("max_page_count", pages.to_string());
    }
    SqliteConnection::connect_with(&connect).await
}

/// Runs what is missing; refuses what a newer program wrote.
pub(super) async fn migrate(
    connection: &mut SqliteConnection,
    data_dir: &Path,
    migrations: &[NumberedSql],
) -> Result<(), OpenError> {
    let path = data_dir.to_owned();
    let known = migrations.iter().map(|(version, ..)| *version).max().unwrap_or_default();
    match newest(connection).await {
        Ok(found) if found > known => return Err(OpenError::NewerSchema { path, found, known }),
        Ok(_) => {}
        Err(source) => return Err(OpenError::Database { path, source }),
    }
    let migrations = migrations.iter().map(|(version, name, sql)| {
        Migration::new(*version, (*name).into(), MigrationType::Simple, (*sql).into_sql_str(), false)
    });
    let migrator = Migrator::with_migrations(migrations.collect());
    migrator.run_direct(None, connection, false).await.map_err(|source| OpenError::Schema { path, source })
}

/// The newest migration that was run; 0 in an empty database.
async fn newest(connection: &mut SqliteConnection) -> Sql<i64> {
    let there = sqlx::query("SELECT 1 FROM sqlite_schema WHERE name = '_sqlx_migrations'")
        .fetch_optional(&mut *connection)
        .await?;
    if there.is_none() {
        return Ok(0);
    }
    let row =
        sqlx::query("SELECT coalesce(max(version), 0) FROM _sqlx_migrations").fetch_one(connection).await?;
    row.try_get(0)
}
