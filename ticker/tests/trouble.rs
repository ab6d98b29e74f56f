//! Databases that are slow, hung, unreachable, or on the other side of a network that has vanished.

mod support;

use std::pin::pin;
use std::time::{Duration, Instant};

use support::proxy::Proxy;
use support::{Listener, Ticker, entry, metric, number, run, text};
use tidemill_common::db::{Session, Target, TargetOptions};
use tidemill_common::service::{Progress, Step};
use tidemill_common::testing::{Cluster, Service, TestDb, wait_for};
use tokio::net::TcpListener;
use tokio_postgres::Client;

const SOON: Duration = Duration::from_secs(10);

async fn queue(cluster: &Cluster) -> (TestDb, Client) {
    let db = cluster.database().await;
    let client = db.client().await;
    run(&client, "select pgq.create_queue('q'); select * from tidemill.tick_pass()").await;
    (db, client)
}

fn trouble(database: &str, reason: &str) -> String {
    format!("tidemill_tick_trouble{{database=\"{database}\",reason=\"{reason}\"}}")
}

#[tokio::test]
async fn a_hung_database_delays_only_itself_and_is_named() {
    let cluster = Cluster::shared();
    let (db, client) = queue(cluster).await;
    // Twenty servers that accept and never say a word, one that refuses, and one without a schema.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = silent.local_addr().expect("bound").port();
    let closed = {
        let probe = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        probe.local_addr().expect("bound").port()
    };
    let empty = cluster.empty_database().await;
    let mut toml = String::new();
    for n in 0..20 {
        toml.push_str(&entry(
            &format!("hung{n}"),
            &format!("postgresql://u@127.0.0.1:{port}/d?connect_timeout=2"),
        ));
    }
    toml.push_str(&entry("away", &format!("postgresql://u@127.0.0.1:{closed}/d")));
    toml.push_str(&entry(empty.name(), empty.url()));
    toml.push_str(&entry(db.name(), db.url()));
    let mut ticker = Service::spawn("tidemill-ticker", &toml, &[]).expect("it starts");
    ticker.wait_for_message("admin server listening", SOON).await.expect("it says so");
    let listener = Listener::new(&db).await;
    let mut times = Vec::new();
    for _ in 0..10 {
        run(&client, "select pgq.insert_event('q', 't', 'd')").await;
        times.push(listener.next(SOON).await);
    }
    times.sort_unstable();
    assert!(times[5] < Duration::from_millis(500), "{times:?}");
    let (missing, refused) = (trouble(empty.name(), "schema"), trouble("away", "unreachable"));
    for series in [&missing, &refused, &trouble("hung0", "hung"), &trouble("hung19", "hung")] {
        wait_for(series, SOON, async || metric(&ticker, series)).await;
    }
    wait_for("all 22 are named, and nobody else", SOON, async || {
        (support::metrics(&ticker).matches("tidemill_tick_trouble{").count() == 22).then_some(())
    })
    .await;
    assert_eq!(metric(&ticker, &trouble(db.name(), "hung")), None);
}

