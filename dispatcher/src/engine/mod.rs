//! The engine of one job queue: a pure state machine. No I/O, no clock, no chance: log entries, requests, committed
//! flushes and the time go in; flushes and answers come out.
//!
//! What is decided is not said until it is committed: every request that changes something becomes a *unit* of
//! records and effects; units gather while a flush is under way and form the next one; the effects take place and
//! the answers leave when that flush is committed.

mod answer;
mod backoff;
mod cancel;
mod cancels;
mod commit;
mod ends;
mod entry;
mod finish;
mod finished;
mod flush;
mod grab;
mod heartbeat;
mod holders;
mod lend;
mod limits;
mod list;
mod origin;
mod pause;
mod polls;
mod progress;
pub mod record;
mod recover;
mod refuse;
mod relief;
mod repeats;
mod search;
mod tally;
#[cfg(test)]
mod tests;
mod time;
mod window;

use std::collections::VecDeque;
use std::sync::Arc;

use rand::rngs::SmallRng;
use tidemill_common::api;

pub use answer::{Answered, Decided, Extended, Granted, RequestId};
pub use backoff::Backoff;
pub use cancel::Target;
pub use cancels::{NoSnapshot, Snapshot};
pub use commit::ColdAnswers;
pub use entry::{Entry, Event, LogRow, previous};
pub use finished::{Children, Note};
pub use flush::Flush;
pub use grab::Grab;
pub use heartbeat::Beat;
pub use limits::LentLease;
pub use list::{Listed, Listing};
pub use origin::{Moved, Origin, Place};
pub use pause::Paused;
pub use recover::Fold;
pub use search::Filter;
pub use tally::Tally;
pub use time::Micros;

use cancels::Cancels;
use commit::Group;
use ends::Ends;
use finished::FinishedLeases;
use flush::Unit;
use origin::Origins;
use polls::Polls;
use progress::Progress;
use recover::Last;
use relief::Relief;
use repeats::{Early, Repeats};
use window::{Slot, State, Window};

/// By ids that are given out here and in the database, never chosen by a client: their hash may be guessed.
type Map<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

/// What an administrator set for the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueSettings {
    pub lease_ms: u64,
    pub max_attempts: i32,
    pub backoff: Backoff,
}

/// How much the engine may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub window_jobs: usize,
    pub window_bytes: usize,
    /// Finished leases remembered for `already`.
    pub finished: usize,
    /// Units in one flush.
    pub flush_units: usize,
    /// A lease may hold the low-water mark so long before it moves to the waiting room.
    pub hold_ms: u64,
    /// A type is wanted if somebody asked for it within this time; others are parked when they are in the way.
    pub ask_ms: u64,
}

/// One job queue, as its owner sees it.
#[derive(Debug)]
pub struct Engine {
    queue_id: i32,
    sub_id: i32,
    epoch: i64,
    settings: QueueSettings,
    limits: Limits,
    rng: SmallRng,
    now: Micros,
    window: Window,
    fold: Fold,
    next_lease: i64,
    next_seq: i64,
    /// When leases end, soonest first; an entry that was extended or finished since is skipped.
    ends: Ends,
    polls: Polls,
    repeats: Repeats,
    early: Vec<Early>,
    relief: Relief,
    pending: VecDeque<Unit>,
    in_flight: Option<Group>,
    /// Units at the front of `pending` that came from a flush the database refused: tried apart from the others.
    suspects: usize,
    finished: FinishedLeases,
    progress: Progress,
    cancels: Cancels,
    tally: Tally,
    origins: Origins,
    answers: Vec<(RequestId, Answered)>,
}

/// What the engine holds, for metrics and for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub ready: usize,
    pub leased: usize,
    /// Ready, and held back because they are paused.
    pub paused: usize,
    /// Ready, and held back by limits.
    pub limited: usize,
    /// Parked in the waiting room, until somebody asks for their types.
    pub parked: u64,
    pub oldest_ready: Option<Micros>,
    /// The tick up to which the log has been read.
    pub read_to: i64,
}

