//! One connection and its count of statements; and what SQLite's errors mean to a caller.
//!
//! Everything that talks to the database goes through [`Session`], so that the count of statements is complete.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use data_encoding::HEXLOWER;
use futures_util::TryStreamExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::pool::PoolConnection;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{QueryBuilder, Sqlite};

use super::rows;
use crate::audit::Actor;
use crate::store::StoreError;

/// What the database answers, before it is told to a caller.
pub(super) type Sql<T> = Result<T, sqlx::Error>;

/// Most rows of one statement. Twelve columns of a thousand rows stay under SQLite's 32,766 parameters, and a
/// thousand rows is where a statement's own cost no longer shows.
pub(super) const ROWS: usize = 1000;

/// Whose connection it is.
enum Handle {
    Own(Box<SqliteConnection>),
    Pooled(PoolConnection<Sqlite>),
}

/// A connection that counts its statements.
pub(super) struct Session {
    handle: Handle,
    statements: Arc<AtomicU64>,
    /// In whose name it writes at this moment, and what time that is.
    actor: Actor,
    now_ms: u64,
    after: Aftermath,
}

/// What calls leave to the writer.
#[derive(Debug, Default)]
pub(super) struct Aftermath {
    /// Devices that a user has left: what was sent to the user ends with the same transaction.
    pub(super) left: Vec<u64>,
    /// Somebody was erased: the log is to forget it too.
    pub(super) erased: bool,
}

impl Session {
    /// The writer's.
    pub(super) fn own(connection: SqliteConnection, statements: Arc<AtomicU64>) -> Self {
        let handle = Handle::Own(Box::new(connection));
        Self { handle, statements, actor: Actor::default(), now_ms: 0, after: Aftermath::default() }
    }

    /// A reader's; its statements are nobody's proof of anything.
    pub(super) fn pooled(connection: PoolConnection<Sqlite>) -> Self {
        let handle = Handle::Pooled(connection);
        Self {
            handle,
            statements: Arc::default(),
            actor: Actor::default(),
            now_ms: 0,
            after: Aftermath::default(),
        }
    }

    /// From now on it writes in this name.
    pub(super) fn act(&mut self, actor: Actor) {
        self.actor = actor;
    }

    /// The time of what it writes from now on; until somebody else is named, the gateway itself does.
    pub(super) fn begin_at(&mut self, now_ms: u64) {
        (self.now_ms, self.actor) = (now_ms, Actor::default());
    }

    /// What calls leave to the writer; it takes it.
    pub(super) fn aftermath(&mut self) -> &mut Aftermath {
        &mut self.after
    }

    /// In whose name it writes, and when.
    pub(super) fn acts(&self) -> (Actor, u64) {
        (self.actor.clone(), self.now_ms)
    }

    fn connection(&mut self) -> &mut SqliteConnection {
        match &mut self.handle {
            Handle::Own(connection) => connection,
            Handle::Pooled(connection) => connection,
        }
    }

    /// Runs a statement; answers how many rows it changed.
    pub(super) async fn run(&mut self, query: Query<'_, Sqlite, SqliteArguments>) -> Sql<u64> {
        self.statements.fetch_add(1, Ordering::Relaxed);
        Ok(query.execute(self.connection()).await?.rows_affected())
    }

    /// Runs a statement that frames others (BEGIN, COMMIT, ROLLBACK): not counted.
    pub(super) async fn frame(&mut self, sql: &'static str) -> Sql<()> {
        sqlx::query(sql).execute(self.connection()).await.map(drop)
    }

    /// All rows of a query.
    pub(super) async fn rows(&mut self, query: Query<'_, Sqlite, SqliteArguments>) -> Sql<Vec<SqliteRow>> {
        self.statements.fetch_add(1, Ordering::Relaxed);
        query.fetch_all(self.connection()).await
    }

    /// Rows that come as one JSON array of arrays, the only column of the only row. A row of its own costs a message between
    /// two threads and an allocation for each column: where thousands are read, this is a third of it.
    pub(super) async fn array<T: DeserializeOwned>(
        &mut self,
        query: Query<'_, Sqlite, SqliteArguments>,
    ) -> Sql<Vec<T>> {
        let Some(row) = self.row(query).await? else { return Ok(Vec::new()) };
        rows::from_json(&row, 0)
    }

    /// Each row of a query as it comes: for queries of which all rows would take much memory.
    pub(super) async fn each(
        &mut self,
        query: Query<'_, Sqlite, SqliteArguments>,
        mut see: impl FnMut(SqliteRow) -> Sql<()>,
    ) -> Sql<()> {
        self.statements.fetch_add(1, Ordering::Relaxed);
        let mut rows = query.fetch(self.connection());
        while let Some(row) = rows.try_next().await? {
            see(row)?;
        }
        Ok(())
    }

