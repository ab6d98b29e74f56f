//! Produce: many events by one statement, and COPY.

use bytes::Bytes;
use futures_util::SinkExt as _;
use tokio_postgres::Client;

use crate::like_pgq;
use crate::support::{all, alone, consume, database, delivered, message, one, queue, refused, run, tick};

const COLUMNS: &str =
    "ev_id || '|' || concat_ws('|', coalesce(ev_type, '-'), coalesce(ev_data, '-'), coalesce(ev_extra1, '-'),
                       coalesce(ev_extra4, '-'))";

#[tokio::test]
async fn ids_come_in_the_order_of_the_events() {
    let (_db, client) = database().await;
    queue(&client).await;
    run(&client, "select pgq.insert_event('q', 't', 'before')").await;
    let ids: Vec<i64> = all(
        &client,
        "select * from tidemill.insert_events('q', array['a', null, 'c'], array['1', '2', null], i_extra4 => array['x', 'y', 'z'])",
    )
    .await;
    assert_eq!(ids, [2, 3, 4]);
    assert_eq!(all::<i64>(&client, "select tidemill.insert_events('q', '{}', '{}')").await, [0i64; 0]);
    let ids: Vec<i64> = all(
        &client,
        "select tidemill.insert_events('q', array_fill('t'::text, array[1000]), array_agg(n::text order by n))
         from generate_series(5, 1004) n",
    )
    .await;
    assert_eq!(ids, (5..=1004).collect::<Vec<_>>());
    let wrong =
        "select count(*) from pgq.event_1 where ev_id > 4 and (ev_data <> ev_id::text or ev_txid is null)";
    assert_eq!(one::<i64>(&client, wrong).await, 0);
    let rows: Vec<String> =
        all(&client, &format!("select {COLUMNS} from pgq.event_1 where ev_id < 5 order by ev_id")).await;
    assert_eq!(rows, ["1|t|before|-|-", "2|a|1|-|x", "3|-|2|-|y", "4|c|-|-|z"]);
    tick(&client).await;
    let batch = "select count(*) from pgq.get_batch_events(pgq.next_batch('q', 'c'))";
    assert_eq!(one::<i64>(&client, batch).await, 1004);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_nothing_is_inserted() {
    let (_db, client) = database().await;
    queue(&client).await;
    for (arguments, text) in
        [("'none', '{a}', '{b}'", "No such queue"), ("null, '{a}', '{b}'", "Queue name must not be NULL")]
    {
        assert_eq!(message(&client, &format!("select tidemill.insert_events({arguments})")).await, text);
    }
    for (arguments, text) in [
        ("'q', null, '{b}'", "types must not be NULL"),
        ("'q', '{a}', null", "data must not be NULL"),
        ("'q', '{a,b}', '{b}'", "data has 1 elements, types has 2"),
        ("'q', '{a}', '{b}', '{}'", "extra1 has 0 elements, types has 1"),
        ("'q', '{a}', '{b}', null, null, null, '{a,b}'", "extra4 has 2 elements, types has 1"),
    ] {
        let refusal = refused(&client, &format!("select tidemill.insert_events({arguments})")).await;
        assert_eq!(refusal, ("22023".to_owned(), text.to_owned()));
    }
    let two = "select tidemill.insert_events('q', '{a,b}', '{1,2}')";
    run(&client, "update pgq.queue set queue_per_tx_limit = 2").await;
    run(&client, two).await;
    let text = message(&client, &format!("begin; select pgq.insert_event('q', 'a', '0'); {two}")).await;
    assert_eq!(text, "Queue 'q' allows max 2 events from one TX");
    run(&client, "rollback; update pgq.queue set queue_disable_insert = true, queue_per_tx_limit = null")
        .await;
    assert_eq!(message(&client, two).await, "Insert into queue disallowed");
    run(&client, &format!("begin; set local session_replication_role = 'replica'; {two}; commit")).await;
    assert_eq!(delivered(&client).await, ["1", "2", "1", "2"]);
}

#[tokio::test]
async fn producers_may_and_job_queues_take_them() {
    let (_db, client) = database().await;
    run(&client, "select tidemill.create_job_queue('jobs')").await;
    for role in ["pgq_writer", "tidemill_producer"] {
        let sql = format!(
            "set role {role}; select tidemill.insert_events('jobs', '{{mail,mail}}', '{{1,2}}'); reset role"
        );
        run(&client, &sql).await;
    }
    let denied =
        refused(&client, "set role pgq_reader; select tidemill.insert_events('jobs', '{a}', '{1}')").await;
    assert_eq!(denied.0, "42501");
    run(&client, "reset role").await;
    tick(&client).await;
    assert_eq!(consume(&client, "jobs", "tidemill.dispatcher").await.concat(), ["1", "2", "1", "2"]);
}

#[tokio::test]
#[cfg_attr(without_pgq_extension, ignore = "the real PgQ is not installed")]
async fn the_real_pgq_takes_them_too() {
    let cluster = like_pgq::cluster();
    let db = cluster.empty_database().await;
    let client = db.client().await;
    run(&client, "create extension pgq; select pgq.create_queue('q')").await;
    let options = tidemill_common::schema::InstallOptions::default();
    let installed =
        tidemill_common::schema::install(&mut db.session("test"), &options).await.expect("installed");
    assert!(installed.foreign_pgq);
    let two = "select * from tidemill.insert_events('q', '{a,b}', '{1,2}')";
    assert_eq!(all::<i64>(&client, two).await, [1, 2]);
    run(&client, "update pgq.queue set queue_per_tx_limit = 3").await;
    let text = message(&client, &format!("begin; {two}; {two}")).await;
    assert_eq!(text, "Queue 'q' allows max 3 events from one TX");
    run(&client, "rollback").await;
    assert_eq!(all::<String>(&client, "select ev_data from pgq.event_1 order by ev_id").await, ["1", "2"]);
}

/// COPY into the event table with this name: the columns that are left out have defaults.
async fn copy(client: &Client, table: &str, rows: &[&str]) {
    let sink =
        client.copy_in(&format!("copy {table} (ev_time, ev_type, ev_data) from stdin")).await.expect("copy");
    let mut sink = std::pin::pin!(sink);
    for row in rows {
        let line = format!("2026-01-01 00:00:00+00\tt\t{row}\n");
        sink.send(Bytes::from(line)).await.expect("sent");
    }
    assert_eq!(sink.finish().await.expect("copied"), rows.len() as u64);
}

#[tokio::test]
async fn copied_events_are_delivered() {
    let (_db, client) = database().await;
    queue(&client).await;
    run(&client, "begin; select pg_current_xact_id()").await;
    let table: String = one(&client, "select pgq.current_event_table('q')").await;
    copy(&client, &table, &["1", "2"]).await;
    run(&client, "commit; select pgq.insert_event('q', 't', '3')").await;
    assert_eq!(all::<i64>(&client, "select ev_id from pgq.event_1 order by 1").await, [1, 2, 3]);
    assert_eq!(delivered(&client).await, ["1", "2", "3"]);
}

#[tokio::test]
async fn a_copy_that_read_the_table_name_before_a_rotation_is_delivered() {
    let (db, client, _turn) = alone().await;
    queue(&client).await;
    run(&client, "select pgq.set_queue_config('q', 'rotation_period', '0 seconds')").await;
    consume(&client, "q", "c").await;
    let rotate = "select tidemill.rotate('q')";
    // As documented: while that transaction is open the queue rotates once at most, so its table is never emptied.
    let copier = db.client().await;
    run(&copier, "begin; select pg_current_xact_id()").await;
    let table: String = one(&copier, "select pgq.current_event_table('q')").await;
    for round in 0..4 {
        run(&client, &format!("select pgq.insert_event('q', 't', 'filler {round}')")).await;
        assert_eq!(delivered(&client).await, [format!("filler {round}")]);
        run(&client, &format!("{rotate}; select pgq.maint_rotate_tables_step2()")).await;
    }
    let current: String = one(&client, "select pgq.current_event_table('q')").await;
    assert_ne!(current, table);
    copy(&copier, &table, &["copied"]).await;
    run(&copier, "commit").await;
    assert_eq!(delivered(&client).await, ["copied"]);
    // Not as documented: the name is of an earlier transaction, and the table is the next to be emptied.
    let stale: String = one(&copier, "select pgq.current_event_table('q')").await;
    let rotated = async || one::<Option<String>>(&client, rotate).await.is_none();
    for _ in 0..2 {
        run(&client, "select pgq.insert_event('q', 't', 'filler')").await;
        delivered(&client).await;
        assert!(rotated().await);
        run(&client, "select pgq.maint_rotate_tables_step2()").await;
    }
    copy(&copier, &stale, &["late"]).await;
    assert!(!rotated().await, "the event is not consumed");
    assert_eq!(delivered(&client).await, ["late"]);
}
