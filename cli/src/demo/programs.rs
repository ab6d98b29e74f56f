//! The programs of the demonstration: started, killed, started again, stopped.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep_until, timeout_at},
};

use super::reaper::Reaper;

/// How to start one program.
#[derive(Clone)]
pub(super) struct Recipe {
    /// What the demonstration calls it; also the name of its log.
    pub name: String,
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// What its database connections call themselves, or the beginning of it.
    pub application: String,
}

/// What has become of a program.
pub(super) enum Change {
    /// It has ended by itself.
    Ended(ExitStatus),
    /// It was down for a moment, and is to run again.
    Due,
}

/// A child that leads a process group of its own and is known to the reaper.
pub(super) struct Running {
    child: Child,
    group: Pid,
}

impl Running {
    pub(super) fn start(command: &mut Command, reaper: &mut Reaper) -> Result<Running> {
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let child = command
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {program}"))?;
        let id = child.id().context("it runs, so it has a number")?;
        let group = Pid::from_raw(i32::try_from(id).context("process number")?);
        reaper.adopt(group)?;
        Ok(Running { child, group })
    }

    /// Waits for its end. Safe to cancel and to call again.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// It has ended: its group is nobody's concern any more.
    pub(super) fn forget(self, reaper: &mut Reaper) -> Result<()> {
        reaper.forget(self.group)
    }

    pub(super) async fn kill(mut self, reaper: &mut Reaper) -> Result<()> {
        self.child.kill().await.with_context(|| format!("kill process {}", self.group))?;
        self.forget(reaper)
    }
}

/// One program: running, or down for a moment.
pub(super) struct Program {
    recipe: Recipe,
    log: PathBuf,
    running: Option<Running>,
    /// When it is to run again, while it is down.
    due: Option<Instant>,
    /// SIGKILLs so far.
    pub kills: u32,
    /// Database connections terminated so far.
    pub disconnects: i64,
}

impl Program {
    pub(super) fn new(recipe: Recipe, logs: &Path) -> Program {
        let log = logs.join(format!("{}.log", recipe.name));
        Program { recipe, log, running: None, due: None, kills: 0, disconnects: 0 }
    }

    pub(super) fn name(&self) -> &str {
        &self.recipe.name
    }

    pub(super) fn application(&self) -> &str {
        &self.recipe.application
    }

    /// Starts it; its output is appended to its log.
    pub(super) fn start(&mut self, reaper: &mut Reaper) -> Result<()> {
        let log = append_to(&self.log)?;
        // A shell waits for a word before it becomes the program: if this process is killed before the reaper knows the
        // child, the word never comes, and the child ends by itself.
        let (hears, mut word) = io::pipe().context("make a pipe")?;
        let mut command = Command::new("sh");
        command
            .args(["-c", r#"read -r word && exec "$@" </dev/null"#, "sh"])
            .arg(&self.recipe.program)
            .args(&self.recipe.arguments)
            .envs(self.recipe.environment.iter().map(|(k, v)| (k, v)))
            // The logs are files, and quoted when something is wrong.
            .env("NO_COLOR", "1")
            .stdin(hears)
            .stdout(log.try_clone().context("share the log")?)
            .stderr(log);
        self.running = Some(Running::start(&mut command, reaper)?);
        word.write_all(b"go\n").with_context(|| format!("let {} begin", self.recipe.name))?;
        self.due = None;
        Ok(())
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Waits for its end, or, while it is down, until it is to run again. Safe to cancel.
    pub(super) async fn changed(&mut self) -> Result<Change> {
        match (&mut self.running, self.due) {
            (Some(running), _) => {
                let status =
                    running.ended().await.with_context(|| format!("wait for {}", self.recipe.name))?;
                Ok(Change::Ended(status))
            }
            (None, Some(due)) => {
                sleep_until(due).await;
                Ok(Change::Due)
            }
            (None, None) => std::future::pending().await,
        }
    }

    /// It has ended by itself: it is to run again in a moment.
    pub(super) fn fell(&mut self, reaper: &mut Reaper) -> Result<()> {
        self.due = Some(Instant::now() + Duration::from_millis(200));
        self.running.take().map_or(Ok(()), |running| running.forget(reaper))
    }

    /// SIGKILL, and waits for the end. It starts again `after` a while.
    pub(super) async fn kill(&mut self, after: Duration, reaper: &mut Reaper) -> Result<()> {
        let Some(running) = self.running.take() else { bail!("{} is not running", self.recipe.name) };
        running.kill(reaper).await?;
        self.kills += 1;
        self.due = Some(Instant::now() + after);
        Ok(())
    }

    /// SIGTERM to its group. It may have ended in this moment: then there is nobody to ask.
    pub(super) fn ask_to_stop(&self) {
        if let Some(running) = &self.running
            && let Err(error) = killpg(running.group, Signal::SIGTERM)
        {
            tracing::debug!(program = self.recipe.name, %error, "nobody to stop");
        }
    }

    /// Waits until it has ended, with SIGKILL at `deadline`. None: it was not running, or had to be killed.
    pub(super) async fn gone(
        &mut self,
        deadline: Instant,
        reaper: &mut Reaper,
    ) -> Result<Option<ExitStatus>> {
        let Some(mut running) = self.running.take() else { return Ok(None) };
        if let Ok(status) = timeout_at(deadline, running.ended()).await {
            running.forget(reaper)?;
            return Ok(Some(status.with_context(|| format!("wait for {}", self.recipe.name))?));
        }
        running.kill(reaper).await?;
        Ok(None)
    }

    /// The last lines of its log.
    pub(super) fn last_words(&self, lines: usize) -> String {
        last_words(&self.log, lines)
    }
}

/// A log that is written on where it ends.
pub(super) fn append_to(log: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true).open(log).with_context(|| format!("open {}", log.display()))
}

/// The last lines of a log; nothing if there is none.
pub(super) fn last_words(log: &Path, lines: usize) -> String {
    let Ok(bytes) = std::fs::read(log) else { return String::new() };
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
