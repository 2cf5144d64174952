//! What happened to deliveries: one read of their rows, the rule applied in memory, one upsert, one move of counters.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use anypush_providers::contract::{Reason, ReceiptEvent, Witness};

use super::changes::Batch;
use super::events::News;
use super::rows;
use super::session::{Session, Sql, int, json};
use super::stats::{self, Moves};
use super::vendor_id;
use super::writer::PhoneSays;
use crate::delivery::state::{self, CounterKey, Delivery, Event, LateFailure, State, View};
use crate::delivery::trail::{self, TrailEntry};
use crate::direct;
use crate::events::Fact;
use crate::ids::Id;
use crate::store::VendorReceipt;

/// Rows that are looked through rather than looked for, or looked for one by one.
const FEW: usize = 64;

/// A delivery's key.
pub(super) type Pair = (Id, u64);

/// Those of a group that find no room in their inbox.
#[derive(Debug, Default)]
pub(super) struct Refused {
    pub(super) pairs: HashSet<Pair>,
    /// Those of them that work was added for.
    pub(super) going: HashSet<Pair>,
}

/// Something that the store itself finds out: a phone's or a vendor's word, or an inbox without room. Unlike an
/// [`Event`] it knows the time of day but not the message's age, and most not the channel; both are read in the same
/// transaction.
#[derive(Debug, Clone)]
pub(super) struct Happening {
    pub(super) pair: Pair,
    pub(super) what: What,
    pub(super) now_ms: u64,
    /// Which phone call it belongs to; `None` = the store's own doing.
    pub(super) call: Option<usize>,
    /// A repeat or a word about an unknown delivery leaves no trace.
    pub(super) only_news: bool,
    /// It concerns the app's own connection, whichever channel has the delivery by now.
    pub(super) own: bool,
}

/// What happened.
#[derive(Debug, Clone)]
pub(super) enum What {
    /// Somebody saw it get this far, through this channel (`None`: the one that last had it).
    Reached(State, Witness, Option<i64>),
    /// The gateway ended it.
    Ended(State, Reason),
    /// A person swiped it away.
    Dismissed(Witness),
    /// This channel says that it failed after all; in the vendor's code and words.
    FailedLater(i64, Reason, Option<String>, Option<String>),
}

/// The deliveries of a group while it is applied.
struct Book<'n> {
    lines: BTreeMap<Pair, Line>,
    moves: Moves,
    news: &'n mut News,
}

/// What is known of a delivery.
#[derive(Default)]
struct Line {
    row: Option<Delivery>,
    /// Whatever becomes of the device: a delivery is counted under the platform that it had at first.
    platform: Option<u8>,
    touched: bool,
}

impl Book<'_> {
    /// Applies an event; answers whether it moved anything.
    fn apply(&mut self, event: &Event) -> bool {
        let line = self.lines.entry((event.message, event.target)).or_default();
        let (row, moves) = state::apply(line.row.take(), event);
        (line.row, line.touched) = (Some(row), true);
        let any = !moves.is_empty();
        let platform = line.platform.unwrap_or(0);
        self.count(moves, (event.target, platform), Some(event.at_ms));
        any
    }

    /// Moves counters. What is told of a delivery is what is counted of it: each state that it reaches, once, and its end.
    fn count(&mut self, moves: Vec<(CounterKey, i64)>, (target, platform): (u64, u8), at_ms: Option<u64>) {
        for (key, by) in moves {
            let pair = (key.message, target);
            if key.view == View::Now {
                self.news.settle(key.message, by);
            }
            let ends = key.view == View::Now && key.state.rank() == State::Failed.rank();
            if let Some(at_ms) = at_ms.filter(|_| by > 0 && (ends || key.view == View::Reached)) {
                self.news.add(None, Fact::delivery(pair, key.state, key.reason, key.channel, at_ms));
            }
            self.moves.add(platform, key, by);
        }
    }

    /// Takes a delivery back onto its route, where that may be.
    fn reenter(&mut self, late: &LateFailure) {
        let Some(line) = self.lines.get_mut(&(late.message, late.target)) else { return };
        if let Some((row, moves)) = line.row.as_ref().and_then(|row| state::reenter(row, late)) {
            (line.row, line.touched) = (Some(row), true);
            let platform = line.platform.unwrap_or(0);
            self.count(moves, (late.target, platform), None);
        }
    }

    fn row(&self, pair: Pair) -> Option<&Delivery> {
        self.lines.get(&pair).and_then(|line| line.row.as_ref())
    }
}

