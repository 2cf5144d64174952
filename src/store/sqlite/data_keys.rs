//! Keys that secrets are encrypted with, and secrets that are encrypted anew.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::session::{Session, Sql, int};
use crate::store::DataKeyRecord;

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

/// Replaces a channel's sealed secrets unless they changed.
pub(super) async fn reseal_channel(session: &mut Session, seq: i64, old: &[u8], new: &[u8]) -> Sql<bool> {
    let query = sqlx::query("UPDATE channels SET secrets = ?3 WHERE seq = ?1 AND secrets = ?2");
    Ok(session.run(query.bind(seq).bind(old).bind(new)).await? > 0)
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
