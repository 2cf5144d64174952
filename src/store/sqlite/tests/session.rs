//! Statements that wait for the next one.

use std::sync::Arc;

use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnection;

use crate::store::sqlite::session::{Session, Sql, is_taken};

async fn session() -> Session {
    let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    sqlx::query("CREATE TABLE t (n INTEGER PRIMARY KEY)").execute(&mut connection).await.unwrap();
    Session::own(connection, Arc::default())
}

async fn insert(session: &mut Session, numbers: &[i64]) -> Sql<()> {
    session
        .write_rows("INSERT INTO t (n) ", "", numbers, |row, n| {
            row.push_bind(*n);
        })
        .await
}

async fn numbers(session: &mut Session) -> Vec<i64> {
    session.array(sqlx::query("SELECT json_group_array(n) FROM (SELECT n FROM t ORDER BY n)")).await.unwrap()
}

#[tokio::test]
async fn what_waits_is_there_for_the_next_statement_and_is_not_counted_with_it() {
    let mut session = session().await;
    session.begin();
    insert(&mut session, &[1, 2, 3]).await.unwrap();
    session.write_json("DELETE FROM t WHERE n IN (SELECT value FROM json_each(", &[2], "))").await.unwrap();
    assert_eq!(numbers(&mut session).await, [1, 3]);
    insert(&mut session, &[4]).await.unwrap();
    let more = sqlx::query("UPDATE t SET n = n + 10 WHERE n < ?1").bind(4);
    assert_eq!(session.run(more).await.unwrap(), 2);
    session.commit().await.unwrap();
    session.begin();
    let first = sqlx::query("INSERT INTO t (n) VALUES (?1)").bind(5);
    assert_eq!(session.run(first).await.unwrap(), 1);
    session.commit().await.unwrap();
    assert_eq!(numbers(&mut session).await, [4, 5, 11, 13]);
}

#[tokio::test]
async fn however_many_rows_there_are_each_is_written_once() {
    let mut session = session().await;
    let mut next = 0;
    for count in [1, 2, 63, 64, 65, 130, 999, 1000, 1001, 2345] {
        session.begin();
        insert(&mut session, &(next..next + count).collect::<Vec<_>>()).await.unwrap();
        session.commit().await.unwrap();
        next += count;
        assert_eq!(numbers(&mut session).await, (0..next).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn what_waits_when_a_transaction_is_taken_back_is_never_written() {
    let mut session = session().await;
    session.begin();
    insert(&mut session, &[1]).await.unwrap();
    session.roll_back().await;
    session.begin();
    insert(&mut session, &(100..300).collect::<Vec<_>>()).await.unwrap();
    session.roll_back().await;
    session.begin();
    session.commit().await.unwrap();
    assert_eq!(numbers(&mut session).await, [0_i64; 0]);
}

#[tokio::test]
async fn a_statement_that_fails_fails_the_commit_that_it_waited_for() {
    let mut session = session().await;
    session.begin();
    insert(&mut session, &[1]).await.unwrap();
    insert(&mut session, &[1]).await.unwrap();
    let error = session.commit().await.unwrap_err();
    assert!(is_taken(&error), "{error}");
    session.roll_back().await;
    assert_eq!(numbers(&mut session).await, [0_i64; 0], "the first is gone too");
}
