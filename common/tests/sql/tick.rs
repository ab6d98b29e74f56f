//! Tick: when one is cut, and that it is never wrong.

use tidemill_common::testing::Cluster;
use tokio_postgres::Client;

use crate::support::{
    all, alone, consume, database, delivered, message, one, queue, refused, rows, run, tick,
};

#[tokio::test]
async fn a_pass_ticks_what_has_news_and_nothing_else() {
    let (_db, client) = database().await;
    run(&client, "select pgq.create_queue('a'); select pgq.create_queue('b')").await;
    assert_eq!(tick(&client).await, ["a", "b"]);
    assert!(tick(&client).await.is_empty());
    run(&client, "select pgq.insert_event('b', 't', 'the first one of a new sequence')").await;
    let row = client.query_one("select * from tidemill.tick_pass()", &[]).await.expect("one queue");
    assert_eq!((row.get::<_, String>(0), row.get::<_, i64>(1), row.get::<_, i64>(2)), ("b".to_owned(), 3, 1));
    assert!(tick(&client).await.is_empty());
}

#[tokio::test]
async fn a_straggler_makes_its_queue_tick_again() {
    let (db, client) = database().await;
    queue(&client).await;
    let slow = db.client().await;
    run(&slow, "begin; select pgq.insert_event('q', 't', 'slow')").await;
    run(&client, "select pgq.insert_event('q', 't', 'quick')").await;
    assert_eq!(delivered(&client).await, ["quick"]);
    // The sequence counted both: only the snapshot knows that one is missing.
    assert!(tick(&client).await.is_empty());
    run(&slow, "commit").await;
    assert_eq!(delivered(&client).await, ["slow"]);
    assert!(tick(&client).await.is_empty());
}

#[tokio::test]
async fn a_lone_straggler_makes_its_queue_tick_again() {
    let (db, client, _turn) = alone().await;
    queue(&client).await;
    tick(&client).await;
    let slow = db.client().await;
    run(&slow, "begin; select pgq.insert_event('q', 't', 'slow')").await;
    // No later transaction has ended: the tick's snapshot does not know that there is one in progress.
    assert_eq!(delivered(&client).await, Vec::<String>::new());
    assert!(tick(&client).await.is_empty());
    run(&slow, "commit").await;
    assert_eq!(delivered(&client).await, ["slow"]);
    assert!(tick(&client).await.is_empty());
}

#[tokio::test]
async fn stragglers_are_asked_for_until_the_last_one_has_ended() {
    let (db, client, _turn) = alone().await;
    queue(&client).await;
    let (first, second) = (db.client().await, db.client().await);
    run(&first, "begin; select pgq.insert_event('q', 't', 'first')").await;
    run(&second, "begin; select pgq.insert_event('q', 't', 'second')").await;
    run(&client, "select pgq.insert_event('q', 't', 'quick')").await;
    assert_eq!(delivered(&client).await, ["quick"]);
    assert!(tick(&client).await.is_empty());
    run(&first, "rollback").await;
    assert!(tick(&client).await.is_empty());
    run(&second, "commit").await;
    assert_eq!(delivered(&client).await, ["second"]);
    assert!(tick(&client).await.is_empty());
}

#[tokio::test]
async fn an_idle_queue_in_a_busy_cluster_is_not_ticked_again() {
    let (db, client, _turn) = alone().await;
    queue(&client).await;
    let other = db.client().await;
    run(&other, "begin; select txid_current()").await;
    run(&client, "select pgq.insert_event('q', 't', 'd')").await;
    assert_eq!(tick(&client).await, ["q"]);
    run(&other, "rollback").await;
    assert!(tick(&client).await.is_empty());
    let settled: Option<String> = one(&client, "select current_setting('tidemill.settled_1', true)").await;
    assert_eq!(settled, Some(one::<i64>(&client, "select max(tick_id) from pgq.tick").await.to_string()));
}

