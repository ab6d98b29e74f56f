//! Batch: what a consumer gets.

use crate::support::{all, consume, database, delivered, message, one, queue, refused, rows, run, tick};

#[tokio::test]
async fn all_sessions_of_one_consumer_get_the_same_batch() {
    let (db, client) = database().await;
    queue(&client).await;
    for round in 0..20 {
        run(&client, "select pgq.insert_event('q', 't', 'd')").await;
        tick(&client).await;
        let mut clients = Vec::new();
        for _ in 0..6 {
            clients.push(db.client().await);
        }
        let calls = clients.iter().map(|c| one::<i64>(c, "select pgq.next_batch('q', 'c')"));
        let ids = futures_util::future::join_all(calls).await;
        assert!(ids.iter().all(|id| *id == ids[0]), "round {round}: {ids:?}");
        assert_eq!(one::<i32>(&client, &format!("select pgq.finish_batch({})", ids[0])).await, 1);
    }
}

#[tokio::test]
async fn a_second_session_waits_and_then_finds_the_batch_open() {
    let (db, client) = database().await;
    queue(&client).await;
    run(&client, "select pgq.insert_event('q', 't', 'd')").await;
    tick(&client).await;
    let other = db.client().await;
    run(&client, "begin").await;
    let first: i64 = one(&client, "select pgq.next_batch('q', 'c')").await;
    let (second, ()) = tokio::join!(one::<i64>(&other, "select pgq.next_batch('q', 'c')"), async {
        let waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
        tidemill_common::testing::wait_for(
            "the second session waits",
            std::time::Duration::from_secs(5),
            async || (one::<i64>(&client, waits).await == 1).then_some(()),
        )
        .await;
        run(&client, "commit").await;
    });
    assert_eq!(second, first);
}

#[tokio::test]
async fn looking_for_a_batch_in_vain_writes_nothing() {
    let (_db, client) = database().await;
    queue(&client).await;
    assert!(consume(&client, "q", "c").await.is_empty());
    run(&client, "begin").await;
    assert_eq!(one::<Option<i64>>(&client, "select pgq.next_batch('q', 'c')").await, None);
    assert!(one::<bool>(&client, "select pg_current_xact_id_if_assigned() is null").await);
    run(&client, "commit").await;
    let nulls: bool = one(&client, "select b is null from pgq.next_batch_info('q', 'c') b").await;
    assert!(nulls);
}

#[tokio::test]
async fn a_batch_is_the_same_until_it_is_finished() {
    let (_db, client) = database().await;
    queue(&client).await;
    run(&client, "select pgq.insert_event('q', 't', '1')").await;
    tick(&client).await;
    let batch: i64 = one(&client, "select pgq.next_batch('q', 'c')").await;
    run(&client, "select pgq.insert_event('q', 't', '2')").await;
    tick(&client).await;
    assert_eq!(one::<i64>(&client, "select pgq.next_batch('q', 'c')").await, batch);
    for _ in 0..2 {
        assert_eq!(
            all::<String>(&client, &format!("select ev_data from pgq.get_batch_events({batch})")).await,
            ["1"]
        );
    }
    let tables: Vec<String> = all(&client, &format!("select * from pgq.batch_event_tables({batch})")).await;
    // The previous one too, if an old transaction of another test is in the first tick's snapshot.
    assert!(tables == ["pgq.event_1_0"] || tables == ["pgq.event_1_0", "pgq.event_1_2"], "{tables:?}");
    let info = client.query_one("select * from pgq.get_batch_info($1)", &[&batch]).await.expect("one row");
    assert_eq!((info.get::<_, String>(0), info.get::<_, String>(1)), ("q".to_owned(), "c".to_owned()));
    assert_eq!(
        (info.get::<_, i64>("prev_tick_id") + 1, info.get::<_, i64>("seq_end")),
        (info.get("tick_id"), 1)
    );
    assert_eq!(one::<i32>(&client, &format!("select pgq.finish_batch({batch})")).await, 1);
    assert_eq!(one::<i32>(&client, &format!("select pgq.finish_batch({batch})")).await, 0);
    assert_eq!(delivered(&client).await, ["2"]);
    for (sql, text) in [
        (format!("select * from pgq.get_batch_events({batch})"), "batch not found".to_owned()),
        (format!("select pgq.batch_event_sql({batch})"), "batch not found".to_owned()),
        (format!("select pgq.batch_event_tables({batch})"), format!("Cannot find data for batch {batch}")),
    ] {
        assert_eq!(message(&client, &sql).await, text);
    }
    assert!(
        one::<bool>(&client, &format!("select queue_name is null from pgq.get_batch_info({batch})")).await
    );
}

