//! What ops and the console change: apps, keys, channels, facts about the installation.

use serde_json::{Value, json};
use sqlx::Row as _;

use super::events::{self, Taps};
use super::session::{Session, Sql, int, is_taken, json as text};
use super::{audit, rows};
use crate::events::Fact;
use crate::store::{AppRecord, Audit, ChannelRecord, KeyRecord, Result, StoreError};

/// The columns that [`rows::channel`] reads.
macro_rules! channel_columns {
    () => {
        "seq, public_id, app, name, provider, config, secrets, limits, state, state_info, version, created_at,
         updated_at, deleted_at, callback"
    };
}

/// A fact, made where it is missing.
pub(super) async fn meta(session: &mut Session, key: &str, default: &[u8]) -> Sql<Vec<u8>> {
    let query = sqlx::query("INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT DO NOTHING");
    session.run(query.bind(key).bind(default)).await?;
    let row = session.row(sqlx::query("SELECT value FROM meta WHERE key = ?1").bind(key)).await?;
    row.map_or(Ok(Vec::new()), |row| row.try_get(0))
}

/// Makes an app with its direct channel.
pub(super) async fn create_app(
    session: &mut Session,
    name: &str,
    (app_id, channel_id): &(String, String),
    now_ms: u64,
) -> Sql<Result<AppRecord>> {
    let query = sqlx::query(
        "INSERT INTO apps (public_id, name, created_at) VALUES (?1, ?2, ?3)
         RETURNING seq, public_id, name, created_at",
    );
    let app = match session.rows(query.bind(app_id).bind(name).bind(int(now_ms))).await {
        Err(error) if is_taken(&error) => return Ok(Err(StoreError::Exists(format!("app {name}")))),
        found => rows::app(found?.first().ok_or(sqlx::Error::RowNotFound)?)?,
    };
    let query = sqlx::query(
        "INSERT INTO channels (public_id, app, name, provider, config, created_at, updated_at)
         VALUES (?1, ?2, 'direct', 'direct', '{}', ?3, ?3)",
    );
    session.run(query.bind(channel_id).bind(app.seq).bind(int(now_ms))).await?;
    let change = Audit::new(app.seq, "app.create", format!("apps/{app_id}"));
    audit::note(session, &[change.after(Some(json!({"name": name})))]).await?;
    Ok(Ok(app))
}

/// All apps.
pub(super) async fn apps(session: &mut Session) -> Sql<Vec<AppRecord>> {
    let query = sqlx::query("SELECT seq, public_id, name, created_at FROM apps ORDER BY seq");
    session.rows(query).await?.iter().map(rows::app).collect()
}

