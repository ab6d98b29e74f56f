//! `tidemill demo`: the whole pipeline on a private PostgreSQL, under real load, checked to the last row.

mod chaos;
mod conduct;
mod fleet;
mod load;
mod programs;
mod progress;
mod reaper;
mod server;
mod sources;
mod verify;
mod watch;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use rand::Rng;
use tokio::signal::unix::{SignalKind, signal};

use crate::{error::CliError, output::say};
use conduct::Conductor;

#[derive(Args, Clone)]
pub(crate) struct Options {
    /// Source databases
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub sources: u32,
    /// pgbench's transactions a second for each source; 0: as fast as it can
    #[arg(long, default_value_t = 100)]
    pub rate: u32,
    /// How long pgbench writes
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub seconds: u32,
    /// pgbench's scale: branches of each source
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub scale: u32,
    /// pgbench's clients for each source
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub clients: u32,
    /// Kill every program with SIGKILL at least twice, and terminate database connections, on the way
    #[arg(long)]
    pub chaos: bool,
    /// What breaks when, with --chaos; without it a new one, which is printed
    #[arg(long, requires = "chaos")]
    pub seed: Option<u64>,
    /// Keep PostgreSQL running at the end, and say how to connect
    #[arg(long)]
    pub keep: bool,
    /// The worker; the default is examples/ledger-worker beside this program
    #[arg(long, value_name = "PATH")]
    pub worker: Option<PathBuf>,
    /// Seconds after the end of the load by which all must be done
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    pub deadline: u32,
}

/// Runs the demonstration. An error is what differs, or what could not be started; nothing is left behind either way.
pub(crate) async fn run(mut options: Options) -> Result<(), CliError> {
    if options.chaos {
        let seed = *options.seed.get_or_insert_with(|| rand::rng().random());
        say(format!(
            "Chaos with seed {seed}: `--chaos --seed {seed}` breaks the same things at the same moments."
        ))?;
    }
    let mut conductor = Conductor::new(options)?;
    let outcome = tokio::select! {
        outcome = conductor.conduct() => Some(outcome),
        interrupted = interrupted() => interrupted.map(|()| None)?,
    };
    let cleared = conductor.clear(matches!(outcome, Some(Err(_))));
    match outcome {
        Some(outcome) => Ok(outcome.and(cleared)?),
        None => cleared.map_err(CliError::Demo).and(Err(CliError::Refused("Interrupted.".to_owned()))),
    }
}

/// Ctrl-C, a polite request to end, or a terminal that was closed.
async fn interrupted() -> Result<()> {
    let listen = |kind| signal(kind).context("listen for signals");
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}
