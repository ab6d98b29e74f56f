//! The doorbell: who rings, and when. A listener hears what was sent up to a mark, in the order of the commits.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::future::poll_fn;

use tidemill_common::testing::TestDb;
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, NoTls};

use crate::support::{all, database, one, refused, run, tick};

const TICKER: &str = "00000000-0000-0000-0000-000000000001";
/// A job queue without a doorbell, one with, and a queue without jobs.
const QUEUES: &str = "select tidemill.create_job_queue('still'), pgq.create_queue('plain'),
                             tidemill.create_job_queue('bell', '{\"doorbell\": true}')";

struct Listener {
    _client: Client,
    heard: mpsc::UnboundedReceiver<String>,
}

impl Listener {
    async fn new(db: &TestDb) -> Self {
        let (client, mut connection) = tokio_postgres::connect(db.url(), NoTls).await.unwrap();
        let (sender, heard) = mpsc::unbounded_channel();
        #[expect(clippy::disallowed_methods, reason = "ends with its client")]
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(notification) = message
                    && sender.send(notification.channel().to_owned()).is_err()
                {
                    return;
                }
            }
        });
        run(&client, "listen tidemill_doorbell; listen mark").await;
        Self { _client: client, heard }
    }

    /// How often it rang until now.
    async fn rings(&mut self, client: &Client) -> usize {
        run(client, "notify mark").await;
        let mut rings = 0;
        while self.heard.recv().await.unwrap() == "tidemill_doorbell" {
            rings += 1;
        }
        rings
    }

    /// How often these statements, one transaction each, ring.
    async fn hears(&mut self, client: &Client, sql: &[&str]) -> usize {
        for sql in sql {
            run(client, sql).await;
        }
        self.rings(client).await
    }
}

/// A ticker that serves.
async fn ticker(client: &Client) {
    run(client, &format!("select tidemill.hold_ticker('{TICKER}', 60000)")).await;
}

/// A look of the ticker that is about to sleep, for nearly as long as an announcement may hold.
async fn sleeps(client: &Client) {
    run(client, &format!("select * from tidemill.tick_look('{TICKER}', 9000)")).await;
    assert!(one::<bool>(client, "select tidemill.ticker_sleeps()").await);
}

async fn fixture() -> (TestDb, Client, Listener) {
    let (db, client) = database().await;
    run(&client, QUEUES).await;
    ticker(&client).await;
    let listener = Listener::new(&db).await;
    (db, client, listener)
}

const INSERTS: [&str; 6] = [
    "select pgq.insert_event('bell', 't', 'd')",
    "select pgq.insert_event('bell', 't', 'd', '1', '2', '3', '4')",
    "select tidemill.insert_events('bell', '{a,b}', '{1,2}')",
    "select tidemill.insert_jobs('bell', '[{\"type\": \"t\"}, {\"type\": \"t\"}]')",
    "select tidemill.insert_jobs('bell', '[{\"type\": \"t\"}, {\"type\": \"t\", \"options\": {\"delay_ms\": 60000}}]')",
    "select tidemill.insert_job('bell', 't', '{}', '{\"unique\": {\"key\": \"k\"}}')",
];

#[tokio::test]
async fn who_inserts_while_the_ticker_sleeps_rings() {
    let (_db, client, mut listener) = fixture().await;
    // It never slept.
    assert_eq!(listener.hears(&client, &INSERTS).await, 0);
    run(&client, "delete from tidemill.unique_key").await;
    sleeps(&client).await;
    for sql in INSERTS {
        assert_eq!(listener.hears(&client, &[sql]).await, 1, "{sql}");
    }
    // Many in one transaction are one, and those that put nothing in are none.
    let many = "select pgq.insert_event('bell', 't', 'd') from generate_series(1, 50)";
    assert_eq!(listener.hears(&client, &[many]).await, 1);
    let nothing =
        ["select tidemill.insert_jobs('bell', '[]')", "select tidemill.insert_events('bell', '{}', '{}')"];
    assert_eq!(listener.hears(&client, &nothing).await, 0);
    // Whoever ticks is awake.
    run(&client, &format!("select * from tidemill.ticker_pass('{TICKER}', 1)")).await;
    run(&client, "delete from tidemill.unique_key").await;
    assert_eq!(listener.hears(&client, &INSERTS).await, 0);
}

