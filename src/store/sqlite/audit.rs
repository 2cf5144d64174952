//! The audit log: rows beside the change that they tell of, in its transaction.

use aws_lc_rs::{hmac, rand};
use serde_json::Value;
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{ConnectOptions as _, QueryBuilder, Row as _, Sqlite};
use std::path::Path;
use std::sync::Arc;

use super::session::{Session, Sql, hex, int};
use super::{admin, open, rows};
use crate::store::{Audit, AuditChain, AuditFilter, AuditRow};

/// Where the number and hash of the last row are kept, apart from the log.
const HEAD: &str = "audit head";
/// What fingerprints are made with: without it nobody can try out what a short value was.
const SALT: &str = "audit salt";
/// What the removal of old rows is called.
const FORGOTTEN: &str = "audit.forget";
/// Rows of one read of the whole log.
const AT_ONCE: usize = 1000;

macro_rules! columns {
    () => {
        "seq, at, app, actor, action, object, before, after, details, ip, request_id, hash"
    };
}

/// Tells of changes that this transaction makes, in the name of whom the session acts for.
pub(super) async fn note(session: &mut Session, changes: &[Audit]) -> Sql<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut fresh = [0u8; 32];
    rand::fill(&mut fresh).map_err(|_| sqlx::Error::Protocol("the system gives no random bytes".into()))?;
    let salt = hmac::Key::new(hmac::HMAC_SHA256, &admin::meta(session, SALT, &fresh).await?);
    let mut chain = head(session).await?.unwrap_or_default();
    let (actor, at) = session.acts();
    let (who, ip) = (actor.who.to_string(), actor.ip.map(|ip| ip.to_string()));
    let print = |value: &Option<Value>| value.as_ref().map(|value| fingerprint(&salt, value));
    let mut added = Vec::with_capacity(changes.len());
    for change in changes {
        let mut row = AuditRow {
            seq: chain.seq + 1,
            at,
            app: change.app,
            actor: who.clone(),
            action: change.action.to_owned(),
            object: change.object.clone(),
            before: print(&change.before),
            after: print(&change.after),
            details: change.details.as_ref().map(Value::to_string),
            ip: ip.clone(),
            request_id: actor.request_id.clone(),
            hash: Vec::new(),
        };
        row.hash = row.hash_after(&chain.hash);
        chain = AuditChain { seq: row.seq, hash: row.hash.clone() };
        added.push(row);
    }
    insert(session, &added).await?;
    let end = [&chain.seq.to_be_bytes()[..], &chain.hash].concat();
    let query = sqlx::query(
        "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    );
    session.run(query.bind(HEAD).bind(end)).await.map(drop)
}

async fn insert(session: &mut Session, added: &[AuditRow]) -> Sql<()> {
    let head = concat!("INSERT INTO audit (", columns!(), ") ");
    session
        .write_rows(head, "", added, |values, row| {
            values
                .push_bind(int(row.seq))
                .push_bind(int(row.at))
                .push_bind(row.app)
                .push_bind(row.actor.clone())
                .push_bind(row.action.clone())
                .push_bind(row.object.clone())
                .push_bind(row.before.clone())
                .push_bind(row.after.clone())
                .push_bind(row.details.clone())
                .push_bind(row.ip.clone())
                .push_bind(row.request_id.clone())
                .push_bind(row.hash.clone());
        })
        .await
}

/// Tells two things apart and says nothing about either.
fn fingerprint(salt: &hmac::Key, value: &Value) -> String {
    hex(&hmac::sign(salt, value.to_string().as_bytes()).as_ref()[..8])
}

/// What was written last, as it is kept apart from the log.
async fn head(session: &mut Session) -> Sql<Option<AuditChain>> {
    let row = session.row(sqlx::query("SELECT value FROM meta WHERE key = ?1").bind(HEAD)).await?;
    let Some(row) = row else { return Ok(None) };
    let kept: Vec<u8> = row.try_get(0)?;
    let damaged = || sqlx::Error::Decode("the end of the audit log is damaged".into());
    let (seq, hash) = kept.split_first_chunk().ok_or_else(damaged)?;
    Ok(Some(AuditChain { seq: u64::from_be_bytes(*seq), hash: hash.to_vec() }))
}

/// The row that was removed last for its age; nothing where none was.
async fn anchor(session: &mut Session) -> Sql<AuditChain> {
    let row = session.row(sqlx::query("SELECT seq, hash FROM audit_anchor")).await?;
    let read = |row: &SqliteRow| Ok(AuditChain { seq: rows::number(row, 0)?, hash: row.try_get(1)? });
    row.as_ref().map_or_else(|| Ok(AuditChain::default()), read)
}