/// Applies events and happenings; answers how many deliveries each phone call changed, and what moved.
pub(super) async fn apply(
    session: &mut Session,
    batch: &Batch<'_>,
    refused: &Refused,
    mut happenings: Vec<Happening>,
    news: &mut News,
) -> Sql<(Vec<u64>, Moves)> {
    happenings.extend(reported(batch));
    happenings.extend(batch.sets.iter().flat_map(|set| &set.receipts).map(returned));
    let mut changed = vec![0; batch.phones.len()];
    let lines = lines(batch, &happenings);
    if lines.is_empty() {
        return Ok((changed, Moves::default()));
    }
    let mut book = Book { lines, moves: Moves::default(), news };
    fill(session, &mut book.lines).await?;
    for event in batch.sets.iter().flat_map(|set| &set.events) {
        let pair = (event.message, event.target);
        if refused.pairs.contains(&pair) && event.state == State::Accepted {
            let event = refusal(event, refused.going.contains(&pair));
            book.moves.tried(&event);
            book.apply(&event);
        } else {
            book.moves.tried(event);
            book.apply(event);
        }
    }
    for late in batch.sets.iter().flat_map(|set| &set.late) {
        book.reenter(late);
    }
    let ages = created_at(session, &happenings).await?;
    let mut left_inbox = BTreeSet::new();
    for happening in &happenings {
        let unknown = (happening.pair.0.unix_ms(), 0);
        let moved = happen(&mut book, happening, ages.get(&happening.pair.0).copied().unwrap_or(unknown));
        if let Some(call) = happening.call {
            // Of what is taken back, entries count: that is how the caller knows when none is left.
            let taken_back = matches!(happening.what, What::Ended(State::Cancelled, _));
            changed[call] += u64::from(moved || taken_back);
            if happening.only_news && book.row(happening.pair).is_some() {
                left_inbox.insert((happening.pair.0.0, happening.pair.1));
            }
        }
    }
    write(session, &book).await?;
    if !left_inbox.is_empty() {
        super::inbox::delete_pairs(session, &left_inbox).await?;
    }
    Ok((changed, book.moves))
}

/// A line for each delivery of a group, with the platform that whoever decided its route has told.
fn lines(batch: &Batch<'_>, happenings: &[Happening]) -> BTreeMap<Pair, Line> {
    let line = |platform| Line { platform, ..Line::default() };
    let events = || batch.sets.iter().flat_map(|set| &set.events);
    let late = batch.sets.iter().flat_map(|set| &set.late).map(|late| (late.message, late.target));
    let silent = events().filter(|event| event.platform.code().is_none());
    let silent = silent.map(|event| (event.message, event.target)).chain(late);
    let silent =
        silent.chain(happenings.iter().map(|happening| happening.pair)).map(|pair| (pair, line(None)));
    let told = events()
        .filter_map(|event| Some(((event.message, event.target), line(Some(event.platform.code()?)))));
    // The last of a pair stays.
    silent.chain(told).collect()
}

/// Reads the rows of these deliveries, and the platforms that are not known: kept in the row, or for a new one the device's.
async fn fill(session: &mut Session, lines: &mut BTreeMap<Pair, Line>) -> Sql<()> {
    for (row, platform) in recorded(session, lines.keys()).await? {
        let line = lines.entry((row.message, row.target)).or_default();
        (line.row, line.platform) = (Some(row), Some(platform));
    }
    let not_known = || lines.iter().filter(|(_, line)| line.platform.is_none());
    let found = platforms(session, &not_known().map(|((_, target), _)| *target).collect()).await?;
    for ((_, target), line) in lines.iter_mut().filter(|(_, line)| line.platform.is_none()) {
        line.platform = found.get(target).copied();
    }
    Ok(())
}