/// A job as the window has it.
#[derive(Debug, Clone)]
pub struct Sighting {
    pub entry: Entry,
    /// Its lease: the end, and who holds it.
    pub lease: Option<(Micros, Arc<record::Holder>)>,
    pub max_attempts: i32,
}

impl Engine {
    /// A new owner's engine: nothing read yet, the journal folded.
    #[must_use]
    pub fn new(
        (queue_id, sub_id): (i32, i32),
        epoch: i64,
        settings: QueueSettings,
        limits: Limits,
        low_water: i64,
        mut fold: Fold,
        rng: SmallRng,
    ) -> Self {
        let mut engine = Self {
            queue_id,
            sub_id,
            epoch,
            settings,
            limits,
            rng,
            now: Micros(0),
            window: Window::new(low_water),
            fold: Fold::default(),
            next_lease: 1,
            next_seq: 1,
            ends: Ends::default(),
            polls: Polls::default(),
            repeats: std::mem::take(&mut fold.repeats).of_queue(queue_id),
            early: Vec::new(),
            relief: Relief::new(std::mem::take(&mut fold.parked)),
            pending: VecDeque::new(),
            in_flight: None,
            suspects: 0,
            finished: FinishedLeases::new(limits.finished, epoch),
            progress: Progress::default(),
            cancels: std::mem::take(&mut fold.cancels),
            tally: Tally::default(),
            origins: Origins::default(),
            answers: Vec::new(),
        };
        for (lease, how, children) in fold.finished.drain(..) {
            match children {
                Some(children) => engine.finished.remember_children(lease, children),
                None => engine.finished.remember(lease, how),
            }
        }
        for (key, count) in fold.parked_keys.drain(..) {
            engine.window.park_key(&key, count);
        }
        engine.fold = fold;
        engine
    }

    /// An administrator changed the queue.
    pub fn set(&mut self, settings: QueueSettings) {
        self.settings = settings;
    }

    /// The window may hold so many entries from now on, and so many bytes of them. What it holds already stays.
    pub fn set_window(&mut self, (jobs, bytes): (usize, usize)) {
        (self.limits.window_jobs, self.limits.window_bytes) = (jobs, bytes);
    }

    /// How many entries the window may hold, and how many bytes of them.
    #[must_use]
    pub fn window_limits(&self) -> (usize, usize) {
        (self.limits.window_jobs, self.limits.window_bytes)
    }

    /// How many more entries, and bytes of them, the window takes.
    #[must_use]
    pub fn room(&self) -> (usize, usize) {
        let rows = self.limits.window_jobs.saturating_sub(self.window.len());
        (rows, self.limits.window_bytes.saturating_sub(self.window.bytes()))
    }

    /// Takes rows read between the ticks after the last complete range and `to_tick`; `complete` if these were the
    /// last ones. The same range may come in several parts.
    pub fn load(&mut self, to_tick: i64, rows: Vec<LogRow>, complete: bool) {
        self.window.open_range(to_tick);
        let mut hits = Vec::new();
        for row in rows {
            let txid = row.txid;
            if let Some(entry) = Entry::read(row, self.sub_id) {
                let hit = self.cancels.hit(&entry, txid);
                let slot = self.load_entry(entry, hit);
                hits.extend(slot.zip(hit));
            }
        }
        self.end_hits(&hits);
        self.end_leases();
        if complete {
            self.window.close_range();
        }
        self.serve_early();
        self.serve_polls();
    }

    /// Its place, if it was hit by a cancellation with this code and nobody works on it: then it is to end.
    fn load_entry(&mut self, mut entry: Entry, hit: Option<i32>) -> Option<Slot> {
        let key = entry.key;
        self.relief.arrived(&entry);
        let state = match self.fold.take(key) {
            None => State::Ready,
            Some(folded) => match folded.last {
                Last::Resolved => return None,
                Last::Released(previous) => {
                    entry.attempt = folded.attempt;
                    entry.previous = previous;
                    State::Ready
                }
                Last::Leased(mut held) => {
                    held.until = entry.end_within(held.since, held.until);
                    entry.attempt = folded.attempt;
                    entry.previous = folded.previous.or(entry.previous);
                    State::Leased(held, 0)
                }
            },
        };
        match state {
            // A lease that ended while nobody owned the queue ends like any other.
            State::Leased(held, extending) => {
                if let Some(code) = hit {
                    self.cancels.tell(key.job, code);
                }
                let end = (held.until, held.lease.number);
                if let Some(slot) = self.window.insert(entry, State::Leased(held, extending), self.now) {
                    self.ends.push(end.0, slot, end.1, &self.window);
                    self.window.read_lease();
                }
                None
            }
            _ if hit.is_some() => self.window.insert(entry, State::Finishing(None), self.now),
            state => {
                let exhausted = entry.attempt >= self.max_attempts(&entry);
                let state = if exhausted { State::Finishing(None) } else { state };
                if let Some(slot) = self.window.insert(entry, state, self.now)
                    && exhausted
                {
                    self.exhaust(slot, None);
                }
                None
            }
        }
    }