#[tokio::test]
async fn only_a_queue_with_a_doorbell_rings() {
    let (_db, client, mut listener) = fixture().await;
    sleeps(&client).await;
    let others = [
        "select pgq.insert_event('still', 't', 'd'), pgq.insert_event('plain', 't', 'd')",
        "select tidemill.insert_events('plain', '{a}', '{1}'), tidemill.insert_events('still', '{a}', '{1}')",
        "select tidemill.insert_jobs('still', '[{\"type\": \"t\"}]')",
        "select tidemill.ring_doorbell('still'), tidemill.ring_doorbell('plain'), tidemill.ring_doorbell('none')",
    ];
    assert_eq!(listener.hears(&client, &others).await, 0);
    // By itself: after COPY.
    assert_eq!(listener.hears(&client, &["select tidemill.ring_doorbell('bell')"]).await, 1);
    // A queue that has rules of its own is written into by another function.
    run(&client, "update pgq.queue set queue_per_tx_limit = 9").await;
    assert_eq!(listener.hears(&client, &["select pgq.insert_event('still', 't', 'd')", INSERTS[0]]).await, 1);
}

#[tokio::test]
async fn what_is_rolled_back_rings_for_nobody() {
    let (db, client, mut listener) = fixture().await;
    sleeps(&client).await;
    let rolled_back: Vec<String> = INSERTS.iter().map(|sql| format!("begin; {sql}; rollback")).collect();
    let rolled_back: Vec<&str> = rolled_back.iter().map(String::as_str).collect();
    assert_eq!(listener.hears(&client, &rolled_back).await, 0);
    let savepoint = format!("begin; savepoint s; {}; rollback to s; commit", INSERTS[0]);
    assert_eq!(listener.hears(&client, &[&savepoint]).await, 0);
    // It is heard when it is committed, not before.
    let other = db.client().await;
    run(&other, &format!("begin; {}", INSERTS[0])).await;
    assert_eq!(listener.rings(&client).await, 0);
    run(&other, "commit").await;
    assert_eq!(listener.rings(&client).await, 1);
}

#[tokio::test]
async fn an_announcement_ends_by_itself() {
    let (_db, client, mut listener) = fixture().await;
    sleeps(&client).await;
    let left =
        "select (last_value - date_part('epoch', clock_timestamp()) * 1000)::float8 from tidemill.doorbell";
    let left: f64 = one(&client, left).await;
    assert!(left > 0.0 && left <= 10_000.0, "{left}");
    // It ran out, or was written before the clock was set back.
    for until in ["- interval '1 ms'", "+ interval '1 minute'"] {
        let sql = format!(
            "select setval('tidemill.doorbell', (date_part('epoch', clock_timestamp() {until}) * 1000)::int8)"
        );
        run(&client, &sql).await;
        assert_eq!(listener.hears(&client, &[INSERTS[0]]).await, 0, "{until}");
    }
    // The next look renews it, and one after that has nothing to renew.
    sleeps(&client).await;
    let value: i64 = one(&client, "select last_value from tidemill.doorbell").await;
    sleeps(&client).await;
    assert_eq!(one::<i64>(&client, "select last_value from tidemill.doorbell").await, value);
    assert_eq!(listener.hears(&client, &[INSERTS[0]]).await, 1);
}

#[tokio::test]
async fn only_the_ticker_that_serves_says_that_it_sleeps() {
    let (_db, client) = database().await;
    let looks = |holder: &str| format!("select * from tidemill.tick_look('{holder}', 5000)");
    let other = "00000000-0000-0000-0000-000000000002";
    let asleep = "select coalesce(tidemill.ticker_sleeps(), false)";
    run(&client, "select tidemill.create_job_queue('still')").await;
    ticker(&client).await;
    // There is no doorbell.
    run(&client, &looks(TICKER)).await;
    assert!(!one::<bool>(&client, "select doorbell from tidemill.tick_look()").await);
    assert!(!one::<bool>(&client, asleep).await);
    run(&client, "select tidemill.create_job_queue('still', '{\"doorbell\": true}')").await;
    assert!(one::<bool>(&client, "select doorbell from tidemill.tick_look()").await);
    run(&client, &looks(other)).await;
    assert!(!one::<bool>(&client, asleep).await, "a standby");
    run(&client, &format!("select * from tidemill.tick_look('{TICKER}')")).await;
    assert!(!one::<bool>(&client, asleep).await, "it stays awake");
    // Writes nothing that ends a transaction, where a sequence may have no WAL: that would wake other tickers.
    let looked: Vec<bool> = all(
        &client,
        &format!(
            "select pg_current_xact_id_if_assigned() is null or current_setting('server_version_num')::int < 150000
             from tidemill.tick_look('{TICKER}', 5000)"
        ),
    )
    .await;
    assert_eq!(looked, [true]);
    assert!(one::<bool>(&client, asleep).await);
    // Who stops takes it back; who takes over, too.
    assert!(one::<bool>(&client, &format!("select tidemill.release_ticker('{TICKER}', 1)")).await);
    assert!(!one::<bool>(&client, asleep).await);
    ticker(&client).await;
    sleeps(&client).await;
    run(&client, "update tidemill.ticker_term set until = clock_timestamp()").await;
    run(
        &client,
        &format!("update tidemill.ticker_term set holder = '{other}', epoch = 9, until = 'infinity'"),
    )
    .await;
    run(&client, &format!("select * from tidemill.ticker_pass('{other}', 9)")).await;
    assert!(!one::<bool>(&client, asleep).await);
}