#[tokio::test]
async fn a_database_that_hangs_later_takes_nobody_of_its_server_with_it() {
    // Both on one server: the first one's connection may be the one over which the log is watched.
    let cluster = Cluster::private_with(&[("autovacuum", "off")]);
    let (hung, _) = queue(&cluster).await;
    let (db, client) = queue(&cluster).await;
    let proxy = Proxy::to(cluster.port()).await;
    let toml = entry(hung.name(), &proxy.url(hung.name())) + &entry(db.name(), db.url());
    let ticker = Service::start("tidemill-ticker", &toml, &[]).await.expect("it starts");
    let listener = Listener::new(&db).await;
    let watched = || metric(&ticker, "tidemill_step_seconds_count{outcome=\"idle\",step=\"watch\"}");
    let before = watched().unwrap_or_default();
    wait_for("both sleep", SOON, async || (watched()? > before + 20.0).then_some(())).await;
    proxy.vanish();
    for _ in 0..5 {
        run(&client, "select pgq.insert_event('q', 't', 'd')").await;
        let took = listener.next(SOON).await;
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
    wait_for("it is named", Duration::from_secs(40), async || metric(&ticker, &trouble(hung.name(), "hung")))
        .await;
    proxy.come_back();
    let back = Listener::new(&hung).await;
    run(&hung.client().await, "select pgq.insert_event('q', 't', 'd')").await;
    back.next(Duration::from_secs(30)).await;
    wait_for("it is well again", SOON, async || {
        metric(&ticker, &trouble(hung.name(), "hung")).is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_standby_takes_over_when_the_network_of_the_other_vanishes() {
    let cluster = Cluster::shared();
    let (db, client) = queue(cluster).await;
    let proxy = Proxy::to(cluster.port()).await;
    let cut_off = Service::start("tidemill-ticker", &entry(db.name(), &proxy.url(db.name())), &[])
        .await
        .expect("starts");
    let listener = Listener::new(&db).await;
    run(&client, "select pgq.insert_event('q', 't', 'd')").await;
    listener.next(SOON).await;
    let holder = "select holder::text || ' ' || epoch from tidemill.ticker_term";
    let first = text(&client, holder).await;
    // With work all the time the first one keeps its term, which is free to the other one while there is none.
    let entry_of_standby = entry(db.name(), db.url());
    let mut starting = pin!(Service::start("tidemill-ticker", &entry_of_standby, &[]));
    let _standby = loop {
        let work = async {
            run(&client, "select pgq.insert_event('q', 't', 'd')").await;
            listener.next(SOON).await;
        };
        tokio::select! {
            started = &mut starting => break started.expect("it starts"),
            () = work => {}
        }
    };
    assert_eq!(text(&client, holder).await, first);
    proxy.vanish();
    let begun = Instant::now();
    run(&client, "select pgq.insert_event('q', 't', 'd')").await;
    wait_for("the standby ticks", SOON, async || (text(&client, holder).await != first).then_some(())).await;
    listener.next(SOON).await;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let second = text(&client, holder).await;
    assert!(second.ends_with(" 2"), "{second}");
    // What the old one had sent arrives now: its term is over, by the database's clock.
    proxy.come_back();
    wait_for("the old one notices", Duration::from_secs(30), async || {
        run(&client, "select pgq.insert_event('q', 't', 'd')").await;
        listener.next(SOON).await;
        assert_eq!(text(&client, holder).await, second);
        let log = cut_off.log_text();
        (log.contains("another ticker has taken over") || log.contains("ticker term is over")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_statement_that_arrives_after_the_term_ticks_nothing() {
    let cluster = Cluster::shared();
    let (db, client) = queue(cluster).await;
    let proxy = Proxy::to(cluster.port()).await;
    let target =
        Target::parse(db.name(), &proxy.url(db.name()), &TargetOptions::default()).expect("a good URL");
    let session =
        || Session::new(target.clone().into(), "tidemill-ticker").with_deadline(Duration::from_secs(30));
    let mut old = Ticker::over(session(), session(), Duration::from_secs(60));
    run(&client, "select pgq.insert_event('q', 't', 'd')").await;
    old.works().await;
    run(&client, "select pgq.insert_event('q', 't', 'd')").await;
    proxy.vanish();
    let (late, successor) = tokio::join!(old.tick.step(), async {
        run(&client, "update tidemill.ticker_term set until = clock_timestamp()").await;
        let mut successor = Ticker::new(&db, Duration::from_secs(60));
        successor.works().await;
        run(&client, "select pgq.insert_event('q', 't', 'd')").await;
        let ticks = number(&client, "select count(*) from pgq.tick").await;
        // Now the old one's pass reaches the server.
        proxy.come_back();
        (successor, ticks)
    });
    assert!(matches!(late.expect("no failure"), Progress::Rest(_)));
    let (mut successor, ticks) = successor;
    assert_eq!(number(&client, "select count(*) from pgq.tick").await, ticks);
    successor.works().await;
    assert_eq!(number(&client, "select epoch from tidemill.ticker_term").await, 2);
}

#[tokio::test]
async fn a_tick_that_the_standby_may_not_have_is_confirmed_before_another_one() {
    let cluster = Cluster::private();
    let (db, client) = queue(&cluster).await;
    let mut ticker = Ticker::new(&db, Duration::from_secs(60));
    run(&client, "select pgq.insert_event('q', 't', 'd')").await;
    ticker.works().await;
    // From here on every commit waits for a standby that does not exist.
    let demand = |names: &str| format!("alter system set synchronous_standby_names = '{names}'");
    run(&client, "set synchronous_commit = local").await;
    run(&client, &demand("nobody")).await;
    run(&client, "select pg_reload_conf(), pgq.insert_event('q', 't', 'd')").await;
    let cancel = "select count(pg_cancel_backend(pid)) from pg_stat_activity where wait_event = 'SyncRep'";
    let cancelled = async || {
        wait_for("a wait for the standby", SOON, async || (number(&client, cancel).await > 0).then_some(()))
            .await;
    };
    // The server does not follow a changed setting at once: until a commit has been seen to wait.
    let probe = db.client().await;
    wait_for("commits wait", SOON, async || {
        let commit = async {
            run(&probe, "create table if not exists probe (); comment on table probe is 'again'").await;
            None
        };
        let seen = async {
            cancelled().await;
            Some(())
        };
        tokio::select! {
            none = commit => none,
            some = seen => some,
        }
    })
    .await;
    run(&probe, "select 1").await;
    let (tick, ()) = tokio::join!(ticker.tick.step(), cancelled());
    let error = tick.expect_err("the tick is not safe");
    assert!(error.to_string().contains("without the synchronous standby"), "{error}");
    let name = db.name();
    assert_eq!(ticker.metric(&format!("tidemill_tick_unreplicated_total{{database=\"{name}\"}}")), Some(1.0));
    assert_eq!(ticker.metric(&trouble(name, "unreplicated")), Some(1.0));
    // The tick is visible: PostgreSQL committed it. Nothing is ticked after it until a later write has been confirmed.
    run(&client, "select pgq.insert_event('q', 't', 'd')").await;
    let ticks = number(&client, "select count(*) from pgq.tick").await;
    let (again, ()) = tokio::join!(ticker.tick.step(), cancelled());
    assert!(again.is_err());
    assert_eq!(number(&client, "select count(*) from pgq.tick").await, ticks);
    run(&client, &demand("")).await;
    run(&client, "select pg_reload_conf()").await;
    wait_for("it goes on", SOON, async || {
        matches!(ticker.tick.step().await, Ok(Progress::Worked(_))).then_some(())
    })
    .await;
    assert_eq!(number(&client, "select count(*) from pgq.tick").await, ticks + 1);
    assert_eq!(ticker.metric(&trouble(name, "unreplicated")), None);
}
