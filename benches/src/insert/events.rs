//! Events: `insert_event` against the real PgQ's, which is C, in two databases of one cluster with 300 queues each.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tidemill_common::db::Session;
use tidemill_common::testing::{Cluster, ClusterOptions, TestDb};

use crate::measure::{Cost, Meter};

/// Queues in each database.
const QUEUES: u32 = 300;
/// Seconds of one measurement; a connection plans its first insert into each table in it.
const SECONDS: u32 = 3;
/// Fewer rounds say nothing on a machine with neighbours.
const LEAST_ROUNDS: usize = 7;

/// A way to insert, as scripts of pgbench.
struct Load {
    name: &'static str,
    clients: u32,
    /// Events of one transaction.
    events: u64,
    theirs: String,
    ours: String,
}

fn loads() -> Vec<Load> {
    let data = "x".repeat(100);
    let one = format!("select pgq.insert_event('q:n', 'send_email', '{data}')");
    let many =
        format!("select pgq.insert_event('q:n', 'send_email', '{data}') from generate_series(1, 1000)");
    let arrays = format!(
        "select tidemill.insert_events('q:n', array_fill('send_email'::text, array[1000]), array_fill('{data}'::text, array[1000]))"
    );
    let own = format!("\\set n :client_id * 37 + 1\n{one};\n");
    let any = format!("\\set n random(1, {QUEUES})\n{one};\n");
    let counted = format!(
        "\\set n random(1, {QUEUES})\nselect count(pgq.insert_event('q:n', 'send_email', '{data}')) from generate_series(1, 1000);\n"
    );
    let many = format!("\\set n random(1, {QUEUES})\n{many};\n");
    let bulk = format!("\\set n random(1, {QUEUES})\n{arrays};\n");
    let load = |name, clients, events, theirs: &String, ours: &String| Load {
        name,
        clients,
        events,
        theirs: theirs.clone(),
        ours: ours.clone(),
    };
    vec![
        load("1 a transaction, 8 connections", 8, 1, &own, &own),
        load("  the same, each into any queue", 8, 1, &any, &any),
        load("1000 calls in one select", 1, 1000, &counted, &counted),
        load("insert_events, 1000 ids back", 1, 1000, &many, &bulk),
    ]
}

/// Prints each load, with and without flushes; or, without the extension, why not.
///
/// # Errors
/// What PostgreSQL or pgbench said.
pub(super) async fn run(rounds: usize) -> Result<()> {
    let Some(bin_dir) = server_with_pgq() else {
        say(
            "The C extension of PgQ (Debian: postgresql-15-pgq3) is not installed: inserts of events are not compared.",
        );
        return Ok(());
    };
    for durable in [true, false] {
        let rig = Rig::new(&bin_dir, durable).await?;
        say(&format!("Events, 100 bytes, {QUEUES} queues, fsync {}", if durable { "on" } else { "off" }));
        for load in loads() {
            compare(&rig, &load, rounds.max(LEAST_ROUNDS)).await?;
        }
    }
    Ok(())
}

/// The folder with the programs of a server that has the extension.
fn server_with_pgq() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/share/postgresql").ok()?.flatten().map(|entry| entry.path());
    let version = versions.into_iter().find(|path| path.join("extension/pgq.control").exists())?;
    Some(Path::new("/usr/lib/postgresql").join(version.file_name()?).join("bin"))
}

/// One cluster, a database of theirs and one of ours.
struct Rig {
    cluster: Cluster,
    theirs: TestDb,
    ours: TestDb,
}

impl Rig {
    async fn new(bin_dir: &Path, durable: bool) -> Result<Self> {
        let settings = [
            ("shared_buffers", "256MB"),
            ("max_wal_size", "8GB"),
            ("checkpoint_timeout", "1h"),
            ("autovacuum", "off"),
            ("max_locks_per_transaction", "1024"),
        ];
        let options = ClusterOptions {
            durable,
            bin_dir: Some(bin_dir.to_owned()),
            settings: settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..ClusterOptions::default()
        };
        let cluster = Cluster::start_new(&options)?;
        let (theirs, ours) = (cluster.empty_database().await, cluster.database().await);
        theirs.session("tidemill-bench").batch("create extension", "create extension pgq").await?;
        for db in [&theirs, &ours] {
            let mut session = db.session("tidemill-bench").with_deadline(Duration::from_secs(120));
            let queues = format!("select pgq.create_queue('q' || n) from generate_series(1, {QUEUES}) n");
            session.query("create queues", &queues, &[]).await?;
            session.batch("analyze", "analyze pgq.queue").await?;
        }
        Ok(Self { cluster, theirs, ours })
    }

    /// One measurement.
    async fn measure(&self, db: &TestDb, load: &Load, script: &str) -> Result<Cost> {
        let mut session: Session = db.session("tidemill-bench");
        let file = self.cluster.directory().join("insert.sql");
        std::fs::write(&file, script).context("write pgbench's script")?;
        let meter = Meter::start(&self.cluster, &mut session, &[]).await?;
        let output = tokio::process::Command::from(self.cluster.command("pgbench"))
            // Producers are not the owner: it is also what a security definer function costs.
            .env("PGOPTIONS", "-c role=pgq_writer")
            .args(["--no-vacuum", "--jobs", "1", "--time", &SECONDS.to_string()])
            .args(["--client", &load.clients.to_string(), "--file"])
            .arg(&file)
            .arg(db.url())
            .output()
            .await
            .context("start pgbench")?;
        meter.stop(&mut session, transactions(&output)? * load.events).await
    }
}

/// How many transactions pgbench made; all must have succeeded.
pub(super) fn transactions(output: &Output) -> Result<u64> {
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "pgbench: {text}{}", String::from_utf8_lossy(&output.stderr));
    let line = text.lines().find_map(|line| line.strip_prefix("number of transactions actually processed: "));
    line.and_then(|rest| rest.split('/').next()?.trim().parse().ok()).context("pgbench printed no number")
}

async fn compare(rig: &Rig, load: &Load, rounds: usize) -> Result<()> {
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // Who begins changes, so that what the one leaves behind does not always meet the other.
        if round % 2 == 0 {
            theirs.push(rig.measure(&rig.theirs, load, &load.theirs).await?);
            ours.push(rig.measure(&rig.ours, load, &load.ours).await?);
        } else {
            ours.push(rig.measure(&rig.ours, load, &load.ours).await?);
            theirs.push(rig.measure(&rig.theirs, load, &load.theirs).await?);
        }
    }
    let ratios =
        |of: fn(&Cost) -> f64| theirs.iter().zip(&ours).map(move |(theirs, ours)| of(ours) / of(theirs));
    let (rate, cpu) = (median(ratios(Cost::rate)), 1.0 / median(ratios(Cost::cpu_per_job)));
    say(&format!("{:<32} {}", load.name, Cost::sum(&ours)));
    say(&format!(
        "  {:<30} {}  median ratio: rate {rate:.2}, CPU {cpu:.2}",
        "C extension",
        Cost::sum(&theirs)
    ));
    Ok(())
}

pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[expect(clippy::print_stdout, reason = "this is what the program is for")]
pub(super) fn say(line: &str) {
    println!("{line}");
}
