//! The inbox: what waits for a phone to take it over its own connection.
//!
//! Positions come from the writer, so they increase in commit order. They are numbers from a block that was reserved
//! in the database, so none is ever given twice, whatever the clock does and however empty the table is.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use anypush_providers::contract::{Class, Reason, Witness};
use sqlx::Row as _;

use super::changes::Batch;
use super::deliveries::{Happening, Pair, What};
use super::readers::LookUp;
use super::rows;
use super::session::{Session, Sql, int, json};
use super::work;
use super::writer::{PhoneCall, PhoneSays};
use crate::delivery::state::State;
use crate::ids::Id;
use crate::store::{Ack, InboxEntry, NewInbox};

/// What one device may have waiting.
const MAX_WAITING: u64 = 1000;
const MAX_BYTES: u64 = 1024 * 1024;
/// Entries that are taken back in one transaction.
const WITHDRAWN: i64 = 2000;
/// How many positions are reserved at a time: one write for a million entries.
const BLOCK: u64 = 1 << 20;
/// Where the end of the reserved block is kept.
const POSITION: &str = "store.inbox_position";

/// Whether a message `m` was sent to users and before this time, when one left the device. Else its text is not read.
macro_rules! of_who_left {
    ($left_at:literal) => {
        concat!(
            "CASE WHEN ",
            $left_at,
            " > max(m.created_at, coalesce(m.send_at, 0)) AND json_valid(m.spec)
             THEN coalesce(m.spec ->> '$.to_users', 0) ELSE 0 END"
        )
    };
}

/// Where positions come from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Positions {
    next: u64,
    /// Every position below this may have been given already, as far as the database knows.
    reserved: u64,
}

impl Positions {
    /// Goes on after everything that an earlier life may have given.
    pub(super) async fn load(session: &mut Session) -> Sql<Self> {
        let reserved = work::read_number(session, POSITION).await?.max(1);
        Ok(Self { next: reserved, reserved })
    }

    /// Takes back a reservation that was rolled back. The positions themselves are never given again.
    pub(super) fn restore(&mut self, before: Self) {
        self.reserved = before.reserved;
    }

    async fn take(&mut self, session: &mut Session, count: u64) -> Sql<u64> {
        let first = self.next;
        if first + count > self.reserved {
            let reserved = first + count + BLOCK;
            work::write_number(session, POSITION, reserved).await?;
            self.reserved = reserved;
        }
        self.next += count;
        Ok(first)
    }
}

/// An inbox entry that a phone acknowledged.
pub(super) struct Acknowledged {
    pub(super) happening: Happening,
    place: (u64, i64),
}

/// What filling inboxes did beside inserting.
#[derive(Default)]
pub(super) struct Filled {
    /// Pairs that found no room.
    pub(super) refused: HashSet<Pair>,
    /// Deliveries that ended because of it.
    pub(super) ended: Vec<Happening>,
}

