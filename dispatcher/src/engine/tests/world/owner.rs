//! An owner of the queue as a dispatcher's process runs it: the engine, how far it has read, the flush under way, and
//! who waits for an answer. It does not know whether it still is the owner.

use std::collections::HashMap;

use rand::Rng;
use rand::rngs::SmallRng;
use tidemill_common::api::Outcome;
use tidemill_common::lease::Lease;
use uuid::Uuid;

use super::database::{Database, Mark, Write};
use crate::engine::{Beat, Engine, Filter, Grab, RequestId};

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
    pub(in crate::engine::tests) filter: Option<Box<Filter>>,
    /// Whose, and its number.
    pub(in crate::engine::tests) numbered: Option<(Uuid, u64)>,
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
    /// Milliseconds its clock is behind the database's.
    lag: u64,
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
        Self { process, epoch, engine, position: low_water, partial, flush, asked, lag }
    }

    /// Looks at its clock, which is never ahead of the database's.
    pub(in crate::engine::tests) fn look_at_clock(&mut self, db: &Database) {
        let behind = i64::try_from(self.lag).unwrap_or(0) * 1_000;
        self.engine.advance(crate::engine::Micros(db.now.0 - behind));
    }

    /// Reads the next piece of the log; false if there is nothing to read, or no room.
    pub(in crate::engine::tests) fn read(&mut self, db: &Database, most: usize, rng: &mut SmallRng) -> bool {
        let (rows, bytes) = self.engine.room();
        let limit = rows.min(most);
        if limit == 0 || bytes == 0 {
            return false;
        }
        let last = db.last_tick();
        let (to, after) = match self.partial {
            Some(partial) => partial,
            None if last > self.position => (rng.random_range(self.position + 1..=last), None),
            None => {
                self.engine.recovered();
                return false;
            }
        };
        let (rows, mark) = db.read_ahead((self.position, to), after, limit);
        // A piece may be short because of its bytes; that nothing is left is then told by an empty one.
        let complete = mark.is_none() || (rows.len() < limit && rng.random_bool(0.5));
        match complete {
            true => (self.position, self.partial) = (to, None),
            false => self.partial = Some((to, mark)),
        }
        self.look_at_clock(db);
        self.engine.load(to, rows, complete);
        true
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
        self.asked.insert(request, Ask::Grab(results, Asked { filter: grab.filter.clone(), numbered }));
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
