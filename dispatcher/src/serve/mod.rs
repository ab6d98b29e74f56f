//! The server of one job queue: waits until the queue is free, takes it over, folds log and journal, serves it until
//! it is lost or the process stops, and begins again. In any doubt it takes the queue over anew: the epoch rises, and
//! whatever an old connection may still do is fenced out.

mod clock;
mod owned;
mod rates;
mod reader;
mod trust;

use std::collections::HashMap;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use tidemill_common::db::{DbError, Session};
use tidemill_common::id::{Epoch, TickId};
use tidemill_common::queue::dispatch::{self, Cancellation};
use tidemill_common::queue::work;
use tidemill_common::service::{Shutdown, Wake};
use tidemill_common::{error_chain, failpoint};
use tokio::sync::{mpsc, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::command::Command;
use crate::engine::{Backoff, Engine, Fold, Limits, NoSnapshot, Paused, QueueSettings, record};
use crate::metrics::Metrics;
use crate::routes::Seen;
use clock::DatabaseClock;
use owned::Owned;
use trust::Trust;

/// How long a read of the log may take: the first one of a transaction that made tens of millions of jobs takes minutes.
/// A database that hangs is noticed by the renewal of the term.
const READ: Duration = Duration::from_secs(900);
/// How long a leaving owner may take to write what is left.
const LEAVE: Duration = Duration::from_secs(5);
/// Commands taken in before the next look at the database work.
const BURST: usize = 256;
/// How often others may run before a flush begins.
const GATHER: usize = 8;

/// Who this process is to other dispatchers, and how much it may hold.
#[derive(Debug, Clone)]
pub struct Identity {
    pub instance: Uuid,
    /// Where others forward to.
    pub address: String,
    pub term_ms: i32,
    pub read_rows: i32,
    pub limits: Limits,
}

/// The connections of one queue: reading never holds up writing, nor either of them the term.
#[derive(Debug)]
pub struct Sessions {
    pub write: Option<Session>,
    pub read: Option<Session>,
    pub control: Option<Session>,
}

/// Everything the server of one queue works with.
pub struct QueueServer {
    pub identity: Identity,
    pub seen: watch::Receiver<Seen>,
    pub owned: watch::Sender<bool>,
    pub commands: mpsc::Receiver<Command>,
    /// Somebody heard of a tick.
    pub ticked: Wake,
    /// Makes a connection; called three times per ownership.
    pub connect: Box<dyn Fn() -> Session + Send + Sync>,
    pub metrics: Metrics,
    /// The process stops, or the queue is gone.
    pub stop: Shutdown,
}

/// Why an owner is none any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    #[error("the term ended before it could be renewed")]
    TermEnded,
    #[error("another owner took over")]
    Fenced(#[source] DbError),
    #[error("{what} failed; its outcome may be unknown")]
    Doubt {
        what: &'static str,
        #[source]
        source: DbError,
    },
    #[error("a stream's commit has no known end")]
    Stream,
    #[error("the database's answers are not what this program knows")]
    Answers(#[source] serde_json::Error),
    #[error("the journal holds what this program does not know")]
    Journal(#[source] record::DecodeError),
    #[error("a cancellation holds what this program does not know")]
    Snapshot(#[source] NoSnapshot),
}

impl Lost {
    fn from(error: DbError, what: &'static str) -> Self {
        if error.code().is_some_and(|code| code.code() == "TM001") {
            Self::Fenced(error)
        } else {
            Self::Doubt { what, source: error }
        }
    }
}

impl QueueServer {
    /// Serves until the process stops.
    pub async fn run(mut self) {
        let mut mine: Option<Epoch> = None;
        let mut failures = 0u32;
        while !self.stop.is_wanted() {
            let taken = match self.wait_until_free(mine).await {
                Some((seen, epoch)) => self.take(&seen, epoch).await,
                None => continue,
            };
            match taken {
                Ok(Some(owned)) => {
                    (mine, failures) = (Some(owned.epoch), 0);
                    self.serve(owned).await;
                }
                // Somebody else was faster: discovery will tell who.
                Ok(None) => mine = None,
                Err(lost) => {
                    tracing::warn!(queue.name = %self.name(), error = %error_chain(&lost), "take-over failed");
                    failures += 1;
                }
            }
            self.rest(failures).await;
        }
        self.refuse_waiting();
    }

    /// How many jobs the window of the queue may hold, and how many bytes of them: its own setting, or this process's.
    fn window(&self, seen: &Seen) -> (usize, usize) {
        let Limits { window_jobs, window_bytes, .. } = self.identity.limits;
        let jobs = seen.queue.window_jobs.and_then(|jobs| jobs.try_into().ok());
        let bytes = seen.queue.window_bytes.and_then(|bytes| bytes.try_into().ok());
        (jobs.unwrap_or(window_jobs), bytes.unwrap_or(window_bytes))
    }

    fn name(&self) -> String {
        self.seen.borrow().queue.name.clone()
    }

    /// Waits until the term seen has ended, refusing what comes in meanwhile. What this process held until now, and
    /// nobody took since, is free to itself.
    async fn wait_until_free(&mut self, mine: Option<Epoch>) -> Option<(Seen, Epoch)> {
        let seen = self.seen.borrow_and_update().clone();
        if mine.is_some() || seen.free_at() <= Instant::now() {
            let epoch = mine.unwrap_or(seen.queue.owner.epoch);
            return Some((seen, epoch));
        }
        tokio::select! {
            () = self.stop.wanted() => {}
            changed = self.seen.changed() => if changed.is_err() { self.stop.begin(); },
            () = sleep_until(seen.free_at()) => {}
            // Dropped, and so answered: this process does not own the queue.
            _ = self.commands.recv() => {}
        }
        None
    }

    /// A short rest between two attempts, longer after failures; requests are refused meanwhile.
    async fn rest(&mut self, failures: u32) {
        let wait = Duration::from_millis(20 << failures.min(6));
        let until = Instant::now() + wait;
        loop {
            tokio::select! {
                () = self.stop.wanted() => return,
                () = sleep_until(until) => return,
                command = self.commands.recv() => if command.is_none() { return },
            }
        }
    }

    fn refuse_waiting(&mut self) {
        self.commands.close();
        while self.commands.try_recv().is_ok() {}
    }

    /// Takes the queue over and folds its journal; `None` if somebody else was faster.
    async fn take(&self, seen: &Seen, epoch: Epoch) -> Result<Option<Owned>, Lost> {
        let doubt = |source| Lost::Doubt { what: "take-over", source };
        let (queue, identity) = (&seen.queue, &self.identity);
        let (mut control, mut read, mut write) = ((self.connect)(), (self.connect)(), (self.connect)());
        read.allow(dispatch::READ_AHEAD, READ);
        write.open("connect").await.map_err(doubt)?;
        failpoint!("dispatcher.before_take");
        let asked = Instant::now();
        let (id, address) = (queue.queue_id, identity.address.as_str());
        let holder = (identity.instance, address);
        let taken = match dispatch::take(&mut control, id, epoch, holder, identity.term_ms).await {
            Err(error) if error.code().is_some_and(|code| code.code() == "55P03") => {
                // The old owner's flush hangs on the fence: end it, and come back.
                dispatch::evict(&mut control, id).await.map_err(doubt)?;
                return Ok(None);
            }
            taken => taken.map_err(doubt)?,
        };
        let Some(epoch) = taken else { return Ok(None) };
        failpoint!("dispatcher.after_take", |_| Err(doubt(DbError::unheard(
            "take over",
            &control.database()
        ))));

        let trust = Trust::new(Duration::from_millis(u64::try_from(identity.term_ms).unwrap_or(0)), asked);
        let clock = DatabaseClock::new(work::clock(&mut read).await.map_err(doubt)?.into());
        // A new statement, hence a new snapshot: it sees whatever the fence waited for.
        let (low_water, rows) = dispatch::journal(&mut read, id).await.map_err(doubt)?;
        let mut fold = Fold::default();
        let folded = rows.len();
        for row in rows {
            let records = record::decode(&row.data).map_err(Lost::Journal)?;
            let note = row.note.map(serde_json::from_value).transpose().map_err(Lost::Answers)?;
            fold.apply(row.epoch.0, row.at.into(), records, note.unwrap_or_default());
        }
        for parked in dispatch::parked_types(&mut read, id).await.map_err(doubt)? {
            match parked.key {
                Some(key) => fold.parked_key(key, parked.count.unsigned_abs()),
                None => fold.parked(parked.kind, parked.count.unsigned_abs()),
            }
        }
        for cancellation in dispatch::cancellations(&mut read, id).await.map_err(doubt)? {
            match cancellation {
                Cancellation::Key { key, code, snapshot } => {
                    fold.cancel_key(key, code, snapshot.parse().map_err(Lost::Snapshot)?);
                }
                Cancellation::Job { job, code } => fold.cancel_job(job, code),
            }
        }
        let (window_jobs, window_bytes) = self.window(seen);
        let mut engine = Engine::new(
            (id, queue.sub_id),
            epoch.0,
            settings(seen),
            Limits { window_jobs, window_bytes, ..identity.limits },
            low_water.0,
            fold,
            SmallRng::from_os_rng(),
        );
        // Not what was seen of the queue: that may have been before the last order.
        let paused = dispatch::paused(&mut read, id).await.map_err(doubt)?;
        engine.pause(pause(&paused.unwrap_or_default()));
        engine.advance(clock.now());
        engine.set_limits(&queue.limits);
        if engine.wants_lent() {
            engine.count_lent(owned::lent(&mut read, id).await.map_err(doubt)?);
        }
        tracing::info!(
            queue.name = %queue.name, epoch = epoch.0, low_water = low_water.0, journal_rows = folded, "queue taken over"
        );
        let sessions = Sessions { write: Some(write), read: Some(read), control: Some(control) };
        Ok(Some(Owned::new(
            (id, queue.sub_id),
            epoch,
            engine,
            clock,
            trust,
            (identity.term_ms, identity.read_rows),
            low_water,
            sessions,
            self.metrics.clone(),
        )))
    }

    /// Serves the queue while it is ours.
    async fn serve(&mut self, mut owned: Owned) {
        self.owned.send_replace(true);
        let lost = self.serve_until_lost(&mut owned).await;
        self.owned.send_replace(false);
        self.metrics.lost();
        if let Err(lost) = &lost {
            tracing::warn!(queue.name = %self.name(), epoch = owned.epoch.0, error = %error_chain(lost), "queue lost");
        }
        // Dropping the replies answers every request that waits: unavailable.
        let low_water = TickId(owned.engine.low_water());
        let Owned { queue_id, epoch, mut sessions, replies, .. } = owned;
        drop::<HashMap<_, _>>(replies);
        if lost.is_ok()
            && let Some(mut session) = sessions.control.take().or_else(|| sessions.read.take())
            && let Err(error) = self.hand_over(&mut session, queue_id, epoch, low_water).await
        {
            tracing::warn!(queue.name = %self.name(), error = %error_chain(&error), "release failed: the term runs out by itself");
        }
    }

    /// Leaves the mark as far as it got, so that the successor reads no more than it must, and ends the term.
    async fn hand_over(
        &self,
        session: &mut Session,
        queue_id: i32,
        epoch: Epoch,
        low_water: TickId,
    ) -> Result<(), DbError> {
        dispatch::renew(session, queue_id, epoch, self.identity.term_ms, low_water).await?;
        dispatch::release(session, queue_id, epoch).await
    }

    /// Before a flush begins: answers leave, and those tasks run that are ready to. On an idle machine that is no time;
    /// on a busy one it is what would have run meanwhile, and its requests share one commit instead of having several.
    async fn gather(&mut self, owned: &mut Owned) {
        for _ in 0..GATHER {
            if !owned.is_about_to_flush() {
                return;
            }
            owned.deliver();
            yield_now().await;
            if self.take_waiting(owned) == 0 {
                return;
            }
        }
    }

    /// Takes in requests that are there; how many.
    fn take_waiting(&mut self, owned: &mut Owned) -> usize {
        let waiting = (0..BURST).map_while(|_| self.commands.try_recv().ok());
        waiting.map(|command| owned.take(command)).count()
    }

    /// `Ok` when the process stops and everything is written.
    async fn serve_until_lost(&mut self, owned: &mut Owned) -> Result<(), Lost> {
        let mut leave_by: Option<Instant> = None;
        loop {
            if self.stop.is_wanted() && leave_by.is_none() {
                leave_by = Some(Instant::now() + LEAVE);
                owned.leave();
            }
            if let Some(by) = leave_by
                && (owned.has_left() || by <= Instant::now())
            {
                return Ok(());
            }
            self.gather(owned).await;
            tokio::select! {
                biased;
                happened = owned.happen() => happened?,
                command = self.commands.recv() => match command {
                    Some(command) => {
                        owned.take(command);
                        self.take_waiting(owned);
                    }
                    None => self.stop.begin(),
                },
                () = self.ticked.woken() => owned.look(),
                changed = self.seen.changed() => match changed {
                    Ok(()) => {
                        let seen = self.seen.borrow_and_update().clone();
                        owned.set(settings(&seen), self.window(&seen), pause(&seen.queue.paused), &seen.queue.limits);
                    }
                    Err(_) => self.stop.begin(),
                },
                () = self.stop.wanted(), if leave_by.is_none() => {}
            }
        }
    }
}

/// As the engine takes it.
pub(crate) fn pause(paused: &dispatch::Paused) -> Paused {
    let dispatch::Paused { no, queue, types, keys } = paused.clone();
    Paused { number: no, queue, types: types.into_iter().collect(), keys: keys.into_iter().collect() }
}

fn settings(seen: &Seen) -> QueueSettings {
    let positive = |ms: i32| u64::try_from(ms).unwrap_or(0);
    QueueSettings {
        lease_ms: positive(seen.queue.lease_ms),
        max_attempts: seen.queue.max_attempts,
        backoff: match seen.queue.backoff.as_str() {
            "mail" => Backoff::Mail,
            _ => Backoff::Exponential {
                base_ms: positive(seen.queue.backoff_base_ms),
                cap_ms: positive(seen.queue.backoff_cap_ms),
            },
        },
    }
}
