//! Rows as records. A number that this program does not know was written by a newer one: an error, never a guess.

use std::collections::BTreeMap;

use anypush_providers::contract::{Class, Reason};
use bytes::Bytes;
use data_encoding::HEXUPPER;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::session::Sql;
use super::vendor_id;
use crate::delivery::state::{Delivery, State, View};
use crate::ids::Id;
use crate::store::{
    AppRecord, ChannelRecord, Counter, InboxEntry, KeyRecord, MessageRecord, RawReceipt, StoredAddress,
    WorkItem, WorkKind, WorkLane,
};

/// An error for a column that makes no sense.
pub(super) fn odd(what: &str, value: impl std::fmt::Display) -> sqlx::Error {
    sqlx::Error::Decode(format!("{what} {value} is unknown to this version").into())
}

/// A time or a number that is never negative.
pub(super) fn number(row: &SqliteRow, column: usize) -> Sql<u64> {
    Ok(row.try_get::<i64, _>(column)? as u64)
}

/// The same, or nothing.
pub(super) fn maybe(row: &SqliteRow, column: usize) -> Sql<Option<u64>> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(|n| n as u64))
}

/// An id.
pub(super) fn id(row: &SqliteRow, column: usize) -> Sql<Id> {
    Ok(Id(row.try_get(column)?))
}

/// A JSON column.
pub(super) fn from_json<T: DeserializeOwned>(row: &SqliteRow, column: usize) -> Sql<T> {
    parsed(row.try_get(column)?)
}

/// A text that is JSON.
pub(super) fn parsed<T: DeserializeOwned>(text: &str) -> Sql<T> {
    serde_json::from_str(text).map_err(|error| sqlx::Error::Decode(error.into()))
}

pub(super) fn state(code: i64) -> Sql<State> {
    u8::try_from(code).ok().and_then(State::from_code).ok_or_else(|| odd("state", code))
}

pub(super) fn reason(code: i64) -> Sql<Reason> {
    u8::try_from(code).ok().and_then(Reason::from_code).ok_or_else(|| odd("reason", code))
}

/// The number of a class.
pub(super) fn class_code(class: Class) -> i64 {
    match class {
        Class::Transactional => 0,
        Class::Marketing => 1,
    }
}

/// A class by number.
pub(super) fn class(code: i64) -> Class {
    if code == 0 { Class::Transactional } else { Class::Marketing }
}

/// The number of a reason.
pub(super) fn reason_code(reason: Option<Reason>) -> Option<i64> {
    reason.map(|reason| i64::from(reason.code()))
}

/// The columns that [`delivery`] reads; the same list stands in the statements.
pub(super) fn delivery(row: &SqliteRow) -> Sql<Delivery> {
    let reason_code: Option<i64> = row.try_get(3)?;
    Ok(Delivery {
        message: id(row, 0)?,
        target: number(row, 1)?,
        state: state(row.try_get(2)?)?,
        reason: reason_code.map(reason).transpose()?,
        channel: row.try_get(4)?,
        vendor_id: row.try_get::<Option<&[u8]>, _>(5)?.and_then(vendor_id::unpack),
        updated_ms: number(row, 6)?,
        reached_ms: [maybe(row, 7)?, maybe(row, 8)?, maybe(row, 9)?, maybe(row, 10)?],
        trail: row.try_get::<Option<Vec<u8>>, _>(11)?.unwrap_or_default(),
    })
}

/// A delivery and its platform as [`Session::array`] brings them: the columns of [`delivery`], the vendor's id and the
/// trail in hexadecimal, the platform.
///
/// [`Session::array`]: super::session::Session::array
#[derive(Deserialize)]
pub(super) struct PackedDelivery(
    i64,
    u64,
    i64,
    Option<i64>,
    i64,
    Option<String>,
    u64,
    [Option<u64>; 4],
    Option<String>,
    u8,
);

/// What `hex` made of a column.
pub(super) fn unhex(what: &'static str, hex: &str) -> Sql<Vec<u8>> {
    HEXUPPER.decode(hex.as_bytes()).map_err(|error| odd(what, error))
}

/// Reads one.
pub(super) fn packed_delivery(packed: PackedDelivery) -> Sql<(Delivery, u8)> {
    let PackedDelivery(
        message,
        target,
        state,
        reason,
        channel,
        vendor_id,
        updated_ms,
        reached_ms,
        trail,
        platform,
    ) = packed;
    let trail = unhex("trail", &trail.unwrap_or_default())?;
    let vendor_id = vendor_id.map(|id| unhex("vendor_id", &id)).transpose()?;
    let delivery = Delivery {
        message: Id(message),
        target,
        state: self::state(state)?,
        reason: reason.map(self::reason).transpose()?,
        channel,
        vendor_id: vendor_id.as_deref().and_then(vendor_id::unpack),
        updated_ms,
        reached_ms,
        trail,
    };
    Ok((delivery, platform))
}

/// `channel, kind, code, reason, n`
pub(super) fn counter(row: &SqliteRow) -> Sql<Counter> {
    let view = match row.try_get::<i64, _>(1)? {
        0 => View::Now,
        1 => View::Reached,
        other => return Err(odd("counter", other)),
    };
    let reason_code: i64 = row.try_get(3)?;
    Ok(Counter {
        channel: row.try_get(0)?,
        view,
        state: state(row.try_get(2)?)?,
        reason: (reason_code != 0).then(|| reason(reason_code)).transpose()?,
        n: number(row, 4)?,
    })
}

