//! Webhooks, and what became of their attempts.

use std::collections::BTreeMap;

use serde_json::Value;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::changes::Batch;
use super::events::News;
use super::session::{Session, Sql, hex, int};
use super::{audit, rows, work};
use crate::events::Fact;
use crate::store::{Audit, NewWork, Signature, WebhookAttempt, WebhookRecord, WorkKind};

/// The columns that [`record`] reads.
macro_rules! columns {
    () => {
        "seq, public_id, app, url, description, kinds, signature, secrets, disabled, disabled_at, failing_since,
         created_at, updated_at"
    };
}

/// How many attempts of a webhook are kept.
const KEPT: i64 = 1000;

/// Makes a webhook (`seq` 0) or changes it; its work is replaced where there is some to begin with. `None`: it is gone.
pub(super) async fn put(
    session: &mut Session,
    webhook: &WebhookRecord,
    work: Option<&NewWork>,
) -> Sql<Option<WebhookRecord>> {
    let sql = if webhook.seq == 0 {
        concat!(
            "INSERT INTO webhooks (public_id, app, url, description, kinds, signature, secrets, disabled, disabled_at,
                failing_since, created_at, updated_at)
             VALUES (?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) RETURNING ",
            columns!()
        )
    } else {
        concat!(
            // Whether it is enabled changes only where that is asked for: the gateway may disable it meanwhile.
            "UPDATE webhooks SET url = ?4, description = ?5, kinds = ?6, signature = ?7, secrets = ?8,
                disabled = iif(?14 OR ?9 IS NOT NULL, ?9, disabled),
                disabled_at = iif(?14 OR ?9 IS NOT NULL, ?10, disabled_at),
                failing_since = iif(?14, ?11, failing_since), updated_at = ?13
             WHERE seq = ?1 AND public_id = ?2 AND app = ?3 AND created_at = ?12 RETURNING ",
            columns!()
        )
    };
    let time = |at: Option<u64>| at.map(int);
    let query = sqlx::query(sql)
        .bind(webhook.seq)
        .bind(&webhook.public_id)
        .bind(webhook.app)
        .bind(&webhook.url)
        .bind(&webhook.description)
        .bind(i64::from(webhook.kinds))
        .bind(webhook.signature as i64)
        .bind(&webhook.secrets)
        .bind(&webhook.disabled)
        .bind(time(webhook.disabled_at))
        .bind(time(webhook.failing_since))
        .bind(int(webhook.created_at))
        .bind(int(webhook.updated_at))
        .bind(work.is_some());
    let old = find(session, webhook.seq).await?;
    let Some(stored) = session.rows(query).await?.first().map(record).transpose()? else { return Ok(None) };
    let change = Audit::new(stored.app, "webhook.put", object(&stored))
        .before(old.as_ref().map(shown))
        .after(Some(shown(&stored)));
    audit::note(session, &[change]).await?;
    if stored.disabled.is_some() || work.is_some() {
        clear(session, stored.seq).await?;
    }
    if let Some(work) = work {
        let work = NewWork { channel: stored.seq, ..work.clone() };
        work::insert(session, &[&work]).await?;
    }
    Ok(Some(stored))
}

fn object(webhook: &WebhookRecord) -> String {
    format!("webhooks/{}", webhook.public_id)
}

/// What of a webhook the audit log has a fingerprint of.
fn shown(webhook: &WebhookRecord) -> Value {
    let WebhookRecord { url, description, kinds, disabled, .. } = webhook;
    // Sealed anew with each secret: a rotation shows, the secret does not.
    let secrets = hex(&webhook.secrets);
    serde_json::json!({"url": url, "description": description, "kinds": kinds, "disabled": disabled, "secrets": secrets})
}

/// Ends what waits for a webhook.
pub(super) async fn clear(session: &mut Session, webhook: i64) -> Sql<()> {
    let query = sqlx::query("DELETE FROM work WHERE kind = ?1 AND channel = ?2 AND lane = 0");
    session.run(query.bind(i64::from(WorkKind::Webhook as u8)).bind(webhook)).await.map(drop)
}

/// Deletes a webhook with its work and attempts.
pub(super) async fn delete(session: &mut Session, app: i64, webhook: i64) -> Sql<bool> {
    let Some(old) = find(session, webhook).await?.filter(|old| old.app == app) else { return Ok(false) };
    session.run(sqlx::query("DELETE FROM webhooks WHERE seq = ?1").bind(webhook)).await?;
    let change = Audit::new(app, "webhook.delete", object(&old)).before(Some(shown(&old)));
    audit::note(session, &[change]).await?;
    clear(session, webhook).await?;
    session.run(sqlx::query("DELETE FROM webhook_attempts WHERE webhook = ?1").bind(webhook)).await?;
    Ok(true)
}

/// All webhooks of an app, or of all apps, by number.
pub(super) async fn list(session: &mut Session, app: Option<i64>) -> Sql<Vec<WebhookRecord>> {
    let query = sqlx::query(concat!(
        "SELECT ",
        columns!(),
        " FROM webhooks WHERE ?1 IS NULL OR app = ?1 ORDER BY seq"
    ));
    session.rows(query.bind(app)).await?.iter().map(record).collect()
}

