//! Devices, read: for the API as they are, for expansion what routing looks at, for dispatch one provider's addresses.
//!
//! CROSS JOIN is SQLite's word for "in this order": left to itself it prefers to walk a whole app in order of number
//! to a few look-ups and a sort.

use anypush_providers::contract::Token;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::addresses::{self, token_hash};
use super::devices::{self, columns};
use super::readers::LookUp;
use super::session::{Session, Sql, int, json};
use super::walk::Walk;
use super::{rows, stats};
use crate::delivery::expression::Expression;
use crate::store::{
    DeviceFilter, DeviceRecord, PhoneRecord, Round, SendAddress, TargetAddress, TargetDevice,
};

/// Numbers of devices that one round of an audience looks at.
const STRETCH: u64 = 250_000;

/// Devices that fit a filter, by number.
pub(super) async fn devices(
    session: &mut Session,
    app: i64,
    filter: &DeviceFilter,
    after: u64,
    limit: usize,
) -> Sql<Vec<DeviceRecord>> {
    let mut query =
        QueryBuilder::<Sqlite>::new(concat!("SELECT ", columns!(), " FROM devices AS d WHERE d.app = "));
    query.push_bind(app);
    query.push(" AND d.seq > ").push_bind(int(after));
    if let Some(id) = &filter.id {
        query.push(" AND d.id = ").push_bind(id);
    }
    if let Some(user) = &filter.user_id {
        query.push(" AND d.user_id = ").push_bind(user);
    }
    if let Some(tag) = &filter.tag {
        query.push(" AND d.seq IN (SELECT device FROM device_tags WHERE app = ").push_bind(app);
        query.push(" AND tag = ").push_bind(tag);
        query.push(" AND device > ").push_bind(int(after)).push(" ORDER BY device");
        if filter.is_only_tag() {
            // A page of a large tag reads a page of it; other conditions are few devices by themselves.
            query.push(" LIMIT ").push_bind(limit as i64);
        }
        query.push(")");
    }
    if let Some(provider) = &filter.provider {
        query.push(" AND d.seq IN (SELECT DISTINCT device FROM addresses WHERE app = ").push_bind(app);
        query.push(" AND provider = ").push_bind(provider);
        query.push(" AND device > ").push_bind(int(after)).push(" AND state = 0 ORDER BY device");
        if filter.is_only_provider() {
            query.push(" LIMIT ").push_bind(limit as i64);
        }
        query.push(")");
    }
    if let Some((provider, token)) = &filter.token {
        // The index has the kind before the hash: its few values are walked one by one.
        query.push(" AND d.seq IN (WITH RECURSIVE k (app, provider, kind) AS (SELECT * FROM (VALUES (");
        query.push_bind(app).push(", ").push_bind(provider);
        query.push(
            ", '')) UNION ALL SELECT k.app, k.provider, (SELECT min(n.kind) FROM addresses AS n
                WHERE n.app = k.app AND n.provider = k.provider AND n.kind > k.kind)
                FROM k WHERE k.kind IS NOT NULL)
             SELECT a.device FROM k CROSS JOIN addresses AS a
             ON a.app = k.app AND a.provider = k.provider AND a.kind = k.kind AND a.token_hash = ",
        );
        query.push_bind(token_hash(token)).push(")");
    }
    query.push(" ORDER BY d.seq LIMIT ").push_bind(limit as i64);
    let found = session.rows(query.build()).await?;
    records(session, &found).await
}

/// Devices with all their addresses, of rows with their columns.
async fn records(session: &mut Session, rows: &[SqliteRow]) -> Sql<Vec<DeviceRecord>> {
    let mut records =
        rows.iter().map(|row| devices::device(row).map(|(record, _)| record)).collect::<Sql<Vec<_>>>()?;
    addresses::attach(session, &mut records).await?;
    Ok(records)
}

/// Devices that connect themselves, by user name.
async fn by_username(session: &mut Session, usernames: &[String]) -> Sql<Vec<PhoneRecord>> {
    let query = sqlx::query(
        "SELECT json_group_array(json_array(d.username, d.seq, d.app, d.id, d.epoch, hex(d.secret_mac)))
         FROM json_each(?1) AS j CROSS JOIN devices AS d ON d.username = j.value
         WHERE d.secret_mac IS NOT NULL",
    );
    let found: Vec<(String, u64, i64, String, u32, String)> =
        session.array(query.bind(json(usernames))).await?;
    let phone = |(username, seq, app, id, epoch, mac): (_, _, _, _, _, String)| {
        Ok(PhoneRecord { username, seq, app, id, epoch, secret_mac: rows::unhex("secret_mac", &mac)? })
    };
    found.into_iter().map(phone).collect()
}