    /// The log has been read up to where it was when the journal was folded.
    pub fn recovered(&mut self) {
        self.fold.clear();
        if self.window.read_all() {
            self.serve_polls();
        }
        self.serve_early();
    }

    /// Lets time pass: leases end, polls run out.
    pub fn advance(&mut self, now: Micros) {
        self.now = self.now.max(now);
        self.window.open_due(self.now);
        self.end_leases();
        self.serve_early();
        self.serve_polls();
        self.expire_polls();
        self.relieve();
        self.prune_cancels();
    }

    /// When to call [`Engine::advance`] next, if nothing else happens before.
    #[must_use]
    pub fn deadline(&self) -> Option<Micros> {
        let end = self.ends.first();
        let search = (self.polls.has_unfinished() && self.window.admits()).then_some(self.now);
        let relief = if self.window.len() == 0 { None } else { self.relief.look_at() };
        let call = if self.polls.is_empty() { None } else { self.relief.call_at(self.now) };
        let early = self.early.iter().map(|early| early.until).min();
        let prune = self.cancels.look_at(self.window.low_water());
        let opening = if self.polls.is_empty() { None } else { self.window.next_opening() };
        let all = [end, self.polls.deadline(), early, search, relief, call, opening, prune];
        all.into_iter().flatten().min()
    }

    fn max_attempts(&self, entry: &Entry) -> i32 {
        entry.max_attempts.unwrap_or(self.settings.max_attempts)
    }

    /// The highest tick below which everything is resolved and committed.
    #[must_use]
    pub fn low_water(&self) -> i64 {
        self.window.low_water()
    }

    /// What there is.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let ready = self.window.ready();
        Counts {
            ready,
            leased: self.window.len() - ready - self.window.held() - self.window.limited(),
            paused: self.window.held(),
            limited: self.window.limited(),
            parked: self.relief.parked() + self.window.parked_by_key(),
            oldest_ready: self.window.oldest_ready(),
            read_to: self.window.read_to(),
        }
    }

    /// What the window has of a job.
    #[must_use]
    pub fn find(&self, job: i64) -> Option<Sighting> {
        let (_, seat) = self.window.iter().find(|(_, seat)| seat.entry.key.job == job)?;
        let lease = seat.state.lease().map(|held| (held.until, Arc::clone(&held.holder)));
        Some(Sighting { entry: seat.entry.clone(), lease, max_attempts: self.max_attempts(&seat.entry) })
    }

    /// What this job said of itself last; of an unfinished one that told this owner.
    #[must_use]
    pub fn progress(&self, job: i64) -> Option<Arc<api::Progress>> {
        self.progress.of(job)
    }

    /// The answers that may leave now.
    pub fn take_answers(&mut self) -> Vec<(RequestId, Answered)> {
        std::mem::take(&mut self.answers)
    }

    /// Every request that still waits for an answer: what the owner of a queue it lost must tell them.
    pub fn abandon(self) -> Vec<RequestId> {
        let in_flight = self.in_flight.into_iter().flat_map(|g| g.units);
        let replies = in_flight.chain(self.pending).filter_map(|u| u.reply.map(|r| r.request));
        let early = self.early.iter().map(|early| early.request);
        let replies = replies.chain(early);
        let mut polls = self.polls;
        replies.chain(polls.take_all().into_iter().map(|poll| poll.request)).collect()
    }
}