/// A webhook by number.
pub(super) async fn find(session: &mut Session, webhook: i64) -> Sql<Option<WebhookRecord>> {
    let query = sqlx::query(concat!("SELECT ", columns!(), " FROM webhooks WHERE seq = ?1"));
    session.row(query.bind(webhook)).await?.as_ref().map(record).transpose()
}

/// A webhook's attempts before one, newest first.
pub(super) async fn attempts(
    session: &mut Session,
    webhook: i64,
    before: u64,
    limit: usize,
) -> Sql<Vec<WebhookAttempt>> {
    let query = sqlx::query(
        "SELECT seq, event, kind, attempt, at, latency_ms, status, error, next_at FROM webhook_attempts
         WHERE webhook = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT ?3",
    );
    let found = session.rows(query.bind(webhook).bind(int(before)).bind(limit as i64)).await?;
    let read = |row: &SqliteRow| {
        Ok(WebhookAttempt {
            seq: rows::number(row, 0)?,
            event: rows::number(row, 1)?,
            kind: rows::number(row, 2)? as u8,
            attempt: rows::number(row, 3)? as u32,
            at: rows::number(row, 4)?,
            latency_ms: rows::number(row, 5)?,
            status: rows::maybe(row, 6)?.map(|status| status as u16),
            error: row.try_get(7)?,
            next_at: rows::maybe(row, 8)?,
        })
    };
    found.iter().map(read).collect()
}

/// What became of webhooks in a group.
pub(super) async fn changes(session: &mut Session, batch: &Batch<'_>, news: &mut News) -> Sql<()> {
    let mut attempts: BTreeMap<i64, Vec<&WebhookAttempt>> = BTreeMap::new();
    for change in batch.sets.iter().flat_map(|set| &set.webhooks) {
        attempts.entry(change.webhook).or_default().extend(&change.attempts);
        let query = sqlx::query(
            "UPDATE webhooks SET failing_since = ?2, disabled = ?3, disabled_at = iif(?3 IS NULL, NULL, ?4)
             WHERE seq = ?1 AND disabled IS NULL AND (failing_since IS NOT ?2 OR ?3 IS NOT NULL)
             RETURNING app, public_id",
        );
        let query = query
            .bind(change.webhook)
            .bind(change.failing_since.map(int))
            .bind(&change.disable)
            .bind(int(batch.now_ms));
        let changed = session.rows(query).await?;
        if let (Some(reason), Some(row)) = (&change.disable, changed.first()) {
            clear(session, change.webhook).await?;
            let (app, id): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
            let told = Audit::new(app, "webhook.disable", format!("webhooks/{id}"));
            audit::note(session, &[told.details(serde_json::json!({"why": reason}))]).await?;
            let (webhook, at) = (change.webhook, batch.now_ms);
            news.add(Some(app), Fact::WebhookDisabled { webhook, id, reason: reason.clone(), at });
        }
    }
    for (webhook, attempts) in attempts {
        if !attempts.is_empty() {
            keep(session, webhook, &attempts).await?;
        }
    }
    Ok(())
}

/// Keeps attempts, and forgets the oldest beyond [`KEPT`].
async fn keep(session: &mut Session, webhook: i64, attempts: &[&WebhookAttempt]) -> Sql<()> {
    let query = sqlx::query(
        "SELECT coalesce((SELECT max(a.seq) FROM webhook_attempts AS a WHERE a.webhook = w.seq), 0)
         FROM webhooks AS w WHERE w.seq = ?1",
    );
    // It may have been deleted meanwhile.
    let Some(row) = session.row(query.bind(webhook)).await? else { return Ok(()) };
    let mut seq = rows::number(&row, 0)?;
    let head = "INSERT INTO webhook_attempts
        (webhook, seq, event, kind, attempt, at, latency_ms, status, error, next_at) ";
    session
        .write_rows(head, "", attempts, |row, attempt| {
            seq += 1;
            row.push_bind(webhook)
                .push_bind(int(seq))
                .push_bind(int(attempt.event))
                .push_bind(i64::from(attempt.kind))
                .push_bind(i64::from(attempt.attempt))
                .push_bind(int(attempt.at))
                .push_bind(int(attempt.latency_ms))
                .push_bind(attempt.status.map(i64::from))
                .push_bind(attempt.error.as_deref())
                .push_bind(attempt.next_at.map(int));
        })
        .await?;
    let query = sqlx::query("DELETE FROM webhook_attempts WHERE webhook = ?1 AND seq <= ?2");
    session.run(query.bind(webhook).bind(int(seq) - KEPT)).await.map(drop)
}

fn record(row: &SqliteRow) -> Sql<WebhookRecord> {
    let signature = match row.try_get::<i64, _>(6)? {
        0 => Signature::Hmac,
        1 => Signature::Ed25519,
        other => {
            return Err(sqlx::Error::Decode(format!("signature {other} is unknown to this version").into()));
        }
    };
    Ok(WebhookRecord {
        seq: row.try_get(0)?,
        public_id: row.try_get(1)?,
        app: row.try_get(2)?,
        url: row.try_get(3)?,
        description: row.try_get(4)?,
        kinds: rows::number(row, 5)? as u32,
        signature,
        secrets: row.try_get(7)?,
        disabled: row.try_get(8)?,
        disabled_at: rows::maybe(row, 9)?,
        failing_since: rows::maybe(row, 10)?,
        created_at: rows::number(row, 11)?,
        updated_at: rows::number(row, 12)?,
    })
}
