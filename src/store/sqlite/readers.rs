//! The reading ends, and small reads of many callers that are made together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use sqlx::SqlitePool;
use tokio::sync::{mpsc, oneshot};

use super::session::{Session, Sql, told};
use crate::store::{Result, StoreError};

/// Steps of SQLite's machine between two looks at the clock: under a millisecond.
const STEPS: i32 = 10_000;
/// What may wait for the next read before callers do.
const WAITING: usize = 1024;

/// The reading ends. Cloning shares them.
#[derive(Debug, Clone)]
pub(super) struct Readers {
    pool: SqlitePool,
    /// How long a read may take.
    timeout: Duration,
}

impl Readers {
    pub(super) fn new(pool: SqlitePool, timeout: Duration) -> Self {
        Self { pool, timeout }
    }

    /// A read.
    pub(super) async fn read<T>(&self, work: impl AsyncFnOnce(&mut Session) -> Sql<T>) -> Result<T> {
        let mut connection = self.pool.acquire().await.map_err(|e| told(&e))?;
        // One that does not end would hold its view of the database, and the log could not begin anew.
        let until = Instant::now() + self.timeout;
        let mut handle = connection.lock_handle().await.map_err(|e| told(&e))?;
        handle.set_progress_handler(STEPS, move || Instant::now() < until);
        drop(handle);
        work(&mut Session::pooled(connection)).await.map_err(|e| told(&e))
    }

    /// A connection to keep, without a deadline.
    async fn keep(&self) -> Sql<Session> {
        let mut connection = self.pool.acquire().await?;
        connection.lock_handle().await?.remove_progress_handler();
        Ok(Session::pooled(connection))
    }

    /// Lets nobody read any more, once those who do have ended.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

/// Who asks for more than so many has a read of its own: for so many the way does not count.
const FEW: usize = 16;

/// Look-ups of a few rows each, by many callers at the same time, made together: who asks while others are being answered is
/// answered with the next. Alone nobody waits for anything; under load a look-up costs what its rows cost, and not the way
/// to another thread and back, which is ten times as much. For the same reason it keeps its connection: to ask for
/// one and give it back would be three more such ways.
pub(super) struct Together<K, Q, F> {
    readers: Readers,
    look_up: LookUp<K, Q, F>,
    way: mpsc::Sender<Question<K, Q, F>>,
}

/// What one caller asks: these, of one key.
struct Question<K, Q, F> {
    key: K,
    asked: Vec<Q>,
    answer: oneshot::Sender<Result<Vec<F>>>,
}

/// Finds what is asked of one key.
type Find<K, Q, F> = for<'a> fn(&'a mut Session, &'a K, &'a [Q]) -> BoxFuture<'a, Sql<Vec<F>>>;

/// How it is looked up: all that is asked of one key, and what each row that is found was asked by.
#[derive(Debug)]
pub(super) struct LookUp<K, Q, F> {
    pub(super) find: Find<K, Q, F>,
    pub(super) by: fn(&F) -> &Q,
    /// How many are answered together at the most: their rows are in memory twice.
    pub(super) abreast: usize,
}

impl<K, Q, F> Clone for LookUp<K, Q, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, Q, F> Copy for LookUp<K, Q, F> {}

impl<K, Q, F> Together<K, Q, F>
where
    K: Ord + Send + Sync + 'static,
    Q: Ord + Clone + Send + Sync + 'static,
    F: Clone + Send + Sync + 'static,
{
    /// Answers until it is dropped.
    pub(super) fn begin(readers: Readers, look_up: LookUp<K, Q, F>) -> Self {
        let (way, questions) = mpsc::channel(WAITING);
        #[expect(
            clippy::disallowed_methods,
            reason = "it ends with the store; what it reads nobody waits for then"
        )]
        tokio::spawn(answer(readers.clone(), look_up, questions));
        Self { readers, look_up, way }
    }

    /// What is found, in the order in which it is found.
    pub(super) async fn ask(&self, key: K, asked: &[Q]) -> Result<Vec<F>> {
        if asked.len() > FEW {
            return self.readers.read(async |session| (self.look_up.find)(session, &key, asked).await).await;
        }
        let closed = || StoreError::Busy("the store is closed".into());
        let (answer, answered) = oneshot::channel();
        self.way.send(Question { key, asked: asked.to_vec(), answer }).await.map_err(|_| closed())?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }
}

