//! Devices: many made or replaced in few statements, addresses by difference.
//!
//! Tags stand twice: in `device_tags` for audiences, in the profile (under `tags`) for the device itself, because the
//! clustered key of `device_tags` begins with the tag.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::attrs::{self, Values};
use super::places::{self, Move};
use super::session::{Session, Sql, int, is_taken, json};
use super::{addresses, audit, rows};
use crate::store::records::attributes::{keys, place};
use crate::store::{Audit, DevicePatch, DevicePut, DeviceRecord, NewAddress, Result, StoreError};

/// The columns that [`device`] reads.
macro_rules! columns {
    () => {
        "d.seq, d.app, d.id, d.user_id, d.platform, d.enabled, d.profile, d.username, d.secret_mac, d.epoch,
         d.created_at, d.updated_at, d.address_version"
    };
}
pub(super) use columns;

/// A device row without its addresses, and the last address version.
pub(super) fn device(row: &SqliteRow) -> Sql<(DeviceRecord, u32)> {
    let mut profile: BTreeMap<String, Value> = rows::from_json(row, 6)?;
    let tags = profile.remove("tags").and_then(|tags| serde_json::from_value(tags).ok()).unwrap_or_default();
    let record = DeviceRecord {
        seq: rows::number(row, 0)?,
        app: row.try_get(1)?,
        id: row.try_get(2)?,
        user_id: row.try_get(3)?,
        platform: row.try_get(4)?,
        enabled: row.try_get::<i64, _>(5)? != 0,
        tags,
        profile,
        addresses: Vec::new(),
        username: row.try_get(7)?,
        secret_mac: row.try_get(8)?,
        epoch: rows::number(row, 9)? as u32,
        created_at: rows::number(row, 10)?,
        updated_at: rows::number(row, 11)?,
    };
    Ok((record, rows::number(row, 12)? as u32))
}

/// What of a device is written; addresses that are absent stay as they are.
struct Wish {
    put: DevicePut,
    addresses: Option<Vec<NewAddress>>,
}

/// Devices by id, without addresses, with their last address version.
pub(super) async fn by_id(session: &mut Session, app: i64, ids: &[&str]) -> Sql<ById> {
    let query = sqlx::query(concat!(
        "SELECT ",
        columns!(),
        " FROM json_each(?2) AS j CROSS JOIN devices AS d ON d.app = ?1 AND d.id = j.value"
    ));
    let found = session.rows(query.bind(app).bind(json(ids))).await?;
    found.iter().map(|row| device(row).map(|(record, last)| (record.id.clone(), (record, last)))).collect()
}

/// Makes or replaces devices; answers in the order given. Of several with one id the last one holds.
pub(super) async fn put(
    session: &mut Session,
    app: i64,
    devices: &[DevicePut],
    now_ms: u64,
) -> Sql<Vec<DeviceRecord>> {
    let mut last: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, device) in devices.iter().enumerate() {
        last.insert(&device.id, index);
    }
    let mut kept: Vec<usize> = last.into_values().collect();
    kept.sort_unstable();
    let wishes: Vec<Wish> = kept
        .into_iter()
        .map(|index| Wish { put: devices[index].clone(), addresses: Some(devices[index].addresses.clone()) })
        .collect();
    let records = write(session, app, &wishes, now_ms).await?;
    let by_id: HashMap<&str, &DeviceRecord> =
        records.iter().map(|record| (record.id.as_str(), record)).collect();
    Ok(devices.iter().filter_map(|device| by_id.get(device.id.as_str()).copied().cloned()).collect())
}

/// Changes a device.
pub(super) async fn patch(
    session: &mut Session,
    app: i64,
    id: &str,
    patch: &DevicePatch,
    now_ms: u64,
) -> Sql<Option<DeviceRecord>> {
    let Some((old, _)) = by_id(session, app, &[id]).await?.remove(id) else { return Ok(None) };
    let mut profile = old.profile;
    for (key, value) in &patch.profile {
        if value.is_null() {
            profile.remove(key);
        } else {
            profile.insert(key.clone(), value.clone());
        }
    }
    let put = DevicePut {
        id: old.id,
        user_id: patch.user_id.clone().unwrap_or(old.user_id),
        platform: patch.platform.clone().unwrap_or(old.platform),
        enabled: patch.enabled.unwrap_or(old.enabled),
        tags: patch.tags.clone().unwrap_or(old.tags),
        profile,
        addresses: Vec::new(),
    };
    let wish = Wish { put, addresses: patch.addresses.clone() };
    Ok(write(session, app, &[wish], now_ms).await?.pop())
}

