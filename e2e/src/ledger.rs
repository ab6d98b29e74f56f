//! The books of a test: sources that write rows and events in one transaction, a worker's balances, and the check that
//! they agree to the last row.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tidemill_common::db::{Session, Target, Type};
use tokio::task::JoinSet;

/// The queue in every source, and the job queue they are brought together in.
pub const QUEUE: &str = "ledger";

/// Rows with a delta for one of four branches; a trigger writes each as an event, in the same transaction.
const SOURCE: &str = "
create table public.history (bid int4 not null, delta int8 not null);
create function public.write_ledger_event() returns trigger language plpgsql as $$
begin
    perform pgq.insert_event('ledger', 'pgbench_history', json_build_object(
        'source', current_database(), 'tid', 1, 'bid', new.bid, 'aid', 1, 'delta', new.delta, 'mtime', now())::text);
    return null;
end;
$$;
create trigger write_ledger_event after insert on public.history
    for each row execute function public.write_ledger_event();
select pgq.create_queue('ledger');";

/// What `ledger-worker` keeps.
const JOBS: &str = "
create table public.branch_balance (
    source text not null, bid int4 not null, balance int8 not null, applied int8 not null, primary key (source, bid));
select tidemill.create_job_queue('ledger');";

/// Sum and count of one branch of one source.
pub type Branches = BTreeMap<(String, i32), (i64, i64)>;

/// Makes a database with the schema a source.
///
/// # Errors
/// A statement that fails.
pub async fn make_source(target: &Arc<Target>) -> Result<()> {
    session(target).batch("make a source", SOURCE).await.context("make a source")
}

/// Makes a database with the schema the one with the job queue.
///
/// # Errors
/// A statement that fails.
pub async fn make_jobs(target: &Arc<Target>) -> Result<()> {
    session(target).batch("make the jobs", JOBS).await.context("make the jobs")
}

/// A session of the test itself.
#[must_use]
pub fn session(target: &Arc<Target>) -> Session {
    Session::new(Arc::clone(target), "tidemill-test")
}

/// Writers that go on until they are told to stop; a lost connection is opened again.
pub struct Writers {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Result<()>>,
}

impl Writers {
    /// `each` writers for every source, each as fast as `pause` allows.
    #[must_use]
    pub fn start(sources: &[Arc<Target>], each: u32, pause: Duration) -> Writers {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for source in sources {
            for writer in 0..each {
                tasks.spawn(write(Arc::clone(source), writer, pause, Arc::clone(&stop)));
            }
        }
        Writers { stop, tasks }
    }

    /// Lets every writer finish its transaction.
    ///
    /// # Errors
    /// What a writer failed with, other than a lost connection.
    pub async fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(task) = self.tasks.join_next().await {
            task.context("a writer panicked")??;
        }
        Ok(())
    }
}

/// Transactions of one to five rows; some are rolled back, wholly or to a savepoint.
async fn write(source: Arc<Target>, writer: u32, pause: Duration, stop: Arc<AtomicBool>) -> Result<()> {
    let mut session = session(&source);
    let mut pace = tokio::time::interval(pause.max(Duration::from_millis(1)));
    let mut n = i64::from(writer);
    while !stop.load(Ordering::Relaxed) {
        pace.tick().await;
        n += 1;
        match transaction(&mut session, n).await {
            Ok(()) => {}
            // Whether it was committed is written in the table: the check reads the truth there.
            Err(error) if error.is_connection() => session.close(),
            Err(error) => return Err(error).context("write"),
        }
    }
    Ok(())
}

async fn transaction(session: &mut Session, n: i64) -> Result<(), tidemill_common::db::DbError> {
    const INSERT: &str =
        "insert into public.history select 1 + ($1 + i) % 4, $1 * 7 + i from generate_series(1, $2) i";
    let mut tx = session.begin("write").await?;
    tx.execute("insert", INSERT, &[(&n, Type::INT8), (&(1 + n % 5), Type::INT8)]).await?;
    if n % 7 == 0 {
        tx.savepoint("undone").await?;
        tx.execute("insert", INSERT, &[(&n, Type::INT8), (&3_i64, Type::INT8)]).await?;
        tx.rollback_to("undone").await?;
    }
    if n % 11 == 0 { tx.rollback().await } else { tx.commit().await }
}

/// What the sources have committed.
///
/// # Errors
/// A query that fails.
pub async fn written(sources: &[Arc<Target>]) -> Result<Branches> {
    let mut out = Branches::new();
    for source in sources {
        let sql = "select current_database()::text, bid, sum(delta)::int8, count(*) from public.history group by bid";
        for row in session(source).query("read the history", sql, &[]).await? {
            out.insert((row.get(0), row.get(1)), (row.get(2), row.get(3)));
        }
    }
    Ok(out)
}

/// What the worker has applied.
///
/// # Errors
/// A query that fails.
pub async fn applied(jobs: &Arc<Target>) -> Result<Branches> {
    let sql = "select source, bid, balance, applied from public.branch_balance";
    let rows = session(jobs).query("read the balances", sql, &[]).await?;
    Ok(rows.iter().map(|row| ((row.get(0), row.get(1)), (row.get(2), row.get(3)))).collect())
}

/// The number of rows in all branches.
#[must_use]
pub fn rows(branches: &Branches) -> i64 {
    branches.values().map(|(_, rows)| rows).sum()
}

/// Fails with every branch that differs.
///
/// # Errors
/// Lists what was lost or applied twice.
pub fn compare(written: &Branches, applied: &Branches) -> Result<()> {
    let mut differences = Vec::new();
    for (branch, wrote) in written {
        let got = applied.get(branch).copied().unwrap_or_default();
        if got != *wrote {
            differences.push(format!("{branch:?}: written (sum, rows) {wrote:?}, applied {got:?}"));
        }
    }
    differences.extend(
        applied
            .keys()
            .filter(|branch| !written.contains_key(branch))
            .map(|b| format!("{b:?}: never written")),
    );
    ensure!(differences.is_empty(), "the books differ:\n{}", differences.join("\n"));
    Ok(())
}