    /// The first row of a query.
    pub(super) async fn row(&mut self, query: Query<'_, Sqlite, SqliteArguments>) -> Sql<Option<SqliteRow>> {
        self.statements.fetch_add(1, Ordering::Relaxed);
        query.fetch_optional(self.connection()).await
    }

    /// Inserts rows with as few statements as there are thousands of them. Only statements of one row and of a full
    /// thousand are kept prepared: the sizes between are too many to be worth their memory.
    pub(super) async fn insert_rows<T, F>(
        &mut self,
        head: &'static str,
        tail: &'static str,
        rows: &[T],
        mut bind: F,
    ) -> Sql<()>
    where
        F: FnMut(&mut sqlx::query_builder::Separated<'_, Sqlite, &'static str>, &T) + Send,
        T: Sync,
    {
        for rows in rows.chunks(ROWS) {
            let mut builder = QueryBuilder::<Sqlite>::new(head);
            builder.push_values(rows, |mut separated, row| bind(&mut separated, row));
            builder.push(tail);
            self.run(builder.build().persistent(rows.len() == 1 || rows.len() == ROWS)).await?;
        }
        Ok(())
    }

    /// Closes the writer's connection; a reader's goes back to its pool.
    pub(super) async fn close(self) -> Sql<()> {
        use sqlx::Connection as _;
        match self.handle {
            Handle::Own(connection) => connection.close().await,
            Handle::Pooled(_) => Ok(()),
        }
    }
}

/// Many rows as one parameter, for `json_each`.
pub(super) fn json<T: Serialize + ?Sized>(rows: &T) -> String {
    serde_json::to_string(rows).expect("numbers and strings always serialise")
}

/// A number as SQLite has them. "For ever" (the largest u64) stays later than everything else.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A hash as it goes through JSON; `unhex` turns it back.
pub(crate) fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// What an error is about, and so what is done with the jobs that met it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The disk is full.
    Full,
    /// Somebody else holds the database.
    Busy,
    /// The database, the disk or the connection: nothing can be trusted to be written any more.
    Broken,
    /// One job's own statement: the others can do without it.
    Poison,
}

/// What an error is about.
pub(super) fn fault(error: &sqlx::Error) -> Fault {
    match error {
        sqlx::Error::Database(e) => coded(e.code().and_then(|code| code.parse().ok()).unwrap_or(0)),
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => Fault::Busy,
        sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed => Fault::Broken,
        _ => Fault::Poison,
    }
}

/// The same for an extended result code; the low byte is the primary one.
pub(super) fn coded(code: u32) -> Fault {
    match (code, code & 0xff) {
        // FULL; IOERR_WRITE, which is how a quota and a limit on the file's size look: the transaction is rolled back,
        // nothing was stored; and IOERR_SHMSIZE, no room for the log's index, which holds nothing that lasts.
        (_, 13) | (778 | 4874, _) => Fault::Full,
        // BUSY, LOCKED, and INTERRUPT: a read took too long
        (_, 5 | 6 | 9) => Fault::Busy,
        // READONLY, IOERR, CORRUPT, CANTOPEN, NOTADB
        (_, 8 | 10 | 11 | 14 | 26) => Fault::Broken,
        _ => Fault::Poison,
    }
}

/// Why nothing is written any more, in words for who has to look at the machine.
pub(super) fn cause(error: &sqlx::Error) -> String {
    let code = match error {
        sqlx::Error::Database(e) => e.code().and_then(|code| code.parse().ok()).unwrap_or(0),
        _ => 0,
    };
    match code {
        // IOERR_FSYNC, IOERR_DIR_FSYNC
        1034 | 1290 => format!("the disk does not confirm what was written (fsync failed): {error}"),
        _ => error.to_string(),
    }
}

/// Whether a row's key is there already.
pub(super) fn is_taken(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(e) if e.is_unique_violation())
}

/// What a caller is told.
pub(super) fn told(error: &sqlx::Error) -> StoreError {
    match fault(error) {
        Fault::Full => StoreError::Full,
        Fault::Busy => StoreError::Busy(
            "somebody else holds it, all readers are at work or take too long, or it is being closed".into(),
        ),
        Fault::Poison if is_taken(error) => StoreError::Exists(taken(error)),
        Fault::Broken | Fault::Poison => StoreError::Broken(error.to_string()),
    }
}

fn taken(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(e) => {
            e.message().rsplit_once(": ").map_or_else(|| e.message(), |(_, key)| key).to_owned()
        }
        other => other.to_string(),
    }
}
