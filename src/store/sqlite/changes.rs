//! The sets of changes of a group, applied together: one statement for each kind of change, not for each set.

use std::collections::{BTreeMap, HashSet};

use anypush_providers::contract::Reason;
use sqlx::Row as _;

use super::deliveries::{self, Happening, Pair, Refused};
use super::events::{News, Taps};
use super::inbox::{self, Positions};
use super::rows;
use super::session::{Session, Sql, int, json};
use super::stats::{self, Remembered};
use super::work;
use super::writer::PhoneCall;
use super::{events, journal, quotas, webhooks};
use crate::delivery::page::Entry;
use crate::events::Fact;
use crate::ids::Id;
use crate::store::{AddressVerdict, Changes, NewWork, Refusable};

/// What a group brings besides messages.
pub(super) struct Batch<'j> {
    /// Sets of changes, in order.
    pub(super) sets: Vec<&'j Changes>,
    /// Messages that did not exist before this transaction.
    pub(super) fresh: HashSet<Id>,
    /// What phones say, in order.
    pub(super) phones: Vec<PhoneCall<'j>>,
    /// Unix milliseconds.
    pub(super) now_ms: u64,
}

/// Applies everything; answers how many deliveries each phone call changed.
pub(super) async fn apply(
    session: &mut Session,
    positions: &mut Positions,
    remembered: &mut Remembered,
    taps: &Taps,
    batch: &Batch<'_>,
) -> Sql<Vec<u64>> {
    let mut news = News::new(taps);
    insert_targets(session, batch).await?;
    expand(session, batch).await?;
    work_changes(session, batch).await?;
    judge_addresses(session, batch, &mut news).await?;
    journal::delete_done(session, batch).await?;
    quotas::give_back(session, batch).await?;
    let acknowledged = inbox::acknowledged(session, &batch.phones).await?;
    let filled = inbox::fill(session, positions, batch, &acknowledged).await?;
    let mut happenings: Vec<Happening> = acknowledged.into_iter().map(|a| a.happening).collect();
    happenings.extend(filled.ended);
    let refused = refuse(session, batch, filled.refused).await?;
    let (changed, moves) = deliveries::apply(session, batch, &refused, happenings, &mut news).await?;
    stats::apply(session, remembered, batch, &moves).await?;
    webhooks::changes(session, batch, &mut news).await?;
    events::write(session, batch, taps, news).await?;
    Ok(changed)
}

/// Adds the work for those who found no room, where their sets have any.
async fn refuse(session: &mut Session, batch: &Batch<'_>, pairs: HashSet<Pair>) -> Sql<Refused> {
    let mut refused = Refused { pairs, ..Refused::default() };
    if refused.pairs.is_empty() {
        return Ok(refused);
    }
    let mut added = Vec::new();
    for Refusable { work, page } in batch.sets.iter().flat_map(|set| &set.refusable) {
        let is_refused = |entry: &&Entry| refused.pairs.contains(&(work.message, entry.target));
        let entries: Vec<_> = page.entries.iter().filter(is_refused).cloned().collect();
        if !entries.is_empty() {
            refused.going.extend(entries.iter().map(|entry| (work.message, entry.target)));
            added.push(NewWork { payload: page.with(entries).encode(), ..work.clone() });
        }
    }
    work::insert(session, &added.iter().collect::<Vec<_>>()).await?;
    Ok(refused)
}

async fn insert_targets(session: &mut Session, batch: &Batch<'_>) -> Sql<()> {
    let targets: Vec<_> = batch.sets.iter().flat_map(|set| &set.targets).collect();
    let head = "INSERT INTO message_targets (message, idx, provider, kind, token, params, given) ";
    session
        .write_rows(head, "", &targets, |row, (message, index, target)| {
            row.push_bind(message.0)
                .push_bind(int(*index))
                .push_bind(target.provider.as_deref())
                .push_bind(target.kind.as_deref())
                .push_bind(target.token.as_deref())
                .push_bind(target.params.as_deref())
                .push_bind(target.given.as_deref());
        })
        .await
}

