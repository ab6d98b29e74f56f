//! Doorbell: what it costs a producer, one event a transaction, while the ticker runs. The same queue with it and without,
//! by turns.

use anyhow::{Context, Result};
use tidemill_common::testing::Service;

use super::events::{median, say, transactions};
use crate::measure::{Cost, Meter};
use crate::rig::{QUEUE, Rig};

/// Seconds of one measurement.
const SECONDS: u32 = 3;
const ROUNDS: usize = 7;

/// Prints it for one connection, a few, and many.
///
/// # Errors
/// What PostgreSQL or pgbench said.
pub(super) async fn run(rounds: usize) -> Result<()> {
    let mut rig = Rig::new().await?;
    let toml = format!("[database]\nname = \"bench\"\nurl = \"{}\"\n", rig.db.url());
    let ticker =
        Service::start("tidemill-ticker", &toml, &[("RUST_LOG", "warn,tidemill_common=info")]).await?;
    say("Events, 100 bytes, one a transaction, beside a ticker: doorbell or none");
    for clients in [1, 4, 32] {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for round in 0..rounds.max(ROUNDS) {
            for doorbell in [round % 2 == 0, round % 2 != 0] {
                let costs = if doorbell { &mut with } else { &mut without };
                costs.push(measure(&mut rig, doorbell, clients).await?);
            }
        }
        let ratios =
            |of: fn(&Cost) -> f64| with.iter().zip(&without).map(move |(with, none)| of(with) / of(none));
        let (rate, cpu) = (median(ratios(Cost::rate)), 1.0 / median(ratios(Cost::cpu_per_job)));
        say(&format!("{:<32} {}", format!("doorbell, {clients} connections"), Cost::sum(&with)));
        say(&format!("  {:<30} {}  median ratio: rate {rate:.2}, CPU {cpu:.2}", "none", Cost::sum(&without)));
    }
    ticker.sigterm();
    Ok(())
}

async fn measure(rig: &mut Rig, doorbell: bool, clients: u32) -> Result<Cost> {
    rig.set_doorbell(doorbell).await?;
    let file = rig.cluster.directory().join("doorbell.sql");
    let script = format!("select pgq.insert_event('{QUEUE}', 'send_email', '{}');\n", "x".repeat(100));
    std::fs::write(&file, script).context("write pgbench's script")?;
    let meter = Meter::start(rig.cluster, &mut rig.session, &[]).await?;
    let output = tokio::process::Command::from(rig.cluster.command("pgbench"))
        .env("PGOPTIONS", "-c role=pgq_writer")
        .args(["--no-vacuum", "--jobs", "1", "--time", &SECONDS.to_string()])
        .args(["--client", &clients.to_string(), "--file"])
        .arg(&file)
        .arg(rig.db.url())
        .output()
        .await
        .context("start pgbench")?;
    meter.stop(&mut rig.session, transactions(&output)?).await
}
