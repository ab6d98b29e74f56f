//! An owner of the queue as a dispatcher's process runs it: the engine, how far it has read, the flush under way, and
//! who waits for an answer. It does not know whether it still is the owner.

use std::collections::HashMap;

use rand::Rng;
use rand::rngs::SmallRng;
use tidemill_common::api::Outcome;
use tidemill_common::lease::Lease;
use uuid::Uuid;

use super::database::{Database, Mark, Write};
use super::limits::Survey;
use super::order;
use crate::engine::record::EntryKey;
use crate::engine::{Beat, Engine, Filter, Grab, LogRow, Micros, RequestId};

/// What a worker asked.
#[derive(Debug, Clone)]
pub(in crate::engine::tests) enum Ask {
    Grab(Vec<(Lease, Outcome)>, Asked),
    Results(Vec<(Lease, Outcome)>),
    Heartbeat(Vec<Lease>),
    /// To be replaced by a stream of so many jobs.
    Lend(Lease, usize),
    /// The number of a cancellation.
    Cancel(usize),
}

/// What of a grab matters for its answer.
#[derive(Debug, Clone)]
pub(in crate::engine::tests) struct Asked {
    pub(in crate::engine::tests) types: Option<Vec<String>>,
    pub(in crate::engine::tests) filter: Option<Box<Filter>>,
    /// Whose, and its number.
    pub(in crate::engine::tests) numbered: Option<(Uuid, u64)>,
}

/// Rows of a range up to this tick, and whether they were its last ones.
pub(super) struct Piece {
    to: i64,
    rows: Vec<LogRow>,
    complete: bool,
}

#[derive(Debug)]
pub(in crate::engine::tests) struct Owner {
    pub(in crate::engine::tests) process: usize,
    pub(in crate::engine::tests) epoch: i64,
    pub(in crate::engine::tests) engine: Engine,
    /// Everything up to this tick was read; of the range after it, up to this tick, the entries up to this mark.
    position: i64,
    partial: Option<(i64, Option<Mark>)>,
    pub(in crate::engine::tests) flush: Option<Write>,
    pub(in crate::engine::tests) asked: HashMap<RequestId, Ask>,
    /// When each entry was read, and as which.
    pub(super) read: HashMap<EntryKey, (Micros, u64)>,
    /// The number of the first lease whose place in the order was not looked at yet.
    pub(super) checked: i64,
    /// Milliseconds its clock is behind the database's.
    lag: u64,
    pub(super) survey: Option<Survey>,
}

impl Owner {
    pub(in crate::engine::tests) fn new(
        process: usize,
        epoch: i64,
        engine: Engine,
        low_water: i64,
        lag: u64,
    ) -> Self {
        let (partial, flush, asked) = (None, None, HashMap::new());
        let (read, checked) = (HashMap::new(), 1);
        Self {
            process,
            epoch,
            engine,
            position: low_water,
            partial,
            flush,
            asked,
            read,
            checked,
            lag,
            survey: None,
        }
    }

    /// Looks at its clock, which is never ahead of the database's.
    pub(in crate::engine::tests) fn look_at_clock(&mut self, db: &Database) {
        let behind = i64::try_from(self.lag).unwrap_or(0) * 1_000;
        self.engine.advance(Micros(db.now.0 - behind));
    }

    /// Reads the next piece of the log; `None` if there is nothing to read, or no room.
    pub(super) fn read(&mut self, db: &Database, most: usize, rng: &mut SmallRng) -> Option<Piece> {
        let (rows, bytes) = self.engine.room();
        let limit = rows.min(most);
        if limit == 0 || bytes == 0 {
            return None;
        }
        let last = db.last_tick();
        let (to, after) = match self.partial {
            Some(partial) => partial,
            None if last > self.position => (rng.random_range(self.position + 1..=last), None),
            None => {
                self.engine.recovered();
                return None;
            }
        };
        let (mut rows, mark) = db.read_ahead((self.position, to), after, limit);
        // A piece may be short because of its bytes; that nothing is left is then told by an empty one.
        let complete = mark.is_none() || (rows.len() < limit && rng.random_bool(0.5));
        match complete {
            true => (self.position, self.partial) = (to, None),
            false => self.partial = Some((to, mark)),
        }
        self.look_at_clock(db);
        order::mistake(db.broken, &mut rows);
        Some(Piece { to, rows, complete })
    }

    pub(super) fn load(&mut self, Piece { to, rows, complete }: Piece) {
        for row in &rows {
            let key = EntryKey { job: row.job, put: row.retry.unwrap_or(0) };
            let order = self.read.len() as u64;
            self.read.entry(key).or_insert((self.engine.now, order));
        }
        self.engine.load(to, rows, complete);
    }

    /// Starts a flush, if none is under way.
    pub(in crate::engine::tests) fn start_flush(&mut self) {
        if self.flush.is_none()
            && let Some(flush) = self.engine.take_flush()
        {
            let cold = flush.cold.and_then(|cold| serde_json::from_str(&cold).ok()).unwrap_or_default();
            self.flush = Some(Write { epoch: self.epoch, seq: flush.seq, data: flush.data, cold });
        }
    }

    pub(in crate::engine::tests) fn grab(
        &mut self,
        request: RequestId,
        grab: Grab,
        results: Vec<(Lease, Outcome)>,
    ) {
        let named: Vec<_> = results.iter().map(|(lease, outcome)| (Some(*lease), outcome.clone())).collect();
        let numbered = grab.number.map(|number| (grab.holder.instance, number));
        let asked = Asked { types: grab.types.clone(), filter: grab.filter.clone(), numbered };
        self.asked.insert(request, Ask::Grab(results, asked));
        self.engine.grab(request, grab, &named);
    }

    pub(in crate::engine::tests) fn results(&mut self, request: RequestId, results: Vec<(Lease, Outcome)>) {
        let named: Vec<_> = results.iter().map(|(lease, outcome)| (Some(*lease), outcome.clone())).collect();
        self.asked.insert(request, Ask::Results(results));
        self.engine.results(request, &named);
    }

    pub(in crate::engine::tests) fn lend(&mut self, request: RequestId, lease: Lease, count: usize) {
        self.asked.insert(request, Ask::Lend(lease, count));
        self.engine.lend(request, Some(&lease));
    }

    pub(in crate::engine::tests) fn heartbeat(&mut self, request: RequestId, leases: Vec<Lease>, ms: u64) {
        let beat = |lease: &Lease| Beat { lease: Some(*lease), ms: Some(ms), progress: None };
        let named: Vec<Beat> = leases.iter().map(beat).collect();
        self.asked.insert(request, Ask::Heartbeat(leases));
        self.engine.heartbeat(request, &named);
    }
}
