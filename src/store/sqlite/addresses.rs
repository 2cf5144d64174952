//! Addresses of devices: replaced by difference, one owner per token.

use std::collections::{BTreeMap, HashMap, HashSet};

use aws_lc_rs::digest;

use super::session::{Session, Sql, hex, int, json};
use super::{audience, audit, rows};
use crate::store::{Audit, DeviceRecord, NewAddress, StoredAddress};

/// What is indexed of a token: the first 16 bytes of its SHA-256.
pub(super) fn token_hash(token: &str) -> Vec<u8> {
    digest::digest(&digest::SHA256, token.as_bytes()).as_ref()[..16].to_vec()
}

/// What makes an address one of a kind within an app.
type Key = (String, String, String);

fn key(provider: &str, kind: &str, token: &str) -> Key {
    (provider.into(), kind.into(), token.into())
}

/// An address row's key.
type Row = (String, u64, u32);

/// Gives each device exactly these addresses: (device, its last version, addresses). What it has already and is in
/// use keeps its version; everything else gets a new one, and other devices lose it.
pub(super) async fn replace(
    session: &mut Session,
    app: i64,
    wanted: &[(u64, u32, &[NewAddress])],
    now_ms: u64,
) -> Sql<()> {
    // Of two devices in one call that name one token, the last one gets it.
    let mut owner: HashMap<Key, u64> = HashMap::new();
    for (device, _, addresses) in wanted {
        owner.extend(addresses.iter().map(|a| (key(&a.provider, &a.kind, &a.token), *device)));
    }
    let devices: Vec<u64> = wanted.iter().map(|(device, ..)| *device).collect();
    let mut old: HashMap<(u64, Key), StoredAddress> = HashMap::new();
    for (device, stored) in of_devices(session, &devices).await? {
        old.insert((device, key(&stored.provider, &stored.kind, &stored.token)), stored);
    }
    let mut gone = elsewhere(session, app, &owner, &devices).await?;
    note_moved_inside(session, app, &owner, old.keys()).await?;
    let (mut come, mut kept) = (Vec::new(), Vec::new());
    let mut versions = Vec::new();
    for (device, last, addresses) in wanted {
        let mut version = *last;
        let mut seen = HashSet::new();
        for address in *addresses {
            let name = key(&address.provider, &address.kind, &address.token);
            if owner.get(&name) != Some(device) || !seen.insert(name.clone()) {
                continue;
            }
            let held = old.get(&(*device, name.clone()));
            if held.is_some_and(|held| held.active && held.params == address.params) {
                kept.extend(old.remove(&(*device, name)).map(|held| (held.provider, *device, held.version)));
                continue;
            }
            version += 1;
            come.push((*device, version, address));
        }
        if version != *last {
            versions.push((*device, version));
        }
    }
    gone.extend(old.into_iter().map(|((device, _), stored)| (stored.provider, device, stored.version)));
    delete(session, app, &gone).await?;
    insert(session, app, &come, now_ms).await?;
    name_again(session, app, &kept, now_ms).await?;
    if versions.is_empty() {
        return Ok(());
    }
    let head = "UPDATE devices SET address_version = v.value ->> 1 FROM json_each(";
    session.write_json(head, &versions, ") AS v WHERE devices.seq = v.value ->> 0").await
}

/// The addresses of these devices, in order of device, provider and version.
pub(super) async fn of_devices(session: &mut Session, devices: &[u64]) -> Sql<Vec<(u64, StoredAddress)>> {
    let query = sqlx::query(
        "SELECT a.device, a.provider, a.version, a.kind, a.token, a.params, a.state, a.state_reason
         FROM json_each(?1) AS d CROSS JOIN addresses AS a ON a.device = d.value",
    );
    let found = session.rows(query.bind(json(devices))).await?;
    let mut addresses = found.iter().map(rows::address).collect::<Sql<Vec<_>>>()?;
    addresses.sort_by(|(a, x), (b, y)| (a, &x.provider, x.version).cmp(&(b, &y.provider, y.version)));
    Ok(addresses)
}

