//! The journal of events: for apps that somebody listens to, one row for all that a group does to an app.
//!
//! A row's number is that of its last event, so that the newest row says where the next one begins. The newest row is
//! never purged for that reason.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError, RwLock};

use sqlx::Row as _;
use tokio::sync::watch;

use super::changes::Batch;
use super::rows;
use super::session::{Session, Sql, int, json};
use super::work;
use crate::events::{EventKind, Fact, decode, encode};
use crate::ids::Id;
use crate::store::{EventBounds, EventPage, EventRow};

/// Most events of one row.
const MOST: usize = 1000;
/// Where the newest number that was purged is kept.
const PURGED: &str = "store.events_purged";

/// Who listens: for each app the kinds that its webhooks want, and until when a stream may come back for all.
#[derive(Debug)]
pub(super) struct Taps {
    apps: RwLock<HashMap<i64, Tap>>,
    /// The newest events of the open transaction, by app.
    wrote: Mutex<Vec<(i64, u64)>>,
    /// The newest event of each app since the start, and what there was at the start.
    heads: RwLock<(HashMap<i64, u64>, u64)>,
    /// Grows with each commit that wrote events.
    bell: watch::Sender<u64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Tap {
    kinds: u32,
    watched_until: u64,
}

impl Default for Taps {
    fn default() -> Self {
        let (apps, wrote, heads) = (RwLock::default(), Mutex::default(), RwLock::default());
        Self { apps, wrote, heads, bell: watch::Sender::new(0) }
    }
}

impl Taps {
    /// Reads who listens.
    pub(super) async fn load(session: &mut Session) -> Sql<Self> {
        let taps = Self::default();
        taps.heads.write().unwrap_or_else(PoisonError::into_inner).1 = bounds(session).await?.last;
        taps.put(listeners(session).await?);
        Ok(taps)
    }

    pub(super) fn put(&self, listeners: Listeners) {
        *self.apps.write().unwrap_or_else(PoisonError::into_inner) = listeners.0;
    }

    /// Changes after each commit that wrote events.
    pub(super) fn bell(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }

    /// The newest event of an app, or one after it.
    pub(super) fn head(&self, app: i64) -> u64 {
        let heads = self.heads.read().unwrap_or_else(PoisonError::into_inner);
        heads.0.get(&app).copied().unwrap_or(heads.1)
    }

    /// The transaction was committed: rings where it wrote something.
    pub(super) fn committed(&self) {
        let wrote = std::mem::take(&mut *self.wrote.lock().unwrap_or_else(PoisonError::into_inner));
        if !wrote.is_empty() {
            self.heads.write().unwrap_or_else(PoisonError::into_inner).0.extend(wrote);
            self.bell.send_modify(|rings| *rings += 1);
        }
    }

