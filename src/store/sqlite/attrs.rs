//! What audiences compare of devices, written by difference.

use std::collections::BTreeMap;

use super::session::{Session, Sql, int, json};
use crate::store::records::attributes::Key;

/// What is bound for a value: numbers and texts as they are, the rest as bytes.
#[derive(Debug, Clone)]
pub(super) enum Bind {
    Int(i64),
    Real(f64),
    Text(String),
    Bytes(Vec<u8>),
}

impl From<Key> for Bind {
    fn from(key: Key) -> Self {
        match key {
            Key::Flag(flag) => Self::Bytes(vec![u8::from(flag)]),
            Key::Int(n) => Self::Int(n),
            Key::Real(n) => Self::Real(n),
            Key::Text(text) => Self::Text(text),
            Key::Version(bytes) => Self::Bytes(bytes),
        }
    }
}

/// The values of devices, by stored name.
pub(super) type Values = BTreeMap<u64, BTreeMap<String, Key>>;

/// Brings the values of these devices from what they were to what they are.
pub(super) async fn write(session: &mut Session, app: i64, old: &Values, new: &Values) -> Sql<()> {
    let none = BTreeMap::new();
    let mut gone = Vec::new();
    for (device, values) in old {
        let kept = new.get(device).unwrap_or(&none);
        gone.extend(values.keys().filter(|name| !kept.contains_key(*name)).map(|name| (name, device)));
    }
    let mut come: Vec<(u64, &str, Bind)> = Vec::new();
    for (device, values) in new {
        let held = old.get(device).unwrap_or(&none);
        let news = values.iter().filter(|(name, value)| held.get(*name) != Some(value));
        come.extend(news.map(|(name, value)| (*device, name.as_str(), value.clone().into())));
    }
    if !gone.is_empty() {
        let query = sqlx::query(
            "DELETE FROM device_attrs WHERE (app, name, device) IN
                (SELECT ?1, value ->> 0, value ->> 1 FROM json_each(?2))",
        );
        session.run(query.bind(app).bind(json(&gone))).await?;
    }
    come.sort_unstable_by(|(d1, n1, _), (d2, n2, _)| (n1, d1).cmp(&(n2, d2)));
    let head = "INSERT INTO device_attrs (app, name, device, value) ";
    let tail = " ON CONFLICT (app, name, device) DO UPDATE SET value = excluded.value";
    session
        .write_rows(head, tail, &come, |row, (device, name, value)| {
            row.push_bind(app).push_bind((*name).to_owned()).push_bind(int(*device));
            match value {
                Bind::Int(n) => row.push_bind(*n),
                Bind::Real(n) => row.push_bind(*n),
                Bind::Text(text) => row.push_bind(text.clone()),
                Bind::Bytes(bytes) => row.push_bind(bytes.clone()),
            };
        })
        .await
}
