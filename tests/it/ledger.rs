//! The ledger check: what callers were told, what the played vendors saw and what the database says, against each
//! other. Used after every test that breaks something; the part that needs the database alone after every test.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use anypush::delivery::page::Page;
use anypush::ids::{Id, IdCodec, Kind};
use anypush::store::sqlite::tally::{Counter, decode};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::world::World;

/// The vendor's own list is this long; a run that asks more of it cannot be checked token by token.
const LISTED: u64 = 200_000;
const ACCEPTED: &str = "accepted";

/// What the callers of a test know.
#[derive(Default)]
pub(crate) struct Book(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Messages that were answered with 202.
    accepted: BTreeSet<String>,
    /// Calls whose answer never came and that were not repeated: each may have left one message.
    unknown: u64,
    /// Which account at the vendor each app's channels use.
    accounts: BTreeSet<(String, String)>,
}

impl Book {
    /// Notes the answer to a call that sends.
    pub(crate) fn answered(&self, status: StatusCode, body: &Value) {
        if status == StatusCode::ACCEPTED {
            self.known().accepted.extend(body["id"].as_str().map(ToOwned::to_owned));
        }
    }

    /// Notes a call whose answer never came.
    pub(crate) fn unanswered(&self) {
        self.known().unknown += 1;
    }

    /// Notes that an app sends through an account.
    pub(crate) fn account(&self, app: &str, account: &str) {
        self.known().accounts.insert((app.to_owned(), account.to_owned()));
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap()
    }
}

/// How much a run may have gone wrong.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bounds {
    /// How often the gateway ended uncleanly.
    pub(crate) crashes: u64,
    /// Targets that one unclean end may send twice.
    pub(crate) window: u64,
    /// Answers were lost or connections cut, so that a request may have been repeated without a crash.
    pub(crate) lossy: bool,
}

/// What the check counted.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) messages: usize,
    pub(crate) deliveries: i64,
    pub(crate) requests: usize,
    pub(crate) duplicates: u64,
    pub(crate) at_most_once_duplicates: u64,
}

/// The whole check. The gateway must have been stopped, and everything must have ended.
pub(crate) async fn check(world: &World, bounds: Bounds) -> Report {
    let mut db = open(&world.data_dir()).await;
    let mut findings = counters(&mut db).await;
    findings.extend(finished(&mut db).await);
    let facts = Facts::read(&mut db).await;
    findings.extend(facts.against_callers(&world.book.known()));
    let asked = asked(world).await;
    findings.extend(facts.against_vendor(&asked, &world.book.known().accounts));
    let mut report = Report {
        messages: facts.messages.len(),
        deliveries: one(&mut db, "SELECT count(*) FROM deliveries").await,
        requests: asked.values().map(|asked| asked.tries as usize).sum(),
        ..Report::default()
    };
    for ((message, token), asked) in &asked {
        let twice = asked.accepted.saturating_sub(1);
        let once = facts.messages.get(message).is_some_and(|message| message.at_most_once);
        if once {
            report.at_most_once_duplicates += twice;
        }
        // The vendor of these takes the push and drops the answer: a repeat is what was promised.
        if !token.starts_with("lost-") {
            report.duplicates += twice;
        }
        if bounds.crashes == 0 && !bounds.lossy && token.starts_with("ok-") && asked.tries != 1 {
            findings.push(format!("{message}: {token} was asked {} times without a reason", asked.tries));
        }
    }
    let most = bounds.window * bounds.crashes;
    if !bounds.lossy && report.duplicates > most {
        findings.push(format!("{} targets got it twice, {most} may", report.duplicates));
    }
    if report.at_most_once_duplicates > 0 {
        findings.push(format!("{} at-most-once targets got it twice", report.at_most_once_duplicates));
    }
    db.close().await.unwrap();
    fail(&findings);
    report
}

/// The part that needs the database alone: counters equal rows, every target is counted or stands in a page, and the
/// audit log is whole.
/// Blocks, because it is for `Drop`.
pub(crate) fn check_rows(data_dir: &Path) {
    let data_dir = data_dir.to_owned();
    let checked = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut db = open(&data_dir).await;
            let mut findings = counters(&mut db).await;
            db.close().await.unwrap();
            findings.extend(anypush::store::sqlite::verify_audit(&data_dir, None).await.unwrap().1);
            findings
        })
    });
    fail(&checked.join().expect("the database can be read"));
}

