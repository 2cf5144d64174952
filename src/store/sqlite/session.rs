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
use sqlx::{Either, Execute as _, Executor as _, QueryBuilder, Sqlite};

use super::rows;
use crate::audit::Actor;
use crate::store::StoreError;

/// What the database answers, before it is told to a caller.
pub(super) type Sql<T> = Result<T, sqlx::Error>;

/// Most rows of one statement. Twelve columns of a thousand rows stay under SQLite's 32,766 parameters, and a
/// thousand rows is where a statement's own cost no longer shows.
pub(super) const ROWS: usize = 1000;
/// Inserts of so many rows are run by themselves and stay prepared: to read the text of an unknown one costs half of what its rows
/// do. What is left below the least is one statement of a text that is read anew.
const LASTING: [usize; 5] = [ROWS, 512, 256, 128, 64];

/// Whose connection it is.
enum Handle {
    Own(Box<SqliteConnection>),
    Pooled(PoolConnection<Sqlite>),
}

/// Statements that are run together with the next one.
#[derive(Default)]
struct Waiting {
    /// Each ends with a semicolon.
    sql: QueryBuilder<Sqlite>,
    statements: u64,
    /// Whether they have parameters.
    bound: bool,
    /// Whether they stay prepared.
    lasting: bool,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.sql.sql().as_str().is_empty()
    }
}

/// A connection that counts its statements.
///
/// The way to the connection's thread and back takes longer than most statements. So what nobody waits for (the beginning of a
/// transaction, inserts) goes there with the next statement, at the latest with the commit.
pub(super) struct Session {
    handle: Handle,
    waiting: Waiting,
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
        Self::of(Handle::Own(Box::new(connection)), statements)
    }

    /// A reader's; its statements are nobody's proof of anything.
    pub(super) fn pooled(connection: PoolConnection<Sqlite>) -> Self {
        Self::of(Handle::Pooled(connection), Arc::default())
    }

    fn of(handle: Handle, statements: Arc<AtomicU64>) -> Self {
        let (waiting, actor, after) = (Waiting::default(), Actor::default(), Aftermath::default());
        Self { handle, waiting, statements, actor, now_ms: 0, after }
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

    /// Begins a transaction that writes.
    pub(super) fn begin(&mut self) {
        self.waiting = Waiting::default();
        self.waiting.sql.push("BEGIN IMMEDIATE; ");
    }

    /// Ends it: what is written is on disk.
    pub(super) async fn commit(&mut self) -> Sql<()> {
        self.waiting.sql.push("COMMIT");
        self.flush().await
    }

    /// Takes everything back.
    pub(super) async fn roll_back(&mut self) {
        self.waiting = Waiting::default();
        // After some errors SQLite has rolled back by itself: then this one only says so.
        let _ = self.frame("ROLLBACK").await;
    }

    /// Runs a statement that frames others: not counted.
    pub(super) async fn frame(&mut self, sql: &'static str) -> Sql<()> {
        sqlx::query(sql).execute(self.connection()).await.map(drop)
    }

    /// Runs what waits.
    pub(super) async fn flush(&mut self) -> Sql<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let Waiting { mut sql, statements, lasting, .. } = std::mem::take(&mut self.waiting);
        self.statements.fetch_add(statements, Ordering::Relaxed);
        sql.build().persistent(lasting).execute(self.connection()).await.map(drop)
    }

    /// Runs a statement of which nobody asks how many rows it changed: with the next one. Its parameters have no numbers. Only
    /// those that stay prepared wait together, so that their common text is seldom a new one.
    pub(super) async fn write(
        &mut self,
        lasting: bool,
        statement: impl FnOnce(&mut QueryBuilder<Sqlite>),
    ) -> Sql<()> {
        if self.waiting.bound && self.waiting.lasting != lasting {
            self.flush().await?;
        }
        statement(&mut self.waiting.sql);
        self.waiting.sql.push("; ");
        (self.waiting.bound, self.waiting.lasting) = (true, lasting);
        self.waiting.statements += 1;
        Ok(())
    }

    /// The same of a statement with one parameter: rows for `json_each`.
    pub(super) async fn write_json<T: Serialize + ?Sized>(
        &mut self,
        head: &'static str,
        rows: &T,
        tail: &'static str,
    ) -> Sql<()> {
        self.write(true, |sql| {
            sql.push(head).push_bind(json(rows)).push(tail);
        })
        .await
    }

    /// A query as it is run now: after what waits, with it where that is no more than the beginning of the transaction.
    async fn next<'q>(
        &mut self,
        mut query: Query<'q, Sqlite, SqliteArguments>,
    ) -> Sql<Query<'q, Sqlite, SqliteArguments>> {
        self.statements.fetch_add(1, Ordering::Relaxed);
        if self.waiting.bound {
            self.flush().await?;
        }
        if self.waiting.is_empty() {
            return Ok(query);
        }
        let mut sql = std::mem::take(&mut self.waiting).sql;
        let arguments = query.take_arguments().map_err(sqlx::Error::Encode)?.unwrap_or_default();
        let lasting = sqlx::Execute::persistent(&query);
        sql.push(query.sql().as_str());
        Ok(sqlx::query_with(sql.into_sql(), arguments).persistent(lasting))
    }

    /// Runs a statement; answers how many rows it changed.
    pub(super) async fn run(&mut self, query: Query<'_, Sqlite, SqliteArguments>) -> Sql<u64> {
        let query = self.next(query).await?;
        let mut outcomes = self.connection().fetch_many(query);
        let mut changed = 0;
        // What it was run with comes before, and is not asked for.
        while let Some(outcome) = outcomes.try_next().await? {
            if let Either::Left(done) = outcome {
                changed = done.rows_affected();
            }
        }
        Ok(changed)
    }

    /// All rows of a query.
    pub(super) async fn rows(&mut self, query: Query<'_, Sqlite, SqliteArguments>) -> Sql<Vec<SqliteRow>> {
        let query = self.next(query).await?;
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
        let query = self.next(query).await?;
        let mut rows = query.fetch(self.connection());
        while let Some(row) = rows.try_next().await? {
            see(row)?;
        }
        Ok(())
    }

    /// The first row of a query.
    pub(super) async fn row(&mut self, query: Query<'_, Sqlite, SqliteArguments>) -> Sql<Option<SqliteRow>> {
        let query = self.next(query).await?;
        query.fetch_optional(self.connection()).await
    }

    /// Writes rows, their values between head and tail, with few statements: of a few sizes that stay prepared, and one for the
    /// rest.
    pub(super) async fn write_rows<T, F>(
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
        let mut left = rows;
        while !left.is_empty() {
            let size = LASTING.into_iter().find(|size| *size <= left.len());
            let (rows, others) = left.split_at(size.unwrap_or(left.len()));
            left = others;
            let alone = size.is_some();
            if alone {
                self.flush().await?;
            }
            self.write(alone || rows.len() == 1, |sql| {
                sql.push(head).push_values(rows, |mut values, row| bind(&mut values, row)).push(tail);
            })
            .await?;
            if alone {
                self.flush().await?;
            }
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