/// Finds what phones acknowledge, and what is taken back from them. An entry counts for the first who names it.
pub(super) async fn acknowledged(session: &mut Session, phones: &[PhoneCall<'_>]) -> Sql<Vec<Acknowledged>> {
    let mut up_to = Vec::new();
    let mut exact = Vec::new();
    let mut taken_back = Vec::new();
    let mut left = Vec::new();
    for (call, phone) in phones.iter().enumerate() {
        match phone.says {
            PhoneSays::Ack(Ack::UpTo(position)) => up_to.push((call, phone.device, *position)),
            PhoneSays::Ack(Ack::Messages(messages)) => {
                exact.extend(messages.iter().map(|message| (call, phone.device, message.0)));
            }
            PhoneSays::Withdrawn(message) => taken_back.push((call, message)),
            PhoneSays::Left => left.push((call, phone.device)),
            PhoneSays::Events(_) => {}
        }
    }
    let mut found = Vec::new();
    if !up_to.is_empty() {
        let query = sqlx::query(
            "SELECT a.value ->> 0, i.device, i.pos, i.message FROM json_each(?1) AS a CROSS JOIN inbox AS i
             ON i.device = a.value ->> 1 AND i.pos <= a.value ->> 2 WHERE i.handed_at IS NOT NULL",
        );
        found.extend(session.rows(query.bind(json(&up_to))).await?);
    }
    if !exact.is_empty() {
        let query = sqlx::query(
            "SELECT a.value ->> 0, i.device, i.pos, i.message FROM json_each(?1) AS a CROSS JOIN inbox AS i
             ON i.message = a.value ->> 2 AND i.device = a.value ->> 1 WHERE i.handed_at IS NOT NULL",
        );
        found.extend(session.rows(query.bind(json(&exact))).await?);
    }
    for (call, message) in taken_back {
        let query = sqlx::query(
            "SELECT ?1, device, pos, message FROM inbox WHERE message = ?2 AND handed_at IS NULL
             ORDER BY device LIMIT ?3",
        );
        found.extend(session.rows(query.bind(call as i64).bind(message.0).bind(WITHDRAWN)).await?);
    }
    if !left.is_empty() {
        let query = sqlx::query(concat!(
            "SELECT a.value ->> 0, i.device, i.pos, i.message FROM json_each(?1) AS a
             CROSS JOIN inbox AS i ON i.device = a.value ->> 1 CROSS JOIN messages AS m ON m.id = i.message
             CROSS JOIN devices AS d ON d.seq = i.device WHERE ",
            of_who_left!("d.left_at")
        ));
        found.extend(session.rows(query.bind(json(&left))).await?);
    }
    let mut seen = HashSet::new();
    let mut acknowledged = Vec::with_capacity(found.len());
    for row in &found {
        let call = rows::number(row, 0)? as usize;
        let place = (rows::number(row, 1)?, row.try_get(2)?);
        if seen.insert(place) {
            let happening = Happening {
                pair: (rows::id(row, 3)?, place.0),
                what: match phones[call].says {
                    PhoneSays::Withdrawn(_) => What::Ended(State::Cancelled, Reason::Cancelled),
                    PhoneSays::Left => What::Ended(State::Suppressed, Reason::UserLeft),
                    _ => What::Reached(State::Delivered, Witness::Phone, None),
                },
                now_ms: phones[call].now_ms,
                call: Some(call),
                only_news: false,
                own: true,
            };
            acknowledged.push(Acknowledged { happening, place });
        }
    }
    Ok(acknowledged)
}

/// Deletes what is done, then adds what is new, within the limits of each device.
pub(super) async fn fill(
    session: &mut Session,
    positions: &mut Positions,
    batch: &Batch<'_>,
    acknowledged: &[Acknowledged],
) -> Sql<Filled> {
    let done: BTreeSet<(i64, u64)> = batch
        .sets
        .iter()
        .flat_map(|set| &set.inbox_done)
        .map(|(device, message)| (message.0, *device))
        .collect();
    if !done.is_empty() {
        delete_pairs(session, &done).await?;
    }
    delete_places(session, acknowledged.iter().map(|a| a.place).collect()).await?;
    let wanted = wanted(session, batch).await?;
    if wanted.is_empty() {
        return Ok(Filled::default());
    }
    let mut rooms = rooms(session, &wanted, batch.now_ms).await?;
    let mut filled = Filled::default();
    let mut evicted = Vec::new();
    let mut entries: Vec<Option<&NewInbox>> = Vec::with_capacity(wanted.len());
    for entry in wanted {
        let room = rooms.entry(entry.device).or_default();
        let out = room.make(entry);
        let Some(out) = out else {
            filled.refused.insert((entry.message, entry.device));
            continue;
        };
        for waiting in out {
            filled.ended.push(waiting.ended(entry.device, batch.now_ms));
            match waiting.place {
                Place::Stored(position) => evicted.push((entry.device, position)),
                Place::New(index) => entries[index] = None,
            }
        }
        room.add(entry, entries.len());
        entries.push(Some(entry));
    }
    filled.ended.extend(silent_refusals(batch, &filled.refused));
    delete_places(session, evicted).await?;
    let entries: Vec<&NewInbox> = entries.into_iter().flatten().collect();
    insert(session, positions, &entries).await?;
    Ok(filled)
}

/// New entries that are not there already and not done already. Several for one pair count once.
async fn wanted<'j>(session: &mut Session, batch: &Batch<'j>) -> Sql<Vec<&'j NewInbox>> {
    let mut done_after: HashMap<Pair, usize> = HashMap::new();
    for (index, set) in batch.sets.iter().enumerate() {
        done_after.extend(set.inbox_done.iter().map(|(device, message)| ((*message, *device), index)));
    }
    let mut seen = HashSet::new();
    let mut wanted = Vec::new();
    for (index, set) in batch.sets.iter().enumerate() {
        for entry in &set.inbox {
            let pair = (entry.message, entry.device);
            if done_after.get(&pair).is_none_or(|done| *done < index) && seen.insert(pair) {
                wanted.push(entry);
            }
        }
    }
    let old: Vec<_> = wanted
        .iter()
        .filter(|entry| !batch.fresh.contains(&entry.message))
        .map(|entry| (entry.message.0, entry.device))
        .collect();
    if old.is_empty() {
        return Ok(wanted);
    }
    let query = sqlx::query(
        "SELECT i.message, i.device FROM json_each(?1) AS w CROSS JOIN inbox AS i
         ON i.message = w.value ->> 0 AND i.device = w.value ->> 1",
    );
    let found = session.rows(query.bind(json(&old))).await?;
    let there: HashSet<Pair> =
        found.iter().map(|row| Ok((rows::id(row, 0)?, rows::number(row, 1)?))).collect::<Sql<_>>()?;
    wanted.retain(|entry| !there.contains(&(entry.message, entry.device)));
    Ok(wanted)
}