#[tokio::test]
async fn a_batch_can_be_asked_to_be_larger_or_older() {
    let (_db, client) = database().await;
    queue(&client).await;
    consume(&client, "q", "c").await;
    for _ in 0..6 {
        run(&client, "select pgq.insert_event('q', 't', 'd'), pgq.insert_event('q', 't', 'd')").await;
        tick(&client).await;
    }
    let custom = |arguments: &str| {
        format!(
            "select (b).cur_tick_event_seq from (select pgq.next_batch_custom('q', 'c', {arguments}) as b) x"
        )
    };
    assert_eq!(one::<Option<i64>>(&client, &custom("null, 100, null")).await, None);
    assert_eq!(one::<Option<i64>>(&client, &custom("'1 hour', null, null")).await, None);
    // The newest tick has 12, more than twice 3: the earliest that has 3 is taken.
    assert_eq!(one::<Option<i64>>(&client, &custom("null, 3, null")).await, Some(4));
    // An open batch is returned as it is.
    assert_eq!(one::<Option<i64>>(&client, &custom("'1 hour', 100, null")).await, Some(4));
    run(&client, "select pgq.finish_batch(pgq.next_batch('q', 'c'))").await;
    assert_eq!(one::<Option<i64>>(&client, &custom("null, 6, null")).await, Some(12));
}

#[tokio::test]
async fn a_transaction_over_several_ticks_is_delivered_once() {
    let (db, client) = database().await;
    queue(&client).await;
    let (a, b) = (db.client().await, db.client().await);
    run(&a, "begin; select pgq.insert_event('q', 't', 'a1')").await;
    run(&b, "begin; select pgq.insert_event('q', 't', 'b1')").await;
    run(&client, "select pgq.insert_event('q', 't', 'x1')").await;
    assert_eq!(delivered(&client).await, ["x1"]);
    run(&a, "select pgq.insert_event('q', 't', 'a2')").await;
    run(&client, "select pgq.insert_event('q', 't', 'x2')").await;
    assert_eq!(delivered(&client).await, ["x2"]);
    run(&b, "commit").await;
    assert_eq!(delivered(&client).await, ["b1"]);
    run(&client, "select pgq.insert_event('q', 't', 'x3')").await;
    run(&a, "select pgq.insert_event('q', 't', 'a3'); commit").await;
    assert_eq!(delivered(&client).await, ["a1", "a2", "x3", "a3"]);
    assert!(delivered(&client).await.is_empty());
}

#[tokio::test]
async fn consumers_read_independently_from_where_they_registered() {
    let (_db, client) = database().await;
    queue(&client).await;
    run(&client, "select pgq.insert_event('q', 't', '1')").await;
    tick(&client).await;
    run(&client, "select pgq.register_consumer('q', 'late')").await;
    run(&client, "select pgq.insert_event('q', 't', '2')").await;
    tick(&client).await;
    assert_eq!(consume(&client, "q", "late").await.concat(), ["2"]);
    assert_eq!(consume(&client, "q", "c").await.concat(), ["1", "2"]);
    // Back to an earlier tick: the same events again.
    assert_eq!(one::<i32>(&client, "select pgq.register_consumer_at('q', 'late', 2)").await, 0);
    assert_eq!(consume(&client, "q", "late").await.concat(), ["1", "2"]);
    let text = message(&client, "select pgq.register_consumer_at('q', 'late', 999)").await;
    assert_eq!(text, "cannot reposition, tick not found: 999");
}

#[tokio::test]
async fn registration_says_what_is_wrong() {
    let (_db, client) = database().await;
    queue(&client).await;
    assert_eq!(one::<i32>(&client, "select pgq.register_consumer('q', 'c')").await, 0);
    assert_eq!(
        message(&client, "select pgq.register_consumer('none', 'c')").await,
        "Event queue not created yet"
    );
    assert_eq!(refused(&client, "select pgq.register_consumer('q', '')").await.0, "22023");
    assert_eq!(one::<i32>(&client, "select pgq.register_consumer('q', 'any \"name\" will do')").await, 1);
    assert_eq!(
        message(&client, "select pgq.next_batch('q', 'none')").await,
        "Not subscriber to queue: q/none"
    );
    assert_eq!(message(&client, "select pgq.next_batch(null, 'c')").await, "Not subscriber to queue: NULL/c");
    assert_eq!(one::<i32>(&client, "select pgq.unregister_consumer('q', 'none')").await, 0);
    assert_eq!(one::<i32>(&client, "select pgq.unregister_consumer('q', 'c')").await, 1);
    run(&client, "delete from pgq.tick").await;
    assert_eq!(
        message(&client, "select pgq.register_consumer('q', 'c')").await,
        "No ticks for this queue.  Please run ticker on database."
    );
}

#[tokio::test]
async fn two_sessions_register_the_same_new_consumer() {
    let (db, client) = database().await;
    queue(&client).await;
    let other = db.client().await;
    for n in 0..20 {
        let sql = format!("select pgq.register_consumer('q', 'n{n}')");
        let (a, b) = tokio::join!(one::<i32>(&client, &sql), one::<i32>(&other, &sql));
        assert_eq!(a + b, 1);
    }
}

