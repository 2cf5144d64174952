//! Reports read their counters by the key, whatever else is in the database.

use std::time::Instant;

use sqlx::{Connection as _, Row as _};

use super::{number, open, stranger};
use crate::store::sqlite::reports::question;
use crate::store::sqlite::tally::{Counter, encode};
use crate::store::{QUARTER_MS, ReportAsk, ReportBy, Store};

const NOW: u64 = 1_800_000_000_000;

fn a_year(by: ReportBy) -> ReportAsk {
    let day = 24 * 4;
    let first = NOW / QUARTER_MS;
    ReportAsk {
        app: 1,
        by,
        spans: (0..365).map(|n| (first + n * day, first + (n + 1) * day)).collect(),
        ..ReportAsk::default()
    }
}

#[tokio::test]
async fn a_year_by_day_is_read_by_ranges_of_the_key_of_its_counters_alone() {
    let (store, directory) = open().await;
    let mut reader = stranger(&directory.path().join("data")).await;
    for label in [false, true] {
        let ask = a_year(ReportBy { channel: true, label, ..ReportBy::default() });
        let mut query = question("EXPLAIN QUERY PLAN ", &ask, &ask.spans);
        let rows = query.build().fetch_all(&mut reader).await.unwrap();
        let steps: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
        let stats: Vec<_> = steps.iter().filter(|step| step.contains(" s ")).collect();
        assert_eq!(stats.len(), 1, "{steps:#?}");
        assert!(
            stats[0].contains("SEARCH s USING PRIMARY KEY (app=? AND grain=? AND period>? AND period<?)"),
            "{steps:#?}"
        );
        for other in ["deliveries", "messages"] {
            assert!(steps.iter().all(|step| !step.contains(other)), "{steps:#?}");
        }
    }
    store.close().await;
}

/// Prints how long a busy app's year takes to read: run it with `--ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement"]
async fn how_long_a_year_by_day_takes() {
    let (store, directory) = open().await;
    let mut hand = stranger(&directory.path().join("data")).await;
    // Every quarter of an hour, in each class: three channels, two platforms, eight counters.
    let channels = (0..48).map(|n| Counter {
        channel: n % 3 + 1,
        platform: (n / 3 % 2) as u8 + 1,
        kind: 0,
        code: (n / 6) as u8 + 1,
        reason: 0,
    });
    let fill = "INSERT INTO stats (app, grain, period, class, label, counts)
        WITH RECURSIVE q(n) AS (SELECT 2000000 UNION ALL SELECT n + 1 FROM q WHERE n < 2035040)
        SELECT DISTINCT 1, g.key + w.value, q.n / g.value, iif(w.value = 0, c.value, 0), '', ?1
        FROM q, json_each('[1, 4, 24, 96]') AS g, json_each('[0, 4]') AS w, json_each('[0, 1]') AS c";
    let counts = encode(&channels.map(|counter| (counter, 5)).collect());
    sqlx::query(fill).bind(counts).execute(&mut hand).await.unwrap();
    println!("{} rows", number(&mut hand, "SELECT count(*) FROM stats").await);
    hand.close().await.unwrap();
    let by_channel = ReportBy { channel: true, ..ReportBy::default() };
    for (name, by) in [("whole", ReportBy::default()), ("by channel", by_channel)] {
        let start = Instant::now();
        let rows = store.report(&a_year(by)).await.unwrap();
        println!("{name}: {} rows in {:?}", rows.len(), start.elapsed());
    }
    store.close().await;
}
