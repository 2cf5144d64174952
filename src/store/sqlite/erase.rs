//! Erasing: of a device, or of all devices of a user, nothing is left but deliveries under numbers that name nobody.
//!
//! What is deleted is overwritten (`secure_delete`), and the log, which still has what pages were before, is cut to nothing
//! right after ([`super::checkpoint`]).

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::devices::{self, ById, columns, values, write_tags};
use super::places::{self, Move};
use super::session::{Session, Sql, json};
use super::{attrs, audit};
use crate::delivery::expression::Expression;
use crate::delivery::spec::Audience;
use crate::ids::GIVEN_TARGETS;
use crate::store::records::attributes::place;
use crate::store::{Audit, DeviceRecord, WorkKind};

/// A message to more targets than this was for everybody: its text stays, whoever is erased.
const PERSONAL: i64 = 100;

/// Deletes a device with all that is its own.
pub(super) async fn device(session: &mut Session, app: i64, id: &str) -> Sql<bool> {
    let found = devices::by_id(session, app, &[id]).await?;
    let found: Vec<_> = found.into_values().map(|(record, _)| record).collect();
    erase(session, app, &found, None).await.map(|()| !found.is_empty())
}

/// Deletes some devices of a user in the same way; which.
pub(super) async fn of_user(
    session: &mut Session,
    app: i64,
    user: &str,
    limit: usize,
) -> Sql<Vec<(u64, String)>> {
    let query = sqlx::query(concat!(
        "SELECT ",
        columns!(),
        " FROM devices AS d WHERE d.app = ?1 AND d.user_id = ?2 ORDER BY d.seq LIMIT ?3"
    ));
    let found = session.rows(query.bind(app).bind(user).bind(limit as i64)).await?;
    let record = |row| devices::device(row).map(|(record, _)| record);
    let found = found.iter().map(record).collect::<Sql<Vec<_>>>()?;
    erase(session, app, &found, Some(user)).await?;
    if !found.is_empty() {
        let change = Audit::new(app, "user.erase", format!("users/{user}"));
        audit::note(session, &[change.details(serde_json::json!({"devices": found.len()}))]).await?;
    }
    Ok(found.into_iter().map(|record| (record.seq, record.id)).collect())
}

/// What calls name these people by.
struct Named {
    users: Vec<String>,
    devices: Vec<String>,
    tokens: Vec<String>,
}

/// Nothing of these devices is left but deliveries under their numbers. What vendors said of them goes too: it may quote a
/// token.
async fn erase(session: &mut Session, app: i64, erased: &[DeviceRecord], user: Option<&str>) -> Sql<()> {
    if erased.is_empty() {
        return Ok(());
    }
    let numbers = json(&erased.iter().map(|device| device.seq).collect::<Vec<_>>());
    let query = sqlx::query("SELECT token FROM addresses WHERE device IN (SELECT value FROM json_each(?1))");
    let tokens = session.rows(query.bind(&numbers)).await?;
    let named = Named {
        users: user.map(str::to_owned).into_iter().collect(),
        devices: erased.iter().map(|device| device.id.clone()).collect(),
        tokens: tokens.iter().map(|row| row.try_get(0)).collect::<Sql<_>>()?,
    };
    for statement in [
        "DELETE FROM addresses WHERE device IN (SELECT value FROM json_each(?1))",
        "DELETE FROM inbox WHERE device IN (SELECT value FROM json_each(?1))",
        "DELETE FROM devices WHERE seq IN (SELECT value FROM json_each(?1))",
        "UPDATE deliveries SET vendor_id = NULL, trail = NULL
         WHERE target IN (SELECT value FROM json_each(?1)) AND (vendor_id IS NOT NULL OR trail IS NOT NULL)",
    ] {
        session.run(sqlx::query(statement).bind(&numbers)).await?;
    }
    let old: ById = erased.iter().map(|device| (device.id.clone(), (device.clone(), 0))).collect();
    let none = ById::new();
    write_tags(session, app, &old, &none).await?;
    attrs::write(session, app, &values(&old), &values(&none)).await?;
    let moves: Vec<Move> = erased.iter().map(|device| (device.seq, place(&device.profile), None)).collect();
    places::write(session, app, &moves).await?;
    let given = given(session, app, &named).await?;
    contents(session, app, &numbers, &given).await?;
    audiences(session, app, &named).await?;
    session.aftermath().erased = true;
    let change = |device: &DeviceRecord| Audit::new(app, "device.delete", format!("devices/{}", device.id));
    audit::note(session, &erased.iter().map(change).collect::<Vec<_>>()).await
}

