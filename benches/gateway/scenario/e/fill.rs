//! A year of deliveries, written straight into the database as the gateway would have left it: rows and counters are those
//! that its own rule for deliveries makes, so that nothing here knows how they are counted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;
use anypush::delivery::state::{CounterKey, Delivery, Event, State, apply};
use anypush::delivery::trail::{Next, TrailEntry};
use anypush::ids::{Id, IdMaker};
use anypush::store::sqlite::periods::around_hour;
use anypush::store::sqlite::stats::places;
use anypush::store::sqlite::tally::{Counter, Tally, encode};
use anypush::store::sqlite::vendor_id;
use anypush::store::{PLATFORMS, QUARTER_MS, latency_bucket};
use anypush_providers::contract::{Reason, Witness};
use sqlx::query_builder::Separated;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, QueryBuilder, Row as _, Sqlite};

use crate::Bench;
use crate::rounds::number;

pub(super) const DAYS: u64 = 365;
pub(super) const DAY_MS: u64 = 86_400_000;
const HOUR_MS: u64 = 3_600_000;
/// Messages of a day.
const A_DAY: u64 = 40;
const LABELS: [&str; 6] = ["orders", "codes", "news", "sale", "chat", ""];
/// Rows of one statement: SQLite takes 32,766 values.
const ROWS: usize = 1000;

/// What is written.
pub(super) struct Year {
    pub(super) app: i64,
    /// Midnight of the first day, in Unix milliseconds.
    from: u64,
    deliveries: u64,
    /// Devices: a hundredth of the deliveries.
    pub(super) devices: u64,
    pub(super) first_device: u64,
    /// Channels by name.
    pub(super) channels: BTreeMap<String, i64>,
    /// What a message's row says of the request.
    spec: String,
}

impl Year {
    /// Learns what a gateway that has its channels and has sent one message left behind.
    pub(super) async fn plan(database: &Path, app: &str, deliveries: u64, from: u64) -> anyhow::Result<Self> {
        let mut db = open(database).await?;
        let app = sqlx::query_scalar("SELECT seq FROM apps WHERE public_id = ?1")
            .bind(app)
            .fetch_one(&mut db)
            .await?;
        let found =
            sqlx::query("SELECT name, seq FROM channels WHERE app = ?1").bind(app).fetch_all(&mut db).await?;
        let channels =
            found.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<anyhow::Result<_>>()?;
        let spec = sqlx::query_scalar("SELECT spec FROM messages LIMIT 1").fetch_one(&mut db).await?;
        let last: i64 = sqlx::query_scalar("SELECT max(seq) FROM devices").fetch_one(&mut db).await?;
        db.close().await?;
        let first_device = last as u64 + 1;
        Ok(Self { app, from, deliveries, devices: deliveries / 100, first_device, channels, spec })
    }

