//! What every step of the log costs before and under a snapshot that somebody holds: nothing that was updated or deleted
//! meanwhile can be cleaned up. A second database does the same at the same time without one: what becomes slower there,
//! too, is the machine.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tidemill_common::db::{Session, Type};
use tidemill_common::testing::TestDb;
use tokio::time::MissedTickBehavior;

use crate::rig::Rig;

/// Inserts a second that are measured: each puts in one event, and is followed by a statement with the others.
const INSERTS: u32 = 100;
/// Events of that statement: 2,000 a second together.
const OTHERS: i32 = 19;
/// Batches a second, each with a tick of its own.
const BATCHES: u32 = 10;
/// How much slower a step may be.
const LIMIT: f64 = 1.20;

/// What is measured, in the order of an event's way.
const STEPS: [&str; 5] = ["insert", "tick", "next_batch", "read", "finish"];

/// One call: its step, when it began, its time in microseconds.
type Call = (&'static str, Instant, u64);

/// Measures for a tenth of `hold` (a minute at most, ten seconds at least) without the snapshot, then for `hold` with it;
/// compared is the last part of it, of the same length.
pub(crate) async fn run(hold: Duration) -> Result<()> {
    let rig = Rig::new().await?;
    // A snapshot concerns its own database.
    let twin = rig.cluster.database().await;
    for db in [&rig.db, &twin] {
        let mut session = db.session("tidemill-bench");
        session.batch("make a log", "select pgq.create_queue('held'); select pgq.force_tick('held')").await?;
        session.query("tick", "select * from tidemill.tick_pass()", &[]).await?;
        session.batch("register", "select pgq.register_consumer('held', 'bench')").await?;
    }

    let span = (hold / 10).clamp(Duration::from_secs(10), Duration::from_secs(60));
    // The first calls of a session plan their statements.
    let before = Instant::now() + span / 2;
    let holds = before + span;
    let end = holds + hold.max(span);
    let (held, free, ()) = tokio::try_join!(
        Box::pin(work(&rig.db, end)),
        Box::pin(work(&twin, end)),
        Box::pin(hold_snapshot(&rig.db, holds, end))
    )?;

    let p50 = |calls: &[Call], step, from, to| median(calls, step, from, to).context("nothing was measured");
    let both =
        |calls, step| anyhow::Ok((p50(calls, step, before, holds)?, p50(calls, step, end - span, end)?));
    let table =
        STEPS.map(|step| anyhow::Ok(Line { step, held: both(&held, step)?, free: both(&free, step)? }));
    report(hold, table.into_iter().collect::<Result<Vec<_>>>()?);
    Ok(())
}

/// Everything that happens in one database.
async fn work(db: &TestDb, end: Instant) -> Result<Vec<Call>> {
    let (mut calls, batches) = tokio::try_join!(insert(db, end), consume(db, end))?;
    calls.extend(batches);
    Ok(calls)
}

/// Inserts at a steady pace until `end`.
async fn insert(db: &TestDb, end: Instant) -> Result<Vec<Call>> {
    let mut session = db.session("tidemill-bench-producer");
    let (mut calls, mut clock) = (Vec::new(), clock(INSERTS));
    while Instant::now() < end {
        clock.tick().await;
        calls.push(
            timed(&mut session, "insert", "select pgq.insert_event('held', 'bench', 'x')", None).await?.0,
        );
        let others = "select pgq.insert_event('held', 'bench', 'x') from generate_series(1, $1)";
        session.query("insert others", others, &[(&OTHERS, Type::INT4)]).await?;
    }
    Ok(calls)
}

/// Ticks and consumes at a steady pace until `end`.
async fn consume(db: &TestDb, end: Instant) -> Result<Vec<Call>> {
    let mut ticker = db.session("tidemill-bench-ticker");
    let mut session = db.session("tidemill-bench-consumer");
    let (mut calls, mut clock) = (Vec::new(), clock(BATCHES));
    while Instant::now() < end {
        clock.tick().await;
        calls.push(timed(&mut ticker, "tick", "select count(*) from tidemill.tick_pass()", None).await?.0);
        let next = "select pgq.next_batch('held', 'bench')";
        let (call, Some(batch)) = timed(&mut session, "next_batch", next, None).await? else { continue };
        calls.push(call);
        let read = "select count(*) from pgq.get_batch_events($1)";
        calls.push(timed(&mut session, "read", read, Some(batch)).await?.0);
        let finish = "select pgq.finish_batch($1)::bigint";
        calls.push(timed(&mut session, "finish", finish, Some(batch)).await?.0);
    }
    Ok(calls)
}

/// One statement with a number as its answer, in a transaction of its own.
async fn timed(
    session: &mut Session,
    step: &'static str,
    sql: &str,
    batch: Option<i64>,
) -> Result<(Call, Option<i64>)> {
    let begun = Instant::now();
    let row = match &batch {
        Some(batch) => session.query_one(step, sql, &[(batch, Type::INT8)]).await?,
        None => session.query_one(step, sql, &[]).await?,
    };
    let micros = u64::try_from(begun.elapsed().as_micros())?;
    Ok(((step, begun, micros), row.try_get(0)?))
}

/// Holds a snapshot from `from` to `end`, as a report or an idle session of somebody else does it.
async fn hold_snapshot(db: &TestDb, from: Instant, end: Instant) -> Result<()> {
    tokio::time::sleep_until(from.into()).await;
    let client = db.client().await;
    client.batch_execute("begin isolation level repeatable read; select 1").await?;
    tokio::time::sleep_until(end.into()).await;
    client.batch_execute("commit").await?;
    Ok(())
}

fn clock(per_second: u32) -> tokio::time::Interval {
    let mut clock = tokio::time::interval(Duration::from_secs(1) / per_second);
    clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
    clock
}

fn median(calls: &[Call], step: &str, from: Instant, to: Instant) -> Option<u64> {
    let of_step = calls.iter().filter(|(name, at, _)| *name == step && (from..to).contains(at));
    let mut micros: Vec<u64> = of_step.map(|(_, _, micros)| *micros).collect();
    micros.sort_unstable();
    micros.get(micros.len() / 2).copied()
}

/// p50 of one step, in microseconds, before and under the snapshot; and in the other database at these times.
struct Line {
    step: &'static str,
    held: (u64, u64),
    free: (u64, u64),
}

impl Line {
    /// How much slower it became than where nobody holds anything.
    fn ratio(&self) -> f64 {
        let slower = |(before, under): (u64, u64)| under as f64 / before as f64;
        slower(self.held) / slower(self.free)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, held: (before, under), free: (first, last) } = self;
        write!(
            f,
            "  {step:<12} p50 {before:>6} µs before, {under:>6} µs under it; without one {first:>6} and {last:>6}; \
             ratio {:.2}",
            self.ratio()
        )
    }
}

#[expect(clippy::print_stdout, reason = "this is what the program is for")]
fn report(hold: Duration, table: Vec<Line>) {
    println!(
        "a snapshot held for {} s in one of two databases, each 2000 events/s, 10 batches/s",
        hold.as_secs()
    );
    for line in &table {
        println!("{line}{}", if line.ratio() > LIMIT { "  OVER THE LIMIT of 1.20" } else { "" });
    }
}
