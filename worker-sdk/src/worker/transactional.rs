//! Work that is completed in the same database transaction as its effects: exactly once.

use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;
use tokio::time::{sleep_until, timeout};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Transaction};

use super::attempt::AttemptTime;
use super::execute::{Execute, Task, Verdict, panicked, parse};
use super::leases::Lease;
use crate::backoff::Backoff;
use crate::job::{Job, StopReason};
use crate::outcome::Failure;
use crate::postgres::{Meaning, meaning};

/// How long connecting, beginning, completing and committing may take, each.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often a transaction is repeated after deadlocks and serialization failures.
const REPEATS: u32 = 10;

/// Handles batches of jobs inside a transaction that also completes them.
///
/// ```
/// # use tidemill_worker::{Failure, Job, TransactionalHandler};
/// # use tokio_postgres::Transaction;
/// struct Count;
///
/// impl TransactionalHandler for Count {
///     type Args = serde_json::Value;
///
///     async fn handle(&self, tx: &Transaction<'_>, jobs: &[Job<serde_json::Value>]) -> Result<(), Failure> {
///         tx.execute("update counter set n = n + $1", &[&(jobs.len() as i64)]).await?;
///         Ok(())
///     }
/// }
/// ```
pub trait TransactionalHandler: Send + Sync + 'static {
    /// The arguments of the jobs.
    type Args: DeserializeOwned + Send + Sync + 'static;

    /// The job types it handles; `None`: all of its queues.
    fn types(&self) -> Option<Vec<String>> {
        None
    }

    /// Does the jobs' work with `transaction`, and nothing that outlives a rollback.
    ///
    /// It may be called again with the same jobs, or with a part of them, after a rollback: when the connection was
    /// lost, when another job of the batch failed, when a lease of the batch had ended, or the time of a job with a
    /// timeout. Whatever the batch does, the time of each of its jobs runs.
    ///
    /// # Errors
    /// Rolls back. Of a batch, the halves are tried by themselves, so that only the job that fails is failed.
    fn handle(
        &self,
        transaction: &Transaction<'_>,
        jobs: &[Job<Self::Args>],
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

type BoxError = Box<dyn Error + Send + Sync>;
type Connect = Box<dyn Fn() -> BoxFuture<'static, Result<Client, BoxError>> + Send + Sync>;

/// A [`TransactionalHandler`] with its connections.
pub struct Transactional<H> {
    handler: H,
    connect: Connect,
    /// Clients between two batches.
    idle: Mutex<Vec<Client>>,
    connections: usize,
    batch: usize,
}

impl<H: TransactionalHandler> Transactional<H> {
    /// `connect` opens a connection to the database that holds both the job queue and what the handler changes.
    /// Connections are kept, and opened again when they are lost.
    pub fn new<F, Fut, E>(connect: F, handler: H) -> Transactional<H>
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Client, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let connect = move || connect().map(|opened| opened.map_err(Into::into)).boxed();
        Transactional {
            handler,
            connect: Box::new(connect),
            idle: Mutex::default(),
            connections: 2,
            batch: 100,
        }
    }

    /// How many transactions run at the same time, each on a connection of its own. Default 2.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// The most jobs of one transaction. Default 100.
    #[must_use]
    pub fn batch(mut self, jobs: usize) -> Self {
        self.batch = jobs;
        self
    }

    pub(crate) fn limits(&self) -> (usize, usize) {
        (self.connections, self.batch)
    }

    pub(crate) fn types(&self) -> Option<Vec<String>> {
        self.handler.types()
    }
}

/// Why a transaction did not commit, as far as we know.
enum Undone {
    /// The connection is lost. If that was during COMMIT the outcome is unknown, and need not be known: done again,
    /// the transaction finds the leases gone if it had been committed.
    Lost(BoxError),
    /// A deadlock or the like.
    Repeat(Failure),
    /// A lease is not live.
    Stale,
    /// The time of a job is over.
    Late,
    /// The handler failed.
    Failed(Failure),
}