    /// Writes it. The gateway does not run meanwhile.
    pub(super) async fn fill(&self, bench: &Bench, database: &Path) -> anyhow::Result<()> {
        let mut db = open(database).await?;
        let index: String =
            sqlx::query_scalar("SELECT sql FROM sqlite_master WHERE name = 'deliveries_by_target'")
                .fetch_one(&mut db)
                .await?;
        // Made anew at the end: a sorted index is written many times faster than a random one grows.
        sqlx::query("DROP INDEX deliveries_by_target").execute(&mut db).await?;
        self.devices(&mut db).await?;
        let ids = IdMaker::new(0);
        let small = (self.deliveries - self.devices) / (DAYS * A_DAY);
        let mut done = 0;
        for day in 0..DAYS {
            let mut written = Written::default();
            let mut transaction = db.begin().await?;
            for nth in 0..A_DAY {
                let at = self.from + day * DAY_MS + nth * (DAY_MS / A_DAY) + mix(day, nth) % QUARTER_MS;
                let label = LABELS[(mix(nth, day) % 6) as usize];
                let to_all = day == DAYS - 1 && nth == A_DAY - 1;
                let (count, label) = if to_all { (self.devices, "big") } else { (small, label) };
                let message = Message { id: ids.next(at), label, class: i64::from(nth % 4 == 0), count };
                self.message(&mut transaction, &message, &mut written).await?;
                done += count;
            }
            written.store(&mut transaction, self.app).await?;
            transaction.commit().await?;
            if day % 73 == 72 {
                bench.say(&format!("{} deliveries are written", number(done as f64)));
            }
        }
        bench.say("making the index by device");
        let mut query = QueryBuilder::<Sqlite>::new("");
        query.push(index);
        query.build().execute(&mut db).await?;
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut db).await?;
        db.close().await.context("closing the database")
    }

    async fn devices(&self, db: &mut SqliteConnection) -> anyhow::Result<()> {
        let query = sqlx::query(
            "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1)
             INSERT INTO devices (seq, app, id, created_at, updated_at) SELECT ?2 + i, ?3, 'phone-' || i, ?4, ?4 FROM n",
        );
        let query = query.bind(self.devices as i64).bind(self.first_device as i64);
        query.bind(self.app).bind(self.from as i64).execute(db).await?;
        Ok(())
    }

    async fn message(
        &self,
        db: &mut SqliteConnection,
        message: &Message,
        written: &mut Written,
    ) -> anyhow::Result<()> {
        let at = message.id.unix_ms();
        let query = sqlx::query(
            "INSERT INTO messages (id, app, class, spec, label, created_at, deadline_at, expanded_at, targeted)
             VALUES (?1, ?2, ?3, ?4, nullif(?5, ''), ?6, ?6 + 86400000, ?6, ?7)",
        );
        let query = query.bind(message.id.0).bind(self.app).bind(message.class).bind(&self.spec);
        let query = query.bind(message.label).bind(at as i64).bind(message.count as i64);
        query.execute(&mut *db).await?;
        written.targets(message);
        let start = mix(message.id.0 as u64, 0) % (self.devices - message.count + 1);
        let targets: Vec<u64> = (start..start + message.count).collect();
        for part in targets.chunks(ROWS) {
            let rows: Vec<_> = part.iter().map(|device| self.delivery(message, *device, written)).collect();
            insert(db, &rows).await?;
        }
        Ok(())
    }

    /// What became of one; the same each time.
    fn delivery(&self, message: &Message, device: u64, written: &mut Written) -> (Delivery, u8) {
        let chance = mix(message.id.0 as u64, device + 1);
        let (platform, channel) = match device % 10 {
            0..6 => ("android", ["fcm", "fcm", "xiaomi", "huawei"][(device / 10 % 4) as usize]),
            6..9 => ("ios", "apns"),
            _ => ("harmonyos", "huawei"),
        };
        let platform = PLATFORMS.iter().position(|name| *name == platform).unwrap_or(0) as u8;
        let reports = matches!(channel, "xiaomi" | "huawei");
        let channel = self.channels[channel];
        let (first, second) = match chance % 100 {
            0 => ((State::Suppressed, Some(Reason::NoRoute)), None),
            1 => ((State::Expired, Some(Reason::Expired)), None),
            2 => ((State::Failed, Some(Reason::InvalidToken)), None),
            3 => ((State::Failed, Some(Reason::QuotaExceeded)), None),
            4 => ((State::Failed, Some(Reason::DeviceUnavailable)), None),
            5..8 => ((State::Accepted, None), Some(State::Clicked)),
            8..25 => ((State::Accepted, None), Some(State::Displayed)),
            25..90 if reports => ((State::Accepted, None), Some(State::Delivered)),
            _ => ((State::Accepted, None), None),
        };
        let first = outcome(message.id, device + self.first_device, channel, first, chance);
        let mut row = written.happened(None, &first, platform, message);
        if let Some(state) = second {
            let at_ms = 2000 + chance % 60_000;
            let trail = vec![TrailEntry::Received { at_ms, channel, state, witness: Witness::Vendor }];
            let second = Event { state, at_ms, trail, vendor_id: None, ..first };
            row = written.happened(Some(row), &second, platform, message);
        }
        (row, platform)
    }
}

