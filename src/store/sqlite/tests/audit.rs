//! The log of changes on disk: appended to, and nothing else.

use futures_util::future::join_all;
use sqlx::Connection as _;
use tempfile::TempDir;

use super::{SqliteOptions, number, open, open_in, stranger};
use crate::store::conformance::samples::{NOW, app};
use crate::store::sqlite::verify_audit;
use crate::store::{Aged, CategoryRecord, Retention as _, Store};

async fn written(n: usize) -> TempDir {
    let (store, directory) = open().await;
    let shop = app(&*store, "shop").await.seq;
    let put = |i| {
        let category = CategoryRecord { app: shop, name: format!("c{i}"), ..CategoryRecord::default() };
        store.put_category(category)
    };
    for done in join_all((0..n).map(put)).await {
        done.unwrap();
    }
    store.close().await;
    directory
}

async fn findings(directory: &TempDir) -> Vec<String> {
    verify_audit(&directory.path().join("data"), None).await.unwrap().1
}

/// A72.
#[tokio::test]
async fn the_log_takes_no_change_and_one_that_was_forced_is_found() {
    let directory = written(20).await;
    assert_eq!(findings(&directory).await, Vec::<String>::new());
    let mut hand = stranger(&directory.path().join("data")).await;
    for sql in ["UPDATE audit SET actor = 'key:x' WHERE seq = 7", "DELETE FROM audit WHERE seq = 7"] {
        let refused = sqlx::query(sql).execute(&mut hand).await.unwrap_err().to_string();
        assert!(refused.contains("only ever appended"), "{refused}");
    }
    for trigger in ["DROP TRIGGER audit_is_never_changed", "DROP TRIGGER audit_is_never_deleted"] {
        sqlx::query(trigger).execute(&mut hand).await.unwrap();
    }
    let by_hand: [(&'static str, &str); 3] = [
        ("UPDATE audit SET details = '{}' WHERE seq = 7", "row 7 or the one before it was changed"),
        ("DELETE FROM audit WHERE seq BETWEEN 10 AND 12", "rows 10 to 12 are missing"),
        ("DELETE FROM audit WHERE seq > 19", "rows 20 to 21 are missing at the end"),
    ];
    let mut told = Vec::new();
    for (sql, finding) in by_hand {
        sqlx::query(sql).execute(&mut hand).await.unwrap();
        told.push(finding);
        assert_eq!(findings(&directory).await, told);
    }
    hand.close().await.unwrap();
}

/// A72: what went with age leaves a chain that can be checked, and nothing else that goes does.
#[tokio::test]
async fn a_log_whose_oldest_rows_went_with_age_is_whole_and_more_cannot_go_unseen() {
    let directory = written(20).await;
    let data = directory.path().join("data");
    let store = open_in(&directory, SqliteOptions::default()).await;
    assert_eq!(store.forget(Aged::Audit, u64::MAX >> 1, 0, 8).await.unwrap().things, 8);
    assert_eq!(store.forget(Aged::Audit, u64::MAX >> 1, 0, 4).await.unwrap().things, 4);
    store.close().await;
    assert_eq!(findings(&directory).await, Vec::<String>::new());
    let (log, _) = verify_audit(&data, Some(12)).await.unwrap();
    assert_eq!((log.forgotten, log.end.seq), (12, 23));
    assert!(log.noted.is_some(), "the hash of the last row that went is still known");
    assert!(verify_audit(&data, Some(11)).await.unwrap().0.noted.is_none());

    let mut hand = stranger(&data).await;
    for sql in
        ["DELETE FROM audit WHERE seq = 13", "UPDATE audit_anchor SET seq = 5", "DELETE FROM audit_anchor"]
    {
        sqlx::query(sql).execute(&mut hand).await.unwrap_err();
    }
    // Whoever moves the anchor by hand can delete what is before it, but no row says so.
    let move_on = "UPDATE audit_anchor SET seq = 15, hash = (SELECT hash FROM audit WHERE seq = 15)";
    sqlx::query(move_on).execute(&mut hand).await.unwrap();
    sqlx::query("DELETE FROM audit WHERE seq <= 15").execute(&mut hand).await.unwrap();
    let found = findings(&directory).await;
    assert_eq!(found, ["rows up to 15 are gone and no row says that they were removed for their age"]);
    hand.close().await.unwrap();
}

#[tokio::test]
async fn a_change_that_fails_leaves_no_row_and_no_gap() {
    let (store, directory) = open().await;
    let names = ["shop", "shop", "news", "shop", "bank"];
    let ids = |i: usize| (format!("app_{i}"), format!("chn_{i}"));
    let made = join_all(names.iter().enumerate().map(|(i, name)| store.create_app(name, ids(i), NOW))).await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 3);
    let mut reader = stranger(&directory.path().join("data")).await;
    assert_eq!(number(&mut reader, "SELECT count(*) FROM audit").await, 3);
    assert_eq!(number(&mut reader, "SELECT max(seq) FROM audit").await, 3);
    // Also while the store is at work.
    assert_eq!(findings(&directory).await, Vec::<String>::new());
    store.close().await;
}
