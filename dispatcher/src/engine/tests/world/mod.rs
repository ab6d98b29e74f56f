//! The world around the engine: a model of the database, some dispatchers, some workers, and the truth that all of them
//! must keep to. Every method is one thing that may happen; `simulation` decides when.

mod audit;
mod broken;
mod cancel;
mod database;
mod limits;
mod order;
mod owner;
mod truth;
mod waiting;
mod work;

use std::collections::{BTreeMap, HashMap};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tidemill_common::lease::Lease;
use uuid::Uuid;

pub(super) use broken::Broken;
use database::{Database, Refusal, Write};
use owner::Owner;
pub(super) use truth::{Checked, Violation};
use truth::{Place, Truth, require};

use crate::engine::{
    Backoff, ColdAnswers, Engine, Event, Limits, LogRow, Micros, Paused, QueueSettings, RequestId,
};

pub(super) const PROCESSES: usize = 3;
const TERM_MS: u64 = 200;
const IDS: (i32, i32) = (7, database::SUB);

/// A flush that executed, whose client is gone: it commits or not, later. It holds the fence.
struct Limbo {
    write: Write,
    at: Micros,
    xid: i64,
}

/// A worker's own transaction that completed jobs and is not committed.
struct Work {
    xid: i64,
    leases: Vec<Lease>,
}

/// A client streams the jobs that are to exist instead of a leased one, to the owner of this epoch.
struct Stream {
    epoch: i64,
    lease: Lease,
    count: usize,
}

pub(super) struct World {
    pub(super) rng: SmallRng,
    broken: Option<Broken>,
    settings: QueueSettings,
    limits: Limits,
    db: Database,
    truth: Truth,
    owners: Vec<Owner>,
    limbo: Vec<Limbo>,
    works: Vec<Work>,
    streams: Vec<Stream>,
    /// Promotions that are not committed, and their jobs.
    promotions: Vec<(i64, Vec<i64>)>,
    /// Leases that workers know, oldest first.
    leases: Vec<Lease>,
    /// What each numbered grab got, and the owner's epoch.
    told: HashMap<(Uuid, u64), (i64, Vec<Lease>)>,
    /// Number of the last grab of each worker.
    numbers: [u64; work::WORKERS],
    next_request: u64,
    /// How often what happened.
    pub(super) seen: Seen,
    paused: Paused,
    /// Do jobs have priorities here?
    is_ranked: bool,
    /// Jobs have keys, and there are limits now and then.
    pub(super) is_limited: bool,
    priorities: HashMap<i64, i64>,
    trace: Option<Vec<String>>,
}

/// How often what happened: a simulation in which nothing happens proves nothing.
pub(super) type Seen = BTreeMap<&'static str, u64>;

/// How a flush that was sent ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    Answered,
    /// Committed, and the owner does not hear of it.
    CommittedUnheard,
    /// Not committed, and the owner does not hear of it.
    LostUnheard,
    /// Nobody knows yet: the old connection's backend still works on it.
    InLimbo,
}

