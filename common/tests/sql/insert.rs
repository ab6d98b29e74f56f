//! Produce: the functions that are written for each queue, and what happens to them while producers insert.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::{join, join_all};
use tidemill_common::testing::Cluster;
use tokio_postgres::Client;

use crate::support::{all, consume, database, delivered, message, one, queue, run, tick};

/// Whether inserts into a queue use the dynamic statement.
async fn is_dynamic(client: &Client, queue: &str) -> bool {
    // The view counts what the session has not yet reported, also of earlier transactions.
    let calls = "select coalesce(sum(calls), 0)::int8 from pg_stat_xact_user_functions where funcname = 'insert_event_raw'";
    run(client, "begin; set local track_functions = 'pl'").await;
    let before: i64 = one(client, calls).await;
    run(client, &format!("select pgq.insert_event('{queue}', 't', 'd')")).await;
    let after: i64 = one(client, calls).await;
    run(client, "rollback").await;
    after > before
}

/// The queues that have a function.
async fn functions(client: &Client) -> Vec<String> {
    let sql =
        "select substr(proname, 14)::text from pg_proc where proname ~ '^insert_queue_[0-9]+$' order by 1";
    all(client, sql).await
}

#[tokio::test]
async fn every_event_goes_into_the_current_table_of_its_queue() {
    let (_db, client) = database().await;
    run(&client, "select pgq.create_queue('q' || n) from generate_series(1, 35) n").await;
    assert_eq!(functions(&client).await.len(), 35);
    for table in 0..3 {
        run(&client, &format!("update pgq.queue set queue_cur_table = {table}")).await;
        run(
            &client,
            &format!("select pgq.insert_event('q' || n, 't', n || '-{table}') from generate_series(1, 35) n"),
        )
        .await;
    }
    let wrong: Vec<String> = all(
        &client,
        "select tableoid::regclass || ' has ' || ev_data from pgq.event_template
         where tableoid::regclass::text <> 'pgq.event_' || replace(ev_data, '-', '_')",
    )
    .await;
    assert_eq!(wrong, [""; 0]);
    assert_eq!(one::<i64>(&client, "select count(*) from pgq.event_template").await, 105);
    for queue in [1, 15, 16, 31, 32, 35] {
        assert!(!is_dynamic(&client, &format!("q{queue}")).await, "{queue}");
    }
}

#[tokio::test]
async fn a_queue_with_rules_or_made_by_hand_takes_the_dynamic_statement() {
    let (_db, client) = database().await;
    // The first queue of a database, so that no function knows any.
    run(
        &client,
        "insert into pgq.queue (queue_id, queue_name, queue_data_pfx, queue_event_seq, queue_tick_seq)
         values (7, 'hand', 'pgq.mine', 'pgq.mine_seq', 'pgq.mine_tick_seq');
         create sequence pgq.mine_seq; create table pgq.mine_0 () inherits (pgq.event_template)",
    )
    .await;
    assert!(is_dynamic(&client, "hand").await);
    assert_eq!(one::<i64>(&client, "select pgq.insert_event('hand', 't', 'd')").await, 2);
    queue(&client).await;
    assert!(is_dynamic(&client, "hand").await);
    assert!(!is_dynamic(&client, "q").await);
    // The next installation takes it in.
    run(&client, "do $$ begin perform tidemill.make_inserts(); end $$").await;
    assert!(!is_dynamic(&client, "hand").await);
    assert_eq!(one::<i64>(&client, "select pgq.insert_event('hand', 't', 'd')").await, 5);
    run(&client, "update pgq.queue set queue_per_tx_limit = 5 where queue_name = 'q'").await;
    assert!(is_dynamic(&client, "q").await);
    run(&client, "update pgq.queue set queue_per_tx_limit = null where queue_name = 'q'").await;
    assert!(!is_dynamic(&client, "q").await);
}

