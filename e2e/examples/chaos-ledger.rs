//! The transactional worker of the chaos test, on the SDK: an entry of the ledger is written in the transaction that
//! completes its job, so there must be one entry of each job that was completed so, and none of any other.
//!
//! ```text
//! chaos-ledger QUEUE DATABASE-URL DISPATCHER-URL…
//! ```

use std::time::Duration;

use anyhow::{Context, Result};
use tidemill_common::{api::RawValue, lease::Lease};
use tidemill_worker::{
    Failure, Job, Transactional, TransactionalHandler, Worker, connect_without_tls, shutdown_signal,
};
use tokio_postgres::{Config, Transaction};

/// Leases end soon, so that the test does not wait for those of a worker that was killed.
const LEASE: Duration = Duration::from_millis(1_500);

struct Ledger;

impl TransactionalHandler for Ledger {
    type Args = Box<RawValue>;

    async fn handle(&self, transaction: &Transaction<'_>, jobs: &[Job<Self::Args>]) -> Result<(), Failure> {
        let (mut ids, mut epochs, mut numbers) = (vec![], vec![], vec![]);
        for job in jobs {
            let lease: Lease = job.lease().parse().map_err(Failure::permanent)?;
            if job.job_type() != "marker" {
                decide(&lease)?;
            }
            ids.push(lease.job);
            epochs.push(lease.epoch);
            numbers.push(lease.number);
        }
        // Before the end of the attempt is known: it must be gone again if that is not to be.
        let sql = "insert into public.ledger (job, epoch, number) select * from unnest($1::int8[], $2::int8[], $3::int8[])";
        transaction.execute(sql, &[&ids, &epochs, &numbers]).await?;
        Ok(())
    }
}

/// As the other workers of the test decide, where they can.
fn decide(lease: &Lease) -> Result<(), Failure> {
    match (lease.job % 100, lease.attempt) {
        (7, _) => Err(Failure::permanent("never")),
        (13, _) | (20..28, 1) => Err(Failure::temporary("not now").retry_in(Duration::from_millis(100))),
        _ => Ok(()),
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let queue = arguments.next().context("the queue")?;
    let mut database: Config = arguments.next().context("the database's URL")?.parse()?;
    database.application_name("chaos-ledger");
    let mut worker = Worker::builder(arguments.next().context("a dispatcher")?);
    for url in arguments {
        worker = worker.or(url);
    }
    let ledger = Transactional::new(connect_without_tls(database), Ledger).batch(7);
    let worker = worker.name("chaos-ledger").queue(queue).register_transactional(ledger);
    worker.lease(LEASE).wait(Duration::from_millis(200)).build()?.run(shutdown_signal()?).await?;
    Ok(())
}
