//! One pass of each step against a real database: exactly this happens to these rows.

mod support;

use std::time::Duration;

use support::{Ticker, number};
use tidemill_common::service::{Progress, Step};
use tidemill_common::testing::{Cluster, TestDb, wait_for};
use tokio_postgres::Client;

const TERM: Duration = Duration::from_secs(60);
fn rests(progress: Progress) -> bool {
    matches!(progress, Progress::Rest(_))
}

async fn fixture() -> (TestDb, Client, Ticker) {
    let db = Cluster::shared().database().await;
    let client = db.client().await;
    let ticker = Ticker::new(&db, TERM);
    (db, client, ticker)
}

#[tokio::test]
async fn a_tick_follows_events_and_says_so() {
    let (db, client, mut ticker) = fixture().await;
    client.batch_execute("select pgq.create_queue('q')").await.expect("a queue");
    assert!(!ticker.readiness.unmet().is_empty());
    // The second tick of a queue is due at once; it has no events.
    assert!(rests(ticker.tick.step().await.expect("a pass")));
    assert!(ticker.readiness.unmet().is_empty());
    client
        .batch_execute("select pgq.insert_event('q', 't', 'd') from generate_series(1, 3)")
        .await
        .expect("events");
    assert_eq!(ticker.tick.step().await.expect("a pass"), Progress::Worked(3));
    assert!(rests(ticker.tick.step().await.expect("a pass")));
    assert_eq!(number(&client, "select max(tick_id) from pgq.tick").await, 3);
    let name = db.name();
    assert_eq!(
        ticker.metric(&format!("tidemill_produce_events_total{{database=\"{name}\",queue=\"q\"}}")),
        Some(3.0)
    );
    assert_eq!(ticker.metric(&format!("tidemill_tick_active{{database=\"{name}\"}}")), Some(1.0));
    assert!(
        ticker.metric(&format!("tidemill_tick_age_seconds{{database=\"{name}\",queue=\"q\"}}")).is_some()
    );
}

#[tokio::test]
async fn one_ticks_and_the_other_stands_by_until_the_term_is_released() {
    let (db, client, mut first) = fixture().await;
    client.batch_execute("select pgq.create_queue('q')").await.expect("a queue");
    let mut second = Ticker::new(&db, TERM);
    first.tick.step().await.expect("a pass");
    client.batch_execute("select pgq.insert_event('q', 't', 'd')").await.expect("an event");
    assert!(rests(second.tick.step().await.expect("a pass")));
    assert!(second.readiness.unmet().is_empty(), "a standby is ready");
    assert_eq!(second.metric(&format!("tidemill_tick_active{{database=\"{}\"}}", db.name())), Some(0.0));
    first.shutdown.begin();
    first.database.release().await;
    assert_eq!(second.tick.step().await.expect("a pass"), Progress::Worked(1));
    // Whoever is stopping does not take the term again.
    second.shutdown.begin();
    second.database.release().await;
    assert!(rests(first.tick.step().await.expect("a pass")));
    assert_eq!(
        number(&client, "select count(*) from tidemill.ticker_term where until > clock_timestamp()").await,
        0
    );
}

