//! Tick: from the commit of an event to the notification of the tick that shows it, at several rates.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tidemill_common::db::Session;
use tidemill_common::service::{Shutdown, Wake};
use tidemill_common::testing::Service;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::idle::pause;
use crate::measure::Meter;
use crate::rig::Rig;

/// Events a second.
const RATES: [u32; 4] = [1, 10, 100, 1_000];

/// Transaction id and time of the commit's answer of events that are in no tick yet.
type Waiting = Arc<Mutex<Vec<(i64, Instant)>>>;

/// Inserts events into the queue `q1` of a database at an even rate, one a transaction.
pub(crate) struct Producer {
    stop: Shutdown,
    task: JoinHandle<Result<()>>,
    waiting: Waiting,
}

impl Producer {
    #[expect(clippy::disallowed_methods, reason = "the benchmark is the process")]
    pub(crate) fn start(mut session: Session, rate: u32) -> Self {
        let (stop, waiting) = (Shutdown::new(), Waiting::default());
        let (stopped, acknowledged) = (stop.clone(), Arc::clone(&waiting));
        let task = tokio::spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_secs(1) / rate);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while !stopped.is_wanted() {
                pace.tick().await;
                let sql = "select txid_current(), pgq.insert_event('q1', 't', 'd')";
                let transaction = session.query_one("insert", sql, &[]).await?.try_get(0)?;
                lock(&acknowledged).push((transaction, Instant::now()));
            }
            Ok(())
        });
        Self { stop, task, waiting }
    }

    pub(crate) async fn stop(self) -> Result<()> {
        self.stop.begin();
        self.task.await?
    }
}

fn lock(waiting: &Waiting) -> std::sync::MutexGuard<'_, Vec<(i64, Instant)>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Measures every rate for `seconds`.
pub(crate) async fn run(seconds: Duration) -> Result<()> {
    let mut rig = Rig::new().await?;
    rig.session.query("create queue", "select pgq.create_queue('q1')", &[]).await?;
    let toml = format!("[database]\nname = \"bench\"\nurl = \"{}\"\n", rig.db.url());
    let ticker =
        Service::start("tidemill-ticker", &toml, &[("RUST_LOG", "info,tidemill_ticker=warn")]).await?;
    let pid = [u32::try_from(ticker.pid())?];
    for rate in RATES {
        let wake = Wake::new();
        let mut listener = rig.db.session("tidemill-bench");
        ensure!(listener.listen("tidemill_tick", wake.clone()).await?, "there is a pooler");
        pause(Duration::from_secs(3)).await;
        let meter = Meter::start(rig.cluster, &mut rig.session, &pid).await?;
        let producer = Producer::start(rig.db.session("tidemill-bench"), rate);
        let mut times = Vec::new();
        let end = Instant::now() + seconds;
        while Instant::now() < end {
            let Ok(()) = tokio::time::timeout(Duration::from_secs(1), wake.woken()).await else { continue };
            let told = Instant::now();
            let snapshot = last_snapshot(&mut listener).await?;
            lock(&producer.waiting).retain(|(transaction, committed)| {
                let shown = snapshot.sees(*transaction);
                if shown {
                    times.push(told.saturating_duration_since(*committed));
                }
                !shown
            });
        }
        producer.stop().await?;
        let cost = meter.stop(&mut rig.session, u64::from(rate) * seconds.as_secs()).await?;
        report(&format!("commit to tick, {rate} events/s"), &mut times);
        // The producer's own sessions are in the database's share.
        let percent = |micros: u64| micros as f64 / cost.elapsed.as_micros() as f64 * 100.0;
        say(&format!(
            "  CPU: database {:.1} %, ticker {:.1} % of a core",
            percent(cost.database_us),
            percent(cost.process_us)
        ));
    }
    Ok(())
}

/// `xmin:xmax:xip,…`
struct Snapshot {
    end: i64,
    running: Vec<i64>,
}

impl Snapshot {
    fn sees(&self, transaction: i64) -> bool {
        transaction < self.end && !self.running.contains(&transaction)
    }
}

async fn last_snapshot(session: &mut Session) -> Result<Snapshot> {
    let sql = "select t.tick_snapshot::text from pgq.tick t join pgq.queue q on q.queue_id = t.tick_queue \
               where q.queue_name = 'q1' order by t.tick_id desc limit 1";
    let text: String = session.query_one("read tick", sql, &[]).await?.try_get(0)?;
    let mut parts = text.split(':').skip(1);
    let end = parts.next().context("a snapshot has an end")?.parse()?;
    let running = parts.next().unwrap_or_default();
    let running = running.split(',').filter(|x| !x.is_empty()).map(str::parse).collect::<Result<_, _>>()?;
    Ok(Snapshot { end, running })
}

/// Prints median, 99th percentile and longest.
pub(crate) fn report(name: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |share: f64| {
        let index = (times.len().saturating_sub(1) as f64 * share).round() as usize;
        times.get(index).copied().unwrap_or_default().as_secs_f64() * 1_000.0
    };
    let (p50, p99, max) = (at(0.5), at(0.99), at(1.0));
    say(&format!(
        "{name:<34} p50 {p50:>6.1} ms  p99 {p99:>6.1} ms  longest {max:>6.1} ms  ({} events)",
        times.len()
    ));
}

#[expect(clippy::print_stdout, reason = "this is what the program is for")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}
