//! Registration keys, and phones that register themselves.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::session::{Session, Sql, int};
use super::{audit, devices, rows};
use crate::store::{Audit, DevicePut, Registered, Registration, RegistrationKeyRecord, Result};

/// How many used nonces are forgotten with each registration, once their token has expired.
const FORGET: i64 = 100;

/// Keeps a key.
pub(super) async fn put_key(session: &mut Session, key: &RegistrationKeyRecord) -> Sql<()> {
    let query = sqlx::query(
        "INSERT INTO registration_keys (id, app, name, algorithm, key, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    );
    let query = query
        .bind(&key.id)
        .bind(key.app)
        .bind(&key.name)
        .bind(i64::from(key.algorithm))
        .bind(&key.key)
        .bind(int(key.created_at));
    session.run(query).await?;
    let change = Audit::new(key.app, "registration_key.create", format!("registration_keys/{}", key.id));
    let shown = serde_json::json!({"name": key.name, "algorithm": key.algorithm});
    audit::note(session, &[change.after(Some(shown))]).await
}

/// A key by id.
pub(super) async fn key(session: &mut Session, id: &str) -> Sql<Option<RegistrationKeyRecord>> {
    let query = sqlx::query(
        "SELECT id, app, name, algorithm, key, created_at, revoked_at FROM registration_keys WHERE id = ?1",
    );
    session.row(query.bind(id)).await?.as_ref().map(record).transpose()
}

/// An app's keys, in order of id.
pub(super) async fn keys(session: &mut Session, app: i64) -> Sql<Vec<RegistrationKeyRecord>> {
    let query = sqlx::query(
        "SELECT id, app, name, algorithm, key, created_at, revoked_at FROM registration_keys
         WHERE app = ?1 ORDER BY id",
    );
    session.rows(query.bind(app)).await?.iter().map(record).collect()
}

/// Revokes a key of an app.
pub(super) async fn revoke(session: &mut Session, app: i64, id: &str, now_ms: u64) -> Sql<bool> {
    let query = sqlx::query(
        "UPDATE registration_keys SET revoked_at = coalesce(revoked_at, ?3) WHERE app = ?1 AND id = ?2",
    );
    let found = session.run(query.bind(app).bind(id).bind(int(now_ms))).await? > 0;
    if found {
        let change = Audit::new(app, "registration_key.revoke", format!("registration_keys/{id}"));
        audit::note(session, &[change]).await?;
    }
    Ok(found)
}

/// Registers a phone: its nonce is used up, the device is made or changed, its secret is new.
pub(super) async fn register(
    session: &mut Session,
    given: &Registration,
    now_ms: u64,
) -> Sql<Result<Registered>> {
    let query = sqlx::query("SELECT username FROM devices WHERE app = ?1 AND id = ?2");
    let known = session.row(query.bind(given.app).bind(&given.device)).await?;
    let name: Option<Option<String>> = known.map(|row| row.try_get(0)).transpose()?;
    if let Some(name) = name.clone().flatten().filter(|name| *name != given.username) {
        return Ok(Ok(Registered::Named(name)));
    }
    let query = sqlx::query(
        "DELETE FROM registration_nonces WHERE (until, key, nonce) IN
            (SELECT until, key, nonce FROM registration_nonces WHERE until <= ?1 ORDER BY until LIMIT ?2)",
    );
    session.run(query.bind(int(now_ms)).bind(FORGET)).await?;
    let query = sqlx::query(
        "INSERT INTO registration_nonces (key, nonce, until) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
    );
    let query = query.bind(&given.key).bind(given.nonce.to_vec()).bind(int(given.until));
    if session.run(query).await? == 0 {
        return Ok(Ok(Registered::Replayed));
    }
    if name.is_none() {
        let new = DevicePut { id: given.device.clone(), enabled: true, ..DevicePut::default() };
        devices::put(session, given.app, &[new], now_ms).await?;
    }
    devices::patch(session, given.app, &given.device, &given.patch, now_ms).await?;
    let change = Audit::new(given.app, "device.register", format!("devices/{}", given.device));
    let by = serde_json::json!({"registration_key": given.key});
    audit::note(session, &[change.details(by)]).await?;
    let made = devices::set_secret(session, given.app, &given.device, &given.username, &given.mac).await?;
    match made {
        Ok(Some(device)) => Ok(Ok(Registered::Done(Box::new(device)))),
        Ok(None) => Err(sqlx::Error::RowNotFound),
        // Takes back what was written here: the nonce stays good.
        Err(_) => Err(sqlx::Error::Decode("a new user name is taken".into())),
    }
}

fn record(row: &SqliteRow) -> Sql<RegistrationKeyRecord> {
    Ok(RegistrationKeyRecord {
        id: row.try_get(0)?,
        app: row.try_get(1)?,
        name: row.try_get(2)?,
        algorithm: rows::number(row, 3)? as u8,
        key: row.try_get(4)?,
        created_at: rows::number(row, 5)?,
        revoked_at: rows::maybe(row, 6)?,
    })
}
