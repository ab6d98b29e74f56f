//! The databases: sources with pgbench's tables and a trigger that writes each history row into the log as an event, and
//! the one in which the jobs end.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use tidemill_common::{
    db::{Session, Target},
    schema::{self, InstallOptions},
};

use super::server::Server;

/// The queue in every source, and the job queue they are brought together in.
pub(super) const QUEUE: &str = "ledger";
/// The database with the job queue and the balances.
pub(super) const JOBS: &str = "jobs";
/// How the demonstration calls itself in `pg_stat_activity`: chaos leaves these connections alone.
pub(super) const APPLICATION: &str = "tidemill-demo";

/// Everything pgbench writes into its history becomes an event, in the same transaction.
const TRIGGER: &str = "
create function public.write_ledger_event() returns trigger language plpgsql as $$
begin
    perform pgq.insert_event('ledger', 'pgbench_history', json_build_object(
        'source', current_database(), 'tid', new.tid, 'bid', new.bid, 'aid', new.aid,
        'delta', new.delta, 'mtime', new.mtime)::text);
    return null;
end;
$$;
create trigger write_ledger_event after insert on public.pgbench_history
    for each row execute function public.write_ledger_event();";

/// What the worker keeps: one row for each branch of each source, updated in the worker's own transaction. Half-empty
/// pages, because the few rows are updated often.
const BALANCES: &str = "
create table public.branch_balance (
    source  text   not null,
    bid     int4   not null,
    balance int8   not null,
    applied int8   not null,
    primary key (source, bid)
) with (fillfactor = 20);";

pub(super) fn name(number: u32) -> String {
    format!("source_{number}")
}

/// Creates `count` sources on the server: pgbench's tables are made once and copied, like the schema; the queue and its
/// trigger are each source's own.
pub(super) async fn create(server: &Server, scale: u32, count: u32) -> Result<()> {
    const TEMPLATE: &str = "source_template";
    let mut admin = session(&server.target("postgres"));
    admin.batch("create database", &format!("create database {TEMPLATE}")).await?;
    let made = server
        .pgbench()
        .args(["--initialize", "--quiet", "--scale", &scale.to_string(), TEMPLATE])
        .output()
        .await
        .context("start pgbench")?;
    ensure!(
        made.status.success(),
        "pgbench --initialize failed ({}): {}",
        made.status,
        String::from_utf8_lossy(&made.stderr).trim()
    );
    install(&server.target(TEMPLATE)).await?;
    for number in 1..=count {
        let name = name(number);
        admin.batch("create database", &format!("create database {name} template {TEMPLATE}")).await?;
        let mut source = session(&server.target(&name));
        source.batch("create queue", &format!("select pgq.create_queue('{QUEUE}')")).await?;
        source.batch("create trigger", TRIGGER).await?;
    }
    admin.batch("drop database", &format!("drop database {TEMPLATE}")).await?;
    Ok(())
}

/// Creates the database with the job queue.
pub(super) async fn create_jobs(server: &Server) -> Result<()> {
    session(&server.target("postgres")).batch("create database", &format!("create database {JOBS}")).await?;
    let target = server.target(JOBS);
    install(&target).await?;
    let mut jobs = session(&target);
    jobs.batch("create job queue", &format!("select tidemill.create_job_queue('{QUEUE}')")).await?;
    jobs.batch("create table", BALANCES).await?;
    Ok(())
}

async fn install(target: &Arc<Target>) -> Result<()> {
    schema::install(&mut session(target), &InstallOptions::default()).await?;
    Ok(())
}

pub(super) fn session(target: &Arc<Target>) -> Session {
    Session::new(Arc::clone(target), APPLICATION).with_deadline(Duration::from_secs(60))
}