/// Whose these tokens are, retired addresses too: (token, device, version).
pub(super) async fn of_tokens(
    session: &mut Session,
    app: i64,
    provider: &str,
    kinds: &[&str],
    tokens: &[String],
) -> Sql<Vec<(String, u64, u32)>> {
    use sqlx::Row as _;
    let asked: Vec<_> = tokens.iter().map(|token| hex(&token_hash(token))).collect();
    let query = sqlx::query(
        "SELECT a.token, a.device, a.version FROM json_each(?3) AS k CROSS JOIN json_each(?4) AS t
         CROSS JOIN addresses AS a
         ON a.app = ?1 AND a.provider = ?2 AND a.kind = k.value AND a.token_hash = unhex(t.value)",
    );
    let query = query.bind(app).bind(provider).bind(json(kinds)).bind(json(&asked));
    let found = session.rows(query).await?;
    found
        .iter()
        .map(|row| Ok((row.try_get(0)?, rows::number(row, 1)?, rows::number(row, 2)? as u32)))
        .collect()
}

/// Fills in the addresses of records.
pub(super) async fn attach(session: &mut Session, records: &mut [DeviceRecord]) -> Sql<()> {
    let devices: Vec<u64> = records.iter().map(|record| record.seq).collect();
    let mut by_device: BTreeMap<u64, Vec<StoredAddress>> = BTreeMap::new();
    for (device, stored) in of_devices(session, &devices).await? {
        by_device.entry(device).or_default().push(stored);
    }
    for record in records {
        record.addresses = by_device.remove(&record.seq).unwrap_or_default();
    }
    Ok(())
}

/// Rows of other devices that hold one of these tokens.
async fn elsewhere(
    session: &mut Session,
    app: i64,
    owner: &HashMap<Key, u64>,
    devices: &[u64],
) -> Sql<Vec<Row>> {
    if owner.is_empty() {
        return Ok(Vec::new());
    }
    let asked: Vec<_> =
        owner.keys().map(|(provider, kind, token)| (provider, kind, hex(&token_hash(token)))).collect();
    let query = sqlx::query(
        "SELECT a.provider, a.device, a.version, a.kind, a.token, d.id
         FROM json_each(?2) AS t CROSS JOIN addresses AS a
         ON a.app = ?1 AND a.provider = t.value ->> 0 AND a.kind = t.value ->> 1
            AND a.token_hash = unhex(t.value ->> 2)
         LEFT JOIN devices AS d ON d.seq = a.device",
    );
    let devices: HashSet<u64> = devices.iter().copied().collect();
    let (mut gone, mut moved) = (Vec::new(), Vec::new());
    for row in &session.rows(query.bind(app).bind(json(&asked))).await? {
        use sqlx::Row as _;
        let device = rows::number(row, 1)?;
        if !devices.contains(&device) {
            let provider: String = row.try_get(0)?;
            let to = owner.get(&key(&provider, row.try_get(3)?, row.try_get(4)?)).copied();
            moved.push((to.unwrap_or(0), provider.clone(), row.try_get::<Option<String>, _>(5)?));
            gone.push((provider, device, rows::number(row, 2)? as u32));
        }
    }
    note_moved(session, app, moved).await?;
    Ok(gone)
}

/// What moves between devices of one call.
async fn note_moved_inside(
    session: &mut Session,
    app: i64,
    owner: &HashMap<Key, u64>,
    held: impl Iterator<Item = &(u64, Key)>,
) -> Sql<()> {
    let mut moved: Vec<(u64, &str, u64)> = held
        .filter_map(|(device, key)| Some((*owner.get(key)?, key.0.as_str(), *device)))
        .filter(|(to, _, from)| to != from)
        .collect();
    if moved.is_empty() {
        return Ok(());
    }
    moved.sort_unstable();
    let from: Vec<u64> = moved.iter().map(|(.., from)| *from).collect();
    let ids: HashMap<u64, String> = audience::ids(session, &from).await?.into_iter().collect();
    let named =
        moved.into_iter().map(|(to, provider, from)| (to, provider.to_owned(), ids.get(&from).cloned()));
    note_moved(session, app, named.collect()).await
}

