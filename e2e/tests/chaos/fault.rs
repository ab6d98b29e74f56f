//! What can go wrong, one thing at a time.

use anyhow::{Result, ensure};
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use tidemill_common::{
    db::DbError,
    testing::{Service, wait_for},
};

use crate::fleet::{Fleet, PATIENCE, PROGRAMS, kill, retried};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    KillOwner,
    KillDispatcher(usize),
    KillTicker(usize),
    KillWorker(usize),
    /// `pg_terminate_backend` on a connection of a dispatcher or a transactional worker: the draw among those there are.
    KillBackend(usize),
    /// SIGSTOP of the owner until another one has the queue, then SIGCONT.
    FreezeOwner,
    /// A flush of the owner is held up in the server, and let go when the queue has been taken over: only the fence is
    /// left to refuse it.
    HoldFlush,
    /// The transactional workers are frozen in the middle of a transaction, until their leases have ended and the jobs are
    /// somebody else's.
    FreezeLedgers,
    /// An immediate stop of PostgreSQL, and a start.
    CrashDatabase,
    /// The next owner dies at this point, or hears an error there although it was executed.
    Failpoint(String),
}

/// The point, and whether it can also be executed-then-error.
const POINTS: [(&str, bool, u32); 8] = [
    ("dispatcher.before_take", false, 0),
    ("dispatcher.after_take", true, 0),
    ("dispatcher.before_flush", false, 30),
    ("dispatcher.after_flush", true, 30),
    ("dispatcher.before_renew", false, 3),
    ("dispatcher.after_renew", true, 3),
    ("dispatcher.before_stream_commit", false, 2),
    ("dispatcher.after_stream_commit", false, 2),
];

impl Fault {
    pub(crate) fn draw(rng: &mut StdRng) -> Fault {
        match rng.random_range(0..21) {
            0..2 => Fault::KillOwner,
            2 => Fault::KillDispatcher(rng.random_range(0..2)),
            3 => Fault::KillTicker(rng.random_range(0..2)),
            4..6 => Fault::KillWorker(rng.random_range(0..PROGRAMS.len())),
            6..8 => Fault::KillBackend(rng.random_range(0..100)),
            8..10 => Fault::FreezeOwner,
            10 => Fault::CrashDatabase,
            11..13 => Fault::HoldFlush,
            13 => Fault::FreezeLedgers,
            _ => {
                let (point, unheard, most) = *POINTS.choose(rng).expect("points");
                let passes = match rng.random_range(0..=most) {
                    0 => String::new(),
                    passes => format!("{passes}*off->"),
                };
                let action = if unheard && rng.random_bool(0.7) { "1*return(unheard)" } else { "return" };
                Fault::Failpoint(format!("{point}={passes}{action}"))
            }
        }
    }

    /// Lets it happen and mends it. Returns at a sign that it did happen, not after some time.
    pub(crate) async fn happen(&self, fleet: &mut Fleet) -> Result<()> {
        match self {
            Fault::KillOwner => {
                let (owner, _) = fleet.owner().await;
                Fault::again(fleet, owner, "").await?;
            }
            Fault::KillDispatcher(number) => Fault::again(fleet, *number, "").await?,
            Fault::KillTicker(number) => {
                kill(&mut fleet.tickers[*number]).await;
                fleet.tickers[*number] = fleet.ticker()?;
            }
            Fault::KillWorker(number) => {
                kill(&mut fleet.workers[*number]).await;
                fleet.workers[*number] = fleet.worker(*number)?;
            }
            Fault::KillBackend(draw) => kill_backend(fleet, *draw).await,
            Fault::FreezeOwner => freeze(fleet).await?,
            Fault::HoldFlush => hold_flush(fleet).await,
            Fault::FreezeLedgers => freeze_ledgers(fleet).await?,
            Fault::CrashDatabase => {
                fleet.cluster.stop_immediate()?;
                fleet.cluster.start()?;
            }
            Fault::Failpoint(point) => fail(fleet, point).await?,
        }
        Ok(())
    }

    /// Kills a dispatcher and starts it again.
    async fn again(fleet: &mut Fleet, number: usize, failpoints: &str) -> Result<()> {
        kill(&mut fleet.dispatchers[number]).await;
        fleet.dispatchers[number] = fleet.dispatcher(number, failpoints)?;
        Ok(())
    }
}

async fn kill_backend(fleet: &Fleet, draw: usize) {
    let mut session = fleet.jobs.session("tidemill-test");
    wait_for("a connection to end", PATIENCE, async || {
        let list = "select pid from pg_stat_activity
                     where application_name ~ '^(tidemill-dispatcher|chaos-ledger)' and datname = current_database()
                     order by pid";
        let pids = retried(&mut session, async |s| s.query("list backends", list, &[]).await).await?;
        let pid: i32 = pids.get(draw % pids.len().max(1))?.get(0);
        let end = format!("select pg_terminate_backend({pid})");
        let row = retried(&mut session, async |s| s.query_one("end one", &end, &[]).await).await?;
        row.get::<_, bool>(0).then_some(())
    })
    .await;
}

