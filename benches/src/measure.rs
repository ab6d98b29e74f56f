//! What a piece of work cost: time, CPU of database and processes, bytes of WAL.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tidemill_common::db::Session;
use tidemill_common::testing::Cluster;

/// Length of the clock tick in which the kernel counts CPU time (`getconf CLK_TCK`, 100 a second on Linux).
const TICK_US: u64 = 10_000;

/// What a number of jobs cost together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) jobs: u64,
    pub(crate) elapsed: Duration,
    /// Of PostgreSQL, all processes of the cluster.
    pub(crate) database_us: u64,
    /// Of the other processes named at the start.
    pub(crate) process_us: u64,
    pub(crate) wal_bytes: u64,
}

impl Cost {
    fn per_job(&self, total: u64) -> f64 {
        total as f64 / self.jobs as f64
    }

    pub(crate) fn cpu_per_job(&self) -> f64 {
        self.per_job(self.database_us + self.process_us)
    }

    pub(crate) fn rate(&self) -> f64 {
        self.jobs as f64 / self.elapsed.as_secs_f64()
    }

    /// Jobs and costs of several rounds, added up.
    pub(crate) fn sum(costs: &[Self]) -> Self {
        let mut all = costs[0];
        for cost in &costs[1..] {
            all.jobs += cost.jobs;
            all.elapsed += cost.elapsed;
            all.database_us += cost.database_us;
            all.process_us += cost.process_us;
            all.wal_bytes += cost.wal_bytes;
        }
        all
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>8.0} jobs/s  {:>7.1} µs CPU/job (database {:>6.1}, processes {:>6.1})  {:>5.0} B WAL/job",
            self.rate(),
            self.cpu_per_job(),
            self.per_job(self.database_us),
            self.per_job(self.process_us),
            self.per_job(self.wal_bytes),
        )
    }
}

/// Counters at the start of a piece of work.
pub(crate) struct Meter<'a> {
    cluster: &'a Cluster,
    processes: Vec<u32>,
    begun: Instant,
    database_us: u64,
    process_us: u64,
    lsn: u64,
}

impl<'a> Meter<'a> {
    /// Starts counting; `processes` are process ids beside the database's.
    pub(crate) async fn start(
        cluster: &'a Cluster,
        session: &mut Session,
        processes: &[u32],
    ) -> Result<Meter<'a>> {
        let lsn = wal_position(session).await?;
        let processes = processes.to_vec();
        let (database_us, process_us) = (database_cpu(cluster)?, processes_cpu(&processes)?);
        Ok(Self { cluster, processes, begun: Instant::now(), database_us, process_us, lsn })
    }

    /// What `jobs` jobs cost since the start.
    pub(crate) async fn stop(self, session: &mut Session, jobs: u64) -> Result<Cost> {
        let elapsed = self.begun.elapsed();
        let database_us = database_cpu(self.cluster)?.saturating_sub(self.database_us);
        let process_us = processes_cpu(&self.processes)?.saturating_sub(self.process_us);
        let wal_bytes = wal_position(session).await?.saturating_sub(self.lsn);
        Ok(Cost { jobs, elapsed, database_us, process_us, wal_bytes })
    }
}

async fn wal_position(session: &mut Session) -> Result<u64> {
    let sql = "select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::int8";
    let position: i64 = session.query_one("read WAL position", sql, &[]).await?.try_get(0)?;
    Ok(u64::try_from(position)?)
}

/// CPU time of the server and everything it started, running or ended.
fn database_cpu(cluster: &Cluster) -> Result<u64> {
    let pid_file =
        std::fs::read_to_string(cluster.data().join("postmaster.pid")).context("postmaster.pid")?;
    let postmaster: u32 =
        pid_file.lines().next().unwrap_or_default().trim().parse().context("postmaster.pid")?;
    let mut total = 0;
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process may end while we look: it is then in its parent's count.
        let Ok(stat) = Stat::of(pid) else { continue };
        if pid == postmaster {
            total += stat.own + stat.reaped;
        } else if stat.parent == postmaster {
            total += stat.own;
        }
    }
    Ok(total * TICK_US)
}

fn processes_cpu(pids: &[u32]) -> Result<u64> {
    let mut total = 0;
    for pid in pids {
        total += Stat::of(*pid)?.own;
    }
    Ok(total * TICK_US)
}

/// CPU ticks of one process, from `/proc/PID/stat` (proc(5)).
struct Stat {
    parent: u32,
    own: u64,
    reaped: u64,
}

impl Stat {
    fn of(pid: u32) -> Result<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name in parentheses may hold anything; the fields after it are numbers.
        let (_, fields) = text.rsplit_once(')').context("no process name")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let field =
            |index: usize| -> Result<u64> { Ok(fields.get(index).context("a field is missing")?.parse()?) };
        Ok(Self {
            parent: u32::try_from(field(1)?)?,
            own: field(11)? + field(12)?,
            reaped: field(13)? + field(14)?,
        })
    }
}
