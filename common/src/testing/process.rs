//! Real binaries of this workspace as child processes.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::sync::watch;

/// How long a service may take to say that it is ready.
const START: Duration = Duration::from_secs(30);

/// A running binary with its log captured. Dropping it kills it.
#[derive(Debug)]
pub struct Service {
    name: String,
    child: Child,
    log: Log,
    /// Goes with the process.
    config: Option<tempfile::NamedTempFile>,
}

/// Lines as they were written; the watch channel's number is how many there are.
#[derive(Debug, Clone)]
struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    count: watch::Receiver<usize>,
}

/// The binary `name`, or the example `examples/name`, that was built beside the running test.
///
/// # Errors
/// A sentence that says which one to build.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find the running test")?;
    // target/debug/deps/test-1234 → target/debug
    for folder in own.ancestors().skip(1).take(3) {
        for candidate in [folder.join(name), folder.join("examples").join(name)] {
            if candidate.is_file() {
                return Ok(candidate);
            }
        }
    }
    bail!("{name} has not been built: run `cargo build --workspace --bins --examples` first")
}

impl Service {
    /// Starts a binary with this configuration and waits until it says `ready`. Logs are JSON; admin and API
    /// ports are free ones unless the configuration or the environment says otherwise.
    ///
    /// # Errors
    /// With the log, if it ends first or does not get ready in time.
    pub async fn start(name: &str, toml: &str, environment: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut service = Self::spawn(name, toml, environment)?;
        service.wait_for_message("ready", START).await?;
        Ok(service)
    }

    /// Like [`Service::start`], without waiting.
    ///
    /// # Errors
    /// If the binary is missing or cannot be started.
    pub fn spawn(name: &str, toml: &str, environment: &[(&str, &str)]) -> anyhow::Result<Self> {
        let config = tempfile::Builder::new().prefix("tidemill-").suffix(".toml").tempfile()?;
        std::fs::write(config.path(), toml)?;
        let path = config.path().display().to_string();
        let mut service = Self::spawn_program(name, &["--config", &path], environment)?;
        service.config = Some(config);
        Ok(service)
    }

    /// A program of this workspace that is no service, a worker for example, with its standard error captured.
    ///
    /// # Errors
    /// If the binary is missing or cannot be started.
    pub fn spawn_program(
        name: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(binary(name)?);
        command.args(arguments);
        let mut child = with_environment(&mut command, environment)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let stderr = child.stderr.take().ok_or_else(|| anyhow!("{name} has no standard error"))?;
        Ok(Self { name: name.to_owned(), child, log: capture(stderr), config: None })
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("process ids are small")
    }

    /// Address of `/livez`, `/readyz` and `/metrics`.
    ///
    /// # Panics
    /// If it has not been logged.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.address("admin server listening")
    }

    /// Address of the HTTP API.
    ///
    /// # Panics
    /// If it has not been logged.
    #[must_use]
    pub fn http_address(&self) -> SocketAddr {
        self.address("http server listening")
    }

    fn address(&self, message: &str) -> SocketAddr {
        let found = self.events().into_iter().find(|event| event["message"] == message);
        let address = found.and_then(|event| event["address"].as_str()?.parse().ok());
        address.unwrap_or_else(|| panic!("{} has not logged \"{message}\":\n{}", self.name, self.log_text()))
    }

    /// Everything logged so far.
    #[must_use]
    pub fn log_text(&self) -> String {
        self.log.lines.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    /// The JSON objects logged so far.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        let lines = self.log.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits until this message is in the log, also if it was there before.
    ///
    /// # Errors
    /// With the log, if the process ends first or the time is over.
    pub async fn wait_for_message(&mut self, message: &str, deadline: Duration) -> anyhow::Result<Value> {
        let mut count = self.log.count.clone();
        let found = async {
            loop {
                count.mark_unchanged();
                if let Some(event) = self.events().into_iter().find(|event| event["message"] == message) {
                    return Some(event);
                }
                // The reader drops its end when the process has closed its standard error.
                if count.changed().await.is_err() {
                    return self.events().into_iter().find(|event| event["message"] == message);
                }
            }
        };
        match tokio::time::timeout(deadline, found).await {
            Ok(Some(event)) => Ok(event),
            Ok(None) => bail!("{} ended before \"{message}\":\n{}", self.name, self.log_text()),
            Err(_) => {
                bail!("{} did not say \"{message}\" within {deadline:?}:\n{}", self.name, self.log_text())
            }
        }
    }

    /// Asks it to stop.
    pub fn sigterm(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Ends it as a crash would.
    pub fn kill9(&self) {
        self.signal(Signal::SIGKILL);
    }

    /// Freezes it, as a machine that hangs would.
    pub fn stop(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn cont(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        if let Err(error) = kill(Pid::from_raw(self.pid()), signal) {
            tracing::debug!(%error, "the process is gone already");
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end in time.
    pub async fn wait_exit(&mut self, deadline: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        let child = &mut self.child;
        let ask = async || child.try_wait().expect("a child can be waited for");
        let status = super::wait_for(&what, deadline, ask).await;
        // What it said last may still be on its way; the reader hangs up after it.
        let mut count = self.log.count.clone();
        let last_words = async { while count.changed().await.is_ok() {} };
        if tokio::time::timeout(deadline, last_words).await.is_err() {
            tracing::debug!("something that {} started still holds its standard error", self.name);
        }
        status
    }

    /// True if it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill9();
        if let Err(error) = self.child.wait() {
            tracing::debug!(%error, "process not waited for");
        }
    }
}

/// Runs a binary of this workspace to its end, for command lines and wrong configurations.
///
/// # Errors
/// If the binary is missing or cannot be started.
pub fn output(
    name: &str,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> anyhow::Result<std::process::Output> {
    let mut command = Command::new(binary(name)?);
    command.args(arguments).stdin(Stdio::null());
    with_environment(&mut command, environment).output().with_context(|| format!("cannot start {name}"))
}

/// Our own variables only: the developer's must not change a test.
fn with_environment<'c>(command: &'c mut Command, environment: &[(&str, &str)]) -> &'c mut Command {
    let kept =
        std::env::vars_os().filter(|(name, _)| ["PATH", "HOME", "TMPDIR"].iter().any(|keep| name == keep));
    let defaults = BTreeMap::from([
        ("TIDEMILL_LOG__FORMAT", "json"),
        ("TIDEMILL_ADMIN__LISTEN", "127.0.0.1:0"),
        ("TIDEMILL_HTTP__LISTEN", "127.0.0.1:0"),
        ("RUST_BACKTRACE", "1"),
    ]);
    command.env_clear().envs(kept).envs(defaults).envs(environment.iter().copied())
}

fn capture(stderr: std::process::ChildStderr) -> Log {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let (sender, count) = watch::channel(0);
    let log = Log { lines: Arc::clone(&lines), count };
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines.push(line);
            sender.send_replace(lines.len());
        }
    });
    log
}
