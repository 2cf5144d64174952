//! `/v1/audit`: who changed what.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::auth::Caller;
use super::extract::Query;
use super::problem::Answer;
use crate::app::Gateway;
use crate::clock::rfc3339;
use crate::store::{AuditFilter, AuditRow, sqlite};

/// `GET /v1/audit`: newest first. An admin key sees everything, or with `Anypush-App` one app's.
pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    mut query: Query,
) -> Answer<Json<Value>> {
    let filter = AuditFilter {
        app: caller.any_app(),
        from: query.time("from")?,
        to: query.time("to")?,
        action: query.text("action"),
        object: query.text("object"),
    };
    let page = query.page(&gateway, format!("audit {filter:?}"))?;
    let mut rows = gateway.store.audit(&filter, page.number(), page.limit + 1).await?;
    let next = page.cut(&mut rows, |row| row.seq.to_string());
    let mut data = Vec::with_capacity(rows.len());
    for row in &rows {
        data.push(view(&gateway, &caller, row).await?);
    }
    Ok(page.answer(&gateway, &data, next))
}

async fn view(gateway: &Gateway, caller: &Caller, row: &AuditRow) -> Answer<Value> {
    let app = match row.app {
        Some(app) => gateway.auth.app_by_seq(app).await?.map(|app| app.public_id.clone()),
        None => None,
    };
    let (kind, id) =
        row.actor.split_once(':').map_or((row.actor.as_str(), None), |(kind, id)| (kind, Some(id)));
    let details: Option<Value> = row.details.as_ref().and_then(|text| serde_json::from_str(text).ok());
    // Where the operator sits is no tenant's business.
    let ip = row.ip.as_ref().filter(|_| caller.is_admin() || kind != "admin_key");
    let mut shown = json!({
        "at": rfc3339(row.at),
        "app": app,
        "actor": {"kind": kind, "id": id},
        "action": row.action,
        "object": row.object,
        "before": row.before,
        "after": row.after,
        "details": details,
        "ip": ip,
        "request_id": row.request_id,
    });
    if caller.is_admin() {
        // The chain goes through all apps: its numbers would tell one how busy the others are.
        shown["number"] = row.seq.into();
        shown["hash"] = sqlite::hex(&row.hash).into();
    }
    Ok(shown)
}