#[tokio::test]
async fn more_tables_and_other_names_are_noticed() {
    let (db, client) = database().await;
    queue(&client).await;
    let producer = db.client().await;
    let insert = producer.prepare("select pgq.insert_event('q', 't', $1)").await.expect("prepared");
    let put =
        async |data: &str| producer.query_one(&insert, &[&data]).await.expect("inserted").get::<_, i64>(0);
    put("three tables").await;
    run(
        &client,
        "create table pgq.event_1_3 () inherits (pgq.event_1);
         update pgq.queue set queue_ntables = 4, queue_cur_table = 3",
    )
    .await;
    put("four tables").await;
    assert!(!is_dynamic(&client, "q").await);
    run(
        &client,
        "begin; create table pgq.other_3 () inherits (pgq.event_1); create sequence pgq.other_seq start 100;
         update pgq.queue set queue_data_pfx = 'pgq.other', queue_event_seq = 'pgq.other_seq'; commit",
    )
    .await;
    assert_eq!(put("another name").await, 100);
    let rows: Vec<String> =
        all(&client, "select tableoid::regclass || ': ' || ev_data from pgq.event_1 order by ev_id").await;
    assert_eq!(
        rows,
        ["pgq.event_1_0: three tables", "pgq.event_1_3: four tables", "pgq.other_3: another name"]
    );
}

#[tokio::test]
async fn a_prepared_producer_follows_the_rotation() {
    let (db, client) = database().await;
    queue(&client).await;
    let producer = db.client().await;
    let insert = producer.prepare("select pgq.insert_event('q', 't', $1)").await.expect("prepared");
    // Long enough for a plan to become generic, in one transaction and in many.
    for round in 0..4 {
        run(&client, &format!("update pgq.queue set queue_cur_table = {}", round % 3)).await;
        for n in 0..8 {
            producer.query_one(&insert, &[&format!("{round}.{n}")]).await.expect("inserted");
        }
    }
    // A transaction that was there before, but has inserted nothing, hears of it too: it takes a lock.
    run(&producer, "begin; select 1").await;
    run(&client, "update pgq.queue set queue_cur_table = 2").await;
    producer.query_one(&insert, &[&"4.0"]).await.expect("inserted");
    // One that has inserted may go on as it began: its id is older than the switch.
    run(&client, "update pgq.queue set queue_cur_table = 1").await;
    producer.query_one(&insert, &[&"4"]).await.expect("inserted");
    run(&producer, "commit").await;
    producer.query_one(&insert, &[&"5.0"]).await.expect("inserted");
    let tables: Vec<String> = all(
        &client,
        "select tableoid::regclass::text from pgq.event_1 where ev_data ~ '[.][01]$' order by ev_id",
    )
    .await;
    let expected = [0, 0, 1, 1, 2, 2, 0, 0, 2, 1].map(|n| format!("pgq.event_1_{n}"));
    assert_eq!(tables, expected);
    assert_eq!(delivered(&client).await.len(), 35);
}

#[tokio::test]
async fn rules_hold_also_for_sessions_that_knew_the_queue_without() {
    let (db, client) = database().await;
    queue(&client).await;
    let producer = db.client().await;
    run(&producer, "select pgq.insert_event('q', 't', n::text) from generate_series(1, 8) n").await;
    run(&producer, "begin; select 1").await;
    run(&client, "update pgq.queue set queue_disable_insert = true").await;
    assert_eq!(
        message(&producer, "select pgq.insert_event('q', 't', 'd')").await,
        "Insert into queue disallowed"
    );
    run(&producer, "rollback").await;
    // The owner of the table may bypass ordinary triggers.
    run(
        &client,
        "set session_replication_role = replica; update pgq.queue set queue_disable_insert = false, queue_cur_table = 2;
         reset session_replication_role",
    )
    .await;
    run(&producer, "select pgq.insert_event('q', 't', 'enabled')").await;
    assert_eq!(one::<i64>(&client, "select count(*) from pgq.event_1_2").await, 1);
}

