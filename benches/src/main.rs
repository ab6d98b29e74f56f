//! `tidemill-bench`: what a job costs, in one run with its baseline, round by round. See `benches/README.md`.

mod baseline;
mod connection;
mod drain;
mod graphile;
mod held;
mod idle;
mod insert;
mod latency;
mod measure;
mod memory;
mod read;
mod rig;
mod sdk;
mod ticks;

use std::time::Duration;

use anyhow::Result;
use clap::{Parser, ValueEnum};

use drain::Way;
use measure::Cost;

/// As in the dispatcher, whose engine is measured here in this process. The baselines have it, too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(name = "tidemill-bench", about = "What a job costs, interleaved with a baseline in one run")]
struct Options {
    /// What to measure; all if none is named
    what: Vec<What>,
    /// Jobs of one round
    #[arg(long, default_value_t = 200_000)]
    jobs: u64,
    /// Rounds, each with its baseline
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Jobs of a request
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100])]
    batch: Vec<usize>,
    /// Seconds for which `latency` and `held` hold a snapshot
    #[arg(long, default_value_t = 300)]
    hold: u64,
    /// Seconds of each measurement of `tick` and `idle`
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    Insert,
    Whole,
    InProcess,
    Http,
    Sdk,
    Latency,
    Tick,
    Idle,
    Held,
    Read,
    Memory,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    // One provider for the whole process: the HTTP client is built without one.
    drop(rustls::crypto::ring::default_provider().install_default());
    let all = [What::Insert, What::Whole, What::InProcess, What::Http, What::Sdk, What::Latency, What::Read];
    let seconds = Duration::from_secs(options.seconds.max(1));
    let (jobs, rounds) = (options.jobs.next_multiple_of(1000), options.rounds.max(1));
    for what in if options.what.is_empty() { &all[..] } else { &options.what } {
        match what {
            What::Insert => insert::run(jobs, rounds).await?,
            What::Whole => drain::whole(jobs).await?,
            What::InProcess => drain::run(Way::InProcess, &options.batch, jobs, rounds).await?,
            What::Http => drain::run(Way::Http, &options.batch, jobs, rounds).await?,
            What::Sdk => drain::run(Way::Sdk, &options.batch, jobs, rounds).await?,
            What::Tick => ticks::run(seconds).await?,
            What::Idle => idle::run(seconds).await?,
            What::Read => read::run().await?,
            What::Memory => memory::run().await?,
            What::Held => held::run(Duration::from_secs(options.hold.max(1))).await?,
            What::Latency => latency::run(Duration::from_secs(options.hold.max(1))).await?,
        }
    }
    Ok(())
}

/// Prints a measurement beside its baseline, see [`compare`].
fn report(name: &str, ours: &Cost, baseline_name: &str, baseline: &Cost) {
    compare(name, ours, &[(baseline_name, baseline)]);
}

/// Prints a measurement beside its baselines. The ratios are of CPU per job: above 1, ours is cheaper.
#[expect(clippy::print_stdout, reason = "this is what the program is for")]
fn compare(name: &str, ours: &Cost, baselines: &[(&str, &Cost)]) {
    println!("{name:<34} {ours}");
    for (name, cost) in baselines {
        println!("  {name:<32} {cost}  ratio {:.2}", cost.cpu_per_job() / ours.cpu_per_job());
    }
}
