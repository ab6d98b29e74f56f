//! Produce: queues and what goes into them.

use crate::support::{all, database, delivered, message, one, queue, refused, run, tick};

#[tokio::test]
async fn a_queue_is_made_once() {
    let (_db, client) = database().await;
    assert_eq!(one::<i32>(&client, "select pgq.create_queue('q')").await, 1);
    assert_eq!(one::<i32>(&client, "select pgq.create_queue('q')").await, 0);
    assert_eq!(message(&client, "select pgq.create_queue(null)").await, "Invalid NULL value");
    let names: Vec<String> = all(
        &client,
        "select c.relname::text from pg_class c where c.relnamespace = 'pgq'::regnamespace and c.relname like 'event_1%' order by 1",
    )
    .await;
    assert_eq!(
        names,
        [
            "event_1",
            "event_1_0",
            "event_1_0_txid_idx",
            "event_1_1",
            "event_1_1_txid_idx",
            "event_1_2",
            "event_1_2_txid_idx",
            "event_1_id_seq",
            "event_1_tick_seq"
        ]
    );
    assert_eq!(all::<i64>(&client, "select tick_id from pgq.tick").await, [1]);
}

#[tokio::test]
async fn two_sessions_make_the_same_queue_at_once() {
    let (db, one_client) = database().await;
    let other = db.client().await;
    let sql = "select pgq.create_queue('q')";
    let (a, b) = tokio::join!(one::<i32>(&one_client, sql), one::<i32>(&other, sql));
    assert_eq!(a + b, 1);
}

#[tokio::test]
async fn names_are_plain() {
    let (_db, client) = database().await;
    let long = "x".repeat(64);
    for name in ["", " ", "a b", "a'b", "a\"b", "a;b", "ä", "a/b", &long] {
        let sql = format!("select pgq.create_queue($q${name}$q$)");
        assert_eq!(refused(&client, &sql).await.0, "22023", "{name}");
    }
    for name in ["a", "A.b_c:d-9", ".global_watermark", &"x".repeat(63)] {
        assert_eq!(one::<i32>(&client, &format!("select pgq.create_queue('{name}')")).await, 1, "{name}");
    }
}

#[tokio::test]
async fn a_queue_with_consumers_is_dropped_by_force_only() {
    let (_db, client) = database().await;
    queue(&client).await;
    assert_eq!(message(&client, "select pgq.drop_queue('none')").await, "No such event queue");
    assert_eq!(
        message(&client, "select pgq.drop_queue('q')").await,
        "cannot drop queue, consumers still attached"
    );
    assert_eq!(one::<i32>(&client, "select pgq.drop_queue('q', true)").await, 1);
    for table in ["queue", "tick", "subscription", "consumer", "retry_queue"] {
        assert_eq!(one::<i64>(&client, &format!("select count(*) from pgq.{table}")).await, 0, "{table}");
    }
    let left: i64 = one(
        &client,
        "select count(*) from pg_class where relnamespace = 'pgq'::regnamespace and relname ~ '^event_[0-9]'",
    )
    .await;
    assert_eq!(left, 0);
}

#[tokio::test]
async fn settings_are_checked() {
    let (_db, client) = database().await;
    queue(&client).await;
    run(&client, "select pgq.set_queue_config('q', 'ticker_max_count', '7')").await;
    assert_eq!(one::<i32>(&client, "select queue_ticker_max_count from pgq.queue").await, 7);
    for (arguments, text) in [
        ("'q', 'ntables', '5'", "cannot change parameter \"ntabless\""),
        ("'none', 'ticker_max_count', '5'", "No such event queue"),
        ("null, 'ticker_max_count', '5'", "Invalid NULL value"),
        ("'q', null, '5'", "Invalid NULL value"),
        ("'q', 'ticker_max_count', null", "query string argument of EXECUTE is null"),
    ] {
        assert_eq!(message(&client, &format!("select pgq.set_queue_config({arguments})")).await, text);
    }
}