#[tokio::test]
async fn a_queue_made_again_gets_the_events_of_producers_that_knew_the_old_one() {
    let (db, client) = database().await;
    queue(&client).await;
    run(&client, "select pgq.create_queue('other')").await;
    let producer = db.client().await;
    let insert = producer.prepare("select pgq.insert_event($1, 't', $2)").await.expect("prepared");
    let put = async |queue: &str, data: &str| {
        producer.query_one(&insert, &[&queue, &data]).await.expect("inserted").get::<_, i64>(0)
    };
    for n in 0..8 {
        put("q", &n.to_string()).await;
    }
    let again = "select pgq.drop_queue('q', true); select pgq.create_queue('q')";
    run(&client, again).await;
    assert_eq!(put("q", "new").await, 1);
    // Also within a transaction, which hears of other sessions' changes only when it takes a lock.
    run(&producer, "begin").await;
    put("other", "o").await;
    run(&client, again).await;
    put("other", "o").await;
    assert_eq!(put("q", "newer").await, 1);
    run(&producer, "commit").await;
    let left: Vec<String> = all(&client, "select ev_data from pgq.event_template order by ev_data").await;
    assert_eq!(left, ["newer", "o", "o"]);
    run(&client, "select pgq.drop_queue('q', true)").await;
    assert_eq!(message(&producer, "select pgq.insert_event('q', 't', 'd')").await, "No such queue");
}

#[tokio::test]
async fn functions_of_queues_that_are_gone_go_too() {
    let (_db, client) = database().await;
    queue(&client).await;
    for _ in 0..40 {
        run(&client, "select pgq.create_queue('short'); select pgq.drop_queue('short')").await;
    }
    assert_eq!(functions(&client).await, ["1"]);
    run(&client, "select pgq.drop_queue('q', true)").await;
    run(&client, "select pgq.create_queue('last')").await;
    assert_eq!(functions(&client).await, ["42"]);
    assert!(!is_dynamic(&client, "last").await);
    // An install finds nothing to write.
    let state = "select string_agg(proname || xmin, ' ' order by proname) from pg_proc where proname ~ '^insert_(queue_[0-9]|event$)'";
    let before: String = one(&client, state).await;
    run(&client, "do $$ begin perform tidemill.make_inserts(); end $$").await;
    assert_eq!(one::<String>(&client, state).await, before);
}

#[tokio::test]
async fn who_replaces_insert_event_gets_everything() {
    let (_db, client) = database().await;
    queue(&client).await;
    run(
        &client,
        "create or replace function pgq.insert_event(queue_name text, ev_type text, ev_data text, ev_extra1 text,
             ev_extra2 text, ev_extra3 text, ev_extra4 text) returns bigint language plpgsql as $$
         begin return pgq.insert_event_raw(queue_name, null, null, null, null, 'caught', ev_data, null, null, null, null); end $$;
         create table thing (id int primary key);
         create trigger log after insert on thing for each row execute function pgq.jsontriga('q');
         select pgq.create_queue('another'); select pgq.drop_queue('another');
         select pgq.insert_event('q', 't', 'short'), pgq.insert_event('q', 't', 'long', null, null, null, null);
         insert into thing values (1)",
    )
    .await;
    let rows: Vec<String> =
        all(&client, "select ev_type || ' ' || ev_data from pgq.event_1 order by ev_id").await;
    assert_eq!(rows, ["caught short", "caught long", "caught {\"id\":1}"]);
}

#[tokio::test]
async fn forty_eight_sessions_make_and_drop_queues_while_others_produce() {
    let cluster = Cluster::shared();
    let db = cluster.database().await;
    let client = db.client().await;
    queue(&client).await;
    let done = AtomicBool::new(false);
    let makers = (0..48).map(async |n| {
        let maker = db.client().await;
        for _ in 0..2 {
            let sql = format!(
                "select pgq.create_queue('m{n}'); select pgq.insert_event('m{n}', 't', 'd'); select pgq.drop_queue('m{n}')"
            );
            run(&maker, &sql).await;
        }
    });
    let makers = async {
        join_all(makers).await;
        done.store(true, Ordering::Relaxed);
    };
    let producers = (0..3).map(async |n| {
        let producer = db.client().await;
        let insert = producer.prepare("select pgq.insert_event('q', 't', $1)").await.expect("prepared");
        let mut put = Vec::new();
        while !done.load(Ordering::Relaxed) {
            let data = format!("{n}.{}", put.len());
            producer.query_one(&insert, &[&data]).await.expect("inserted");
            put.push(data);
        }
        put
    });
    let ((), put) = join(makers, join_all(producers)).await;
    let mut put = put.concat();
    tick(&client).await;
    let mut got = consume(&client, "q", "c").await.concat();
    put.sort();
    got.sort();
    assert!(put.len() > 100, "{}", put.len());
    assert_eq!(got, put);
    assert_eq!(one::<i64>(&client, "select count(*) from pgq.queue").await, 1);
}
