//! Reading a million events in pages: what an event costs on the first page and on the last, and the memory of both
//! sides. All in one transaction, and in a thousand.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tidemill_common::db::{Session, Type};

use crate::rig::{QUEUE, Rig};

const EVENTS: i64 = 1_000_000;
const PAGE: i32 = 10_000;

pub(crate) async fn run() -> Result<()> {
    for transactions in [1, 1000] {
        let mut rig = Rig::new().await?;
        measure(&mut rig.session, transactions).await?;
    }
    Ok(())
}

/// A page after some rows: how many it had, how long it took, where the next goes on.
type Page = (usize, Duration, Option<Place>);
/// Transaction id and event id of a row.
type Place = (i64, i64);

#[expect(clippy::print_stdout, reason = "this is what the program is for")]
async fn measure(session: &mut Session, transactions: i64) -> Result<()> {
    let from = last_tick(session).await?;
    for _ in 0..transactions {
        let sql = format!(
            "insert into pgq.event_1_0 (ev_time, ev_type, ev_data) select now(), 'send_email', repeat('x', 110) \
             from generate_series(1, {})",
            EVENTS / transactions
        );
        session.batch("insert", &sql).await?;
    }
    let begun = Instant::now();
    let sql =
        format!("select count(*) from tidemill.tick_pass() where queue_name = '{QUEUE}' and problem is null");
    session.query_one("tick", &sql, &[]).await?;
    let (ticked, to) = (begun.elapsed(), last_tick(session).await?);
    println!(
        "read, {EVENTS} events in {transactions} transactions: {} ticks in {} ms",
        to - from,
        ticked.as_millis()
    );
    for way in [Way::Events, Way::Ahead] {
        // A session of its own: its memory, and what it keeps between pages.
        session.close();
        let row = session.query_one("find backend", "select pg_backend_pid()", &[]).await?;
        let backend = row.try_get::<_, i32>(0)?.to_string();
        let (before, mut pages, mut place) = (peak("self")?, Vec::new(), None);
        let begun = Instant::now();
        loop {
            let (rows, took, next) = way.page(session, (from, to), place).await?;
            if rows == 0 {
                break;
            }
            pages.push((rows, took));
            place = next;
        }
        let whole = begun.elapsed();
        let rows: usize = pages.iter().map(|(rows, _)| rows).sum();
        anyhow::ensure!(rows == usize::try_from(EVENTS)?, "{rows} events were read");
        let at = |n: usize| pages.get(n).map_or(0.0, |(rows, took)| per_event(*took, *rows));
        println!(
            "  {:<12} first page {:.0} ms, µs per event: second {:.2}, middle {:.2}, last {:.2}, all {:.2}; \
             at most {} MB in the server, {} MB more here",
            way.name(),
            pages.first().map_or(0.0, |(_, took)| took.as_secs_f64() * 1e3),
            at(1),
            at(pages.len() / 2),
            at(pages.len() - 1),
            per_event(whole, rows),
            peak(&backend)? / 1024,
            (peak("self")? - before) / 1024,
        );
    }
    Ok(())
}

/// Which function reads.
#[derive(Clone, Copy)]
enum Way {
    /// By event id, as the mover does.
    Events,
    /// By transaction id and event id, as the dispatcher does.
    Ahead,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Events => "read_events",
            Self::Ahead => "read_ahead",
        }
    }

    async fn page(self, session: &mut Session, ticks: (i64, i64), after: Option<Place>) -> Result<Page> {
        let (txid, id) = (after.map(|place| place.0), after.map(|place| place.1));
        let (from, to) = ((&ticks.0 as _, Type::INT8), (&ticks.1 as _, Type::INT8));
        let (txid, id, limit) = ((&txid as _, Type::INT8), (&id as _, Type::INT8), (&PAGE as _, Type::INT4));
        let begun = Instant::now();
        let rows = match self {
            Self::Events => {
                let sql = "select * from tidemill.read_events(1, $1, $2, 1, $3, $4)";
                session.query("read events", sql, &[from, to, id, limit]).await?
            }
            Self::Ahead => {
                let sql = "select * from tidemill.read_ahead(1, 1, $1, $2, $3, $4, $5, 1000000000)";
                session.query("read ahead", sql, &[from, to, txid, id, limit]).await?
            }
        };
        let took = begun.elapsed();
        let place = match rows.last() {
            Some(row) => Some((row.try_get("ev_txid")?, row.try_get("ev_id")?)),
            None => None,
        };
        Ok((rows.len(), took, place))
    }
}

fn per_event(time: Duration, events: usize) -> f64 {
    time.as_secs_f64() * 1e6 / events.max(1) as f64
}

async fn last_tick(session: &mut Session) -> Result<i64> {
    let row = session.query_one("find tick", "select max(tick_id) from pgq.tick", &[]).await?;
    Ok(row.try_get(0)?)
}

/// The most memory that a process had, without what it shares now, in kB.
fn peak(process: &str) -> Result<i64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let field = |name: &str| -> Result<i64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such field")?;
        Ok(line.trim_start_matches(':').trim().trim_end_matches(" kB").parse()?)
    };
    // The shared buffers count as a backend's as soon as it has touched them: all, after the first page.
    Ok(field("VmHWM")? - field("RssShmem")?)
}
