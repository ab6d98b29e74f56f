//! Chaos on real processes: dispatchers, tickers, workers, their connections and the whole of PostgreSQL are killed,
//! frozen and stopped in turn, while producers and workers go on. In the end no job is lost, each has exactly one
//! accepted end, and none was accepted under a lease that was not the newest; what a worker completed in its own
//! transaction is in the ledger once; a job is replaced if and only if all that replace it exist; and no owner wrote
//! after the takeover by the next one.
//!
//! `TIDEMILL_TEST_SEED` repeats the faults of a run that failed, `TIDEMILL_CHAOS_CYCLES` runs more of them.

mod books;
mod fault;
mod fleet;
mod journal;
mod produce;

use std::{fmt::Display, str::FromStr};

use anyhow::{Context, Result, ensure};
use books::{all_jobs, balance};
use fault::Fault;
use fleet::{Fleet, PATIENCE};
use journal::Journal;
use produce::Producers;
use rand::{SeedableRng, rngs::StdRng};
use tidemill_common::{db::Session, testing::wait_for};
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
        // In this order: by the end of a job that was replaced, the others are there.
        let journal = Journal::read(&mut session).await.ok()?;
        let jobs = all_jobs(&mut session).await.ok()?;
        journal.has_ended(&jobs).then_some(())
    })
    .await;
    let (ends, summary) = balance(&mut session, &acknowledged).await?;
    println!("{:?}: {summary}", begin.elapsed());
    for what in ["complete", "ledger", "replace"] {
        ensure!(cycles < CYCLES || ends.contains_key(what), "no job ended as {what}");
    }
    Ok(())
}

/// What may not be left out of the fence: it must check the epoch. That it reads it after it has the lock is a matter of
/// microseconds here; the SQL suite has two sessions for that.
const WEAKER: (&str, &str) = ("if v_epoch <> i_epoch then", "if false then");

/// The books must find what a weaker fence lets through.
#[tokio::test(flavor = "multi_thread")]
async fn a_flush_behind_a_takeover_is_noticed() -> Result<()> {
    let mut fleet = Fleet::start().await?;
    let producers = Producers::start(&fleet.http);
    let mut session = fleet.jobs.session("tidemill-test");
    let source = "select pg_get_functiondef('tidemill.fence(integer, bigint)'::regprocedure)";
    let fence: String = session.query_one("read the fence", source, &[]).await?.get(0);
    let late = async |session: &mut Session| -> Option<usize> {
        let journal = Journal::read(session).await.ok()?;
        Some(journal.faults.iter().filter(|fault| fault.contains("was written after the takeover")).count())
    };
    fleet.flows().await?;
    let (from, to) = WEAKER;
    ensure!(fence.matches(from).count() == 1, "an edit that changes nothing proves nothing: {from}");
    session.batch("weaken the fence", &fence.replace(from, to)).await?;
    Fault::HoldFlush.happen(&mut fleet).await?;
    wait_for("the books notice", PATIENCE, async || late(&mut session).await.filter(|found| *found > 0))
        .await;
    producers.stop().await;
    Ok(())
}

/// A number from the environment.
fn setting<T: FromStr<Err: Display>>(name: &str) -> Option<T> {
    let (_, value) = std::env::vars_os().find(|(key, _)| key == name)?;
    Some(value.to_string_lossy().parse().unwrap_or_else(|error| panic!("{name}: {error}")))
}
