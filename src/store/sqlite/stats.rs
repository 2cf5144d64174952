//! Counters of reports, moved in the transaction of the rows that they count: a statement or two for a whole group.
//!
//! A message is counted in the quarter of an hour in which it was made, whenever something happens to it: so the numbers
//! of a stretch of time are those of its messages, and add up as theirs do.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use sqlx::Row as _;

use super::changes::Batch;
use super::periods::{QUARTERS, around_hour, around_quarter};
use super::rows;
use super::session::{Session, Sql, hex, json};
use super::tally::{self, Counter, Tally};
use crate::clock::{DAY_MS, HOUR_MS};
use crate::delivery::state::{CounterKey, Event};
use crate::delivery::trail::TrailEntry;
use crate::ids::Id;
use crate::store::{NewMessage, OTHER_LABELS, PLATFORMS, QUARTER_MS, latency_bucket};

/// Labels of one app and day that reports tell apart.
const LABELS: usize = 100;
/// What is remembered of messages and of (app, day): enough for all that are under way, and little.
const MESSAGES: usize = 20_000;
const DAYS: usize = 10_000;
/// Values of reports that are remembered: those of this day are read and counted in again and again.
const PLACES: usize = 1000;

/// What a message's counters in reports stand under. Never changes.
#[derive(Debug, Clone)]
struct Dimensions {
    app: i64,
    quarter: u64,
    class: i64,
    label: String,
}

/// What the writer remembers, so that a group needs no read for messages that it knows. All of it can be read again.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    messages: HashMap<Id, Dimensions>,
    labels: HashMap<(i64, u64), HashSet<String>>,
    tallies: HashMap<Place, Tally>,
}

/// How counters move, by platform; and what was tried through channels.
#[derive(Debug, Default)]
pub(super) struct Moves {
    counters: BTreeMap<(CounterKey, u8), i64>,
    tries: BTreeMap<(i64, u8, u8), u64>,
}

impl Moves {
    /// Notes how a delivery's counter moves.
    pub(super) fn add(&mut self, platform: u8, key: CounterKey, by: i64) {
        *self.counters.entry((key, platform)).or_insert(0) += by;
    }

    /// Notes what an event tells of tries.
    pub(super) fn tried(&mut self, event: &Event) {
        for entry in &event.trail {
            if let TrailEntry::Attempted { channel, reason, latency_ms, .. } = entry {
                let reason = reason.map_or(0, anypush_providers::contract::Reason::code);
                *self.tries.entry((*channel, 0, reason)).or_insert(0) += 1;
                // Zero says that no request was made.
                if *latency_ms > 0 {
                    *self.tries.entry((*channel, 1, latency_bucket(*latency_ms))).or_insert(0) += 1;
                }
            }
        }
    }

    /// The counters of messages.
    pub(super) fn of_messages(&self) -> BTreeMap<CounterKey, i64> {
        let mut sums = BTreeMap::new();
        for ((key, _), by) in &self.counters {
            *sums.entry(*key).or_insert(0) += by;
        }
        sums.retain(|_, by| *by != 0);
        sums
    }
}

impl Remembered {
    /// What a transaction taught that was then rolled back must be forgotten.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Counters that something else may have changed are read again.
    pub(super) fn forget_counters(&mut self) {
        self.tallies.clear();
    }

