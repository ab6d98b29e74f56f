//! Maintain: rotation, which must never lose an event and never block a producer.

use tokio_postgres::Client;

use crate::support::{all, alone, consume, delivered, one, queue, refused, run, tick};

const ROTATE: &str = "select tidemill.rotate('q')";
const STEP2: &str = "select pgq.maint_rotate_tables_step2()";

/// A queue whose rotation is always due.
async fn rotating(client: &Client) {
    queue(client).await;
    // Also where the clock is set back meanwhile.
    run(client, "select pgq.set_queue_config('q', 'rotation_period', '-1 hour')").await;
    consume(client, "q", "c").await;
}

async fn current(client: &Client) -> i32 {
    one(client, "select queue_cur_table from pgq.queue where queue_name = 'q'").await
}

/// A whole rotation, which must succeed.
async fn rotated(client: &Client) {
    run(client, "select pgq.insert_event('q', 't', 'filler')").await;
    delivered(client).await;
    assert_eq!(one::<Option<String>>(client, ROTATE).await, None);
    run(client, STEP2).await;
}

#[tokio::test]
async fn tables_are_emptied_in_turn() {
    let (_db, client, _turn) = alone().await;
    rotating(&client).await;
    for round in 1..=7 {
        run(&client, &format!("select pgq.insert_event('q', 't', '{round}')")).await;
        assert_eq!(delivered(&client).await, [round.to_string()]);
        assert_eq!(one::<Option<String>>(&client, ROTATE).await, None, "round {round}");
        assert_eq!(current(&client).await, round % 3);
        // Not twice before step 2.
        assert_eq!(one::<Option<String>>(&client, ROTATE).await.as_deref(), Some("not_due"));
        run(&client, STEP2).await;
    }
    // The events of the last two rounds are still there.
    assert_eq!(one::<i64>(&client, "select count(*) from pgq.event_1").await, 2);
    // Ticks go with their events, the oldest first; those that are left are enough to go back a whole period.
    assert!(one::<i64>(&client, "select min(tick_id) from pgq.tick").await > 5);
    assert!(one::<i64>(&client, "select count(*) from pgq.tick").await >= 2);
}

#[tokio::test]
async fn pgqs_names_rotate_too() {
    let (_db, client, _turn) = alone().await;
    rotating(&client).await;
    let list = "select func_name || coalesce(' ' || func_arg, '') from pgq.maint_operations()";
    let operations: Vec<String> = all(&client, list).await;
    assert_eq!(operations, ["pgq.maint_rotate_tables_step1 q", "pgq.maint_rotate_tables_step2"]);
    run(&client, "select pgq.insert_event('q', 't', 'd')").await;
    delivered(&client).await;
    assert_eq!(one::<i32>(&client, "select pgq.maint_rotate_tables_step1('q')").await, 0);
    assert_eq!(current(&client).await, 1);
    assert_eq!(all::<String>(&client, list).await, ["pgq.maint_rotate_tables_step2"]);
    assert_eq!(one::<i32>(&client, STEP2).await, 0);
    assert_eq!(one::<i32>(&client, "select pgq.maint_rotate_tables_step1('none')").await, 0);
}

#[tokio::test]
async fn a_consumer_that_lags_keeps_its_events() {
    let (_db, client, _turn) = alone().await;
    rotating(&client).await;
    run(&client, "select pgq.register_consumer('q', 'slow'); select pgq.insert_event('q', 't', 'wanted')")
        .await;
    tick(&client).await;
    rotated_until_blocked(&client, "lagging_consumer").await;
    // A batch that is open is not read yet.
    let batch: i64 = one(&client, "select pgq.next_batch('q', 'slow')").await;
    assert_eq!(one::<Option<String>>(&client, ROTATE).await.as_deref(), Some("lagging_consumer"));
    let events: Vec<String> =
        all(&client, &format!("select ev_data from pgq.get_batch_events({batch})")).await;
    assert_eq!(events, ["wanted"]);
    consume(&client, "q", "slow").await;
    assert_eq!(one::<Option<String>>(&client, ROTATE).await, None);
}

/// Rotates as often as it goes; then it must be blocked for this reason.
async fn rotated_until_blocked(client: &Client, reason: &str) {
    for _ in 0..4 {
        run(client, "select pgq.insert_event('q', 't', 'filler')").await;
        delivered(client).await;
        if let Some(why) = one::<Option<String>>(client, ROTATE).await {
            assert_eq!(why, reason);
            return;
        }
        run(client, STEP2).await;
    }
    panic!("rotation was never blocked");
}

#[tokio::test]
async fn an_old_transaction_holds_rotation_back() {
    let (db, client, _turn) = alone().await;
    rotating(&client).await;
    let other = db.client().await;
    run(&other, "begin; select txid_current()").await;
    rotated_until_blocked(&client, "oldest_transaction").await;
    run(&other, "rollback").await;
    rotated(&client).await;
}