/// Forgets what calls gave that names them: tokens, and ids that were unknown; in which messages.
async fn given(session: &mut Session, app: i64, named: &Named) -> Sql<String> {
    let ids: Vec<_> = named.users.iter().chain(&named.devices).collect();
    let mut found = Vec::new();
    for (words, sql) in [
        (
            json(&named.tokens),
            "UPDATE message_targets SET token = NULL, params = NULL, given = NULL WHERE (message, idx) IN
                (SELECT t.message, t.idx FROM json_each(?1) AS j CROSS JOIN message_targets AS t
                    INDEXED BY message_targets_by_token
                    ON substr(t.token, -16) = substr(j.value, -16) AND t.token = j.value
                 CROSS JOIN messages AS m ON m.id = t.message AND m.app = ?2)
             RETURNING message, idx",
        ),
        (
            json(&ids),
            "UPDATE message_targets SET given = NULL WHERE (message, idx) IN
                (SELECT t.message, t.idx FROM json_each(?1) AS j CROSS JOIN message_targets AS t
                    INDEXED BY message_targets_by_given ON t.given = j.value
                 CROSS JOIN messages AS m ON m.id = t.message AND m.app = ?2)
             RETURNING message, idx",
        ),
    ] {
        found.extend(session.rows(sqlx::query(sql).bind(words).bind(app)).await?);
    }
    let pair = |row: &SqliteRow| -> Sql<(i64, i64)> {
        Ok((row.try_get(0)?, row.try_get::<i64, _>(1)? + GIVEN_TARGETS as i64))
    };
    let pairs = found.iter().map(pair).collect::<Sql<Vec<_>>>()?;
    if !pairs.is_empty() {
        let query = sqlx::query(
            "UPDATE deliveries SET vendor_id = NULL, trail = NULL WHERE (message, target) IN
                (SELECT value ->> 0, value ->> 1 FROM json_each(?1))",
        );
        session.run(query.bind(json(&pairs))).await?;
    }
    Ok(json(&pairs.iter().map(|(message, _)| message).collect::<Vec<_>>()))
}

/// Forgets what messages said that went to nobody who is left. The text of a message to others too is theirs as well.
async fn contents(session: &mut Session, app: i64, numbers: &str, given: &str) -> Sql<()> {
    let query = sqlx::query(
        "UPDATE messages SET collapse = NULL, spec = json_remove(spec, '$.content.notification', '$.content.data',
            '$.content.overrides', '$.content.collapse_key', '$.metadata')
         WHERE id IN (SELECT m.id FROM
            (SELECT d.message FROM json_each(?1) AS j CROSS JOIN deliveries AS d
                INDEXED BY deliveries_by_target ON d.target = j.value
             UNION SELECT value FROM json_each(?2)) AS o
            CROSS JOIN messages AS m ON m.id = o.message
            WHERE m.app = ?3 AND m.targeted <= ?4 AND m.expanded_at IS NOT NULL AND json_valid(m.spec)
                AND m.targeted = (SELECT count(*) FROM deliveries AS d WHERE d.message = m.id)
                AND NOT EXISTS (SELECT 1 FROM deliveries AS d
                    LEFT JOIN devices AS v ON v.seq = d.target
                    LEFT JOIN message_targets AS t ON t.message = d.message AND t.idx = d.target - ?5
                    WHERE d.message = m.id
                        AND (v.seq IS NOT NULL OR t.token IS NOT NULL OR t.given IS NOT NULL)))",
    );
    let query = query.bind(numbers).bind(given).bind(app).bind(PERSONAL).bind(GIVEN_TARGETS as i64);
    session.run(query).await.map(drop)
}

/// Takes them out of audiences that are looked up later: scheduled messages, and lists that are being read.
async fn audiences(session: &mut Session, app: i64, named: &Named) -> Sql<()> {
    let query = sqlx::query("SELECT id, payload FROM work WHERE kind = ?1 AND channel = 0 AND app = ?2");
    let found = session.rows(query.bind(i64::from(WorkKind::Expand as u8)).bind(app)).await?;
    for row in &found {
        let payload: &[u8] = row.try_get(1)?;
        // What a newer version wrote is left alone.
        let Ok(mut audience) = serde_json::from_slice::<Audience>(payload) else { continue };
        if !take_out(&mut audience, named) {
            continue;
        }
        let payload = serde_json::to_vec(&audience).unwrap_or_else(|_| payload.to_vec());
        let query = sqlx::query("UPDATE work SET payload = ?2 WHERE id = ?1");
        session.run(query.bind(row.try_get::<i64, _>(0)?).bind(payload)).await?;
    }
    Ok(())
}

/// Whether anybody was in it.
fn take_out(audience: &mut Audience, named: &Named) -> bool {
    let without = |list: &mut Vec<String>, gone: &[String]| {
        let before = list.len();
        list.retain(|id| !gone.contains(id));
        list.len() < before
    };
    match audience {
        Audience::Devices(ids) => without(ids, &named.devices),
        Audience::Users(users) | Audience::Matching { expression: Expression::Users(users), .. } => {
            without(users, &named.users)
        }
        Audience::Addresses(all) => {
            let before = all.len();
            all.retain(|given| !named.tokens.iter().any(|token| given.address.token.expose() == token));
            all.len() < before
        }
        Audience::Matching { .. } => false,
    }
}