/// What phones report, beyond acknowledging. A phone speaks of delivered and what comes after, of nothing else.
fn reported(batch: &Batch<'_>) -> Vec<Happening> {
    let mut happenings = Vec::new();
    for (call, phone) in batch.phones.iter().enumerate() {
        let PhoneSays::Events(events) = phone.says else { continue };
        for event in events {
            let what = match event.state {
                Some(state @ (State::Delivered | State::Displayed | State::Clicked)) => {
                    What::Reached(state, Witness::Phone, None)
                }
                Some(_) => continue,
                None => What::Dismissed(Witness::Phone),
            };
            let pair = (event.message, phone.device);
            happenings.push(Happening {
                pair,
                what,
                now_ms: phone.now_ms,
                call: Some(call),
                only_news: true,
                own: false,
            });
        }
    }
    happenings
}

/// What a vendor reports.
fn returned(receipt: &VendorReceipt) -> Happening {
    let reached = |state| What::Reached(state, receipt.witness, Some(receipt.channel));
    let what = match receipt.event {
        ReceiptEvent::Delivered => reached(State::Delivered),
        ReceiptEvent::Displayed => reached(State::Displayed),
        ReceiptEvent::Clicked => reached(State::Clicked),
        ReceiptEvent::Dismissed => What::Dismissed(receipt.witness),
        ReceiptEvent::Failed { reason, .. } => {
            let vendor = &receipt.vendor;
            What::FailedLater(receipt.channel, reason, vendor.code.clone(), vendor.words.clone())
        }
    };
    let pair = (receipt.message, receipt.target);
    Happening { pair, what, now_ms: receipt.received_at, call: None, only_news: true, own: false }
}

/// "Stored in the inbox" becomes "no room": the trail keeps how it came to this channel. Where it goes on to a further
/// step it is pending until then; what another channel has stays that channel's.
fn refusal(event: &Event, goes_on: bool) -> Event {
    let mut event = event.clone();
    event.state = if goes_on { State::Pending } else { State::Failed };
    event.reason = Some(Reason::InboxFull);
    for entry in &mut event.trail {
        if let TrailEntry::Attempted { reason: reason @ None, .. } = entry {
            *reason = Some(Reason::InboxFull);
        }
    }
    if !goes_on {
        event.trail.push(TrailEntry::Ended { at_ms: event.at_ms, reason: Reason::InboxFull });
    }
    event
}

/// Turns a happening into an event on its row; `own` is the app's own connection. Answers whether it was news.
fn happen(book: &mut Book<'_>, happening: &Happening, (created_at, own): (u64, i64)) -> bool {
    let (message, target) = happening.pair;
    let row = book.row(happening.pair);
    if happening.only_news && !row.is_some_and(|row| is_news(row, &happening.what)) {
        return false;
    }
    let holder = row.map_or(0, |row| row.channel);
    let own = if own == 0 { holder } else { own };
    if happening.own && matches!(happening.what, What::Ended(..)) && row.is_some() && holder != own {
        // It left the inbox only: a further step of its route has it.
        return false;
    }
    let had_it = if happening.own { own } else { holder };
    let at_ms = happening.now_ms.saturating_sub(created_at);
    let (state, reason, channel, entry) = match happening.what.clone() {
        What::Reached(state, witness, channel) => {
            let channel = channel.unwrap_or(had_it);
            (state, None, channel, TrailEntry::Received { at_ms, channel, state, witness })
        }
        What::Ended(state, reason) => (state, Some(reason), had_it, TrailEntry::Ended { at_ms, reason }),
        // An event without a state: what the row says of itself stays.
        What::Dismissed(witness) => {
            let reason = row.and_then(|row| row.reason);
            (State::Pending, reason, had_it, TrailEntry::Dismissed { at_ms, channel: had_it, witness })
        }
        What::FailedLater(channel, reason, code, words) => {
            let entry = TrailEntry::FailedLater { at_ms, channel, reason, code, words };
            (State::Failed, Some(reason), channel, entry)
        }
    };
    let trail = vec![entry];
    let moved = book.apply(&Event { reason, trail, ..Event::new((message, target), state, channel, at_ms) });
    moved || matches!(happening.what, What::Dismissed(_))
}