#[tokio::test]
async fn a_tick_of_an_idle_queue_is_settled_if_the_one_before_was() {
    let (db, client, _turn) = alone().await;
    queue(&client).await;
    run(&client, "update pgq.queue set queue_ticker_idle_period = '0', queue_ticker_max_lag = '0'").await;
    let settled = "select current_setting('tidemill.settled_1', true) = max(tick_id)::text from pgq.tick";
    let other = db.client().await;
    run(&other, "begin; select pgq.insert_event('q', 't', 'late')").await;
    // Its number is counted by this tick, and by every later one.
    for _ in 0..3 {
        assert_eq!(tick(&client).await, ["q"]);
        assert_ne!(one::<Option<bool>>(&client, settled).await, Some(true));
    }
    run(&other, "commit").await;
    assert_eq!(tick(&client).await, ["q"]);
    run(&client, "select * from tidemill.tick_look()").await;
    assert!(one::<bool>(&client, settled).await);
    // A transaction that has drawn no number is none to wait for.
    run(&other, "begin; select txid_current()").await;
    assert_eq!(tick(&client).await, ["q"]);
    assert!(one::<bool>(&client, settled).await);
    run(&other, "select pgq.insert_event('q', 't', 'later')").await;
    assert_eq!(tick(&client).await, ["q"]);
    assert!(!one::<bool>(&client, settled).await);
    run(&other, "commit").await;
    // A pass that is rolled back settles nothing.
    tick(&client).await;
    run(&client, "select * from tidemill.tick_look()").await;
    assert!(one::<bool>(&client, settled).await);
    run(&client, "begin; select * from tidemill.tick_pass(); rollback").await;
    assert!(one::<bool>(&client, settled).await);
}

#[tokio::test]
async fn an_idle_pass_takes_no_transaction_id() {
    let (_db, client) = database().await;
    queue(&client).await;
    tick(&client).await;
    run(&client, "begin").await;
    assert!(tick(&client).await.is_empty());
    assert!(one::<bool>(&client, "select pg_current_xact_id_if_assigned() is null").await);
    run(&client, "commit").await;
}

#[tokio::test]
async fn four_tickers_at_once_never_go_back() {
    let (db, client) = database().await;
    queue(&client).await;
    let mut tickers = Vec::new();
    for _ in 0..4 {
        let ticker = db.client().await;
        tickers.push(async move {
            for _ in 0..150 {
                // Alternately the service's call and PgQ's, which wait for the lock differently.
                run(
                    &ticker,
                    "select * from tidemill.tick_pass(); select pgq.force_tick('q'); select pgq.ticker()",
                )
                .await;
            }
        });
    }
    let mut writers = Vec::new();
    for _ in 0..3 {
        let writer = db.client().await;
        writers.push(async move {
            for n in 0..200 {
                run(&writer, &format!("select pgq.insert_event('q', 't', '{n}')")).await;
            }
        });
    }
    tokio::join!(join(tickers), join(writers));
    let inverted: i64 = one(
        &client,
        "select count(*) from pgq.tick a join pgq.tick b on b.tick_queue = a.tick_queue and b.tick_id = a.tick_id + 1
         where txid_snapshot_xmax(b.tick_snapshot) < txid_snapshot_xmax(a.tick_snapshot)
            or exists (select 1 from txid_snapshot_xip(b.tick_snapshot) x where txid_visible_in_snapshot(x, a.tick_snapshot))",
    )
    .await;
    assert_eq!(inverted, 0);
    let mut ids = delivered(&client).await;
    assert_eq!(ids.len(), 600);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 200);
}

async fn join(futures: Vec<impl Future<Output = ()>>) {
    futures_util::future::join_all(futures).await;
}

#[tokio::test]
async fn a_tick_needs_read_committed() {
    let (_db, client) = database().await;
    queue(&client).await;
    for level in ["repeatable read", "serializable"] {
        for call in ["tidemill.tick_pass()", "pgq.ticker()", "pgq.ticker('q')"] {
            let (code, text) =
                refused(&client, &format!("begin isolation level {level}; select {call}")).await;
            assert_eq!(code, "TM006", "{call}");
            assert!(text.contains(&level.to_uppercase()), "{text}");
            run(&client, "rollback").await;
        }
    }
}

