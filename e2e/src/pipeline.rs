//! The whole pipeline: sources, the database with the job queue, and every program as a process of its own.

use std::{
    net::{SocketAddr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use anyhow::Result;
use tidemill_common::testing::{Cluster, Service, TestDb, process, wait_for};
use tokio::sync::{Mutex, MutexGuard};

use crate::ledger::{self, Branches, QUEUE};

/// How long the pipeline may take to go on, or to finish what it was given. On a quiet machine it is a second or two.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// One pipeline at a time in a test's process: side by side they would only wait for each other.
static TURN: Mutex<()> = Mutex::const_new(());

/// A part of the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Ticker,
    Mover,
    /// One of the two.
    Dispatcher(usize),
    Worker,
}

impl Part {
    /// All parts, in flow order.
    pub const ALL: [Part; 5] =
        [Part::Ticker, Part::Mover, Part::Dispatcher(0), Part::Dispatcher(1), Part::Worker];

    fn index(self) -> usize {
        match self {
            Part::Ticker => 0,
            Part::Mover => 1,
            Part::Dispatcher(number) => 2 + number,
            Part::Worker => 4,
        }
    }
}

/// Two dispatchers, and one of everything else, over a few sources.
#[derive(Debug)]
pub struct Pipeline {
    pub sources: Vec<TestDb>,
    pub jobs: TestDb,
    settings: String,
    http: [SocketAddr; 2],
    running: Vec<Service>,
    _turn: MutexGuard<'static, ()>,
}

impl Pipeline {
    /// Makes the databases in the cluster and starts every part.
    ///
    /// # Errors
    /// A part that does not get ready.
    pub async fn start(cluster: &Cluster, sources: usize) -> Result<Pipeline> {
        let turn = TURN.lock().await;
        let mut databases = Vec::new();
        for _ in 0..sources {
            let source = cluster.database().await;
            ledger::make_source(&source.target()).await?;
            databases.push(source);
        }
        let jobs = cluster.database().await;
        ledger::make_jobs(&jobs.target()).await?;
        let settings = settings(&databases, &jobs);
        let http = [free_port()?, free_port()?];
        let mut pipeline =
            Pipeline { sources: databases, jobs, settings, http, running: Vec::new(), _turn: turn };
        for part in Part::ALL {
            let service = pipeline.spawn(part)?;
            pipeline.running.push(service);
        }
        for part in Part::ALL {
            pipeline.ready(part).await?;
        }
        Ok(pipeline)
    }

    fn spawn(&self, part: Part) -> Result<Service> {
        match part {
            Part::Ticker => Service::spawn("tidemill-ticker", &self.settings, &[]),
            Part::Mover => Service::spawn("tidemill-mover", &self.settings, &[]),
            Part::Dispatcher(number) => {
                let (listen, advertise) =
                    (self.http[number].to_string(), format!("http://{}", self.http[number]));
                let environment =
                    [("TIDEMILL_HTTP__LISTEN", &*listen), ("TIDEMILL_HTTP__ADVERTISE", &*advertise)];
                Service::spawn("tidemill-dispatcher", &self.settings, &environment)
            }
            Part::Worker => {
                let urls = self.http.map(|address| format!("http://{address}"));
                let arguments = [
                    ["--url", &*urls[0]],
                    ["--url", &*urls[1]],
                    ["--database", self.jobs.url()],
                    ["--lease-ms", "2000"],
                ];
                Service::spawn_program("ledger-worker", arguments.as_flattened(), &[("NO_COLOR", "1")])
            }
        }
    }

    async fn ready(&mut self, part: Part) -> Result<()> {
        // A worker has nothing to say until there is work.
        if part != Part::Worker {
            self.service(part).wait_for_message("ready", Duration::from_secs(30)).await?;
        }
        Ok(())
    }

    /// The running process of a part.
    pub fn service(&mut self, part: Part) -> &mut Service {
        &mut self.running[part.index()]
    }

    /// Starts a part again that has ended. Does not wait until it is ready.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn restart(&mut self, part: Part) -> Result<()> {
        self.running[part.index()] = self.spawn(part)?;
        Ok(())
    }

    /// Where a dispatcher's API is.
    #[must_use]
    pub fn api(&self, number: usize) -> SocketAddr {
        self.http[number]
    }

    /// The dispatcher that owns the job queue now.
    pub async fn owner(&self) -> usize {
        let sql = "select address from tidemill.owner where until > clock_timestamp()";
        let mut session = self.jobs.session("tidemill-test");
        wait_for("an owner", Duration::from_secs(20), async || {
            let row = session.query_opt("find the owner", sql, &[]).await.ok()??;
            let address: String = row.get(0);
            self.http.iter().position(|http| address.ends_with(&http.to_string()))
        })
        .await
    }

    /// Rows applied so far; none while the database is away.
    pub async fn applied_rows(&self) -> Option<i64> {
        ledger::applied(&self.jobs.target()).await.ok().map(|applied| ledger::rows(&applied))
    }

    /// Waits until some more rows are applied than are now: the pipeline flows.
    ///
    /// # Panics
    /// If none is after [`PATIENCE`].
    pub async fn flows(&self) {
        let before = self.applied_rows().await.unwrap_or(0);
        wait_for("the pipeline to flow", PATIENCE, async || {
            self.applied_rows().await.filter(|now| *now > before).map(drop)
        })
        .await;
    }

    /// Waits until nothing is on its way any more, then compares the books.
    ///
    /// # Errors
    /// Every branch that differs.
    ///
    /// # Panics
    /// If something is still on its way after [`PATIENCE`].
    pub async fn settle(&self) -> Result<Branches> {
        let sources: Vec<_> = self.sources.iter().map(TestDb::target).collect();
        let written = ledger::written(&sources).await?;
        wait_for("everything to be applied", PATIENCE, async || {
            let done = self.applied_rows().await? >= ledger::rows(&written) && self.left().await? == 0;
            done.then_some(())
        })
        .await;
        ledger::compare(&written, &ledger::applied(&self.jobs.target()).await?)?;
        Ok(written)
    }

    /// Events that some consumer has not finished, or no tick covers, and jobs in the waiting room.
    async fn left(&self) -> Option<i64> {
        const UNFINISHED: &str = "
            select (select coalesce(sum(pending_events), 0) from pgq.get_consumer_info())::int8
                 + (select coalesce(sum(ev_new), 0) from pgq.get_queue_info())::int8
                 + (select count(*) from tidemill.waiting)";
        let mut left = 0;
        for database in self.sources.iter().chain([&self.jobs]) {
            let row =
                database.session("tidemill-test").query_one("look for more", UNFINISHED, &[]).await.ok()?;
            left += row.get::<_, i64>(0);
        }
        Some(left)
    }
}