fn fail(findings: &[String]) {
    let first: Vec<_> = findings.iter().take(20).collect();
    assert!(findings.is_empty(), "the ledger does not add up, {} findings: {first:#?}", findings.len());
}

async fn open(data_dir: &Path) -> SqliteConnection {
    let file = data_dir.join("anypush.db");
    SqliteConnectOptions::new().filename(file).read_only(true).connect().await.unwrap()
}

async fn one(db: &mut SqliteConnection, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(db).await.unwrap()
}

async fn texts(db: &mut SqliteConnection, sql: &'static str) -> Vec<String> {
    sqlx::query_scalar(sql).fetch_all(db).await.unwrap()
}

/// Σ counters = rows, and targeted = counted + what stands in pages.
async fn counters(db: &mut SqliteConnection) -> Vec<String> {
    let mut findings = texts(
        db,
        "WITH counted AS (SELECT message, channel, state AS code, coalesce(reason, 0) AS reason, count(*) AS n
                FROM deliveries WHERE state <> 0 GROUP BY 1, 2, 3, 4),
            kept AS (SELECT message, channel, code, reason, n FROM message_stats WHERE kind = 0 AND n <> 0)
         SELECT 'rows without counter: ' || concat_ws('/', message, channel, code, reason, n)
             FROM (SELECT * FROM counted EXCEPT SELECT * FROM kept)
         UNION ALL SELECT 'counter without rows: ' || concat_ws('/', message, channel, code, reason, n)
             FROM (SELECT * FROM kept EXCEPT SELECT * FROM counted)",
    )
    .await;
    findings.extend(
        texts(
            db,
            "WITH each AS (SELECT message, 1 AS code, count(accepted_ms) AS n FROM deliveries GROUP BY 1
                UNION ALL SELECT message, 2, count(delivered_ms) FROM deliveries GROUP BY 1
                UNION ALL SELECT message, 3, count(displayed_ms) FROM deliveries GROUP BY 1
                UNION ALL SELECT message, 4, count(clicked_ms) FROM deliveries GROUP BY 1),
            counted AS (SELECT * FROM each WHERE n > 0),
            kept AS (SELECT message, code, sum(n) AS n FROM message_stats WHERE kind = 1 GROUP BY 1, 2
                HAVING sum(n) <> 0)
         SELECT 'reached, rows without counter: ' || concat_ws('/', message, code, n)
             FROM (SELECT * FROM counted EXCEPT SELECT * FROM kept)
         UNION ALL SELECT 'reached, counter without rows: ' || concat_ws('/', message, code, n)
             FROM (SELECT * FROM kept EXCEPT SELECT * FROM counted)",
        )
        .await,
    );
    findings.extend(reports(db).await);
    findings.extend(pending(db).await);
    findings
}

/// Puts the counters of reports into a table of this connection alone, a row each; those of quarters hide what is stored.
async fn unpack(db: &mut SqliteConnection) {
    let stored: Vec<(i64, i64, i64, i64, Vec<u8>)> =
        sqlx::query_as("SELECT app, grain, period, class, counts FROM main.stats")
            .fetch_all(&mut *db)
            .await
            .unwrap();
    let sql = "CREATE TEMP TABLE counts (app, grain, period, class, channel, platform, kind, code, reason, n);
        CREATE TEMP VIEW stats AS SELECT app, period AS quarter, class, channel, platform, kind, code, reason, n
            FROM temp.counts WHERE grain = 0";
    sqlx::raw_sql(sql).execute(&mut *db).await.unwrap();
    let mut counters = Vec::new();
    for (app, grain, period, class, counts) in stored {
        let one = |counter: Counter, n| {
            let Counter { channel, platform, kind, code, reason } = counter;
            counters.push((app, grain, period, class, channel, platform, kind, code, reason, n));
        };
        decode(&counts, one).unwrap();
    }
    let sql = "INSERT INTO temp.counts SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
        value ->> 6, value ->> 7, value ->> 8, value ->> 9 FROM json_each(?1)";
    let counters = serde_json::to_string(&counters).unwrap();
    sqlx::query(sql).bind(counters).execute(db).await.unwrap();
}