/// Keeps a key.
pub(super) async fn create_key(session: &mut Session, key: &KeyRecord) -> Sql<Result<()>> {
    let query = sqlx::query(
        "INSERT INTO api_keys (id, app, name, mac, scopes, created_at, expires_at, revoked_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    );
    let query = query
        .bind(&key.id)
        .bind(key.app)
        .bind(&key.name)
        .bind(&key.mac)
        .bind(text(&key.scopes))
        .bind(int(key.created_at))
        .bind(key.expires_at.map(int))
        .bind(key.revoked_at.map(int));
    match session.run(query).await {
        Err(error) if is_taken(&error) => return Ok(Err(StoreError::Exists(format!("key {}", key.id)))),
        other => other?,
    };
    let shown = json!({"name": key.name, "scopes": key.scopes, "expires_at": key.expires_at});
    let change = Audit::new(key.app, "key.create", format!("keys/{}", key.id)).after(Some(shown.clone()));
    audit::note(session, &[change.details(shown)]).await.map(Ok)
}

/// A key by id.
pub(super) async fn key(session: &mut Session, id: &str) -> Sql<Option<KeyRecord>> {
    let query = sqlx::query(
        "SELECT id, app, name, mac, scopes, created_at, expires_at, revoked_at FROM api_keys WHERE id = ?1",
    );
    session.row(query.bind(id)).await?.as_ref().map(rows::key).transpose()
}

/// Keys of an app, or admin keys.
pub(super) async fn keys(session: &mut Session, app: Option<i64>) -> Sql<Vec<KeyRecord>> {
    let query = sqlx::query(
        "SELECT id, app, name, mac, scopes, created_at, expires_at, revoked_at FROM api_keys
         WHERE app IS ?1 ORDER BY id",
    );
    session.rows(query.bind(app)).await?.iter().map(rows::key).collect()
}

/// Revokes a key; the first time counts.
pub(super) async fn revoke_key(session: &mut Session, app: Option<i64>, id: &str, now_ms: u64) -> Sql<bool> {
    let Some(old) = key(session, id).await?.filter(|key| key.app == app) else { return Ok(false) };
    if old.revoked_at.is_none() {
        let query = sqlx::query("UPDATE api_keys SET revoked_at = ?2 WHERE id = ?1");
        session.run(query.bind(id).bind(int(now_ms))).await?;
        audit::note(session, &[Audit::new(app, "key.revoke", format!("keys/{id}"))]).await?;
    }
    Ok(true)
}

/// What of a channel the audit log has a fingerprint of.
fn shown(channel: &ChannelRecord) -> Value {
    json!({"provider": channel.provider, "config": channel.config, "limits": channel.limits})
}

/// An app's channel by name.
async fn channel(session: &mut Session, app: i64, name: &str) -> Sql<Option<ChannelRecord>> {
    let query = sqlx::query(concat!(
        "SELECT ",
        channel_columns!(),
        " FROM channels WHERE app = ?1 AND name = ?2 AND deleted_at IS NULL"
    ));
    session.row(query.bind(app).bind(name)).await?.as_ref().map(rows::channel).transpose()
}

/// Makes or replaces a channel. A replaced one keeps its number, its public id and its age.
pub(super) async fn put_channel(
    session: &mut Session,
    (new, given): &(ChannelRecord, Vec<String>),
) -> Sql<Result<ChannelRecord>> {
    let old = channel(session, new.app, &new.name).await?;
    let query = sqlx::query(concat!(
        "INSERT INTO channels (public_id, app, name, provider, config, secrets, limits, state, state_info,
            created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
         ON CONFLICT (app, name) WHERE deleted_at IS NULL DO UPDATE SET provider = excluded.provider,
            config = excluded.config, secrets = excluded.secrets, limits = excluded.limits, state = excluded.state,
            state_info = excluded.state_info, version = version + 1, updated_at = excluded.updated_at
         RETURNING ",
        channel_columns!()
    ));
    let query = query
        .bind(&new.public_id)
        .bind(new.app)
        .bind(&new.name)
        .bind(&new.provider)
        .bind(text(&new.config))
        .bind(&new.secrets)
        .bind(text(&new.limits))
        .bind(i64::from(new.state))
        .bind(&new.state_info)
        .bind(int(new.created_at))
        .bind(int(new.updated_at));
    let stored = match session.rows(query).await {
        Err(error) if is_taken(&error) => {
            return Ok(Err(StoreError::Exists(format!("channel id {}", new.public_id))));
        }
        found => rows::channel(found?.first().ok_or(sqlx::Error::RowNotFound)?)?,
    };
    let change = Audit::new(new.app, "channel.put", format!("channels/{}", new.name))
        .before(old.as_ref().map(shown))
        .after(Some(shown(&stored)))
        .details(json!({"provider": stored.provider, "version": stored.version, "secrets_given": given}));
    audit::note(session, &[change]).await?;
    Ok(Ok(stored))
}

/// All channels, deleted ones too.
pub(super) async fn channels(session: &mut Session) -> Sql<Vec<ChannelRecord>> {
    let query = sqlx::query(concat!("SELECT ", channel_columns!(), " FROM channels ORDER BY seq"));
    session.rows(query).await?.iter().map(rows::channel).collect()
}

/// Deletes a channel; its row stays for old trails, its secrets do not.
pub(super) async fn delete_channel(session: &mut Session, app: i64, name: &str, now_ms: u64) -> Sql<bool> {
    let Some(old) = channel(session, app, name).await? else { return Ok(false) };
    let query = sqlx::query(
        "UPDATE channels SET deleted_at = ?3, updated_at = ?3, secrets = NULL
         WHERE app = ?1 AND name = ?2 AND deleted_at IS NULL",
    );
    session.run(query.bind(app).bind(name).bind(int(now_ms))).await?;
    let change = Audit::new(app, "channel.delete", format!("channels/{name}")).before(Some(shown(&old)));
    audit::note(session, &[change]).await?;
    Ok(true)
}

/// Makes the secret in a channel's callback URL a new one.
pub(super) async fn rotate_callback(session: &mut Session, app: i64, name: &str, now_ms: u64) -> Sql<bool> {
    let query = sqlx::query(
        "UPDATE channels SET callback = callback + 1, updated_at = ?3
         WHERE app = ?1 AND name = ?2 AND deleted_at IS NULL",
    );
    let found = session.run(query.bind(app).bind(name).bind(int(now_ms))).await? > 0;
    if found {
        let change = Audit::new(app, "channel.rotate_callback", format!("channels/{name}"));
        audit::note(session, &[change]).await?;
    }
    Ok(found)
}

/// Changes a channel's state: why, and what the audit log calls it, where somebody asked for it.
pub(super) async fn set_channel_state(
    session: &mut Session,
    seq: i64,
    state: u8,
    (info, action): (Option<&str>, Option<&'static str>),
    now_ms: u64,
    taps: &Taps,
) -> Sql<()> {
    let before = session.row(sqlx::query("SELECT state FROM channels WHERE seq = ?1").bind(seq)).await?;
    let query = sqlx::query(
        "UPDATE channels SET state = ?2, state_info = ?3, updated_at = ?4 WHERE seq = ?1 RETURNING app, name",
    );
    let query = query.bind(seq).bind(i64::from(state)).bind(info).bind(int(now_ms));
    let found = session.rows(query).await?;
    let (Some(row), Some(before)) = (found.first(), before) else { return Ok(()) };
    let (app, name): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
    if let Some(fact) = Fact::channel(seq, rows::number(&before, 0)? as u8, state, info, now_ms) {
        events::write_one(session, taps, app, fact, now_ms).await?;
    }
    let Some(action) = action else { return Ok(()) };
    let change = Audit::new(app, action, format!("channels/{name}"));
    audit::note(session, &[change.details(json!({"why": info}))]).await
}
