//! What is used of vendors' quotas: a row for each quota and period, and for each device where it has its own.

use std::collections::{BTreeMap, HashMap};

use sqlx::Row as _;

use super::changes::Batch;
use super::session::{ROWS, Session, Sql, int, json};
use super::{rows, work};
use crate::store::{QuotaAnswer, QuotaAsk, WorkUpdate};

/// (when the period began, quota, device).
type Key = (u64, i64, i64);

/// Counts a page's targets in their order, each in all quotas or in none, and stores the page with its marks: who is
/// counted and whose page says so are one.
pub(super) async fn use_up(session: &mut Session, ask: &QuotaAsk) -> Sql<QuotaAnswer> {
    let key = |quota: usize, device: i64| -> Key {
        let limit = &ask.quotas[quota];
        (limit.began_at, limit.quota, if limit.per_device { device } else { 0 })
    };
    let mut wanted: Vec<Key> =
        ask.targets.iter().flat_map(|(_, device)| (0..ask.quotas.len()).map(|q| key(q, *device))).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut used = load(session, &wanted).await?;
    let mut page = ask.page.clone();
    let mut refused = Vec::new();
    let mut more: BTreeMap<Key, u64> = BTreeMap::new();
    for (place, device) in &ask.targets {
        let full = |q: &usize| used.get(&key(*q, *device)).copied().unwrap_or(0) >= ask.quotas[*q].limit;
        if let Some(quota) = (0..ask.quotas.len()).find(full) {
            refused.push((*place, quota));
            continue;
        }
        for quota in 0..ask.quotas.len() {
            let key = key(quota, *device);
            *used.entry(key).or_default() += 1;
            *more.entry(key).or_default() += 1;
        }
        if let Some(entry) = page.entries.get_mut(*place) {
            entry.counted = Some(ask.at_ms);
        }
    }
    if !more.is_empty() {
        let rows: Vec<_> = more.into_iter().collect();
        let head = "INSERT INTO quota_use (began_at, quota, device, n) ";
        let tail = " ON CONFLICT (began_at, quota, device) DO UPDATE SET n = n + excluded.n";
        session
            .write_rows(head, tail, &rows, |row, ((began_at, quota, device), n)| {
                row.push_bind(int(*began_at)).push_bind(*quota).push_bind(*device).push_bind(int(*n));
            })
            .await?;
        let item = &ask.item;
        let update = WorkUpdate {
            id: item.id,
            epoch: item.epoch,
            due_at: item.due_at,
            attempt: item.attempt,
            payload: Some(page.encode()),
            lease_until: i64::MAX as u64,
        };
        work::update(session, &[&update]).await?;
    }
    Ok(QuotaAnswer { page, refused })
}

async fn load(session: &mut Session, keys: &[Key]) -> Sql<HashMap<Key, u64>> {
    let mut found = HashMap::new();
    for keys in keys.chunks(ROWS) {
        let query = sqlx::query(
            "SELECT u.began_at, u.quota, u.device, u.n FROM json_each(?1) AS k
             JOIN quota_use AS u ON u.began_at = k.value ->> 0 AND u.quota = k.value ->> 1 AND u.device = k.value ->> 2",
        );
        for row in session.rows(query.bind(json(keys))).await? {
            let key = (rows::number(&row, 0)?, row.try_get(1)?, row.try_get(2)?);
            found.insert(key, rows::number(&row, 3)?);
        }
    }
    Ok(found)
}

/// What is used of quotas in the periods that began then: (quota, n); what is not used at all is left out.
pub(super) async fn used(session: &mut Session, keys: &[(i64, u64)]) -> Sql<Vec<(i64, u64)>> {
    let keys: Vec<Key> = keys.iter().map(|(quota, began_at)| (*began_at, *quota, 0)).collect();
    Ok(load(session, &keys).await?.into_iter().map(|((_, quota, _), n)| (quota, n)).collect())
}

/// Uses that are given back.
pub(super) async fn give_back(session: &mut Session, batch: &Batch<'_>) -> Sql<()> {
    let mut less: BTreeMap<Key, u64> = BTreeMap::new();
    for back in batch.sets.iter().flat_map(|set| &set.quota_back) {
        *less.entry((back.began_at, back.quota, back.device)).or_default() += 1;
    }
    if less.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> =
        less.into_iter().map(|((began_at, quota, device), n)| (began_at, quota, device, n)).collect();
    let head = "UPDATE quota_use SET n = max(0, n - (b.value ->> 3)) FROM json_each(";
    let tail = ") AS b WHERE quota_use.began_at = b.value ->> 0 AND quota_use.quota = b.value ->> 1
           AND quota_use.device = b.value ->> 2";
    session.write_json(head, &rows, tail).await
}

/// Notes until when a vendor calls a quota used up; 0 = it is not any more.
pub(super) async fn close(session: &mut Session, quota: i64, until: u64) -> Sql<()> {
    let query = sqlx::query(
        "INSERT INTO quota_closed (quota, until) VALUES (?1, ?2)
         ON CONFLICT (quota) DO UPDATE SET until = excluded.until",
    );
    session.run(query.bind(quota).bind(int(until))).await.map(drop)
}

/// Quotas that vendors call used up: (number, until when).
pub(super) async fn closed(session: &mut Session, now_ms: u64) -> Sql<Vec<(i64, u64)>> {
    let query = sqlx::query("SELECT quota, until FROM quota_closed WHERE until > ?1");
    let found = session.rows(query.bind(int(now_ms))).await?;
    found.iter().map(|row| Ok((row.try_get(0)?, rows::number(row, 1)?))).collect()
}

/// Forgets some of what was used in periods that began before; how many rows.
pub(super) async fn purge(session: &mut Session, before: u64, limit: usize) -> Sql<u64> {
    let query = sqlx::query(
        "DELETE FROM quota_use WHERE (began_at, quota, device) IN
            (SELECT began_at, quota, device FROM quota_use WHERE began_at < ?1 LIMIT ?2)",
    );
    let gone = session.run(query.bind(int(before)).bind(limit as i64)).await?;
    session.run(sqlx::query("DELETE FROM quota_closed WHERE until < ?1").bind(int(before))).await?;
    Ok(gone)
}