impl<H: TransactionalHandler> Execute for Transactional<H> {
    fn batch(&self) -> usize {
        self.batch
    }

    fn droppable(&self) -> bool {
        // A lease that is lost cannot be completed; the other jobs of the batch go on.
        false
    }

    fn run(self: Arc<Self>, tasks: Vec<Task>) -> BoxFuture<'static, Vec<(Lease, Verdict)>> {
        async move { self.carry_out(tasks).await }.boxed()
    }
}

impl<H: TransactionalHandler> Transactional<H> {
    async fn carry_out(&self, tasks: Vec<Task>) -> Vec<(Lease, Verdict)> {
        let mut verdicts = Vec::with_capacity(tasks.len());
        let mut batch = Vec::with_capacity(tasks.len());
        for task in tasks {
            match parse::<H::Args>(&task) {
                Ok(job) => batch.push(job),
                Err(failure) => verdicts.push((task.lease, Verdict::Send(failure.into()))),
            }
        }
        let mut settle = |jobs: Vec<Job<H::Args>>, verdict: &mut dyn FnMut() -> Verdict| {
            verdicts.extend(jobs.into_iter().map(|job| (Lease::from(job.lease()), verdict())));
        };
        let mut client = self.idle().pop();
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        let mut repeats = 0;
        // Groups still to be done; a group that fails is halved until the job that fails it is alone.
        let mut groups = vec![batch];
        while let Some(mut group) = groups.pop() {
            let (go_on, stopped): (Vec<_>, Vec<_>) = group.into_iter().partition(goes_on);
            group = go_on;
            for job in stopped {
                let said = match (job.stop().reason(), job.time) {
                    (Some(StopReason::Shutdown), _) => Some(Failure::decline()),
                    (Some(StopReason::TimedOut), Some(time)) => Some(time.failure()),
                    _ => None,
                };
                let mut verdict = Some(said.map_or(Verdict::Gone, |failure| Verdict::Send(failure.into())));
                settle(vec![job], &mut || verdict.take().unwrap_or(Verdict::Gone));
            }
            if group.is_empty() {
                continue;
            }
            match self.attempt(&mut client, &group).await {
                Ok(()) => {
                    backoff.reset();
                    settle(group, &mut || Verdict::Committed);
                }
                Err(Undone::Lost(error)) => {
                    tracing::warn!(
                        error = &*error as &dyn Error,
                        jobs = group.len(),
                        "a transaction is done again"
                    );
                    client = None;
                    groups.push(group);
                    sleep_until(backoff.until(None)).await;
                }
                // Those whose time is over are told so, the others go on.
                Err(Undone::Late) => groups.push(group),
                Err(Undone::Repeat(_)) if repeats < REPEATS => {
                    repeats += 1;
                    groups.push(group);
                    sleep_until(backoff.until(None)).await;
                }
                Err(Undone::Stale | Undone::Failed(_) | Undone::Repeat(_)) if group.len() > 1 => {
                    let second = group.split_off(group.len() / 2);
                    groups.push(second);
                    groups.push(group);
                }
                Err(Undone::Stale) => settle(group, &mut || Verdict::Gone),
                Err(Undone::Failed(failure) | Undone::Repeat(failure)) => {
                    let mut outcome = Some(failure.into());
                    settle(group, &mut || outcome.take().map_or(Verdict::Gone, Verdict::Send));
                }
            }
        }
        self.idle().extend(client);
        verdicts
    }

    /// One transaction over `jobs`.
    async fn attempt(&self, slot: &mut Option<Client>, jobs: &[Job<H::Args>]) -> Result<(), Undone> {
        let mut client = match slot.take() {
            Some(client) if !client.is_closed() => client,
            _ => in_time("connect", (self.connect)()).await?.map_err(Undone::Lost)?,
        };
        // All leases lost: nothing that the handler still does can count. Dropping the client ends its transaction.
        let done = tokio::select! {
            done = self.transact(&mut client, jobs) => done,
            () = all_lost(jobs) => return Err(Undone::Stale),
            () = time_over(jobs) => return Err(Undone::Late),
        };
        if !matches!(done, Err(Undone::Lost(_))) {
            *slot = Some(client);
        }
        done
    }

