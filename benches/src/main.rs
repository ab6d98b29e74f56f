//! `tidemill-bench`: what a job costs, in one run with its baseline, round by round. See `benches/README.md`.

mod baseline;
mod drain;
mod insert;
mod measure;
mod rig;

use anyhow::Result;
use clap::{Parser, ValueEnum};

use drain::Way;
use measure::Cost;

#[derive(Debug, Parser)]
#[command(name = "tidemill-bench", about = "What a job costs, interleaved with a baseline in one run")]
struct Options {
    /// What to measure; all if none is named
    what: Vec<What>,
    /// Jobs of one round
    #[arg(long, default_value_t = 50_000)]
    jobs: u64,
    /// Rounds, each with its baseline
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    Insert,
    InProcess,
    Http,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    // One provider for the whole process: the HTTP client is built without one.
    drop(rustls::crypto::ring::default_provider().install_default());
    let all = [What::Insert, What::InProcess, What::Http];
    let (jobs, rounds) = (options.jobs.next_multiple_of(1000), options.rounds.max(1));
    for what in if options.what.is_empty() { &all[..] } else { &options.what } {
        match what {
            What::Insert => insert::run(jobs, rounds).await?,
            What::InProcess => drain::run(Way::InProcess, jobs, rounds).await?,
            What::Http => drain::run(Way::Http, jobs, rounds).await?,
        }
    }
    Ok(())
}

/// Prints a measurement beside its baseline. The ratio is of CPU per job: above 1, ours is cheaper.
#[expect(clippy::print_stdout, reason = "this is what the program is for")]
fn report(name: &str, ours: &Cost, baseline_name: &str, baseline: &Cost) {
    println!("{name:<34} {ours}");
    println!("  {baseline_name:<32} {baseline}  ratio {:.2}", baseline.cpu_per_job() / ours.cpu_per_job());
}