/// Audiences that grew. Those of fresh messages went in with them. A scheduled message is being sent from the first
/// part of its audience on.
async fn expand(session: &mut Session, batch: &Batch<'_>) -> Sql<()> {
    let mut grown: BTreeMap<Id, (u64, Option<u64>)> = BTreeMap::new();
    for (message, more, at) in batch.sets.iter().flat_map(|set| &set.expanded) {
        if !batch.fresh.contains(message) {
            let entry = grown.entry(*message).or_default();
            *entry = (entry.0 + more, at.or(entry.1));
        }
    }
    if grown.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = grown.into_iter().map(|(id, (more, at))| (id.0, more, at)).collect();
    let head = "UPDATE messages SET targeted = targeted + (g.value ->> 1),
            expanded_at = coalesce(g.value ->> 2, expanded_at), state = iif(state = 1, 0, state)
         FROM json_each(";
    session.write_json(head, &rows, ") AS g WHERE messages.id = g.value ->> 0").await
}

/// In this order: an item may be added, changed and ended in one group.
async fn work_changes(session: &mut Session, batch: &Batch<'_>) -> Sql<()> {
    let added: Vec<_> = batch.sets.iter().flat_map(|set| &set.work).collect();
    work::insert(session, &added).await?;
    let updates: Vec<_> = batch.sets.iter().flat_map(|set| &set.work_updates).collect();
    work::update(session, &updates).await?;
    let done: Vec<_> = batch.sets.iter().flat_map(|set| set.work_done.iter().copied()).collect();
    if done.is_empty() {
        return Ok(());
    }
    work::delete(session, &done).await
}

/// How long a doubtful word about an address is remembered, and how far a second one must be from it to count: two
/// messages at the same time are one observation.
const STRIKE_LIFE_MS: u64 = 30 * 24 * 3600 * 1000;
const STRIKES_APART_MS: u64 = 60_000;

/// The statement that applies verdicts, and what it gives back. What is said of a time before the last registration is no
/// more than a strike.
macro_rules! judging {
    ($returning:literal) => {
        concat!(
            "UPDATE addresses SET
            state = iif(w.retire OR (w.doubt AND strikes > 0 AND updated_at BETWEEN ?3 AND ?4), 1, 0),
            strikes = CASE WHEN NOT w.doubt THEN strikes WHEN strikes = 0 OR updated_at < ?3 THEN 1
                WHEN updated_at > ?4 THEN strikes ELSE strikes + 1 END,
            updated_at = iif(w.doubt AND strikes > 0 AND updated_at > ?4, updated_at, ?2),
            state_reason = w.reason
         FROM (
            SELECT a.app, a.provider, a.device, a.version, v.value ->> 4 AS reason,
                v.value ->> 5 AND coalesce(a.registered_at < v.value ->> 7, TRUE) AS retire,
                v.value ->> 6 OR (v.value ->> 5 AND coalesce(a.registered_at >= v.value ->> 7, FALSE)) AS doubt
            FROM json_each(?1) AS v CROSS JOIN addresses AS a
            ON a.app = v.value ->> 0 AND a.provider = v.value ->> 1 AND a.device = v.value ->> 2
                AND a.version = v.value ->> 3 AND a.state = 0) AS w
         WHERE addresses.app = w.app AND addresses.provider = w.provider
           AND addresses.device = w.device AND addresses.version = w.version",
            $returning
        )
    };
}

/// What vendors say about addresses: definite words retire at once, doubtful ones with the second strike. The version must be the one that was sent to; one that is retired stays so.
async fn judge_addresses(session: &mut Session, batch: &Batch<'_>, news: &mut News) -> Sql<()> {
    /// (app, provider, device, version).
    type Of<'a> = (i64, &'a str, u64, u32);
    let mut judged: BTreeMap<Of<'_>, (Reason, bool, Option<u64>)> = BTreeMap::new();
    for AddressVerdict { app, provider, device, version, reason, retire, since } in
        batch.sets.iter().flat_map(|set| &set.addresses)
    {
        let word = (*reason, *retire, *since);
        let entry = judged.entry((*app, provider, *device, *version)).or_insert(word);
        if *retire || !entry.1 {
            *entry = word;
        }
    }
    if judged.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = judged
        .into_iter()
        .map(|((app, provider, device, version), (reason, retire, since))| {
            let doubt = reason == Reason::InvalidToken && !retire;
            (app, provider, device, version, reason.code(), u8::from(retire), u8::from(doubt), since)
        })
        .collect();
    let now = batch.now_ms;
    let (oldest, newest) = (now.saturating_sub(STRIKE_LIFE_MS), now.saturating_sub(STRIKES_APART_MS));
    let bound = |sql: &'static str| {
        sqlx::query(sql).bind(json(&rows)).bind(int(now)).bind(int(oldest)).bind(int(newest))
    };
    if !news.is_open() {
        return session.run(bound(judging!(""))).await.map(drop);
    }
    // What was retired is read back only where somebody may want to hear of it.
    for row in session.rows(bound(judging!(" RETURNING app, device, provider, state, state_reason"))).await? {
        if row.try_get::<i64, _>(3)? == 1 {
            let reason = rows::maybe(&row, 4)?.unwrap_or_default() as u8;
            let (device, provider) = (rows::number(&row, 1)?, row.try_get(2)?);
            news.add(Some(row.try_get(0)?), Fact::AddressRetired { device, provider, reason, at: now });
        }
    }
    Ok(())
}