/// Writes devices with different ids.
async fn write(session: &mut Session, app: i64, wishes: &[Wish], now_ms: u64) -> Sql<Vec<DeviceRecord>> {
    if wishes.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<&str> = wishes.iter().map(|wish| wish.put.id.as_str()).collect();
    let old = by_id(session, app, &ids).await?;
    upsert(session, app, wishes, now_ms).await?;
    let new = by_id(session, app, &ids).await?;
    let has_left = |(id, (record, _)): &(&String, &(DeviceRecord, u32))| {
        new.get(*id).is_some_and(|(new, _)| record.user_id.is_some() && record.user_id != new.user_id)
    };
    let left = old.iter().filter(has_left).map(|(_, (record, _))| record.seq);
    session.aftermath().left.extend(left);
    write_tags(session, app, &old, &new).await?;
    attrs::write(session, app, &values(&old), &values(&new)).await?;
    places::write(session, app, &moves(&old, &new)).await?;
    let wanted: Vec<(u64, u32, &[NewAddress])> = wishes
        .iter()
        .filter_map(|wish| {
            let (record, last) = new.get(&wish.put.id)?;
            Some((record.seq, *last, wish.addresses.as_deref()?))
        })
        .collect();
    addresses::replace(session, app, &wanted, now_ms).await?;
    let mut records: Vec<DeviceRecord> =
        ids.iter().filter_map(|id| new.get(*id)).map(|(record, _)| record.clone()).collect();
    addresses::attach(session, &mut records).await?;
    Ok(records)
}

async fn upsert(session: &mut Session, app: i64, wishes: &[Wish], now_ms: u64) -> Sql<()> {
    let rows: Vec<_> = wishes
        .iter()
        .map(|Wish { put, .. }| {
            let mut profile = put.profile.clone();
            profile.remove("tags");
            if !put.tags.is_empty() {
                let mut tags = put.tags.clone();
                tags.sort_unstable();
                tags.dedup();
                profile.insert("tags".into(), tags.into());
            }
            (&put.id, &put.user_id, &put.platform, u8::from(put.enabled), json(&profile))
        })
        .collect();
    let query = sqlx::query(
        "INSERT INTO devices (app, id, user_id, platform, enabled, profile, created_at, updated_at)
         SELECT ?1, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, ?3, ?3 FROM json_each(?2)
         WHERE true
         ON CONFLICT (app, id) DO UPDATE SET user_id = excluded.user_id, platform = excluded.platform,
            enabled = excluded.enabled, profile = excluded.profile, updated_at = excluded.updated_at,
            left_at = iif(user_id IS NOT NULL AND user_id IS NOT excluded.user_id, ?3, left_at)",
    );
    session.run(query.bind(app).bind(json(&rows)).bind(int(now_ms))).await.map(drop)
}

/// Devices by id, with their last address version.
pub(super) type ById = HashMap<String, (DeviceRecord, u32)>;

/// What audiences compare of these devices.
pub(super) fn values(records: &ById) -> Values {
    let values = |record: &DeviceRecord| keys(record.platform.as_deref(), &record.profile);
    records.values().map(|(record, _)| (record.seq, values(record))).collect()
}

/// Where these devices were and are.
fn moves(old: &ById, new: &ById) -> Vec<Move> {
    let before = |id: &str| old.get(id).and_then(|(record, _)| place(&record.profile));
    new.iter().map(|(id, (record, _))| (record.seq, before(id), place(&record.profile))).collect()
}

pub(super) async fn write_tags(session: &mut Session, app: i64, old: &ById, new: &ById) -> Sql<()> {
    let pairs = |records: &ById| -> HashSet<(String, u64)> {
        let of = |record: &DeviceRecord| {
            let seq = record.seq;
            record.tags.clone().into_iter().map(move |tag| (tag, seq))
        };
        records.values().flat_map(|(record, _)| of(record)).collect()
    };
    let (old, new) = (pairs(old), pairs(new));
    let gone: Vec<_> = old.difference(&new).collect();
    let come: Vec<_> = new.difference(&old).collect();
    if !gone.is_empty() {
        // By pairs alone SQLite would walk all tags of the app: the first two conditions lead it.
        let query = sqlx::query(
            "DELETE FROM device_tags WHERE app = ?1
                AND tag IN (SELECT value ->> 0 FROM json_each(?2))
                AND device IN (SELECT value ->> 1 FROM json_each(?2))
                AND (+tag, +device) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?2))",
        );
        session.run(query.bind(app).bind(json(&gone))).await?;
    }
    if !come.is_empty() {
        let query = sqlx::query(
            "INSERT INTO device_tags (app, tag, device)
             SELECT ?1, value ->> 0, value ->> 1 FROM json_each(?2) WHERE true ON CONFLICT DO NOTHING",
        );
        session.run(query.bind(app).bind(json(&come))).await?;
    }
    Ok(())
}

/// Sets user name and secret, and bumps the epoch.
pub(super) async fn set_secret(
    session: &mut Session,
    app: i64,
    id: &str,
    username: &str,
    mac: &[u8],
) -> Sql<Result<Option<DeviceRecord>>> {
    let query = sqlx::query(
        "UPDATE devices SET username = coalesce(username, ?3), secret_mac = ?4, epoch = epoch + 1
         WHERE app = ?1 AND id = ?2",
    );
    match session.run(query.bind(app).bind(id).bind(username).bind(mac)).await {
        Err(error) if is_taken(&error) => {
            return Ok(Err(StoreError::Exists(format!("user name {username}"))));
        }
        other => other?,
    };
    let Some((record, _)) = by_id(session, app, &[id]).await?.remove(id) else { return Ok(Ok(None)) };
    audit::note(session, &[Audit::new(app, "device.make_secret", format!("devices/{id}"))]).await?;
    let mut records = vec![record];
    addresses::attach(session, &mut records).await?;
    Ok(Ok(records.pop()))
}