impl World {
    pub(super) fn new(seed: u64, broken: Option<Broken>, traced: bool) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let max_attempts = rng.random_range(1..=6);
        let settings = QueueSettings {
            lease_ms: 400,
            max_attempts,
            backoff: Backoff::Exponential { base_ms: 50, cap_ms: 400 },
        };
        let limits = Limits {
            window_jobs: rng.random_range(2..=12),
            window_bytes: 1 << 20,
            finished: if rng.random_bool(0.2) { 3 } else { 1_000 },
            flush_units: if rng.random_bool(0.3) { 2 } else { 1_000 },
            hold_ms: 300,
            ask_ms: 100,
        };
        Self {
            rng,
            broken,
            settings,
            limits,
            db: Database::new(max_attempts, broken),
            truth: Truth::default(),
            owners: Vec::new(),
            limbo: Vec::new(),
            works: Vec::new(),
            streams: Vec::new(),
            promotions: Vec::new(),
            leases: Vec::new(),
            told: HashMap::new(),
            numbers: [0; work::WORKERS],
            next_request: 1,
            seen: Seen::new(),
            paused: Paused::default(),
            is_ranked: seed % 3 == 2,
            is_limited: seed % 5 < 3,
            priorities: HashMap::new(),
            trace: traced.then(Vec::new),
        }
    }

    /// A few jobs to begin with.
    pub(super) fn begin(&mut self) {
        for _ in 0..self.rng.random_range(1..=6) {
            self.produce(None);
        }
        self.tick();
        if self.is_limited && self.rng.random_bool(0.5) {
            self.first_limits();
        }
    }

    pub(super) fn trace(self) -> Vec<String> {
        self.trace.unwrap_or_default()
    }

    fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>7} ms  {}", (self.db.now.0 - 1_000_000_000) / 1_000, what()));
        }
    }

    fn request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    /// Any of the processes that believe to own the queue.
    pub(super) fn any_owner(&mut self) -> Option<usize> {
        (!self.owners.is_empty()).then(|| self.rng.random_range(0..self.owners.len()))
    }

    /// The one that took the queue over last.
    pub(super) fn last_owner(&self) -> Option<usize> {
        self.owners.len().checked_sub(1)
    }

    /// An administrator pauses a type or the queue, or takes it back: every owner hears of it, and those that come.
    pub(super) fn pause(&mut self, wanted: Option<&'static str>) -> Checked {
        self.paused.number += 1;
        self.paused.queue = wanted == Some("queue");
        self.paused.types = wanted.iter().map(|&kind| kind.to_owned()).collect();
        self.saw("something paused");
        self.note(|| format!("paused: {wanted:?}"));
        for owner in &mut self.owners {
            owner.engine.pause(self.paused.clone());
        }
        (0..self.owners.len()).try_for_each(|index| self.deliver(index))
    }

    pub(super) fn pass(&mut self, ms: u64) {
        self.db.now = self.db.now.plus_ms(ms);
    }

    pub(super) fn produce(&mut self, delay_ms: Option<u64>) {
        let own = self.rng.random_bool(0.2).then(|| self.rng.random_range(1..=5));
        let kind = ["a", "b"][self.rng.random_range(0..2)];
        let job = self.db.next_job;
        self.db.next_job += 1;
        let mut event =
            Event { kind: Some(kind.to_owned()), data: Some(job.to_string()), ..Event::default() };
        let cancel_key = self.rng.random_bool(0.3).then(|| self.rng.random_range(1..=3));
        let cancel = cancel_key.map_or(String::new(), |key: i64| format!(r#","cancel_key":"{key}""#));
        let unique = if job % 4 == 1 { r#","unique":{"key":"u"}"# } else { "" };
        let timeout_ms = (job % 5 == 2).then_some(20 + job.unsigned_abs() * 97 % 780);
        let timeout = match (timeout_ms, job % 5) {
            (Some(ms), _) => format!(r#","timeout_ms":{ms}"#),
            (None, 3) => r#","timeout_ms":"soon""#.to_owned(),
            (None, _) => String::new(),
        };
        let group = (self.is_limited && job % 7 < 5).then_some(["x", "y"][usize::from(job % 2 == 0)]);
        let key = group.map_or(String::new(), |key| format!(r#","key":"{key}""#));
        let more = format!("{cancel}{unique}{timeout}{key}");
        event.extra[0] = match (own, job % 3) {
            (Some(own), key) => Some(format!(r#"{{"max_attempts":{own},"coalesce_key":"k{key}"{more}}}"#)),
            (None, 0) if more.is_empty() => None,
            (None, key) => Some(format!(r#"{{"coalesce_key":"k{key}"{more}}}"#)),
        };
        if !unique.is_empty() {
            self.db.keys.insert(job, true);
        }
        if self.is_ranked
            && let Some(options) = &mut event.extra[0]
        {
            let (priority, with) = order::with_priority(job, options);
            self.priorities.insert(job, priority);
            *options = with;
        }
        let row = LogRow { job, inserted_at: self.db.now, txid: 0, owner: None, retry: None, event };
        let max_attempts = own.unwrap_or(self.settings.max_attempts);
        self.saw("job produced");
        self.note(|| format!("job {job} is produced, {delay_ms:?} ms ahead, {max_attempts} attempts"));
        match delay_ms {
            None => {
                self.truth.produced(job, Place::Log(0), max_attempts);
                self.db.insert(row);
            }
            Some(ms) => {
                self.truth.produced(job, Place::Waiting(0), max_attempts);
                self.db.delay(row, self.db.now.plus_ms(ms));
            }
        }
        self.truth.keyed(job, cancel_key);
        self.truth.of_kind(job, kind, group);
        self.truth.timed(job, timeout_ms);
    }

    pub(super) fn tick(&mut self) {
        self.db.tick();
        let tick = self.db.last_tick();
        self.note(|| format!("tick {tick}"));
    }

    /// How many jobs went from the waiting room to the log.
    pub(super) fn promote(&mut self, limit: usize) -> Checked<usize> {
        let count = self.db.promote(limit, &mut self.truth)?;
        if count > 0 {
            self.saw("jobs promoted");
        }
        self.note(|| format!("{count} jobs are promoted"));
        Ok(count)
    }

    /// The ticker has taken rows to put them into the log, and takes its time.
    pub(super) fn begin_promotion(&mut self) {
        let limit = self.rng.random_range(1..4);
        if let Some((xid, jobs)) = self.db.begin_promote(limit) {
            self.note(|| format!("the promotion of {jobs:?} begins"));
            self.promotions.push((xid, jobs));
        }
    }

    pub(super) fn end_promotion(&mut self, commit: bool) -> Checked {
        if self.promotions.is_empty() {
            return Ok(());
        }
        let (xid, jobs) = self.promotions.remove(0);
        self.note(|| format!("the promotion of {jobs:?} commits: {commit}"));
        if commit {
            self.saw("slow promotion");
        }
        self.db.end_promote(xid, &jobs, commit, &mut self.truth)
    }

    pub(super) fn rotate(&mut self) -> Checked {
        // Rotation takes the fence too.
        if self.limbo.is_empty() {
            if self.db.rotate()? {
                self.saw("tables rotated");
            }
            self.note(|| "rotation".to_owned());
        }
        Ok(())
    }

    /// This process takes the queue over, if its term is free and no old flush holds the fence.
    pub(super) fn take_over(&mut self, process: usize) -> Checked {
        if !self.limbo.is_empty() && self.broken != Some(Broken::TakeoverDoesNotWait) {
            return Ok(());
        }
        // An owner without doubts does not take over what it has.
        let serves = self.owners.iter().any(|owner| owner.process == process && owner.epoch == self.db.epoch);
        if serves && self.rng.random_bool(0.9) {
            return Ok(());
        }
        let Some(epoch) = self.db.take(process, TERM_MS) else { return Ok(()) };
        self.saw("queue taken over");
        self.owners.retain(|owner| owner.process != process);
        let rng = SmallRng::seed_from_u64(self.rng.random());
        let (fold, low_water) = (self.db.fold()?, self.db.low_water);
        let mut engine = Engine::new(IDS, epoch, self.settings, self.limits, low_water, fold, rng);
        engine.pause(self.paused.clone());
        engine.advance(self.db.now);
        self.tell_limits(epoch, &mut engine);
        let lag = if self.rng.random_bool(0.5) { 0 } else { self.rng.random_range(0..100) };
        self.owners.push(Owner::new(process, epoch, engine, low_water, lag));
        self.note(|| format!("process {process} takes over, epoch {epoch}, low-water {low_water}"));
        Ok(())
    }

    /// Reads on; false if there was nothing to read.
    pub(super) fn read(&mut self, index: usize, most: usize) -> Checked<bool> {
        let owner = &mut self.owners[index];
        let piece = owner.read(&self.db, most, &mut self.rng);
        let (epoch, read) = (owner.epoch, piece.is_some());
        if let Some(piece) = piece {
            // What its clock did is decided before there is more.
            self.check_order(index)?;
            self.owners[index].load(piece);
        }
        self.note(|| format!("epoch {epoch} reads: {read}"));
        self.deliver(index)?;
        Ok(read)
    }

    pub(super) fn look_at_clock(&mut self, index: usize) -> Checked {
        self.owners[index].look_at_clock(&self.db);
        self.deliver(index)
    }

    pub(super) fn start_flush(&mut self, index: usize) -> Checked<bool> {
        let owner = &mut self.owners[index];
        owner.start_flush();
        let started = owner.flush.is_some();
        self.deliver(index)?;
        // What was given back may have to be written.
        let owner = &self.owners[index];
        if !started && owner.engine.pending.is_empty() {
            let waiting = owner.engine.polls.len() + owner.engine.early.len();
            let (asked, polls) = (owner.asked.len(), waiting);
            require!(
                asked == polls,
                "nothing is under way, {polls} grabs wait, and {asked} requests are not answered"
            );
        }
        Ok(started)
    }

    /// The flush under way ends.
    pub(super) fn end_flush(&mut self, index: usize, sent: Sent) -> Checked {
        let Some(write) = self.owners[index].flush.clone() else { return Ok(()) };
        self.note(|| format!("flush {sent:?}: epoch {}, seq {}, {}", write.epoch, write.seq, show(&write)));
        let resent = self.broken == Some(Broken::UnknownFlushResent);
        match sent {
            Sent::LostUnheard => {}
            Sent::InLimbo => {
                if self.db.admit(&write).is_ok() {
                    let (at, xid) = (self.db.now, self.db.begin());
                    self.db.lock_for(&write, at, xid)?;
                    self.limbo.push(Limbo { write, at, xid });
                    self.saw("flush in limbo");
                }
            }
            Sent::CommittedUnheard => drop(self.db.write(&write, &mut self.truth)?),
            Sent::Answered => return self.hear(index, &write),
        }
        if !resent {
            self.owners.remove(index);
        }
        Ok(())
    }

    fn hear(&mut self, index: usize, write: &Write) -> Checked {
        let written = self.db.write(write, &mut self.truth)?;
        if written.is_ok() {
            self.saw_moves(write);
        }
        let owner = &mut self.owners[index];
        owner.flush = None;
        match written {
            Ok(written) => {
                let answers: ColdAnswers = serde_json::from_value(written.answers)
                    .map_err(|e| Violation(format!("answers: {e}")))?;
                owner.engine.committed(written.at, answers);
            }
            Err(Refusal::Data) => {
                owner.engine.refused("bad data");
                self.saw("flush refused");
            }
            Err(Refusal::Fenced) => {
                self.note(|| "fenced".to_owned());
                self.saw("flush fenced");
                self.owners.remove(index);
                return Ok(());
            }
        }
        self.deliver(index)
    }

    fn saw_moves(&mut self, write: &Write) {
        let mut failures = write.cold["fail"].as_array().into_iter().flatten();
        if failures.any(|item| item["message"].as_str().is_some_and(|why| why.contains("time of"))) {
            self.saw("attempt's time over");
        }
        for item in write.cold["wait"].as_array().into_iter().flatten() {
            if item["kind"] == "parked" {
                self.saw(if item["parked_key"].is_string() { "job parked by its key" } else { "job parked" });
            } else if item.get("due").is_some() {
                self.saw("lease moved");
            }
        }
        for item in write.cold["unpark"].as_array().into_iter().flatten() {
            self.saw(if item["key"].is_string() {
                "parked key called back"
            } else {
                "parked jobs called back"
            });
        }
    }

    /// An old backend's flush commits after all, or not.
    pub(super) fn end_limbo(&mut self, commit: bool) -> Checked {
        if self.limbo.is_empty() {
            return Ok(());
        }
        let Limbo { write, at, xid } = self.limbo.remove(0);
        self.note(|| {
            format!("the flush in limbo (epoch {}, seq {}) commits: {commit}", write.epoch, write.seq)
        });
        if commit {
            self.saw("flush out of limbo");
            self.db.apply(&write, xid, at, &mut self.truth)?;
        }
        self.db.end(xid)
    }

    pub(super) fn renew(&mut self, index: usize) -> Checked {
        let owner = &self.owners[index];
        let mut low_water = owner.engine.low_water();
        if self.broken == Some(Broken::LowWaterOverUncommitted) {
            low_water = self.low_water_over(index);
        }
        let epoch = self.owners[index].epoch;
        let renewed = self.db.renew(epoch, TERM_MS, low_water);
        self.note(|| format!("epoch {epoch} renews, low-water {low_water}: {renewed:?}"));
        if renewed.is_err() {
            self.owners.remove(index);
        }
        self.check_low_water()
    }

    /// The process of an owner ends. A flush under way may have been sent.
    pub(super) fn crash_owner(&mut self, index: usize, sent: Sent) -> Checked {
        let (process, epoch) = (self.owners[index].process, self.owners[index].epoch);
        self.note(|| format!("process {process} crashes, epoch {epoch}"));
        if sent != Sent::Answered && self.owners[index].flush.is_some() {
            self.end_flush(index, sent)?;
        }
        self.owners.retain(|owner| owner.process != process);
        Ok(())
    }

    /// The processes that do not own the queue end, and so does its owner, unless it stays.
    pub(super) fn retire(&mut self, stays: bool) {
        self.note(|| format!("the end; the owner stays: {stays}"));
        self.owners.retain(|owner| stays && owner.epoch == self.db.epoch);
    }

    /// The database crashes and comes back. Every connection is gone.
    pub(super) fn crash_database(&mut self) {
        self.note(|| "the database crashes".to_owned());
        self.limbo.clear();
        self.works.clear();
        self.streams.clear();
        self.promotions.clear();
        self.db.crash();
        self.owners.clear();
    }
}

/// A flush for people.
fn show(write: &Write) -> String {
    let records = write.data.as_ref().map(|data| crate::engine::record::decode(data));
    format!("{records:?} {}", if write.cold.is_null() { String::new() } else { write.cold.to_string() })
}
