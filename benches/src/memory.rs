//! Memory: how much of it a dispatcher takes, with a million jobs that nobody has asked for yet, and with a window full
//! of jobs of 1 MiB. A real process, asked by HTTP; what counts is the most it ever had resident.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Client;
use serde_json::{Value, json};
use tidemill_common::db::Type;
use tidemill_common::testing::{Service, wait_for};
use uuid::Uuid;

use crate::rig::{QUEUE, Rig};
use crate::ticks::say;

/// What a dispatcher may have resident.
const LIMIT_MIB: u64 = 256;
/// Jobs that wait in the first part.
const SMALL: u64 = 1_000_000;
/// Jobs of 1 MiB that wait in the second part: three windows full.
const LARGE: i32 = 200;
/// Grabs that wait in the third part, and the connections that the dispatcher may have then.
const POLLS: usize = 1_000;
const CONNECTIONS: i64 = 8;
/// The window fills, a grab is answered.
const SOON: Duration = Duration::from_secs(120);

/// Runs all three parts, and fails if one is over its limit.
pub(crate) async fn run() -> Result<()> {
    let mut rig = Rig::new().await?;
    rig.fill_queue(SMALL).await?;
    rig.tick().await?;
    let dispatcher = Dispatcher::start(&rig).await?;
    // A read begins when a quarter of the window is free.
    dispatcher.filled(40_000).await;
    say(&format!("memory: {SMALL} jobs wait, 110-byte arguments: {}", dispatcher.memory()?));
    dispatcher.drain(100, 1_000).await?;
    let small = dispatcher.memory()?;
    say(&format!("memory: 100,000 of them done, 1,000 a grab: {small}"));
    drop(dispatcher);

    let mut rig = Rig::new().await?;
    for _ in 0..LARGE {
        let job = "select tidemill.insert_jobs($1, jsonb_build_array(jsonb_build_object(\
                   'type', 'large', 'args', repeat('x', 1048574))))";
        rig.session.query("insert a large job", job, &[(&QUEUE, Type::TEXT)]).await?;
    }
    rig.tick().await?;
    let dispatcher = Dispatcher::start(&rig).await?;
    dispatcher.filled(60).await;
    say(&format!("memory: {LARGE} jobs of 1 MiB wait: {}", dispatcher.memory()?));
    dispatcher.drain(20, 10).await?;
    let large = dispatcher.memory()?;
    say(&format!("memory: all of them done, 10 a grab: {large}"));

    let (polls, connections) = dispatcher.wait_for_nothing(&mut rig).await?;
    say(&format!("memory: {POLLS} grabs wait, {connections} database connections: {polls}"));
    ensure!(small.peak.max(large.peak).max(polls.peak) <= LIMIT_MIB, "more than {LIMIT_MIB} MiB");
    ensure!(connections <= CONNECTIONS, "more than {CONNECTIONS} connections");
    Ok(())
}

/// A process with the configuration's defaults.
struct Dispatcher {
    service: Service,
    client: Client,
    worker: Value,
}

/// Resident memory in MiB.
#[derive(Debug, Clone, Copy)]
struct Memory {
    now: u64,
    peak: u64,
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} MiB resident, {} at most", self.now, self.peak)
    }
}

impl Dispatcher {
    async fn start(rig: &Rig) -> Result<Self> {
        let toml = format!("[[databases]]\nname = \"{}\"\nurl = \"{}\"\n", rig.db.name(), rig.db.url());
        let service = Service::start("tidemill-dispatcher", &toml, &[]).await?;
        Ok(Self { service, client: Client::new(), worker: json!({"instance": Uuid::new_v4()}) })
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.service.http_address())
    }

    /// The window holds so many jobs.
    async fn filled(&self, jobs: u64) {
        wait_for("the window is full", SOON, async || {
            let response = self.client.get(self.url(&format!("/v1/queues/{QUEUE}"))).send().await.ok()?;
            let queue: Value = response.json().await.ok()?;
            (queue["ready"].as_u64()? >= jobs).then_some(())
        })
        .await;
    }

    /// So many grabs of at most `max` jobs, each handing in what the one before got.
    async fn drain(&self, grabs: usize, max: usize) -> Result<()> {
        let mut results = Vec::new();
        for _ in 0..=grabs {
            let body = json!({"queues": [QUEUE], "max": max, "wait_ms": 0, "worker": self.worker, "results": results});
            let response =
                self.client.post(self.url("/v1/grab")).json(&body).send().await?.error_for_status()?;
            let answer: Value = response.json().await?;
            let jobs = answer["jobs"].as_array().context("an answer without jobs")?;
            results = jobs.iter().map(|job| json!({"lease": job["lease"], "outcome": "complete"})).collect();
        }
        Ok(())
    }

    /// A thousand grabs wait at a time for jobs of a type that does not come; how many connections there are then.
    async fn wait_for_nothing(&self, rig: &mut Rig) -> Result<(Memory, i64)> {
        let body = |wait_ms: u32| json!({"queues": [QUEUE], "types": ["never"], "wait_ms": wait_ms, "worker": {"instance": Uuid::new_v4()}});
        let polls = (0..POLLS).map(|_| self.client.post(self.url("/v1/grab")).json(&body(10_000)).send());
        let sql = "select count(*) from pg_stat_activity where application_name like 'tidemill-dispatcher%'";
        let look = async {
            let sockets = format!("/proc/{}/fd", self.service.pid());
            wait_for("all wait", SOON, async || {
                (std::fs::read_dir(&sockets).ok()?.count() > POLLS).then_some(())
            })
            .await;
            let row = rig.session.query_one("count connections", sql, &[]).await?;
            anyhow::Ok(row.try_get::<_, i64>(0)?)
        };
        let (answers, connections) = tokio::join!(futures_util::future::join_all(polls), look);
        for answer in answers {
            answer?.error_for_status()?;
        }
        Ok((self.memory()?, connections?))
    }

    fn memory(&self) -> Result<Memory> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.service.pid()))?;
        let field = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such field")?;
            Ok(line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>()?.div_ceil(1024))
        };
        Ok(Memory { now: field("VmRSS")?, peak: field("VmHWM")? })
    }
}
