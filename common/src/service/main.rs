//! From `main` to the exit code.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::admin::{Admin, Readiness};
use super::context::{Context, Kept};
use super::shutdown::Shutdown;
use super::tasks::{BoxError, Ended, Outcome, Supervisor};
use super::telemetry;
use crate::config::{ConfigError, Settings, Source};

/// The process failed, or was told to stop at once.
pub const EXIT_FAILURE: u8 = 1;
/// The configuration is wrong (`EX_CONFIG` of sysexits).
pub const EXIT_CONFIG: u8 = 78;

/// The flags of every service.
#[derive(Debug, Clone, Default, Parser)]
#[command(version, disable_help_subcommand = true)]
pub struct Options {
    /// Configuration file; without it the file named by `TIDEMILL_CONFIG`, if any
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Check the configuration, then exit: 0 if it is good, 78 if not
    #[arg(long)]
    pub check_config: bool,
    /// Print the configuration in effect, secrets hidden, then exit
    #[arg(long)]
    pub print_config: bool,
}

/// The whole of a service's `main`: reads flags and configuration, starts logs and the admin server, calls
/// `build`, runs what it registered until a signal or a failure, drains, and returns the exit code.
/// `build` runs inside the runtime.
pub fn main<F, E>(name: &'static str, build: F) -> ExitCode
where
    F: FnOnce(&mut Context) -> Result<(), E>,
    E: Into<BoxError>,
{
    let command = <Options as clap::CommandFactory>::command();
    let program = format!("tidemill-{name}");
    let command = command.bin_name(program.clone()).display_name(program);
    let matches = command.get_matches();
    match <Options as clap::FromArgMatches>::from_arg_matches(&matches) {
        Ok(options) => run(name, &options, build),
        Err(error) => error.exit(),
    }
}

/// Like [`main`] with flags that somebody else has read.
pub fn run<F, E>(name: &'static str, options: &Options, build: F) -> ExitCode
where
    F: FnOnce(&mut Context) -> Result<(), E>,
    E: Into<BoxError>,
{
    let settings = match Settings::load(&Source::of_process(options.config.clone())) {
        Ok(settings) => settings,
        Err(error) => return refuse(name, &error),
    };
    if options.print_config {
        print(&settings.to_toml());
        return ExitCode::SUCCESS;
    }
    if options.check_config {
        print(&format!("tidemill-{name}: the configuration is good\n"));
        return ExitCode::SUCCESS;
    }
    if let Err(error) = telemetry::start(&settings.log, Source::rust_log().as_deref()) {
        return refuse(name, &error);
    }
    #[cfg(feature = "failpoints")]
    let _failpoints = crate::failpoint::activate();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = threads() {
        runtime.worker_threads(threads);
    }
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(name, &error),
    };
    let code = runtime.block_on(serve(name, Arc::new(settings), build));
    // Whatever still runs was given up after the drain time; nobody waits for it.
    runtime.shutdown_background();
    code
}

/// Half of the processors that this process may use, at least one; `None` where tokio's own variable says how many. A
/// service passes what it does from task to task: each thread more is one that must be woken for that, and on two
/// processors the second one cost a dispatcher a sixth more per job. PostgreSQL and the workers want processors, too.
fn threads() -> Option<usize> {
    let is_told = std::env::var_os("TOKIO_WORKER_THREADS").is_some();
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (!is_told).then(|| (processors / 2).max(1))
}

/// Says what is wrong with the start: the logs may not have begun yet.
#[expect(clippy::print_stderr, reason = "logging has not begun when a configuration is refused")]
fn refuse(name: &str, error: &(dyn std::error::Error + 'static)) -> ExitCode {
    match error.downcast_ref::<ConfigError>() {
        Some(ConfigError::Wrong(sentences)) => {
            sentences.iter().for_each(|sentence| eprintln!("tidemill-{name}: {sentence}"));
        }
        _ => eprintln!("tidemill-{name}: {}", crate::error_chain(error)),
    }
    ExitCode::from(EXIT_CONFIG)
}

#[expect(clippy::print_stdout, reason = "this is what --print-config and --check-config are for")]
fn print(text: &str) {
    print!("{text}");
}

async fn serve<F, E>(name: &'static str, settings: Arc<Settings>, build: F) -> ExitCode
where
    F: FnOnce(&mut Context) -> Result<(), E>,
    E: Into<BoxError>,
{
    match start(name, settings, build).await {
        Ok(running) => running.until_stopped().await,
        Err(error) => {
            let config = error.downcast_ref::<ConfigError>().is_some();
            tracing::error!(error = %crate::error_chain(error.as_ref()), "cannot start");
            ExitCode::from(if config { EXIT_CONFIG } else { EXIT_FAILURE })
        }
    }
}

/// A process whose steps run.
struct Running {
    shutdown: Shutdown,
    supervisor: Supervisor,
    signals: Signals,
    drain: Duration,
}

async fn start<F, E>(name: &'static str, settings: Arc<Settings>, build: F) -> Result<Running, BoxError>
where
    F: FnOnce(&mut Context) -> Result<(), E>,
    E: Into<BoxError>,
{
    // Before anything else, so that a signal during the start is not lost.
    let signals = Signals::new()?;
    let shutdown = Shutdown::new();
    for target in settings.targets().iter().filter(|target| target.is_weak()) {
        tracing::warn!(database.name = target.name(), "connections do not prove who the server is");
    }
    let (mut context, Kept { supervisor, beats }) =
        Context::new(name, Arc::clone(&settings), shutdown.clone())?;
    let readiness = context.readiness();
    let listener = bind(&settings.admin.listen).await?;
    tracing::info!(address = %listener.local_addr()?, "admin server listening");
    // Holds until everything is built, so that a condition registered late is not missed.
    let built = readiness.condition("started");
    build(&mut context).map_err(Into::into)?;
    built.met();
    let admin = Admin {
        beats,
        readiness: readiness.clone(),
        metrics: context.metrics.clone(),
        shutdown: shutdown.clone(),
        stalled_after: settings.admin.stalled_after(),
    };
    announce_ready(readiness, shutdown.clone());
    #[expect(clippy::disallowed_methods, reason = "answers until the very end, also while the tasks drain")]
    tokio::spawn(async move {
        if let Err(error) = admin.serve(listener).await {
            tracing::error!(%error, "admin server failed");
        }
    });
    Ok(Running { shutdown, supervisor, signals, drain: settings.admin.drain() })
}

/// The address could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
struct BindError {
    address: SocketAddr,
    #[source]
    source: std::io::Error,
}

async fn bind(address: &SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError { address: *address, source })
}

/// Logs `ready` once, when every condition holds for the first time.
fn announce_ready(readiness: Readiness, shutdown: Shutdown) {
    #[expect(clippy::disallowed_methods, reason = "ends by itself, and nothing depends on it")]
    tokio::spawn(async move {
        tokio::select! {
            () = shutdown.wanted() => {}
            () = readiness.all_met() => tracing::info!("ready"),
        }
    });
}

impl Running {
    async fn until_stopped(mut self) -> ExitCode {
        let failed = tokio::select! {
            name = self.signals.next() => {
                // First, so that whoever reads the line finds the process no longer ready.
                self.shutdown.begin();
                tracing::info!(signal = name, "stopping");
                false
            }
            loss = self.supervisor.loss() => {
                self.shutdown.begin();
                report(loss);
                true
            }
        };
        let drained = async {
            let mut failed = false;
            while let Some(ended) = self.supervisor.loss().await {
                failed |= !matches!(ended.outcome, Outcome::Returned);
                report(Some(ended));
            }
            failed
        };
        let failed_late = tokio::select! {
            late = tokio::time::timeout(self.drain, drained) => late.unwrap_or_else(|_| {
                let drain_ms = u64::try_from(self.drain.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(drain_ms, "stopped before everything was drained");
                false
            }),
            name = self.signals.next() => {
                tracing::warn!(signal = name, "stopped at once by a second signal");
                true
            }
        };
        tracing::info!("stopped");
        if failed || failed_late { ExitCode::from(EXIT_FAILURE) } else { ExitCode::SUCCESS }
    }
}

fn report(ended: Option<Ended>) {
    let Some(Ended { name, outcome }) = ended else {
        tracing::error!("the service has nothing to run");
        return;
    };
    match outcome {
        Outcome::Failed(error) => {
            tracing::error!(task = name, error = %crate::error_chain(error.as_ref()), "task failed");
        }
        Outcome::Panicked => tracing::error!(task = name, "task panicked"),
        Outcome::Returned | Outcome::Done => tracing::error!(task = name, "task ended by itself"),
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