struct Message {
    id: Id,
    label: &'static str,
    class: i64,
    count: u64,
}

/// What a route or a vendor said at first.
fn outcome(
    message: Id,
    target: u64,
    channel: i64,
    (state, reason): (State, Option<Reason>),
    chance: u64,
) -> Event {
    let at_ms = 20 + chance % 400;
    let decided = TrailEntry::Decided { at_ms: 2, channels: vec![channel], skipped: Vec::new(), rule: None };
    let mut trail = vec![decided];
    let tried = matches!(state, State::Accepted | State::Failed);
    if tried {
        trail.push(TrailEntry::Attempted {
            at_ms,
            channel,
            attempt: 1,
            reason,
            latency_ms: 5 + (chance % 300) as u32,
            status: Some(200),
            code: None,
            words: None,
            next: Next::Nothing,
        });
    } else if let Some(reason) = reason {
        trail.push(TrailEntry::Ended { at_ms, reason });
    }
    let vendor_id = (state == State::Accepted).then(|| format!("{chance:016x}"));
    Event {
        reason,
        vendor_id,
        trail,
        ..Event::new((message, target), state, if tried { channel } else { 0 }, at_ms)
    }
}

/// Where counters of reports stand: quarter, class, label.
type Place = (u64, i64, &'static str);

/// Counters of a day.
#[derive(Default)]
struct Written {
    messages: BTreeMap<CounterKey, i64>,
    stats: BTreeMap<Place, Tally>,
    tries: BTreeMap<(i64, usize, u64, u8, u8), i64>,
    labels: BTreeSet<(u64, &'static str)>,
}

impl Written {
    fn targets(&mut self, message: &Message) {
        let at = message.id.unix_ms();
        if !message.label.is_empty() {
            self.labels.insert((at / DAY_MS, message.label));
        }
        let place = (at / QUARTER_MS, message.class, message.label);
        *self.stats.entry(place).or_default().entry(Counter::TARGETED).or_insert(0) += message.count as i64;
    }

    fn happened(
        &mut self,
        row: Option<Delivery>,
        event: &Event,
        platform: u8,
        message: &Message,
    ) -> Delivery {
        let (row, moves) = apply(row, event);
        let at = message.id.unix_ms();
        for (key, by) in moves {
            *self.messages.entry(key).or_insert(0) += by;
            let place = (at / QUARTER_MS, message.class, message.label);
            *self.stats.entry(place).or_default().entry(Counter::of(&key, platform)).or_insert(0) += by;
        }
        for entry in &event.trail {
            if let TrailEntry::Attempted { channel, reason, latency_ms, at_ms, .. } = entry {
                let (hour, reason) = ((at + at_ms) / HOUR_MS, reason.map_or(0, Reason::code));
                for (grain, period) in around_hour(hour) {
                    for (kind, code) in [(0, reason), (1, latency_bucket(*latency_ms))] {
                        *self.tries.entry((*channel, grain, period, kind, code)).or_insert(0) += 1;
                    }
                }
            }
        }
        row
    }

    async fn store(self, db: &mut SqliteConnection, app: i64) -> anyhow::Result<()> {
        let labels: Vec<_> = self.labels.into_iter().collect();
        let sql = "INSERT INTO report_labels (app, day, label) ";
        rows(db, (sql, ""), &labels, |row, (day, label)| {
            row.push_bind(app).push_bind(*day as i64).push_bind(*label);
        })
        .await?;
        let messages: Vec<_> = self.messages.into_iter().filter(|(_, n)| *n != 0).collect();
        let sql = "INSERT INTO message_stats (message, channel, kind, code, reason, n) ";
        rows(db, (sql, ""), &messages, |row, (key, n)| {
            let (code, reason) = (key.state.code(), key.reason.map_or(0, Reason::code));
            row.push_bind(key.message.0).push_bind(key.channel).push_bind(key.view as i64);
            row.push_bind(i64::from(code)).push_bind(i64::from(reason)).push_bind(*n);
        })
        .await?;
        let mut stats: BTreeMap<_, Tally> = BTreeMap::new();
        for ((quarter, class, label), tally) in self.stats {
            for place in places(quarter, class, label) {
                let sums = stats.entry(place).or_default();
                for (counter, n) in &tally {
                    *sums.entry(*counter).or_insert(0) += n;
                }
            }
        }
        let stats: Vec<_> = stats.into_iter().map(|(place, tally)| (place, encode(&tally))).collect();
        let sql = "INSERT INTO stats (app, grain, period, class, label, counts) ";
        rows(db, (sql, ""), &stats, |row, ((grain, period, class, label), counts)| {
            row.push_bind(app)
                .push_bind(*grain as i64)
                .push_bind(*period as i64)
                .push_bind(*class)
                .push_bind(*label)
                .push_bind(counts.as_slice());
        })
        .await?;
        let tries: Vec<_> = self.tries.into_iter().collect();
        let sql = "INSERT INTO channel_stats (channel, grain, period, kind, code, n) ";
        // Days share a month, and an hour: what was made before midnight is tried after it.
        let again = " ON CONFLICT DO UPDATE SET n = n + excluded.n";
        rows(db, (sql, again), &tries, |row, ((channel, grain, period, kind, code), n)| {
            row.push_bind(*channel).push_bind(*grain as i64).push_bind(*period as i64);
            row.push_bind(i64::from(*kind)).push_bind(i64::from(*code)).push_bind(*n);
        })
        .await
    }
}

/// Inserts many: what stands before and behind the values, and the values of one.
async fn rows<T>(
    db: &mut SqliteConnection,
    (before, behind): (&'static str, &'static str),
    all: &[T],
    one: impl Fn(&mut Separated<'_, Sqlite, &'static str>, &T),
) -> anyhow::Result<()> {
    for part in all.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new(before);
        query.push_values(part, |mut row, value| one(&mut row, value));
        query.push(behind);
        query.build().execute(&mut *db).await?;
    }
    Ok(())
}

async fn insert(db: &mut SqliteConnection, deliveries: &[(Delivery, u8)]) -> anyhow::Result<()> {
    let sql =
        "INSERT INTO deliveries (message, target, state, reason, channel, vendor_id, updated_ms, accepted_ms,
        delivered_ms, displayed_ms, clicked_ms, trail, platform) ";
    rows(db, (sql, ""), deliveries, |row, (delivery, platform)| {
        row.push_bind(delivery.message.0).push_bind(delivery.target as i64);
        row.push_bind(i64::from(delivery.state.code()));
        row.push_bind(delivery.reason.map(|reason| i64::from(reason.code()))).push_bind(delivery.channel);
        let vendor_id = delivery.vendor_id.as_ref().map(|id| vendor_id::pack(id));
        row.push_bind(vendor_id).push_bind(delivery.updated_ms as i64);
        for reached in delivery.reached_ms {
            row.push_bind(reached.map(|ms| ms as i64));
        }
        row.push_bind(delivery.trail.clone()).push_bind(i64::from(*platform));
    })
    .await
}

async fn open(database: &Path) -> anyhow::Result<SqliteConnection> {
    let options = SqliteConnectOptions::new()
        .filename(database)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Off)
        .pragma("cache_size", "-262144");
    Ok(options.connect().await?)
}

/// Numbers in no order, the same each time (SplitMix64).
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    let mut z = a.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(b.wrapping_mul(0xd1b5_4a32_d192_ed03));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