/// The counters of reports are those of messages, and by platform those of the rows.
async fn reports(db: &mut SqliteConnection) -> Vec<String> {
    unpack(db).await;
    let mut findings = texts(
        db,
        "WITH counted AS (SELECT m.app, m.created_at / 900000 AS quarter, s.channel, m.class, s.kind, s.code, s.reason,
                sum(s.n) AS n FROM message_stats AS s JOIN messages AS m ON m.id = s.message
                GROUP BY 1, 2, 3, 4, 5, 6, 7 HAVING sum(s.n) <> 0
            UNION ALL SELECT app, created_at / 900000, 0, class, 2, 0, 0, sum(targeted) FROM messages
                GROUP BY 1, 2, 4 HAVING sum(targeted) <> 0),
            kept AS (SELECT app, quarter, channel, class, kind, code, reason, sum(n) AS n FROM stats
                GROUP BY 1, 2, 3, 4, 5, 6, 7 HAVING sum(n) <> 0)
         SELECT 'reports lack: ' || concat_ws('/', app, quarter, channel, class, kind, code, reason, n)
             FROM (SELECT * FROM counted EXCEPT SELECT * FROM kept)
         UNION ALL SELECT 'reports have: ' || concat_ws('/', app, quarter, channel, class, kind, code, reason, n)
             FROM (SELECT * FROM kept EXCEPT SELECT * FROM counted)",
    )
    .await;
    findings.extend(
        texts(
            db,
            "WITH counted AS (SELECT m.app, d.platform, d.state AS code, count(*) AS n FROM deliveries AS d
                    JOIN messages AS m ON m.id = d.message WHERE d.state <> 0 GROUP BY 1, 2, 3),
                kept AS (SELECT app, platform, code, sum(n) AS n FROM stats WHERE kind = 0 GROUP BY 1, 2, 3
                    HAVING sum(n) <> 0)
             SELECT 'reports by platform, rows without counter: ' || concat_ws('/', app, platform, code, n)
                 FROM (SELECT * FROM counted EXCEPT SELECT * FROM kept)
             UNION ALL SELECT 'reports by platform, counter without rows: ' || concat_ws('/', app, platform, code, n)
                 FROM (SELECT * FROM kept EXCEPT SELECT * FROM counted)",
        )
        .await,
    );
    findings.extend(texts(db, LONG_PERIODS).await);
    findings
}

/// Counters of hours, six hours and days are those of their quarters; so are those of all classes and labels (grain 4 to 7).
const LONG_PERIODS: &str = "WITH grains AS (SELECT key AS grain, value AS length FROM json_each('[1, 4, 24, 96]')),
    due AS (SELECT app, g.grain, period / g.length AS period, class, channel, platform, kind, code, reason, sum(n) AS n
            FROM temp.counts AS c CROSS JOIN grains AS g WHERE c.grain = 0 GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9 HAVING sum(n) <> 0
        UNION ALL SELECT app, 4 + g.grain, period / g.length, 0, channel, platform, kind, code, reason, sum(n)
            FROM temp.counts AS c CROSS JOIN grains AS g WHERE c.grain = 0 GROUP BY 1, 2, 3, 5, 6, 7, 8, 9 HAVING sum(n) <> 0),
    kept AS (SELECT app, grain, period, class, channel, platform, kind, code, reason, sum(n) AS n FROM temp.counts
        GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9 HAVING sum(n) <> 0)
    SELECT 'periods lack: ' || concat_ws('/', app, grain, period, class, channel, platform, kind, code, reason, n)
        FROM (SELECT * FROM due EXCEPT SELECT * FROM kept)
    UNION ALL SELECT 'periods have: ' || concat_ws('/', app, grain, period, class, channel, platform, kind, code, reason, n)
        FROM (SELECT * FROM kept EXCEPT SELECT * FROM due)";