#[tokio::test]
async fn the_function_of_a_queue_without_one_is_what_it_was() {
    let (_db, client) = database().await;
    run(&client, "select tidemill.create_job_queue('q')").await;
    let source = "select prosrc from pg_proc where proname = 'insert_queue_1'";
    let set = async |to: &str| run(&client, &format!("select tidemill.create_job_queue('q', '{to}')")).await;
    let without: String = one(&client, source).await;
    assert!(!without.contains("ticker_sleeps") && !without.contains("notify"));
    assert_eq!(without.lines().count(), 5);
    set("{\"doorbell\": true}").await;
    let with: String = one(&client, source).await;
    assert!(with.contains("if tidemill.ticker_sleeps() then"));
    // Another setting leaves it alone; a rotation and an installation write it again.
    set("{\"lease_ms\": 5000}").await;
    assert_eq!(one::<String>(&client, source).await, with);
    run(&client, "update pgq.queue set queue_cur_table = 1; select tidemill.make_inserts()").await;
    assert_eq!(one::<String>(&client, source).await, with.replace("event_1_0", "event_1_1"));
    set("{\"doorbell\": false}").await;
    assert_eq!(one::<String>(&client, source).await, without.replace("event_1_0", "event_1_1"));
    assert_eq!(
        refused(&client, "select tidemill.create_job_queue('q', '{\"doorbell\": 7}')").await.0,
        "22P02"
    );
    // Rolled back, it is not there.
    run(&client, "begin; select tidemill.create_job_queue('q', '{\"doorbell\": true}'); rollback").await;
    assert_eq!(one::<String>(&client, source).await, without.replace("event_1_0", "event_1_1"));
    set("{\"doorbell\": true}").await;
    run(&client, "select pgq.drop_queue('q', true)").await;
    assert_eq!(all::<String>(&client, source).await, [""; 0]);
    assert!(!one::<bool>(&client, "select doorbell from tidemill.tick_look()").await);
}

#[tokio::test]
async fn a_producer_needs_no_right_of_its_own() {
    let (_db, client, mut listener) = fixture().await;
    tick(&client).await;
    sleeps(&client).await;
    for role in ["pgq_writer", "tidemill_producer"] {
        run(&client, &format!("set role {role}")).await;
        for sql in [INSERTS[0], INSERTS[2], "select tidemill.ring_doorbell('bell')"] {
            assert_eq!(listener.hears(&client, &[sql]).await, 1, "{role}: {sql}");
        }
        for sql in [
            "select setval('tidemill.doorbell', 0)",
            "select last_value from tidemill.doorbell",
            "select tidemill.announce_sleep(5000)",
            "select tidemill.ticker_sleeps()",
        ] {
            assert_eq!(refused(&client, sql).await.0, "42501", "{role}: {sql}");
        }
        run(&client, "reset role").await;
    }
    run(&client, "set role tidemill_ticker").await;
    run(&client, &format!("select * from tidemill.tick_look('{TICKER}', 5000)")).await;
    run(&client, &format!("select * from tidemill.ticker_pass('{TICKER}', 1)")).await;
    run(&client, "reset role").await;
    assert!(!one::<bool>(&client, "select tidemill.ticker_sleeps()").await);
}

/// What a producer reads has one version, whoever holds a snapshot and however often the ticker sleeps.
#[tokio::test]
async fn a_held_snapshot_leaves_producers_one_page_to_read() {
    let (db, client, mut listener) = fixture().await;
    let holder = db.client().await;
    run(&holder, "begin isolation level repeatable read; select txid_current_snapshot()").await;
    for _ in 0..200 {
        sleeps(&client).await;
        run(&client, &format!("select * from tidemill.ticker_pass('{TICKER}', 1)")).await;
    }
    sleeps(&client).await;
    let size = "select pg_relation_size('tidemill.doorbell') / current_setting('block_size')::int8";
    assert_eq!(one::<i64>(&client, size).await, 1);
    // At once, also for a transaction whose snapshot is older.
    let old = format!("begin isolation level repeatable read; select 1; {}; commit", INSERTS[0]);
    assert_eq!(listener.hears(&holder, &["commit", &old]).await, 1);
}
