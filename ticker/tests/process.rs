//! The real binary: what signals and crashes do.

use std::time::{Duration, Instant};

use tidemill_common::testing::{Cluster, Service, TestDb, wait_for};
use tokio_postgres::Client;

fn config(databases: &[&TestDb]) -> String {
    databases
        .iter()
        .map(|db| format!("[[databases]]\nname = \"{}\"\nurl = \"{}\"\n", db.name(), db.url()))
        .collect()
}

async fn start(databases: &[&TestDb]) -> Service {
    Service::start("tidemill-ticker", &config(databases), &[]).await.expect("it starts")
}

/// How long until an event that is inserted now is in a tick.
async fn latency(client: &Client, deadline: Duration) -> Duration {
    let begun = Instant::now();
    let id: i64 =
        client.query_one("select pgq.insert_event('q', 't', 'd')", &[]).await.expect("an event").get(0);
    wait_for("a tick with the event", deadline, async || {
        let sql = "select max(tick_event_seq) from pgq.tick";
        (client.query_one(sql, &[]).await.expect("ticks").get::<_, i64>(0) >= id).then_some(())
    })
    .await;
    begun.elapsed()
}

async fn fixture() -> (TestDb, Client) {
    let db = Cluster::shared().database().await;
    let client = db.client().await;
    client.batch_execute("select pgq.create_queue('q')").await.expect("a queue");
    (db, client)
}

#[tokio::test]
async fn sigterm_hands_the_term_over_and_exits_0() {
    let (db, client) = fixture().await;
    let mut first = start(&[&db]).await;
    latency(&client, Duration::from_secs(2)).await;
    let mut second = start(&[&db]).await;
    first.sigterm();
    assert_eq!(first.wait_exit(Duration::from_secs(5)).await.code(), Some(0), "{}", first.log_text());
    // The term was released: the standby need not wait for its end.
    let took = latency(&client, Duration::from_secs(3)).await;
    assert!(took < Duration::from_millis(1500), "{took:?}");
    second.sigterm();
    assert_eq!(second.wait_exit(Duration::from_secs(5)).await.code(), Some(0));
}

#[tokio::test]
async fn a_standby_takes_over_from_one_that_was_killed() {
    let (db, client) = fixture().await;
    let first = start(&[&db]).await;
    latency(&client, Duration::from_secs(2)).await;
    let _second = start(&[&db]).await;
    first.kill9();
    taken_over(&client).await;
}

/// Until another ticker ticks, which is soon. Returns its term. A pass that the one before had sent may still be done
/// first: it had the term.
async fn taken_over(client: &Client) -> String {
    let begun = Instant::now();
    let holder = wait_for("another ticker ticks", Duration::from_secs(10), async || {
        latency(client, Duration::from_secs(10)).await;
        Some(term(client).await).filter(|term| term.ends_with(" 2"))
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    holder
}

async fn term(client: &Client) -> String {
    let sql = "select holder::text || ' ' || epoch from tidemill.ticker_term";
    client.query_one(sql, &[]).await.expect("a term").get(0)
}

#[tokio::test]
async fn one_that_was_frozen_beyond_its_term_does_nothing_when_it_wakes() {
    let (db, client) = fixture().await;
    let frozen = start(&[&db]).await;
    latency(&client, Duration::from_secs(2)).await;
    let _second = start(&[&db]).await;
    frozen.stop();
    let holder = taken_over(&client).await;
    frozen.cont();
    wait_for("the frozen one notices", Duration::from_secs(10), async || {
        // Events keep the successor's term running; with it the other one looks, or works in vain.
        latency(&client, Duration::from_secs(2)).await;
        let log = frozen.log_text();
        (log.contains("another ticker has taken over") || log.contains("ticker term is over")).then_some(())
    })
    .await;
    latency(&client, Duration::from_secs(2)).await;
    assert_eq!(term(&client).await, holder);
}

#[tokio::test]
async fn a_database_that_is_away_delays_only_itself() {
    let (db, client) = fixture().await;
    let away = Cluster::private();
    let other = away.database().await;
    let mut ticker = Service::spawn("tidemill-ticker", &config(&[&other, &db]), &[]).expect("it starts");
    ticker.wait_for_message("ready", Duration::from_secs(10)).await.expect("both answer");
    let other_client = other.client().await;
    other_client.batch_execute("select pgq.create_queue('q')").await.expect("a queue");
    away.stop_immediate().expect("it stops");
    for _ in 0..5 {
        let took = latency(&client, Duration::from_secs(2)).await;
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
    away.start().expect("it starts again");
    let back = other.client().await;
    latency(&back, Duration::from_secs(20)).await;
    assert!(ticker.is_running());
}

#[tokio::test]
async fn a_database_without_the_schema_is_named_in_the_log() {
    let db = Cluster::shared().empty_database().await;
    let mut ticker = Service::spawn("tidemill-ticker", &config(&[&db]), &[]).expect("it starts");
    let event =
        ticker.wait_for_message("step needs a person", Duration::from_secs(10)).await.expect("it says so");
    let sentence = format!(
        "database {0} has no Tidemill schema: run `tidemill schema install --database {0}`",
        db.name()
    );
    assert_eq!(event["error"], sentence.as_str());
    let status = {
        ticker.sigterm();
        ticker.wait_exit(Duration::from_secs(5)).await
    };
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn a_pattern_without_a_database_is_a_configuration_error() {
    let db = Cluster::shared().empty_database().await;
    let toml = format!("{}[ticker]\ndatabases = [\"nothing*\"]\n", config(&[&db]));
    let mut ticker = Service::spawn("tidemill-ticker", &toml, &[]).expect("it starts");
    assert_eq!(ticker.wait_exit(Duration::from_secs(5)).await.code(), Some(78), "{}", ticker.log_text());
}