/// Where a waiting entry is.
#[derive(Debug, Clone, Copy)]
enum Place {
    Stored(i64),
    /// Index among the new ones of this group.
    New(usize),
}

/// An entry that may have to go.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    place: Place,
    message: Id,
    size: u64,
    expired: bool,
}

impl Waiting {
    fn ended(&self, device: u64, now_ms: u64) -> Happening {
        Happening {
            pair: (self.message, device),
            what: What::Ended(State::Expired, if self.expired { Reason::Expired } else { Reason::InboxFull }),
            now_ms,
            call: None,
            only_news: false,
            own: true,
        }
    }
}

/// A device's inbox while it is filled.
#[derive(Debug, Default)]
struct Room {
    count: u64,
    bytes: u64,
    /// What may go, in this order: expired ones, then marketing, oldest first.
    spare: VecDeque<Waiting>,
}

impl Room {
    fn fits(&self, size: u64) -> bool {
        self.count < MAX_WAITING && self.bytes + size <= MAX_BYTES
    }

    /// Makes room for an entry; `None` where that cannot be: then nothing goes.
    fn make(&mut self, entry: &NewInbox) -> Option<Vec<Waiting>> {
        let size = u64::from(entry.size);
        let (count, bytes) = (self.count, self.bytes);
        let mut out = Vec::new();
        while !self.fits(size) {
            let Some(waiting) = self.spare.pop_front().filter(|_| size <= MAX_BYTES) else {
                (self.count, self.bytes) = (count, bytes);
                out.into_iter().rev().for_each(|waiting| self.spare.push_front(waiting));
                return None;
            };
            self.count -= 1;
            self.bytes -= waiting.size;
            out.push(waiting);
        }
        Some(out)
    }

    fn add(&mut self, entry: &NewInbox, index: usize) {
        self.count += 1;
        self.bytes += u64::from(entry.size);
        if entry.class == Class::Marketing {
            let place = Place::New(index);
            let size = u64::from(entry.size);
            self.spare.push_back(Waiting { place, message: entry.message, size, expired: false });
        }
    }
}

/// What the devices of a group have waiting; what may go is read only of those that get too full.
async fn rooms(session: &mut Session, wanted: &[&NewInbox], now_ms: u64) -> Sql<HashMap<u64, Room>> {
    let mut more: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for entry in wanted {
        let more = more.entry(entry.device).or_default();
        *more = (more.0 + 1, more.1 + u64::from(entry.size));
    }
    let devices: Vec<u64> = more.keys().copied().collect();
    let query = sqlx::query(
        "SELECT i.device, count(*), sum(i.size) FROM json_each(?1) AS d CROSS JOIN inbox AS i ON i.device = d.value
         GROUP BY i.device",
    );
    let mut rooms = HashMap::with_capacity(devices.len());
    let mut full = Vec::new();
    for row in &session.rows(query.bind(json(&devices))).await? {
        let (device, count, bytes) = (rows::number(row, 0)?, rows::number(row, 1)?, rows::number(row, 2)?);
        let more = more.get(&device).copied().unwrap_or_default();
        if count + more.0 > MAX_WAITING || bytes + more.1 > MAX_BYTES {
            full.push(device);
        }
        rooms.insert(device, Room { count, bytes, spare: VecDeque::new() });
    }
    if full.is_empty() {
        return Ok(rooms);
    }
    let query = sqlx::query(
        "SELECT i.device, i.pos, i.message, i.size, i.expires_at <= ?2 AS expired
         FROM json_each(?1) AS d CROSS JOIN inbox AS i ON i.device = d.value
         WHERE i.class = 1 OR i.expires_at <= ?2 ORDER BY i.device, expired DESC, i.pos",
    );
    for row in &session.rows(query.bind(json(&full)).bind(int(now_ms))).await? {
        let waiting = Waiting {
            place: Place::Stored(row.try_get(1)?),
            message: rows::id(row, 2)?,
            size: rows::number(row, 3)?,
            expired: row.try_get::<i64, _>(4)? != 0,
        };
        rooms.entry(rows::number(row, 0)?).or_default().spare.push_back(waiting);
    }
    Ok(rooms)
}