/// Whether a row does not say so yet.
fn is_news(row: &Delivery, what: &What) -> bool {
    match what {
        // By its own time column.
        What::Reached(state, ..) => row.reached_ms[usize::from(state.code()) - 1].is_none(),
        What::Ended(state, _) => row.state.rank() < state.rank(),
        What::Dismissed(_) => !trail::is_dismissed(&row.trail),
        // A channel speaks for what it has: not for what went on to another, nor for what was seen or ended since.
        What::FailedLater(channel, ..) => row.state == State::Accepted && row.channel == *channel,
    }
}

/// Targets by message, as statements take them.
fn by_message<'a>(pairs: impl IntoIterator<Item = &'a Pair>) -> BTreeMap<i64, Vec<u64>> {
    let mut targets: BTreeMap<i64, Vec<u64>> = BTreeMap::new();
    for (message, target) in pairs {
        targets.entry(message.0).or_default().push(*target);
    }
    targets
}

/// Those of these pairs that have no row.
pub(super) async fn unrecorded(session: &mut Session, pairs: &BTreeSet<Pair>) -> Sql<Vec<Pair>> {
    let mut asked = by_message(pairs);
    if pairs.len() > FEW {
        // A campaign's receipts mostly come when it is over: its rows need not be looked for one by one.
        let messages: Vec<i64> = asked.keys().copied().collect();
        for message in whole(session, &messages).await? {
            asked.remove(&message);
        }
    }
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let query = sqlx::query(
        "SELECT json_group_array(json_array(CAST(m.key AS INTEGER), t.value))
         FROM json_each(?1) AS m CROSS JOIN json_each(m.value) AS t
         WHERE NOT EXISTS (SELECT 1 FROM deliveries AS d
            WHERE d.message = CAST(m.key AS INTEGER) AND d.target = t.value)",
    );
    let found: Vec<(i64, u64)> = session.array(query.bind(json(&asked))).await?;
    Ok(found.into_iter().map(|(message, target)| (Id(message), target)).collect())
}

/// Those of these messages of which each delivery has its outcome, and so its row.
async fn whole(session: &mut Session, messages: &[i64]) -> Sql<Vec<i64>> {
    let query = sqlx::query(
        "SELECT json_group_array(m.id) FROM json_each(?1) AS a CROSS JOIN messages AS m ON m.id = a.value
         WHERE m.expanded_at IS NOT NULL AND m.targeted = (SELECT coalesce(sum(s.n), 0) FROM message_stats AS s
            WHERE s.message = m.id AND s.kind = 0)",
    );
    session.array(query.bind(json(messages))).await
}

/// The recorded rows of these pairs, which come in order, with the platforms that they are counted under.
pub(super) async fn recorded<'a>(
    session: &mut Session,
    pairs: impl IntoIterator<Item = &'a Pair>,
) -> Sql<Vec<(Delivery, u8)>> {
    let mut asked = by_message(pairs);
    for (message, targets) in &mut asked {
        if targets.len() > FEW {
            leave_out_new(session, *message, targets).await?;
        }
    }
    asked.retain(|_, targets| !targets.is_empty());
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let query = sqlx::query(
        "SELECT json_group_array(json_array(d.message, d.target, d.state, d.reason, d.channel, hex(d.vendor_id), d.updated_ms,
            json_array(d.accepted_ms, d.delivered_ms, d.displayed_ms, d.clicked_ms), hex(d.trail), d.platform))
         FROM json_each(?1) AS m CROSS JOIN json_each(m.value) AS t
            CROSS JOIN deliveries AS d ON d.message = CAST(m.key AS INTEGER) AND d.target = t.value",
    );
    let found = session.array(query.bind(json(&asked))).await?;
    found.into_iter().map(rows::packed_delivery).collect()
}

/// Of the targets of a message, in order, keeps those that have a row, where a short look at the rows between the first and
/// the last shows it: the outcomes of a page mostly are the first of their deliveries.
async fn leave_out_new(session: &mut Session, message: i64, targets: &mut Vec<u64>) -> Sql<()> {
    let [first, .., last] = targets.as_slice() else { return Ok(()) };
    let query = sqlx::query(
        "SELECT json_group_array(target) FROM (
            SELECT target FROM deliveries WHERE message = ?1 AND target BETWEEN ?2 AND ?3 LIMIT ?4)",
    );
    let query = query.bind(message).bind(int(*first)).bind(int(*last)).bind(FEW as i64);
    let between: Vec<u64> = session.array(query).await?;
    if between.len() < FEW {
        targets.retain(|target| between.contains(target));
    }
    Ok(())
}