/// A token under another device may be a phone that was handed on, or one that somebody else wants the messages of:
/// (the device that has it now, provider, the one that had it).
async fn note_moved(session: &mut Session, app: i64, moved: Vec<(u64, String, Option<String>)>) -> Sql<()> {
    if moved.is_empty() {
        return Ok(());
    }
    let now: Vec<u64> = moved.iter().map(|(to, ..)| *to).collect();
    let ids: HashMap<u64, String> = audience::ids(session, &now).await?.into_iter().collect();
    let change = |(to, provider, from): (u64, String, Option<String>)| {
        let object = format!("devices/{}", ids.get(&to).map_or("", String::as_str));
        Audit::new(app, "address.move", object)
            .details(serde_json::json!({"provider": provider, "from": from}))
    };
    audit::note(session, &moved.into_iter().map(change).collect::<Vec<_>>()).await
}

async fn delete(session: &mut Session, app: i64, gone: &[Row]) -> Sql<()> {
    if gone.is_empty() {
        return Ok(());
    }
    let query = sqlx::query(
        "DELETE FROM addresses WHERE (app, provider, device, version) IN
            (SELECT ?1, value ->> 0, value ->> 1, value ->> 2 FROM json_each(?2))",
    );
    session.run(query.bind(app).bind(json(gone))).await.map(drop)
}

/// How exactly it is known when an address was last named: a write for each start of an app would be too many.
const REGISTERED_TO_MS: u64 = 3600 * 1000;

/// Notes that devices have named addresses again that they had.
async fn name_again(session: &mut Session, app: i64, kept: &[Row], now_ms: u64) -> Sql<()> {
    if kept.is_empty() {
        return Ok(());
    }
    let query = sqlx::query(
        "UPDATE addresses SET registered_at = ?3 WHERE registered_at <= ?4
         AND (app, provider, device, version) IN
            (SELECT ?1, value ->> 0, value ->> 1, value ->> 2 FROM json_each(?2))",
    );
    let query = query.bind(app).bind(json(kept)).bind(int(now_ms));
    session.run(query.bind(int(now_ms.saturating_sub(REGISTERED_TO_MS)))).await.map(drop)
}

async fn insert(session: &mut Session, app: i64, come: &[(u64, u32, &NewAddress)], now_ms: u64) -> Sql<()> {
    let head = "INSERT INTO addresses (app, provider, device, version, kind, token, token_hash, params, updated_at, registered_at) ";
    session
        .write_rows(head, "", come, |row, (device, version, address)| {
            row.push_bind(app)
                .push_bind(address.provider.as_str())
                .push_bind(int(*device))
                .push_bind(i64::from(*version))
                .push_bind(address.kind.as_str())
                .push_bind(address.token.as_str())
                .push_bind(token_hash(&address.token))
                .push_bind(json(&address.params))
                .push_bind(int(now_ms))
                .push_bind(int(now_ms));
        })
        .await
}

/// Takes retired addresses back into use. One token has one row, so none can be there twice.
pub(super) async fn restore(
    session: &mut Session,
    app: i64,
    (channel, provider): (&str, &str),
    since_ms: u64,
    now_ms: u64,
) -> Sql<u64> {
    let query = sqlx::query(
        "UPDATE addresses SET state = 0, strikes = 0, state_reason = NULL, updated_at = ?4
         WHERE app = ?1 AND provider = ?2 AND state = 1 AND updated_at >= ?3",
    );
    let restored = session.run(query.bind(app).bind(provider).bind(int(since_ms)).bind(int(now_ms))).await?;
    let told = serde_json::json!({"provider": provider, "since_ms": since_ms, "restored": restored});
    let change = Audit::new(app, "channel.restore_addresses", format!("channels/{channel}")).details(told);
    audit::note(session, &[change]).await?;
    Ok(restored)
}