#[tokio::test]
async fn a_tick_is_durable_whatever_the_session_says() {
    let (_db, client) = database().await;
    queue(&client).await;
    run(&client, "set synchronous_commit = off; select pgq.insert_event('q', 't', 'd'); begin").await;
    assert_eq!(tick(&client).await, ["q"]);
    assert_eq!(one::<String>(&client, "show synchronous_commit").await, "on");
    run(&client, "commit").await;
    assert_eq!(one::<String>(&client, "show synchronous_commit").await, "off");
}

#[tokio::test]
async fn a_broken_queue_does_not_stop_the_others() {
    let (_db, client) = database().await;
    run(&client, "select pgq.create_queue('a'); select pgq.create_queue('b'); select pgq.create_queue('c')")
        .await;
    tick(&client).await;
    run(&client, "drop sequence pgq.event_2_id_seq cascade").await;
    run(&client, "select pgq.insert_event('a', 't', 'd'); select pgq.insert_event('c', 't', 'd')").await;
    let problems: Vec<String> = all(
        &client,
        "select queue_name || ' ' || problem from tidemill.tick_pass() where problem is not null",
    )
    .await;
    assert_eq!(problems, ["b 42P01 relation \"pgq.event_2_id_seq\" does not exist"]);
    let ticks: Vec<i64> =
        all(&client, "select count(*) from pgq.tick group by tick_queue order by tick_queue").await;
    assert_eq!(ticks, [3, 2, 3]);
    run(&client, "update pgq.queue set queue_ticker_max_lag = '0'; select pgq.insert_event('c', 't', 'd')")
        .await;
    assert!(one::<i64>(&client, "select pgq.ticker()").await >= 1);
}

#[tokio::test]
async fn a_broken_idle_queue_does_not_stop_the_others() {
    let (_db, client, _turn) = alone().await;
    run(&client, "select pgq.create_queue('a'); select pgq.create_queue('b'); select pgq.create_queue('c')")
        .await;
    run(&client, "update pgq.queue set queue_ticker_idle_period = '0', queue_ticker_max_lag = '0'").await;
    tick(&client).await;
    tick(&client).await;
    run(&client, "select * from tidemill.tick_look(); select * from tidemill.tick_look()").await;
    run(&client, "drop sequence pgq.event_2_tick_seq cascade").await;
    // These are settled, and idle for long enough: they are ticked together, and only if that fails one by one.
    let pass = "select queue_name || ' ' || coalesce(problem, new_events::text) from tidemill.tick_pass()";
    for _ in 0..2 {
        let done: Vec<String> = all(&client, pass).await;
        assert_eq!(done, ["a 0", "b 42P01 relation \"pgq.event_2_tick_seq\" does not exist", "c 0"]);
    }
}

#[tokio::test]
async fn a_server_that_went_back_is_refused() {
    let (_db, client) = database().await;
    run(&client, "select pgq.create_queue('a'); select pgq.create_queue('b')").await;
    run(&client, "update pgq.tick set tick_snapshot = '4000000000:4000000000:' where tick_queue = 1").await;
    run(&client, "select pgq.insert_event('a', 't', 'd'); select pgq.insert_event('b', 't', 'd')").await;
    let problem: String =
        one(&client, "select problem from tidemill.tick_pass() where queue_name = 'a'").await;
    assert!(
        problem.starts_with("TM003 Invalid PgQ state: old xmin=4000000000, old xmax=4000000000, cur txid="),
        "{problem}"
    );
    assert_eq!(refused(&client, "select pgq.ticker('a')").await.0, "TM003");
    assert_eq!(one::<i64>(&client, "select count(*) from pgq.tick where tick_queue = 2").await, 2);
}

