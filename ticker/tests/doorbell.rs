//! The doorbell, from a producer's commit to the ticker that wakes.

mod support;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use support::{Ticker, entry, number, run};
use tidemill_common::db::{Pooler, Session, Target, TargetOptions};
use tidemill_common::service::{Progress, Step};
use tidemill_common::testing::{Cluster, Service, TestDb, wait_for};
use tokio_postgres::Client;

const TERM: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(10);
const JOB: &str = "select tidemill.insert_job('bell', 't')";

async fn fixture() -> (TestDb, Client, Ticker) {
    let db = Cluster::shared().database().await;
    let client = db.client().await;
    let ticker = Ticker::new(&db, TERM);
    run(&client, "select tidemill.create_job_queue('bell', '{\"doorbell\": true}')").await;
    (db, client, ticker)
}

async fn is_asleep(client: &Client) -> bool {
    let sql = "select coalesce(tidemill.ticker_sleeps(), false)";
    client.query_one(sql, &[]).await.expect("an answer").get(0)
}

/// Steps until producers are told that it sleeps. Nothing wakes it then: no watch runs, and nobody promotes.
async fn falls_asleep(ticker: &mut Ticker, client: &Client) {
    wait_for("it sleeps", SOON, async || {
        let progress = ticker.tick.step().await.expect("a pass");
        let woken = ticker.database.wakes().tick.woken().now_or_never().is_some();
        (is_asleep(client).await && !woken && matches!(progress, Progress::Rest(_))).then_some(())
    })
    .await;
}

/// Waits until something wakes the tick step.
async fn is_woken(ticker: &Ticker) {
    let woken = tokio::time::timeout(SOON, ticker.database.wakes().tick.woken()).await;
    assert!(woken.is_ok(), "nobody rang");
}

