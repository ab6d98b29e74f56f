//! The real pgbench against every source.

use std::{
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::time::Instant;

use super::{
    programs::{Running, append_to, last_words},
    reaper::Reaper,
    server::Server,
};

/// What every source's pgbench does.
#[derive(Clone, Copy)]
pub(super) struct Drive {
    /// Transactions a second; 0: as fast as it can.
    pub rate: u32,
    pub clients: u32,
}

/// One source's pgbench, and those that take over when it dies.
pub(super) struct Load {
    database: String,
    drive: Drive,
    log: PathBuf,
    ends: Instant,
    running: Option<Running>,
    /// How often one has died and another has taken over.
    pub restarts: u32,
    /// Database connections terminated so far.
    pub disconnects: i64,
}

/// What the end of a pgbench means.
pub(super) enum End {
    /// The time is over.
    Over,
    /// It died with time left; another one has been started.
    TakenOver,
    /// It died by itself; nobody had asked for that.
    Died(ExitStatus),
}

impl Load {
    /// Starts pgbench for the whole time from now on.
    pub(super) fn start(
        database: String,
        drive: Drive,
        time: Duration,
        server: &Server,
        logs: &Path,
        reaper: &mut Reaper,
    ) -> Result<Load> {
        let log = logs.join(format!("pgbench-{database}.log"));
        let mut load = Load {
            database,
            drive,
            log,
            ends: Instant::now() + time,
            running: None,
            restarts: 0,
            disconnects: 0,
        };
        load.begin(server, reaper)?;
        Ok(load)
    }

    /// `-n`: no vacuum, which would empty the history.
    fn begin(&mut self, server: &Server, reaper: &mut Reaper) -> Result<()> {
        let log = append_to(&self.log)?;
        let seconds = self.left().as_secs_f64().ceil().max(1.0);
        let mut command = server.pgbench();
        command.args([
            "-n",
            "-j",
            "1",
            "-c",
            &self.drive.clients.to_string(),
            "-T",
            &format!("{seconds:.0}"),
        ]);
        if self.drive.rate > 0 {
            command.args(["--rate", &self.drive.rate.to_string()]);
        }
        command
            .arg(&self.database)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share the log")?)
            .stderr(log);
        self.running = Some(Running::start(&mut command, reaper)?);
        Ok(())
    }

    fn left(&self) -> Duration {
        self.ends.saturating_duration_since(Instant::now())
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub(super) fn database(&self) -> &str {
        &self.database
    }

    /// Waits for the end of the one that runs; for ever when none does.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        match &mut self.running {
            Some(running) => running.ended().await,
            None => std::future::pending().await,
        }
    }

    /// It has ended: under chaos another one takes over while there is a second left.
    pub(super) fn after(
        &mut self,
        status: ExitStatus,
        chaos: bool,
        server: &Server,
        reaper: &mut Reaper,
    ) -> Result<End> {
        self.running.take().map_or(Ok(()), |running| running.forget(reaper))?;
        match (status.success(), chaos) {
            (true, _) => Ok(End::Over),
            (false, false) => Ok(End::Died(status)),
            (false, true) if self.left() < Duration::from_secs(1) => Ok(End::Over),
            (false, true) => {
                self.restarts += 1;
                self.begin(server, reaper)?;
                Ok(End::TakenOver)
            }
        }
    }

    /// The last lines of its log.
    pub(super) fn last_words(&self, lines: usize) -> String {
        last_words(&self.log, lines)
    }
}
