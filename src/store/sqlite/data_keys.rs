//! Keys that secrets are encrypted with, and secrets that are encrypted anew.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::session::{Session, Sql, int};
use crate::store::{DataKeyRecord, SealedSecret, SecretHome};

/// All, by number.
pub(super) async fn list(session: &mut Session) -> Sql<Vec<DataKeyRecord>> {
    let query = sqlx::query("SELECT id, purpose, master, wrapped, created_at FROM data_keys ORDER BY id");
    session.rows(query).await?.iter().map(record).collect()
}

/// Adds keys, or replaces how they are wrapped.
pub(super) async fn put(session: &mut Session, keys: &[DataKeyRecord]) -> Sql<()> {
    for key in keys {
        let query = sqlx::query(
            "INSERT INTO data_keys (id, purpose, master, wrapped, created_at) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (id) DO UPDATE SET master = excluded.master, wrapped = excluded.wrapped",
        );
        let query = query.bind(i64::from(key.id)).bind(i64::from(key.purpose)).bind(&key.master[..]);
        session.run(query.bind(&key.wrapped).bind(int(key.created_at))).await?;
    }
    Ok(())
}

/// Forgets keys.
pub(super) async fn delete(session: &mut Session, ids: &[u32]) -> Sql<()> {
    for id in ids {
        session.run(sqlx::query("DELETE FROM data_keys WHERE id = ?1").bind(i64::from(*id))).await?;
    }
    Ok(())
}

/// All sealed secrets.
pub(super) async fn sealed(session: &mut Session) -> Sql<Vec<SealedSecret>> {
    let query = sqlx::query(
        "SELECT 0, app, name, CAST(seq AS TEXT), secrets FROM channels WHERE secrets IS NOT NULL
         UNION ALL SELECT 1, app, public_id, public_id, secrets FROM webhooks
         UNION ALL SELECT 2, app, id, id, key FROM registration_keys WHERE algorithm = 1",
    );
    session.rows(query).await?.iter().map(secret).collect()
}

/// Replaces a sealed secret unless it changed.
pub(super) async fn reseal(session: &mut Session, old: &SealedSecret, new: &[u8]) -> Sql<bool> {
    let query = match old.home {
        SecretHome::Channel => {
            "UPDATE channels SET secrets = ?3 WHERE seq = CAST(?1 AS INTEGER) AND secrets = ?2"
        }
        SecretHome::Webhook => "UPDATE webhooks SET secrets = ?3 WHERE public_id = ?1 AND secrets = ?2",
        SecretHome::RegistrationKey => "UPDATE registration_keys SET key = ?3 WHERE id = ?1 AND key = ?2",
    };
    Ok(session.run(sqlx::query(query).bind(&old.row).bind(&old.sealed).bind(new)).await? > 0)
}

fn secret(row: &SqliteRow) -> Sql<SealedSecret> {
    let home = match row.try_get::<i64, _>(0)? {
        0 => SecretHome::Channel,
        1 => SecretHome::Webhook,
        _ => SecretHome::RegistrationKey,
    };
    Ok(SealedSecret {
        home,
        app: row.try_get(1)?,
        name: row.try_get(2)?,
        row: row.try_get(3)?,
        sealed: row.try_get(4)?,
    })
}

fn record(row: &SqliteRow) -> Sql<DataKeyRecord> {
    let master: Vec<u8> = row.try_get("master")?;
    Ok(DataKeyRecord {
        id: row.try_get::<i64, _>("id")? as u32,
        purpose: row.try_get::<i64, _>("purpose")? as u8,
        master: master.try_into().map_err(|_| sqlx::Error::ColumnDecode {
            index: "master".into(),
            source: "a master key's name has four bytes".into(),
        })?,
        wrapped: row.try_get("wrapped")?,
        created_at: row.try_get::<i64, _>("created_at")? as u64,
    })
}
