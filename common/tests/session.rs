//! A session against a real server: what it survives, and what it says when it does not.

use std::time::{Duration, Instant};

use tidemill_common::db::{Class, DbCause, Param, Type};
use tidemill_common::service::Wake;
use tidemill_common::testing::{Cluster, wait_for};
use tokio_postgres::error::SqlState;

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn the_next_call_after_a_terminated_backend_reconnects() {
    let db = Cluster::shared().empty_database().await;
    let mut session = db.session("tidemill-test");
    let pid = session.backend_pid().await.unwrap();
    let first = (session.generation(), session.server_identity().await.unwrap());
    db.client().await.execute("select pg_terminate_backend($1)", &[&pid]).await.unwrap();

    // Whether the loss is seen before the next call or by it is a matter of microseconds.
    if let Err(error) = session.query("probe", "select 1", &[]).await {
        assert_eq!(error.class(), Class::Retry);
        assert!(error.is_connection() && error.to_string().starts_with("probe (database t"), "{error}");
    }
    let row = session.query_one("probe", "select $1::int4 + 1", &[(&41_i32, Type::INT4)]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 42);
    assert_ne!(session.backend_pid().await.unwrap(), pid);
    let second = (session.generation(), session.server_identity().await.unwrap());
    assert_eq!(second.0, first.0 + 1);
    assert_eq!(second.1, first.1, "the same server has the same identity");
    assert!(second.1.system_identifier.is_some() && second.1.timeline == Some(1), "{:?}", second.1);
}

/// The server's goodbye is there, nobody has read it yet, and a call is sent: the server never reads that.
#[tokio::test]
async fn a_call_that_comes_after_the_goodbye_is_known_not_to_be_done() {
    let db = Cluster::shared().empty_database().await;
    let mut session = db.session("tidemill-test");
    let pid = session.backend_pid().await.unwrap();
    let other = db.url().to_owned();
    let terminate = async move {
        let (client, connection) = tokio_postgres::connect(&other, tokio_postgres::NoTls).await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "ended below")]
        let driver = tokio::spawn(connection);
        client.execute("select pg_terminate_backend($1, 10000)", &[&pid]).await.unwrap();
        driver.abort();
    };
    // On a thread of its own: here, nothing may run meanwhile.
    let blocked = std::thread::spawn(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(terminate);
    });
    blocked.join().unwrap();
    // The socket is seen to be readable, and this goes on before its reader does.
    tokio::task::yield_now().await;
    let error = session.query("probe", "select 1", &[]).await.unwrap_err();
    assert!(error.is_connection() && error.code().is_none(), "{error:?}");
    assert!(!error.outcome_unknown(), "{error:?}");
}

#[tokio::test]
async fn a_missed_deadline_closes_the_session_and_cancels_the_statement() {
    let db = Cluster::shared().empty_database().await;
    let mut session = db.session("tidemill-sleeper").with_deadline(Duration::from_millis(300));
    let begun = Instant::now();
    let error = session.query("sleep", "select pg_sleep(60)", &[]).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(matches!(error.cause(), DbCause::Deadline(_)), "{error:?}");
    assert!(error.outcome_unknown() && error.is_connection() && !session.is_open());

    let client = db.client().await;
    let sql = "select count(*) from pg_stat_activity where application_name = 'tidemill-sleeper' and state = 'active'";
    let gone = async || (client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0).then_some(());
    wait_for("the end of the statement on the server", SOON, gone).await;
    session.query("probe", "select 1", &[]).await.unwrap();
    assert_eq!(session.generation(), 2);
}

