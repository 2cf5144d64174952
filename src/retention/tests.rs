//! The task on a clock that is turned, over the real store.

use std::sync::Arc;

use tempfile::TempDir;

use super::{DAY_MS, Parts, ROWS};
use crate::clock::Clock;
use crate::delivery::state::{Event, State};
use crate::ids::Id;
use crate::settings::Settings;
use crate::store::sqlite::{SqliteOptions, SqliteStore};
use crate::store::{Changes, NewMessage, Store, StoreError};
use crate::tasks::Tasks;
use crate::telemetry::{ForgottenLabels, Metrics};

const NOW: u64 = 1_800_000_000_000;

async fn parts() -> (Parts, TempDir) {
    let (clock, directory) = (Clock::fixed(NOW), TempDir::new().unwrap());
    let options = SqliteOptions { clock: clock.clone(), ..SqliteOptions::default() };
    let store = SqliteStore::open(&directory.path().join("data"), options).await.unwrap();
    store.create_app("shop", ("app_1".into(), "chn_1".into()), NOW).await.unwrap();
    let settings = Settings::defaults();
    let parts = Parts {
        clock,
        store,
        metrics: Arc::new(Metrics::default()),
        tasks: Tasks::default(),
        ages: settings.retention,
        webhook_hours: settings.webhooks.retention_hours,
    };
    (parts, directory)
}

fn id(n: u64) -> Id {
    Id(Id::floor_at(NOW).0 + n as i64)
}

/// A message that ended for so many targets.
async fn over(store: &dyn Store, n: u64, targets: u64) {
    let new = NewMessage {
        id: id(n),
        app: 1,
        class: anypush_providers::contract::Class::Transactional,
        spec: "{}".into(),
        label: None,
        collapse: None,
        created_at: NOW,
        deadline_at: NOW + 1,
        send_at: None,
        idempotency: None,
    };
    let ended = |target| Event {
        reason: Some(anypush_providers::contract::Reason::NoRoute),
        ..Event::new((id(n), target), State::Failed, 0, 1)
    };
    let expanded = vec![(id(n), targets, Some(NOW))];
    let events = (0..targets).map(ended).collect();
    store.accept(new, Changes { events, expanded, ..Changes::default() }).await.unwrap();
}

fn counted(parts: &Parts, what: &'static str) -> u64 {
    parts.metrics.forgotten.get_or_create(&ForgottenLabels { what }).get()
}

#[tokio::test]
async fn a_round_forgets_what_is_too_old_in_few_statements_and_counts_it() {
    let (parts, _directory) = parts().await;
    let large = ROWS as u64 + 1000;
    over(&*parts.store, 0, large).await;
    for n in 1..=200 {
        over(&*parts.store, n, 10).await;
    }
    parts.clock.advance(std::time::Duration::from_hours(24 * parts.ages.messages_days));
    parts.round().await.unwrap();
    assert_eq!(counted(&parts, "messages"), 0, "it is not older than it may be");
    parts.clock.advance(std::time::Duration::from_hours(1));
    let before = parts.store.write_statements();
    parts.round().await.unwrap();
    let statements = parts.store.write_statements() - before;
    assert_eq!((counted(&parts, "messages"), counted(&parts, "deliveries")), (201, large + 2000));
    assert!(statements < 40, "{statements} statements");
    assert_eq!(counted(&parts, "report_counters"), 0, "reports outlive what they count");
    parts.clock.advance(std::time::Duration::from_hours(24 * parts.ages.reports_days));
    parts.round().await.unwrap();
    assert!(counted(&parts, "report_counters") > 0);
    parts.store.close().await;
}

#[tokio::test]
async fn a_store_that_cannot_write_is_told_and_loses_nothing() {
    let (parts, _directory) = parts().await;
    over(&*parts.store, 1, 1).await;
    parts.clock.advance(std::time::Duration::from_hours(24 * 365));
    let held = parts.store.clone();
    held.close().await;
    assert!(matches!(parts.round().await, Err(StoreError::Busy(_))));
    assert_eq!(counted(&parts, "messages"), 0);
}

#[tokio::test]
async fn a_clock_that_has_leapt_ahead_of_the_newest_message_is_noticed() {
    let (parts, _directory) = parts().await;
    assert_eq!(parts.leap().await.unwrap(), 0, "an empty database has nothing to lose");
    over(&*parts.store, 1, 1).await;
    parts.clock.advance(std::time::Duration::from_millis(6 * DAY_MS));
    assert_eq!(parts.leap().await.unwrap(), 0);
    parts.clock.advance(std::time::Duration::from_millis(400 * DAY_MS));
    assert_eq!(parts.leap().await.unwrap(), 406);
    parts.store.close().await;
}

/// Prints how long calls that send take while a hundred thousand deliveries are forgotten, and while none are: run it with
/// `--ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn how_much_forgetting_costs_who_sends() {
    let (parts, _directory) = parts().await;
    for n in 0..20 {
        over(&*parts.store, n, ROWS as u64).await;
    }
    let mut next = 1000;
    let mut sent = async |rounds: usize| {
        let mut took = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            let began = std::time::Instant::now();
            over(&*parts.store, next, 1).await;
            took.push(began.elapsed());
            next += 1;
        }
        took.sort_unstable();
        (took[rounds / 2], took[rounds * 99 / 100], took[rounds - 1])
    };
    println!("alone: median, 99 %, most: {:?}", sent(2000).await);
    parts.clock.advance(std::time::Duration::from_hours(24 * 365));
    let began = std::time::Instant::now();
    let (beside, round) = tokio::join!(sent(2000), async {
        parts.round().await.unwrap();
        began.elapsed()
    });
    let gone = counted(&parts, "deliveries");
    println!("beside: {beside:?}; {gone} deliveries were forgotten in {round:?}");
    parts.store.close().await;
}
