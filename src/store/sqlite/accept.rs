//! Accepts of a group: idempotency decided, then all messages in one statement.

use std::collections::{HashMap, HashSet};

use super::rows;
use super::session::{Session, Sql, hex, int, json};
use crate::clock::DAY_MS;
use crate::ids::Id;
use crate::store::{AcceptAnswer, Changes, NewMessage};

/// How long an Idempotency-Key is remembered.
pub(super) const KEY_LIFE_MS: u64 = DAY_MS;
/// How often old keys are looked for, and how many go at a time: pruning must never be felt.
const PRUNE_EVERY_MS: u64 = 60_000;
const PRUNE_ROWS: u64 = 1000;

/// Keys that are known, of those asked for; of one that was used twice the last use comes last.
pub(super) const FIND_KEYS: &str = "SELECT i.app, i.key_hash, i.body_hash, i.message, i.created_at
     FROM json_each(?1) AS k CROSS JOIN idempotency AS i
     ON i.app = k.value ->> 0 AND substr(i.key_hash, 1, 8) = substr(unhex(k.value ->> 1), 1, 8)
        AND i.key_hash = unhex(k.value ->> 1)
     ORDER BY i.message";

/// Who used which key: app and hash.
type Key = (i64, [u8; 32]);

/// What a key stands for.
#[derive(Clone, Copy)]
struct Used {
    body: [u8; 32],
    message: Id,
    created_at: u64,
}

/// What became of a group's accepts.
pub(super) struct Accepted<'j> {
    /// One for each, in order.
    pub(super) answers: Vec<AcceptAnswer>,
    /// The changes of those that were stored.
    pub(super) changes: Vec<&'j Changes>,
    /// Messages that did not exist before this transaction: nothing else can know them yet.
    pub(super) fresh: HashSet<Id>,
}

/// Stores the messages of a group.
pub(super) async fn store<'j>(
    session: &mut Session,
    accepts: &[(&'j NewMessage, &'j Changes)],
    prune_at: &mut u64,
) -> Sql<Accepted<'j>> {
    let mut used = used_keys(session, accepts).await?;
    let mut answers = Vec::with_capacity(accepts.len());
    let mut stored = Vec::with_capacity(accepts.len());
    for &(message, changes) in accepts {
        let answer = answer(&mut used, message);
        if answer == AcceptAnswer::Stored {
            stored.push((message, changes));
        }
        answers.push(answer);
    }
    insert_messages(session, &stored).await?;
    insert_keys(session, &stored, prune_at).await?;
    Ok(Accepted {
        answers,
        fresh: stored.iter().map(|(message, _)| message.id).collect(),
        changes: stored.into_iter().map(|(_, changes)| changes).collect(),
    })
}

impl Used {
    /// What a later call with the same key hears; `None`: so much later that the key is new again.
    fn answer(self, body: [u8; 32], now_ms: u64) -> Option<AcceptAnswer> {
        match self {
            Self { created_at, .. } if created_at + KEY_LIFE_MS <= now_ms => None,
            Self { message: id, created_at, .. } if self.body == body => {
                Some(AcceptAnswer::Replayed { id, created_at })
            }
            _ => Some(AcceptAnswer::KeyReused),
        }
    }
}

/// Decides one accept; what it stores is known to the next of its group.
fn answer(used: &mut HashMap<Key, Used>, message: &NewMessage) -> AcceptAnswer {
    let Some((key, body)) = message.idempotency else { return AcceptAnswer::Stored };
    let key = (message.app, key);
    if let Some(answer) = used.get(&key).and_then(|used| used.answer(body, message.created_at)) {
        return answer;
    }
    used.insert(key, Used { body, message: message.id, created_at: message.created_at });
    AcceptAnswer::Stored
}

/// The keys of a group that were used before, in one read.
async fn used_keys(session: &mut Session, accepts: &[(&NewMessage, &Changes)]) -> Sql<HashMap<Key, Used>> {
    let keys: Vec<(i64, String)> = accepts
        .iter()
        .filter_map(|(message, _)| message.idempotency.map(|(key, _)| (message.app, hex(&key))))
        .collect();
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    find_keys(session, &keys).await
}