    /// The transaction was rolled back.
    pub(super) fn rolled_back(&self) {
        self.wrote.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The apps that somebody listens to, and which kinds are wanted of each.
    fn now(&self, now_ms: u64) -> HashMap<i64, u32> {
        let apps = self.apps.read().unwrap_or_else(PoisonError::into_inner);
        let kinds = |tap: &Tap| if tap.watched_until > now_ms { EventKind::every() } else { tap.kinds };
        apps.iter().map(|(app, tap)| (*app, kinds(tap))).filter(|(_, kinds)| *kinds != 0).collect()
    }

    fn any(&self) -> bool {
        !self.apps.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// Who listens, as read.
pub(super) struct Listeners(HashMap<i64, Tap>);

/// Reads who listens. Disabled webhooks count: what they miss can be replayed.
pub(super) async fn listeners(session: &mut Session) -> Sql<Listeners> {
    let mut all: HashMap<i64, Tap> = HashMap::new();
    for row in session.rows(sqlx::query("SELECT app, kinds FROM webhooks")).await? {
        all.entry(row.try_get(0)?).or_default().kinds |= rows::number(&row, 1)? as u32;
    }
    for row in session.rows(sqlx::query("SELECT app, until FROM event_watch")).await? {
        all.entry(row.try_get(0)?).or_default().watched_until = rows::number(&row, 1)?;
    }
    Ok(Listeners(all))
}

/// What a group has to tell, before anybody knows who listens.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Whether anybody listens at all: else nothing is gathered.
    open: bool,
    facts: Vec<(Option<i64>, Fact)>,
    /// By message: how many more are no longer pending.
    settled: BTreeMap<Id, i64>,
}

impl News {
    /// Gathers, where somebody listens.
    pub(super) fn new(taps: &Taps) -> Self {
        Self { open: taps.any(), ..Self::default() }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// A fact of an app; `None`: of the app of its message.
    pub(super) fn add(&mut self, app: Option<i64>, fact: Fact) {
        if self.open {
            self.facts.push((app, fact));
        }
    }

    /// So many more deliveries of a message are no longer pending (or fewer).
    pub(super) fn settle(&mut self, message: Id, by: i64) {
        if self.open {
            *self.settled.entry(message).or_default() += by;
        }
    }
}

/// Writes what a group has to tell, after everything else of it.
pub(super) async fn write(session: &mut Session, batch: &Batch<'_>, taps: &Taps, mut news: News) -> Sql<()> {
    let wanted = if news.open { taps.now(batch.now_ms) } else { HashMap::new() };
    if wanted.is_empty() {
        return Ok(());
    }
    let apps = owners(session, batch, &wanted, &mut news).await?;
    let mut by_app: BTreeMap<i64, Vec<Fact>> = BTreeMap::new();
    for (app, fact) in news.facts {
        let app = app.or_else(|| fact.message().and_then(|message| apps.get(&message).copied()));
        if let Some(app) = app
            && wanted.get(&app).is_some_and(|kinds| kinds & fact.bit() != 0)
        {
            by_app.entry(app).or_default().push(fact);
        }
    }
    append(session, taps, &by_app, batch.now_ms).await
}

/// Writes what a call that is no part of a set has to tell of an app, where somebody listens.
pub(super) async fn write_one(
    session: &mut Session,
    taps: &Taps,
    app: i64,
    fact: Fact,
    now_ms: u64,
) -> Sql<()> {
    if taps.now(now_ms).get(&app).is_none_or(|kinds| kinds & fact.bit() == 0) {
        return Ok(());
    }
    append(session, taps, &BTreeMap::from([(app, vec![fact])]), now_ms).await
}

/// The apps of the messages that something happened to, where somebody listens; and the messages that are done by it.
async fn owners(
    session: &mut Session,
    batch: &Batch<'_>,
    wanted: &HashMap<i64, u32>,
    news: &mut News,
) -> Sql<HashMap<Id, i64>> {
    let mut grown: BTreeMap<Id, (u64, bool)> = BTreeMap::new();
    for (message, more, at) in batch.sets.iter().flat_map(|set| &set.expanded) {
        let entry = grown.entry(*message).or_default();
        *entry = (entry.0 + more, entry.1 || at.is_some());
    }
    let mut messages: BTreeSet<i64> = news.settled.keys().chain(grown.keys()).map(|id| id.0).collect();
    messages.extend(news.facts.iter().filter_map(|(_, fact)| fact.message()).map(|id| id.0));
    if messages.is_empty() {
        return Ok(HashMap::new());
    }
    let apps: Vec<i64> = wanted.keys().copied().collect();
    let query = sqlx::query(
        "SELECT m.id, m.app, m.targeted, m.expanded_at IS NOT NULL,
            (SELECT coalesce(sum(s.n), 0) FROM message_stats AS s WHERE s.message = m.id AND s.kind = 0)
         FROM json_each(?1) AS t CROSS JOIN messages AS m ON m.id = t.value
         WHERE m.app IN (SELECT value FROM json_each(?2))",
    );
    let found = session.rows(query.bind(json(&messages)).bind(json(&apps))).await?;
    let mut owners = HashMap::with_capacity(found.len());
    for row in &found {
        let id = rows::id(row, 0)?;
        owners.insert(id, row.try_get(1)?);
        let (targeted, settled): (i64, i64) = (row.try_get(2)?, row.try_get(4)?);
        let (more, now_whole) = grown.get(&id).copied().unwrap_or_default();
        let is_whole = row.try_get::<i64, _>(3)? != 0;
        let by = news.settled.get(&id).copied().unwrap_or_default();
        let open_before = (targeted - more as i64) - (settled - by);
        let was_done = is_whole && !now_whole && open_before == 0;
        if is_whole && targeted == settled && !was_done {
            news.facts.push((None, Fact::MessageDone { message: id.0, at: batch.now_ms }));
        }
    }
    Ok(owners)
}

/// Appends facts to the journal.
async fn append(
    session: &mut Session,
    taps: &Taps,
    by_app: &BTreeMap<i64, Vec<Fact>>,
    now_ms: u64,
) -> Sql<()> {
    if by_app.is_empty() {
        return Ok(());
    }
    let mut last = bounds(session).await?.last;
    let mut added = Vec::new();
    for (app, facts) in by_app {
        for facts in facts.chunks(MOST) {
            last += facts.len() as u64;
            let kinds = facts.iter().fold(0, |all, fact| all | fact.bit());
            let bytes = encode(&facts.iter().collect::<Vec<_>>());
            added.push((last, *app, kinds, facts.len(), bytes));
        }
    }
    let heads = added.iter().map(|(seq, app, ..)| (*app, *seq));
    taps.wrote.lock().unwrap_or_else(PoisonError::into_inner).extend(heads);
    let head = "INSERT INTO events (seq, app, at, kinds, n, facts) ";
    session
        .write_rows(head, "", &added, |row, (seq, app, kinds, n, bytes)| {
            row.push_bind(int(*seq))
                .push_bind(*app)
                .push_bind(int(now_ms))
                .push_bind(i64::from(*kinds))
                .push_bind(*n as i64)
                .push_bind(bytes.as_slice());
        })
        .await
}

/// Where the journal begins and ends.
pub(super) async fn bounds(session: &mut Session) -> Sql<EventBounds> {
    let row = session.row(sqlx::query("SELECT coalesce(max(seq), 0) FROM events")).await?;
    let last = row.map_or(Ok(0), |row| rows::number(&row, 0))?;
    Ok(EventBounds { last, purged_to: work::read_number(session, PURGED).await? })
}

/// An app's events of these kinds after a number: about `limit` of them, whole rows' worth at the most.
pub(super) async fn after(
    session: &mut Session,
    app: i64,
    kinds: u32,
    after: u64,
    limit: usize,
) -> Sql<EventPage> {
    let query = sqlx::query(
        "SELECT seq, n, facts FROM events WHERE app = ?1 AND seq > ?2 AND kinds & ?3 <> 0 ORDER BY seq LIMIT ?4",
    );
    let query = query.bind(app).bind(int(after)).bind(i64::from(kinds)).bind(limit as i64);
    // Before the rows: what is committed in between may be among them, but is never skipped.
    let last = bounds(session).await?.last;
    let found = session.rows(query).await?;
    let mut page = EventPage::default();
    for row in &found {
        let fits = |own: &EventRow| own.number > after && own.fact.bit() & kinds != 0;
        page.rows.extend(read(row)?.into_iter().filter(fits));
        page.read_to = rows::number(row, 0)?;
        if page.rows.len() >= limit {
            page.rows.truncate(limit);
            page.read_to = page.rows.last().map_or(after, |row| row.number);
            return Ok(page);
        }
    }
    if found.len() < limit {
        page.read_to = page.read_to.max(last).max(after);
    }
    Ok(page)
}

/// An app's events with these numbers; what was purged is absent.
pub(super) async fn numbered(session: &mut Session, app: i64, numbers: &[u64]) -> Sql<Vec<EventRow>> {
    let query = sqlx::query(
        "SELECT seq, n, facts FROM events WHERE app = ?1 AND seq IN
            (SELECT (SELECT min(seq) FROM events WHERE seq >= t.value) FROM json_each(?2) AS t)
         ORDER BY seq",
    );
    let wanted: BTreeSet<u64> = numbers.iter().copied().collect();
    let mut found = Vec::new();
    for row in session.rows(query.bind(app).bind(json(&wanted))).await? {
        found.extend(read(&row)?.into_iter().filter(|row| wanted.contains(&row.number)));
    }
    Ok(found)
}

fn read(row: &sqlx::sqlite::SqliteRow) -> Sql<Vec<EventRow>> {
    let (last, n) = (rows::number(row, 0)?, rows::number(row, 1)?);
    let facts = decode(row.try_get(2)?);
    Ok(facts.into_iter().zip(last + 1 - n..).map(|(fact, number)| EventRow { number, fact }).collect())
}

/// The number of the last event that was written before a time; 0 = there is none any more.
pub(super) async fn before(session: &mut Session, app: i64, at: u64) -> Sql<u64> {
    let query = sqlx::query("SELECT coalesce(max(seq), 0) FROM events WHERE app = ?1 AND at < ?2");
    session.row(query.bind(app).bind(int(at))).await?.map_or(Ok(0), |row| rows::number(&row, 0))
}

/// Keeps everything of an app until a time; answers since which number that is so.
pub(super) async fn watch(session: &mut Session, app: i64, until: u64, now_ms: u64) -> Sql<u64> {
    let last = bounds(session).await?.last;
    let query = sqlx::query(
        "INSERT INTO event_watch (app, since, until) VALUES (?1, ?2, ?3)
         ON CONFLICT (app) DO UPDATE SET since = iif(until > ?4, since, excluded.since),
            until = max(until, excluded.until)
         RETURNING since",
    );
    let query = query.bind(app).bind(int(last)).bind(int(until)).bind(int(now_ms));
    let found = session.rows(query).await?;
    rows::number(found.first().ok_or(sqlx::Error::RowNotFound)?, 0)
}

/// Forgets some of what was written before a time, and watches that are over; how many rows.
pub(super) async fn purge(session: &mut Session, before: u64, now_ms: u64, limit: usize) -> Sql<u64> {
    session.run(sqlx::query("DELETE FROM event_watch WHERE until <= ?1").bind(int(now_ms))).await?;
    let query = sqlx::query(
        "SELECT max(seq), count(*) FROM (SELECT seq FROM events
            WHERE at < ?1 AND seq < (SELECT max(seq) FROM events) ORDER BY seq LIMIT ?2)",
    );
    let row = session.row(query.bind(int(before)).bind(limit as i64)).await?;
    let Some(last) = row.as_ref().map_or(Ok(None), |row| rows::maybe(row, 0))? else { return Ok(0) };
    work::write_number(session, PURGED, last).await?;
    // Numbers grow with time: what is before the last of them is as old.
    session.run(sqlx::query("DELETE FROM events WHERE seq <= ?1").bind(int(last))).await
}
