//! How audiences are read: along an index, in the order in which they are wanted.

use sqlx::{Row as _, SqlSafeStr as _};

use super::{open_in, stranger};
use crate::delivery::expression::Expression;
use crate::store::sqlite::{SqliteOptions, accept, walk};
use crate::store::{DevicePut, Store as _};

#[tokio::test]
async fn every_part_of_an_audience_is_a_range_of_an_index_in_order_of_device() {
    let directory = tempfile::TempDir::new().unwrap();
    let store = open_in(&directory, SqliteOptions::default()).await;
    let mut connection = stranger(&directory.path().join("data")).await;
    let range = "device>? AND device<?";
    let expected = [
        (walk::ALL, "devices_by_app (app=? AND seq>? AND seq<?)".to_owned()),
        (walk::TAG, format!("PRIMARY KEY (app=? AND tag=? AND {range})")),
        (walk::EXISTS, format!("PRIMARY KEY (app=? AND name=? AND {range})")),
        (walk::EQUALS, format!("device_attrs_by_value (app=? AND name=? AND value=? AND {range})")),
        (walk::BETWEEN, format!("PRIMARY KEY (app=? AND name=? AND {range})")),
        (walk::STARTS, format!("PRIMARY KEY (app=? AND name=? AND {range})")),
        (walk::CELL, format!("PRIMARY KEY (app=? AND cell=? AND {range})")),
    ];
    for (sql, index) in expected {
        let explained: &'static str = Box::leak(format!("EXPLAIN QUERY PLAN {sql}").into_boxed_str());
        let rows = sqlx::query(explained.into_sql_str()).fetch_all(&mut connection).await.unwrap();
        let steps: Vec<String> = rows.iter().map(|row| row.get(3)).collect();
        let is_outer = |step: &&String| step.starts_with("CO-ROUTINE") || step.starts_with("SCAN (subquery");
        let inner: Vec<_> = steps.iter().filter(|step| !is_outer(step)).collect();
        assert_eq!(inner.len(), 1, "one step, without a sort: {steps:?}\n{sql}");
        assert!(inner[0].starts_with("SEARCH") && inner[0].contains(&index), "{steps:?} is not {index}");
    }
    store.close().await;
}

#[tokio::test]
async fn an_idempotency_key_is_found_by_the_first_bytes_of_its_hash() {
    let directory = tempfile::TempDir::new().unwrap();
    let store = open_in(&directory, SqliteOptions::default()).await;
    let mut connection = stranger(&directory.path().join("data")).await;
    let explained: &'static str =
        Box::leak(format!("EXPLAIN QUERY PLAN {}", accept::FIND_KEYS).into_boxed_str());
    let rows = sqlx::query(explained.into_sql_str()).fetch_all(&mut connection).await.unwrap();
    let steps: Vec<String> = rows.iter().map(|row| row.get(3)).collect();
    let by_key = "SEARCH i USING INDEX idempotency_by_key (app=? AND <expr>=?)";
    assert!(steps.iter().any(|step| step == by_key), "{steps:?}");
    store.close().await;
}

#[tokio::test]
async fn a_round_looks_at_so_many_numbers_and_says_how_far_it_came() {
    let directory = tempfile::TempDir::new().unwrap();
    let store = open_in(&directory, SqliteOptions::default()).await;
    store.create_app("shop", ("app_1".into(), "chn_1".into()), 0).await.unwrap();
    let device = |id: &str| DevicePut { id: id.into(), tags: vec!["x".into()], ..DevicePut::default() };
    store.put_devices(1, vec![device("a")], 0).await.unwrap();
    let mut connection = stranger(&directory.path().join("data")).await;
    let far = "UPDATE sqlite_sequence SET seq = 1000000 WHERE name = 'devices'";
    sqlx::query(far).execute(&mut connection).await.unwrap();
    store.put_devices(1, vec![device("b")], 0).await.unwrap();
    let (mut after, mut rounds, mut found) = (0, 0, Vec::new());
    loop {
        let round = store.targets_matching(1, &Expression::Tag("x".into()), after, 10).await.unwrap();
        rounds += 1;
        found.extend(round.devices.into_iter().map(|device| device.seq));
        let Some(next) = round.next else { break };
        after = next;
    }
    assert_eq!((rounds, found), (5, vec![1, 1_000_001]));
    store.close().await;
}
