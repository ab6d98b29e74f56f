//! Chaos on real processes: dispatchers, tickers, workers, their connections and the whole of PostgreSQL are killed,
//! frozen and stopped in turn, while producers and workers go on. In the end no job is lost, each has exactly one
//! accepted end, and none was accepted under a lease that was not the newest.
//!
//! `TIDEMILL_TEST_SEED` repeats the faults of a run that failed, `TIDEMILL_CHAOS_CYCLES` runs more of them.

mod books;
mod fault;
mod fleet;
mod produce;

use std::{fmt::Display, str::FromStr};

use anyhow::{Context, Result};
use books::{Journal, all_jobs, balance};
use fault::Fault;
use fleet::{Fleet, PATIENCE};
use produce::Producers;
use rand::{SeedableRng, rngs::StdRng};
use tidemill_common::testing::wait_for;
use tokio::time::Instant;

/// Faults of one run.
const CYCLES: u64 = 50;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_nothing_stale_is_accepted() -> Result<()> {
    let seed = setting("TIDEMILL_TEST_SEED").unwrap_or_else(|| std::process::id().into());
    let cycles = setting("TIDEMILL_CHAOS_CYCLES").unwrap_or(CYCLES);
    println!(
        "TIDEMILL_TEST_SEED={seed} TIDEMILL_CHAOS_CYCLES={cycles} cargo test -p tidemill-e2e --test chaos"
    );
    let mut rng = StdRng::seed_from_u64(seed);
    let begin = Instant::now();
    let mut fleet = Fleet::start().await?;
    let producers = Producers::start(&fleet.http);
    fleet.flows().await?;
    for cycle in 1..=cycles {
        let fault = Fault::draw(&mut rng);
        println!("{:?} cycle {cycle}: {fault:?}", begin.elapsed());
        fault.happen(&mut fleet).await.with_context(|| format!("cycle {cycle}: {fault:?}"))?;
        fleet.flows().await?;
    }
    let acknowledged = producers.stop().await;

    let mut session = fleet.jobs.session("tidemill-test");
    wait_for("every job to end", PATIENCE, async || {
        let jobs = all_jobs(&mut session).await.ok()?;
        Journal::read(&mut session).await.ok()?.has_ended(&jobs).then_some(())
    })
    .await;
    println!("{:?}: {}", begin.elapsed(), balance(&mut session, &acknowledged).await?);
    Ok(())
}

/// A number from the environment.
fn setting<T: FromStr<Err: Display>>(name: &str) -> Option<T> {
    let (_, value) = std::env::vars_os().find(|(key, _)| key == name)?;
    Some(value.to_string_lossy().parse().unwrap_or_else(|error| panic!("{name}: {error}")))
}