/// A target that has not ended stands in a work item: otherwise nobody would ever send it.
async fn pending(db: &mut SqliteConnection) -> Vec<String> {
    let mut waiting: HashMap<i64, HashSet<i64>> = HashMap::new();
    // Expansions (0) hold no targets yet, expiries (2) only those that have ended.
    let pages: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT message, payload FROM work WHERE kind NOT IN (0, 2)")
            .fetch_all(&mut *db)
            .await
            .unwrap();
    for (message, payload) in pages {
        let entries = Page::decode(&payload).map(|page| page.entries).unwrap_or_default();
        waiting.entry(message).or_default().extend(entries.iter().map(|entry| entry.target as i64));
    }
    let messages: Vec<(i64, i64, i64)> = sqlx::query_as(
        "SELECT id, targeted, (SELECT count(*) FROM deliveries WHERE message = id AND state <> 0) FROM messages",
    )
    .fetch_all(&mut *db)
    .await
    .unwrap();
    let mut findings = Vec::new();
    for (message, targeted, ended) in messages {
        let mut waiting = waiting.remove(&message).unwrap_or_default();
        if !waiting.is_empty() {
            let over: HashSet<i64> = sqlx::query_scalar::<_, i64>(
                "SELECT target FROM deliveries WHERE message = ?1 AND state <> 0",
            )
            .bind(message)
            .fetch_all(&mut *db)
            .await
            .unwrap()
            .into_iter()
            .collect();
            waiting.retain(|target| !over.contains(target));
        }
        if targeted != ended + waiting.len() as i64 {
            let waiting = waiting.len();
            findings.push(format!("message {message}: {targeted} targeted, {ended} ended, {waiting} wait"));
        }
    }
    findings
}

/// Nothing is left to do, nobody holds anything, and what did not arrive says why.
async fn finished(db: &mut SqliteConnection) -> Vec<String> {
    texts(
        db,
        "SELECT 'work is left: ' || concat_ws('/', id, kind, channel, message) FROM work WHERE kind NOT IN (2, 6)
         UNION ALL SELECT 'a lease is left: ' || concat_ws('/', id, kind, channel, message) FROM work WHERE owner <> 0
         UNION ALL SELECT 'not expanded: ' || id FROM messages WHERE expanded_at IS NULL
         UNION ALL SELECT 'still pending: ' || concat_ws('/', message, target) FROM deliveries WHERE state = 0
         UNION ALL SELECT 'ended without a reason: ' || concat_ws('/', message, target, state)
             FROM deliveries WHERE state >= 5 AND reason IS NULL
         UNION ALL SELECT 'no row for every target: ' || id FROM messages
             WHERE targeted <> (SELECT count(*) FROM deliveries WHERE message = id)",
    )
    .await
}

/// A message as the database has it.
struct Message {
    app: String,
    at_most_once: bool,
}

/// A recorded delivery that names a token.
struct Row {
    message: String,
    token: String,
    /// A vendor's channel has it, says the row.
    by_vendor: bool,
    accepted: bool,
    unknown: bool,
}

/// What the database says, in the words that the vendor knows.
struct Facts {
    messages: BTreeMap<String, Message>,
    rows: Vec<Row>,
}

impl Facts {
    async fn read(db: &mut SqliteConnection) -> Self {
        let key: Vec<u8> = sqlx::query_scalar("SELECT value FROM meta WHERE key = 'id key'")
            .fetch_one(&mut *db)
            .await
            .unwrap();
        let codec = IdCodec::new(key.as_slice().try_into().unwrap());
        let name = |id: i64| codec.encode(Kind::Message, Id(id));
        let messages: Vec<(i64, String, String)> =
            sqlx::query_as("SELECT m.id, a.public_id, m.spec FROM messages m JOIN apps a ON a.seq = m.app")
                .fetch_all(&mut *db)
                .await
                .unwrap();
        let messages = messages
            .into_iter()
            .map(|(id, app, spec)| (name(id), Message { app, at_most_once: spec.contains("at_most_once") }));
        let rows: Vec<(i64, String, bool, bool, bool)> = sqlx::query_as(
            "SELECT d.message, a.token, c.provider = a.provider, d.accepted_ms IS NOT NULL, d.state = 6
             FROM deliveries d JOIN messages m ON m.id = d.message
             JOIN addresses a ON a.app = m.app AND a.device = d.target
             LEFT JOIN channels c ON c.seq = d.channel
             UNION ALL SELECT d.message, t.token, c.provider = t.provider, d.accepted_ms IS NOT NULL, d.state = 6
             FROM message_targets t JOIN deliveries d ON d.message = t.message AND d.target = (1 << 40) + t.idx
             LEFT JOIN channels c ON c.seq = d.channel WHERE t.token IS NOT NULL",
        )
        .fetch_all(&mut *db)
        .await
        .unwrap();
        let rows = rows.into_iter().map(|(message, token, by_vendor, accepted, unknown)| Row {
            message: name(message),
            token,
            by_vendor,
            accepted,
            unknown,
        });
        Self { messages: messages.collect(), rows: rows.collect() }
    }

