//! The job library we compare with: `graphile_worker`, the fastest one for PostgreSQL in Rust, with the settings of its
//! own throughput benchmark (`benches/perf_test.rs` of its crate): many handlers, jobs fetched ahead in portions of
//! thousands, completions gathered for 5 ms into one statement.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use graphile_worker::tokio_postgres::TokioPostgresDatabase;
use graphile_worker::{
    Database, IntoTaskHandlerResult, JobSpec, LocalQueueConfig, RawJobSpec, TaskHandler, WorkerContext,
    WorkerOptions,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::measure::{Cost, Meter};
use crate::rig::Rig;

const SCHEMA: &str = "graphile_worker";
/// Jobs of one insert.
const CHUNK: u64 = 1000;
/// Connections at most, as in its benchmark.
const CONNECTIONS: usize = 100;

#[derive(Serialize, Deserialize)]
struct SendEmail {
    to: String,
    subject: String,
}

#[derive(Clone, Debug)]
struct Handled(Arc<AtomicU64>);

impl TaskHandler for SendEmail {
    const IDENTIFIER: &'static str = "send_email";

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        if let Some(Handled(count)) = context.get_ext::<Handled>() {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok::<(), String>(())
    }
}

/// Fills its table and drains it, until the last job's row is gone.
pub(crate) async fn drain(rig: &mut Rig, jobs: u64) -> Result<Cost> {
    let handled = Arc::new(AtomicU64::new(0));
    let database: Database = TokioPostgresDatabase::from_url(rig.db.url(), CONNECTIONS)?.into();
    let worker = WorkerOptions::default()
        .database(database)
        .schema(SCHEMA)
        .concurrency(500)
        .poll_interval(Duration::from_millis(5))
        .complete_job_batch_delay(Duration::from_millis(5))
        .local_queue(LocalQueueConfig::default().with_size(5000))
        .add_extension(Handled(Arc::clone(&handled)))
        .define_job::<SendEmail>()
        .init()
        .await
        .context("set up graphile_worker")?;
    rig.session.batch("empty its table", "truncate graphile_worker._private_jobs cascade").await?;
    let args = rig.arguments(CHUNK).await?;
    let spec = |payload: &Value| RawJobSpec {
        identifier: SendEmail::IDENTIFIER.to_owned(),
        payload: payload.clone(),
        spec: JobSpec::default(),
    };
    let chunk: Vec<_> = args.iter().map(spec).collect();
    for _ in 0..jobs / CHUNK {
        worker.create_utils().add_raw_jobs(&chunk).await.context("add jobs to graphile_worker")?;
    }

    let worker = Arc::new(worker);
    let meter = Meter::start(rig.cluster, &mut rig.session, &[std::process::id()]).await?;
    let running = Arc::clone(&worker);
    #[expect(clippy::disallowed_methods, reason = "the benchmark is the process")]
    let running = tokio::spawn(async move { running.run().await });
    let left = "select 1 from graphile_worker._private_jobs limit 1";
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    loop {
        pace.tick().await;
        let all_handled = handled.load(Ordering::Relaxed) >= jobs;
        if all_handled && rig.session.query("look for jobs", left, &[]).await?.is_empty() {
            break;
        }
        ensure!(!running.is_finished(), "graphile_worker stopped by itself");
    }
    let cost = meter.stop(&mut rig.session, jobs).await?;
    worker.request_shutdown();
    running.await?.context("run graphile_worker")?;
    Ok(cost)
}
