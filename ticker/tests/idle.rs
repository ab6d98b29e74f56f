//! The real binary over databases in which nothing happens: what that costs, and how soon it is over.

mod support;

use std::time::{Duration, Instant};

use support::{Listener, entry, metric, number, run};
use tidemill_common::testing::{Cluster, Service, TestDb, wait_for};
use tokio_postgres::Client;

const DATABASES: usize = 6;

/// A server of its own, on which nobody else commits, with a ticker for all of its databases.
struct Quiet {
    ticker: Service,
    databases: Vec<TestDb>,
    clients: Vec<Client>,
    _cluster: Cluster,
}

impl Quiet {
    async fn new(queues: &str, settings: &str) -> Self {
        let cluster = Cluster::private_with(&[("autovacuum", "off")]);
        let (mut databases, mut clients, mut toml) = (Vec::new(), Vec::new(), String::new());
        for _ in 0..DATABASES {
            let db = cluster.database().await;
            let client = db.client().await;
            run(&client, queues).await;
            toml.push_str(&entry(db.name(), db.url()));
            databases.push(db);
            clients.push(client);
        }
        toml.push_str(settings);
        let ticker = Service::start("tidemill-ticker", &toml, &[]).await.expect("it starts");
        Self { ticker, databases, clients, _cluster: cluster }
    }

    fn steps(&self, step: &str) -> f64 {
        metric(&self.ticker, &format!("tidemill_step_seconds_count{{outcome=\"idle\",step=\"{step}\"}}"))
            .unwrap_or_default()
    }

    /// Until so many readings have found nothing, during which nobody was looked at.
    async fn settle(&self) {
        let (mut ticks, mut since) = (0.0, 0.0);
        wait_for("everybody sleeps", Duration::from_secs(20), async || {
            let (now, watched) = (self.steps("tick"), self.steps("watch"));
            if now > ticks {
                (ticks, since) = (now, watched);
            }
            (ticks > 0.0 && watched > since + 12.0).then_some(())
        })
        .await;
    }

    async fn position(&self) -> i64 {
        number(&self.clients[0], "select (pg_current_wal_insert_lsn() - '0/0')::int8").await
    }

    /// From the commit of an event to the tick that shows it, one database after the other.
    async fn latencies(&self, insert: &str) -> Vec<Duration> {
        let mut times = Vec::new();
        for (db, client) in self.databases.iter().zip(&self.clients).skip(1) {
            let listener = Listener::new(db).await;
            self.settle().await;
            run(client, insert).await;
            times.push(listener.next(Duration::from_secs(10)).await);
        }
        times.sort_unstable();
        times
    }
}

/// A sleeper that nobody wakes is found after a minute; one that is woken, at once but for the noise of the machine.
fn assert_quick(times: &[Duration]) {
    let median = times[times.len() / 2];
    assert!(median < Duration::from_millis(250), "{times:?}");
    assert!(times.iter().all(|time| *time < Duration::from_secs(2)), "{times:?}");
}

const FIVE: &str = "select count(pgq.create_queue('q' || n)) from generate_series(1, 5) n;
                    select * from tidemill.tick_pass()";

#[tokio::test]
async fn an_idle_server_is_watched_and_nothing_else() {
    let quiet = Quiet::new(FIVE, "").await;
    quiet.settle().await;
    let (position, ticks, watched) = (quiet.position().await, quiet.steps("tick"), quiet.steps("watch"));
    wait_for("20 readings", Duration::from_secs(10), async || {
        (quiet.steps("watch") >= watched + 20.0).then_some(())
    })
    .await;
    assert_eq!(quiet.steps("tick"), ticks, "nobody was looked at");
    assert_eq!(quiet.position().await, position, "nothing was written");
    let connections = "select count(*) from pg_stat_activity where application_name like 'tidemill-ticker%'";
    assert_eq!(number(&quiet.clients[0], connections).await, 6, "one connection a database");
    assert_quick(&quiet.latencies("select pgq.insert_event('q3', 't', 'd')").await);
    // A commit that does not wait for the disk is one, too.
    assert_quick(
        &quiet.latencies("set synchronous_commit = off; select pgq.insert_event('q2', 't', 'd')").await,
    );
}

