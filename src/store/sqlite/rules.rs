//! The apps' own rules for routes, and what they ask of devices.

use sqlx::Row as _;

use super::session::{Session, Sql, int, json};
use super::{audit, rows};
use crate::routing::Traits;
use crate::store::{Audit, RulesRecord};

/// Makes or replaces an app's rules.
pub(super) async fn put(session: &mut Session, record: &RulesRecord) -> Sql<()> {
    let query = sqlx::query(
        "INSERT INTO routes (app, rules, updated_at) VALUES (?1, ?2, ?3)
         ON CONFLICT (app) DO UPDATE SET rules = excluded.rules, updated_at = excluded.updated_at",
    );
    let query = query.bind(record.app).bind(json(&record.rules)).bind(int(record.updated_at));
    let old = session.row(sqlx::query("SELECT rules FROM routes WHERE app = ?1").bind(record.app)).await?;
    let old = old.map(|row| rows::from_json(&row, 0)).transpose()?;
    session.run(query).await?;
    let change = Audit::new(record.app, "routes.put", "routes");
    let change = change.before(old).after(serde_json::to_value(&record.rules).ok());
    audit::note(session, &[change]).await
}

/// The rules of all apps that ever had any.
pub(super) async fn all(session: &mut Session) -> Sql<Vec<RulesRecord>> {
    let found = session.rows(sqlx::query("SELECT app, rules, updated_at FROM routes ORDER BY app")).await?;
    let record = |row| {
        Ok(RulesRecord {
            app: sqlx::sqlite::SqliteRow::try_get(row, 0)?,
            rules: rows::from_json(row, 1)?,
            updated_at: rows::number(row, 2)?,
        })
    };
    found.iter().map(record).collect()
}

/// What rules ask of these devices, by number.
pub(super) async fn traits(session: &mut Session, devices: &[u64]) -> Sql<Vec<(u64, Traits)>> {
    let query = sqlx::query(
        "SELECT seq, platform, profile ->> 'manufacturer', profile ->> 'country' FROM devices
         WHERE seq IN (SELECT value FROM json_each(?1)) ORDER BY seq",
    );
    let found = session.rows(query.bind(json(devices))).await?;
    let traits = |row| {
        let text = |column| sqlx::sqlite::SqliteRow::try_get::<Option<String>, _>(row, column);
        let traits = Traits { platform: text(1)?, manufacturer: text(2)?, country: text(3)? };
        Ok((rows::number(row, 0)?, traits))
    };
    found.iter().map(traits).collect()
}