    async fn transact(&self, client: &mut Client, jobs: &[Job<H::Args>]) -> Result<(), Undone> {
        let transaction = in_time("begin", client.transaction()).await?.map_err(Undone::from)?;
        let handled = AssertUnwindSafe(self.handler.handle(&transaction, jobs)).catch_unwind().await;
        let handled = handled.unwrap_or_else(|panic| Err(panicked(&*panic)));
        let undone = match handled {
            Ok(()) => match in_time("complete jobs", complete(&transaction, jobs)).await? {
                Ok(()) => return in_time("commit", transaction.commit()).await?.map_err(Undone::from),
                Err(error) => Undone::from(error),
            },
            Err(failure) => undone(failure),
        };
        if !matches!(undone, Undone::Lost(_)) {
            in_time("rollback", transaction.rollback()).await?.map_err(|error| Undone::Lost(error.into()))?;
        }
        Err(undone)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Client>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn complete<T>(transaction: &Transaction<'_>, jobs: &[Job<T>]) -> Result<(), tokio_postgres::Error> {
    let leases: Vec<&str> = jobs.iter().map(Job::lease).collect();
    // A typed one-shot statement: one round trip, and it works behind a transaction-mode pooler.
    transaction
        .query_typed("select tidemill.complete_jobs($1)", &[(&leases, Type::TEXT_ARRAY)])
        .await
        .map(drop)
}

/// The failure of a handler, as what it means for the transaction.
fn undone(failure: Failure) -> Undone {
    let said = failure.cause().and_then(|cause| cause.downcast_ref::<tokio_postgres::Error>()).map(meaning);
    match said {
        Some(Meaning::Lost) => Undone::Lost(failure.to_string().into()),
        Some(Meaning::Repeat) => Undone::Repeat(failure),
        Some(Meaning::Stale | Meaning::Failed) | None => Undone::Failed(failure),
    }
}

impl From<tokio_postgres::Error> for Undone {
    fn from(error: tokio_postgres::Error) -> Undone {
        match meaning(&error) {
            Meaning::Lost => Undone::Lost(error.into()),
            Meaning::Repeat => Undone::Repeat(error.into()),
            Meaning::Stale => Undone::Stale,
            Meaning::Failed => Undone::Failed(error.into()),
        }
    }
}

async fn in_time<F: Future>(what: &str, call: F) -> Result<F::Output, Undone> {
    timeout(DEADLINE, call)
        .await
        .map_err(|_| Undone::Lost(format!("{what}: no answer within {DEADLINE:?}").into()))
}

fn goes_on<T>(job: &Job<T>) -> bool {
    use StopReason::{LeaseLost, Shutdown, TimedOut};
    !matches!(job.stop().reason(), Some(LeaseLost | Shutdown | TimedOut))
}

/// Asks the jobs to stop whose time is nearly over, and ends when that of the first is.
async fn time_over<T>(jobs: &[Job<T>]) {
    let times = || jobs.iter().filter_map(|job| Some((job.stop(), job.time?)));
    let ends = [AttemptTime::ask_at, AttemptTime::drop_at];
    let [Some(ask_at), Some(drop_at)] = ends.map(|end| times().map(|(_, time)| end(time)).min()) else {
        return std::future::pending().await;
    };
    for at in [ask_at, drop_at] {
        sleep_until(at).await;
        for (stop, _) in times().filter(|(_, time)| time.ask_at() <= at) {
            stop.request(StopReason::TimedOut);
        }
    }
}

async fn all_lost<T>(jobs: &[Job<T>]) {
    for job in jobs {
        if job.stop().requested().await != StopReason::LeaseLost {
            std::future::pending::<()>().await;
        }
    }
}
