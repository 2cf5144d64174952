//! l: hours. Half of what it can, all the time: whether memory, the database's log and latencies stay where they are.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::json;

use crate::machine;
use crate::probe::load::{Seen, book};
use crate::report::{Good, Plot, Report};
use crate::rounds::{Rounds, number};
use crate::scenario::b;
use crate::{Bench, Size};

/// Phones of one message.
const PHONES: usize = 2_000;
/// Parts of the time that are compared.
const PARTS: usize = 6;

pub(crate) async fn run(bench: &Bench) -> anyhow::Result<Report> {
    let whole = match bench.size {
        Size::Guard | Size::Quick => Duration::from_secs(30),
        Size::Full => Duration::from_mins(5),
        Size::Long => Duration::from_hours(1),
    };
    let world = b::phones(bench, PHONES).await?;
    // What it takes at full speed; then half of that.
    b::turn(&world, PHONES).await?;
    let mut full = Vec::new();
    for _ in 0..5 {
        full.push(b::turn(&world, PHONES).await?.seconds);
    }
    full.sort_unstable_by(f64::total_cmp);
    let every = Duration::from_secs_f64(full[2] * 2.0);
    bench.say(&format!("{} phones every {every:.0?} for {whole:.0?}", number(PHONES as f64)));
    let (mut points, mut firsts) = (Vec::new(), Vec::new());
    let started = Instant::now();
    let log = world.database().with_extension("db-wal");
    let mut longest_log = 0;
    for part in 1..=PARTS {
        let (mut took, mut resident) = (book()?, Rounds::default());
        while started.elapsed() < whole.mul_f64(part as f64 / PARTS as f64) {
            let began = Instant::now();
            let message = b::campaign(&world, PHONES).await?;
            took.saturating_record((message.seconds * 1e6) as u64);
            longest_log = longest_log.max(std::fs::metadata(&log).map_or(0, |log| log.len()));
            tokio::time::sleep(every.saturating_sub(began.elapsed())).await;
            resident.push(machine::resident(world.gateway_pid()?)? as f64 / f64::from(1 << 20));
        }
        // At one moment there is more of what was freed and is not given back yet than at another.
        let resident = resident.median();
        let seen = Seen::of(&took, started.elapsed().as_secs_f64());
        bench.say(&format!(
            "part {part} of {PARTS}: {resident:.0} MiB, a message of {PHONES} takes {}",
            seen.text()
        ));
        points.push((started.elapsed().as_secs_f64(), resident));
        firsts.push(seen);
    }
    let stored: i64 = {
        let mut reader = world.reader().await?;
        sqlx::query_scalar("SELECT count(*) FROM deliveries WHERE state = 1").fetch_one(&mut reader).await?
    };
    let messages = firsts.iter().map(|seen| seen.calls).sum::<u64>() + 6;
    ensure!(stored as u64 == messages * PHONES as u64, "{stored} rows for {messages} messages");
    // What the caches take at first is no growth.
    let (from, to) = (points[PARTS / 3], points[PARTS - 1]);
    let mut report = bench.report("l", "half of the load, all the time")?;
    (report.value, report.unit) = (to.1, "MiB".to_owned());
    (report.ceiling, report.of) = (from.1, "the third of six parts (the gateway: the last)".to_owned());
    report.ratio = to.1 / from.1;
    (report.target, report.good, report.verified) = (1.05, Good::AtMost, true);
    let p99 = firsts[PARTS - 1].p99 / firsts[0].p99;
    report.also("deliveries", number(stored as f64));
    report.also("p99 of a message, last part by first", format!("{p99:.2} (target ≤ 1.2)"));
    report.also("longest log of the database", format!("{} MiB (target ≤ 256)", longest_log >> 20));
    report.also("length", json!(started.elapsed().as_secs()).to_string() + " s");
    report.plot = Some(Plot {
        x: "seconds".to_owned(),
        y: "resident memory, MiB".to_owned(),
        lines: vec![("gateway".to_owned(), points)],
    });
    Ok(report)
}