/// The zombie's journal must not grow once another one has the queue.
async fn freeze(fleet: &Fleet) -> Result<()> {
    let (zombie, old) = fleet.owner().await;
    fleet.dispatchers[zombie].stop();
    let (heir, new) = wait_for("a takeover", PATIENCE, async || {
        let (owner, epoch) = fleet.owner().await;
        (epoch > old).then_some((owner, epoch))
    })
    .await;
    fleet.dispatchers[zombie].cont();
    ensure!(heir != zombie, "the frozen dispatcher {zombie} took its queue over, epoch {new}");
    Ok(())
}

/// The test itself takes the queue over, while a flush of the owner waits behind the fence.
async fn hold_flush(fleet: &Fleet) {
    wait_for("a flush held up until the takeover", PATIENCE, async || {
        let held = try_to_hold(fleet).await;
        fleet.dispatchers.iter().for_each(Service::cont);
        held.ok().flatten()
    })
    .await;
}

/// `None` if no flush came before the owner's term was over: somebody else takes over then. Leaves both dispatchers
/// frozen, so that the one does not give its flush up and the other does not end who has the fence.
async fn try_to_hold(fleet: &Fleet) -> Result<Option<()>, DbError> {
    let mut session = fleet.jobs.session("tidemill-test");
    let mut fence = session.begin("hold a flush").await?;
    fence.query("take the fence", "select pg_advisory_xact_lock(7465002, 1)", &[]).await?;
    let epoch: i64 = fence.query_one("find the epoch", "select epoch from tidemill.owner", &[]).await?.get(0);
    let mut other = fleet.jobs.session("tidemill-test");
    let look = "select o.until > clock_timestamp(), exists (
                    select from pg_locks l join pg_stat_activity a using (pid)
                     where l.locktype = 'advisory' and l.classid = 7465002 and l.objid = 1 and not l.granted
                       and a.query ~ 'journal_write')
                  from tidemill.owner o";
    let waits = wait_for("a flush behind the fence, or the end of the term", PATIENCE, async || {
        let row = retried(&mut other, async |s| s.query_one("look for a flush", look, &[]).await).await?;
        let (holds, waits): (bool, bool) = (row.get(0), row.get(1));
        (waits || !holds).then_some(waits)
    })
    .await;
    if !waits {
        return Ok(None);
    }
    fleet.dispatchers.iter().for_each(Service::stop);
    let take = format!("select tidemill.owner_take(1, {epoch}, gen_random_uuid(), 'the test', 1)");
    let taken = wait_for("the end of the owner's term", PATIENCE, async || {
        let taken = fence.query_one("take the queue over", &take, &[]).await;
        taken.map(|row| row.get::<_, Option<i64>>(0)).transpose()
    })
    .await;
    taken?;
    fence.commit().await.map(Some)
}

/// Holds them up in the server, so that they do not see the time pass before they go on.
async fn freeze_ledgers(fleet: &Fleet) -> Result<()> {
    let mut session = fleet.jobs.session("tidemill-test");
    let mut hold = session.begin("hold the ledger").await?;
    hold.execute("lock the ledger", "lock table public.ledger in share mode", &[]).await?;
    let mut other = fleet.jobs.session("tidemill-test");
    let waits = "select 1 from pg_stat_activity
                  where application_name = 'chaos-ledger' and wait_event_type = 'Lock' limit 1";
    wait_for("a transaction that waits", PATIENCE, async || {
        retried(&mut other, async |s| s.query_opt("look for one", waits, &[]).await).await?.map(drop)
    })
    .await;
    let ledgers: Vec<&Service> = fleet
        .workers
        .iter()
        .zip(PROGRAMS)
        .filter_map(|(worker, program)| (program == "chaos-ledger").then_some(worker))
        .collect();
    ledgers.iter().for_each(|worker| worker.stop());
    let pids: Vec<String> = ledgers.iter().map(|worker| worker.pid().to_string()).collect();
    let held = format!(
        "select 1 from tidemill.waiting where kind = 'leased' and holder ->> 'pid' in ('{}') limit 1",
        pids.join("', '")
    );
    wait_for("the end of their leases", PATIENCE, async || {
        let lease = retried(&mut other, async |s| s.query_opt("look for leases", &held, &[]).await).await?;
        lease.is_none().then_some(())
    })
    .await;
    hold.commit().await?;
    ledgers.iter().for_each(|worker| worker.cont());
    Ok(())
}

/// Starts the dispatcher that does not own the queue with the failpoint, and makes it the owner.
async fn fail(fleet: &mut Fleet, point: &str) -> Result<()> {
    let (owner, _) = fleet.owner().await;
    let next = 1 - owner;
    Fault::again(fleet, next, point).await?;
    fleet.dispatchers[next].wait_for_message("ready", PATIENCE).await?;
    kill(&mut fleet.dispatchers[owner]).await;
    let service = &mut fleet.dispatchers[next];
    wait_for(&format!("the dispatcher to pass {point}"), PATIENCE, async || {
        (!service.is_running() || was_lost(service)).then_some(())
    })
    .await;
    fleet.dispatchers[owner] = fleet.dispatcher(owner, "")?;
    if !fleet.dispatchers[next].is_running() {
        fleet.dispatchers[next] = fleet.dispatcher(next, "")?;
    }
    Ok(())
}

/// It doubted what it had done.
fn was_lost(service: &Service) -> bool {
    let said = |event: &serde_json::Value| {
        event["message"] == "queue lost" || event["message"] == "take-over failed"
    };
    service.events().iter().any(said)
}