#[tokio::test]
async fn a_transaction_that_ends_late_wakes_its_database() {
    let quiet = Quiet::new(FIVE, "").await;
    let slow = quiet.databases[1].client().await;
    let listener = Listener::new(&quiet.databases[1]).await;
    quiet.settle().await;
    run(&slow, "begin; select pgq.insert_event('q1', 't', 'slow')").await;
    run(&quiet.clients[1], "select pgq.insert_event('q1', 't', 'quick')").await;
    listener.next(Duration::from_secs(5)).await;
    let missing = "select count(*) from pgq.event_1 e where not exists (
                   select 1 from pgq.tick t where t.tick_queue = 1 and txid_visible_in_snapshot(e.ev_txid, t.tick_snapshot))";
    assert_eq!(number(&quiet.clients[1], missing).await, 0);
    // The tick missed somebody, and still nobody need look before that has ended.
    quiet.settle().await;
    run(&slow, "commit").await;
    assert_quick(&[listener.next(Duration::from_secs(10)).await]);
    assert_eq!(number(&quiet.clients[1], missing).await, 0);
    assert_eq!(number(&quiet.clients[1], "select count(*) from pgq.event_1").await, 2);
}

#[tokio::test]
async fn an_idle_database_of_a_busy_server_is_ticked_soon_too() {
    let quiet = Quiet::new(FIVE, "").await;
    let busy = quiet.databases[0].client().await;
    let mut times = Vec::new();
    let listeners = {
        let mut listeners = Vec::new();
        for db in &quiet.databases {
            listeners.push(Listener::new(db).await);
        }
        listeners
    };
    let traffic = async {
        loop {
            run(&busy, "select pgq.insert_event('q1', 't', 'd')").await;
        }
    };
    let firsts = async {
        for (client, listener) in quiet.clients.iter().zip(&listeners).skip(1) {
            run(client, "select pgq.insert_event('q4', 't', 'd')").await;
            times.push(listener.next(Duration::from_secs(10)).await);
        }
    };
    tokio::select! {
        () = traffic => {}
        () = firsts => {}
    }
    times.sort_unstable();
    assert_quick(&times);
}

#[tokio::test]
async fn an_idle_queue_has_one_tick_in_its_period() {
    let queues = format!(
        "{FIVE}; update pgq.queue set queue_ticker_idle_period = '2 seconds', queue_ticker_max_lag = '0'"
    );
    let quiet = Quiet::new(&queues, "").await;
    let count = "select max(tick_id) - 2 from pgq.tick where tick_queue = 1";
    let begun = Instant::now();
    wait_for("three idle ticks", Duration::from_secs(20), async || {
        (number(&quiet.clients[3], count).await >= 3).then_some(())
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(19), "{:?}", begun.elapsed());
    for client in &quiet.clients {
        let gaps = "select count(*) from (
                        select tick_time - lag(tick_time) over (partition by tick_queue order by tick_id) as gap, tick_id
                        from pgq.tick) t where tick_id > 2 and gap < '2 seconds'";
        assert_eq!(number(client, gaps).await, 0, "two ticks within a period");
        // All queues of the database at once.
        let alone = "select count(*) from (
                         select tick_id from pgq.tick where tick_id > 2
                         group by tick_id having max(tick_time) - min(tick_time) > '0.5 seconds') t";
        assert_eq!(number(client, alone).await, 0);
    }
}

#[tokio::test]
async fn what_ends_no_transaction_wakes_nobody() {
    let quiet = Quiet::new(FIVE, "").await;
    quiet.settle().await;
    let (position, ticks, watched) = (quiet.position().await, quiet.steps("tick"), quiet.steps("watch"));
    for nothing in
        ["checkpoint", "select pg_switch_wal()", "vacuum pgq.tick", "select count(*) from pgq.tick"]
    {
        run(&quiet.clients[0], nothing).await;
    }
    assert!(quiet.position().await > position, "the log has moved");
    wait_for("5 readings", Duration::from_secs(10), async || {
        (quiet.steps("watch") >= watched + 5.0).then_some(())
    })
    .await;
    assert_eq!(quiet.steps("tick"), ticks, "nobody was looked at");
    assert_quick(&quiet.latencies("select pgq.insert_event('q3', 't', 'd')").await);
}