#[tokio::test]
async fn a_ring_wakes_a_ticker_that_sleeps() {
    let (_db, client, mut ticker) = fixture().await;
    run(&client, JOB).await;
    falls_asleep(&mut ticker, &client).await;
    for sql in [
        JOB,
        "select pgq.insert_event('bell', 't', 'd')",
        "select tidemill.insert_events('bell', '{t}', '{d}')",
        "select tidemill.ring_doorbell('bell'), pgq.insert_event('bell', 't', 'd')",
    ] {
        run(&client, sql).await;
        is_woken(&ticker).await;
        assert_eq!(ticker.tick.step().await.expect("a pass"), Progress::Worked(1), "{sql}");
        falls_asleep(&mut ticker, &client).await;
    }
    // The end of a connection wakes too; over the next one it hears again.
    run(&client, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tidemill-ticker' and datname = current_database()").await;
    is_woken(&ticker).await;
    falls_asleep(&mut ticker, &client).await;
    run(&client, JOB).await;
    is_woken(&ticker).await;
}

#[tokio::test]
async fn what_is_committed_before_the_announcement_is_found_by_the_look_after_it() {
    let (db, client, mut ticker) = fixture().await;
    run(&client, "select pgq.create_queue('plain')").await;
    run(&client, JOB).await;
    falls_asleep(&mut ticker, &client).await;
    // It is about to say that it sleeps, and must wait; meanwhile comes an event for which nobody rings.
    let other = db.client().await;
    run(&client, "select setval('tidemill.doorbell', 0)").await;
    run(&other, "begin; alter sequence tidemill.doorbell owned by none").await;
    let event = async {
        let waits = "select count(*) from pg_stat_activity where application_name = 'tidemill-ticker' \
                     and datname = current_database() and wait_event_type = 'Lock'";
        wait_for("it waits", SOON, async || (number(&client, waits).await == 1).then_some(())).await;
        run(&client, "select pgq.insert_event('plain', 't', 'd')").await;
        run(&other, "commit").await;
    };
    let (progress, ()) = tokio::join!(ticker.tick.step(), event);
    assert_eq!(progress.expect("a pass"), Progress::Worked(1));
}

#[tokio::test]
async fn in_a_crowd_nobody_is_asked_to_ring() {
    let (_db, client, mut ticker) = fixture().await;
    run(&client, JOB).await;
    falls_asleep(&mut ticker, &client).await;
    // Each pass finds some, sooner than a sleep would be worth it.
    wait_for("a crowd", SOON, async || {
        run(&client, JOB).await;
        ticker.tick.step().await.expect("a pass");
        (!is_asleep(&client).await).then_some(())
    })
    .await;
    falls_asleep(&mut ticker, &client).await;
}

#[tokio::test]
async fn nothing_is_heard_through_a_pooler_in_transaction_mode() {
    let (db, client, _) = fixture().await;
    let options = TargetOptions { pooler: Pooler::Transaction, ..TargetOptions::default() };
    let target = Arc::new(Target::parse(db.name(), db.url(), &options).expect("a target"));
    let session = || Session::new(Arc::clone(&target), "tidemill-ticker");
    let mut ticker = Ticker::over(session(), session(), TERM);
    run(&client, JOB).await;
    ticker.works().await;
    for _ in 0..5 {
        ticker.tick.step().await.expect("a pass");
        assert!(!is_asleep(&client).await);
    }
}

#[tokio::test]
async fn who_serves_no_more_listens_no_more() {
    let (db, client, mut first) = fixture().await;
    run(&client, JOB).await;
    falls_asleep(&mut first, &client).await;
    let channels = "select count(*) from pg_listening_channels()";
    let hears = async |ticker: &Ticker| {
        let row = ticker.database.connection().await.session().query_one("look", channels, &[]).await;
        row.expect("an answer").get::<_, i64>(0) == 1
    };
    assert!(hears(&first).await);
    run(&client, "update tidemill.ticker_term set until = clock_timestamp()").await;
    run(&client, JOB).await;
    let mut second = Ticker::new(&db, TERM);
    second.works().await;
    falls_asleep(&mut second, &client).await;
    wait_for("the first one hears of it", SOON, async || {
        first.tick.step().await.expect("a pass");
        (!hears(&first).await).then_some(())
    })
    .await;
    assert!(hears(&second).await);
    // A doorbell that is taken away is not listened to either.
    run(&client, "select tidemill.create_job_queue('bell', '{\"doorbell\": false}')").await;
    wait_for("the second one hears of it", SOON, async || {
        second.tick.step().await.expect("a pass");
        (!hears(&second).await).then_some(())
    })
    .await;
    assert_eq!(number(&client, "select count(*) from pgq.queue").await, 1);
}

#[tokio::test]
async fn a_ticker_that_was_killed_asleep_is_rung_for_a_few_seconds_only() {
    let db = Cluster::shared().database().await;
    let client = db.client().await;
    run(&client, "select tidemill.create_job_queue('bell', '{\"doorbell\": true}')").await;
    let toml = entry(db.name(), db.url());
    let first = Service::start("tidemill-ticker", &toml, &[]).await.expect("it starts");
    run(&client, JOB).await;
    let sleeps = async || is_asleep(&client).await.then_some(());
    wait_for("it sleeps", SOON, sleeps).await;
    // It sleeps on: what ends after five seconds is renewed before.
    let until = "select last_value from tidemill.doorbell";
    let announced = number(&client, until).await;
    wait_for("a renewal", SOON, async || (number(&client, until).await > announced).then_some(())).await;
    first.kill9();
    let left =
        "select last_value - (date_part('epoch', clock_timestamp()) * 1000)::int8 from tidemill.doorbell";
    assert!(number(&client, left).await <= 5_000);
    wait_for("the end of the announcement", SOON, async || (!is_asleep(&client).await).then_some(())).await;
    let mut second = Service::start("tidemill-ticker", &toml, &[]).await.expect("it starts");
    run(&client, JOB).await;
    wait_for("the successor sleeps", SOON, sleeps).await;
    assert_eq!(number(&client, "select max(tick_event_seq) from pgq.tick").await, 2);
    // Who stops in order takes it back.
    second.sigterm();
    assert_eq!(second.wait_exit(SOON).await.code(), Some(0), "{}", second.log_text());
    assert!(!is_asleep(&client).await);
}