#[tokio::test]
async fn a_table_that_somebody_reads_is_left_alone() {
    let (db, client, _turn) = alone().await;
    rotating(&client).await;
    let reader = db.client().await;
    run(&reader, "begin; select * from pgq.event_1_1").await;
    run(&client, "select pgq.insert_event('q', 't', 'd')").await;
    delivered(&client).await;
    assert_eq!(one::<Option<String>>(&client, ROTATE).await.as_deref(), Some("locked"));
    assert_eq!(current(&client).await, 0);
    run(&reader, "commit").await;
    assert_eq!(one::<Option<String>>(&client, ROTATE).await, None);
    // Another session is at it.
    run(&client, STEP2).await;
    run(&client, "select pgq.insert_event('q', 't', 'd')").await;
    delivered(&client).await;
    run(&reader, "begin; select 1 from pgq.queue for update").await;
    assert_eq!(one::<Option<String>>(&client, ROTATE).await.as_deref(), Some("locked"));
    run(&reader, "rollback").await;
}

#[tokio::test]
async fn an_event_under_a_stale_table_name_is_delivered() {
    let (db, client, _turn) = alone().await;
    rotating(&client).await;
    // A REPEATABLE READ producer, or a COPY that read the name early, writes where nobody writes any more.
    let stale = db.client().await;
    let table: String = one(&stale, "select pgq.current_event_table('q')").await;
    rotated(&client).await;
    rotated(&client).await;
    assert_eq!(current(&client).await, 2);
    run(&stale, &format!("insert into {table} (ev_time, ev_type, ev_data) values (now(), 't', 'stale')"))
        .await;
    tick(&client).await;
    let batch: i64 = one(&client, "select pgq.next_batch('q', 'c')").await;
    let tables: Vec<String> = all(&client, &format!("select * from pgq.batch_event_tables({batch})")).await;
    assert!(tables.contains(&table), "{tables:?}");
    // The table that comes next is the one with the unread event: it is kept, by looking into it.
    assert!(one::<Option<String>>(&client, ROTATE).await.is_some());
    assert_eq!(consume(&client, "q", "c").await.concat(), ["stale"]);
    rotated(&client).await;
}

#[tokio::test]
async fn a_stale_event_after_the_last_tick_keeps_its_table() {
    let (db, client, _turn) = alone().await;
    rotating(&client).await;
    let stale = db.client().await;
    let table: String = one(&stale, "select pgq.current_event_table('q')").await;
    rotated(&client).await;
    rotated(&client).await;
    run(&client, "select pgq.insert_event('q', 't', 'filler')").await;
    delivered(&client).await;
    // PgQ's own condition holds now: all consumers are past the last switch.
    run(&stale, &format!("insert into {table} (ev_time, ev_type, ev_data) values (now(), 't', 'stale')"))
        .await;
    assert!(one::<Option<String>>(&client, ROTATE).await.is_some());
    assert_eq!(delivered(&client).await, ["stale"]);
}

#[tokio::test]
async fn rotation_needs_read_committed() {
    let (_db, client, _turn) = alone().await;
    rotating(&client).await;
    assert_eq!(
        refused(&client, &format!("begin isolation level repeatable read; {ROTATE}")).await.0,
        "TM006"
    );
    run(&client, "rollback").await;
}

#[tokio::test]
async fn a_journal_rotates_with_its_events() {
    let (db, client, _turn) = alone().await;
    run(&client, "select tidemill.create_job_queue('q'); select pgq.set_queue_config('q', 'rotation_period', '0 seconds')").await;
    run(&client, "insert into tidemill.journal_1_1 (j_epoch, j_seq, j_at, j_data) values (1, 1, now(), '')")
        .await;
    tick(&client).await;
    consume(&client, "q", "tidemill.dispatcher").await;
    // An owner that is writing holds the fence shared.
    let owner = db.client().await;
    run(&owner, "begin; select pg_advisory_xact_lock_shared(7465002, 1)").await;
    run(&client, "select pgq.insert_event('q', 't', 'd')").await;
    tick(&client).await;
    consume(&client, "q", "tidemill.dispatcher").await;
    assert_eq!(one::<Option<String>>(&client, ROTATE).await.as_deref(), Some("locked"));
    assert_eq!(one::<i64>(&client, "select count(*) from tidemill.journal_1_1").await, 1);
    run(&owner, "commit").await;
    assert_eq!(one::<Option<String>>(&client, ROTATE).await, None);
    assert_eq!(one::<i64>(&client, "select count(*) from tidemill.journal_1_1").await, 0);
    assert_eq!(one::<i32>(&client, "select pgq.drop_queue('q', true)").await, 1);
    assert!(one::<bool>(&client, "select to_regclass('tidemill.journal_1_1') is null").await);
}