/// A test that fails shows how the parts saw it.
impl Drop for Pipeline {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (part, service) in Part::ALL.iter().zip(&self.running) {
                let log = service.log_text();
                let lines: Vec<&str> = log.lines().collect();
                eprintln!(
                    "--- the end of {part:?}'s log:\n{}",
                    lines[lines.len().saturating_sub(12)..].join("\n")
                );
            }
        }
    }
}

/// One file for all services.
fn settings(sources: &[TestDb], jobs: &TestDb) -> String {
    let mut text = String::new();
    for database in sources.iter().chain([jobs]) {
        text += &format!("[[databases]]\nname = \"{}\"\nurl = \"{}\"\n\n", database.name(), database.url());
    }
    let names: Vec<_> = sources.iter().map(TestDb::name).collect();
    text + &format!(
        "[ticker]\ndatabases = [\"*\"]\nterm_ms = 1000\n\n\
         [mover]\ndestination = \"{jobs}\"\nsources = {names:?}\n\n\
         [[mover.routes]]\nfrom = \"{QUEUE}\"\nto = \"{QUEUE}\"\n\n\
         [dispatcher]\ndatabases = [\"{jobs}\"]\nterm_ms = 3000\n",
        jobs = jobs.name()
    )
}

/// A port that is free now and given to nobody else by this process, outside the range from which outgoing connections
/// get theirs: a dispatcher that is started again finds it free.
///
/// # Errors
/// If none is.
pub fn free_port() -> Result<SocketAddr> {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    // Tests of several processes begin in different places.
    let first = 20_000 + u16::try_from(std::process::id() % 5_000)?;
    for _ in 0..5_000 {
        let address = SocketAddr::from(([127, 0, 0, 1], first + GIVEN.fetch_add(1, Ordering::Relaxed)));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    anyhow::bail!("no free port")
}

/// Runs `tidemill` (or a service) to its end: its exit code, standard output and standard error.
///
/// # Errors
/// If it cannot be started.
pub fn run(program: &str, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    let output = process::output(program, arguments, &[])?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((output.status.code(), text(output.stdout), text(output.stderr)))
}