#[tokio::test]
async fn events_get_ids_and_keep_what_they_carry() {
    let (_db, client) = database().await;
    queue(&client).await;
    assert_eq!(one::<i64>(&client, "select pgq.insert_event('q', 't', 'one')").await, 1);
    assert_eq!(one::<i64>(&client, "select pgq.insert_event('q', 't', 'two', '1', '2', '3', '4')").await, 2);
    assert_eq!(
        one::<i64>(
            &client,
            "select pgq.insert_event_raw('q', 77, null, null, 3, null, 'raw', null, null, null, null)"
        )
        .await,
        77
    );
    // An id that was given takes a number all the same.
    assert_eq!(one::<i64>(&client, "select pgq.insert_event('q', null, null)").await, 4);
    tick(&client).await;
    let batch: i64 = one(&client, "select pgq.next_batch('q', 'c')").await;
    let rows: Vec<String> = all(
        &client,
        &format!(
            "select concat_ws('|', ev_id, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4) \
             from pgq.get_batch_events({batch})"
        ),
    )
    .await;
    assert_eq!(rows, ["1|t|one", "2|t|two|1|2|3|4", "4", "77|3|raw"]);
}

#[tokio::test]
async fn a_queue_refuses_what_it_must() {
    let (_db, client) = database().await;
    queue(&client).await;
    assert_eq!(message(&client, "select pgq.insert_event('none', 't', 'd')").await, "No such queue");
    assert_eq!(
        message(&client, "select pgq.insert_event(null, 't', 'd')").await,
        "Queue name must not be NULL"
    );
    assert_eq!(message(&client, "select pgq.current_event_table('none')").await, "Event queue not found");
    run(&client, "update pgq.queue set queue_disable_insert = true").await;
    assert_eq!(
        message(&client, "select pgq.insert_event('q', 't', 'd')").await,
        "Insert into queue disallowed"
    );
    assert_eq!(message(&client, "select pgq.current_event_table('q')").await, "Writing to queue disabled");
    run(&client, "begin; set local session_replication_role = 'replica'; select pgq.insert_event('q', 't', 'd'); commit").await;
    assert_eq!(delivered(&client).await, ["d"]);
}

#[tokio::test]
async fn one_transaction_may_put_in_so_many() {
    let (_db, client) = database().await;
    queue(&client).await;
    run(&client, "update pgq.queue set queue_per_tx_limit = 2").await;
    let insert = "select pgq.insert_event('q', 't', 'd');";
    run(&client, &format!("begin; {insert} {insert} commit; begin; {insert} {insert} commit")).await;
    let text = message(&client, &format!("begin; {insert} {insert} {insert} commit")).await;
    assert_eq!(text, "Queue 'q' allows max 2 events from one TX");
    // What was rolled back counts, also if the first event was.
    let text = message(
        &client,
        &format!(
            "rollback; begin; savepoint s; {insert} rollback to s; {insert} savepoint s; {insert} {insert}"
        ),
    )
    .await;
    assert_eq!(text, "Queue 'q' allows max 2 events from one TX");
    run(&client, &format!("rollback; begin; savepoint s; {insert} {insert} rollback to s")).await;
    assert_eq!(message(&client, insert).await, "Queue 'q' allows max 2 events from one TX");
    run(&client, &format!("rollback; begin; {insert} {insert} commit; {insert}")).await;
    run(&client, "update pgq.queue set queue_per_tx_limit = 0").await;
    assert_eq!(message(&client, insert).await, "Queue 'q' allows max 0 events from one TX");
    run(&client, &format!("update pgq.queue set queue_per_tx_limit = -1; begin; {insert} {insert} commit"))
        .await;
    run(&client, "select pgq.drop_queue('q', true)").await;
    assert!(!one::<bool>(&client, "select to_regclass('pgq.event_1_count_seq') is not null").await);
}

#[tokio::test]
async fn rolled_back_events_are_never_delivered() {
    let (_db, client) = database().await;
    queue(&client).await;
    run(
        &client,
        "begin; select pgq.insert_event('q', 't', 'kept'); savepoint s; select pgq.insert_event('q', 't', 'undone'); \
         rollback to s; select pgq.insert_event('q', 't', 'after'); commit; \
         begin; select pgq.insert_event('q', 't', 'gone'); rollback",
    )
    .await;
    assert_eq!(delivered(&client).await, ["kept", "after"]);
}

#[tokio::test]
async fn events_written_directly_into_the_table_are_delivered() {
    let (_db, client) = database().await;
    queue(&client).await;
    run(&client, "begin").await;
    let table: String = one(&client, "select pgq.current_event_table('q')").await;
    assert_eq!(table, "pgq.event_1_0");
    run(&client, &format!("insert into {table} (ev_time, ev_type, ev_data) select now(), 't', n::text from generate_series(1, 3) n; commit")).await;
    assert_eq!(delivered(&client).await, ["1", "2", "3"]);
}