/// The ids of devices by number.
pub(super) async fn ids(session: &mut Session, devices: &[u64]) -> Sql<Vec<(u64, String)>> {
    let query = sqlx::query(
        "SELECT seq, id FROM devices WHERE seq IN (SELECT value FROM json_each(?1)) ORDER BY seq",
    );
    let found = session.rows(query.bind(json(devices))).await?;
    found.iter().map(|row| Ok((rows::number(row, 0)?, row.try_get(1)?))).collect()
}

/// An active address of a device, or that it has none, as [`Session::array`] brings it: number, id, enabled, connects,
/// platform, user; provider, version, kind, parameters, token.
type TargetRow = (
    u64,
    String,
    u8,
    u8,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<u32>,
    Option<String>,
    Option<String>,
    Option<String>,
);

/// Devices by the rows of `j`, with their active addresses, and with their tokens where these are named.
macro_rules! targets {
    ($of:literal, $by:literal) => {
        targets!($of, $by, "NULL")
    };
    ($of:literal, $by:literal, $token:literal) => {
        concat!(
            "SELECT json_group_array(json_array(d.seq, d.id, d.enabled, d.username IS NOT NULL, d.platform, d.user_id,
                a.provider, a.version, a.kind, a.params, ",
            $token,
            "))
             FROM ",
            $of,
            " AS j CROSS JOIN devices AS d ON ",
            $by,
            "
             LEFT JOIN addresses AS a ON a.device = d.seq AND a.state = 0"
        )
    };
}

/// Look-ups of devices and addresses that are made together.
const ABREAST: usize = 256;

/// Devices of an app by id.
pub(super) const TARGETS: LookUp<i64, String, TargetDevice> = LookUp {
    find: |session, app, ids| Box::pin(by_id(session, *app, ids)),
    by: |target| &target.id,
    abreast: ABREAST,
};

/// Devices by user name.
pub(super) const PHONES: LookUp<(), String, PhoneRecord> = LookUp {
    find: |session, (), usernames| Box::pin(by_username(session, usernames)),
    by: |phone| &phone.username,
    abreast: ABREAST,
};

/// Addresses of (app, provider) by device.
pub(super) const ADDRESSES: LookUp<(i64, String), u64, SendAddress> = LookUp {
    find: |session, (app, provider), devices| Box::pin(send_addresses(session, *app, provider, devices)),
    by: |address| &address.device,
    abreast: ABREAST,
};

/// Devices by id, with their tokens.
pub(super) async fn by_id(session: &mut Session, app: i64, ids: &[String]) -> Sql<Vec<TargetDevice>> {
    let query = sqlx::query(targets!("json_each(?2)", "d.app = ?1 AND d.id = j.value", "a.token"));
    targets(session.array(query.bind(app).bind(json(ids))).await?)
}

/// Those of these users who have a device.
pub(super) async fn known_users(session: &mut Session, app: i64, users: &[String]) -> Sql<Vec<String>> {
    let query = sqlx::query(
        "SELECT DISTINCT j.value FROM json_each(?2) AS j
         WHERE EXISTS (SELECT 1 FROM devices AS d WHERE d.app = ?1 AND d.user_id = j.value)",
    );
    let found = session.rows(query.bind(app).bind(json(users))).await?;
    found.iter().map(|row| row.try_get(0)).collect()
}

/// Devices by number.
pub(super) async fn by_number(session: &mut Session, app: i64, devices: &[u64]) -> Sql<Vec<TargetDevice>> {
    let asked = Numbers::new(devices);
    let query = match asked.range {
        Some((first, last)) => sqlx::query(targets!(
            "(SELECT ?2 AS first, ?3 AS last)",
            "+d.app = ?1 AND d.seq BETWEEN j.first AND j.last"
        ))
        .bind(app)
        .bind(first)
        .bind(last),
        None => sqlx::query(targets!("json_each(?2)", "+d.app = ?1 AND d.seq = j.value"))
            .bind(app)
            .bind(json(devices)),
    };
    let mut found: Vec<TargetRow> = session.array(query).await?;
    found.retain(|row| asked.has(row.0));
    targets(found)
}

