//! The worker of `tidemill demo`: applies the rows of pgbench's history, which arrive as events of many source
//! databases, to one balance per source and branch. Exactly once: the balances change in the same transaction that
//! completes the jobs.
//!
//! ```text
//! ledger-worker --url http://127.0.0.1:8080 --url http://127.0.0.1:8081 --database postgresql://…/jobs
//! ```

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde::Deserialize;
use tidemill_worker::{
    Failure, Job, Transactional, TransactionalHandler, Worker, connect_without_tls, shutdown_signal,
};
use tokio_postgres::{Config, Transaction};

/// Applies pgbench history rows to branch balances, exactly once.
#[derive(Debug, Parser)]
struct Options {
    /// A dispatcher; given several times, the next one is tried when one does not answer.
    #[arg(long, env = "LEDGER_URL", value_delimiter = ',', required = true)]
    url: Vec<String>,
    /// The job queue.
    #[arg(long, env = "LEDGER_QUEUE", default_value = "ledger")]
    queue: String,
    /// The database of the job queue and of the balances.
    #[arg(long, env = "LEDGER_DATABASE")]
    database: Config,
    /// Transactions at the same time.
    #[arg(long, env = "LEDGER_CONCURRENCY", default_value_t = 2)]
    concurrency: usize,
    /// Jobs of one transaction.
    #[arg(long, env = "LEDGER_BATCH", default_value_t = 200)]
    batch: usize,
    /// How soon a job is given out again when this worker dies.
    #[arg(long, env = "LEDGER_LEASE_MS", default_value_t = 5_000)]
    lease_ms: u64,
    /// How long running transactions may go on after SIGTERM.
    #[arg(long, env = "LEDGER_DRAIN_MS", default_value_t = 10_000)]
    drain_ms: u64,
    /// The token for the dispatcher.
    #[arg(long, env = "LEDGER_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

/// A row of `pgbench_history`, as the source's trigger wrote it.
#[derive(Debug, Deserialize)]
struct History {
    source: String,
    bid: i32,
    delta: i64,
}

/// Adds the deltas to `branch_balance`.
struct Ledger;

impl TransactionalHandler for Ledger {
    type Args = History;

    async fn handle(&self, transaction: &Transaction<'_>, jobs: &[Job<History>]) -> Result<(), Failure> {
        // Sorted, so that two transactions never wait for each other in a circle.
        let mut sums: BTreeMap<(&str, i32), (i64, i64)> = BTreeMap::new();
        for History { source, bid, delta } in jobs.iter().map(|job| &job.args) {
            let (sum, rows) = sums.entry((source, *bid)).or_default();
            *sum += delta;
            *rows += 1;
        }
        let (mut sources, mut bids, mut deltas, mut rows) = (vec![], vec![], vec![], vec![]);
        for ((source, bid), (delta, count)) in sums {
            sources.push(source);
            bids.push(bid);
            deltas.push(delta);
            rows.push(count);
        }
        transaction
            .execute(
                "insert into public.branch_balance as b (source, bid, balance, applied)
                 select * from unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[]) order by 1, 2
                 on conflict (source, bid) do update
                 set balance = b.balance + excluded.balance, applied = b.applied + excluded.applied",
                &[&sources, &bids, &deltas, &rows],
            )
            .await?;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = &*error as &dyn std::error::Error, "the worker failed");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), Box<dyn std::error::Error>> {
    let Options { url: urls, queue, mut database, concurrency, batch, lease_ms, drain_ms, token } = options;
    database.application_name("ledger-worker");
    let ledger =
        Transactional::new(connect_without_tls(database), Ledger).connections(concurrency).batch(batch);
    let mut urls = urls.into_iter();
    let mut worker = Worker::builder(urls.next().unwrap_or_default());
    for url in urls {
        worker = worker.or(url);
    }
    if let Some(token) = token {
        worker = worker.token(token);
    }
    let summary = worker
        .name("ledger-worker")
        .version(env!("CARGO_PKG_VERSION"))
        .queue(queue)
        .register_transactional(ledger)
        .lease(Duration::from_millis(lease_ms))
        .drain(Duration::from_millis(drain_ms))
        .build()?
        .run(shutdown_signal()?)
        .await?;
    tracing::info!(
        jobs.applied = summary.succeeded,
        jobs.declined = summary.declined,
        jobs.lost = summary.lost,
        "the worker has stopped"
    );
    Ok(())
}