/// `id, app, state, class, spec, label, created_at, deadline_at, expanded_at, targeted, generation, send_at`
pub(super) fn message(row: &SqliteRow) -> Sql<MessageRecord> {
    Ok(MessageRecord {
        id: id(row, 0)?,
        app: row.try_get(1)?,
        state: number(row, 2)? as u8,
        class: class(row.try_get(3)?),
        spec: row.try_get(4)?,
        label: row.try_get(5)?,
        created_at: number(row, 6)?,
        deadline_at: number(row, 7)?,
        expanded_at: maybe(row, 8)?,
        targeted: number(row, 9)?,
        generation: number(row, 10)? as u32,
        send_at: maybe(row, 11)?,
    })
}

/// `seq, public_id, name, created_at`
pub(super) fn app(row: &SqliteRow) -> Sql<AppRecord> {
    Ok(AppRecord {
        seq: row.try_get(0)?,
        public_id: row.try_get(1)?,
        name: row.try_get(2)?,
        created_at: number(row, 3)?,
    })
}

/// `id, app, name, mac, scopes, created_at, expires_at, revoked_at`
pub(super) fn key(row: &SqliteRow) -> Sql<KeyRecord> {
    Ok(KeyRecord {
        id: row.try_get(0)?,
        app: row.try_get(1)?,
        name: row.try_get(2)?,
        mac: row.try_get(3)?,
        scopes: from_json(row, 4)?,
        created_at: number(row, 5)?,
        expires_at: maybe(row, 6)?,
        revoked_at: maybe(row, 7)?,
    })
}

/// `seq, public_id, app, name, provider, config, secrets, limits, state, state_info, version, created_at, updated_at,
/// deleted_at, callback`
pub(super) fn channel(row: &SqliteRow) -> Sql<ChannelRecord> {
    Ok(ChannelRecord {
        seq: row.try_get(0)?,
        public_id: row.try_get(1)?,
        app: row.try_get(2)?,
        name: row.try_get(3)?,
        provider: row.try_get(4)?,
        config: from_json(row, 5)?,
        secrets: row.try_get(6)?,
        limits: from_json(row, 7)?,
        state: number(row, 8)? as u8,
        state_info: row.try_get(9)?,
        version: row.try_get(10)?,
        created_at: number(row, 11)?,
        updated_at: number(row, 12)?,
        deleted_at: maybe(row, 13)?,
        callback: row.try_get(14)?,
    })
}

/// `device, provider, version, kind, token, params, state, state_reason`
pub(super) fn address(row: &SqliteRow) -> Sql<(u64, StoredAddress)> {
    let reason_code: Option<i64> = row.try_get(7)?;
    let stored = StoredAddress {
        provider: row.try_get(1)?,
        version: number(row, 2)? as u32,
        kind: row.try_get(3)?,
        token: row.try_get(4)?,
        params: params(row.try_get(5)?)?,
        active: row.try_get::<i64, _>(6)? == 0,
        reason: reason_code.map(reason).transpose()?,
    };
    Ok((number(row, 0)?, stored))
}

/// An address's params. Most have none: that is not worth a parser.
pub(super) fn params(text: &str) -> Sql<BTreeMap<String, String>> {
    if text == "{}" {
        return Ok(BTreeMap::new());
    }
    parsed(text)
}

/// `id, kind, channel, lane, app, message, due_at, attempt, owner, epoch, payload`
pub(super) fn work(row: &SqliteRow) -> Sql<WorkItem> {
    let kind: i64 = row.try_get(1)?;
    Ok(WorkItem {
        id: id(row, 0)?,
        kind: work_kind(kind)?,
        channel: row.try_get(2)?,
        lane: work_lane(row.try_get(3)?)?,
        app: row.try_get(4)?,
        message: id(row, 5)?,
        due_at: number(row, 6)?,
        attempt: number(row, 7)? as u32,
        resumed: row.try_get::<i64, _>(8)? != 0 || row.try_get::<i64, _>(9)? != 0,
        epoch: number(row, 9)?,
        payload: row.try_get(10)?,
    })
}

/// A lane of work by number.
fn work_lane(code: i64) -> Sql<WorkLane> {
    u8::try_from(code).ok().and_then(WorkLane::from_code).ok_or_else(|| odd("lane of work", code))
}

/// A kind of work by number.
pub(super) fn work_kind(code: i64) -> Sql<WorkKind> {
    u8::try_from(code).ok().and_then(WorkKind::from_code).ok_or_else(|| odd("kind of work", code))
}

/// `seq, channel, received_at, method, envelope, body`
pub(super) fn raw_receipt(row: &SqliteRow) -> Sql<RawReceipt> {
    Ok(RawReceipt {
        seq: row.try_get(0)?,
        channel: row.try_get(1)?,
        received_at: number(row, 2)?,
        method: row.try_get(3)?,
        envelope: row.try_get(4)?,
        body: Bytes::from(row.try_get::<Vec<u8>, _>(5)?),
    })
}

/// `pos, message, class, spec, created_at, expires_at, variables`
pub(super) fn inbox_entry(row: &SqliteRow) -> Sql<InboxEntry> {
    Ok(InboxEntry {
        pos: row.try_get(0)?,
        message: id(row, 1)?,
        class: class(row.try_get(2)?),
        spec: row.try_get(3)?,
        created_at: number(row, 4)?,
        expires_at: number(row, 5)?,
        variables: row.try_get(6)?,
    })
}
