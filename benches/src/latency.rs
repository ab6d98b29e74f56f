//! Latency: from the call that inserts a job to the start of its handler, through the real ticker, the real dispatcher and
//! a worker of the SDK; at a quiet pace, without and with a doorbell by turns, at a brisk one, and at that with a snapshot
//! held all the time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tidemill_common::db::{Session, Type};
use tidemill_common::testing::Service;
use tidemill_worker::{Failure, Job, JobKind, Worker};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use crate::drain;
use crate::rig::{QUEUE, Rig};

/// Jobs a second at the quiet pace, one an insert.
const QUIET: u32 = 100;
/// The quiet pace is measured so often without a doorbell and so often with one.
const TURNS: u32 = 3;
/// Jobs a second at the brisk pace, ten an insert.
const BRISK: u32 = 2_000;

/// When the job was inserted, by the benchmark's own clock.
#[derive(Serialize, Deserialize)]
struct Timed {
    micros: u64,
}

impl JobKind for Timed {
    const TYPE: &'static str = "timed";
}

/// Latencies in microseconds, as they come.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<u64>>>);

impl Seen {
    fn add(&self, micros: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(micros);
    }

    fn take(&self) -> Vec<u64> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Measures all of them; the snapshot is held for `hold`.
pub(crate) async fn run(hold: Duration) -> Result<()> {
    let mut rig = Rig::new().await?;
    let toml = format!("[database]\nname = \"bench\"\nurl = \"{}\"\n", rig.db.url());
    let ticker =
        Service::start("tidemill-ticker", &toml, &[("RUST_LOG", "warn,tidemill_common=info")]).await?;
    let dispatcher = drain::dispatcher(&rig, &reqwest::Client::new()).await?;

    let (begun, seen, stop) = (Instant::now(), Seen::default(), Arc::new(Notify::new()));
    let (started, stopped) = (seen.clone(), Arc::clone(&stop));
    let worker = Worker::builder(format!("http://{}", dispatcher.http_address()))
        .queue(QUEUE)
        .register::<Timed, _, _, _>(move |job: Job<Timed>| {
            started.add(micros_since(begun).saturating_sub(job.args.micros));
            async { Ok::<(), Failure>(()) }
        })
        .build()?;
    #[expect(clippy::disallowed_methods, reason = "the benchmark is the process")]
    let worker = tokio::spawn(worker.run(async move { stopped.notified().await }));

    let mut producer = rig.db.session("tidemill-bench");
    let measured = Duration::from_secs(30);
    let mut quiet = [Phase::default(), Phase::default()];
    for _ in 0..TURNS {
        for (sum, doorbell) in quiet.iter_mut().zip([false, true]) {
            rig.set_doorbell(doorbell).await?;
            phase(&mut producer, begun, &seen, (QUIET, 1), Duration::from_secs(2)).await?;
            sum.add(phase(&mut producer, begun, &seen, (QUIET, 1), measured / TURNS).await?);
        }
    }
    rig.set_doorbell(false).await?;
    report("insert to start, 100 jobs/s", &quiet[0]);
    report("  with a doorbell", &quiet[1]);
    let before = phase(&mut producer, begun, &seen, (BRISK, 10), measured).await?;
    report("insert to start, 2,000 jobs/s", &before);

    let mut holder = rig.db.session("tidemill-bench-holder");
    holder.batch("hold", "begin isolation level repeatable read; select txid_current_snapshot()").await?;
    let held = phase(&mut producer, begun, &seen, (BRISK, 10), hold).await?;
    holder.batch("let go", "commit").await?;
    report(&format!("  a snapshot held for {} s", hold.as_secs()), &held);
    ratio(&before, &held);

    stop.notify_one();
    let summary = worker.await??;
    ensure!(summary.lost == 0 && summary.failed == 0, "the worker lost or failed jobs: {summary:?}");
    dispatcher.sigterm();
    ticker.sigterm();
    Ok(())
}

/// What one pace gave.
#[derive(Default)]
struct Phase {
    /// Jobs asked for a second.
    asked: u32,
    length: Duration,
    /// Sorted, in microseconds.
    latencies: Vec<u64>,
}

impl Phase {
    /// The same again.
    fn add(&mut self, mut other: Phase) {
        self.asked = other.asked;
        self.length += other.length;
        self.latencies.append(&mut other.latencies);
        self.latencies.sort_unstable();
    }

    /// Jobs started a second.
    fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.length.as_secs_f64()
    }

    /// Milliseconds that `share` of the jobs were faster than.
    fn quantile(&self, share: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies[(last as f64 * share) as usize] as f64 / 1000.0
    }
}

/// Inserts `rate` jobs a second, `each` a statement, for `length`.
async fn phase(
    producer: &mut Session,
    begun: Instant,
    seen: &Seen,
    (rate, each): (u32, u32),
    length: Duration,
) -> Result<Phase> {
    seen.take();
    let sql = format!(
        "select count(*) from tidemill.insert_jobs('{QUEUE}', (select jsonb_agg(jsonb_build_object(\
         'type', 'timed', 'args', jsonb_build_object('micros', $1::int8))) from generate_series(1, {each})))"
    );
    let mut pace = tokio::time::interval(Duration::from_secs(1) * each / rate);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let from = Instant::now();
    while from.elapsed() < length {
        pace.tick().await;
        let micros = i64::try_from(micros_since(begun))?;
        producer.query("insert", &sql, &[(&micros, Type::INT8)]).await?;
    }
    let mut latencies = seen.take();
    let length = from.elapsed();
    ensure!(!latencies.is_empty(), "no job was started");
    latencies.sort_unstable();
    Ok(Phase { asked: rate, length, latencies })
}

fn micros_since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX)
}

#[expect(clippy::print_stdout, reason = "this is what the program is for")]
fn report(name: &str, phase: &Phase) {
    println!(
        "{name:<34} {:>8.0} of {} jobs/s started  p50 {:>6.1} ms  p99 {:>6.1} ms",
        phase.rate(),
        phase.asked,
        phase.quantile(0.5),
        phase.quantile(0.99),
    );
}

#[expect(clippy::print_stdout, reason = "this is what the program is for")]
fn ratio(before: &Phase, held: &Phase) {
    println!(
        "{:<34} rate {:.2}, p50 {:.2}, p99 {:.2} of before",
        "",
        held.rate() / before.rate(),
        held.quantile(0.5) / before.quantile(0.5),
        held.quantile(0.99) / before.quantile(0.99),
    );
}
