//! Idle: what many databases cost in which nothing happens, and how soon the first event after that is ticked; then the
//! same while one of them is busy.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use tidemill_common::db::Session;
use tidemill_common::service::Wake;
use tidemill_common::testing::{Cluster, ClusterOptions, Service, TestDb};

use crate::measure::{Cost, Meter};
use crate::ticks;

/// Databases, and queues of each.
const DATABASES: usize = 256;
const QUEUES: usize = 5;
/// Events a second in the database that is busy, in the second part.
const BUSY: u32 = 100;
/// How many databases get a first event.
const FIRSTS: usize = 40;

/// Measures each state for `seconds`.
pub(crate) async fn run(seconds: Duration) -> Result<()> {
    // A checkpoint would strike one measurement or the other, by chance.
    let settings = [("max_connections", "320"), ("shared_buffers", "256MB"), ("checkpoint_timeout", "1h")];
    let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let options = ClusterOptions { durable: true, settings, ..ClusterOptions::default() };
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start_new(&options)?));
    let databases = fill(cluster).await?;
    let mut admin = Session::new(cluster.target("postgres"), "tidemill-bench");
    // Its rounds, one database every 0.2 s, cost the same with a ticker and without one, and more than it. Off would not
    // do: the ticker vacuums where the server does not.
    admin.batch("set", "alter system set autovacuum_naptime = '1d'").await?;
    admin.batch("reload", "select pg_reload_conf()").await?;
    admin.batch("checkpoint", "checkpoint").await?;
    pause(Duration::from_secs(10)).await;

    let without = measure(cluster, &mut admin, &[], Duration::from_secs(20)).await?;
    report("without a ticker", &without);
    let toml: String = databases
        .iter()
        .map(|db| format!("[[databases]]\nname = \"{}\"\nurl = \"{}\"\n", db.name(), db.url()))
        .collect();
    let ticker =
        Service::start("tidemill-ticker", &toml, &[("RUST_LOG", "info,tidemill_ticker=warn")]).await?;
    let pid = [u32::try_from(ticker.pid())?];
    // So many idle periods that the ticks have fallen into step, and no session still plans what it does for the first
    // time. What follows is what goes on for ever.
    pause(Duration::from_secs(300)).await;
    let before = ticks_of(&databases).await?;
    let idle = measure(cluster, &mut admin, &pid, seconds).await?;
    let after = ticks_of(&databases).await?;
    report("with one, nothing happens", &idle);
    let most = before.iter().zip(&after).map(|(before, after)| after - before).max();
    ticks::say(&format!("  most ticks of a queue in {seconds:?}: {}", most.unwrap_or(0)));
    firsts("  first event of an idle database", &databases[1..]).await?;

    let busy = ticks::Producer::start(databases[0].session("tidemill-bench"), BUSY);
    let with_busy = measure(cluster, &mut admin, &pid, seconds).await?;
    report("one database has 100 events/s", &with_busy);
    firsts("  first event of another one", &databases[1..]).await?;
    busy.stop().await?;
    Ok(())
}

async fn fill(cluster: &'static Cluster) -> Result<Vec<TestDb>> {
    let mut databases = Vec::new();
    for _ in 0..DATABASES {
        databases.push(cluster.database().await);
    }
    let create = format!("select count(pgq.create_queue('q' || n)) from generate_series(1, {QUEUES}) n");
    for some in databases.chunks(4) {
        try_join_all(some.iter().map(|db| {
            let (mut session, create) = (db.session("tidemill-bench"), create.clone());
            async move { session.query("create queues", &create, &[]).await.map(drop) }
        }))
        .await?;
    }
    Ok(databases)
}

async fn measure(
    cluster: &'static Cluster,
    admin: &mut Session,
    pids: &[u32],
    time: Duration,
) -> Result<Cost> {
    let meter = Meter::start(cluster, admin, pids).await?;
    pause(time).await;
    meter.stop(admin, 1).await
}

/// Ticks of each queue so far.
async fn ticks_of(databases: &[TestDb]) -> Result<Vec<i64>> {
    let mut ticks = Vec::new();
    for db in databases {
        let mut session = db.session("tidemill-bench");
        let sql = "select max(tick_id) from pgq.tick group by tick_queue order by tick_queue";
        for row in session.query("count ticks", sql, &[]).await? {
            ticks.push(row.try_get(0)?);
        }
    }
    Ok(ticks)
}

/// From the commit of one event in a database where nothing happens to the tick's notification.
async fn firsts(name: &str, databases: &[TestDb]) -> Result<()> {
    let mut times = Vec::new();
    for db in databases.iter().step_by(databases.len().div_ceil(FIRSTS)) {
        let (mut listener, mut producer) = (db.session("tidemill-bench"), db.session("tidemill-bench"));
        let wake = Wake::new();
        ensure!(listener.listen("tidemill_tick", wake.clone()).await?, "there is a pooler");
        producer.open("connect").await?;
        // Not in step with anything.
        pause(Duration::from_millis(1_000 + 37 * (times.len() as u64 % 9))).await;
        producer.query("insert", "select pgq.insert_event('q1', 't', 'first')", &[]).await?;
        let committed = Instant::now();
        tokio::time::timeout(Duration::from_secs(5), wake.woken()).await?;
        times.push(committed.elapsed());
    }
    ticks::report(name, &mut times);
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "what is measured is that nothing happens for a while")]
pub(crate) async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Prints CPU in percent of one core, and WAL.
fn report(name: &str, cost: &Cost) {
    let percent = |micros: u64| micros as f64 / cost.elapsed.as_micros() as f64 * 100.0;
    ticks::say(&format!(
        "{name:<34} {:>5.2} % of a core (database {:.2}, ticker {:.2})  {:>8.0} B WAL/s",
        percent(cost.database_us + cost.process_us),
        percent(cost.database_us),
        percent(cost.process_us),
        cost.wal_bytes as f64 / cost.elapsed.as_secs_f64(),
    ));
}
