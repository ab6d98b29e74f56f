//! One run from the first to the last line: set up, load, break, watch, check.

use std::{collections::VecDeque, path::PathBuf, process::ExitStatus, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::select_all;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use super::{
    Options,
    chaos::{self, Fault},
    fleet::{Binaries, Fleet},
    load::{Drive, End, Load},
    programs::{Change, Program},
    progress::Progress,
    reaper::Reaper,
    server::Server,
    sources,
    watch::{Look, Watch},
};
use crate::{
    output::say,
    table::{Align, Table, grouped},
};

/// Everything that the run has started.
pub(super) struct Conductor {
    options: Options,
    binaries: Binaries,
    /// Settings and logs.
    folder: PathBuf,
    reaper: Reaper,
    server: Option<Server>,
    programs: Vec<Program>,
    loads: Vec<Load>,
}

/// What is waited for between two looks.
enum Event {
    Program(usize, Change),
    LoadEnded(usize, ExitStatus),
    Break(Fault),
    Look(Instant),
}

impl Conductor {
    pub(super) fn new(options: Options) -> Result<Conductor> {
        let binaries = Binaries::find(options.worker.as_deref())?;
        let folder =
            tempfile::Builder::new().prefix("tidemill-demo-").tempdir().context("make a folder")?.keep();
        let mut reaper = Reaper::start()?;
        reaper.folder(Some(&folder))?;
        Ok(Conductor {
            options,
            binaries,
            folder,
            reaper,
            server: None,
            programs: Vec::new(),
            loads: Vec::new(),
        })
    }

    /// The whole run. An error is a sentence, or several lines when a log is needed to understand it.
    pub(super) async fn conduct(&mut self) -> Result<()> {
        let mut watch = self.set_up().await?;
        self.run(&mut watch).await?;
        self.stop().await?;
        self.check(&mut watch).await
    }

    async fn set_up(&mut self) -> Result<Watch> {
        let Options { sources: count, scale, clients, keep, .. } = self.options;
        // The services need a handful in each database, the demonstration one.
        let connections = 100 + count * (clients + 10);
        let server = self.server.insert(Server::start(connections, keep).await?);
        say(format!(
            "PostgreSQL {} runs for this demonstration alone, in {}.",
            server.version(),
            server.folder().display()
        ))?;
        sources::create(server, scale, count).await?;
        sources::create_jobs(server).await?;
        say(format!(
            "{count} sources have pgbench's tables (scale {scale}) and a trigger that writes each history row as an event."
        ))?;

        let names: Vec<_> = (1..=count).map(sources::name).collect();
        let fleet = Fleet::new(&self.binaries, server, &names, &self.folder)?;
        let targets: Vec<_> = names.iter().map(|name| server.target(name)).collect();
        let jobs = server.target(sources::JOBS);
        for recipe in &fleet.recipes {
            let mut program = Program::new(recipe.clone(), &self.folder);
            program.start(&mut self.reaper)?;
            self.programs.push(program);
        }
        fleet.ready(&mut self.programs).await?;
        let names: Vec<_> = self.programs.iter().map(Program::name).collect();
        say(format!("{} are running.", names.join(", ")))?;
        Ok(Watch::new(&targets, &jobs))
    }

    /// From the first transaction until all is done.
    async fn run(&mut self, watch: &mut Watch) -> Result<()> {
        let server = self.server.as_ref().context("PostgreSQL has been started")?;
        let Options { rate, clients, seconds, sources: count, .. } = self.options;
        let time = Duration::from_secs(u64::from(seconds));
        let begun = Instant::now();
        for number in 1..=count {
            let drive = Drive { rate, clients };
            self.loads.push(Load::start(
                sources::name(number),
                drive,
                time,
                server,
                &self.folder,
                &mut self.reaper,
            )?);
        }
        let speed = if rate == 0 {
            "as many transactions as it can".to_owned()
        } else {
            format!("{rate} transactions a second")
        };
        say(format!("pgbench: {speed} in each source for {seconds} s.\n"))?;

        let mut faults = self.faults(begun, time);
        let mut progress = Progress::default();
        let mut looks = interval_at(begun + Duration::from_secs(1), Duration::from_secs(1));
        looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let deadline = begun + time + Duration::from_secs(u64::from(self.options.deadline));
        loop {
            let event = tokio::select! {
                biased;
                event = next_change(&mut self.programs) => event?,
                event = next_end(&mut self.loads) => event?,
                fault = next_fault(&faults) => Event::Break(fault),
                at = looks.tick() => Event::Look(at),
            };
            match event {
                Event::Program(number, change) => self.changed(number, change)?,
                Event::LoadEnded(number, status) => self.load_ended(number, status)?,
                Event::Break(fault) => {
                    faults.pop_front();
                    if !self.break_it(fault).await? {
                        // Not there at this moment: a little later.
                        let again = Instant::now() + Duration::from_millis(50);
                        let place = faults.partition_point(|(at, _)| *at <= again);
                        faults.insert(place, (again, fault));
                    }
                }
                Event::Look(at) => {
                    let look = watch.look().await?;
                    progress.record(at - begun, look.counts);
                    say(progress.line())?;
                    let loaded = !self.loads.iter().any(Load::is_running);
                    if loaded && faults.is_empty() && look.is_done() {
                        return Ok(());
                    }
                    ensure!(look.dead == 0, "{}", self.not_done(&look, &faults));
                    ensure!(at < deadline, "{}", self.not_done(&look, &faults));
                }
            }
        }
    }

    fn faults(&self, begun: Instant, time: Duration) -> VecDeque<(Instant, Fault)> {
        let Some(seed) = self.options.seed else { return VecDeque::new() };
        let plan = chaos::plan(seed, self.programs.len(), self.loads.len(), time);
        plan.into_iter().map(|(at, fault)| (begun + at, fault)).collect()
    }

    /// A program has ended, or is to start again.
    fn changed(&mut self, number: usize, change: Change) -> Result<()> {
        let program = &mut self.programs[number];
        match change {
            Change::Due => program.start(&mut self.reaper),
            Change::Ended(status) if self.options.chaos => {
                say(format!("{} ended by itself ({status}) and is started again.", program.name()))?;
                program.fell(&mut self.reaper)
            }
            Change::Ended(status) => {
                bail!("{} ended ({status}). Its log ends:\n{}", program.name(), program.last_words(20))
            }
        }
    }

    fn load_ended(&mut self, number: usize, status: ExitStatus) -> Result<()> {
        let server = self.server.as_ref().context("PostgreSQL has been started")?;
        let load = &mut self.loads[number];
        match load.after(status, self.options.chaos, server, &mut self.reaper)? {
            End::Over | End::TakenOver => Ok(()),
            End::Died(status) => {
                bail!(
                    "pgbench of {} ended ({status}). Its log ends:\n{}",
                    load.database(),
                    load.last_words(20)
                )
            }
        }
    }

    /// Breaks one thing. False: there was nothing to break at this moment.
    async fn break_it(&mut self, fault: Fault) -> Result<bool> {
        let server = self.server.as_mut().context("PostgreSQL has been started")?;
        match fault {
            Fault::Kill { program, restart_after } => {
                let program = &mut self.programs[program];
                if program.is_running() {
                    program.kill(restart_after, &mut self.reaper).await?;
                    return Ok(true);
                }
                Ok(false)
            }
            Fault::Disconnect { program } => {
                let program = &mut self.programs[program];
                let ended = server.terminate(program.application(), None).await?;
                program.disconnects += ended;
                Ok(ended > 0)
            }
            Fault::DisconnectLoad { source } => {
                let load = &mut self.loads[source];
                if !load.is_running() {
                    // Its time is over before it could be disturbed.
                    return Ok(true);
                }
                let ended = server.terminate("pgbench", Some(load.database())).await?;
                load.disconnects += ended;
                Ok(ended > 0)
            }
        }
    }

    /// What is missing, and where it is.
    fn not_done(&self, look: &Look, faults: &VecDeque<(Instant, Fault)>) -> String {
        let counts = look.counts;
        let mut out = format!(
            "Not done: of {} rows in the histories, {} are ticked, {} moved, {} applied; {} jobs are in the waiting room, \
             {} are dead letters, {} events are unfinished at a consumer.",
            grouped(counts.produced),
            grouped(counts.ticked),
            grouped(counts.moved),
            grouped(counts.done),
            grouped(look.waiting),
            grouped(look.dead),
            grouped(look.unfinished)
        );
        if !faults.is_empty() {
            out += &format!(
                "\nNothing was there to break for {} faults, the first is {:?}.",
                faults.len(),
                faults[0].1
            );
        }
        for program in &self.programs {
            out += &format!("\n--- the end of {}'s log:\n{}", program.name(), program.last_words(8));
        }
        out
    }

    /// SIGTERM to all, the last in the flow first; each must leave by itself.
    async fn stop(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        for program in self.programs.iter_mut().rev() {
            program.ask_to_stop();
            let status = program.gone(deadline, &mut self.reaper).await?;
            let clean = status.is_none_or(|status| status.success());
            ensure!(
                clean,
                "{} did not stop when asked ({status:?}). Its log ends:\n{}",
                program.name(),
                program.last_words(20)
            );
        }
        Ok(())
    }

    /// The check, with nothing running any more that could still change something.
    async fn check(&mut self, watch: &mut Watch) -> Result<()> {
        let verdict = watch.verdict().await?;
        say(format!("\n{}", verdict.table()))?;
        if self.options.chaos {
            say(self.damage().to_string())?;
        }
        let differences = verdict.differences();
        ensure!(
            differences.is_empty(),
            "{} of {} rows or sums differ:\n{}",
            differences.len(),
            grouped(verdict.rows()),
            differences.join("\n")
        );
        ensure!(
            verdict.rows() > 0,
            "pgbench has written nothing: see its logs in {}.",
            self.folder.display()
        );
        say(format!("OK: {} rows, each applied exactly once.", grouped(verdict.rows())))?;
        Ok(())
    }

    /// What chaos did.
    fn damage(&self) -> Table {
        let mut table = Table::new(&[
            ("CHAOS", Align::Left),
            ("KILLED", Align::Right),
            ("CONNECTIONS ENDED", Align::Right),
        ]);
        for program in &self.programs {
            table.row([
                program.name().to_owned(),
                program.kills.to_string(),
                program.disconnects.to_string(),
            ]);
        }
        let restarts: u32 = self.loads.iter().map(|load| load.restarts).sum();
        let ended: i64 = self.loads.iter().map(|load| load.disconnects).sum();
        table.row([format!("pgbench, {restarts} taken over"), String::new(), ended.to_string()]);
        table
    }

    /// Ends what still runs. `keep_logs`: they are needed to understand what went wrong.
    pub(super) fn clear(mut self, keep_logs: bool) -> Result<()> {
        if keep_logs {
            self.reaper.folder(None)?;
            say(format!("The logs are kept in {}.", self.folder.display()))?;
        }
        self.reaper.finish()?;
        match self.server {
            Some(server) if self.options.keep => Ok(say(server.leave()?)?),
            // Dropping it stops it and removes its files.
            Some(_) | None => Ok(()),
        }
    }
}

async fn next_change(programs: &mut [Program]) -> Result<Event> {
    let (change, number, _) = select_all(programs.iter_mut().map(|p| Box::pin(p.changed()))).await;
    Ok(Event::Program(number, change?))
}

async fn next_end(loads: &mut [Load]) -> Result<Event> {
    let (status, number, _) = select_all(loads.iter_mut().map(|load| Box::pin(load.ended()))).await;
    Ok(Event::LoadEnded(number, status?))
}

async fn next_fault(faults: &VecDeque<(Instant, Fault)>) -> Fault {
    match faults.front() {
        Some((at, fault)) => {
            sleep_until(*at).await;
            *fault
        }
        None => std::future::pending().await,
    }
}