#[tokio::test]
async fn the_info_functions_say_where_everybody_is() {
    let (_db, client) = database().await;
    queue(&client).await;
    consume(&client, "q", "c").await;
    run(&client, "select pgq.insert_event('q', 't', '1')").await;
    assert_eq!(one::<i64>(&client, "select ev_new from pgq.get_queue_info('q')").await, 1);
    tick(&client).await;
    let row = client.query_one("select * from pgq.get_consumer_info('q', 'c')", &[]).await.expect("one row");
    assert_eq!((row.get::<_, i64>("last_tick"), row.get::<_, i64>("pending_events")), (2, 1));
    let row = client.query_one("select * from pgq.get_queue_info()", &[]).await.expect("one row");
    assert_eq!((row.get::<_, i64>("ev_new"), row.get::<_, i64>("last_tick_id")), (0, 3));
    assert!(row.get::<_, f64>("ev_per_sec") > 0.0);
    assert_eq!(one::<i64>(&client, "select count(*) from pgq.get_consumer_info('other')").await, 0);
    assert!(one::<String>(&client, "select pgq.version()").await.starts_with('3'));
    assert_eq!(one::<String>(&client, "select pgq.quote_fqname('a.B.c')").await, "a.\"B.c\"");
    assert_eq!(one::<String>(&client, "select pgq.quote_fqname('x')").await, "public.x");
}

#[tokio::test]
async fn a_range_is_read_page_by_page_without_losing_equal_ids() {
    let (_db, client) = database().await;
    queue(&client).await;
    let from: i64 = one(&client, "select max(tick_id) from pgq.tick").await;
    // A retried event keeps its id, so that ids repeat within a range of several ticks.
    for round in ["first", "second", "third"] {
        run(&client, &format!("select pgq.insert_event_raw('q', n, null, null, null, 't', '{round}' || n, null, null, null, null) from generate_series(1, 10) n")).await;
        tick(&client).await;
    }
    let to: i64 = one(&client, "select max(tick_id) from pgq.tick").await;
    let mut read: Vec<String> = Vec::new();
    let mut after = "null".to_owned();
    loop {
        let rows = client
            .query(
                &format!(
                    "select ev_id, ev_data from tidemill.read_events(1, {from}, {to}, null, {after}, 7)"
                ),
                &[],
            )
            .await
            .expect("a page");
        let Some(last) = rows.last() else { break };
        after = last.get::<_, i64>(0).to_string();
        read.extend(rows.iter().map(|row| row.get::<_, String>(1)));
    }
    let whole: Vec<String> =
        all(&client, &format!("select ev_data from tidemill.read_events(1, {from}, {to}, null, null, null)"))
            .await;
    assert_eq!(whole.len(), 30);
    assert_eq!(read, whole);
    assert_eq!(
        refused(&client, &format!("select tidemill.read_events(1, {from}, 999, null, null, null)")).await.0,
        "P0002"
    );
}

#[tokio::test]
async fn a_batch_is_read_by_index() {
    let (_db, client) = database().await;
    queue(&client).await;
    consume(&client, "q", "c").await;
    run(
        &client,
        "insert into pgq.event_1_0 (ev_time, ev_data) select now(), 'old' from generate_series(1, 50000)",
    )
    .await;
    tick(&client).await;
    consume(&client, "q", "c").await;
    run(&client, "select pgq.insert_event('q', 't', 'new')").await;
    tick(&client).await;
    let batch: i64 = one(&client, "select pgq.next_batch('q', 'c')").await;
    let sql: String = one(&client, &format!("select pgq.batch_event_sql({batch})")).await;
    run(&client, "set enable_seqscan = off").await;
    let plan = all::<String>(&client, &format!("explain {sql}")).await.join("\n");
    assert!(!plan.contains("Seq Scan"), "{plan}");
    for table in ["event_1_0", "event_1_1", "event_1_2"] {
        assert!(plan.contains(table), "{plan}");
    }
}

#[tokio::test]
async fn a_batch_can_be_read_through_a_cursor() {
    let (_db, client) = database().await;
    queue(&client).await;
    run(&client, "select pgq.insert_event('q', 't', n::text) from generate_series(1, 10) n").await;
    tick(&client).await;
    let batch: i64 = one(&client, "select pgq.next_batch('q', 'c')").await;
    run(&client, "begin").await;
    let first = format!("select ev_data from pgq.get_batch_cursor({batch}, 'My cursor', 3)");
    assert_eq!(all::<String>(&client, &first).await, ["1", "2", "3"]);
    assert_eq!(rows(&client, "fetch 100 from \"My cursor\"").await, 7);
    let some = format!("select ev_data from pgq.get_batch_cursor({batch}, 'other', 2, $$ev_id > 7$$)");
    assert_eq!(all::<String>(&client, &some).await, ["8", "9"]);
    assert_eq!(
        all::<String>(&client, &format!("select ev_data from pgq.get_batch_cursor({batch}, 'x', null)"))
            .await
            .len(),
        0
    );
    run(&client, "rollback").await;
}