/// What a call with this key and body would be answered.
pub(super) async fn used_key(
    session: &mut Session,
    app: i64,
    (key, body): ([u8; 32], [u8; 32]),
    now_ms: u64,
) -> Sql<Option<AcceptAnswer>> {
    let used = find_keys(session, &[(app, hex(&key))]).await?;
    Ok(used.get(&(app, key)).and_then(|used| used.answer(body, now_ms)))
}

async fn find_keys(session: &mut Session, keys: &[(i64, String)]) -> Sql<HashMap<Key, Used>> {
    let found = session.rows(sqlx::query(FIND_KEYS).bind(json(keys))).await?;
    let mut used = HashMap::with_capacity(found.len());
    for row in &found {
        use sqlx::Row as _;
        let entry = Used {
            body: hash(row.try_get(2)?)?,
            message: rows::id(row, 3)?,
            created_at: rows::number(row, 4)?,
        };
        used.insert((row.try_get(0)?, hash(row.try_get(1)?)?), entry);
    }
    Ok(used)
}

fn hash(bytes: &[u8]) -> Sql<[u8; 32]> {
    bytes.try_into().map_err(|_| sqlx::Error::Decode("a stored hash has another length".into()))
}

async fn insert_messages(session: &mut Session, stored: &[(&NewMessage, &Changes)]) -> Sql<()> {
    let head = "INSERT INTO messages
        (id, app, state, class, spec, label, collapse, created_at, deadline_at, send_at, targeted, expanded_at) ";
    session
        .write_rows(head, "", stored, |row, (message, changes)| {
            // What the same call says about its own audience goes in with it: no second statement.
            let (targeted, expanded_at) = growth(changes, message.id);
            row.push_bind(message.id.0)
                .push_bind(message.app)
                .push_bind(i64::from(message.send_at.is_some()))
                .push_bind(rows::class_code(message.class))
                .push_bind(message.spec.as_str())
                .push_bind(message.label.as_deref())
                .push_bind(message.collapse)
                .push_bind(int(message.created_at))
                .push_bind(int(message.deadline_at))
                .push_bind(message.send_at.map(int))
                .push_bind(int(targeted))
                .push_bind(expanded_at.map(int));
        })
        .await
}

fn growth(changes: &Changes, message: Id) -> (u64, Option<u64>) {
    let own = changes.expanded.iter().filter(|(id, ..)| *id == message);
    own.fold((0, None), |(sum, at), (_, more, when)| (sum + more, when.or(at)))
}

async fn insert_keys(
    session: &mut Session,
    stored: &[(&NewMessage, &Changes)],
    prune_at: &mut u64,
) -> Sql<()> {
    let keyed: Vec<_> = stored.iter().filter_map(|(m, _)| m.idempotency.map(|hashes| (*m, hashes))).collect();
    let Some(now) = keyed.iter().map(|(message, _)| message.created_at).max() else { return Ok(()) };
    let head = "INSERT INTO idempotency (message, app, key_hash, body_hash, created_at) ";
    session
        .write_rows(head, "", &keyed, |row, (message, (key, body))| {
            row.push_bind(message.id.0)
                .push_bind(message.app)
                .push_bind(key.to_vec())
                .push_bind(body.to_vec())
                .push_bind(int(message.created_at));
        })
        .await?;
    if now >= *prune_at {
        let gone = prune(session, now.saturating_sub(KEY_LIFE_MS), PRUNE_ROWS as usize).await?;
        // A full chunk means that more wait: go on with the next group.
        *prune_at = if gone < PRUNE_ROWS { now + PRUNE_EVERY_MS } else { now };
    }
    Ok(())
}

/// Forgets some keys from before a time.
pub(super) async fn prune(session: &mut Session, before: u64, limit: usize) -> Sql<u64> {
    let query = sqlx::query(
        "DELETE FROM idempotency WHERE created_at <= ?2 AND message <= (SELECT max(message) FROM
            (SELECT message FROM idempotency WHERE message < ?1 AND created_at <= ?2 ORDER BY message LIMIT ?3))",
    );
    // A message's id is made after its time was taken: what is older by its id is older.
    let bound = Id::floor_at(before.saturating_add(1)).0;
    session.run(query.bind(bound).bind(int(before)).bind(limit as i64)).await
}