    /// Learns of messages that are stored by this transaction, and decides which of their labels reports tell apart: the
    /// first hundred of an app and day.
    pub(super) async fn learn(&mut self, session: &mut Session, stored: &[&NewMessage]) -> Sql<()> {
        let mut new = BTreeSet::new();
        for message in stored {
            let day = (message.app, message.created_at / DAY_MS);
            let mut label = message.label.clone().unwrap_or_default();
            if !label.is_empty() {
                let known = self.labels_of(session, day).await?;
                if !known.contains(&label) {
                    if known.len() < LABELS {
                        known.insert(label.clone());
                        new.insert((day.0, day.1, label.clone()));
                    } else {
                        OTHER_LABELS.clone_into(&mut label);
                    }
                }
            }
            let dimensions = Dimensions {
                app: message.app,
                quarter: message.created_at / QUARTER_MS,
                class: rows::class_code(message.class),
                label,
            };
            self.keep(message.id, dimensions);
        }
        if new.is_empty() {
            return Ok(());
        }
        let head = "INSERT INTO report_labels (app, day, label)
             SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(";
        session.write_json(head, &new, ")").await
    }

    async fn labels_of(&mut self, session: &mut Session, day: (i64, u64)) -> Sql<&mut HashSet<String>> {
        if !self.labels.contains_key(&day) {
            let query = sqlx::query("SELECT label FROM report_labels WHERE app = ?1 AND day = ?2");
            let found = session.rows(query.bind(day.0).bind(day.1 as i64)).await?;
            let known = found.iter().map(|row| row.try_get(0)).collect::<Sql<HashSet<String>>>()?;
            if self.labels.len() >= DAYS {
                self.labels.clear();
            }
            self.labels.insert(day, known);
        }
        Ok(self.labels.entry(day).or_default())
    }

    fn keep(&mut self, message: Id, dimensions: Dimensions) {
        if self.messages.len() >= MESSAGES {
            self.messages.clear();
        }
        self.messages.insert(message, dimensions);
    }

    /// Where the counters of these messages stand; of those that do not exist there are none.
    async fn of(&mut self, session: &mut Session, messages: BTreeSet<Id>) -> Sql<HashMap<Id, Dimensions>> {
        let mut known = HashMap::new();
        let mut asked = Vec::new();
        for message in messages {
            match self.messages.get(&message) {
                Some(one) => drop(known.insert(message, one.clone())),
                None => asked.push(message.0),
            }
        }
        if asked.is_empty() {
            return Ok(known);
        }
        let query = sqlx::query(
            "SELECT m.id, m.app, m.created_at, m.class, CASE WHEN m.label IS NULL THEN ''
                WHEN l.label IS NULL THEN ?2 ELSE m.label END
             FROM json_each(?1) AS j CROSS JOIN messages AS m ON m.id = j.value
             LEFT JOIN report_labels AS l
                ON l.app = m.app AND l.day = m.created_at / ?3 AND l.label = m.label",
        );
        let query = query.bind(json(&asked)).bind(OTHER_LABELS).bind(DAY_MS as i64);
        for row in &session.rows(query).await? {
            let quarter = rows::number(row, 2)? / QUARTER_MS;
            let dimensions =
                Dimensions { app: row.try_get(1)?, quarter, class: row.try_get(3)?, label: row.try_get(4)? };
            known.insert(rows::id(row, 0)?, dimensions.clone());
            self.keep(rows::id(row, 0)?, dimensions);
        }
        Ok(known)
    }
}

/// The number of a platform.
pub(super) fn platform_code(name: &str) -> u8 {
    PLATFORMS.iter().position(|known| *known == name).unwrap_or(0) as u8
}

/// Moves the counters of reports: of what happened, and of audiences that grew.
pub(super) async fn apply(
    session: &mut Session,
    remembered: &mut Remembered,
    batch: &Batch<'_>,
    moves: &Moves,
) -> Sql<()> {
    let grown = || batch.sets.iter().flat_map(|set| &set.expanded).filter(|(_, more, _)| *more > 0);
    let messages = moves.counters.keys().map(|(key, _)| key.message).chain(grown().map(|(id, ..)| *id));
    let dimensions = remembered.of(session, messages.collect()).await?;
    let mut sums: BTreeMap<Id, Tally> = BTreeMap::new();
    for ((key, platform), by) in &moves.counters {
        *sums.entry(key.message).or_default().entry(Counter::of(key, *platform)).or_insert(0) += by;
    }
    for (message, more, _) in grown() {
        *sums.entry(*message).or_default().entry(Counter::TARGETED).or_insert(0) += *more as i64;
    }
    add(session, &mut remembered.tallies, by_place(&dimensions, &sums)).await?;
    tries(session, batch.now_ms, moves).await
}

/// Where counters of reports stand: app, grain, period, class, label.
type Place = (i64, usize, u64, i64, String);

/// Grains from here on are those of counters that tell neither classes nor labels apart: of a busy day, one value instead of
/// hundreds.
pub(super) const WHOLE: usize = QUARTERS.len();

/// Where a message's counters stand in its app: grain, period, class, label.
pub fn places(quarter: u64, class: i64, label: &str) -> impl Iterator<Item = (usize, u64, i64, &str)> {
    around_quarter(quarter)
        .flat_map(move |(grain, period)| [(grain, period, class, label), (WHOLE + grain, period, 0, "")])
}

/// What messages' counters add up to, by each period that they lie in.
fn by_place(
    dimensions: &HashMap<Id, Dimensions>,
    of_messages: &BTreeMap<Id, Tally>,
) -> BTreeMap<Place, Tally> {
    let mut sums: BTreeMap<Place, Tally> = BTreeMap::new();
    for (message, tally) in of_messages {
        let Some(Dimensions { app, quarter, class, label }) = dimensions.get(message) else { continue };
        for (grain, period, class, label) in places(*quarter, *class, label) {
            let sums = sums.entry((*app, grain, period, class, label.to_owned())).or_default();
            for (counter, by) in tally {
                *sums.entry(*counter).or_insert(0) += by;
            }
        }
    }
    sums.retain(|_, tally| tally.values().any(|by| *by != 0));
    sums
}

/// Adds to what is stored: a read of what is not remembered, one statement.
async fn add(
    session: &mut Session,
    known: &mut HashMap<Place, Tally>,
    sums: BTreeMap<Place, Tally>,
) -> Sql<()> {
    if sums.is_empty() {
        return Ok(());
    }
    read(session, known, sums.keys()).await?;
    let mut rows = Vec::with_capacity(sums.len());
    for (place, sum) in sums {
        let tally = known.entry(place.clone()).or_default();
        for (counter, by) in sum {
            *tally.entry(counter).or_insert(0) += by;
        }
        rows.push((place, hex(&tally::encode(tally))));
    }
    // One text for any number of rows, so that it stays prepared.
    let head = "INSERT INTO stats (app, grain, period, class, label, counts)
         SELECT value ->> '$[0][0]', value ->> '$[0][1]', value ->> '$[0][2]', value ->> '$[0][3]', value ->> '$[0][4]',
            unhex(value ->> 1)
         FROM json_each(";
    session.write_json(head, &rows, ") WHERE true ON CONFLICT DO UPDATE SET counts = excluded.counts").await
}

/// Learns what is stored in these places.
async fn read(
    session: &mut Session,
    known: &mut HashMap<Place, Tally>,
    places: impl Iterator<Item = &Place>,
) -> Sql<()> {
    if known.len() >= PLACES {
        known.clear();
    }
    let places: Vec<_> = places.filter(|place| !known.contains_key(place)).collect();
    if places.is_empty() {
        return Ok(());
    }
    let query = sqlx::query(
        "SELECT json_group_array(json_array(json_array(s.app, s.grain, s.period, s.class, s.label), hex(s.counts)))
         FROM json_each(?1) AS p
         CROSS JOIN stats AS s ON s.app = p.value ->> 0 AND s.grain = p.value ->> 1 AND s.period = p.value ->> 2
            AND s.class = p.value ->> 3 AND s.label = p.value ->> 4",
    );
    let stored: Vec<(Place, String)> = session.array(query.bind(json(&places))).await?;
    for (place, counts) in stored {
        let tally = known.entry(place).or_default();
        tally::decode_hex(counts.as_bytes(), |counter, n| *tally.entry(counter).or_insert(0) += n)?;
    }
    Ok(())
}

async fn tries(session: &mut Session, now_ms: u64, moves: &Moves) -> Sql<()> {
    if moves.tries.is_empty() {
        return Ok(());
    }
    let hour = now_ms / HOUR_MS;
    let rows: Vec<_> = (moves.tries.iter())
        .flat_map(|((channel, kind, code), n)| {
            around_hour(hour).map(move |(grain, period)| (channel, grain, period, kind, code, n))
        })
        .collect();
    let head = "INSERT INTO channel_stats (channel, grain, period, kind, code, n)
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5 FROM json_each(";
    session.write_json(head, &rows, ") WHERE true ON CONFLICT DO UPDATE SET n = n + excluded.n").await
}
