//! Tracking in the target database: what was applied is applied once, also by two programs of one name.

use std::time::Duration;

use tokio_postgres::Client;

use crate::support::{database, one, run};

async fn yes(client: &Client, call: &str) -> bool {
    one(client, &format!("select pgq_ext.{call}")).await
}

#[tokio::test]
async fn batches_events_and_ticks_are_remembered() {
    let (_db, client) = database().await;
    assert!(!yes(&client, "is_batch_done('c', 5)").await);
    assert!(yes(&client, "set_batch_done('c', 5)").await);
    assert!(yes(&client, "is_batch_done('c', 5)").await);
    assert!(!yes(&client, "is_batch_done('c', 4)").await);
    assert!(!yes(&client, "set_batch_done('c', 5)").await);
    assert!(!yes(&client, "is_batch_done('c', 'sub', 5)").await);
    assert!(yes(&client, "set_batch_done('c', 'sub', 5)").await);
    assert!(yes(&client, "set_batch_done('c', 0)").await);
    assert!(yes(&client, "is_batch_done('c', 5)").await);

    assert!(!yes(&client, "is_event_done('c', 6, 1)").await);
    assert!(yes(&client, "set_event_done('c', 6, 1)").await);
    assert!(yes(&client, "set_event_done('c', 6, 2)").await);
    assert!(!yes(&client, "set_event_done('c', 6, 1)").await);
    assert!(yes(&client, "is_event_done('c', 6, 1)").await);
    assert!(yes(&client, "set_event_done('c', 'sub', 6, 1)").await);
    assert!(yes(&client, "set_event_done('c', 7, 1)").await);
    assert!(!yes(&client, "is_event_done('c', 6, 1)").await, "another batch forgets the marks");
    assert!(yes(&client, "is_event_done('c', 'sub', 6, 1)").await);

    let last = "select pgq_ext.get_last_tick('c')";
    assert_eq!(one::<Option<i64>>(&client, last).await, None);
    assert_eq!(one::<i32>(&client, "select pgq_ext.set_last_tick('c', 10)").await, 1);
    assert_eq!(one::<i32>(&client, "select pgq_ext.set_last_tick('c', 'sub', 11)").await, 1);
    assert_eq!(one::<Option<i64>>(&client, last).await, Some(10));
    assert_eq!(one::<i32>(&client, "select pgq_ext.set_last_tick('c', null)").await, 1);
    assert_eq!(one::<Option<i64>>(&client, last).await, None);
    assert_eq!(one::<i64>(&client, "select pgq_ext.get_last_tick('c', 'sub')").await, 11);
    assert_eq!(one::<i32>(&client, "select pgq_ext.upgrade_schema()").await, 0);
    assert_eq!(one::<String>(&client, "select pgq_ext.version()").await, "3.3");
}

/// The second call waits for the first one's transaction, and answers by its outcome.
#[tokio::test]
async fn of_two_movers_one_gets_true() {
    for call in ["set_batch_done('c', 5)", "set_event_done('c', 5, 1)"] {
        for (end, answer) in [("commit", false), ("rollback", true)] {
            let (db, first) = database().await;
            let second = db.client().await;
            run(&first, "begin").await;
            assert!(yes(&first, call).await);
            let waits = async {
                waits_for_a_lock(&first).await;
                run(&first, end).await;
            };
            let ((), got) = tokio::join!(waits, yes(&second, call));
            assert_eq!(got, answer, "{call} after {end}");
        }
    }
}

/// Real programs ask first and do not look at what the recording returns: so asking waits as well.
#[tokio::test]
async fn who_asks_where_a_consumer_is_waits_for_who_moves_it() {
    for (ask, record, again) in [
        ("select pgq_ext.is_batch_done('c', 5)::text", "set_batch_done('c', 5)", "true"),
        ("select pgq_ext.get_last_tick('c')::text", "set_last_tick('c', 9)", "9"),
    ] {
        let (db, first) = database().await;
        let second = db.client().await;
        run(&first, &format!("begin; {ask}")).await;
        let waits = async {
            waits_for_a_lock(&first).await;
            run(&first, &format!("select pgq_ext.{record}; commit")).await;
        };
        let ((), got) = tokio::join!(waits, one::<String>(&second, ask));
        assert_eq!(got, again, "{ask}");
    }
}

/// Until another session of this database waits for a lock.
async fn waits_for_a_lock(client: &Client) {
    let sql = "select exists (select 1 from pg_locks l join pg_stat_activity a using (pid) \
               where not l.granted and a.datname = current_database())";
    tidemill_common::testing::wait_for(
        "a session that waits for a lock",
        Duration::from_secs(20),
        async || one::<bool>(client, sql).await.then_some(()),
    )
    .await;
}