#[tokio::test]
async fn calls_of_one_name_may_have_a_deadline_of_their_own() {
    let db = Cluster::shared().empty_database().await;
    let mut session = db.session("tidemill-sleeper").with_deadline(Duration::from_millis(500));
    session.allow("long", Duration::from_secs(60));
    session.query("long", "select pg_sleep(1)", &[]).await.unwrap();
    let limit = session.query_one("look", "select current_setting('statement_timeout')", &[]).await.unwrap();
    assert_eq!(limit.get::<_, &str>(0), "61s", "the server leaves it its time");
    let error = session.query("short", "select pg_sleep(60)", &[]).await.unwrap_err();
    assert!(
        matches!(error.cause(), DbCause::Deadline(after) if *after == Duration::from_millis(500)),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_call_dropped_half_way_costs_the_connection_not_the_next_answer() {
    let db = Cluster::shared().empty_database().await;
    let mut session = db.session("tidemill-test");
    session.open("connect").await.unwrap();
    let half = session.query("sleep", "select pg_sleep(60)", &[]);
    tokio::time::timeout(Duration::from_millis(50), half).await.unwrap_err();
    assert!(!session.is_open());
    let row = session.query_one("probe", "select 7", &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 7);
}

#[tokio::test]
async fn a_dropped_transaction_rolls_back_and_keeps_the_connection() {
    let db = Cluster::shared().empty_database().await;
    let mut session = db.session("tidemill-test");
    session.batch("make", "create table t (a int primary key)").await.unwrap();
    let mut tx = session.begin("write").await.unwrap();
    tx.execute("insert", "insert into t values (1)", &[]).await.unwrap();
    let row = tx.query_one(
        "look",
        "select current_setting('application_name'), current_setting('transaction_isolation')",
        &[],
    );
    let row = row.await.unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("tidemill-test/write", "read committed"));
    drop(tx);
    let rows = session.query("look", "select a from t", &[]).await.unwrap();
    assert!(rows.is_empty());
    assert_eq!(session.generation(), 1);

    let mut tx = session.begin("write").await.unwrap();
    let changed =
        tx.execute("insert", "insert into t values ($1), (3)", &[(&2_i32, Type::INT4)]).await.unwrap();
    assert_eq!(changed, 2);
    tx.commit().await.unwrap();
    assert_eq!(session.query("look", "select a from t", &[]).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_failed_statement_fails_the_commit_unless_a_savepoint_undoes_it() {
    let db = Cluster::shared().empty_database().await;
    let mut session = db.session("tidemill-test");
    session.batch("make", "create table t (a int primary key)").await.unwrap();
    let mut tx = session.begin("write").await.unwrap();
    tx.execute("insert", "insert into t values (1)", &[]).await.unwrap();
    let error = tx.execute("insert again", "insert into t values (1)", &[]).await.unwrap_err();
    assert_eq!((error.class(), error.code().unwrap().code()), (Class::Reject, "23505"));
    let error = tx.commit().await.unwrap_err();
    assert!(matches!(error.cause(), DbCause::TransactionFailed) && !error.outcome_unknown(), "{error:?}");

    let mut tx = session.begin("write").await.unwrap();
    tx.execute("insert", "insert into t values (1)", &[]).await.unwrap();
    tx.savepoint("one").await.unwrap();
    tx.execute("insert again", "insert into t values (1)", &[]).await.unwrap_err();
    tx.rollback_to("one").await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(session.query("look", "select a from t", &[]).await.unwrap().len(), 1);
    assert_eq!(session.generation(), 1);
}

#[tokio::test]
async fn a_commit_without_an_answer_has_an_unknown_outcome() {
    let db = Cluster::shared().empty_database().await;
    let mut session = db.session("tidemill-test").with_deadline(Duration::from_millis(500));
    // The commit waits in a deferred trigger.
    let slow = "create table t (a int);
        create function wait() returns trigger language plpgsql as $$ begin perform pg_sleep(60); return null; end $$;
        create constraint trigger slow after insert on t deferrable initially deferred for each row execute function wait()";
    session.batch("make", slow).await.unwrap();
    let mut tx = session.begin("write").await.unwrap();
    tx.execute("insert", "insert into t values (1)", &[]).await.unwrap();
    let error = tx.commit().await.unwrap_err();
    assert!(error.outcome_unknown() && error.is_connection(), "{error:?}");

    // Inside a transaction nothing can have been committed.
    let mut tx = session.begin("write").await.unwrap();
    let error = tx.query("sleep", "select pg_sleep(60)", &[]).await.unwrap_err();
    assert!(!error.outcome_unknown() && error.is_connection());
    let error = tx.query("after", "select 1", &[]).await.unwrap_err();
    assert!(
        matches!(error.cause(), DbCause::ConnectionLost),
        "a transaction never moves to another connection"
    );
    drop(tx);
    session.query("probe", "select 1", &[]).await.unwrap();
}

#[tokio::test]
async fn copy_in_counts_its_rows_and_reports_the_servers_own_error() {
    let db = Cluster::shared().empty_database().await;
    let mut session = db.session("tidemill-test");
    session.batch("make", "create table t (a int, b text)").await.unwrap();
    let mut tx = session.begin("load").await.unwrap();
    let mut copy = tx.copy_in("copy", "copy t from stdin").await.unwrap();
    copy.send("1\tone\n2\tt".into()).await.unwrap();
    copy.send("wo\n".into()).await.unwrap();
    assert_eq!(copy.finish().await.unwrap(), 2);
    tx.commit().await.unwrap();

    let mut tx = session.begin("load").await.unwrap();
    let mut copy = tx.copy_in("copy", "copy t from stdin").await.unwrap();
    let mut error = None;
    for _ in 0..100 {
        if let Err(found) = copy.send(vec![b'x'; 100_000].into()).await {
            error = Some(found);
            break;
        }
        if let Err(found) = copy.send("\n".into()).await {
            error = Some(found);
            break;
        }
    }
    let error = match error {
        Some(error) => error,
        None => copy.finish().await.unwrap_err(),
    };
    assert_eq!(error.code().unwrap().code(), "22P02", "{error:?}");
    assert_eq!(error.class(), Class::Reject);
    drop(tx);
    assert_eq!(session.query("look", "select a from t", &[]).await.unwrap().len(), 2);

    // A stream that is given up must not be committed.
    let mut tx = session.begin("load").await.unwrap();
    let mut copy = tx.copy_in("copy", "copy t from stdin").await.unwrap();
    copy.send("3\tthree\n".into()).await.unwrap();
    drop(copy);
    assert!(matches!(tx.commit().await.unwrap_err().cause(), DbCause::TransactionFailed));
    assert_eq!(session.query("look", "select a from t", &[]).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_notification_wakes_also_after_a_reconnect() {
    let db = Cluster::shared().empty_database().await;
    let (mut session, wake) = (db.session("tidemill-test"), Wake::new());
    assert!(session.listen("Tide", wake.clone()).await.unwrap());
    let client = db.client().await;
    client.batch_execute("notify \"Tide\"").await.unwrap();
    tokio::time::timeout(SOON, wake.woken()).await.unwrap();

    let pid = session.backend_pid().await.unwrap();
    client.execute("select pg_terminate_backend($1)", &[&pid]).await.unwrap();
    // The end of a connection wakes as well: something may have been missed.
    tokio::time::timeout(SOON, wake.woken()).await.unwrap();
    session.open("connect").await.unwrap();
    client.batch_execute("notify other; notify \"Tide\"").await.unwrap();
    tokio::time::timeout(SOON, wake.woken()).await.unwrap();

    session.unlisten("Tide").await.unwrap();
    let sql = "select count(*) from pg_listening_channels()";
    assert_eq!(session.query_one("look", sql, &[]).await.unwrap().get::<_, i64>(0), 0);
    session.close();
    assert_eq!(session.query_one("look", sql, &[]).await.unwrap().get::<_, i64>(0), 0);
    session.unlisten("Tide").await.unwrap();
}

#[tokio::test]
async fn settings_of_the_role_do_not_strike_at_random() {
    let db = Cluster::shared().empty_database().await;
    let client = db.client().await;
    let name = db.name();
    let bad = format!(
        "alter database {name} set statement_timeout = 1; alter database {name} set lock_timeout = 1"
    );
    client.batch_execute(&bad).await.unwrap();
    client.batch_execute(&format!("alter database {name} set synchronous_commit = off")).await.unwrap();
    let mut session = db.session("tidemill-test").with_deadline(Duration::from_secs(7));
    let sql = "select current_setting('statement_timeout'), current_setting('lock_timeout'), \
               current_setting('synchronous_commit')";
    let row = session.query_one("look", sql, &[]).await.unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1), row.get::<_, &str>(2)), ("8s", "0", "on"));
}

#[tokio::test]
async fn a_restarted_server_costs_one_call_and_a_dead_one_a_short_wait() {
    let cluster = Cluster::private();
    let db = cluster.empty_database().await;
    let mut session = db.session("tidemill-test");
    session.query("probe", "select 1", &[]).await.unwrap();
    cluster.stop_immediate().unwrap();
    let begun = Instant::now();
    let error = session.query("probe", "select 1", &[]).await.unwrap_err();
    assert_eq!(error.class(), Class::Retry);
    let error = session.query("probe", "select 1", &[]).await.unwrap_err();
    assert!(matches!(error.cause(), DbCause::Connect { .. }) && !error.outcome_unknown(), "{error:?}");
    assert!(begun.elapsed() < SOON);
    cluster.start().unwrap();
    session.query("probe", "select 1", &[]).await.unwrap();
}

#[tokio::test]
async fn a_standby_is_left_for_the_primary() {
    let cluster = Cluster::shared();
    let db = cluster.empty_database().await;
    let client = db.client().await;
    let mut session = db.session("tidemill-test");
    session.open("connect").await.unwrap();
    // What a demoted server says.
    session.batch("demote", "set default_transaction_read_only = on").await.unwrap();
    let error = session.batch("write", "create table t ()").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "25006");
    assert!(error.is_connection() && error.class() == Class::Retry && !error.outcome_unknown());
    session.batch("write", "create table t ()").await.unwrap();
    assert_eq!(session.generation(), 2);

    let name = db.name();
    client
        .batch_execute(&format!("alter database {name} set default_transaction_read_only = on"))
        .await
        .unwrap();
    session.close();
    let error = session.query("probe", "select 1", &[]).await.unwrap_err();
    let text = tidemill_common::error_chain(&error);
    assert!(error.class() == Class::Retry && text.contains("does not allow writes"), "{text}");
}

#[tokio::test]
async fn what_is_asked_again_is_prepared_and_survives_another_function() {
    let db = Cluster::shared().empty_database().await;
    let mut session = db.session("tidemill-test");
    session.batch("make", "create function f() returns int language sql as 'select 1'").await.unwrap();
    let prepared = "select statement from pg_prepared_statements where statement = 'select f()'";
    for (count, round) in [(0, 1), (1, 2), (1, 3)] {
        session.query_one("call", "select f()", &[]).await.unwrap();
        assert_eq!(session.query("look", prepared, &[]).await.unwrap().len(), count, "round {round}");
    }
    let other = "drop function f(); create function f() returns text language sql as $$select 'one'$$";
    session.batch("replace", other).await.unwrap();
    let error = session.query("call", "select f()", &[]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "0A000", "{error:?}");
    let row = session.query_one("call", "select f()", &[]).await.unwrap();
    assert_eq!((row.get::<_, &str>(0), session.generation()), ("one", 1));
    // The same text with parameters of other types is another statement.
    for _ in 0..3 {
        session.query_one("number", "select $1::text", &[(&"7", Type::TEXT)]).await.unwrap();
    }
    let row = session.query_one("number", "select $1::text", &[(&7_i32, Type::INT4)]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "7");
}

/// Rows are read as they come; who breaks off, and a row that fails in the server, leave the connection as good as before.
#[tokio::test]
async fn rows_are_read_one_by_one() {
    let db = Cluster::shared().empty_database().await;
    let mut session = db.session("tidemill-test");
    let pid = session.backend_pid().await.unwrap();
    let sql = "select 100 / (n - $1) from generate_series(1, 50000) n";
    // Not prepared, then prepared.
    for _ in 0..3 {
        let none: [Param<'_>; 1] = [(&0_i32, Type::INT4)];
        let all = session.query_each("count", sql, &none, |row| row.try_get::<_, i32>(0)).await.unwrap();
        assert_eq!((all.len(), all[0], all[49]), (50_000, 100, 2));
        let mut read = 0;
        let wrong = session.query_each("count", sql, &none, |row| {
            read += 1;
            row.try_get::<_, String>(0)
        });
        let error = wrong.await.unwrap_err();
        assert!(error.to_string().starts_with("count (database t"), "{error}");
        assert!(matches!(error.cause(), DbCause::Decode(_)), "{error:?}");
        assert_eq!(read, 1);
        let error = session
            .query_each("count", sql, &[(&40_000_i32, Type::INT4)], |row| row.try_get::<_, i32>(0))
            .await
            .unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::DIVISION_BY_ZERO), "division by zero");
        assert_eq!(session.query_one("probe", "select 7", &[]).await.unwrap().get::<_, i32>(0), 7);
    }
    assert_eq!(session.backend_pid().await.unwrap(), pid, "still the first connection");
}