#[tokio::test]
async fn a_ticker_that_slept_through_its_term_does_nothing() {
    let (db, client, mut zombie) = fixture().await;
    client.batch_execute("select tidemill.create_job_queue('q')").await.expect("a queue");
    let event = "select tidemill.insert_jobs('q', '[{\"type\": \"now\"}]')";
    client.batch_execute(event).await.expect("a job");
    assert_eq!(zombie.tick.step().await.expect("a pass"), Progress::Worked(1));
    // The database's clock says that the term is over, and another one takes it; the process does not know.
    client.batch_execute("update tidemill.ticker_term set until = clock_timestamp()").await.expect("the end");
    let mut successor = Ticker::new(&db, TERM);
    client.batch_execute(event).await.expect("a job");
    // It leaves the other one some time to come back.
    assert!(rests(successor.tick.step().await.expect("a pass")));
    wait_for("the successor works", Duration::from_secs(2), async || {
        matches!(successor.tick.step().await.expect("a pass"), Progress::Worked(1)).then_some(())
    })
    .await;
    client
        .batch_execute(
            "select tidemill.insert_jobs('q', '[{\"type\": \"now\"}]');
             insert into tidemill.waiting (queue_id, job_id, put, kind, due, ev_time, ev_type)
             values (1, 1000, 1, 'retry', now(), now(), 'due');
             update pgq.queue set queue_rotation_period = '0'",
        )
        .await
        .expect("jobs");
    let ticks = number(&client, "select count(*) from pgq.tick").await;
    assert!(zombie.database.is_held().await);
    // It had traffic a moment ago, and so ticks without a look; then it promotes and rotates.
    assert!(rests(zombie.tick.step().await.expect("no failure")));
    assert!(rests(zombie.promote.step().await.expect("no failure")));
    assert!(rests(zombie.rotate.step().await.expect("no failure")));
    assert!(rests(zombie.tick.step().await.expect("no failure")));
    assert_eq!(number(&client, "select count(*) from pgq.tick").await, ticks);
    assert_eq!(number(&client, "select count(*) from tidemill.waiting").await, 1);
    assert_eq!(number(&client, "select queue_cur_table::int8 from pgq.queue").await, 0);
    assert!(rests(successor.promote.step().await.expect("a pass")));
    assert_eq!(number(&client, "select count(*) from tidemill.waiting").await, 0);
    assert!(matches!(successor.tick.step().await.expect("a pass"), Progress::Worked(_)));
}

#[tokio::test]
async fn what_is_due_goes_back_into_the_log() {
    let (_db, client, mut ticker) = fixture().await;
    client
        .batch_execute(
            "select tidemill.create_job_queue('j'), pgq.create_queue('q');
             select pgq.register_consumer('q', 'c');
             select pgq.event_retry_raw('q', 'c', now(), 7, now(), 1, 't', 'due', null, null, null, null);
             select pgq.event_retry_raw('q', 'c', now() + interval '1 hour', 8, now(), 1, 't', 'later', null, null, null, null);
             select tidemill.insert_jobs('j', '[{\"type\": \"later\", \"options\": {\"delay_ms\": 3600000}}]');
             insert into tidemill.waiting (queue_id, job_id, put, kind, due, ev_time, ev_type)
             select 1, n, 1, 'retry', now(), now(), 'due' from generate_series(1000, 7999) n",
        )
        .await
        .expect("a fixture");
    ticker.tick.step().await.expect("a pass");
    // A full pass first, then the rest, then nothing.
    assert_eq!(ticker.promote.step().await.expect("a pass"), Progress::Worked(5001));
    assert!(rests(ticker.promote.step().await.expect("a pass")));
    assert!(rests(ticker.promote.step().await.expect("a pass")));
    assert_eq!(number(&client, "select count(*) from tidemill.waiting").await, 1);
    assert_eq!(number(&client, "select count(*) from pgq.retry_queue").await, 1);
    assert_eq!(number(&client, "select count(*) from pgq.event_1").await, 7000);
    assert!(matches!(ticker.tick.step().await.expect("a pass"), Progress::Worked(_)));
    assert_eq!(number(&client, "select count(*) from tidemill.read_events(2, 1, 3, 2, null, null)").await, 1);
}

#[tokio::test]
async fn answers_are_forgotten_when_their_day_is_over() {
    let (_db, client, mut ticker) = fixture().await;
    client
        .batch_execute(
            "select tidemill.create_job_queue('j');
             insert into tidemill.idempotency (queue_id, key, body, answer, until)
             select 1, n::text, sha256(''), '{}', now() + (n - 10999) * interval '1 second' from generate_series(1, 11000) n",
        )
        .await
        .expect("a fixture");
    ticker.tick.step().await.expect("a pass");
    // A full portion first, and the rest soon; then nothing until it is woken.
    let until_woken = Progress::Rest(Duration::from_secs(24 * 3600));
    let soon = ticker.rotate.step().await.expect("a pass");
    assert!(rests(soon) && soon != until_woken, "{soon:?}");
    assert_eq!(number(&client, "select count(*) from tidemill.idempotency").await, 1_000);
    assert_eq!(
        number(&client, "select min(key::int8) from tidemill.idempotency").await,
        10_001,
        "the oldest first"
    );
    client
        .batch_execute(
            "update tidemill.idempotency set until = now() + interval '1 hour' where key = '11000'",
        )
        .await
        .expect("later");
    assert_eq!(ticker.rotate.step().await.expect("a pass"), until_woken);
    assert_eq!(number(&client, "select max(key::int8) from tidemill.idempotency").await, 11_000);
    assert_eq!(number(&client, "select count(*) from tidemill.idempotency").await, 1);
}