async fn answer<K, Q, F>(
    readers: Readers,
    look_up: LookUp<K, Q, F>,
    mut questions: mpsc::Receiver<Question<K, Q, F>>,
) where
    K: Ord,
    Q: Ord + Clone,
    F: Clone,
{
    let mut kept = None;
    let mut group = Vec::with_capacity(look_up.abreast);
    let mut closed = readers.pool.close_event();
    loop {
        let asked = tokio::select! {
            () = &mut closed => break,
            asked = questions.recv_many(&mut group, look_up.abreast) => asked,
        };
        if asked == 0 {
            break;
        }
        let answers = answers(&readers, &mut kept, look_up, &group).await;
        for (question, answer) in group.drain(..).zip(answers) {
            // Who went away is not missed.
            let _ = question.answer.send(answer);
        }
    }
}

/// An answer for each question. A row that cannot be read fails who asked for it, and nobody else.
async fn answers<K, Q, F>(
    readers: &Readers,
    kept: &mut Option<Session>,
    look_up: LookUp<K, Q, F>,
    questions: &[Question<K, Q, F>],
) -> Vec<Result<Vec<F>>>
where
    K: Ord,
    Q: Ord + Clone,
    F: Clone,
{
    let error = match find(readers, kept, look_up, questions).await {
        Ok(found) => return found.into_iter().map(Ok).collect(),
        Err(error) => told(&error),
    };
    if questions.len() == 1 || !matches!(error, StoreError::Broken(_)) {
        return vec![Err(error); questions.len()];
    }
    let mut answers = Vec::with_capacity(questions.len());
    for question in questions {
        let found = find(readers, kept, look_up, std::slice::from_ref(question)).await;
        answers.push(found.map(|mut found| found.pop().unwrap_or_default()).map_err(|error| told(&error)));
    }
    answers
}

/// What is found for each question. The connection is given back where it has met an error.
async fn find<K, Q, F>(
    readers: &Readers,
    kept: &mut Option<Session>,
    look_up: LookUp<K, Q, F>,
    questions: &[Question<K, Q, F>],
) -> Sql<Vec<Vec<F>>>
where
    K: Ord,
    Q: Ord + Clone,
    F: Clone,
{
    let mut session = match kept.take() {
        Some(session) => session,
        None => readers.keep().await?,
    };
    let mut asked: BTreeMap<&K, BTreeSet<&Q>> = BTreeMap::new();
    for question in questions {
        asked.entry(&question.key).or_default().extend(&question.asked);
    }
    let mut found = BTreeMap::new();
    for (key, asked) in asked {
        let asked: Vec<Q> = asked.into_iter().cloned().collect();
        found.insert(key, (look_up.find)(&mut session, key, &asked).await?);
    }
    *kept = Some(session);
    let found: BTreeMap<_, _> =
        found.iter().map(|(key, rows)| (*key, ByQuestion::new(rows, look_up.by))).collect();
    Ok(questions.iter().map(|question| found[&question.key].of(&question.asked)).collect())
}

/// Rows, and which were found by what.
struct ByQuestion<'f, Q, F> {
    rows: &'f [F],
    places: BTreeMap<&'f Q, Vec<usize>>,
}

impl<'f, Q: Ord, F: Clone> ByQuestion<'f, Q, F> {
    fn new(rows: &'f [F], by: fn(&F) -> &Q) -> Self {
        let mut places: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (place, row) in rows.iter().enumerate() {
            places.entry(by(row)).or_default().push(place);
        }
        Self { rows, places }
    }

    /// What was found by these, in the order in which it was.
    fn of(&self, asked: &[Q]) -> Vec<F> {
        let places: BTreeSet<usize> =
            asked.iter().filter_map(|one| self.places.get(one)).flatten().copied().collect();
        places.into_iter().map(|place| self.rows[place].clone()).collect()
    }
}