#[tokio::test]
async fn a_copied_database_with_queues_is_refused() {
    let cluster = Cluster::shared();
    let original = cluster.database().await;
    {
        let client = original.client().await;
        queue(&client).await;
        run(&client, "select pgq.insert_event('q', 't', 'd')").await;
    }
    // A database is copied while nobody is connected to it.
    let admin = cluster.empty_database().await;
    let admin_client = admin.client().await;
    let copy = format!("{}_copy", original.name());
    tidemill_common::testing::wait_for("the copy", std::time::Duration::from_secs(10), async || {
        admin_client.batch_execute(&format!("create database {copy} template {}", original.name())).await.ok()
    })
    .await;
    let client = connect(&cluster.url(&copy)).await;
    for call in [
        "select tidemill.tick_pass()",
        "select pgq.ticker()",
        "select pgq.ticker('q')",
        "select pgq.create_queue('new')",
    ] {
        let (code, text) = refused(&client, call).await;
        assert_eq!(code, "TM003", "{call}");
        assert!(text.starts_with("NeedsRebase: "), "{text}");
    }
    run(&client, "select pgq.insert_event('q', 't', 'inserts go on')").await;
    drop(client);
    run(&admin_client, &format!("drop database {copy} with (force)")).await;
}

#[tokio::test]
async fn a_copied_database_without_queues_is_a_new_one() {
    // Every test's database is such a copy; the template's identity may even be recorded already.
    let (_db, client) = database().await;
    run(&client, "insert into tidemill.identity (system_identifier, database_oid, epoch) values (1, 1, 5)")
        .await;
    queue(&client).await;
    run(&client, "select pgq.insert_event('q', 't', 'd')").await;
    assert_eq!(delivered(&client).await, ["d"]);
    assert_eq!(one::<i64>(&client, "select epoch from tidemill.identity").await, 6);
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("it accepts");
    #[expect(clippy::disallowed_methods, reason = "ends with its client")]
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn pgqs_ticker_waits_for_count_or_lag() {
    let (_db, client) = database().await;
    queue(&client).await;
    run(
        &client,
        "select pgq.set_queue_config('q', 'ticker_max_count', '3'); select pgq.insert_event('q', 't', 'd')",
    )
    .await;
    assert_eq!(one::<Option<i64>>(&client, "select pgq.ticker('q')").await, None);
    run(&client, "select pgq.insert_event('q', 't', 'd'), pgq.insert_event('q', 't', 'd')").await;
    assert_eq!(one::<Option<i64>>(&client, "select pgq.ticker('q')").await, Some(3));
    run(&client, "select pgq.insert_event('q', 't', 'd'); update pgq.tick set tick_time = tick_time - interval '4 seconds'").await;
    assert_eq!(one::<Option<i64>>(&client, "select pgq.ticker('q')").await, Some(4));
    // A clock that was set back by an hour must not silence the ticker for an hour.
    run(&client, "select pgq.insert_event('q', 't', 'd'); update pgq.tick set tick_time = tick_time + interval '1 hour'").await;
    assert_eq!(one::<Option<i64>>(&client, "select pgq.ticker('q')").await, Some(5));
}

#[tokio::test]
async fn the_gaps_of_an_idle_queue_double() {
    let (_db, client) = database().await;
    for (lag, gap, due) in [
        ("1 second", "1 second", false),
        ("1.5 seconds", "1 second", false),
        ("2 seconds", "1 second", true),
        ("59 seconds", "30 seconds", false),
        ("60 seconds", "59 seconds", true),
        ("-1 second", "59 seconds", true),
    ] {
        let sql = format!("select tidemill.idle_tick_due('{lag}', '{gap}', '3 seconds', '1 minute')");
        assert_eq!(one::<bool>(&client, &sql).await, due, "{lag} after {gap}");
    }
}

#[tokio::test]
async fn a_tick_can_be_forced_and_paused() {
    let (_db, client) = database().await;
    queue(&client).await;
    let last: i64 = one(&client, "select pgq.force_tick('q')").await;
    assert_eq!(one::<i64>(&client, "select pgq.ticker()").await, 1);
    assert_eq!(one::<i64>(&client, "select pgq.force_tick('q')").await, last + 1);
    assert_eq!(one::<Option<i64>>(&client, "select pgq.force_tick('none')").await, None);
    run(&client, "select pgq.set_queue_config('q', 'ticker_paused', '1')").await;
    assert_eq!(message(&client, "select pgq.ticker('q')").await, "Ticker has been paused for this queue");
    assert_eq!(message(&client, "select pgq.ticker('none')").await, "no such queue");
    assert!(tick(&client).await.is_empty());
}

#[tokio::test]
async fn an_external_queue_gets_its_ticks_from_elsewhere() {
    let (_db, client) = database().await;
    queue(&client).await;
    let call = "select pgq.ticker('q', 50, '2001-02-03', 900)";
    assert_eq!(message(&client, call).await, "queue not found or ticker disabled: q");
    run(&client, "select pgq.set_queue_config('q', 'external_ticker', '1')").await;
    assert_eq!(message(&client, "select pgq.ticker('q')").await, "This queue has external tick source.");
    assert_eq!(one::<i64>(&client, call).await, 50);
    assert_eq!(refused(&client, call).await.0, "23505");
    assert_eq!(one::<i64>(&client, "select pgq.seq_getval('pgq.event_1_tick_seq')").await, 50);
    assert_eq!(one::<i64>(&client, "select pgq.seq_getval('pgq.event_1_id_seq')").await, 900);
    assert!(tick(&client).await.is_empty());
    assert!(consume(&client, "q", "c").await.is_empty());
}

#[tokio::test]
async fn one_ticker_has_the_term() {
    let (_db, client) = database().await;
    queue(&client).await;
    let (a, b) = ("'00000000-0000-0000-0000-00000000000a'", "'00000000-0000-0000-0000-00000000000b'");
    let hold = |who: &str, ms: i32| format!("select tidemill.hold_ticker({who}, {ms})");
    assert_eq!(one::<Option<i64>>(&client, &hold(a, 60_000)).await, Some(1));
    assert_eq!(one::<Option<i64>>(&client, &hold(a, 60_000)).await, Some(1));
    assert_eq!(one::<Option<i64>>(&client, &hold(b, 60_000)).await, None);
    run(&client, "select pgq.insert_event('q', 't', 'd')").await;
    assert_eq!(refused(&client, &format!("select * from tidemill.ticker_pass({b}, 1)")).await.0, "TM001");
    assert_eq!(rows(&client, &format!("select * from tidemill.ticker_pass({a}, 1)")).await, 1);
    run(&client, "update tidemill.ticker_term set until = clock_timestamp()").await;
    // Its term is over: it may do nothing more, also while nobody else has it.
    for call in
        ["ticker_pass({}, 1)", "ticker_due({}, 1, 10)", "ticker_rotate({}, 1, 'q')", "ticker_rotated({}, 1)"]
    {
        let sql = format!("select tidemill.{}", call.replace("{}", a));
        assert_eq!(refused(&client, &sql).await.0, "TM001", "{sql}");
    }
    assert_eq!(one::<Option<i64>>(&client, &hold(b, 60_000)).await, Some(2));
    assert_eq!(one::<Option<i64>>(&client, &hold(a, 60_000)).await, None);
    assert!(!one::<bool>(&client, &format!("select tidemill.release_ticker({a}, 1)")).await);
    assert!(one::<bool>(&client, &format!("select tidemill.release_ticker({b}, 2)")).await);
    assert_eq!(one::<Option<i64>>(&client, &hold(a, 60_000)).await, Some(3));
    // The clock went back by a day: a term that ends tomorrow is none.
    run(&client, "update tidemill.ticker_term set until = until + interval '1 day'").await;
    assert_eq!(one::<Option<i64>>(&client, &hold(b, 60_000)).await, Some(4));
}

/// A ticker's session plans once. With two ticks, a scan of the table is what the planner would take, for good.
#[tokio::test]
async fn a_pass_finds_the_last_tick_without_reading_all() {
    let (_db, client) = database().await;
    queue(&client).await;
    run(&client, "analyze pgq.tick; set plan_cache_mode = force_generic_plan").await;
    run(&client, "select * from tidemill.tick_look(); select * from tidemill.tick_pass()").await;
    for sql in [
        "select pgq.insert_event('q', 't', 'd'); select * from tidemill.tick_pass()",
        "select * from tidemill.tick_look()",
        "select * from tidemill.tick_pass()",
    ] {
        // Counted as long as the transaction lasts.
        run(&client, &format!("begin; {sql}")).await;
        let scans = "select seq_scan from pg_stat_xact_all_tables where relid = 'pgq.tick'::regclass";
        assert_eq!(one::<i64>(&client, scans).await, 0, "{sql}");
        run(&client, "commit").await;
    }
}
