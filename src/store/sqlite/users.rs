//! Which devices users have left.

use async_trait::async_trait;

use super::session::{Session, Sql, int, json};
use super::{SqliteStore, rows};
use crate::store::{Result, Users};

#[async_trait]
impl Users for SqliteStore {
    async fn left_since(&self, devices: &[u64], since_ms: u64) -> Result<Vec<u64>> {
        self.read(async |s| left_since(s, devices, since_ms).await).await
    }
}

async fn left_since(session: &mut Session, devices: &[u64], since: u64) -> Sql<Vec<u64>> {
    let query = sqlx::query(
        "SELECT d.seq FROM json_each(?1) AS j CROSS JOIN devices AS d ON d.seq = j.value WHERE d.left_at > ?2",
    );
    let found = session.rows(query.bind(json(devices)).bind(int(since))).await?;
    found.iter().map(|row| rows::number(row, 0)).collect()
}