/// Refusals that no event of the group speaks of; the others turn their event.
fn silent_refusals(batch: &Batch<'_>, refused: &HashSet<Pair>) -> Vec<Happening> {
    if refused.is_empty() {
        return Vec::new();
    }
    let mut silent = refused.clone();
    for event in batch.sets.iter().flat_map(|set| &set.events).filter(|event| event.state == State::Accepted)
    {
        silent.remove(&(event.message, event.target));
    }
    let ended = silent.into_iter().map(|pair| Happening {
        pair,
        what: What::Ended(State::Failed, Reason::InboxFull),
        now_ms: batch.now_ms,
        call: None,
        only_news: false,
        own: true,
    });
    ended.collect()
}

async fn insert(session: &mut Session, positions: &mut Positions, entries: &[&NewInbox]) -> Sql<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let mut position = positions.take(session, entries.len() as u64).await?;
    let head = "INSERT INTO inbox (device, pos, message, class, size, expires_at, variables) ";
    session
        .write_rows(head, "", entries, |row, entry| {
            row.push_bind(int(entry.device))
                .push_bind(int(position))
                .push_bind(entry.message.0)
                .push_bind(rows::class_code(entry.class))
                .push_bind(i64::from(entry.size))
                .push_bind(int(entry.expires_at))
                .push_bind(entry.variables.as_deref());
            position += 1;
        })
        .await
}

/// Deletes entries by (message, device).
pub(super) async fn delete_pairs(session: &mut Session, pairs: &BTreeSet<(i64, u64)>) -> Sql<()> {
    let head =
        "DELETE FROM inbox WHERE (message, device) IN (SELECT value ->> 0, value ->> 1 FROM json_each(";
    session.write_json(head, pairs, "))").await
}

/// Deletes entries by (device, position).
async fn delete_places(session: &mut Session, places: Vec<(u64, i64)>) -> Sql<()> {
    if places.is_empty() {
        return Ok(());
    }
    let head = "DELETE FROM inbox WHERE (device, pos) IN (SELECT value ->> 0, value ->> 1 FROM json_each(";
    session.write_json(head, &places, "))").await
}

/// Marks entries as handed out; the first time counts.
pub(super) async fn hand_out(session: &mut Session, places: &[(u64, i64)], now_ms: u64) -> Sql<()> {
    let query = sqlx::query(
        "UPDATE inbox SET handed_at = ?2 WHERE handed_at IS NULL
         AND (device, pos) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?1))",
    );
    session.run(query.bind(json(places)).bind(int(now_ms))).await.map(drop)
}

/// What a phone asks for: its device, after which position, how many at the most, and at what time.
pub(super) type Wanted = (u64, i64, usize, u64);

/// What waits for a phone that asked, and whether it was handed out before.
pub(super) type Waits = (Wanted, InboxEntry, bool);

/// What waits for phones.
pub(super) const INBOXES: LookUp<(), Wanted, Waits> = LookUp {
    find: |session, (), wanted| Box::pin(waiting(session, wanted)),
    by: |(wanted, ..)| wanted,
    abreast: 32,
};

async fn waiting(session: &mut Session, wanted: &[Wanted]) -> Sql<Vec<Waits>> {
    // Most that connect or poll find nothing: one look for all shows it.
    let query = sqlx::query(
        "SELECT json_group_array(key) FROM json_each(?1) AS w
         WHERE EXISTS (SELECT 1 FROM inbox AS i WHERE i.device = w.value ->> 0 AND i.pos > w.value ->> 1)",
    );
    let some: Vec<usize> = session.array(query.bind(json(wanted))).await?;
    let mut found = Vec::new();
    for wanted in some.into_iter().filter_map(|index| wanted.get(index)) {
        found.extend(waiting_for(session, *wanted).await?);
    }
    Ok(found)
}

async fn waiting_for(session: &mut Session, wanted: Wanted) -> Sql<Vec<Waits>> {
    let (device, after, limit, now_ms) = wanted;
    // A page that was in hand while the user left may have come into the inbox after it: nobody sees it.
    let query = sqlx::query(concat!(
        "SELECT i.pos, i.message, i.class, m.spec, m.created_at, i.expires_at, i.variables, i.handed_at IS NOT NULL
         FROM inbox AS i CROSS JOIN messages AS m ON m.id = i.message
         WHERE i.device = ?1 AND i.pos > ?2 AND i.expires_at > ?3 AND NOT ",
        of_who_left!("(SELECT d.left_at FROM devices AS d WHERE d.seq = ?1)"),
        " ORDER BY i.pos LIMIT ?4"
    ));
    let query = query.bind(int(device)).bind(after).bind(int(now_ms)).bind(limit as i64);
    let found = session.rows(query).await?;
    found.iter().map(|row| Ok((wanted, rows::inbox_entry(row)?, row.try_get::<i64, _>(7)? != 0))).collect()
}