/// Numbers of devices that are asked for.
struct Numbers {
    sorted: Vec<u64>,
    /// Where they lie close together, the first and the last: their rows are read as one range, not looked for one by one.
    range: Option<(i64, i64)>,
}

impl Numbers {
    /// Fewer are looked for.
    const MANY: usize = 64;

    fn new(devices: &[u64]) -> Self {
        let mut sorted = devices.to_vec();
        sorted.sort_unstable();
        let range = match sorted.as_slice() {
            [first, .., last] if devices.len() >= Self::MANY && last - first < 2 * devices.len() as u64 => {
                Some((int(*first), int(*last)))
            }
            _ => None,
        };
        Self { sorted, range }
    }

    fn has(&self, device: u64) -> bool {
        self.range.is_none() || self.sorted.binary_search(&device).is_ok()
    }
}

/// Devices that fit an expression, by number. Looks at so many numbers at the most: where hardly anybody fits, a caller
/// still gets on, and saves how far.
pub(super) async fn matching(
    session: &mut Session,
    app: i64,
    expression: &Expression,
    after: u64,
    limit: usize,
) -> Sql<Round> {
    let query = sqlx::query("SELECT max(seq) FROM devices WHERE app = ?1");
    let newest: Option<i64> = match session.row(query.bind(app)).await? {
        Some(row) => row.try_get(0)?,
        None => None,
    };
    let end = newest.map_or(0, |seq| seq as u64 + 1);
    let until = end.min(after.saturating_add(1 + STRETCH));
    let mut walk = Walk::new(app, expression, after + 1, until);
    let mut found: Vec<u64> = Vec::new();
    let mut at = after + 1;
    while found.len() < limit && at < until {
        let Some(device) = walk.next(session, at).await? else { break };
        found.push(device);
        at = device + 1;
    }
    let reached = if found.len() < limit { until } else { at };
    let next = (reached < end).then(|| reached - 1);
    Ok(Round { devices: by_number(session, app, &found).await?, next })
}

/// Each device once, in order of number, with its active addresses.
fn targets(mut found: Vec<TargetRow>) -> Sql<Vec<TargetDevice>> {
    found.sort_unstable();
    found.dedup();
    let mut targets: Vec<TargetDevice> = Vec::with_capacity(found.len());
    for (seq, id, enabled, connects, platform, user_id, provider, version, kind, params, token) in found {
        if targets.last().is_none_or(|last| last.seq != seq) {
            let (enabled, connects) = (enabled != 0, connects != 0);
            let platform = platform.map_or(0, |name| stats::platform_code(&name));
            targets.push(TargetDevice {
                seq,
                id,
                enabled,
                connects,
                platform,
                user_id,
                addresses: Vec::new(),
            });
        }
        if let (Some(target), Some(provider), Some(version), Some(kind), Some(params)) =
            (targets.last_mut(), provider, version, kind, params)
        {
            let (params, token) = (rows::params(&params)?, token.map(Token::new));
            target.addresses.push(TargetAddress { provider, version, kind, params, token });
        }
    }
    Ok(targets)
}

/// Active addresses of these devices for one provider, by device and version.
pub(super) async fn send_addresses(
    session: &mut Session,
    app: i64,
    provider: &str,
    devices: &[u64],
) -> Sql<Vec<SendAddress>> {
    let asked = Numbers::new(devices);
    let query = match asked.range {
        Some((first, last)) => sqlx::query(
            "SELECT json_group_array(json_array(device, version, kind, token, params)) FROM addresses
             WHERE app = ?1 AND provider = ?2 AND device BETWEEN ?3 AND ?4 AND state = 0",
        )
        .bind(app)
        .bind(provider)
        .bind(first)
        .bind(last),
        None => sqlx::query(
            "SELECT json_group_array(json_array(device, version, kind, token, params)) FROM addresses
             WHERE app = ?1 AND provider = ?2 AND device IN (SELECT value FROM json_each(?3)) AND state = 0",
        )
        .bind(app)
        .bind(provider)
        .bind(json(devices)),
    };
    let mut found: Vec<(u64, u32, String, String, String)> = session.array(query).await?;
    found.retain(|(device, ..)| asked.has(*device));
    found.sort_unstable();
    let address = |(device, version, kind, token, params): (u64, u32, String, String, String)| {
        Ok(SendAddress { device, version, kind, token, params: rows::params(&params)? })
    };
    found.into_iter().map(address).collect()
}