#[tokio::test]
async fn rotation_says_what_holds_it_back() {
    // Alone in its cluster: an open transaction anywhere would hold rotation back.
    let cluster = Cluster::private();
    let db = cluster.database().await;
    let client = db.client().await;
    let mut ticker = Ticker::new(&db, TERM);
    client
        .batch_execute(
            "select pgq.create_queue('free'), pgq.create_queue('held'), pgq.create_queue('locked'), pgq.create_queue('young');
             select pgq.register_consumer('held', 'slow');
             update pgq.queue set queue_rotation_period = '0' where queue_name <> 'young'",
        )
        .await
        .expect("queues");
    let reader = db.client().await;
    reader.batch_execute("begin; select * from pgq.event_3_1").await.expect("a reader");
    client
        .batch_execute("select pgq.insert_event(queue_name, 't', 'd') from pgq.queue")
        .await
        .expect("events");
    ticker.tick.step().await.expect("a pass");
    assert_eq!(
        ticker.rotate.step().await.expect("a pass"),
        Progress::Rest(Duration::from_secs(1)),
        "a locked one is tried again soon"
    );
    let blocked = |reason: &str| {
        ticker.metric(&format!("tidemill_maintain_blocked{{database=\"{}\",reason=\"{reason}\"}}", db.name()))
    };
    assert_eq!(blocked("locked"), Some(1.0));
    assert_eq!(blocked("lagging_consumer"), Some(1.0));
    assert_eq!(blocked("oldest_transaction"), Some(0.0));
    let current = "select string_agg(queue_cur_table::text, '' order by queue_id) from pgq.queue";
    let row = client.query_one(current, &[]).await.expect("one row");
    assert_eq!(row.get::<_, &str>(0), "1000");
    // Step 2 was done: no queue waits for it.
    assert_eq!(number(&client, "select count(*) from pgq.queue where queue_switch_step2 is null").await, 0);
    reader.batch_execute("commit").await.expect("the end");
    client
        .batch_execute("select pgq.insert_event(queue_name, 't', 'd') from pgq.queue")
        .await
        .expect("events");
    ticker.tick.step().await.expect("a pass");
    assert!(rests(ticker.rotate.step().await.expect("a pass")));
    let row = client.query_one(current, &[]).await.expect("one row");
    assert_eq!(row.get::<_, &str>(0), "2010");
}

#[tokio::test]
async fn a_database_without_the_schema_is_a_sentence() {
    let db = Cluster::shared().empty_database().await;
    let mut ticker = Ticker::new(&db, TERM);
    let error = ticker.tick.step().await.expect_err("no schema");
    assert_eq!(
        error.to_string(),
        format!(
            "database {0} has no Tidemill schema: run `tidemill schema install --database {0}`",
            db.name()
        )
    );
    assert!(!ticker.readiness.unmet().is_empty());
}

#[tokio::test]
async fn a_failing_queue_is_counted_and_the_others_are_ticked() {
    let (db, client, mut ticker) = fixture().await;
    client.batch_execute("select pgq.create_queue('a'), pgq.create_queue('b')").await.expect("queues");
    client.batch_execute("drop sequence pgq.event_1_id_seq cascade").await.expect("damage");
    client.batch_execute("select pgq.insert_event('b', 't', 'd')").await.expect("an event");
    assert_eq!(ticker.tick.step().await.expect("a pass"), Progress::Worked(1));
    assert_eq!(
        ticker.metric(&format!("tidemill_tick_failures_total{{database=\"{}\"}}", db.name())),
        Some(1.0)
    );
}