    /// What was answered with 202 is there; what was refused left nothing.
    fn against_callers(&self, known: &Known) -> Vec<String> {
        let lost = known.accepted.iter().filter(|id| !self.messages.contains_key(*id));
        let mut findings: Vec<_> = lost.map(|id| format!("{id} was accepted and is gone")).collect();
        let untold = self.messages.keys().filter(|id| !known.accepted.contains(*id)).count() as u64;
        if untold > known.unknown {
            findings.push(format!(
                "{untold} messages that nobody was told of, {} calls had no answer",
                known.unknown
            ));
        }
        findings
    }

    /// What the vendor took is recorded, what is recorded the vendor took, and nobody spoke in another's name.
    fn against_vendor(
        &self,
        asked: &BTreeMap<(String, String), Asked>,
        accounts: &BTreeSet<(String, String)>,
    ) -> Vec<String> {
        let mut findings = Vec::new();
        let mut recorded: HashMap<(&str, &str), &Row> = HashMap::new();
        for row in &self.rows {
            recorded.insert((&row.message, &row.token), row);
            let key = (row.message.clone(), row.token.clone());
            if row.by_vendor && row.accepted && asked.get(&key).is_none_or(|asked| asked.accepted == 0) {
                findings.push(format!("{}: {} is recorded, the vendor has not got it", key.0, key.1));
            }
        }
        for ((message, token), asked) in asked {
            let Some(known) = self.messages.get(message) else {
                findings.push(format!("{message}: the vendor was asked, the database does not know it"));
                continue;
            };
            match recorded.get(&(message.as_str(), token.as_str())) {
                None => findings.push(format!("{message}: {token} was asked and is no target of it")),
                Some(row) if asked.accepted > 0 && !row.accepted && !row.unknown => {
                    findings.push(format!("{message}: the vendor has {token}, the record does not say so"));
                }
                Some(_) => {}
            }
            for account in &asked.accounts {
                if !accounts.contains(&(known.app.clone(), account.clone())) {
                    findings
                        .push(format!("{message}: {token} was asked as {account}, another app's account"));
                }
            }
        }
        findings
    }
}

/// What a vendor saw of one token of one message.
#[derive(Debug, Default)]
struct Asked {
    tries: u64,
    accepted: u64,
    accounts: BTreeSet<String>,
}

/// The vendor's ledger by message and token.
async fn asked(world: &World) -> BTreeMap<(String, String), Asked> {
    let mut all: BTreeMap<(String, String), Asked> = BTreeMap::new();
    let (mut after, mut seen) = (0, 0);
    loop {
        let page = world.sandbox(Method::GET, &format!("/requests?after={after}&limit=10000"), None).await;
        let requests = page["requests"].as_array().unwrap();
        if requests.is_empty() {
            break;
        }
        for request in requests.iter().filter(|request| request["operation"] == "send") {
            seen += 1;
            // The gateway died in the middle of the request: the vendor never read for whom it was.
            if request["token"] == "" {
                assert_ne!(request["verdict"], ACCEPTED, "{request}");
                continue;
            }
            let text = |name: &str| request[name].as_str().unwrap().to_owned();
            let asked = all.entry((text("message"), text("token"))).or_default();
            asked.tries += 1;
            asked.accepted += u64::from(request["verdict"] == ACCEPTED);
            asked.accounts.insert(text("account"));
        }
        after = page["next_after"].as_u64().unwrap();
    }
    let summary = world.sandbox(Method::GET, "/summary", None).await;
    assert_eq!(summary["requests"], seen, "more than {LISTED} requests: the list is no longer whole");
    all
}