/// Forgets some of the oldest rows: those from before a time. The chain goes on from the last of them, whose hash stays,
/// and a new row says which are gone. Where nothing but such rows is old, they stay too.
pub(super) async fn forget(session: &mut Session, before: u64, limit: usize) -> Sql<u64> {
    let query = sqlx::query("SELECT seq, at, action, hash FROM audit ORDER BY seq LIMIT ?1");
    let found = session.rows(query.bind(limit as i64)).await?;
    let mut gone = Vec::new();
    let mut is_news = false;
    for row in &found {
        // In their order: a clock that was set back must not tear a hole.
        if rows::number(row, 1)? >= before {
            break;
        }
        is_news |= row.try_get::<&str, _>(2)? != FORGOTTEN;
        gone.push(AuditChain { seq: rows::number(row, 0)?, hash: row.try_get(3)? });
    }
    let Some(last) = gone.last().filter(|_| is_news) else { return Ok(0) };
    let query = sqlx::query(
        "INSERT INTO audit_anchor (only, seq, hash) VALUES (1, ?1, ?2)
         ON CONFLICT (only) DO UPDATE SET seq = excluded.seq, hash = excluded.hash",
    );
    session.run(query.bind(int(last.seq)).bind(&last.hash)).await?;
    let rows = session.run(sqlx::query("DELETE FROM audit WHERE seq <= ?1").bind(int(last.seq))).await?;
    note(session, &[Audit::new(None, FORGOTTEN, "audit").details(told(last, rows))]).await?;
    Ok(rows)
}

/// What the log says of rows that are gone.
fn told(last: &AuditChain, rows: u64) -> Value {
    serde_json::json!({"up_to": last.seq, "hash": hex(&last.hash), "rows": rows})
}

/// Whether a row says that all up to this one were removed.
fn says_so(row: &AuditRow, anchor: &AuditChain) -> bool {
    let details: Value =
        row.details.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    row.action == FORGOTTEN && details["up_to"] == anchor.seq && details["hash"] == hex(&anchor.hash)
}

/// Rows that fit, before one, newest first.
pub(super) async fn list(
    session: &mut Session,
    filter: &AuditFilter,
    before: Option<u64>,
    limit: usize,
) -> Sql<Vec<AuditRow>> {
    let mut query = QueryBuilder::<Sqlite>::new(concat!("SELECT ", columns!(), " FROM audit WHERE seq < "));
    query.push_bind(before.map_or(i64::MAX, int));
    if let Some(app) = filter.app {
        query.push(" AND app = ").push_bind(app);
    }
    if let Some(from) = filter.from {
        query.push(" AND at >= ").push_bind(int(from));
    }
    if let Some(to) = filter.to {
        query.push(" AND at < ").push_bind(int(to));
    }
    if let Some(action) = &filter.action {
        query.push(" AND action = ").push_bind(action);
    }
    if let Some(object) = &filter.object {
        query.push(" AND object = ").push_bind(object);
    }
    query.push(" ORDER BY seq DESC LIMIT ").push_bind(limit as i64);
    session.rows(query.build()).await?.iter().map(record).collect()
}

async fn after(session: &mut Session, seq: u64) -> Sql<Vec<AuditRow>> {
    let query =
        sqlx::query(concat!("SELECT ", columns!(), " FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2"));
    session.rows(query.bind(int(seq)).bind(AT_ONCE as i64)).await?.iter().map(record).collect()
}

/// What a walk through the log came to.
#[derive(Debug, Clone, Default)]
pub struct AuditLog {
    /// Its last row.
    pub end: AuditChain,
    /// The hash of the row that was asked for.
    pub noted: Option<Vec<u8>>,
    /// The last row that was removed for its age; 0 = none was.
    pub forgotten: u64,
}

/// Walks the whole log of a data directory, also while a gateway runs on it: where it ends, the hash of the row `noted`,
/// and what is wrong with it.
pub async fn verify_audit(
    data_dir: &Path,
    noted: Option<u64>,
) -> Result<(AuditLog, Vec<String>), sqlx::Error> {
    let options = SqliteConnectOptions::new().filename(data_dir.join(open::FILE)).read_only(true);
    let mut session = Session::own(options.connect().await?, Arc::default());
    // One moment of it: a row that is added meanwhile belongs to the next look.
    session.frame("BEGIN").await?;
    let anchor = anchor(&mut session).await?;
    let mut is_attested = anchor.seq == 0;
    let mut hash = Some(anchor.hash.clone()).filter(|_| noted == Some(anchor.seq) && anchor.seq > 0);
    let (mut chain, mut findings) = (anchor.clone(), Vec::new());
    loop {
        let rows = after(&mut session, chain.seq).await?;
        if rows.is_empty() {
            break;
        }
        findings.extend(rows.iter().filter_map(|row| chain.next(row)));
        is_attested |= rows.iter().any(|row| says_so(row, &anchor));
        let asked = rows.into_iter().find(|row| Some(row.seq) == noted);
        hash = asked.map(|row| row.hash).or(hash);
    }
    findings.extend(chain.end(head(&mut session).await?.as_ref()));
    if !is_attested {
        findings.push(format!(
            "rows up to {} are gone and no row says that they were removed for their age",
            anchor.seq
        ));
    }
    session.close().await?;
    Ok((AuditLog { end: chain, noted: hash, forgotten: anchor.seq }, findings))
}

fn record(row: &SqliteRow) -> Sql<AuditRow> {
    Ok(AuditRow {
        seq: rows::number(row, 0)?,
        at: rows::number(row, 1)?,
        app: row.try_get(2)?,
        actor: row.try_get(3)?,
        action: row.try_get(4)?,
        object: row.try_get(5)?,
        before: row.try_get(6)?,
        after: row.try_get(7)?,
        details: row.try_get(8)?,
        ip: row.try_get(9)?,
        request_id: row.try_get(10)?,
        hash: row.try_get(11)?,
    })
}
