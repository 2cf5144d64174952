//! Categories of apps.

use anypush_providers::contract::Class;
use serde_json::Value;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::session::{Session, Sql, int, json};
use super::{audit, rows};
use crate::store::{Audit, CategoryRecord};

/// Makes or replaces a category. A replaced one keeps its age.
pub(super) async fn put(session: &mut Session, category: &CategoryRecord) -> Sql<(CategoryRecord, bool)> {
    let query = sqlx::query(
        "INSERT INTO categories (app, name, class, providers, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (app, name) DO UPDATE SET class = excluded.class, providers = excluded.providers,
            updated_at = excluded.updated_at
         RETURNING app, name, class, providers, created_at, updated_at",
    );
    let old = find(session, category.app, &category.name).await?;
    let query = query
        .bind(category.app)
        .bind(&category.name)
        .bind(category.class.map(rows::class_code))
        .bind(json(&category.providers))
        .bind(int(category.created_at))
        .bind(int(category.updated_at));
    let found = session.rows(query).await?;
    let stored = record(found.first().ok_or(sqlx::Error::RowNotFound)?)?;
    let change = Audit::new(stored.app, "category.put", format!("categories/{}", stored.name))
        .before(old.as_ref().map(shown))
        .after(Some(shown(&stored)));
    audit::note(session, &[change]).await?;
    Ok((stored, old.is_none()))
}

/// What of a category the audit log has a fingerprint of.
fn shown(category: &CategoryRecord) -> Value {
    serde_json::json!({"class": category.class, "providers": category.providers})
}

/// A category by name.
pub(super) async fn find(session: &mut Session, app: i64, name: &str) -> Sql<Option<CategoryRecord>> {
    let query = sqlx::query(
        "SELECT app, name, class, providers, created_at, updated_at FROM categories
         WHERE app = ?1 AND name = ?2",
    );
    session.row(query.bind(app).bind(name)).await?.as_ref().map(record).transpose()
}

/// Categories after a name, in order of name.
pub(super) async fn list(
    session: &mut Session,
    app: i64,
    after: &str,
    limit: usize,
) -> Sql<Vec<CategoryRecord>> {
    let query = sqlx::query(
        "SELECT app, name, class, providers, created_at, updated_at FROM categories
         WHERE app = ?1 AND name > ?2 ORDER BY name LIMIT ?3",
    );
    session.rows(query.bind(app).bind(after).bind(limit as i64)).await?.iter().map(record).collect()
}

/// Deletes a category.
pub(super) async fn delete(session: &mut Session, app: i64, name: &str) -> Sql<bool> {
    let Some(old) = find(session, app, name).await? else { return Ok(false) };
    let query = sqlx::query("DELETE FROM categories WHERE app = ?1 AND name = ?2");
    session.run(query.bind(app).bind(name)).await?;
    let change = Audit::new(app, "category.delete", format!("categories/{name}")).before(Some(shown(&old)));
    audit::note(session, &[change]).await?;
    Ok(true)
}

fn record(row: &SqliteRow) -> Sql<CategoryRecord> {
    let class: Option<Class> = row.try_get::<Option<i64>, _>(2)?.map(rows::class);
    Ok(CategoryRecord {
        app: row.try_get(0)?,
        name: row.try_get(1)?,
        class,
        providers: rows::from_json(row, 3)?,
        created_at: rows::number(row, 4)?,
        updated_at: rows::number(row, 5)?,
    })
}