/// The platforms of devices, as numbers.
async fn platforms(session: &mut Session, devices: &BTreeSet<u64>) -> Sql<HashMap<u64, u8>> {
    if devices.is_empty() {
        return Ok(HashMap::new());
    }
    let query = sqlx::query(
        "SELECT json_group_array(json_array(v.seq, v.platform))
         FROM json_each(?1) AS t CROSS JOIN devices AS v ON v.seq = t.value WHERE v.platform IS NOT NULL",
    );
    let found: Vec<(u64, String)> = session.array(query.bind(json(devices))).await?;
    Ok(found.into_iter().map(|(device, platform)| (device, stats::platform_code(&platform))).collect())
}

/// When the messages of these happenings were made, and the number of their app's own connection.
async fn created_at(session: &mut Session, happenings: &[Happening]) -> Sql<HashMap<Id, (u64, i64)>> {
    let ids: BTreeSet<i64> = happenings.iter().map(|happening| happening.pair.0.0).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let query = sqlx::query(
        "SELECT m.id, m.created_at, coalesce((SELECT c.seq FROM channels AS c
            WHERE c.app = m.app AND c.provider = ?2 AND c.deleted_at IS NULL LIMIT 1), 0)
         FROM messages AS m WHERE m.id IN (SELECT value FROM json_each(?1))",
    );
    let found = session.rows(query.bind(json(&ids)).bind(direct::DESCRIPTOR.id)).await?;
    let read = |row| Ok((rows::id(row, 0)?, (rows::number(row, 1)?, sqlx::Row::try_get(row, 2)?)));
    found.iter().map(read).collect()
}

async fn write(session: &mut Session, book: &Book<'_>) -> Sql<()> {
    let touched = book.lines.values().filter(|line| line.touched);
    let touched: Vec<_> = touched.filter_map(|line| Some((line.row.as_ref()?, line.platform))).collect();
    let head = "INSERT INTO deliveries (message, target, state, reason, channel, vendor_id, updated_ms,
        accepted_ms, delivered_ms, displayed_ms, clicked_ms, trail, platform) ";
    let tail =
        " ON CONFLICT (message, target) DO UPDATE SET state = excluded.state, reason = excluded.reason,
        channel = excluded.channel, vendor_id = excluded.vendor_id, updated_ms = excluded.updated_ms,
        accepted_ms = excluded.accepted_ms, delivered_ms = excluded.delivered_ms,
        displayed_ms = excluded.displayed_ms, clicked_ms = excluded.clicked_ms, trail = excluded.trail";
    session
        .write_rows(head, tail, &touched, |values, (row, platform)| {
            let time = |at: Option<u64>| at.map(int);
            values
                .push_bind(row.message.0)
                .push_bind(int(row.target))
                .push_bind(i64::from(row.state.code()))
                .push_bind(rows::reason_code(row.reason))
                .push_bind(row.channel)
                .push_bind(row.vendor_id.as_deref().map(vendor_id::pack))
                .push_bind(int(row.updated_ms))
                .push_bind(time(row.reached_ms[0]))
                .push_bind(time(row.reached_ms[1]))
                .push_bind(time(row.reached_ms[2]))
                .push_bind(time(row.reached_ms[3]))
                .push_bind((!row.trail.is_empty()).then_some(row.trail.as_slice()))
                .push_bind(i64::from(platform.unwrap_or(0)));
        })
        .await?;
    let counters: Vec<_> = book
        .moves
        .of_messages()
        .into_iter()
        .map(|(key, by)| {
            let reason = rows::reason_code(key.reason).unwrap_or(0);
            (key.message.0, key.channel, key.view as u8, key.state.code(), reason, by)
        })
        .collect();
    if counters.is_empty() {
        return Ok(());
    }
    let head = "INSERT INTO message_stats (message, channel, kind, code, reason, n)
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5 FROM json_each(";
    session.write_json(head, &counters, ") WHERE true ON CONFLICT DO UPDATE SET n = n + excluded.n").await
}
